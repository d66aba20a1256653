"""`scanwarden analyse PATH`: the same analysis as in the service, with no network and no database."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.cli.options import ConfigOption, JsonOption, answers, fail, progress_console, settings_or_exit

if TYPE_CHECKING:
    from config import Settings
    from gateway.results.profiles import Profile
    from inference.findings import StudyAnalysis

VERDICT_STYLES = {"VERIFIED": "green", "CLEAR": "green", "REVIEW": "yellow", "SUSPECT": "bold red", "ABSTAIN": "cyan"}


def analyse(
    path: Annotated[Path, typer.Argument(help="A DICOM file, or a folder of them (searched to its depth).")],
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for SEG, SR, SC, overlays and masks (several studies: one folder each)."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Write the objects that a destination with this profile gets, instead."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each study whether its images look manipulated, where, and why.

    Ends with 0 when every study has a verdict, whatever it is, and with 2 when there was nothing to analyse.
    """
    settings = settings_or_exit(config)
    if not path.exists():
        fail(f"{path} does not exist; name a DICOM file or a folder")
    dialect = _dialect(profile, settings)
    analyses = _analysed(path, settings)
    if not analyses:
        fail(f"{path} holds no file that could be analysed")
    for number, analysis in enumerate(analyses):
        if not as_json:
            print_analysis(analysis)
        if output is not None:
            folder = output if len(analyses) == 1 else output / f"{number + 1:03d}-{analysis.study_uid}"
            written = _write(analysis, path, folder, dialect)
            if not as_json:
                answers.print(f"  {len(written)} files in {folder}: {', '.join(sorted(written))}", highlight=False)
    if as_json:
        typer.echo(json.dumps([analysis.to_json() for analysis in analyses], indent=2))


def print_analysis(analysis: "StudyAnalysis") -> None:
    """The answer first, then the reasons, then the regions."""
    style = VERDICT_STYLES[analysis.verdict.value]
    answers.print(
        f"[{style}]{analysis.verdict.value}[/]  study {analysis.study_uid}  "
        f"probability of manipulation {analysis.score:.2f}, {analysis.seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    for reason in analysis.reasons:
        answers.print(f"  • {reason}", highlight=False, soft_wrap=True)
    if analysis.findings:
        table = Table("class", "score", "slices", "clearest", "rows", "columns", "mm³")
        for finding in analysis.findings:
            row0, column0, row1, column1 = finding.box
            table.add_row(
                finding.finding_class.value,
                f"{finding.score:.2f}",
                f"{finding.slices[0] + 1}-{finding.slices[1] + 1}",  # people count from 1, as the reasons do
                str(finding.key_slice + 1),
                f"{row0}-{row1}",
                f"{column0}-{column1}",
                f"{finding.volume_mm3:.0f}",
            )
        answers.print(table)


def _analysed(path: Path, settings: "Settings") -> "list[StudyAnalysis]":
    from inference.analysis import Progress as Step
    from inference.analysis import analyse_folder
    from inference.errors import InferenceError
    from inference.provenance import Trust, load_authorities
    from models.errors import ModelsError

    chosen, authorities = settings.analysis, settings.signatures.authorities
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=progress_console, transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(step: Step) -> None:
            bar.update(task, description=step.stage, completed=step.done, total=step.total)

        try:
            return analyse_folder(
                path,
                models=chosen.models,
                device=chosen.device,
                batch=chosen.batch,
                threads=chosen.threads,
                max_voxels=chosen.max_voxels,
                time_limit=chosen.time_limit,
                trust=Trust(load_authorities(authorities) if authorities is not None else ()),
                progress=show,
            )
        except (InferenceError, ModelsError) as fault:
            fail(str(fault))


def _dialect(name: str | None, settings: "Settings") -> "Profile":
    """The profile with this name; without one, what shows most in most places."""
    from gateway.results import profile_named
    from gateway.results.evidence import EvidenceKind, UnknownProfile

    if name is None:
        return replace(profile_named("orthanc"), objects=(EvidenceKind.SEG, EvidenceKind.SC, EvidenceKind.SR))
    try:
        return profile_named(name, settings.profiles)
    except UnknownProfile as fault:
        fail(str(fault))


def _write(analysis: "StudyAnalysis", path: Path, folder: Path, dialect: "Profile") -> list[str]:
    """Evidence objects, overlays and masks of one analysis; returns their names in `folder`."""
    from gateway.results import RevisionContext, build_evidence, model_set_digest
    from inference.archive import MASKS_FILE, save_masks
    from inference.overlays import write_overlays

    folder.mkdir(parents=True, exist_ok=True)
    written = write_overlays(analysis, folder)
    save_masks(analysis, folder / MASKS_FILE)
    written.append(folder / MASKS_FILE)
    if analysis.study_uid:
        context = RevisionContext(
            study_uid=analysis.study_uid,
            revision=1,
            model_set_digest=model_set_digest(analysis.models),
            files=tuple(_files_of_study(path, analysis.study_uid)),
            analysed_at=datetime.now(UTC).astimezone(),
        )
        written += [made.path for made in build_evidence(analysis, context, dialect, folder)]
    return [file.name for file in written]


def _files_of_study(path: Path, study_uid: str) -> Iterator[Path]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from inference.analysis import files_of

    for file in files_of(path):
        try:
            header = dcmread(file, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
        except (InvalidDicomError, OSError):
            continue  # the analysis has said so
        if header.get("StudyInstanceUID") == study_uid:
            yield file
