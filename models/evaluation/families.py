"""Which edit families a model is tried on, and which of them it was trained on: its card decides."""

from models.card import ModelCard
from models.tampering import families
from models.tampering.families import FAMILIES


def trained(card: ModelCard) -> tuple[str, ...]:
    """The families that the model was trained on; of a card that names none, those that training takes by default."""
    return _of(card, "trained") if card.families else families.TRAINED


def own(card: ModelCard) -> tuple[str, ...]:
    """The families of the card that can be made here, the trained ones first: the order that decides the edits."""
    named = (
        (*_of(card, "trained"), *_of(card, "held out")) if card.families else (*families.TRAINED, *families.HELD_OUT)
    )
    return families.ready(name for name in named if name in FAMILIES)


def more(card: ModelCard) -> tuple[str, ...]:
    """Families that the card does not know: they came after it, so the model was never trained on them."""
    known = card.families or FAMILIES
    return families.ready(name for name in FAMILIES if name not in known)


def not_here(card: ModelCard) -> tuple[str, ...]:
    """Families that cannot be tried: the card names them and they are gone, or their inpainter was not trained here."""
    wanted = dict.fromkeys((*card.families, *FAMILIES))
    tried = {*own(card), *more(card)}
    return tuple(name for name in wanted if name not in tried)


def _of(card: ModelCard, state: str) -> tuple[str, ...]:
    return tuple(name for name, said in card.families.items() if said == state)
