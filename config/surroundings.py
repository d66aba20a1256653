"""What the settings point to on this machine: folders, files, the database's URL, ports, and our own address."""

import os
import re
import shutil
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from config.certificates import check_certificates, others_may_read, read_file
from config.document import Place
from config.draft import entries
from config.faults import url_has_password
from config.notes import Notes
from config.settings import Destination, Settings
from config.web_access import check_web_surroundings

_CAP_NET_BIND_SERVICE = 10
_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg")


def check_surroundings(notes: Notes, settings: Settings, in_file: frozenset[Place]) -> None:
    """Look at what the settings name; `in_file` are the places whose value stands in the file."""
    if settings.dicom.tls is not None:
        check_certificates(notes, ("dicom", "tls"), settings.dicom.tls)
    for place, destination in entries(notes.draft, ("destinations",), settings.destinations):
        _loop(notes, settings, place, destination)
        if destination.tls is not None:
            check_certificates(notes, (*place, "tls"), destination.tls)
    for place, collector in entries(notes.draft, ("audit", "collectors"), settings.audit.collectors):
        if collector.tls is not None:
            check_certificates(notes, (*place, "tls"), collector.tls)
    check_web_surroundings(notes, settings)
    _port(notes, settings.dicom.port)
    _listening(notes, settings.dicom.host)
    _store(notes, settings)
    _database(notes, settings, ("database", "url") in in_file)


def _loop(notes: Notes, settings: Settings, place: Place, destination: Destination) -> None:
    if destination.port == settings.dicom.port and _is_us(destination.host, settings.dicom.host):
        notes.fault(
            place,
            f"{destination.host}:{destination.port}",
            "is the address that we listen on ourselves: every evidence object would come back",
            "give the host and port of the PACS, or another `dicom.port`",
            ("dicom", "port"),
            ("dicom", "host"),
        )


def _is_us(host: str, listening: str) -> bool:
    names = {"localhost", "ip6-localhost", socket.gethostname().lower()}
    if listening in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return host.lower() in names or _belongs_to_this_machine(host)
    same = {listening.lower()}
    if same & {"localhost", "127.0.0.1", "::1"}:
        same |= {"localhost", "127.0.0.1", "::1"}
    return host.lower() in same


def _belongs_to_this_machine(host: str) -> bool:
    """By binding a socket: the kernel knows its addresses, and nothing goes out to the network."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if address.is_unspecified or address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return True
    return False


def _listening(notes: Notes, host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        return
    if not _belongs_to_this_machine(host):
        notes.warning(
            ("dicom", "host"),
            host,
            "is no address of this machine",
            "give one of this machine's addresses, or 0.0.0.0 for all of them",
        )


def _port(notes: Notes, port: int) -> None:
    if port >= _first_free_port() or os.geteuid() == 0 or _may_bind_low_ports():
        return
    notes.warning(
        ("dicom", "port"),
        port,
        "needs a privilege on this machine that this user lacks",
        "give the service CAP_NET_BIND_SERVICE, or choose a port from 1024 on",
    )


def _first_free_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024


def _may_bind_low_ports() -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return False
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_NET_BIND_SERVICE & 1)


def _store(notes: Notes, settings: Settings) -> None:
    place: Place = ("store", "root")
    root = settings.store.root
    folder = _writable_folder(notes, place, root, root)
    if folder is None:
        return
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return
    used = disk.used / max(1, disk.used + disk.free)
    if used > settings.store.high_watermark:
        notes.warning(
            ("store", "high_watermark"),
            settings.store.high_watermark,
            f"the disk of {root} is {used:.0%} full already: every instance would be refused",
            "free some space, or put `store.root` on a larger disk",
            place,
        )


def _writable_folder(notes: Notes, place: Place, value: Path, folder: Path) -> Path | None:
    """The nearest folder above that exists; None with a fault when nothing can be written there."""
    try:
        existing = folder.absolute()
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            notes.fault(place, str(value), f"{existing} is a file", "name a folder")
        elif not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
            remedy = f"give {existing} to the service's user, or name another folder"
            notes.fault(place, str(value), f"this user may not write in {existing}", remedy)
        else:
            return existing
    except PermissionError:
        remedy = "give the folder to the service's user, or name another one"
        notes.fault(place, str(value), "this user may not enter a folder above it", remedy)
    except (OSError, ValueError):
        notes.fault(place, str(value), "is no path that can exist", "name a folder")
    return None


def _database(notes: Notes, settings: Settings, url_in_file: bool) -> None:
    place: Place = ("database", "url")
    url = settings.database.url.get_secret_value() if settings.database.url else None
    if url is not None:
        if url_in_file and url_has_password(url):
            notes.fault(
                place,
                url,
                "has a password in it, and the file is no place for secrets",
                "take it out and name a file with it in `database.password_file`, or set the whole URL in "
                "SCANWARDEN_DATABASE__URL",
            )
        _url(notes, place, url)
    if settings.database.password_file is not None:
        _password_file(notes, settings.database.password_file, url)


def _url(notes: Notes, place: Place, url: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    examples = "give sqlite:////var/lib/scanwarden/index.sqlite or postgresql://scanwarden@host/scanwarden"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        notes.fault(place, url, "is no database URL", examples)
        return
    if parsed.drivername == "postgres":
        notes.fault(place, url, "its scheme has another name", "write postgresql:// in place of postgres://")
    elif parsed.drivername not in _SCHEMES:
        notes.fault(place, url, "names a database that Scanwarden does not know", examples)
    elif parsed.drivername == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            problem = "keeps the database in memory, where no other role and no restart finds it"
            notes.fault(place, url, problem, "give a file, or leave the URL out: it then lies under `store.root`")
        else:
            file = Path(str(parsed.database))
            if _writable_folder(notes, place, Path(url), file.parent) is not None and file.is_dir():
                notes.fault(place, url, "is a folder", "name the file in it")
    elif not parsed.database:
        notes.fault(place, url, "names no database", "add its name: postgresql://scanwarden@host/scanwarden")


def _password_file(notes: Notes, path: Path, url: str | None) -> None:
    place: Place = ("database", "password_file")
    if url is None or url.startswith("sqlite"):
        notes.warning(place, None, "is not used: SQLite has no password", "remove it", ("database", "url"))
        return
    if url_has_password(url):
        problem = "gives a second password: the URL has one already"
        notes.fault(place, None, problem, "keep one of them", ("database", "url"))
    content = read_file(notes, place, path)
    if content is None:
        return
    if not content.strip():
        notes.fault(place, None, "names an empty file", "write the password into it")
    if others_may_read(path):
        notes.warning(place, None, "names a file that every user of this machine may read", f"run: chmod 600 {path}")
