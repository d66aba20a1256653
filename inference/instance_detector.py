"""A Mask R-CNN as a detector: its instances become maps of edits and of real tumours on the matrix of the volume."""

from typing import TYPE_CHECKING

import numpy as np

from inference.detectors import Detection, OfCard, RegistryDetector
from inference.findings import FindingClass
from inference.volume import Volume

if TYPE_CHECKING:
    from models.instance_model import Instance, InstanceModel

_CLASS_OF_KIND = {
    "real": FindingClass.REAL_TUMOUR,
    "added": FindingClass.ADDED_TUMOUR,
    "removed": FindingClass.REMOVED_TUMOUR,
}
_NOTHING = -4.0  # the logit of a slice without an edited instance; the network is silent below a score of 0.1
_SUREST = 0.999


class InstanceDetector(OfCard):
    """A model of instances, and the detector whose density map proposes regions to it."""

    def __init__(self, model: "InstanceModel", proposer: RegistryDetector | None = None) -> None:
        super().__init__(model.card)
        self._model, self._proposer = model, proposer

    def detect(self, volume: Volume, *, batch: int) -> Detection:
        _, rows, columns = volume.source_shape
        proposals = None
        if self._proposer is not None and self._proposer.card.covers(rows, columns):
            proposals = self._proposer.proposals(volume, batch=batch)
        found = self._model.predict(volume.voxels, proposals, batch=batch)
        if not self.card.judges_edits:
            found = [[each for each in instances if each.kind == "real"] for instances in found]
        return as_maps(found, volume.source_shape)


def as_maps(found: "list[list[Instance]]", shape: tuple[int, int, int]) -> Detection:
    """Instances of each slice as a detection on (slices, rows, columns).

    A pixel has the score of an instance times the probability that it belongs to it, the highest where several
    overlap. Real tumours leave no trace in `edit` and `logits`.
    """
    edit, lesion = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    classes = np.full(shape, FindingClass.RESYNTHESISED.code, np.uint8)
    logits = np.full(len(found), _NOTHING, np.float32)
    for index, instances in enumerate(found):
        for each in instances:
            row0, column0, row1, column1 = each.box
            place = (index, slice(row0, row1), slice(column0, column1))
            value = np.float32(each.score) * each.mask
            kind = _CLASS_OF_KIND[each.kind]
            if not kind.is_edit:
                np.maximum(lesion[place], value, out=lesion[place])
                continue
            surer = value > edit[place]
            classes[place][surer] = kind.code
            np.maximum(edit[place], value, out=edit[place])
            logits[index] = max(logits[index], _logit(each.score))
    return Detection(edit, logits, classes, lesion=lesion)


def _logit(score: float) -> float:
    bounded = min(score, _SUREST)
    return float(np.log(bounded / (1 - bounded)))
