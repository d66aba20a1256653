"""What we accept: every storage SOP class in every transfer syntax that pynetdicom knows, C-ECHO and storage commitment
(PS3.4 A, B and J).

A requestor may propose 128 contexts; an acceptor only answers what was proposed, so each request gets its own answer.
"""

from collections.abc import Iterable, Iterator

from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, register_uid
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass

# Retired image classes that archives still hold and that pynetdicom no longer lists (PS3.6 A).
RETIRED_STORAGE = {
    "RetiredUltrasoundMultiFrameImageStorage": "1.2.840.10008.5.1.4.1.1.3",
    "RetiredNuclearMedicineImageStorage": "1.2.840.10008.5.1.4.1.1.5",
    "RetiredUltrasoundImageStorage": "1.2.840.10008.5.1.4.1.1.6",
    "RetiredStandaloneOverlayStorage": "1.2.840.10008.5.1.4.1.1.8",
    "RetiredStandaloneCurveStorage": "1.2.840.10008.5.1.4.1.1.9",
    "RetiredStandaloneModalityLUTStorage": "1.2.840.10008.5.1.4.1.1.10",
    "RetiredStandaloneVOILUTStorage": "1.2.840.10008.5.1.4.1.1.11",
    "RetiredXRayAngiographicBiPlaneImageStorage": "1.2.840.10008.5.1.4.1.1.12.3",
    "RetiredVLImageStorage": "1.2.840.10008.5.1.4.1.1.77.1",
    "RetiredVLMultiFrameImageStorage": "1.2.840.10008.5.1.4.1.1.77.2",
    "RetiredStandalonePETCurveStorage": "1.2.840.10008.5.1.4.1.1.129",
}
for _keyword, _uid in RETIRED_STORAGE.items():
    register_uid(_uid, _keyword, StorageServiceClass)

STORAGE_CLASSES = frozenset(
    [str(context.abstract_syntax) for context in AllStoragePresentationContexts] + list(RETIRED_STORAGE.values())
)
TRANSFER_SYNTAXES = frozenset(str(syntax) for syntax in ALL_TRANSFER_SYNTAXES)
ECHO_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"  # Storage Commitment Push Model
NOT_STORAGE = frozenset({VERIFICATION, COMMITMENT})
MAX_CONTEXTS = 128  # of one request: the identifiers are the odd numbers of a byte (PS3.8 9.3.2.2)


def verification_context() -> PresentationContext:
    """C-ECHO; all that an association offers until its caller is admitted."""
    return build_context(VERIFICATION, list(ECHO_SYNTAXES))


def answer(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Contexts to accept for what a requestor proposes.

    Its order of transfer syntaxes decides, not ours: a sender names first what its objects are encoded in, and an
    answer in another syntax would make it convert them.
    """
    syntaxes: dict[str, dict[str, None]] = {}
    for context in proposed:
        uid = str(context.abstract_syntax)
        if uid in STORAGE_CLASSES:
            known: Iterable[str] = TRANSFER_SYNTAXES
        elif uid in NOT_STORAGE:
            known = ECHO_SYNTAXES
        else:
            continue
        offered = syntaxes.setdefault(uid, {})
        offered.update(dict.fromkeys(str(syntax) for syntax in context.transfer_syntax if syntax in known))
    answers = [build_context(uid, list(offered)) for uid, offered in syntaxes.items() if offered]
    for context in answers:
        if context.abstract_syntax == COMMITMENT:  # a PACS that calls back with a report says that it is the SCP
            context.scu_role = context.scp_role = True
    return answers or [verification_context()]


def propose(objects: Iterable[tuple[str, str]]) -> Iterator[list[PresentationContext]]:
    """Contexts for objects of (SOP class, transfer syntax), in groups of at most 128: one association each.

    A syntax without compression is also offered as implicit little endian, which every acceptor must know (PS3.5 10.1).
    """
    pairs: dict[tuple[str, str], None] = {}
    for sop_class, syntax in objects:
        pairs[sop_class, syntax] = None
        if syntax in ECHO_SYNTAXES:
            pairs[sop_class, ECHO_SYNTAXES[0]] = None
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    for start in range(0, len(contexts), MAX_CONTEXTS):
        yield contexts[start : start + MAX_CONTEXTS]
