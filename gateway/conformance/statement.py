"""The statement as one text: the template, and a function for each table or list that it names."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydicom.datadict import dictionary_description, tag_for_keyword
from pynetdicom._globals import DEFAULT_MAX_LENGTH

from config.keys import all_keys
from config.reference import default_of
from gateway.conformance import associations, objects, statuses, vocabulary
from gateway.conformance.markdown import code, table
from gateway.conformance.registry import classes_by_group, name_of, syntaxes_by_group
from gateway.dicom import conduit, contexts, dimse, part10, query, tls
from gateway.results import EvidenceKind, codes
from gateway.results.imprint import software_version
from gateway.results.profiles import PROFILES
from gateway.web import stow_parts
from storage.audit import coding
from storage.audit.events import AuditEventType


def statement() -> str:
    """The whole text of docs/conformance.md."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown of our own tables, not a page for a browser
    )
    environment.globals.update(_TABLES)
    return environment.get_template("statement.md.j2").render(
        version=software_version(),
        class_uid=part10.IMPLEMENTATION_CLASS_UID,
        version_name=part10.IMPLEMENTATION_VERSION_NAME,
        storage_classes=len(contexts.STORAGE_CLASSES),
        transfer_syntaxes=len(contexts.TRANSFER_SYNTAXES),
        scheme=codes.SCHEME,
        scheme_name=codes.SCHEME_NAME,
        max_contexts=contexts.MAX_CONTEXTS,
        most_waiting=dimse.MAX_WAITING,
        conduit=conduit,
        most_parts=stow_parts.MOST_PARTS,
        suites=tls.TLS12_SUITES,
        our_pdu=DEFAULT_MAX_LENGTH,
    )


def _content() -> str:
    """Objects of ours, and of others (N.1.1)."""
    return table(
        ("Object", "SOP class", "Created", "Received and stored", "Sent"),
        [
            *((code(kind), _named(uid), "Y", "Y", "Y") for kind, uid in objects.SOP_CLASSES.items()),
            ("anything else", f"{len(contexts.STORAGE_CLASSES)} storage SOP classes, section 7.2.1.4", "N", "Y", "Y"),
        ],
    )


def _classes() -> str:
    """Every storage SOP class, group by group (N.7.2)."""
    groups = classes_by_group(contexts.STORAGE_CLASSES).items()
    return "\n\n".join(
        f"**{title}**\n\n" + table(("SOP class", "UID"), ((name_of(uid), code(uid)) for uid in uids))
        for title, uids in groups
    )


def _syntaxes() -> str:
    """Every transfer syntax, with its group (N.7.2)."""
    return table(
        ("Group", "Transfer syntax", "UID"),
        (
            (title, name_of(uid), code(uid))
            for title, uids in syntaxes_by_group(contexts.TRANSFER_SYNTAXES).items()
            for uid in uids
        ),
    )


def _contexts(found: Iterable[associations.Context]) -> str:
    return table(
        ("Activity", "Abstract syntax", "Transfer syntaxes", "Our role", "Extended negotiation"),
        (
            (
                each.activity,
                _named(each.abstract_syntax),
                "<br>".join(_named(uid) for uid in each.syntaxes),
                each.role,
                each.negotiation,
            )
            for each in found
        ),
    )


def _evidence() -> str:
    """How each kind of evidence object leaves (N.7.2)."""
    rows = []
    for kind in EvidenceKind:
        uid, used, may = associations.evidence(kind)
        others = [each for each in may if each not in used]
        rows.append((code(kind), _named(uid), _list(used) or "in none of them", _list(others)))
    return table(("Object", "SOP class", "In the profiles that come along", "Where a profile asks for it"), rows)


def _profiles() -> str:
    """What each profile that comes along gets (N.5)."""
    return table(
        ("Profile", "Objects", "Transport"),
        (
            (code(each.name), ", ".join(code(kind) for kind in EvidenceKind if kind in each.objects), each.transport)
            for each in PROFILES.values()
        ),
    )


def _attributes(found: Iterable[objects.Attribute]) -> str:
    return table(
        ("Module", "Attribute", "Tag", "Presence", "Source", "Value"),
        ((each.module, each.name, each.tag, each.presence, each.source, each.note) for each in found),
    )


def _objects() -> str:
    """The attributes of each kind of object beside those that all have; kinds that are alike stand together (A.A)."""
    alike: dict[tuple[objects.Attribute, ...], list[EvidenceKind]] = defaultdict(list)
    for kind in EvidenceKind:
        alike[tuple(objects.own(kind))].append(kind)
    parts = []
    for number, (found, kinds) in enumerate(alike.items(), start=2):
        heads = ((code(kind), _named(objects.SOP_CLASSES[kind]), objects.MODALITIES[kind]) for kind in kinds)
        head = table(("Object", "SOP class", "Modality"), heads)
        parts.append(f"### A.A.{number} {', '.join(kinds)}\n\n{head}\n\n{_attributes(found)}")
    return "\n\n".join(parts)


def _templates() -> str:
    return table(
        ("Object", "SOP class", "Root template"),
        ((code(kind), _named(objects.SOP_CLASSES[kind]), said) for kind, said in objects.TEMPLATES.items()),
    )


def _queries() -> str:
    """The keys of our queries, from what is asked (N.5)."""
    return table(
        ("Request", "Level", "One value", "Asked back"),
        (
            ("C-FIND", "STUDY", "one of Study Instance UID, Accession Number, Patient ID", _keywords(query.STUDY_KEYS)),
            ("C-FIND", "SERIES", "Study Instance UID", _keywords(query.SERIES_KEYS)),
            (
                "C-FIND",
                "IMAGE",
                "Study Instance UID, Series Instance UID",
                _keywords(("SOPInstanceUID", "SOPClassUID")),
            ),
            ("C-GET, C-MOVE", "STUDY", "Study Instance UID", ""),
            ("C-GET, C-MOVE", "SERIES", "Study Instance UID, Series Instance UID", ""),
        ),
    )


def _keywords(names: Iterable[str]) -> str:
    return ", ".join(dictionary_description(tag_for_keyword(name) or 0) for name in names)


def _audit() -> str:
    """The EventIDs of our audit messages; the events themselves stand in docs/audit-messages.md (A.C)."""
    return ", ".join(
        f"{each} {coding.EVENT_NAMES[each]}" for each in sorted({event.event_id for event in AuditEventType})
    )


def _settings(*names: str) -> str:
    """The keys with these names, as docs/configuration.md has them."""
    known = {key.name: key for key in all_keys().values()}
    return table(
        ("Setting", "Default", "What it is for"),
        ((code(name), default_of(known[name]), known[name].description) for name in names),
    )


def _default(name: str) -> str:
    return next(default_of(key) for key in all_keys().values() if key.name == name)


def _codes(private: bool) -> str:
    found = vocabulary.private_codes() if private else vocabulary.standard_codes()
    return table(
        ("Scheme", "Value", "Meaning"), ((each.scheme_designator, code(each.value), each.meaning) for each in found)
    )


def _named(uid: str) -> str:
    return f"{name_of(uid)} `{uid}`"


def _list(uids: Iterable[str]) -> str:
    return "<br>".join(_named(uid) for uid in uids)


_TABLES: Mapping[str, Callable[..., str]] = {
    "content_table": _content,
    "class_tables": _classes,
    "syntax_table": _syntaxes,
    "accepted_table": lambda: _contexts(associations.accepted()),
    "proposed_table": lambda: _contexts(associations.proposed()),
    "fetched_list": lambda: ", ".join(name_of(uid) for uid in associations.fetched()),
    "evidence_table": _evidence,
    "profile_table": _profiles,
    "shared_table": lambda: _attributes(objects.shared()),
    "object_tables": _objects,
    "template_table": _templates,
    "query_table": _queries,
    "audit_events": _audit,
    "settings_table": _settings,
    "default": _default,
    "private_codes": lambda: _codes(private=True),
    "standard_codes": lambda: _codes(private=False),
    "store_table": lambda: table(("Status", "Reason", "Meaning"), statuses.store_rows()),
    "retrieved_table": lambda: table(("Status", "Meaning"), statuses.retrieved_rows()),
    "rejection_table": lambda: table(
        ("Result", "Source", "Reason", "In our ledger", "Meaning"), statuses.rejection_rows()
    ),
    "commitment_table": lambda: table(("Status", "Name", "Meaning"), statuses.commitment_rows()),
    "failure_table": lambda: table(("Failure Reason", "Name", "Meaning"), statuses.failure_rows()),
    "judged_table": lambda: table(("Status of the destination", "What we do"), statuses.judged_rows()),
}
