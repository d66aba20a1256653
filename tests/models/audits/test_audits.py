"""Audits are at chance where edited images are their twins, and fire where something else tells them apart."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from models import audits, release
from models.audits import Audit, AuditFailed, exact, require, shortcuts
from models.datasets import Case
from models.samples import StoredTwins
from models.splits import Split
from models.tampering import regions
from models.tampering.compose import compose
from models.tampering.families import FAMILIES
from models.tampering.material import FloatArray, Mask, Material
from models.tampering.phantom import phantom_volume
from models.tampering.study import tamper_study
from models.training import TrainingConfig

SIDE = 64


def disc(row: float, column: float, radius: float) -> Mask:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 < radius**2)[np.newaxis]


def somewhere(rng: np.random.Generator) -> Mask:
    row, column = rng.uniform(14, SIDE - 14, 2)
    return disc(row, column, rng.uniform(4, 9))


@pytest.fixture(scope="module")
def twins() -> list[StoredTwins]:
    """Honest ones: a smoothed patch in noise of every kind, nothing else."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(120):
        grain = rng.normal(0, rng.uniform(2, 12), (SIDE, SIDE)).astype(np.float32)
        slow = cv2.resize(rng.uniform(40, 220, (6, 6)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        genuine = np.rint(np.clip(slow + grain, 0, 255))[np.newaxis]
        region = somewhere(rng)
        smooth = np.rint(cv2.GaussianBlur(genuine[0], (0, 0), 1.5))[np.newaxis]
        edited = np.where(region, smooth, genuine)
        lesion = somewhere(rng) if number % 2 else np.zeros_like(region)
        made.append(
            StoredTwins("phantom", f"patient-{number % 12}", genuine, edited, region, lesion, FAMILIES["telea"])
        )
    return made


def changed(twins: Sequence[StoredTwins], how: Callable[[FloatArray], NDArray[np.floating]]) -> list[StoredTwins]:
    return [replace(twin, edited=np.asarray(how(twin.edited), dtype=np.float32)) for twin in twins]


def through_jpeg(slab: FloatArray) -> FloatArray:
    _, encoded = cv2.imencode(".jpg", slab[0].astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.float32)[np.newaxis]


def test_honest_twins_pass_what_is_asked_of_pixels(twins: list[StoredTwins]) -> None:
    outside, surface = shortcuts.outside_the_mask(twins), shortcuts.surface(twins)
    assert outside.auc == 0.5  # bit by bit the same: nothing to learn
    assert outside.passed
    assert surface.passed
    assert outside.cases == len(twins)


@pytest.mark.parametrize(
    "leak",
    [through_jpeg, lambda slab: slab + 1, lambda slab: np.rint(cv2.GaussianBlur(slab[0], (0, 0), 0.5))[np.newaxis]],
    ids=["re-encoded", "one grey level brighter", "blurred"],
)
def test_a_trace_outside_the_mask_fails_the_audit(
    twins: list[StoredTwins], leak: Callable[[FloatArray], NDArray[np.floating]]
) -> None:
    found = shortcuts.outside_the_mask(changed(twins, leak))
    assert not found.passed
    assert found.low > found.bound


def test_a_coarser_range_of_grey_values_fails_the_audit_of_the_histogram(twins: list[StoredTwins]) -> None:
    assert not shortcuts.surface(changed(twins, lambda slab: np.rint(slab / 4) * 4)).passed


def test_edits_placed_and_sized_otherwise_than_tumours_fail_the_audit_of_priors(twins: list[StoredTwins]) -> None:
    assert shortcuts.priors(twins).passed
    small = [replace(twin, region=disc(20, 20, 3)) for twin in twins]
    assert not shortcuts.priors(small).passed


def test_regions_like_tumours_are_larger_than_others() -> None:
    volume = phantom_volume(np.random.default_rng(3), slices=3, matrix=128).astype(np.float32)
    material = Material.of(volume)

    def area(*, like_tumours: bool) -> float:
        rng = np.random.default_rng(1)
        masks = [regions.draw(volume, material, rng, like_tumours=like_tumours) for _ in range(15)]
        return float(np.median([mask.any(axis=0).sum() for mask in masks]))

    assert area(like_tumours=True) > 2 * area(like_tumours=False)


def test_an_edit_that_changes_nothing_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = phantom_volume(np.random.default_rng(3), slices=4, matrix=96)
    cases = [Case("phantom", "one", "one", Split.TRAIN, volume, (3.0, 1.0, 1.0))]
    assert exact.identity(cases, 1).passed

    def careless(slab: FloatArray, mask: Mask, *others: Any, **named: Any) -> FloatArray:
        return np.asarray(mask + compose(slab, mask, *others, **named), dtype=np.float32)

    monkeypatch.setattr(exact, "compose", careless)
    found = exact.identity(cases, 1)
    assert not found.passed
    assert found.auc == 1


def test_headers_of_a_tampered_study_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exact.headers(1).passed

    def talkative(*given: Any, **named: Any) -> object:
        made = tamper_study(*given, **named)
        for path in made.edited:
            dataset = dcmread(path)
            dataset.ImageComments = "retouched"
            dataset.save_as(path, enforce_file_format=True)
        return made

    monkeypatch.setattr(exact, "tamper_study", talkative)
    assert not exact.headers(1).passed


def test_nothing_is_published_when_an_audit_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Audit("outside the mask", 0.97, 0.95, 0.99, 0.55, 400, "what it is", "mend the lab")
    monkeypatch.setattr(audits, "audit", lambda *_: [replace(failed, auc=0.5), failed])
    config = TrainingConfig(data=tmp_path, output=tmp_path / "run")
    with pytest.raises(
        AuditFailed, match=r"outside the mask: AUC 0.970 \(0.950 to 0.990\), at most 0.55.*mend the lab"
    ):
        release.release(config, "edit-unet", "1", folder=tmp_path / "published")
    assert not (tmp_path / "published").exists()
    require([replace(failed, auc=0.5)])


def test_an_audit_that_had_nothing_to_look_at_does_not_pass() -> None:
    assert not Audit("place and size", float("nan"), float("nan"), float("nan"), 0.75, 0, "", "").passed
