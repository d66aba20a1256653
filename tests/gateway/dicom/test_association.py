"""Who may associate: titles, addresses, certificates, limits; the right answer, an event, and room for the next."""

import subprocess
from collections.abc import Callable

import pytest

from config.settings import Dicom
from gateway.dicom.association import (
    Admission,
    AssociationRejected,
    CalledTitleUnknown,
    Caller,
    CallerUnknown,
    Congested,
    LimitExceeded,
)
from tests.gateway.dicom.conftest import Gateway, Modality, Start, eventually, mr_image

CT = {"ae_title": "CT1", "addresses": ["192.0.2.0/24", "2001:db8::/32"]}


def caller(
    address: str = "192.0.2.7", calling: str = "CT1", called: str = "SCANWARDEN", subject: str | None = None
) -> Caller:
    return Caller(address, calling, called, subject)


def admission(**dicom: object) -> Admission:
    return Admission(Dicom.model_validate({"sources": [CT], **dicom}))


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.9", "2001:db8::1"])
def test_a_known_source_from_its_address_is_admitted(address: str) -> None:
    ticket = admission().admit(caller(address))
    assert ticket.source is not None
    assert ticket.source.ae_title == "CT1"


def test_padding_of_titles_means_nothing() -> None:
    assert admission().admit(caller(calling="CT1  ", called=" SCANWARDEN ")).source is not None


@pytest.mark.parametrize(
    ("who", "error"),
    [
        (caller(called="OTHER"), CalledTitleUnknown),
        (caller(called="scanwarden"), CalledTitleUnknown),
        (caller(calling="CT2"), CallerUnknown),
        (caller(calling=""), CallerUnknown),
        (caller(address="198.51.100.1"), CallerUnknown),
        (caller(address="not an address"), CallerUnknown),
    ],
)
def test_a_stranger_is_rejected(who: Caller, error: type[AssociationRejected]) -> None:
    with pytest.raises(error):
        admission().admit(who)


def test_without_sources_only_this_machine_may_send() -> None:
    alone = admission(sources=[])
    assert alone.admit(caller("127.0.0.1", "ANYONE")).source is None
    assert alone.admit(caller("::1", "ANYONE")).source is None
    assert alone.admit(caller("::ffff:127.0.0.1", "ANYONE")).source is None
    with pytest.raises(CallerUnknown):
        alone.admit(caller("192.0.2.7", "ANYONE"))


def test_a_configured_certificate_is_asked_for() -> None:
    guarded = admission(sources=[{**CT, "certificate_subject": "ct1.example"}])
    assert guarded.admit(caller(subject="ct1.example")).source is not None
    for subject in (None, "ct2.example"):
        with pytest.raises(CallerUnknown):
            guarded.admit(caller(subject=subject))


def test_limits_count_by_address_and_in_total_and_places_come_back() -> None:
    limited = admission(max_associations=3, max_associations_per_source=2)
    first, second = limited.admit(caller("192.0.2.1")), limited.admit(caller("192.0.2.1"))
    with pytest.raises(LimitExceeded, match="per_source"):
        limited.admit(caller("192.0.2.1"))
    limited.admit(caller("192.0.2.2"))
    with pytest.raises(LimitExceeded, match="max_associations"):
        limited.admit(caller("192.0.2.3"))
    first.close()
    first.close()
    limited.admit(caller("192.0.2.3"))
    assert limited.open == 3
    second.close()
    assert limited.open == 2


def test_a_stranger_does_not_learn_how_busy_we_are() -> None:
    busy = Admission(Dicom.model_validate({"sources": [CT]}), congested=lambda: "full")
    with pytest.raises(CallerUnknown):
        busy.admit(caller(calling="CT2"))
    with pytest.raises(Congested):
        busy.admit(caller())


def echo(gateway: Gateway, program: Callable[[str], str], *arguments: str) -> str:
    result = subprocess.run(
        [program("/usr/bin/echoscu"), "-v", *arguments, "127.0.0.1", str(gateway.port)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return result.stdout + result.stderr


@pytest.mark.peers
@pytest.mark.parametrize(
    ("arguments", "said", "reason"),
    [
        (("-aet", "CT1", "-aec", "OTHER"), "Called AE Title Not Recognized", "called_ae_title"),
        (("-aet", "CT2", "-aec", "SCANWARDEN"), "Calling AE Title Not Recognized", "calling_ae_title"),
        (("-aet", "FAR", "-aec", "SCANWARDEN"), "Calling AE Title Not Recognized", "calling_ae_title"),
    ],
)
def test_a_rejected_peer_is_told_why_and_the_next_is_served(
    start: Start, program: Callable[[str], str], arguments: tuple[str, ...], said: str, reason: str
) -> None:
    gateway = start(sources=[{"ae_title": "CT1"}, {"ae_title": "FAR", "addresses": ["192.0.2.0/24"]}])
    heard = echo(gateway, program, *arguments)
    assert "Rejected Permanent" in heard
    assert said in heard
    (event,) = gateway.refused_associations()
    assert event["reason"] == reason
    assert event["actor"] == f"{arguments[1]}@127.0.0.1"
    assert "Received Echo Response (Success)" in echo(gateway, program, "-aet", "CT1", "-aec", "SCANWARDEN")


@pytest.mark.peers
def test_the_limit_is_told_as_transient_and_ends_with_an_association(
    start: Start, program: Callable[[str], str]
) -> None:
    gateway = start(max_associations=2)
    held = [Modality(gateway), Modality(gateway)]
    heard = echo(gateway, program, "-aec", "SCANWARDEN")
    assert "Rejected Transient, Source: Service Provider (Presentation Related)" in heard
    assert "Local Limit Exceeded" in heard
    assert held[0].store(mr_image())[0] == 0, "the others are not disturbed"
    held[0].close()
    assert eventually(lambda: gateway.receiver.open_associations == 1)
    assert "Success" in echo(gateway, program, "-aec", "SCANWARDEN")
    held[1].close()


@pytest.mark.peers
def test_a_flood_of_rejections_becomes_one_event_and_a_count(start: Start, program: Callable[[str], str]) -> None:
    gateway = start()
    for _ in range(5):
        echo(gateway, program, "-aec", "OTHER")
    gateway.refused_associations(1)
    gateway.receiver.drain()
    first, rest = gateway.refused_associations(2)
    assert rest == {"reason": "called_ae_title", "repeats": 4, "actor": first["actor"]}
