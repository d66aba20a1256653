"""`scanwarden status`, `study` and `retry`: how the service is, what became of a study, and another try."""

import json
import os
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gateway.access.roles import Action
from gateway.cli.looks import record_listing, record_look
from gateway.cli.options import (
    VERDICT_STYLES,
    ConfigOption,
    JsonOption,
    answers,
    existing_database,
    fail,
    person,
    progress_console,
    settings_or_exit,
)
from gateway.cli.verify import coverage_facts, coverage_words

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from config import Settings
    from gateway.web.readiness import Check
    from storage.audit.spool import SpoolState
    from storage.overview import Overview, StudyDetail

EXIT_UNHEALTHY = 1
_SILENT_AFTER = 30.0  # seconds; a role's heart beats every 5


def status(
    config: ConfigOption = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only ask what `/readyz` asks and whether every role is heard; ends with 1 when not."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """The service in numbers, its processes, and the newest studies."""
    settings = settings_or_exit(config)
    if check:
        _check(settings)
        return
    from storage import StorageError
    from storage.audit import spool
    from storage.overview import overview, recent_studies

    with existing_database(settings, Action.READ_STATUS) as database:
        with database.reading() as session:
            seen = overview(session)
            spooled = [_spool(each) for each in spool.states(session, [c.name for c in settings.audit.collectors])]
            newest = [
                {
                    "study_uid": revision.study_uid,
                    "revision": revision.number,
                    "state": revision.state.value,
                    "priority": revision.priority.value,
                    "verdict": analysis.verdict if analysis else None,
                    "score": analysis.score if analysis else None,
                    "last_instance_at": revision.last_instance_at.isoformat(timespec="seconds"),
                }
                for revision, analysis in recent_studies(session)
            ]
            covered = _coverage(settings, session)
        try:
            record_listing(database, "status", [str(each["study_uid"]) for each in newest])
        except StorageError as fault:  # on a full disk the numbers are needed most
            progress_console.print(f"[yellow]the newest studies are not shown[/]: {fault}", highlight=False)
            newest = []
    checks = _readiness(settings)
    if as_json:
        told = {each.name: {"ok": each.ok, "text": each.text} for each in checks}
        typer.echo(
            json.dumps(
                _numbers(seen) | {"checks": told, "verification": covered, "collectors": spooled, "newest": newest},
                indent=2,
            )
        )
        return
    _print_overview(seen)
    _print_checks(checks)
    for each in spooled:
        answers.print(f"collector {_spool_words(each)}", highlight=False, soft_wrap=True)
    if covered is not None:
        answers.print(f"verification: {coverage_words(covered)}", highlight=False, soft_wrap=True)
    table = Table("study", "revision", "state", "verdict", "probability", "last instance (UTC)", title="Newest studies")
    for row in newest:
        verdict = row["verdict"] or ""
        table.add_row(
            str(row["study_uid"]),
            f"{row['revision']}{' STAT' if row['priority'] == 'stat' else ''}",
            str(row["state"]),
            f"[{VERDICT_STYLES.get(str(verdict), 'none')}]{verdict}[/]",
            "" if row["score"] is None else f"{row['score']:.2f}",
            str(row["last_instance_at"])[:19].replace("T", " "),
        )
    answers.print(table)


def study(
    study_uid: Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything about one study: revisions, verdicts, evidence objects, deliveries. The look itself is recorded."""
    from storage.errors import NotFound
    from storage.overview import study_detail

    with existing_database(settings_or_exit(config), Action.READ_STUDY, study_uid=study_uid) as database:
        with closing(database.for_readers()) as readers, readers.reading() as session:
            try:
                facts = _facts(study_detail(session, study_uid)) | {"priors": _priors(session, study_uid)}
            except NotFound as fault:
                record_look(database, study_uid, found=False)
                fail(str(fault))
        record_look(database, study_uid)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    answers.print(f"study {study_uid}: {_counts(facts['instances'])}", highlight=False)
    for each in facts["priors"]:
        answers.print(f"  prior study {each['study_uid']}: {_prior_words(each)}", highlight=False, soft_wrap=True)
    for revision in facts["revisions"]:
        _print_revision(revision)
    answers.print(f"Its audit trail: scanwarden audit list --study {study_uid}", highlight=False, soft_wrap=True)


def retry(
    study_uid: Annotated[
        str | None, typer.Argument(metavar="[UID]", help="Only this study; without it: everything that failed.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Try failed revisions and dead deliveries again; a running service takes them up at once."""
    from gateway.pipeline.retry import retry_failed

    settings = settings_or_exit(config)
    with existing_database(settings, Action.RETRY, study_uid=study_uid):
        pass  # a gateway that never ran has nothing to retry, and gets no database from this
    revisions, deliveries = retry_failed(settings, actor=person(), study_uid=study_uid)
    answers.print(f"{revisions} revisions and {deliveries} deliveries are tried again", highlight=False)


def _coverage(settings: "Settings", session: "Session") -> dict[str, Any] | None:
    """What share of the archive was verified; None where none is configured."""
    from storage.verifications import coverage

    archive = settings.verification.archive
    if archive is None:
        return None
    return coverage_facts(settings, archive, coverage(session, archive, settings.verification.window))


def _spool(state: "SpoolState") -> dict[str, Any]:
    return {
        "collector": state.collector,
        "confirmed": state.confirmed,
        "waiting": state.waiting,
        "oldest_waiting": state.oldest_waiting,
        "confirmed_at": state.confirmed_at.isoformat(timespec="seconds") if state.confirmed_at else None,
        "failing_since": state.failing_since.isoformat(timespec="seconds") if state.failing_since else None,
        "failure": state.failure,
    }


def _spool_words(facts: dict[str, Any]) -> str:
    """How far one collector is, the trouble first."""
    how = f"{facts['confirmed']} audit messages confirmed, {facts['waiting']} wait"
    if facts["failing_since"] is None:
        return f"{facts['collector']}: {how}"
    return f"{facts['collector']}: [bold red]takes none[/] since {facts['failing_since']}: {facts['failure']}; {how}"


def _check(settings: "Settings") -> None:
    """For a health check: not C-ECHO, which an allow-list may rightly refuse to this machine."""
    from storage.processes import processes

    with existing_database(settings, None) as database, database.reading() as session:
        silent = [each.role for each in processes(session) if _age(each.beat_at) > _SILENT_AFTER]
    checks = _readiness(settings)
    if silent:
        answers.print(f"[bold red]silent[/]: {', '.join(sorted(silent))}; see the service's log", highlight=False)
    if silent or not all(each.ok for each in checks):
        _print_checks(checks)
        raise typer.Exit(EXIT_UNHEALTHY)
    answers.print(
        f"[green]ok[/]: the DICOM port {settings.dicom.port} is served and every role is heard", highlight=False
    )


def _readiness(settings: "Settings") -> "list[Check]":
    """What `/readyz` looks at, as whoever types this may see it."""
    from gateway.web.readiness import Readiness, impatient
    from storage import open_database, open_store

    with open_database(impatient(settings)) as database:
        # A look of somebody who may only read says nothing of what the service may write.
        unwritable = database.is_sqlite and not os.access(database.url.database or "", os.W_OK)
        with closing(
            Readiness(settings, database, open_store(settings), without={"ledger"} if unwritable else ())
        ) as readiness:
            return readiness.look()


def _print_checks(checks: "list[Check]") -> None:
    failed = [each for each in checks if not each.ok]
    if not failed:
        answers.print("[green]ready[/]: database, ledger, disk, DICOM port and analysis", highlight=False)
    for each in failed:
        answers.print(f"[bold red]not ready[/] {each.name}: {each.text}", highlight=False, soft_wrap=True)


def _numbers(seen: "Overview") -> dict[str, Any]:
    return {
        "studies": seen.studies,
        "instances": {state.value: count for state, count in seen.instances.items()},
        "bytes": seen.bytes,
        "revisions": {state.value: count for state, count in seen.revisions.items()},
        "oldest_waiting": seen.oldest_waiting.isoformat() if seen.oldest_waiting else None,
        "deliveries": {state.value: count for state, count in seen.deliveries.items()},
        "verdicts": seen.verdicts,
        "processes": [
            {"role": p.role, "host": p.host, "pid": p.pid, "seconds_since_beat": round(_age(p.beat_at), 1)}
            for p in seen.processes
        ],
        "ledger_records": seen.ledger_records,
    }


def _print_overview(seen: "Overview") -> None:
    facts = _numbers(seen)
    table = Table(show_header=False, box=None)
    table.add_row("studies", str(seen.studies))
    table.add_row("instances", f"{_counts(facts['instances'])}, {seen.bytes / 1e6:.1f} MB")
    table.add_row("revisions", _counts(facts["revisions"]))
    if seen.oldest_waiting is not None:
        table.add_row("oldest waiting", f"{_age(seen.oldest_waiting):.0f} s")
    table.add_row("verdicts", _counts(facts["verdicts"]))
    table.add_row("deliveries", _counts(facts["deliveries"]))
    table.add_row("ledger", f"{seen.ledger_records} records (scanwarden audit verify)")
    for process in facts["processes"]:
        since = process["seconds_since_beat"]
        words = f"pid {process['pid']} on {process['host']}, heard {since:.0f} s ago"
        table.add_row(process["role"], words if since < _SILENT_AFTER else f"[bold red]silent[/]: {words}")
    answers.print(table)


def _facts(detail: "StudyDetail") -> dict[str, Any]:
    return {
        "study_uid": detail.study.study_uid,
        "instances": {state.value: count for state, count in detail.instances.items()},
        "revisions": [
            {
                "number": each.revision.number,
                "state": each.revision.state.value,
                "priority": each.revision.priority.value,
                "close_reason": each.revision.close_reason.value if each.revision.close_reason else None,
                "failure": each.revision.failure,
                "instances": each.instances,
                "analyses": [
                    {
                        "verdict": analysis.verdict,
                        "score": analysis.score,
                        "reasons": analysis.reasons,
                        "findings": analysis.findings,
                        "seconds": analysis.seconds,
                        "model_set": analysis.model_set,
                    }
                    for analysis in each.analyses
                ],
                "evidence": [
                    {"kind": e.kind, "profile": e.profile, "sop_instance_uid": e.sop_instance_uid, "bytes": e.size}
                    for e in each.evidence
                ],
                "deliveries": [
                    {
                        "destination": d.destination,
                        "state": d.state.value,
                        "attempts": d.attempts,
                        "failure": d.failure,
                        "delivered_at": d.delivered_at.isoformat(timespec="seconds") if d.delivered_at else None,
                    }
                    for d in each.deliveries
                ],
            }
            for each in detail.revisions
        ],
    }


def _priors(session: "Session", study_uid: str) -> list[dict[str, Any]]:
    """Studies of the same patient that are here, and those that were asked for."""
    from storage.priors import known_priors, priors_of

    rows: dict[str, dict[str, Any]] = {
        each.study_uid: {"study_uid": each.study_uid, "state": "HERE", "verdict": each.verdict, "failure": None}
        for each in known_priors(session, study_uid)
    }
    for asked in priors_of(session, study_uid):
        row = rows.setdefault(asked.prior_uid, {"study_uid": asked.prior_uid, "verdict": None})
        row |= {"state": asked.state.value, "failure": asked.failure}
    return list(rows.values())


def _prior_words(facts: dict[str, Any]) -> str:
    verdict = facts["verdict"]
    known = f"[{VERDICT_STYLES.get(verdict, 'none')}]{verdict}[/]" if verdict else "no verdict yet"
    waiting = {"WAITING": "to be fetched", "REFUSED": "not taken", "DEAD": "not fetched"}
    words = waiting.get(facts["state"], known)
    return f"{words}: {facts['failure']}" if facts["failure"] else words


def _print_revision(revision: dict[str, Any]) -> None:
    answers.print(
        f"\nrevision {revision['number']}: {revision['state']}, {revision['instances']} instances"
        + (f", closed for {revision['close_reason']}" if revision["close_reason"] else ""),
        highlight=False,
    )
    if revision["failure"]:
        answers.print(f"  [bold red]failed[/]: {revision['failure']}", highlight=False)
    for analysis in revision["analyses"]:
        verdict = analysis["verdict"] or "running"
        style = VERDICT_STYLES.get(verdict, "none")
        score = "" if analysis["score"] is None else f"  probability of manipulation {analysis['score']:.2f}"
        answers.print(f"  [{style}]{verdict}[/]{score}", highlight=False)
        for reason in analysis["reasons"]:
            answers.print(f"    • {reason}", highlight=False)
    for evidence in revision["evidence"]:
        answers.print(f"  {evidence['kind']} {evidence['sop_instance_uid']} ({evidence['profile']})", highlight=False)
    for delivery in revision["deliveries"]:
        why = f": {delivery['failure']}" if delivery["failure"] else ""
        answers.print(
            f"  to {delivery['destination']}: {delivery['state']} after {delivery['attempts']} attempts{why}",
            highlight=False,
            soft_wrap=True,
        )


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(numbers.items())) or "none"


def _age(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()
