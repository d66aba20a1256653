"""Rules between the routes of `forwarding`, the destinations and the sources."""

from config.draft import entries
from config.notes import Notes
from config.settings import Settings


def check_forwarding(notes: Notes, settings: Settings) -> None:
    """A route has to lead to a destination, once; a source that is called back needs host and port."""
    known = {each.name: each for each in settings.destinations}
    senders = {each.ae_title for each in settings.dicom.sources}
    seen = set()
    for place, route in entries(notes.draft, ("forwarding", "routes"), settings.forwarding.routes):
        if route.destination not in known:
            names = ", ".join(sorted(known)) or "there is no destination yet"
            notes.fault(
                (*place, "destination"),
                route.destination,
                "is no destination",
                f"give one of: {names}",
                ("destinations",),
            )
        elif route.destination in seen:
            remedy = "keep one route for each destination, with all sources"
            notes.fault((*place, "destination"), route.destination, "has a route already", remedy)
        seen.add(route.destination)
        for index, title in enumerate(route.sources):
            if senders and title not in senders:
                remedy = "correct the AE title, or add the source to `dicom.sources`"
                notes.warning((*place, "sources", index), title, "is no source, so nothing comes from it", remedy)
    for place, source in entries(notes.draft, ("dicom", "sources"), settings.dicom.sources):
        if (source.host is None) != (source.port is None):
            missing = "port" if source.port is None else "host"
            remedy = "give both, or neither"
            notes.fault((*place, missing), None, "is missing: a call back needs host and port", remedy)
