"""What every test may ask for: real images and real peers, each with a plain reason when it is absent."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent

# How fast a loaded machine draws examples says nothing about us.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long trials first: what a worker begins with no other takes from it, so that each is set up once."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def scanwarden_data() -> Path:
    """The folder of real images (`SCANWARDEN_DATA`, default `../shared/data` beside the repository)."""
    folder = Path(os.environ.get("SCANWARDEN_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"real images are absent: {folder} (set SCANWARDEN_DATA)")
    return folder


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Finds a peer's program by its absolute path; skips with the package to install when it is missing."""

    def find(path: str, package: str = "") -> str:
        found = shutil.which(path)
        if found is None:
            pytest.skip(f"{path} is not installed (apt-get install {package or Path(path).name})")
        return found

    return find


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with every table and no row, to be copied: migrations are not what most tests are about."""
    from storage import Database

    path = tmp_path_factory.mktemp("template") / "scanwarden.sqlite"
    with Database(f"sqlite:///{path}") as database:
        database.migrate()
    return path
