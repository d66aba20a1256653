"""The rooms of the house: imports only point down, and a process loads only what its role needs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "config": set(),
    "storage": {"config"},
    "models": {"config"},
    "inference": {"models", "config"},
    "gateway": {"inference", "models", "storage", "config"},
}


def _imported_rooms(source: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        yield from ((node.lineno, name.split(".")[0]) for name in names if name.split(".")[0] in MAY_IMPORT)  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_only_point_down(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    upward = [
        f"{source.relative_to(REPOSITORY)}:{line} imports {target}"
        for source in sorted((REPOSITORY / room).rglob("*.py"))
        for line, target in _imported_rooms(source)
        if target not in allowed
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize(
    "module", ["gateway.dicom.receiver", "gateway.dicom.scp", "gateway.dicom.scu", "gateway.web.stow", "storage"]
)
def test_receiving_and_storing_load_no_network_and_no_decoder(module: str) -> None:
    """A decoder or a network that crashes must not be able to take a receiver down: it is not even loaded there."""
    # Not gdcm: pydicom imports every decoder that is installed, whoever asks; none is called where none decodes.
    heavy = "torch", "cv2", "highdicom", "matplotlib", "inference", "models"
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_inference_knows_no_database_and_no_network() -> None:
    code = (
        "import sys, inference.analysis; print([m for m in ('sqlalchemy', 'pynetdicom', 'dbos') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["gateway.dicom.receiver", "gateway.processes", "gateway.cli"])
def test_only_the_web_role_loads_a_web_framework(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('fastapi', 'starlette', 'uvicorn') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
