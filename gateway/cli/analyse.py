"""`scanwarden analyse PATH`: the same analysis as in the service, with no network and no database.

DICOM is analysed as in the service; pictures and NIfTI volumes are judged by themselves (`inference.pictures`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from gateway.cli.options import (
    VERDICT_STYLES,
    ConfigOption,
    JsonOption,
    answers,
    fail,
    progress_columns,
    progress_console,
    settings_or_exit,
)
from gateway.cli.whole import WholeImages

if TYPE_CHECKING:
    from config import Settings
    from gateway.results.profiles import Profile
    from inference.findings import StudyAnalysis
    from inference.pictures import Sorted


class Shown(StrEnum):
    """What the caller may say that plain pictures show; the names are those of `models.images.organs.Organ`."""

    BRAIN_MR = "brain-mr"
    CHEST_XRAY = "chest-xray"
    KIDNEY_CT = "kidney-ct"
    LUNG_CT = "lung-ct"
    KNEE_XRAY = "knee-xray"


def analyse(
    path: Annotated[
        Path,
        typer.Argument(
            help="A DICOM, PNG, JPEG, WebP, BMP, TIFF or NIfTI file, or a folder of them (searched to its depth)."
        ),
    ],
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
    volume: Annotated[
        bool,
        typer.Option("--volume", help="The pictures of a folder are the slices of one volume, by their names."),
    ] = False,
    shows: Annotated[
        Shown | None,
        typer.Option("--shows", help="What plain pictures show, where no model recognises it. Your word, not ours."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each study, picture or NIfTI volume whether it looks manipulated, where, and why.

    Ends with 0 when each has a verdict, whatever it is, and with 2 when there was nothing to analyse.
    """
    if profile is not None and output is None:
        fail(f"--profile {profile} says which objects to write; say with --output where to")
    settings = settings_or_exit(config)
    if not path.exists():
        fail(f"{path} does not exist; name a DICOM file or a folder")
    dialect = _dialect(profile, settings)
    found = _sorted(path)
    report = _Report(output, as_json)
    if found.dicom or not found.plain:
        _analyse_dicom(path, found, settings, report, dialect)
    elif found.strangers:
        names = ", ".join(file.name for file in found.strangers[:5])
        more = f" and {len(found.strangers) - 5:,} more" if len(found.strangers) > 5 else ""
        progress_console.print(f"no image, ignored: {names}{more}", highlight=False, markup=False, soft_wrap=True)
    if found.plain:
        _analyse_plain(path, found, settings, report, volumes=volume, shows=shows)
    if as_json:
        typer.echo(json.dumps(report.records, indent=2))


@dataclass
class _Report:
    """Where answers go; `records` grows as they come, `expected` is how many there will be."""

    output: Path | None
    as_json: bool
    records: list[dict[str, Any]] = field(default_factory=list)
    expected: int = 0

    def tell(self, written: list[str], folder: Path) -> None:
        if not self.as_json:
            answers.print(f"  {len(written)} files in {folder}: {', '.join(sorted(written))}", highlight=False)


def _sorted(path: Path) -> "Sorted":
    """The files by what they are; ends the command where there are none."""
    from inference.analysis import files_of
    from inference.pictures import sort_files

    files = files_of(path)
    if not files:
        fail(f"{path} holds no file; name a DICOM file, a picture, a NIfTI volume, or a folder of them")
    return sort_files(files)


def _analyse_dicom(path: Path, found: "Sorted", settings: "Settings", report: _Report, dialect: "Profile") -> None:
    analyses = _analysed(path if not found.plain else sorted([*found.dicom, *found.strangers]), settings)
    report.expected = len(analyses) + len(found.plain)
    for number, analysis in enumerate(analyses):
        whole = WholeImages(analysis, _files_of_study(path, analysis.study_uid), settings)
        if not report.as_json:
            print_analysis(analysis)
            whole.print()
        report.records.append({**analysis.to_json(), "rests_on": whole.to_json()})
        if report.output is not None:
            only = report.expected == 1
            folder = report.output if only else report.output / f"{number + 1:03d}-{analysis.study_uid}"
            written = _write(analysis, path, folder, dialect)
            report.tell([*written, *(file.name for file in whole.write(folder))], folder)


def _analyse_plain(
    path: Path, found: "Sorted", settings: "Settings", report: _Report, *, volumes: bool, shows: Shown | None
) -> None:
    from gateway.cli import pictures
    from inference.pictures import subjects_of
    from inference.pictures.written import write
    from models.images.organs import Organ

    subjects = subjects_of(found.plain, path, volumes=volumes)
    before = len(report.records)
    judges = pictures.judges_for(settings, None if shows is None else Organ[shows.name])
    show = pictures.print_line if len(subjects) > pictures.MANY else pictures.print_block
    for number, plain in enumerate(pictures.judged(subjects, judges, settings), start=before + 1):
        if not report.as_json:
            show(plain)
        report.records.append(plain.to_json())
        if report.output is not None:
            is_only = before + len(subjects) == 1
            folder = pictures.folder_of(plain, number, report.output, is_only=is_only)
            written = [file.name for file in write(plain, folder)]
            if len(subjects) <= pictures.MANY:
                report.tell(written, folder)
    if not report.as_json and len(subjects) > 1:
        pictures.print_summary([record["verdict"] for record in report.records[before:]])


def print_analysis(analysis: "StudyAnalysis") -> None:
    """The answer first, then the reasons, then the regions."""
    style = VERDICT_STYLES[analysis.verdict.value]
    is_judged = analysis.series or any(series.verdict.value in ("SUSPECT", "REVIEW") for series in analysis.synthesis)
    score = f"probability of manipulation {analysis.score:.2f}" if is_judged else "nothing could be analysed"
    answers.print(
        f"[{style}]{analysis.verdict.value}[/]  study {analysis.study_uid}  {score}, {analysis.seconds:.1f} s",
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


def _analysed(path: Path | list[Path], settings: "Settings") -> "list[StudyAnalysis]":
    from inference.analysis import Progress as Step
    from inference.analysis import analyse_folder
    from inference.errors import InferenceError
    from inference.provenance import Trust, load_authorities
    from models.errors import ModelsError

    chosen, authorities = settings.analysis, settings.signatures.authorities
    with Progress(*progress_columns(), console=progress_console, transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(step: Step) -> None:
            bar.update(task, description=step.stage, completed=step.done, total=step.total)

        try:
            return analyse_folder(
                path,
                models=chosen.models,
                image_model=chosen.image_model,
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
