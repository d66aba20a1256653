"""What we accept and what we propose on associations (PS3.2 annex N.7.2), from the code that does it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import PresentationContext

from config.profiles import OwnProfile
from gateway.conformance.objects import SOP_CLASSES
from gateway.dicom import contexts, move, retrieve
from gateway.dicom.commitment import commitment_context
from gateway.results import EvidenceKind
from gateway.results.profiles import PROFILES, SYNTAXES

QUERY_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@dataclass(frozen=True, slots=True)
class Context:
    """Presentation contexts of one kind: who plays which role, and in which transfer syntaxes."""

    activity: str
    abstract_syntax: str
    syntaxes: tuple[str, ...]
    role: str
    negotiation: str = "none"


def accepted() -> Iterator[Context]:
    """What our port accepts beside storage, whose classes and syntaxes have tables of their own."""
    echo = tuple(str(each) for each in contexts.ECHO_SYNTAXES)
    yield Context("Answer C-ECHO", contexts.VERIFICATION, echo, "SCP")
    yield Context(
        "Storage commitment: take requests; be told results", contexts.COMMITMENT, echo, "SCP and SCU", "role selection"
    )


def storage() -> Mapping[str, frozenset[str]]:
    """Every storage SOP class that our port accepts, and the transfer syntaxes that it accepts it in."""
    return dict.fromkeys(sorted(contexts.STORAGE_CLASSES), contexts.TRANSFER_SYNTAXES)


def proposed() -> Iterator[Context]:
    """What we propose, beside the storage of objects."""
    yield _of("Ask whether a peer answers", contexts.verification_context(), "SCU")
    yield _of("Ask a destination to commit itself", commitment_context(), "SCU")
    yield _of("Tell a result of storage commitment", commitment_context(), "SCP", "role selection: SCP")
    queries = tuple(str(each) for each in QUERY_SYNTAXES)
    yield Context("List what an archive has of a study", retrieve.FIND, queries, "SCU")
    yield Context("Fetch a study on the same association", retrieve.GET, queries, "SCU")
    yield Context("Have a study sent to our port for it", move.MOVE, queries, "SCU")


def fetched() -> Sequence[str]:
    """Transfer syntaxes that C-GET proposes first for each SOP class, in their order."""
    return [str(each) for each in retrieve.COMMON_SYNTAXES]


def evidence(kind: EvidenceKind) -> tuple[str, list[str], list[str]]:
    """SOP class of a kind, its transfer syntaxes in the profiles that come along, and those that a profile may name."""
    used = {
        str(profile.picture_syntax if kind is EvidenceKind.SC else profile.transfer_syntax)
        for profile in PROFILES.values()
        if kind in profile.objects
    }
    key = "picture_syntax" if kind is EvidenceKind.SC else "transfer_syntax"
    may = {str(SYNTAXES[name]) for name in _choices(OwnProfile.model_fields[key].annotation)}
    return SOP_CLASSES[kind], sorted(used), sorted(may)


def _choices(annotation: object) -> Iterator[str]:
    """The strings of a `Literal[…] | None`."""
    for each in get_args(annotation):
        if isinstance(each, str):
            yield each
        else:
            yield from _choices(each)


def _of(activity: str, context: PresentationContext, role: str, negotiation: str = "none") -> Context:
    return Context(
        activity,
        str(context.abstract_syntax),
        tuple(str(each) for each in context.transfer_syntax),
        role,
        negotiation,
    )
