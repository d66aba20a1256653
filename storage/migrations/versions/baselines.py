"""What each scanner always writes, and which studies taught it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "baselines",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("baseline", sa.JSON(), nullable=False),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_baselines")),
    )
    op.create_table(
        "lessons",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["baselines.device"], name=op.f("fk_lessons_device_baselines")),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_lessons_study_uid_studies")),
        sa.PrimaryKeyConstraint("device", "study_uid", name=op.f("pk_lessons")),
    )


def downgrade() -> None:
    op.drop_table("lessons")
    op.drop_table("baselines")
