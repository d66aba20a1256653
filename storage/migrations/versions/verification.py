"""First-seen digests of attributes, and what the re-verification of the archive found."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)
Text64 = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "first_seen",
        sa.Column("sop_instance_uid", Text64, nullable=False),
        sa.Column("sop_class_uid", Text64, nullable=False),
        sa.Column("study_uid", Text64, nullable=False),
        sa.Column("series_uid", Text64, nullable=False),
        sa.Column("transfer_syntax", Text64, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("file_sha256", Text64, nullable=False),
        sa.Column("pixel_sha256", Text64, nullable=True),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("recorded_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_first_seen_study_uid_studies")),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_first_seen")),
    )
    op.create_index("ix_first_seen_study_uid", "first_seen", ["study_uid", "revision"], unique=False)
    op.create_index("ix_first_seen_file_sha256", "first_seen", ["file_sha256"], unique=False)
    op.create_table(
        "roots",
        sa.Column("study_uid", Text64, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("series_uid", Text64, nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("root", Text64, nullable=False),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_roots_study_uid_studies")),
        sa.PrimaryKeyConstraint("study_uid", "revision", "series_uid", name=op.f("pk_roots")),
    )
    op.create_table(
        "verifications",
        sa.Column("id", Identifier, nullable=False),
        sa.Column("study_uid", Text64, nullable=False),
        sa.Column("archive", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_verifications_study_uid_studies")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verifications")),
    )
    op.create_index(
        "ix_verifications_study_uid", "verifications", ["study_uid", "archive", "finished_at"], unique=False
    )
    op.create_index("ix_verifications_state", "verifications", ["state"], unique=False)
    for statement in _triggers(op.get_bind().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("first-seen digests are not dropped: they cannot be taken again; restore a backup instead")


def _triggers(dialect: str) -> list[str]:
    """What was first seen stays: neither the digests nor their roots are changed or removed."""
    statements = []
    if dialect != "sqlite":
        statements.append(
            """
            CREATE FUNCTION first_seen_refuses_change() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              RAISE EXCEPTION 'first-seen digests stay: % refused', TG_OP
                USING ERRCODE = 'integrity_constraint_violation';
            END $$
            """
        )
    for table in ("first_seen", "roots"):
        for change in ("UPDATE", "DELETE"):
            head = f"CREATE TRIGGER {table}_refuses_{change.lower()} BEFORE {change} ON {table}"
            if dialect == "sqlite":
                fault = f"first-seen digests stay: {change} refused"
                statements.append(f"{head} BEGIN SELECT RAISE(ABORT, '{fault}'); END")
            else:
                statements.append(f"{head} FOR EACH ROW EXECUTE FUNCTION first_seen_refuses_change()")
        if dialect != "sqlite":
            statements.append(
                f"CREATE TRIGGER {table}_refuses_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION first_seen_refuses_change()"
            )
    return statements
