"""The organs that the whole-image networks know, and what else an image may be."""

from enum import StrEnum


class Organ(StrEnum):
    """What an image shows; UNKNOWN is an answer of its own: no organ that the network knows."""

    BRAIN_MR = "brain MR"
    CHEST_XRAY = "chest X-ray"
    KIDNEY_CT = "kidney CT"
    LUNG_CT = "lung CT"
    KNEE_XRAY = "knee X-ray"
    UNKNOWN = "unknown"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The DICOM modalities that make such images (PS3.3 C.7.3.1.1.1)."""
        return _MODALITIES[self]


KNOWN = tuple(organ for organ in Organ if organ is not Organ.UNKNOWN)  # the order of the network's answers
EIGHT = (Organ.BRAIN_MR, Organ.CHEST_XRAY, Organ.KIDNEY_CT, Organ.LUNG_CT)  # × genuine, synthetic: the published view

_MODALITIES = {
    Organ.BRAIN_MR: ("MR",),
    Organ.CHEST_XRAY: ("CR", "DX"),
    Organ.KIDNEY_CT: ("CT",),
    Organ.LUNG_CT: ("CT",),
    Organ.KNEE_XRAY: ("CR", "DX"),
    Organ.UNKNOWN: (),
}
