"""Which studies are of one patient, and the earlier ones of them that are fetched."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "study_patients",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("patient", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_study_patients_study_uid_studies")),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_study_patients")),
    )
    op.create_index("ix_study_patients_patient", "study_patients", ["patient"])
    op.create_table(
        "prior_searches",
        sa.Column("revision_id", _IDENTIFIER, nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_prior_searches_revision_id_revisions")
        ),
        sa.PrimaryKeyConstraint("revision_id", name=op.f("pk_prior_searches")),
    )
    op.create_index("ix_prior_searches_state", "prior_searches", ["state", "next_at"])
    op.create_index("ix_prior_searches_study_uid", "prior_searches", ["study_uid"])
    op.create_table(
        "priors",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("prior_uid", sa.String(64), nullable=False),
        sa.Column("patient", sa.String(64), nullable=False),
        sa.Column("archive", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("asked_at", _TIME, nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("begun_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_priors_study_uid_studies")),
        sa.PrimaryKeyConstraint("study_uid", "prior_uid", name=op.f("pk_priors")),
    )
    op.create_index("ix_priors_prior_uid", "priors", ["prior_uid"])
    op.create_index("ix_priors_state", "priors", ["state", "next_at"])
    op.create_index("ix_priors_patient", "priors", ["patient", "asked_at"])


def downgrade() -> None:
    for table in ("priors", "prior_searches", "study_patients"):
        op.drop_table(table)
