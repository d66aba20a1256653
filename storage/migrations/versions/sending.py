"""When a delivery is due, what became of it in detail, the circuits of destinations, and notices of verdicts."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    with op.batch_alter_table("deliveries") as table:
        table.add_column(sa.Column("refusals", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("next_at", _TIME, nullable=True))
        table.add_column(sa.Column("warning", sa.String(16), nullable=True))
        table.add_column(sa.Column("transaction_uid", sa.String(64), nullable=True))
        table.add_column(sa.Column("asks", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("asked_at", _TIME, nullable=True))
    # What waits is due: the queue that it waits in is no longer looked into.
    op.execute("UPDATE deliveries SET next_at = CURRENT_TIMESTAMP WHERE state = 'WAITING'")
    # As small as what waits, however much was delivered: the sweep looks into it each second.
    op.create_index(
        "ix_deliveries_next_at",
        "deliveries",
        ["destination", "next_at"],
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "circuits",
        sa.Column("destination", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("probe_revision", _IDENTIFIER, nullable=True),
        sa.Column("probe_at", _TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_circuits")),
    )
    op.create_table(
        "notices",
        sa.Column("id", _IDENTIFIER, nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("record_sha256", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("planned_at", _TIME, nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index("uq_notices_channel_seq", "notices", ["channel", "seq"], unique=True)
    op.create_index("ix_notices_state", "notices", ["state", "channel", "next_at"])


def downgrade() -> None:
    op.drop_table("notices")
    op.drop_table("circuits")
    op.drop_index("ix_deliveries_next_at", "deliveries")
    with op.batch_alter_table("deliveries") as table:
        for column in ("asked_at", "asks", "transaction_uid", "warning", "next_at", "refusals"):
            table.drop_column(column)
