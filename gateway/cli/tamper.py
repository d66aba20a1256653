"""`scanwarden tamper`: a tampered copy of a study, for trials and for exercises of a security team."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gateway.cli.options import JsonOption, answers, fail

if TYPE_CHECKING:
    import numpy as np

    from models.tampering.compose import Place
    from models.tampering.families import EditType
    from models.tampering.study import TamperedStudy


def tamper(
    input_folder: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Folder with the DICOM files of one study, or one file.")
    ],
    output_folder: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Folder for the tampered copy; new, or empty.")
    ],
    family: Annotated[
        str | None,
        typer.Option("--family", help="Edit family; `help` lists them. Without it --add or --remove chooses one."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="A lesion is to be added.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="A lesion is to be removed.")] = False,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="ROW,COLUMN,SLICE",
            help="Centre of the edit, counted from 0; slices in order of position. Without it: drawn in tissue.",
        ),
    ] = None,
    size: Annotated[float | None, typer.Option("--size", metavar="MM", min=1.0, help="Diameter of the edit.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same edit.")] = 1,
    new_uids: Annotated[
        bool, typer.Option("--new-uids", help="Give the copy its own UIDs, so that it can stand beside the original.")
    ] = False,
    mark: Annotated[
        bool,
        typer.Option("--mark", help="Say in every file and in a text beside them that this is an exercise."),
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth", metavar="FILE", help="Write what was edited, and how: JSON, with masks (.npz) beside it."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a copy of a study with one region edited and every header kept, for trials and exercises."""
    import numpy as np

    from models.errors import ModelsError
    from models.tampering.study import tamper_study
    from models.tampering.truth import described, write_truth

    if family == "help":
        answers.print(families_table())
        return
    _refuse_bad_paths(input_folder, output_folder, truth)
    rng = np.random.default_rng(seed)
    try:
        edit_type = _edit_type(add=add, remove=remove)
        made = tamper_study(
            input_folder,
            output_folder,
            family or _any_family(edit_type, rng),
            rng,
            new_uids=new_uids,
            edit_type=edit_type,
            place=_place(at, size),
            mark=mark,
        )
    except ModelsError as fault:
        fail(str(fault))
    if truth is not None:
        write_truth(truth, made, seed)
    if as_json:
        typer.echo(json.dumps(described(made, seed), indent=2))
    else:
        _print(made, output_folder, truth)


def families_table() -> Table:
    """Every family: what it claims, how it works, whether it is trained on, and whether it can run here."""
    from models.tampering.families import FAMILIES

    table = Table("family", "edit", "how", "trained on", "here")
    for each in FAMILIES.values():
        here = "yes" if each.ready else f"no: scanwarden inpainters train {each.inpainter}"
        table.add_row(each.name, each.edit_type.value, each.about, "yes" if each.trained else "no, for tests", here)
    return table


def _print(made: "TamperedStudy", output: Path, truth: Path | None) -> None:
    slices = [frame.index for frame in made.frames]
    lines = [
        f"{made.edit_type.value} by {made.family}: slices {min(slices)} to {max(slices)} of series {made.series_uid}",
        f"study {made.study_uid} in {output}",
        *(f"note: {note}" for note in made.notes),
    ]
    if truth is not None:
        lines.append(f"truth in {truth} and {truth.with_suffix('.npz').name}")
    answers.print("\n".join(lines), highlight=False, soft_wrap=True)


def _refuse_bad_paths(source: Path, output: Path, truth: Path | None) -> None:
    if not source.exists():
        fail(f"{source} does not exist; name a folder with the DICOM files of a study")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        fail(f"{output} is not empty; name a new folder, so that no genuine file is overwritten")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        fail(f"{output} lies in {source}; name a folder outside it, so that the study stays what it is")
    if truth is not None and (truth.exists() or truth.suffix == ".npz"):
        fail(f"{truth} exists or is no name for a JSON file; name a new one, such as truth.json")


def _edit_type(*, add: bool, remove: bool) -> "EditType | None":
    from models.tampering.families import EditType

    if add and remove:
        fail("--add and --remove exclude each other; choose one, and run the command twice for both")
    return EditType.ADDED if add else EditType.REMOVED if remove else None


def _any_family(edit_type: "EditType | None", rng: "np.random.Generator") -> str:
    """One of the families that make this edit and can run here; the seed chooses."""
    from models.tampering.families import FAMILIES, ready

    if edit_type is None:
        fail("name an edit family (--family help lists them), or say --add or --remove")
    able = ready(name for name, each in FAMILIES.items() if each.edit_type is edit_type and each.region is None)
    return able[int(rng.integers(len(able)))]


def _place(at: str | None, size: float | None) -> "Place | None":
    from models.tampering.compose import Place

    if at is None:
        return Place(size_mm=size) if size is not None else None
    try:
        row, column, index = (float(value) for value in at.split(","))
    except ValueError:
        fail(f"--at {at}: give three numbers, ROW,COLUMN,SLICE, counted from 0, such as 120,96,14")
    return Place((index, row, column), size)
