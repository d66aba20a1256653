"""What signatures and first-seen digests prove about a study, and what they give away.

A signature that proves nothing is like none: it weighs only where the site uses signatures (it names authorities), or
where the source always signs. One that does not fit is an incident anywhere.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.signatures import Grade, SignatureCheck, check_file
from inference.provenance.trust import Proof, Trust

_RULES = {
    Grade.BROKEN: ("signature-broken", "{} a digital signature that does not fit: altered after signing"),
    Grade.UNCHECKABLE: ("signature-uncheckable", "{} a digital signature that cannot be checked"),
    Grade.WEAK: ("signature-weak", "{} a digital signature that is too weak to prove anything"),
    Grade.UNTRUSTED: ("signature-untrusted", "{} a digital signature by nobody whom the site trusts"),
    Grade.EXPIRED: ("signature-expired", "{} a digital signature outside its certificate's time"),
    Grade.PARTIAL: ("signature-partial", "{} a digital signature that does not cover the whole image"),
}


def prove(instances: Sequence[Instance], trust: Trust) -> tuple[tuple[Observation, ...], Proof]:
    """Check every instance of a study; what was seen, and how many instances are proven."""
    checks = {
        instance.sop_instance_uid: check_file(
            instance.file, trust.authorities, trust.received.get(instance.sop_instance_uid, trust.at)
        )
        for instance in instances
    }
    signed = {uid for uid, found in checks.items() if _is_proven(found)}
    known = set(checks)
    proof = Proof(len(known), len(signed), len(known & trust.first_seen), len(signed | (known & trust.first_seen)))
    observations = (
        *_worthless(checks, trust),
        *_missing(checks, trust),
        *_partly_signed(instances, checks),
        *_sound(checks, signed),
    )
    return observations, proof


def _is_proven(found: Sequence[SignatureCheck]) -> bool:
    """By one signature over all; another beside it that does not fit takes the proof away."""
    return any(check.proves for check in found) and not any(check.grade is Grade.BROKEN for check in found)


def _is_sound(found: Sequence[SignatureCheck]) -> bool:
    return any(check.is_sound for check in found) and not any(check.grade is Grade.BROKEN for check in found)


def _worthless(checks: Mapping[str, Sequence[SignatureCheck]], trust: Trust) -> Iterator[Observation]:
    for grade, (name, text) in _RULES.items():
        concerned = {
            uid: check
            for uid, found in checks.items()
            for check in found
            if check.grade is grade and (grade is Grade.BROKEN or not _is_sound(found))
        }
        if not concerned:
            continue
        severity = Severity.WARNING if trust.authorities else Severity.INFO
        if grade is Grade.BROKEN:
            severity = Severity.INCIDENT
        reasons = list(dict.fromkeys(check.reason for check in concerned.values()))[:3]
        yield Observation(
            name,
            severity,
            f"{text.format(_carry(len(concerned)))} ({'; '.join(reasons)})",
            _evidence(concerned.values()),
            tuple(concerned),
        )


def _missing(checks: Mapping[str, Sequence[SignatureCheck]], trust: Trust) -> Iterator[Observation]:
    """Taking a signature off leaves no trace but this: the source always signs, and here is none that counts."""
    missing = tuple(uid for uid, found in checks.items() if uid in trust.must_sign and not _is_sound(found))
    if missing:
        without = sum(not checks[uid] for uid in missing)
        yield Observation(
            "signature-missing",
            Severity.INCIDENT,
            f"{_count(len(missing))} from a source that always signs without a sound digital signature "
            f"({without:,} without any): stripped, replaced or never signed",
            {"without_any": without},
            missing,
        )


def _partly_signed(
    instances: Sequence[Instance], checks: Mapping[str, Sequence[SignatureCheck]]
) -> Iterator[Observation]:
    """One signer signs a whole series: an instance without a signature among signed ones was put in, or touched."""
    series: dict[str, list[str]] = {}
    for instance in instances:
        series.setdefault(instance.series_uid, []).append(instance.sop_instance_uid)
    for series_uid, members in series.items():
        without = tuple(uid for uid in members if not checks[uid])
        if without and len(without) < len(members):
            yield Observation(
                "partly-signed",
                Severity.WARNING,
                f"{_count(len(without))} without a digital signature in a series whose other "
                f"{len(members) - len(without):,} carry one",
                {"series_uid": series_uid},
                without,
            )


def _sound(checks: Mapping[str, Sequence[SignatureCheck]], signed: set[str]) -> Iterator[Observation]:
    sound = {uid: check for uid, found in checks.items() if _is_sound(found) for check in found if check.is_sound}
    if not sound:
        return
    yield Observation(
        "signature-valid",
        Severity.INFO,
        f"{_carry(len(sound))} a valid digital signature by a signer that the site trusts",
        _evidence(sound.values()),
        tuple(sound),
    )
    open_ones = {uid: check for uid, check in sound.items() if uid not in signed}
    if open_ones:
        names = sorted({name for check in open_ones.values() for name in check.left_out})
        yield Observation(
            "signature-leaves-out",
            Severity.INFO,
            f"the signature of {_count(len(open_ones))} leaves parts of the header open: {', '.join(names[:6])}",
            {"left_out": names},
            tuple(open_ones),
        )


def _evidence(checks: Iterable[SignatureCheck]) -> dict[str, object]:
    """Fingerprints, not names: the subject of a certificate may be a person."""
    found = list(checks)
    return {
        "signers": sorted({check.signer for check in found if check.signer})[:5],
        "algorithms": sorted({check.algorithm for check in found if check.algorithm})[:5],
        "signature_uids": [check.uid for check in found if check.uid][:20],
        "items": sorted({check.place for check in found if check.place})[:5],
    }


def _carry(number: int) -> str:
    return "1 instance carries" if number == 1 else f"{number:,} instances carry"


def _count(number: int) -> str:
    return "1 instance" if number == 1 else f"{number:,} instances"
