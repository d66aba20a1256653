"""Who made the UIDs: a scanner's begin with its maker's root (PS3.5 §9.1), a tool's with the tool's."""

from collections.abc import Iterator

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, short, uids

# Root, maker and a word of Manufacturer (0008,0070); as registered and as seen in published conformance statements.
_MAKERS = (
    ("1.3.12.2.1107.5.", "Siemens", ("SIEMENS",)),
    ("1.2.840.113619.", "GE", ("GE ", "GENERAL ELECTRIC", "GEMS")),
    ("1.3.46.670589.", "Philips", ("PHILIPS",)),
    ("1.2.392.200036.9116.", "Canon (Toshiba)", ("TOSHIBA", "CANON")),
    ("1.2.392.200036.9125.", "Fujifilm", ("FUJI",)),
    ("1.2.156.112605.", "United Imaging", ("UIH", "UNITED IMAGING")),
    ("1.2.840.113681.", "Hologic", ("HOLOGIC",)),
)
_TOOLS = (
    ("1.2.826.0.1.3680043.8.498.", "pydicom"),
    ("1.2.276.0.7230010.3.", "DCMTK"),
    ("1.2.40.0.13.1.", "dcm4che"),
    ("1.2.826.0.1.3680043.2.1143.", "GDCM"),
    ("1.2.826.0.1.3680043.8.641.", "Orthanc"),
    ("1.3.6.1.4.1.9590.", "MATLAB"),
    ("2.25.", "a UUID"),
)


@rule
def uids_carry_their_makers_root(facts: StudyFacts) -> Iterator[Observation]:
    """An original image of one maker whose SOP Instance UID another maker or a tool gave."""
    strangers: dict[tuple[str, str], list[Instance]] = {}
    tools: dict[tuple[str, str], list[Instance]] = {}
    for each in facts.instances:
        maker = _maker_named(each.origin.manufacturer)
        if not each.is_image or not maker or "DERIVED" in each.image_type[:1]:
            continue
        if (giver := _maker_of(each.sop_instance_uid)) and giver != maker:
            strangers.setdefault((maker, giver), []).append(each)
        elif tool := _tool_of(each.sop_instance_uid):
            tools.setdefault((maker, tool), []).append(each)
    for (maker, giver), members in strangers.items():
        yield Observation(
            "uid-of-another-maker",
            Severity.WARNING,
            f"{count(len(members))} by {maker}, with a UID that {giver} gives: header or image comes from elsewhere; "
            "compare with the scanner",
            {"manufacturer": maker, "uid_root": giver},
            uids(members),
        )
    for (maker, tool), members in tools.items():
        yield Observation(
            "uid-of-a-tool",
            Severity.INFO,
            f"{count(len(members))} by {maker}, with a UID of {tool}: copied, converted or anonymised after the "
            "scanner; "
            "ask for the original where it matters",
            {"manufacturer": maker, "uid_root": tool},
            uids(members),
        )


@rule
def one_root_for_a_series(facts: StudyFacts) -> Iterator[Observation]:
    """One machine numbers the images of a series: a few of another root were put in."""
    for series_uid, members in facts.series.items():
        roots: dict[str, list[Instance]] = {}
        for each in members:
            roots.setdefault(_root(each.sop_instance_uid), []).append(each)
        if len(roots) < 2:
            continue
        usual = max(roots, key=lambda root: len(roots[root]))
        others = [each for root, group in roots.items() if root != usual for each in group]
        yield Observation(
            "several-uid-roots",
            Severity.WARNING,
            f"{count(len(others))} of {short(series_uid)} {'has' if len(others) == 1 else 'have'} a UID of another "
            "origin "
            "than the rest: look whether they belong to this series",
            {"series_uid": series_uid, "roots": {root: len(group) for root, group in roots.items()}},
            uids(others),
        )


@rule
def file_meta_names_the_same_class(facts: StudyFacts) -> Iterator[Observation]:
    """Media Storage SOP Class UID repeats SOP Class UID (PS3.10 §7.1)."""
    wrong = [
        each
        for each in facts.instances
        if each.origin.media_sop_class_uid and each.origin.media_sop_class_uid != each.sop_class_uid
    ]
    if wrong:
        yield Observation(
            "file-meta-class-differs",
            Severity.WARNING,
            f"the file header of {count(len(wrong))} names another kind of object than its data set: the data set "
            "was put "
            "into another file; compare with the sender's copy",
            {},
            uids(wrong),
        )


def _maker_named(manufacturer: str) -> str:
    name = f"{manufacturer.upper()} "
    return next((maker for _, maker, words in _MAKERS if any(word in name for word in words)), "")


def _maker_of(uid: str) -> str:
    return next((maker for root, maker, _ in _MAKERS if uid.startswith(root)), "")


def _tool_of(uid: str) -> str:
    return next((tool for root, tool in _TOOLS if uid.startswith(root)), "")


def _root(uid: str) -> str:
    """The known root, else what an organisation is registered under: six arcs, seven below the enterprise numbers."""
    for root, *_ in (*_MAKERS, *_TOOLS):
        if uid.startswith(root):
            return root.rstrip(".")
    arcs = uid.split(".")
    return ".".join(arcs[: 7 if uid.startswith("1.3.6.1.4.1.") else 4 if uid.startswith("1.2.") else 5])
