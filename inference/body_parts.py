"""Organs of images against what headers say: Body Part Examined (PS3.16 annex L) and Modality."""

from inference.instances import Instance
from models.card import ModelCard
from models.images.organs import KNOWN, Organ

# Parts of the words that name a body part; scanners join them as they like (CHESTABDPELVIS).
_WORDS: dict[Organ, tuple[str, ...]] = {
    Organ.BRAIN_MR: ("HEAD", "BRAIN", "SKULL", "CRANI", "NEURO", "PITUIT", "SELLA", "ORBIT", "WHOLEBODY"),
    Organ.CHEST_XRAY: ("CHEST", "THORA", "LUNG", "RIB", "HEART", "STERN", "WHOLEBODY"),
    Organ.KIDNEY_CT: ("ABD", "KIDNEY", "RENAL", "PELVI", "LIVER", "URO", "URETER", "SPINE", "TRUNK", "WHOLEBODY"),
    Organ.LUNG_CT: ("CHEST", "THORA", "LUNG", "RIB", "HEART", "STERN", "SPINE", "TRUNK", "WHOLEBODY"),
    Organ.KNEE_XRAY: ("KNEE", "PATELLA", "LEG", "EXTREMITY", "FEMUR", "TIBIA", "WHOLEBODY"),
}
_STANDS_FOR = {Organ.BRAIN_MR: "BRAIN", Organ.CHEST_XRAY: "CHEST", Organ.KIDNEY_CT: "KIDNEY",
               Organ.LUNG_CT: "CHEST", Organ.KNEE_XRAY: "KNEE"}  # fmt: skip

# Modalities that say how an image was made; OT and the like say nothing.
_MODALITIES = frozenset(("CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "RG", "US", "XA"))
_RADIOGRAPHS = ("RF", "RG")
_LIKE = {organ: _RADIOGRAPHS if "DX" in organ.modalities else () for organ in KNOWN}


def body_part_for(organ: Organ) -> str:
    """The Body Part Examined that an image of an organ would have; empty for UNKNOWN."""
    return _STANDS_FOR.get(organ, "")


def named_by(instance: Instance) -> frozenset[Organ]:
    """The organs that fit both modality and body part of a header; empty where none of those that models know does."""
    return frozenset(organ for organ in KNOWN if instance.modality in organ.modalities and _fits_part(organ, instance))


def contradicts(organ: Organ, instance: Instance) -> bool:
    """Whether an image of `organ` cannot be what the header's modality and body part say."""
    if organ is Organ.UNKNOWN:
        return False
    other_modality = instance.modality in _MODALITIES and instance.modality not in (*organ.modalities, *_LIKE[organ])
    return other_modality or not _fits_part(organ, instance)


def _fits_part(organ: Organ, instance: Instance) -> bool:
    part = "".join(letter for letter in instance.body_part if letter.isalpha())
    return not part or any(word in part for word in _WORDS[organ])


def covers_organ(card: ModelCard, organ: Organ) -> bool:
    """Whether a model for edits was made for images of an organ."""
    return body_part_for(organ) in card.body_parts and bool(set(organ.modalities) & set(card.modalities))
