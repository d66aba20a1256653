"""Signatures, the object store, alerts and access: what contradicts itself, and what is noticed when it is too late."""

from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit

from config.certificates import certificates_of, check_signing_pair, others_may_read, read_file
from config.document import Place
from config.draft import entries
from config.notes import Notes
from config.settings import S3, Settings

SHORTEST_SECRET = 32


def check_security(notes: Notes, settings: Settings) -> None:
    """Check `signatures`, `audit.s3`, `alerts` and `access`, and what sources say about signatures and trust."""
    _sources(notes, settings)
    if settings.signatures.authorities is not None:
        certificates_of(notes, ("signatures", "authorities"), settings.signatures.authorities)
    if settings.signatures.ours is not None:
        ours = settings.signatures.ours
        check_signing_pair(notes, ("signatures", "ours"), ours.certificate, ours.private_key)
    if settings.audit.s3 is not None:
        _object_store(notes, settings.audit.s3)
    if settings.alerts.url is not None:
        _alerts(notes, settings, settings.alerts.url)
    for place, person in entries(notes.draft, ("access", "people"), settings.access.people):
        if (person.user is None) == (person.group is None):
            notes.fault(
                place, person.role, "names a user and a group, or neither", "give either `user` or `group`", place
            )
    if settings.access.people and all(person.role != "administrator" for person in settings.access.people):
        notes.warning(
            ("access", "people"),
            len(settings.access.people),
            "names no administrator: nobody may use the commands that change something",
            "give somebody the role administrator",
        )


def _sources(notes: Notes, settings: Settings) -> None:
    for place, source in entries(notes.draft, ("dicom", "sources"), settings.dicom.sources):
        if source.require_signature and settings.signatures.authorities is None:
            notes.fault(
                (*place, "require_signature"),
                True,
                "can never be met: no authority is named, so no signature is sound",
                "name the authorities' file in `signatures.authorities`",
                ("signatures", "authorities"),
            )
        if source.trusted and source.certificate_subject is None:
            notes.fault(
                (*place, "trusted"),
                True,
                "trusts whoever uses this AE title and address: nothing proves that it is the source",
                "set `dicom.tls` with `authorities`, and this source's `certificate_subject`",
                (*place, "certificate_subject"),
            )


def _object_store(notes: Notes, store: S3) -> None:
    if find_spec("boto3") is None:
        notes.fault(
            ("audit", "s3"),
            store.bucket,
            "needs boto3, which is not installed",
            "install the extra: pip install 'scanwarden[s3]'; see docs/ledger.md",
        )
    parts = urlsplit(store.endpoint_url or "")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        notes.fault(
            ("audit", "s3", "endpoint_url"),
            store.endpoint_url,
            "reaches the store without TLS: anybody on the way can answer in its place",
            "give an https:// address; http:// is for a store on this machine",
        )


def _alerts(notes: Notes, settings: Settings, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        notes.fault(
            ("alerts", "url"),
            url,
            "sends alerts over the network without TLS",
            "give an https:// address; http:// is for a receiver on this machine",
        )
    if settings.alerts.authorities is not None:
        certificates_of(notes, ("alerts", "authorities"), settings.alerts.authorities)
    place: Place = ("alerts", "secret_file")
    path = settings.alerts.secret_file
    if path is None:
        remedy = "make one (openssl rand -hex 32 > FILE), share it with the receiver, and name the file"
        notes.fault(place, None, "is missing: the receiver could not tell our alerts from forged ones", remedy)
        return
    content = read_file(notes, place, path)
    if content is None:
        return
    if len(content.strip()) < SHORTEST_SECRET:
        notes.fault(
            place, str(path), f"holds fewer than {SHORTEST_SECRET} bytes", "make a longer one: openssl rand -hex 32"
        )
    if others_may_read(path):
        notes.fault(place, str(path), "may be read by every user of this machine", f"run: chmod 600 {path}")


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
