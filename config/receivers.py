"""What those that we send to need: archives over the web, commitment, and the receivers of notices."""

from pathlib import Path
from urllib.parse import urlsplit

from config.certificates import certificates_of, others_may_read, read_file
from config.document import Place
from config.draft import entries
from config.notes import Notes
from config.security import SHORTEST_SECRET, is_loopback
from config.settings import Destination, Settings


def check_receivers(notes: Notes, settings: Settings) -> None:
    """Check what `destinations` say about DICOMweb and commitment, and `notification`."""
    own = {profile.name: profile.transport for profile in settings.profiles}
    for place, destination in entries(notes.draft, ("destinations",), settings.destinations):
        _destination(notes, place, destination, destination.transport or own.get(destination.profile))
    over_the_web = {
        each.name for each in settings.destinations if each.ae_title == Destination.WEB_AE_TITLE and each.dicomweb
    }
    for place, route in entries(notes.draft, ("forwarding", "routes"), settings.forwarding.routes):
        if route.destination in over_the_web:
            notes.fault(
                (*place, "destination"),
                route.destination,
                "has no AE title: what is passed on goes by C-STORE",
                "give the destination `ae_title`, `host` and `port` of its DICOM service",
                ("destinations",),
            )
    notification = settings.notification
    if notification.webhook is not None:
        _webhook(notes, settings)
    if notification.hl7 is not None:
        _hl7(notes, settings)
    if notification.email is not None:
        _email(notes, settings)
    if notification.backoff > notification.backoff_limit:
        notes.fault(
            ("notification", "backoff"),
            notification.backoff,
            f"is above backoff_limit ({notification.backoff_limit:g} s)",
            "raise `backoff_limit`, or lower `backoff`",
            ("notification", "backoff_limit"),
        )


def _destination(notes: Notes, place: Place, destination: Destination, transport: str | None) -> None:
    if destination.dicomweb is None:
        if transport == "stow":
            notes.fault(
                (*place, "dicomweb"),
                None,
                "is missing: STOW-RS needs the root of the archive's DICOMweb services",
                "give `dicomweb: https://…`, or `transport: dimse`",
                (*place, "transport"),
            )
        return
    if transport != "stow":
        notes.warning(
            (*place, "dicomweb"),
            destination.dicomweb,
            "is not used: evidence goes by C-STORE",
            "give `transport: stow`, or remove it",
            (*place, "transport"),
        )
    parts = urlsplit(destination.dicomweb)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        notes.warning(
            (*place, "dicomweb"),
            destination.dicomweb,
            "sends patients' data, and the authorization, so that anybody on the way can read them",
            "give an https:// address",
        )
    if destination.authorization_file is not None:
        _secret(notes, (*place, "authorization_file"), destination.authorization_file)
    if destination.commitment and destination.ae_title == Destination.WEB_AE_TITLE:
        notes.fault(
            (*place, "commitment"),
            True,
            "is asked for over DIMSE, and this destination has no AE title",
            "give `ae_title`, `host` and `port` of its DICOM service, or leave commitment out",
            (*place, "ae_title"),
        )


def _webhook(notes: Notes, settings: Settings) -> None:
    webhook = settings.notification.webhook
    assert webhook is not None  # noqa: S101
    place: Place = ("notification", "webhook")
    parts = urlsplit(webhook.url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        remedy = "give an https:// address; http:// is for a receiver on this machine"
        notes.fault((*place, "url"), webhook.url, "sends notices over the network without TLS", remedy)
    if webhook.authorities is not None:
        certificates_of(notes, (*place, "authorities"), webhook.authorities)
    content = _secret(notes, (*place, "secret_file"), webhook.secret_file)
    if content is not None and len(content.strip()) < SHORTEST_SECRET:
        notes.fault(
            (*place, "secret_file"),
            str(webhook.secret_file),
            f"holds fewer than {SHORTEST_SECRET} bytes",
            "make a longer one: openssl rand -hex 32",
        )


def _hl7(notes: Notes, settings: Settings) -> None:
    hl7 = settings.notification.hl7
    assert hl7 is not None  # noqa: S101
    if hl7.authorities is not None:
        certificates_of(notes, ("notification", "hl7", "authorities"), hl7.authorities)
    if hl7.include_patient and not hl7.tls and not is_loopback(hl7.host):
        notes.warning(
            ("notification", "hl7", "include_patient"),
            True,
            "sends patients' data so that anybody on the way can read them",
            "set `tls: true`",
            ("notification", "hl7", "tls"),
        )


def _email(notes: Notes, settings: Settings) -> None:
    email = settings.notification.email
    assert email is not None  # noqa: S101
    place: Place = ("notification", "email")
    if email.authorities is not None:
        certificates_of(notes, (*place, "authorities"), email.authorities)
    if (email.user is None) != (email.password_file is None):
        absent = "user" if email.user is None else "password_file"
        notes.fault(
            (*place, absent), None, "is missing: a login needs both", "give `user` and `password_file`, or neither"
        )
    if email.password_file is not None:
        _secret(notes, (*place, "password_file"), email.password_file)
    if not email.starttls and not is_loopback(email.host):
        what = "the password" if email.user is not None else "the mails"
        notes.warning((*place, "starttls"), False, f"shows {what} to anybody on the way", "set `starttls: true`")
    if email.include_patient:
        notes.warning(
            (*place, "include_patient"),
            True,
            "puts patients' data into mails, which others keep and pass on",
            "leave it out: the accession number can be looked up with `scanwarden study`",
        )
    for index, address in enumerate(email.recipients):
        if address.count("@") != 1 or any(each in address for each in " \r\n<>"):
            notes.fault((*place, "recipients", index), address, "is no mail address", "write name@host.example")


def _secret(notes: Notes, place: Place, path: Path) -> bytes | None:
    content = read_file(notes, place, path)
    if content is not None and others_may_read(path):
        notes.fault(place, str(path), "may be read by every user of this machine", f"run: chmod 600 {path}")
    return content
