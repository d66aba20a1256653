"""Instances of a Mask R-CNN as a detector: real tumours are findings and no evidence, edits join the U-Net's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference import calibration, detectors
from inference.analysis import analyse_study
from inference.coverage import Coverage
from inference.detectors import Detection, RegistryDetector
from inference.findings import FindingClass, Verdict
from inference.instance_detector import InstanceDetector, as_maps
from inference.volume import Stack, Volume, read_volumes
from models import instance_model, registry
from models.card import INSTANCES, ModelCard, Thresholds
from models.density import DensityBox
from models.instance_model import Instance

SHAPE = (4, 32, 32)


def instance(kind: str, score: float, box: tuple[int, int, int, int]) -> Instance:
    row0, column0, row1, column1 = box
    return Instance(kind, score, box, np.ones((row1 - row0, column1 - column0), np.float32))


def instances_card(**more: Any) -> ModelCard:
    return ModelCard(
        name="m-rcnn", version="1", task=INSTANCES, network="none", arguments={}, digest="1" * 64, licence="test",
        **{"min_matrix": 32, **more},
    )  # fmt: skip


class Tumour:
    """A model of instances that always sees one: `box` on slices `first` to `last`."""

    def __init__(self, kind: str, box: tuple[int, int, int, int], first: int, last: int, **card: Any) -> None:
        self.card = instances_card(**card)
        self._instance, self._slices = instance(kind, 0.97, box), range(first, last + 1)
        self.proposals: Sequence[Sequence[DensityBox]] | None = None

    def predict(self, volume: NDArray[np.float32], proposals: Any = None, *, batch: int) -> list[list[Instance]]:
        self.proposals = proposals
        return [[self._instance] if index in self._slices else [] for index in range(len(volume))]


class Lesions(InstanceDetector):
    """An InstanceDetector that takes every volume."""

    def covers(self, stack: Stack) -> Coverage:
        return Coverage()

    def recognises(self, volume: Volume) -> Coverage:
        return Coverage()


def test_a_real_tumour_leaves_no_trace_in_what_speaks_of_edits() -> None:
    said = as_maps([[instance("real", 0.9, (4, 5, 10, 12))], [], [], []], SHAPE)
    assert said.lesion is not None
    assert said.lesion[0, 4:10, 5:12] == pytest.approx(0.9)
    assert said.lesion.sum() == pytest.approx(0.9 * 42, rel=1e-5)
    assert not said.edit.any()
    assert len(set(said.logits.tolist())) == 1


def test_an_edited_instance_marks_its_pixels_with_its_class() -> None:
    both = [instance("added", 0.6, (4, 4, 12, 12)), instance("removed", 0.8, (8, 8, 16, 16))]
    said = as_maps([[], both, [], []], SHAPE)
    assert said.edit[1, 5, 5] == pytest.approx(0.6)
    assert said.classes[1, 5, 5] == FindingClass.ADDED_TUMOUR.code
    assert said.classes[1, 9, 9] == FindingClass.REMOVED_TUMOUR.code
    assert said.logits[1] == pytest.approx(np.log(4), rel=1e-5)
    assert said.logits[0] < 0


def test_silence_of_a_model_of_instances_does_not_quiet_the_pixels_of_another() -> None:
    dense = Detection(np.full(SHAPE, 0.5, np.float32), np.zeros(4, np.float32), np.full(SHAPE, 4, np.uint8))
    sparse = as_maps([[instance("added", 0.8, (0, 0, 4, 4)), instance("real", 0.9, (8, 8, 16, 16))], [], [], []], SHAPE)
    fused = calibration.fuse([dense, sparse])
    assert fused.edit[0, 20, 20] == pytest.approx(0.5)
    assert fused.edit[0, 2, 2] == pytest.approx(0.8)
    assert fused.classes[0, 2, 2] == FindingClass.ADDED_TUMOUR.code
    assert fused.edit[0, 10, 10] == pytest.approx(0.5)
    assert fused.lesion is not None
    assert fused.lesion[0, 10, 10] == pytest.approx(0.9)


def test_thresholds_are_those_of_the_models_that_have_a_say() -> None:
    dense = ModelCard(
        name="u", version="1", network="none", arguments={}, digest="0" * 64, licence="test",
        thresholds=Thresholds(pixel=0.9, review=0.6, suspect=0.8, lesion=0.5),
    )  # fmt: skip
    sparse = instances_card(thresholds=Thresholds(pixel=0.3, review=0.7, suspect=0.9, lesion=0.4))
    both = calibration.thresholds_of([dense, sparse])
    assert both.pixel == pytest.approx(0.9)
    assert both.review == pytest.approx(0.65)
    assert both.lesion == pytest.approx(0.4)
    quiet = sparse.model_copy(update={"judges_edits": False})
    assert calibration.thresholds_of([dense, quiet]).review == pytest.approx(0.6)
    loud, silent = np.full(4, 5.0, np.float32), np.full(4, -5.0, np.float32)
    alone = calibration.study_score([dense], [loud])
    assert calibration.study_score([dense, quiet], [loud, silent]) == alone
    assert calibration.study_score([dense, sparse], [loud, silent]) < alone


def test_a_real_tumour_is_a_finding_and_the_verdict_stays_clear(
    write_series: Any, brain: NDArray[np.uint16], known_cube: Any
) -> None:
    model: Any = Tumour("real", (20, 30, 40, 50), 2, 5)
    said = analyse_study(write_series(brain), models=[known_cube(), Lesions(model)])
    assert said.verdict is Verdict.CLEAR
    (finding,) = said.findings
    assert finding.finding_class is FindingClass.REAL_TUMOUR
    assert (finding.slices, finding.box) == ((2, 5), (20, 30, 40, 50))
    (series,) = said.series
    assert (series.classes[3, 20:40, 30:50] == FindingClass.REAL_TUMOUR.code).all()
    assert series.classes.astype(bool).sum() == 4 * 20 * 20
    assert "no sign of an added or removed tumour" in said.reasons[0]
    assert any("looks like a tumour" in reason and "no sign of editing" in reason for reason in said.reasons)


def test_where_an_edit_is_seen_there_is_no_real_tumour(
    write_series: Any, brain: NDArray[np.uint16], known_cube: Any
) -> None:
    model: Any = Tumour("real", (20, 30, 40, 50), 2, 5, judges_edits=False)
    cube = known_cube(((2, 6), (20, 40), (30, 42)))
    said = analyse_study(write_series(brain), models=[cube, Lesions(model)])
    assert said.verdict is Verdict.SUSPECT
    first, second = said.findings
    assert first.finding_class is FindingClass.REMOVED_TUMOUR
    assert second.finding_class is FindingClass.REAL_TUMOUR
    assert second.box == (20, 42, 40, 50)
    assert "removed" in said.reasons[0]
    assert "looks like a tumour" in said.reasons[-1]


def test_a_model_that_only_names_tumours_calls_no_study_clear(write_series: Any, brain: NDArray[np.uint16]) -> None:
    model: Any = Tumour("added", (20, 30, 40, 50), 2, 5, judges_edits=False)
    said = analyse_study(write_series(brain), models=[Lesions(model)])
    assert said.verdict is Verdict.ABSTAIN
    assert not said.findings
    assert "judges no edits" in said.reasons[0]


def test_the_unet_proposes_regions_and_looks_once_at_a_volume_for_both(
    monkeypatch: pytest.MonkeyPatch, write_series: Any, brain: NDArray[np.uint16]
) -> None:
    looked: list[int] = []

    class Unet:
        card = ModelCard(name="u", version="1", network="none", arguments={}, digest="0" * 64, licence="test")

        def predict(self, volume: NDArray[np.float32], spacing: Any, *, batch: int) -> Any:
            looked.append(len(volume))
            edit = np.zeros(volume.shape, np.float32)
            edit[3, 10:30, 20:44] = 1
            types = np.zeros((len(volume), 3, *volume.shape[1:]), np.float32)
            return registry.SlicePredictions(edit, np.zeros(len(volume), np.float32), types)

    model: Any = Tumour("removed", (10, 20, 30, 44), 3, 3)
    model.card = instances_card(proposals_from="u")
    monkeypatch.setattr(registry, "available", lambda: [Unet.card, model.card])
    monkeypatch.setattr(registry, "load", lambda *_: Unet())
    monkeypatch.setattr(instance_model, "load", lambda *_: model)
    detectors._loaded.cache_clear()
    unet, finder = detectors.detectors_for(["u", "m-rcnn"], device="cpu")
    detectors._loaded.cache_clear()
    assert isinstance(unet, RegistryDetector)
    assert isinstance(finder, InstanceDetector)
    (volume,) = read_volumes(write_series(brain))
    kept = unet.detect(volume, batch=2)
    found = finder.detect(volume, batch=2)
    assert looked == [len(brain)]
    assert model.proposals is not None
    assert [len(boxes) for boxes in model.proposals] == [0, 0, 0, 1, 0, 0, 0, 0]
    assert model.proposals[3][0].box == pytest.approx((10, 20, 30, 44), abs=3)
    assert found.edit[3, 15, 30] == pytest.approx(0.97)
    del kept
    finder.detect(volume, batch=2)
    assert looked == [len(brain)] * 2
