"""Rules against the rest of the configuration: names that do not exist, and rules that can never decide anything."""

from config.draft import entries
from config.notes import Notes
from config.rules import never_matches
from config.settings import Settings


def check_rules(notes: Notes, settings: Settings) -> None:
    """Note what is wrong with the rules."""
    sources = [source.ae_title for source in settings.dicom.sources]
    known = {
        "models": list(settings.analysis.models),
        "destinations": [destination.name for destination in settings.destinations],
    }
    seen: set[str] = set()
    for index, (place, rule) in enumerate(entries(notes.draft, ("rules",), settings.rules)):
        if rule.name in seen:
            notes.fault((*place, "name"), rule.name, "names two rules", "give each rule its own name")
        seen.add(rule.name)
        for key, names in known.items():
            for number, name in enumerate(getattr(rule, key) or ()):
                if name not in names:
                    where = "analysis.models" if key == "models" else key
                    remedy = f"give one of: {', '.join(names)}" if names else f"add it to `{where}`"
                    notes.fault((*place, key, number), name, f"is not in `{where}`", remedy, (where.split(".")[0],))
        if not rule.analyse and (rule.models is not None or rule.destinations is not None):
            key = "models" if rule.models is not None else "destinations"
            remedy = "leave it out, or set `analyse: true`"
            notes.warning((*place, key), None, "changes nothing: the rule analyses nothing", remedy)
        if rule.priors and settings.priors.archive is None and settings.verification.archive is None:
            remedy = "name the archive in `priors.archive`, or leave `priors` out"
            notes.fault((*place, "priors"), rule.priors, "can be fetched from nowhere", remedy, ("priors", "archive"))
        reason = never_matches(settings.rules, index, sources)
        if reason is not None:
            notes.warning(place, rule.name, f"can never match: {reason}", "move it up, change it, or delete it")
    archive = settings.priors.archive
    if archive is not None and archive not in known["destinations"]:
        choice = ", ".join(known["destinations"])
        remedy = f"give one of: {choice}" if choice else "add the archive to `destinations`, or leave this out"
        notes.fault(("priors", "archive"), archive, "is the name of no destination", remedy, ("destinations",))
