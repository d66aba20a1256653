"""Whether the HTTP port lets in whom it should: contradictions between its address, its logins and its senders."""

from collections.abc import Sequence
from pathlib import Path

from config.certificates import check_certificates, others_may_read, read_file
from config.document import Place
from config.draft import entries
from config.notes import Notes
from config.settings import Settings
from config.web import StowSource

SHORTEST_TOKEN = 16


def check_web_access(notes: Notes, settings: Settings) -> None:
    """Compare the values of `web` with each other and with those of `dicom`."""
    web = settings.web
    if not web.on_this_machine and not web.asks_who_calls:
        notes.fault(
            ("web", "host"),
            web.host,
            "opens health and metrics to the network, and nobody is asked who they are",
            "name a file with a token in `web.token_file`, ask for certificates with `web.tls`, or use 127.0.0.1",
            ("web", "token_file"),
            ("web", "tls"),
        )
    if web.tls is None and not web.on_this_machine and (web.token_file is not None or web.stow):
        notes.warning(
            ("web", "tls"),
            None,
            "is missing: tokens and studies cross the network in clear",
            "give `certificate` and `private_key`, or put a proxy with TLS before it and listen on 127.0.0.1",
            ("web", "host"),
        )
    if web.tls is not None and web.tls.require_client_certificate and web.tls.authorities is None:
        notes.fault(
            ("web", "tls", "authorities"),
            None,
            "is missing: `require_client_certificate` is on, and nothing says whose certificates are good",
            "name the authorities' file, or set `require_client_certificate: false`",
            ("web", "tls", "require_client_certificate"),
        )
    if web.port == settings.dicom.port:
        notes.fault(("web", "port"), web.port, "is the DICOM port", "give it one of its own", ("dicom", "port"))
    sources = list(entries(notes.draft, ("web", "stow_sources"), web.stow_sources))
    if sources and not web.stow:
        notes.warning(
            ("web", "stow_sources"), None, "is not used: `web.stow` is off", "set `web.stow: true`", ("web", "stow")
        )
    _senders(notes, settings, sources)


def check_web_surroundings(notes: Notes, settings: Settings) -> None:
    """Look at the files that `web` names."""
    if settings.web.tls is not None:
        check_certificates(notes, ("web", "tls"), settings.web.tls)
    _token(notes, ("web", "token_file"), settings.web.token_file)
    for place, source in entries(notes.draft, ("web", "stow_sources"), settings.web.stow_sources):
        _token(notes, (*place, "token_file"), source.token_file)


def _senders(notes: Notes, settings: Settings, sources: Sequence[tuple[Place, StowSource]]) -> None:
    tls = settings.web.tls
    trusted = {each.ae_title: each.certificate_subject for each in settings.dicom.sources if each.trusted}
    for place, source in sources:
        if source.token_file is None and source.certificate_subject is None and not source.on_this_machine:
            notes.fault(
                (*place, "addresses"),
                list(source.addresses),
                "lets in whoever calls from there: an address proves nothing",
                "give the sender a token in `token_file`, or name its `certificate_subject`",
                (*place, "token_file"),
                (*place, "certificate_subject"),
            )
        if source.certificate_subject is not None and (tls is None or tls.authorities is None):
            notes.fault(
                (*place, "certificate_subject"),
                source.certificate_subject,
                "can never match: no client certificate is asked for",
                "set `web.tls` with our certificate and `authorities`",
                ("web", "tls"),
            )
        if source.ae_title in trusted and trusted[source.ae_title] != source.certificate_subject:
            notes.fault(
                (*place, "ae_title"),
                source.ae_title,
                "is the name of a trusted source in `dicom.sources`, whose certificate this one does not show",
                "give it another `ae_title`, or the same `certificate_subject`",
                ("dicom", "sources"),
            )


def _token(notes: Notes, place: Place, path: Path | None) -> None:
    content = read_file(notes, place, path) if path is not None else None
    if path is None or content is None:
        return
    if len(content.strip()) < SHORTEST_TOKEN:
        remedy = "write a long one: openssl rand -hex 32"
        notes.fault(place, None, f"holds a token of fewer than {SHORTEST_TOKEN} characters", remedy)
    if others_may_read(path):
        notes.warning(place, None, "names a file that every user of this machine may read", f"run: chmod 600 {path}")
