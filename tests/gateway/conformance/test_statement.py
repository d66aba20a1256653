"""The conformance statement is what the code says, and the code does nothing that is not in it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from gateway.cli import app
from gateway.conformance import objects, statement
from gateway.dicom.refusals import RefusedInstance
from gateway.results import EvidenceKind, Predecessor, build_evidence
from gateway.results.profiles import PROFILES, Profile
from tests.gateway.results.phantoms import GEOMETRIES, analysis_of, write_phantom

REPOSITORY = Path(__file__).resolve().parents[3]
COMMITTED = (REPOSITORY / "docs" / "conformance.md").read_text(encoding="utf-8")
# Where the numbers of statuses stand that a peer may get from us.
SENDING = (
    "gateway/dicom/refusals.py",
    "gateway/dicom/commitment.py",
    "gateway/dicom/retrieve.py",
    "gateway/dicom/move.py",
    "gateway/web/stow_parts.py",
    "storage/errors.py",
    "storage/commitment_requests.py",
)
FOUR_DIGITS = re.compile(r"\b0x[0-9A-F]{4}\b")
NEVER_SENT = {"_PENDING"}  # what others send


def test_the_committed_statement_is_what_the_code_says() -> None:
    assert statement() == COMMITTED, "run: scanwarden config conformance --output docs/conformance.md"


def test_the_command_writes_it(tmp_path: Path) -> None:
    written = tmp_path / "conformance.md"
    assert CliRunner().invoke(app, ["config", "conformance", "-o", str(written)]).exit_code == 0
    assert written.read_text(encoding="utf-8") == COMMITTED


def test_its_sections_are_those_of_annex_n() -> None:
    heads = [line[3:] for line in COMMITTED.splitlines() if line.startswith("## ")]
    assert heads == [
        "1 Overview",
        "2 Table of contents",
        "3 Introduction",
        "4 Implementation model",
        "5 Service and interoperability description",
        "6 Configuration",
        "7 Network and media communication details",
        "8 Security",
        "Annex A.A Information object definitions",
        "Annex A.B Structured report content",
        "Annex A.C Security details",
        "Annex A.D Mapping of attributes",
        "Annex A.E Code set usage",
    ]


def statuses_in(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of what is assigned with four hexadecimal digits in a source."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and FOUR_DIGITS.search(ast.get_source_segment(text, node.value) or ""):
            names = [each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            numbers = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
            yield from (
                (", ".join(names), number)
                for number in numbers
                if type(number) is int and (number == 0 or number > 0xFF)
            )


@pytest.mark.parametrize("source", SENDING)
def test_every_status_that_a_module_can_send_stands_in_its_tables(source: str) -> None:
    said = COMMITTED.partition("### 7.3 Status codes")[2].partition("## 8 Security")[0]
    rows = {line.split("|")[1].strip() for line in said.splitlines() if line.startswith("| 0x")}
    sent = {(name, number) for name, number in statuses_in(REPOSITORY / source) if name not in NEVER_SENT}
    assert sent
    assert {(name, hex(number)) for name, number in sent if f"0x{number:04X}" not in rows} == set()


def test_every_reason_of_a_refusal_stands_in_its_tables() -> None:
    kinds = [RefusedInstance]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert [kind.reason for kind in kinds[1:] if f"| {kind.reason} |" not in COMMITTED] == []


@pytest.mark.parametrize("source", ["gateway/web/stow.py", "gateway/web/access.py"])
def test_every_http_status_of_stow_stands_in_its_table(source: str) -> None:
    said = COMMITTED.partition("#### 7.3.3")[2].partition("**User agent, store:**")[0]
    rows = {
        int(code)
        for line in said.splitlines()
        if line.startswith("| ")
        for code in re.findall(r"\b[2-5]\d\d\b", line.split("|")[1])
    }
    tree = ast.parse((REPOSITORY / source).read_text(encoding="utf-8"))
    numbers = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is int}
    assert {number for number in numbers if 200 <= number < 600} <= rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[EvidenceKind, list[Dataset]]:
    """Every kind of object, of plain and of enhanced images, with and without a report before it."""
    everything = Profile("everything", tuple(EvidenceKind), summary=True)
    before = Predecessor("2.25.5", "2.25.6", 1)
    found: dict[EvidenceKind, list[Dataset]] = {kind: [] for kind in EvidenceKind}
    for geometry in (each for each in GEOMETRIES if each.name in ("axial", "enhanced", "ct")):
        folder = tmp_path_factory.mktemp(geometry.name)
        phantom = write_phantom(folder / "in", geometry)
        context = phantom.context()
        if geometry.is_enhanced:
            others = {EvidenceKind.TEXT: before, EvidenceKind.PLANAR: before}
            context = replace(context, revision=2, predecessor=before, predecessors=others)
        for file in build_evidence(analysis_of(phantom), context, everything, folder / "out"):
            found[file.kind].append(dcmread(file.path))
    return found


@pytest.mark.parametrize("kind", EvidenceKind)
def test_an_object_has_the_attributes_that_the_statement_gives_it_and_no_other(
    kind: EvidenceKind, made: dict[EvidenceKind, list[Dataset]]
) -> None:
    promised = {each.keyword: each.presence for each in objects.attributes(kind)}
    assert made[kind]
    for dataset in made[kind]:
        assert {element.keyword or str(element.tag) for element in dataset} - set(promised) == set()
        for keyword, presence in promised.items():
            empty = keyword not in dataset or dataset[keyword].is_empty or not str(dataset[keyword].value)
            assert (keyword in dataset) or presence == "ANAP", keyword
            assert not (empty and presence == "ALWAYS"), keyword
            assert empty or presence != "EMPTY", keyword


@pytest.mark.parametrize("kind", EvidenceKind)
def test_an_object_is_of_the_class_and_modality_that_the_statement_gives_it(
    kind: EvidenceKind, made: dict[EvidenceKind, list[Dataset]]
) -> None:
    found = {(str(dataset.SOPClassUID), str(dataset.Modality)) for dataset in made[kind]}
    assert found == {(objects.SOP_CLASSES[kind], objects.MODALITIES[kind])}
    assert f"`{objects.SOP_CLASSES[kind]}`" in COMMITTED.partition("## 2 Table of contents")[0]


def test_no_object_has_a_private_attribute(made: dict[EvidenceKind, list[Dataset]]) -> None:
    private = [
        element.tag
        for each in made.values()
        for dataset in each
        for element in dataset.iterall()
        if element.tag.is_private
    ]
    assert private == []


def test_every_code_of_ours_in_an_object_stands_in_the_statement(made: dict[EvidenceKind, list[Dataset]]) -> None:
    used = {
        item.CodeValue
        for each in made.values()
        for dataset in each
        for element in dataset.iterall()
        if element.VR == "SQ"
        for item in element.value
        if item.get("CodingSchemeDesignator") == "99SCANWARDEN" and "CodeValue" in item
    }
    assert used
    assert {code for code in used if f"`{code}`" not in COMMITTED} == set()


def test_every_profile_and_its_objects_stand_in_the_statement() -> None:
    for profile in PROFILES.values():
        listed = ", ".join(f"`{kind}`" for kind in EvidenceKind if kind in profile.objects)
        assert f"| `{profile.name}` | {listed} |" in COMMITTED
