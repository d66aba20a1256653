"""Each device against its own baseline: what it always wrote and suddenly does not (a private block that went lost)."""

from collections.abc import Iterator

from inference.findings import Observation, Severity
from inference.provenance.baseline import Departure, by_device
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count


@rule
def devices_keep_their_habits(facts: StudyFacts) -> Iterator[Observation]:
    """An editor or an anonymiser that drops private elements leaves the standard's attributes as they were."""
    for device, members in by_device(facts.instances).items():
        baseline = facts.baselines.get(device)
        if baseline is None:
            continue
        blocks = [each for each in baseline.compare(members) if each.trait.startswith("private block ")]
        others = [each for each in baseline.compare(members) if not each.trait.startswith("private block ")]
        if blocks:
            yield _observation("private-block-missing", device, blocks, "private data that this scanner always writes")
        if others:
            yield _observation("attribute-missing", device, others, "attributes that this scanner always writes")


def _observation(name: str, device: str, departures: list[Departure], what: str) -> Observation:
    instances = tuple(dict.fromkeys(uid for each in departures for uid in each.sop_instance_uids))
    studies = min(each.studies for each in departures)
    return Observation(
        name,
        Severity.WARNING,
        f"{count(len(instances))} without {what} ({studies} studies of it had them all): other software wrote these "
        "files anew; ask where they went on their way, and fetch them from the scanner if it still has them",
        {
            "device": device,
            "missing": sorted({each.trait for each in departures})[:20],
            "studies_learnt": studies,
        },
        instances,
    )
