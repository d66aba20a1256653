"""What no single key can be blamed for: values that contradict each other."""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import combinations

from config.document import Place, written
from config.draft import entries
from config.forwarding_rules import check_forwarding
from config.notes import Notes
from config.settings import Collector, Destination, Settings, Source
from config.web_access import check_web_access

_DAY = 86_400


def check_consistency(notes: Notes, settings: Settings, known_models: Collection[str] | None) -> None:
    """Compare the values with each other, and with the names of models where those are given."""
    sources = list(entries(notes.draft, ("dicom", "sources"), settings.dicom.sources))
    destinations = list(entries(notes.draft, ("destinations",), settings.destinations))
    _sources(notes, settings, sources)
    _twice_the_same_source(notes, sources)
    _destinations(notes, settings, destinations)
    _collectors(notes, list(entries(notes.draft, ("audit", "collectors"), settings.audit.collectors)))
    check_forwarding(notes, settings)
    _limits(notes, settings)
    _retention(notes, settings)
    _verification(notes, settings)
    check_web_access(notes, settings)
    for index, name in enumerate(settings.analysis.models):
        _known(notes, ("analysis", "models", index), name, known_models, "model")
    if settings.analysis.image_model not in ("auto", "none"):
        _known(notes, ("analysis", "image_model"), settings.analysis.image_model, known_models, "model")
    if len(set(settings.analysis.models)) < len(settings.analysis.models):
        names = settings.analysis.models
        notes.fault(("analysis", "models"), names, "names a model twice", "name each model once")


def _known(notes: Notes, place: Place, name: str, known: Collection[str] | None, kind: str) -> None:
    if known is not None and name not in known:
        names = ", ".join(sorted(known)) or f"there is no {kind} yet"
        notes.fault(place, name, f"is no {kind} that this installation has", f"give one of: {names}")


def _sources(notes: Notes, settings: Settings, sources: Sequence[tuple[Place, Source]]) -> None:
    tls = settings.dicom.tls
    for place, source in sources:
        if source.certificate_subject is not None:
            subject: Place = (*place, "certificate_subject")
            if tls is None:
                notes.fault(
                    subject,
                    source.certificate_subject,
                    "can never match: without TLS no source shows a certificate",
                    "set `dicom.tls` with our certificate and `authorities`, or remove the subject",
                    ("dicom", "tls"),
                )
            elif tls.authorities is None:
                notes.fault(
                    subject,
                    source.certificate_subject,
                    "can never match: without authorities no client certificate is asked for",
                    "name the authorities' file in `dicom.tls.authorities`",
                    ("dicom", "tls", "authorities"),
                )
        for index, text in enumerate(source.addresses):
            _address(notes, (*place, "addresses", index), text)
    if tls is not None and tls.require_client_certificate and tls.authorities is None:
        notes.fault(
            ("dicom", "tls", "authorities"),
            None,
            "is missing: `require_client_certificate` is on, and nothing says whose certificates are good",
            "name the authorities' file, or set `require_client_certificate: false`",
            ("dicom", "tls", "require_client_certificate"),
        )


def _address(notes: Notes, place: Place, text: str) -> None:
    network = ip_network(text, strict=False)
    if network.prefixlen == 0:
        remedy = "name the addresses or networks of the source"
        notes.warning(place, text, "admits every address there is", remedy)
    elif str(ip_address(text.split("/")[0])) != str(network.network_address):
        remedy = f"write {network} if the network is meant, or the address alone"
        notes.warning(place, text, f"means the whole network {network}", remedy)


def _twice_the_same_source(notes: Notes, sources: Sequence[tuple[Place, Source]]) -> None:
    for (place, source), (other_place, other) in combinations(sources, 2):
        if source.ae_title != other.ae_title or not _overlap(source, other):
            continue
        first = written(place)
        same = (source.certificate_subject, source.priority) == (other.certificate_subject, other.priority)
        if same:
            notes.warning(
                other_place, other.ae_title, f"admits addresses that {first} admits already", "keep one of them", place
            )
        else:
            notes.fault(
                other_place,
                other.ae_title,
                f"contradicts {first}: same AE title, overlapping addresses, another subject or priority",
                "give each address to one of them",
                place,
                (*place, "addresses"),
                (*other_place, "addresses"),
            )


def _overlap(one: Source, other: Source) -> bool:
    return any(_share(a, b) for a in _networks(one) for b in _networks(other))


def _networks(source: Source) -> list[IPv4Network | IPv6Network]:
    return [ip_network(text, strict=False) for text in source.addresses]


def _share(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _destinations(notes: Notes, settings: Settings, destinations: Sequence[tuple[Place, Destination]]) -> None:
    for (place, one), (other_place, other) in combinations(destinations, 2):
        if one.name == other.name:
            problem = f"is the name of {written(place)} too"
            notes.fault((*other_place, "name"), other.name, problem, "give each destination its own name")
        elif (one.ae_title, one.host.lower(), one.port) == (other.ae_title, other.host.lower(), other.port):
            problem = f"is the same station as {written(place)}: each evidence object goes there twice"
            notes.warning(other_place, f"{other.host}:{other.port}", problem, "keep one of them")
    for place, destination in destinations:
        if destination.backoff > destination.backoff_limit:
            notes.fault(
                (*place, "backoff"),
                destination.backoff,
                f"is above backoff_limit ({destination.backoff_limit:g} s)",
                "raise `backoff_limit`, or lower `backoff`",
                (*place, "backoff_limit"),
            )
        if destination.ae_title == settings.dicom.ae_title:
            notes.warning(
                (*place, "ae_title"),
                destination.ae_title,
                "is our own AE title too",
                "give the PACS and Scanwarden different AE titles, or their logs cannot be told apart",
                ("dicom", "ae_title"),
            )


def _limits(notes: Notes, settings: Settings) -> None:
    for section, unit in (("store", "of the disk"), ("queues", "revisions")):
        low, high = getattr(settings, section).low_watermark, getattr(settings, section).high_watermark
        if low >= high:
            notes.fault(
                (section, "low_watermark"),
                low,
                f"is not below high_watermark ({high:g} {unit}): what was refused would never be accepted again",
                f"give a value below {high:g}",
                (section, "high_watermark"),
            )
    revisions = settings.revisions
    if revisions.hard_limit < revisions.quiet_period:
        notes.fault(
            ("revisions", "hard_limit"),
            revisions.hard_limit,
            f"is below quiet_period ({revisions.quiet_period:g} s): every revision would close on the limit",
            f"give {revisions.quiet_period:g} or more",
            ("revisions", "quiet_period"),
        )
    dicom = settings.dicom
    if dicom.max_associations_per_source > dicom.max_associations:
        notes.warning(
            ("dicom", "max_associations_per_source"),
            dicom.max_associations_per_source,
            f"is above max_associations ({dicom.max_associations}): one source can take them all",
            f"give {max(1, dicom.max_associations // 2)} or fewer",
            ("dicom", "max_associations"),
        )


def _retention(notes: Notes, settings: Settings) -> None:
    """What is deleted before it is analysed and delivered is lost."""
    for name, age in (("instances", settings.retention.instances), ("evidence", settings.retention.evidence)):
        if age is None:
            continue
        needed = settings.revisions.hard_limit + settings.analysis.time_limit
        place: Place = ("retention", name)
        if name == "instances" and age.total_seconds() <= needed:
            notes.fault(
                place,
                str(age),
                f"is no longer than a revision may stay open and be analysed ({needed:g} s)",
                "give a longer age, such as 90d",
                ("revisions", "hard_limit"),
                ("analysis", "time_limit"),
            )
        elif age.total_seconds() < _DAY:
            notes.warning(place, str(age), "is under a day: a weekend's fault would find nothing", "give days: 90d")


def _verification(notes: Notes, settings: Settings) -> None:
    chosen = settings.verification
    archive = chosen.archive
    if (chosen.move_port is None) != (chosen.move_ae_title is None):
        absent = "move_port" if chosen.move_port is None else "move_ae_title"
        notes.fault(
            ("verification", absent),
            None,
            "is missing: C-MOVE needs an AE title and a port",
            "give both, or neither",
            ("verification", "move_ae_title"),
        )
    elif chosen.move_port == settings.dicom.port or chosen.move_ae_title == settings.dicom.ae_title:
        notes.fault(
            ("verification", "move_port"),
            chosen.move_port,
            "is where we receive studies: what is verified would be taken for new",
            "give C-MOVE a port and an AE title of its own",
            ("dicom", "port"),
            ("dicom", "ae_title"),
        )
    names = [destination.name for destination in settings.destinations]
    if archive is not None and archive not in names:
        notes.fault(
            ("verification", "archive"),
            archive,
            "is the name of no destination",
            f"give one of: {', '.join(names)}" if names else "add the archive to `destinations`, or leave this out",
            ("destinations",),
        )


def _collectors(notes: Notes, collectors: Sequence[tuple[Place, Collector]]) -> None:
    for place, collector in collectors:
        if collector.transport == "tls" and collector.tls is None:
            notes.fault(
                (*place, "tls"),
                None,
                "is missing: a collector over TLS wants our certificate",
                "give `certificate`, `private_key` and `authorities`, or choose `transport: tcp` knowingly",
                (*place, "transport"),
            )
        if collector.transport != "tls":
            notes.warning(
                (*place, "transport"),
                collector.transport,
                "sends the audit trail so that anybody on the way can read, drop and forge it",
                "use `transport: tls`",
            )
            if collector.confirmation == "close-notify":
                notes.fault(
                    (*place, "confirmation"),
                    collector.confirmation,
                    "is TLS's word, and this collector is not spoken to over TLS",
                    "use `confirmation: close`",
                    (*place, "transport"),
                )
    for (_, one), (place, other) in combinations(collectors, 2):
        if one.name == other.name:
            notes.fault(
                (*place, "name"),
                other.name,
                "names two collectors: what one of them confirmed would pass for the other's",
                "give each collector a name of its own",
            )
