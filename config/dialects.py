"""What the profiles of a site contradict: each other, the profiles that come along, and themselves."""

from collections import Counter
from collections.abc import Collection

from config.document import Place
from config.draft import entries
from config.notes import Notes
from config.profiles import OwnProfile
from config.settings import Settings

# What only makes sense with one of these objects, where the profile itself lists its objects.
_NEEDS = {
    "empty_frames": ("SEG", "LABELMAP"),
    "max_segments": ("SEG", "LABELMAP"),
    "max_pictures": ("SC", "GSPS", "KOS"),
    "picture_syntax": ("SC",),
    "summary": ("SC",),
}


def check_profiles(notes: Notes, settings: Settings, known_profiles: Collection[str] | None) -> None:
    """Check `profiles`, and the profiles that destinations name."""
    own = list(entries(notes.draft, ("profiles",), settings.profiles))
    names = Counter(profile.name for _, profile in own)
    for place, profile in own:
        _name(notes, place, profile, names, known_profiles)
        _objects(notes, place, profile)
    used = set()
    for place, destination in entries(notes.draft, ("destinations",), settings.destinations):
        used.add(destination.profile)
        if known_profiles is not None and destination.profile not in {*known_profiles, *names}:
            _unknown(notes, (*place, "profile"), destination.profile, {*known_profiles, *names})
    for place, profile in own:
        if profile.name not in used:
            notes.warning(
                (*place, "name"),
                profile.name,
                "is the profile of no destination",
                f"give a destination `profile: {profile.name}`, or remove the profile",
                ("destinations",),
            )


def _name(
    notes: Notes, place: Place, profile: OwnProfile, names: Counter[str], known_profiles: Collection[str] | None
) -> None:
    if names[profile.name] > 1:
        notes.fault((*place, "name"), profile.name, "names two profiles", "give each profile a name of its own")
    if known_profiles is None:
        return
    if profile.name in known_profiles:
        notes.fault(
            (*place, "name"), profile.name, "is a profile that comes along", "give your profile a name of its own"
        )
    if profile.extends not in known_profiles:
        _unknown(notes, (*place, "extends"), profile.extends, known_profiles)


def _unknown(notes: Notes, place: Place, name: str, known: Collection[str]) -> None:
    names = ", ".join(sorted(known)) or "there is no profile yet"
    notes.fault(place, name, "is no profile that this installation has", f"give one of: {names}")


def _objects(notes: Notes, place: Place, profile: OwnProfile) -> None:
    if profile.objects is None:
        return
    objects = (*place, "objects")
    if len(set(profile.objects)) < len(profile.objects):
        notes.fault(objects, ", ".join(profile.objects), "names an object twice", "name each object once")
    if "LABELMAP" in profile.objects:
        notes.warning(
            objects,
            ", ".join(profile.objects),
            "has LABELMAP, which many viewers and PACS refuse (Orthanc 1.10 among them)",
            "keep it where the destination is known to take it; SEG is understood more widely",
        )
    for key, wanted in _NEEDS.items():
        if getattr(profile, key) is not None and not set(wanted) & set(profile.objects):
            notes.fault(
                (*place, key),
                getattr(profile, key),
                f"says something about {' or '.join(wanted)}, and `objects` has none",
                f"remove it, or add {wanted[0]} to `objects`",
                objects,
            )
