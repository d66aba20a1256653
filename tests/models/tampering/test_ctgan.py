from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.provenance.noise import copied_noise
from inference.provenance.noise_rule import LEAST_RADIUS
from models.tampering import ctgan
from models.tampering.compose import Place, tamper_volume
from models.tampering.material import Material
from models.tampering.phantom import phantom_volume


@pytest.fixture(scope="module")
def head() -> NDArray[np.uint16]:
    return phantom_volume(np.random.default_rng(5), slices=8, matrix=192)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [((1.0, 1.0, 1.0), (32, 32, 32)), ((3.0, 0.9, 0.9), (11, 36, 36)), ((5.0, 0.5, 0.8), (6, 64, 40))],
)
def test_the_cuboid_is_32_mm_whatever_the_spacing(
    spacing: tuple[float, float, float], expected: tuple[int, int, int]
) -> None:
    volume = np.full((60, 120, 120), 100.0, dtype=np.float32)
    material = Material(0.0, 100.0, 2.0, (), spacing)
    mask = ctgan.cuboid(volume, material, np.random.default_rng(1), centre=(30.0, 60.0, 60.0))
    spans = tuple(int(np.ptp(axis)) + 1 for axis in np.nonzero(mask))
    assert spans == expected
    assert mask.sum() == np.prod(expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_an_injection_takes_nothing_away_but_noise(head: NDArray[np.uint16], dtype: type) -> None:
    volume: NDArray[Any] = head.astype(dtype) - dtype(1024) if dtype is np.int16 else head
    made = tamper_volume(volume, "ctgan_added", np.random.default_rng(2), spacing=(3.0, 0.94, 0.94))
    change = made.volume.astype(float) - volume
    assert change.max() > 60
    # What is lower is noise that was added: as likely up as down, a few levels deep.
    assert np.quantile(change[made.mask], 0.02) > -40
    assert change[made.mask].mean() > 3


def test_a_removal_fades_to_nothing_at_the_faces(head: NDArray[np.uint16]) -> None:
    made = tamper_volume(head, "ctgan_removed", np.random.default_rng(2), spacing=(3.0, 0.94, 0.94))
    change = np.abs(made.volume.astype(float) - head)
    slices, rows, columns = np.nonzero(made.mask)
    face = change[:, rows.min(), :][:, columns.min() : columns.max()]
    middle = change[int(slices.mean()), int(rows.mean()) - 5 : int(rows.mean()) + 5, columns.min() : columns.max()]
    assert face.mean() < 0.25 * middle.mean()


@pytest.mark.parametrize(("name", "size"), [("ctgan_removed", None), ("ctgan_added", 40.0)])
def test_the_copied_noise_of_a_large_edit_is_seen_by_provenance(
    head: NDArray[np.uint16], name: str, size: float | None
) -> None:
    made = tamper_volume(
        head, name, np.random.default_rng(0), spacing=(3.0, 0.94, 0.94), place=Place(size_mm=size) if size else None
    )
    found = copied_noise(made.volume.astype(np.float32), LEAST_RADIUS)
    assert found
    rows, columns = (np.flatnonzero(made.mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    inside = [
        rows[0] <= (place[0] + place[2]) / 2 <= rows[-1] and columns[0] <= (place[1] + place[3]) / 2 <= columns[-1]
        for place in (found[0].one, found[0].other)
    ]
    assert any(inside)


def test_no_copied_noise_is_seen_before(head: NDArray[np.uint16]) -> None:
    assert not copied_noise(head.astype(np.float32), LEAST_RADIUS)
