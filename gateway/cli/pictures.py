"""What `scanwarden analyse` says of pictures and NIfTI volumes: a block each, or a line each where they are many."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress
from rich.table import Table

from gateway.cli.options import VERDICT_STYLES, answers, fail, progress_columns, progress_console

if TYPE_CHECKING:
    from config import Settings
    from inference.pictures import Subject
    from inference.pictures.judging import Judges, PlainAnalysis
    from models.images.organs import Organ

MANY = 12  # from here on a line each instead of a block


def judges_for(settings: "Settings", shows: "Organ | None") -> "Judges":
    """The models of the settings, ready; ends the command where they are unknown or not those of their cards."""
    from inference.detectors import detectors_for
    from inference.errors import InferenceError
    from inference.pictures.judging import Judges
    from inference.whole_images import image_model_for
    from models.errors import ModelsError

    chosen = settings.analysis
    try:
        return Judges(
            detectors_for(chosen.models, device=chosen.device, threads=chosen.threads),
            image_model_for(chosen.image_model, device=chosen.device, threads=chosen.threads),
            shows,
        )
    except (InferenceError, ModelsError) as fault:
        fail(str(fault))


def judged(subjects: "Sequence[Subject]", judges: "Judges", settings: "Settings") -> "Iterator[PlainAnalysis]":
    """Each subject's analysis, one after the other: a folder of thousands never lies in memory whole.

    Files are decoded in a process of their own, so that a hostile one costs itself and nothing else.
    """
    import time

    from gateway.decoding import DecodingProcess
    from inference.limits import Limits
    from inference.limits import Progress as Step
    from inference.pictures.judging import judge

    chosen = settings.analysis
    decoding = DecodingProcess(memory_limit=chosen.decoder_memory, timeout=chosen.decoder_timeout)
    bar = Progress(
        *progress_columns(), console=progress_console, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    is_one = len(subjects) == 1
    task = bar.add_task("reading", total=None if is_one else len(subjects))

    def show(step: Step) -> None:
        if is_one:
            bar.update(task, description=step.stage, completed=step.done, total=step.total)

    with decoding:
        for number, subject in enumerate(subjects):
            if not is_one:
                bar.update(task, description=subject.file[-40:], completed=number)
            limits = Limits(chosen.batch, chosen.max_voxels, time.monotonic() + chosen.time_limit, show)
            bar.start()
            try:
                with decoding.study():
                    plain = judge(subject, judges, limits, decoding.pixels)
            finally:
                bar.stop()  # the caller prints now
            yield plain


def print_block(plain: "PlainAnalysis") -> None:
    """The answer first, then what it shows, the reasons and the regions."""
    analysis = plain.analysis
    facts = [f"probability of manipulation {analysis.score:.2f}"] if plain.is_judged else ["not judged for edits"]
    if plain.finding_class is not None:
        facts.insert(0, plain.finding_class.replace("_", " "))
    style = VERDICT_STYLES[analysis.verdict.value]
    answers.print(
        f"[{style}]{analysis.verdict.value}[/]  {_safe(plain.file)}  {', '.join(facts)}, {analysis.seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    for line in (*(f"• {reason}" for reason in analysis.reasons), *_whole(plain)):
        answers.print(f"  {_safe(line)}", highlight=False, soft_wrap=True)
    if analysis.findings:
        answers.print(_regions(plain))


def print_line(plain: "PlainAnalysis") -> None:
    """The same in one line: verdict, score, name, the reason that decides."""
    analysis = plain.analysis
    style = VERDICT_STYLES[analysis.verdict.value]
    score = f"{analysis.score:.2f}" if plain.is_judged else " -  "
    reason = analysis.reasons[0] if analysis.reasons else ""
    answers.print(
        f"[{style}]{analysis.verdict.value:<8}[/] {score}  {_safe(plain.file)}  {_safe(reason)}",
        highlight=False,
        soft_wrap=True,
    )


def print_summary(verdicts: Sequence[str]) -> None:
    """How many of each verdict."""
    counts = Counter(verdicts)
    told = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICT_STYLES if counts[verdict])
    answers.print(f"{len(verdicts):,} images and volumes: {told}", highlight=False, soft_wrap=True)


def folder_of(plain: "PlainAnalysis", number: int, output: Path, *, is_only: bool) -> Path:
    """Where its files go: `output` itself for the only one."""
    if is_only:
        return output
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in plain.file)
    return output / f"{number:03d}-{safe[-80:]}"


def _whole(plain: "PlainAnalysis") -> Iterator[str]:
    for series in plain.analysis.synthesis:
        known = "" if series.probability is None else f"; generated as a whole: probability {series.probability:.2f}"
        shows = f"{series.organ} ({series.organ_probability:.2f})" if series.probability is not None else series.organ
        yield f"shows: {shows}{known}"
    if plain.saliency is not None:
        yield f"that score rests on {plain.saliency.words}"


def _regions(plain: "PlainAnalysis") -> Table:
    is_volume = len(plain.analysis.series[0].slice_scores) > 1
    table = Table("class", "score", *(("slices", "clearest") if is_volume else ()), "rows", "columns")
    for finding in plain.analysis.findings:
        row0, column0, row1, column1 = finding.box
        through = (f"{finding.slices[0] + 1}-{finding.slices[1] + 1}", str(finding.key_slice + 1))
        table.add_row(
            finding.finding_class.value,
            f"{finding.score:.2f}",
            *(through if is_volume else ()),
            f"{row0}-{row1}",
            f"{column0}-{column1}",
        )
    return table


def _safe(text: str) -> str:
    """A file's name is somebody else's text: no markup, no control characters on a terminal."""
    from rich.markup import escape

    return escape("".join(letter if letter.isprintable() else "?" for letter in text))
