"""The first tables, and the triggers that let the ledger only grow at its head."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)
Choice = sa.String(16)
Text64 = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", Text64, nullable=False),
        sa.Column("holder", Text64, nullable=False),
        sa.Column("acquired_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "ledger",
        sa.Column("seq", Identifier, autoincrement=False, nullable=False),
        sa.Column("time", sa.String(length=32), nullable=False),
        sa.Column("event", sa.String(length=48), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("study_uid", Text64, nullable=True),
        sa.Column("subject", sa.String(length=128), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous_hash", Text64, nullable=False),
        sa.Column("hash", Text64, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ledger")),
    )
    op.create_index("ix_ledger_event", "ledger", ["event"], unique=False)
    op.create_index("ix_ledger_study_uid", "ledger", ["study_uid"], unique=False)
    op.create_index("uq_ledger_previous_hash", "ledger", ["previous_hash"], unique=True)

    op.create_table(
        "processes",
        sa.Column("executor_id", Text64, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("beat_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name=op.f("pk_processes")),
    )
    op.create_table(
        "studies",
        sa.Column("study_uid", Text64, nullable=False),
        sa.Column("accession_digest", Text64, nullable=True),
        sa.Column("first_instance_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_studies")),
    )
    op.create_table(
        "revisions",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("study_uid", Text64, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("predecessor_id", Identifier, nullable=True),
        sa.Column("state", Choice, nullable=False),
        sa.Column("priority", Choice, nullable=False),
        sa.Column("expected_instances", sa.Integer(), nullable=True),
        sa.Column("close_reason", Choice, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("opened_at", Moment, nullable=False),
        sa.Column("last_instance_at", Moment, nullable=False),
        sa.Column("closed_at", Moment, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(
            ["predecessor_id"], ["revisions.id"], name=op.f("fk_revisions_predecessor_id_revisions")
        ),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_revisions_study_uid_studies")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
    )
    op.create_index("ix_revisions_state", "revisions", ["state", "closed_at"], unique=False)
    op.create_index(
        "uq_revisions_open",
        "revisions",
        ["study_uid"],
        unique=True,
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_index("uq_revisions_study_uid_number", "revisions", ["study_uid", "number"], unique=True)

    op.create_table(
        "analyses",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("revision_id", Identifier, nullable=False),
        sa.Column("model_set", Text64, nullable=False),
        sa.Column("state", Choice, nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("findings", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=True),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_analyses_revision_id_revisions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analyses")),
    )
    op.create_index("uq_analyses_revision_id_model_set", "analyses", ["revision_id", "model_set"], unique=True)

    op.create_table(
        "instances",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("sop_instance_uid", Text64, nullable=False),
        sa.Column("sop_class_uid", Text64, nullable=False),
        sa.Column("study_uid", Text64, nullable=False),
        sa.Column("series_uid", Text64, nullable=False),
        sa.Column("transfer_syntax", Text64, nullable=False),
        sa.Column("kind", Choice, nullable=False),
        sa.Column("state", Choice, nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("file_sha256", Text64, nullable=False),
        sa.Column("pixel_sha256", Text64, nullable=True),
        sa.Column("source_ae", sa.String(length=16), nullable=False),
        sa.Column("source_address", Text64, nullable=False),
        sa.Column("received_at", Moment, nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("revision_id", Identifier, nullable=True),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_instances_revision_id_revisions")),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_instances_study_uid_studies")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
    )
    op.create_index("ix_instances_revision_id", "instances", ["revision_id"], unique=False)
    op.create_index("ix_instances_study_uid", "instances", ["study_uid", "revision_id"], unique=False)
    op.create_index("uq_instances_copy", "instances", ["sop_instance_uid", "file_sha256"], unique=True)
    op.create_index("uq_instances_path", "instances", ["path"], unique=True)
    op.create_index(
        "uq_instances_stored",
        "instances",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("state = 'stored'"),
        postgresql_where=sa.text("state = 'stored'"),
    )

    op.create_table(
        "evidence",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("analysis_id", Identifier, nullable=False),
        sa.Column("profile", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("sop_instance_uid", Text64, nullable=False),
        sa.Column("sop_class_uid", Text64, nullable=False),
        sa.Column("series_uid", Text64, nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("file_sha256", Text64, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expired_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["analysis_id"], ["analyses.id"], name=op.f("fk_evidence_analysis_id_analyses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
    )
    op.create_index("ix_evidence_analysis_id", "evidence", ["analysis_id"], unique=False)
    op.create_index("uq_evidence_sop_instance_uid", "evidence", ["sop_instance_uid"], unique=True)

    op.create_table(
        "deliveries",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("evidence_id", Identifier, nullable=False),
        sa.Column("destination", sa.String(length=32), nullable=False),
        sa.Column("state", Choice, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("planned_at", Moment, nullable=False),
        sa.Column("attempted_at", Moment, nullable=True),
        sa.Column("delivered_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["evidence_id"], ["evidence.id"], name=op.f("fk_deliveries_evidence_id_evidence")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_state", "deliveries", ["state", "destination"], unique=False)
    op.create_index("uq_deliveries_evidence_id_destination", "deliveries", ["evidence_id", "destination"], unique=True)

    triggers = _SQLITE_TRIGGERS if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL_TRIGGERS
    for statement in triggers:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError(
        "there is nothing before the first schema, and a ledger is not dropped; restore a backup instead"
    )


_SQLITE_TRIGGERS = (
    """
    CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: UPDATE refused'); END
    """,
    """
    CREATE TRIGGER ledger_refuses_delete BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: DELETE refused'); END
    """,
    # Also what stops INSERT OR REPLACE, which deletes without asking the trigger above.
    """
    CREATE TRIGGER ledger_grows_at_its_head BEFORE INSERT ON ledger
    WHEN NEW.seq != 1 + coalesce((SELECT max(seq) FROM ledger), 0)
      OR NEW.previous_hash != coalesce(
        (SELECT hash FROM ledger ORDER BY seq DESC LIMIT 1), hex(zeroblob(32)))
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: the record does not follow its head'); END
    """,
)

_POSTGRESQL_TRIGGERS = (
    """
    CREATE FUNCTION ledger_refuses_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'the ledger is append-only: % refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
    """
    CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger
    FOR EACH ROW EXECUTE FUNCTION ledger_refuses_change()
    """,
    """
    CREATE TRIGGER ledger_refuses_delete BEFORE DELETE ON ledger
    FOR EACH ROW EXECUTE FUNCTION ledger_refuses_change()
    """,
    """
    CREATE TRIGGER ledger_refuses_truncate BEFORE TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuses_change()
    """,
    """
    CREATE FUNCTION ledger_grows_at_its_head() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE head record;
    BEGIN
      SELECT seq, hash INTO head FROM ledger ORDER BY seq DESC LIMIT 1;
      IF NEW.seq != 1 + coalesce(head.seq, 0) OR NEW.previous_hash != coalesce(head.hash, repeat('0', 64)) THEN
        RAISE EXCEPTION 'the ledger is append-only: the record does not follow its head'
          USING ERRCODE = 'integrity_constraint_violation';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER ledger_grows_at_its_head BEFORE INSERT ON ledger
    FOR EACH ROW EXECUTE FUNCTION ledger_grows_at_its_head()
    """,
)
