"""Who may do what: a right that is missing stops the command and stands in the ledger; a look changes nothing."""

import ast
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text
from typer.testing import CliRunner, Result

from config import load_settings
from gateway.access import PERMISSIONS, AccessRefused, AccessRole, Account, Action, Gate, account_of_this_process
from gateway.app import prepare
from gateway.cli import app, options
from storage import AuditEvent, AuditEventType, Database, DatabaseUnavailable, Ledger, open_database
from tests.peers_postgres import PostgresqlServer, postgresql_programs, postgresql_server

REPOSITORY = Path(__file__).resolve().parents[2]
EXIT_FORBIDDEN = 3
PEOPLE = [
    {"user": "vera", "role": "viewer"},
    {"group": "radiology", "role": "radiologist"},
    {"user": "sam", "role": "security"},
    {"user": "ada", "role": "administrator"},
]
VERA, ROB = Account("vera", frozenset({"staff"})), Account("rob", frozenset({"staff", "radiology"}))
SAM, ADA, EVE = Account("sam"), Account("ada"), Account("eve", frozenset({"staff"}))
Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A gateway that ran once, with people of every role."""
    file = tmp_path / "scanwarden.yaml"
    file.write_text(yaml.safe_dump({"store": {"root": str(tmp_path / "var")}, "access": {"people": PEOPLE}}))
    settings = load_settings(file)
    prepare(settings)
    with closing(open_database(settings)) as database:
        Ledger(database).record(AuditEvent(AuditEventType.APPLICATION_STARTED, actor="scanwarden:test"))
    return file


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command as somebody."""

    def invoke(who: Account, *arguments: str) -> Result:
        monkeypatch.setattr(options, "account_of_this_process", lambda: who)
        return CliRunner().invoke(app, [*arguments, "-c", str(config)], catch_exceptions=False)

    return invoke


def recorded(config: Path, event: AuditEventType) -> list[tuple[str, dict[str, object]]]:
    with closing(open_database(load_settings(config))) as database:
        return [(record.actor, json.loads(record.details)) for record in Ledger(database).list(event=event.value)]


COMMANDS = {
    Action.READ_STATUS: ("status",),
    Action.READ_STUDY: ("study", "1.2.3"),
    Action.READ_LEDGER: ("audit", "list"),
    Action.VERIFY_LEDGER: ("audit", "verify"),
    Action.RETRY: ("retry",),
}


@pytest.mark.parametrize("who", [VERA, ROB, SAM, ADA, EVE], ids=lambda who: who.name)
@pytest.mark.parametrize("action", COMMANDS)
def test_each_role_may_do_what_its_line_says(who: Account, action: Action, run: Run, config: Path) -> None:
    roles = Gate(load_settings(config)).roles_of(who)
    allowed = any(action in PERMISSIONS[role] for role in roles)
    result = run(who, *COMMANDS[action])
    assert (result.exit_code != EXIT_FORBIDDEN) is allowed, result.output
    refusals = recorded(config, AuditEventType.ACCESS_REFUSED)
    expected = {"action": action.value, "roles": sorted(role.value for role in roles)}
    assert refusals == ([] if allowed else [(f"user:{who.name}", expected)])


def test_attack_somebody_without_the_right_reads_the_ledger(run: Run, config: Path) -> None:
    for who in (VERA, ROB, EVE):
        result = run(who, "audit", "list", "--json")
        assert result.exit_code == EXIT_FORBIDDEN
        assert "application-started" not in result.output
    assert [actor for actor, _ in recorded(config, AuditEventType.ACCESS_REFUSED)] == [
        "user:vera",
        "user:rob",
        "user:eve",
    ]
    untouched = run(SAM, "audit", "list", "--json")
    assert untouched.exit_code == 0
    assert "application-started" in untouched.output
    assert recorded(config, AuditEventType.AUDIT_LOG_USED)[-1][0] == "user:sam", (
        "the look that was allowed stands there too"
    )


def test_attack_somebody_without_the_right_retries(run: Run, config: Path) -> None:
    """Also who may see everything: security looks after the proof and touches nothing."""
    for who in (VERA, ROB, SAM, EVE):
        assert run(who, "retry", "1.2.3").exit_code == EXIT_FORBIDDEN
    assert len(recorded(config, AuditEventType.ACCESS_REFUSED)) == 4
    assert run(ADA, "retry").exit_code == 0
    assert len(recorded(config, AuditEventType.ACCESS_REFUSED)) == 4


def test_attack_name_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOGNAME is whatever its owner likes; the kernel's word counts."""
    true = account_of_this_process()
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER", "SUDO_UID"):
        monkeypatch.setenv(variable, "ada")
    assert account_of_this_process() == true
    assert true.name != "ada"


def test_a_look_for_a_study_that_is_not_there_is_recorded_too(run: Run, config: Path) -> None:
    assert run(ROB, "study", "1.2.3").exit_code == 2
    assert recorded(config, AuditEventType.STUDY_ACCESSED) == [("user:rob", {})]


def test_without_people_whoever_holds_the_files_is_administrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scanwarden.yaml"
    file.write_text(yaml.safe_dump({"store": {"root": str(tmp_path)}}))
    gate = Gate(load_settings(file))
    assert gate.roles_of(EVE) == {AccessRole.ADMINISTRATOR}
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    assert gate.roles_of(EVE) == frozenset()
    with pytest.raises(AccessRefused, match="eve"):
        gate.admit(EVE, Action.READ_STATUS)


def test_security_sees_everything_and_changes_nothing() -> None:
    assert {action for action in Action if action.changes_something}.isdisjoint(PERMISSIONS[AccessRole.SECURITY])
    assert PERMISSIONS[AccessRole.ADMINISTRATOR] == frozenset(Action)
    for action in Action:
        assert any(action in PERMISSIONS[role] for role in AccessRole)


def test_every_command_that_opens_the_database_says_what_for() -> None:
    """The default is the administrators' alone, so a command that forgets to say is closed and not open."""
    calls = [
        (source, node)
        for source in sorted((REPOSITORY / "gateway" / "cli").glob("*.py"))
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "existing_database"
    ]
    assert len(calls) > 5
    silent = [f"{source.name}:{node.lineno}" for source, node in calls if len(node.args) < 2]
    assert not silent


WRITES = (
    "UPDATE ledger SET actor = 'nobody'",
    "DELETE FROM ledger",
    "INSERT INTO leases (name, holder, acquired_at, expires_at) VALUES ('a', 'b', '2020-01-01', '2020-01-01')",
    "DROP TABLE ledger",
    "DROP INDEX ix_ledger_event",
    "CREATE TABLE x (y INTEGER)",
)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlServer]:
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgresql_server(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
    else:
        url = f"sqlite:///{tmp_path}/with a space/data?base.sqlite".replace("?", "%3F")
    with Database(url, busy_timeout=20) as made:
        made.migrate()
        Ledger(made).record(AuditEvent(AuditEventType.APPLICATION_STARTED, actor="scanwarden:test"))
        yield made


@pytest.mark.parametrize("statement", WRITES)
def test_attack_write_through_a_reader(statement: str, database: Database) -> None:
    """What only reads cannot write, neither by `reading()` nor through a database that was opened for readers."""
    with closing(database.for_readers()) as readers:
        for each in (database, readers):
            with pytest.raises(Exception, match=r"readonly|read-only|reading only"), each.reading() as session:
                session.execute(text(statement))
        with pytest.raises(DatabaseUnavailable, match="reading only"), readers.transaction():
            pass
        assert [record.actor for record in Ledger(readers).list()] == ["scanwarden:test"]
    assert Ledger(database).verify().intact


def test_attack_reader_that_lifts_its_own_ban_on_sqlite(tmp_path: Path) -> None:
    """`PRAGMA query_only` is a promise of the program; a database for readers holds by the file's own mode."""
    with Database(f"sqlite:///{tmp_path}/database.sqlite") as database:
        database.migrate()
        with closing(database.for_readers()) as readers, readers.reading() as session:
            session.execute(text("PRAGMA query_only=OFF"))
            with pytest.raises(Exception, match="readonly"):
                session.execute(text("DROP TRIGGER ledger_refuses_update"))


@pytest.mark.peers
def test_attack_postgresql_account_that_may_only_read_and_append(postgresql: PostgresqlServer) -> None:
    """The grants of docs/signatures-and-access.md: it looks, its look is recorded, and it changes nothing else."""
    url = postgresql.new_database()
    with Database(url) as owner:
        owner.migrate()
        with owner.transaction() as session:
            session.execute(text("DROP ROLE IF EXISTS security_reader"))
            session.execute(text("CREATE ROLE security_reader LOGIN"))
            session.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO security_reader"))
            session.execute(text("GRANT INSERT ON ledger, ledger_nodes TO security_reader"))
        with Database(Database(url).url.set(username="security_reader")) as reader:
            Ledger(reader).record(AuditEvent(AuditEventType.AUDIT_LOG_USED, actor="user:sam"))
            assert len(Ledger(reader).list()) == 1
            for statement in WRITES[:5]:
                with pytest.raises(Exception, match=r"permission|owner"), reader.transaction() as session:
                    session.execute(text(statement))
        assert Ledger(owner).verify().intact
