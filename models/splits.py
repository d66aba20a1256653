"""Who is trained on, calibrated on and tested on: by whole patients, written in this one place.

`flair-glioma` is a source of four patients: one is trained on, one calibrated on, two tested on. `t1-healthy` is never
trained on: it stands for a scanner that the model has not met.
"""

import hashlib
from enum import StrEnum


class Split(StrEnum):
    TRAIN = "train"
    CALIBRATION = "calibration"
    TEST = "test"


UNSEEN = ("t1-healthy",)  # sources of which no patient is trained or calibrated on


_FIXED: dict[tuple[str, str], Split] = {
    ("flair-glioma", "HF0990"): Split.TRAIN,
    ("flair-glioma", "HF1058"): Split.CALIBRATION,
    ("flair-glioma", "HF1097"): Split.TEST,
    ("flair-glioma", "HF1139"): Split.TEST,
    ("brain-ms", "patient01"): Split.TRAIN,
    ("brain-ms", "patient03"): Split.TEST,
    ("brain-ms", "patient04"): Split.TRAIN,
    ("t1-healthy", "uih-umr770"): Split.TEST,
    ("brain-cheng", "fold4"): Split.CALIBRATION,
    ("brain-cheng", "fold5"): Split.TEST,
}


def split_of(source: str, patient: str) -> Split:
    """The split of a patient (of `brain-cheng`: a patient-wise fold); patients without a fixed place go by a hash."""
    fixed = _FIXED.get((source, patient))
    if fixed is not None:
        return fixed
    if source in ("brain-cheng", "brain-ms"):
        return Split.TRAIN
    share = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4]) / 2**32
    return Split.TEST if share < 0.22 else Split.CALIBRATION if share < 0.36 else Split.TRAIN
