"""`scanwarden demo`: a whole gateway for a first look, from a study that is sent to what comes back."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.progress import Progress

from config import Settings, load_settings
from config.settings import Destination
from gateway.access.roles import Action
from gateway.cli.analyse import print_analysis
from gateway.cli.options import answers, fail, progress_console

if TYPE_CHECKING:
    from gateway.demo.archive import Archive
    from storage import Database
    from storage.overview import RevisionDetail

PHANTOM_SEED = 11
# An edit that the shipped model finds; which ones it misses stands in its card.
FAMILY, EDIT_SEED = "telea", 3
_START_SECONDS = 120
_RESULT_SECONDS = 600


@dataclass(frozen=True)
class _Study:
    title: str
    folder: Path
    study_uid: str
    instances: int


def demo(
    study: Annotated[
        Path | None,
        typer.Option("--study", help="A folder with a real study: it and a tampered copy are sent as well."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for everything that the demonstration writes.")
    ] = Path("demo-output"),
) -> None:
    """Start a gateway, send it a study and a tampered copy, and show what comes back from the archive."""
    from gateway.demo.archive import open_archive

    if study is not None and not study.is_dir():
        fail(f"{study} is not a folder; name one with the DICOM files of a study")
    run = output / time.strftime("%Y%m%d-%H%M%S")
    run.mkdir(parents=True)
    with progress_console.status("making studies"):
        studies = _make_studies(study, run / "sent")
    with open_archive(run / "archive") as archive:
        answers.print(f"archive: {archive.name}, AE {archive.ae_title}, port {archive.port}", highlight=False)
        config = _write_config(run, archive)
        settings = load_settings(config)
        with _gateway(settings, config, run / "gateway.log"):
            for each in studies:
                _send(each, settings)
            details = _wait(studies, settings)
        for each, detail in zip(studies, details, strict=True):
            _show(each, detail, archive, run)
    _show_ledger(settings)
    answers.print(
        f"\nEverything is in {run}. Look again: scanwarden status -c {config}", highlight=False, soft_wrap=True
    )


def _make_studies(real: Path | None, folder: Path) -> list[_Study]:
    """A generated study and its tampered twin, and the same of a real study when one is given."""
    import numpy as np

    from models.errors import ModelsError
    from models.tampering.phantom import make_phantom_study
    from models.tampering.study import tamper_study

    made = []
    originals = [("generated", folder / "generated")]
    make_phantom_study(folder / "generated", np.random.default_rng(PHANTOM_SEED), lesion=True)
    if real is not None:
        originals.append(("yours", real))
    for title, original in originals:
        made.append(_described(f"{title}, as it is", original))
        copy = folder / f"{title}-tampered"
        try:
            tamper_study(original, copy, FAMILY, np.random.default_rng(EDIT_SEED), new_uids=True)
        except ModelsError as fault:
            answers.print(f"no tampered copy of {original}: {fault}", highlight=False, soft_wrap=True)
        else:
            made.append(_described(f"{title}, tampered ({FAMILY})", copy))
    return made


def _described(title: str, folder: Path) -> _Study:
    from pydicom import dcmread

    files = sorted(file for file in folder.rglob("*.dcm"))
    if not files:
        fail(f"{folder} holds no *.dcm file")
    return _Study(title, folder, str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), len(files))


def _write_config(run: Path, archive: "Archive") -> Path:
    """The whole configuration: two ports, a folder, a destination; all else is the defaults, but for some patience."""
    from gateway.demo.archive import free_port

    content = {
        "dicom": {"host": "127.0.0.1", "port": free_port()},
        "web": {"port": free_port()},
        "store": {"root": str(run / "var")},
        "revisions": {"quiet_period": 3},
        # The generated head is drawn by a formula: a model of whole images would rightly call it no organ.
        "analysis": {"image_model": "none"},
        "destinations": [{"name": "archive", "ae_title": archive.ae_title, "host": "127.0.0.1", "port": archive.port}],
    }
    config = run / "scanwarden.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return config


@contextmanager
def _gateway(settings: Settings, config: Path, log_file: Path) -> Iterator[None]:
    """`scanwarden serve` as a process of its own, from its first answered C-ECHO to its drain."""
    from gateway.dicom.scu import SendError, echo

    ours = _ourselves(settings)
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config)],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        with progress_console.status("starting the gateway"):
            while True:
                try:
                    echo(ours, "DEMO")
                    break
                except SendError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        fail(f"the gateway did not start; see {log_file}")
                    time.sleep(0.2)
        answers.print(
            f"gateway: AE {ours.ae_title}, port {ours.port}, log in {log_file}", highlight=False, soft_wrap=True
        )
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


def _ourselves(settings: Settings) -> Destination:
    return Destination(
        name="ourselves", ae_title=settings.dicom.ae_title, host=settings.dicom.host, port=settings.dicom.port
    )


def _send(study: _Study, settings: Settings) -> None:
    from gateway.dicom.scu import send

    files = sorted(study.folder.rglob("*.dcm"))
    stored = 0
    with Progress(console=progress_console, transient=True) as bar:
        task = bar.add_task(f"sending {study.title}", total=len(files))
        for outcome in send(files, _ourselves(settings), "DEMO"):
            stored += outcome.stored
            bar.advance(task)
    answers.print(f"sent: {study.title}: {stored} of {len(files)} instances stored durably", highlight=False)


def _wait(studies: list[_Study], settings: Settings) -> "list[RevisionDetail]":
    """Wait until every study's revision is done, showing how far each is."""
    from gateway.cli.options import existing_database
    from storage.tables import RevisionState

    deadline = time.monotonic() + _RESULT_SECONDS
    with (
        existing_database(settings, Action.READ_STATUS) as database,
        Progress(console=progress_console, transient=True) as bar,
    ):
        tasks = [bar.add_task(study.title, total=len(_STAGES) - 1) for study in studies]
        while True:
            details = [_latest(database, study) for study in studies]
            for task, study, detail in zip(tasks, studies, details, strict=True):
                state = detail.revision.state
                stage = _STAGES.index(state) if state in _STAGES else 0
                bar.update(task, completed=stage, description=f"{study.title}: {state.value.lower()}")
            if all(detail.revision.state in (RevisionState.DONE, RevisionState.FAILED) for detail in details):
                return details
            if time.monotonic() > deadline:
                fail(f"no result after {_RESULT_SECONDS} s; see the gateway's log")
            time.sleep(0.5)


_STAGES = ["OPEN", "CLOSED", "ANALYSED", "ENCODED", "DONE"]


def _latest(database: "Database", study: _Study) -> "RevisionDetail":
    from storage.overview import study_detail

    with database.reading() as session:
        return study_detail(session, study.study_uid).revisions[-1]


def _show(study: _Study, detail: "RevisionDetail", archive: "Archive", run: Path) -> None:
    """The verdict with its reasons, the pictures, and what the archive holds of ours now."""
    from inference.findings import StudyAnalysis
    from inference.overlays import write_overlays

    answers.rule(f"{study.title}")
    if detail.revision.failure or not detail.analyses or detail.analyses[-1].path is None:
        answers.print(f"[bold red]no verdict[/]: {detail.revision.failure}", highlight=False)
        return
    analysis = StudyAnalysis.load(run / "var" / detail.analyses[-1].path)
    print_analysis(analysis)
    folder = run / "came-back" / study.folder.name
    pictures = write_overlays(analysis, folder)
    for kind, file in (*_ours(archive.fetch(study.study_uid, folder)), *(("overlay", picture) for picture in pictures)):
        answers.print(f"  came back: {kind:8} {file}", highlight=False, soft_wrap=True)


def _ours(files: list[Path]) -> Iterator[tuple[str, Path]]:
    from pydicom import dcmread

    for file in files:
        header = dcmread(file, stop_before_pixels=True, specific_tags=["Modality"])
        yield str(header.Modality), file


def _show_ledger(settings: Settings) -> None:
    from gateway.cli.options import existing_database
    from storage import Ledger

    with existing_database(settings, Action.VERIFY_LEDGER) as database:
        ledger = Ledger(database)
        found = ledger.verify()
        counts = Counter(record.event for record in ledger.records())
    answers.rule("audit trail")
    state = "[green]intact[/]" if found.intact else f"[bold red]broken[/]: {found.broken}"
    answers.print(f"{state}: {found.records} records, head {found.head.hash}", highlight=False, soft_wrap=True)
    answers.print(", ".join(f"{n} {event}" for event, n in sorted(counts.items())), highlight=False, soft_wrap=True)
