"""What the rules say of a study: which of its series are analysed, how soon, by which models, and for whom."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy.orm import Session

from config.rules import Rule, Traits, first_match, mismatch
from gateway.app import App
from storage import Priority
from storage.priors import is_prior
from storage.studies import revision_contents
from storage.tables import Instance, Revision

_TAGS = ["Modality", "BodyPartExamined", "StudyDescription", "SeriesDescription", "SeriesInstanceUID", "SOPClassUID"]


@dataclass(frozen=True)
class SeriesRoute:
    """The rule that decides about one series; `passed` says of each rule before it why it does not match."""

    traits: Traits
    rule: Rule | None
    passed: tuple[tuple[str, str], ...] = ()

    @property
    def analysed(self) -> bool:
        return self.rule is None or self.rule.analyse


@dataclass(frozen=True)
class Route:
    """What the rules of a study's series come to together."""

    series: tuple[SeriesRoute, ...] = ()

    @property
    def ignores_all(self) -> bool:
        """Whether the rules leave nothing to look at."""
        return bool(self.series) and not any(each.analysed for each in self.series)

    @property
    def ignored(self) -> Mapping[str, str]:
        """Series that are not looked at, with the name of the rule that says so."""
        return {
            each.traits.series_uid: each.rule.name
            for each in self.series
            if each.rule is not None and not each.analysed
        }

    @property
    def priority(self) -> Priority | None:
        """Stat when one series asks for it; None when no rule says anything."""
        asked = {each.rule.priority for each in self.series if each.rule is not None} - {None}
        return Priority.STAT if "stat" in asked else Priority.ROUTINE if asked else None

    @property
    def priors(self) -> int:
        """How many earlier studies of the patient are asked for: the most that a series which is analysed asks for."""
        return max((each.rule.priors for each in self.series if each.rule is not None and each.analysed), default=0)

    def models(self, known: Sequence[str]) -> tuple[str, ...]:
        """Those of `known` that a series which is analysed asks for; a series without a wish asks for all."""
        wishes = [each.rule.models if each.rule is not None else None for each in self.series if each.analysed]
        wanted = set(known) if not wishes or None in wishes else {name for wish in wishes for name in wish or ()}
        return tuple(name for name in known if name in wanted)

    def destinations(self, known: Sequence[str]) -> tuple[str, ...]:
        """Those of `known` that a series which is analysed is meant for; a series without a wish is meant for all."""
        wishes = [each.rule.destinations if each.rule is not None else None for each in self.series if each.analysed]
        wanted = set(known) if not wishes or None in wishes else {name for wish in wishes for name in wish or ()}
        return tuple(name for name in known if name in wanted)


def route(rules: Sequence[Rule], series: Iterable[Traits]) -> Route:
    """Apply the rules to the series of a study."""
    routes = []
    for traits in series:
        found = first_match(rules, traits)
        passed = []
        for rule in rules:
            if rule is found:
                break
            passed.append((rule.name, mismatch(rule, traits) or ""))
        routes.append(SeriesRoute(traits, found, tuple(passed)))
    return Route(tuple(routes))


def route_of(app: App, instances: Iterable[Instance]) -> Route:
    """What the rules say of a study with these instances; reads no file when there are no rules."""
    rules = app.settings.rules
    if not rules:
        return Route()
    return route(rules, traits_of((app.store.locate(each.path), each.source_ae) for each in instances))


def priority_of(app: App, session: Session, revision: Revision) -> Priority | None:
    """How urgent the rules call a closed revision; None when they say nothing of it.

    A prior study that was fetched stays as it was received: nobody waits for it.
    """
    if all(rule.priority is None for rule in app.settings.rules) or is_prior(session, revision.study_uid):
        return None
    return route_of(app, revision_contents(session, revision.id).instances).priority


def traits_of(files: Iterable[tuple[Path, str]]) -> list[Traits]:
    """The series of these files, each given with the AE title that it came from; one header speaks for a series.

    SOP classes and sources count from all that can be read; what cannot be read is for the analysis to name.
    """
    first: dict[str, Dataset] = {}
    sources: dict[str, set[str]] = defaultdict(set)
    classes: dict[str, set[str]] = defaultdict(set)
    for path, source in files:
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            uid = str(header.get("SeriesInstanceUID") or "")
            classes[uid].add(str(header.get("SOPClassUID") or ""))
        except Exception:  # noqa: S112, BLE001 - a header may hold anything, and pydicom has many ways to say so
            continue
        first.setdefault(uid, header)
        if source:
            sources[uid].add(source)
    return [
        Traits(
            series_uid=uid,
            modality=_text(header, "Modality"),
            body_part=_text(header, "BodyPartExamined"),
            sources=frozenset(sources[uid]),
            study_description=_text(header, "StudyDescription"),
            series_description=_text(header, "SeriesDescription"),
            sop_classes=frozenset(classes[uid] - {""}),
        )
        for uid, header in first.items()
    ]


def _text(header: Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "").strip()
    except Exception:  # noqa: BLE001 - as above: a value that cannot be read matches nothing
        return ""
