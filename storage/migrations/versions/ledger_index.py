"""The index over the ledger's events leaves out the commonest: a sender waits for every page that is written."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UNCOMMON = sa.text("event <> 'instance-stored'")


def upgrade() -> None:
    op.drop_index("ix_ledger_event", table_name="ledger")
    op.create_index("ix_ledger_event", "ledger", ["event"], sqlite_where=UNCOMMON, postgresql_where=UNCOMMON)


def downgrade() -> None:
    op.drop_index("ix_ledger_event", table_name="ledger")
    op.create_index("ix_ledger_event", "ledger", ["event"])
