"""Storage commitment both ways, the queue of instances that are passed on, and whose pixels an instance shows."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "commitment_requests",
        sa.Column("id", _IDENTIFIER, nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("references", sa.JSON(), nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("asked_at", _TIME, nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("reported_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_requests")),
    )
    op.create_index("ix_commitment_requests_state", "commitment_requests", ["state", "next_at"])
    op.create_index("ix_commitment_requests_transaction_uid", "commitment_requests", ["transaction_uid", "ae_title"])
    op.create_table(
        "commitments",
        sa.Column("id", _IDENTIFIER, nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("destination", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("references", sa.JSON(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        sa.Column("reporter", sa.String(128), nullable=True),
        sa.Column("asked_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitments")),
    )
    op.create_index("uq_commitments_transaction_uid", "commitments", ["transaction_uid"], unique=True)
    op.create_index("ix_commitments_state", "commitments", ["state", "destination"])
    op.create_table(
        "forward_cursors",
        sa.Column("destination", sa.String(32), nullable=False),
        sa.Column("instance_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_forward_cursors")),
    )
    op.create_table(
        "forwards",
        sa.Column("id", _IDENTIFIER, nullable=False),
        sa.Column("destination", sa.String(32), nullable=False),
        sa.Column("instance_id", _IDENTIFIER, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("queued_at", _TIME, nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instances.id"], name=op.f("fk_forwards_instance_id_instances")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forwards")),
    )
    op.create_index("uq_forwards_destination_instance_id", "forwards", ["destination", "instance_id"], unique=True)
    op.create_index("ix_forwards_state", "forwards", ["state", "destination", "instance_id"])
    op.create_index("ix_forwards_instance_id", "forwards", ["instance_id"])
    op.create_index("ix_instances_pixel_sha256", "instances", ["pixel_sha256"])


def downgrade() -> None:
    op.drop_index("ix_instances_pixel_sha256", "instances")
    for table in ("forwards", "forward_cursors", "commitments", "commitment_requests"):
        op.drop_table(table)
