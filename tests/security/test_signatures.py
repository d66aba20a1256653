"""Signed images: what an attacker can do to them is seen, what nobody touched stays quiet.

The images are signed by DCMTK's dcmsign, so that two implementations have to agree on every byte.
"""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from gateway.results import RevisionContext, build_evidence
from gateway.results.profiles import ORTHANC
from gateway.results.signing import CannotSign, load_signer
from inference.analysis import analyse_study
from inference.findings import Observation, Severity, StudyAnalysis, Verdict
from inference.instances import read_instance
from inference.provenance import Proof, Trust, prove
from inference.provenance.mac import MAC_PARAMETERS, SIGNATURES
from inference.provenance.signatures import Grade, check_file
from tests.gateway.results.phantoms import AXIAL, GEOMETRIES, Geometry, analysis_of, write_part10, write_phantom
from tests.inference.conftest import KnownCube, head
from tests.signers import DCMSIGN, Signatory, authority, signer

pytestmark = pytest.mark.peers
Programs = Callable[[str, str], str]
REAL_SYNTAXES = [f"transfer-syntaxes/{number}.dcm" for number in range(1, 10)]


@pytest.fixture(scope="module", autouse=True)
def dcmsign(program: Programs) -> str:
    return program(DCMSIGN, "dcmtk")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Signatory:
    """The authority whose signers the site trusts."""
    return authority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def scanner(hospital: Signatory, tmp_path_factory: pytest.TempPathFactory) -> Signatory:
    return signer(tmp_path_factory.mktemp("scanner"), hospital)


@pytest.fixture
def study(tmp_path: Path, scanner: Signatory) -> list[Path]:
    """Six slices, each signed as a whole."""
    return [scanner.signs(file) for file in write_phantom(tmp_path / "study").files]


def seen(files: Iterable[Path], trust: Trust) -> tuple[dict[str, Observation], Proof]:
    observations, proof = prove([read_instance(file) for file in files], trust)
    return {each.rule: each for each in observations}, proof


def severities(observations: dict[str, Observation]) -> dict[str, Severity]:
    return {rule: each.severity for rule, each in observations.items()}


def trust_in(*authorities: Signatory, must_sign: Sequence[Path] = ()) -> Trust:
    uids = frozenset(read_instance(file).sop_instance_uid for file in must_sign)
    return Trust(tuple(each.x509 for each in authorities), must_sign=uids)


def rewritten(file: Path, change: Callable[[Dataset], None]) -> Path:
    """As somebody with a DICOM library would do it: everything but the change stays as it is."""
    dataset = dcmread(file)
    change(dataset)
    dataset.save_as(file)
    return file


def strip(dataset: Dataset) -> None:
    del dataset[MAC_PARAMETERS], dataset[SIGNATURES]


def paint(dataset: Dataset) -> None:
    pixels = dataset.pixel_array.copy()
    pixels[10:14, 8:12] += 1
    dataset.PixelData = pixels.tobytes()


QUIET = {"signature-valid": Severity.INFO}


def test_untouched_signed_images_are_proven_and_quiet(study: list[Path], hospital: Signatory) -> None:
    observations, proof = seen(study, trust_in(hospital, must_sign=study))
    assert severities(observations) == QUIET
    assert proof.is_complete


def test_unsigned_images_are_quiet_where_nobody_has_to_sign(tmp_path: Path, hospital: Signatory) -> None:
    observations, proof = seen(write_phantom(tmp_path).files, trust_in(hospital))
    assert (observations, proof.proven) == ({}, 0)


def test_attack_pixels_edited_under_a_signature(study: list[Path], hospital: Signatory) -> None:
    rewritten(study[2], paint)
    observations, proof = seen(study, trust_in(hospital))
    broken = observations["signature-broken"]
    assert broken.severity is Severity.INCIDENT
    assert broken.sop_instance_uids == (read_instance(study[2]).sop_instance_uid,)
    assert not proof.is_complete
    assert proof.proven == len(study) - 1
    # Without any authority configured it is an incident all the same: this is no question of trust.
    assert severities(seen(study, Trust())[0])["signature-broken"] is Severity.INCIDENT


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "P-0001"),
        ("ImagePositionPatient", [0, 0, 0]),
        ("PixelSpacing", [0.45, 0.35]),
        ("StudyDate", "20200101"),
    ],
)
def test_attack_header_edited_under_a_signature(
    keyword: str, value: object, study: list[Path], hospital: Signatory
) -> None:
    rewritten(study[0], lambda dataset: setattr(dataset, keyword, value))
    assert severities(seen(study, trust_in(hospital))[0])["signature-broken"] is Severity.INCIDENT


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("RescaleSlope", 2), ("RescaleIntercept", -1024), ("WindowCenter", 900), ("OverlayData", b"\1\0")],
)
def test_attack_element_added_that_the_signature_does_not_cover(
    keyword: str, value: object, study: list[Path], hospital: Signatory
) -> None:
    """The signature still fits, but the image no longer shows what was signed: it is not proven."""

    def add(dataset: Dataset) -> None:
        if keyword == "OverlayData":
            dataset.add_new(0x60003000, "OW", value)
        else:
            setattr(dataset, keyword, value)

    rewritten(study[0], add)
    observations, proof = seen(study, trust_in(hospital))
    assert not proof.is_complete
    assert "signature-partial" in observations or "signature-leaves-out" in observations


def test_attack_signature_stripped(study: list[Path], hospital: Signatory) -> None:
    """From a source that always signs; from another one it shows beside the images that are still signed."""
    always = trust_in(hospital, must_sign=study)
    rewritten(study[3], strip)
    observations, proof = seen(study, always)
    assert severities(observations) == {
        "signature-missing": Severity.INCIDENT, "partly-signed": Severity.WARNING, "signature-valid": Severity.INFO
    }  # fmt: skip
    assert observations["signature-missing"].sop_instance_uids == (read_instance(study[3]).sop_instance_uid,)
    assert not proof.is_complete
    assert severities(seen(study, trust_in(hospital))[0])["partly-signed"] is Severity.WARNING
    for file in (*study[:3], *study[4:]):
        rewritten(file, strip)
    assert severities(seen(study, always)[0]) == {"signature-missing": Severity.INCIDENT}


def test_attack_half_of_a_signature_removed(study: list[Path], hospital: Signatory) -> None:
    rewritten(study[1], lambda dataset: dataset.__delitem__(SIGNATURES))
    rewritten(study[2], lambda dataset: dataset.__delitem__(MAC_PARAMETERS))
    broken = seen(study, trust_in(hospital))[0]["signature-broken"]
    assert broken.severity is Severity.INCIDENT
    assert len(broken.sop_instance_uids) == 2


def test_attack_signature_moved_to_another_instance(study: list[Path], hospital: Signatory) -> None:
    given = dcmread(study[0])

    def take(dataset: Dataset) -> None:
        dataset[MAC_PARAMETERS], dataset[SIGNATURES] = given[MAC_PARAMETERS], given[SIGNATURES]

    rewritten(study[1], take)
    observations, proof = seen(study, trust_in(hospital))
    assert observations["signature-broken"].severity is Severity.INCIDENT
    assert proof.proven == len(study) - 1


def test_attack_signature_that_names_no_instance_is_moved(
    study: list[Path], scanner: Signatory, hospital: Signatory
) -> None:
    """A genuine signature over the pixels alone fits any instance with these pixels: it proves none."""
    for file in study:
        rewritten(file, strip)
        scanner.signs(file, "+m2", "-t", "PixelData", "-t", "Rows", "-t", "Columns")
    observations, proof = seen(study, trust_in(hospital, must_sign=study))
    assert severities(observations) == {"signature-partial": Severity.WARNING, "signature-missing": Severity.INCIDENT}
    assert proof.proven == 0


@pytest.mark.parametrize(("option", "name"), [("+mm", "MD5"), ("+ms", "SHA1"), ("+mr", "RIPEMD160")])
def test_attack_weak_algorithm(
    option: str, name: str, study: list[Path], scanner: Signatory, hospital: Signatory
) -> None:
    """DCMTK finds nothing wrong with it; we say that it fits, and that this proves nothing."""
    for file in study:
        rewritten(file, strip)
        scanner.signs(file, option)
    (check,) = check_file(study[0], (hospital.x509,))
    if check.grade is Grade.UNCHECKABLE:
        pytest.skip(f"{name} is not in this build of OpenSSL")
    assert check.grade is Grade.WEAK
    assert name in check.reason
    observations, proof = seen(study, trust_in(hospital, must_sign=study))
    assert severities(observations) == {"signature-weak": Severity.WARNING, "signature-missing": Severity.INCIDENT}
    assert proof.proven == 0


def test_attack_certificate_that_nobody_trusts(study: list[Path], hospital: Signatory, tmp_path: Path) -> None:
    """The attacker edits and signs again, with an authority of the same name."""
    forger = signer(tmp_path / "forger", authority(tmp_path / "forger", "Authority"), "CT 1")
    for file in study:
        rewritten(rewritten(file, strip), paint)
        forger.signs(file)
    observations, proof = seen(study, trust_in(hospital, must_sign=study))
    assert severities(observations) == {"signature-untrusted": Severity.WARNING, "signature-missing": Severity.INCIDENT}
    assert proof.proven == 0


def test_attack_signer_who_plays_authority(
    study: list[Path], scanner: Signatory, hospital: Signatory, tmp_path: Path
) -> None:
    """A scanner's key must not be able to issue certificates."""
    forger = signer(tmp_path / "forger", scanner, "CT 2")
    for file in study:
        rewritten(file, strip)
        forger.signs(file)
    grades = {check.grade for file in study for check in check_file(file, (hospital.x509, scanner.x509))}
    assert grades == {Grade.UNTRUSTED}


def test_attack_expired_certificate(study: list[Path], hospital: Signatory, tmp_path: Path) -> None:
    """The moment of signing is the signer's own word: a stolen old key could say any."""
    retired = signer(tmp_path / "retired", hospital, "CT 0", begins=-800, days=30)
    for file in study:
        rewritten(file, strip)
        retired.signs(file)
    observations, proof = seen(study, trust_in(hospital, must_sign=study))
    assert severities(observations) == {"signature-expired": Severity.WARNING, "signature-missing": Severity.INCIDENT}
    assert proof.proven == 0


def test_attack_element_that_stands_twice(study: list[Path], hospital: Signatory) -> None:
    """One program shows the first Rescale Slope, another the last: a signature must not cover the choice."""
    content = study[0].read_bytes()
    mark = content.index(b"\x28\x00\x10\x00US")
    study[0].write_bytes(content[:mark] + content[mark : mark + 10] + content[mark:])
    (check,) = check_file(study[0], (hospital.x509,))
    assert check.grade is Grade.BROKEN
    assert "twice" in check.reason


def test_attack_second_signature_beside_a_broken_one(study: list[Path], hospital: Signatory, tmp_path: Path) -> None:
    """Editing and adding an own signature does not hide that the first one no longer fits."""
    other = signer(tmp_path / "other", hospital, "CT 2")
    rewritten(study[0], paint)
    other.signs(study[0])
    observations, proof = seen(study, trust_in(hospital))
    assert severities(observations)["signature-broken"] is Severity.INCIDENT
    assert proof.proven == len(study) - 1


def test_attack_edit_inside_a_signed_item(tmp_path: Path, scanner: Signatory, hospital: Signatory) -> None:
    geometry = next(each for each in GEOMETRIES if each.is_enhanced)
    (file,) = write_phantom(tmp_path, geometry).files
    options = ["+si", str(scanner.private_key), str(scanner.certificate), "SharedFunctionalGroupsSequence[0]", "+m2"]
    subprocess.run([DCMSIGN, *options, str(file), str(file)], check=True, capture_output=True)
    untouched, proof = seen([file], trust_in(hospital))
    assert set(untouched) <= {"partly-signed"}
    assert proof.proven == 0, "a signature inside an item proves nothing about the image"

    def squeeze(dataset: Dataset) -> None:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.5]

    rewritten(file, squeeze)
    assert severities(seen([file], trust_in(hospital))[0])["signature-broken"] is Severity.INCIDENT


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL_SYNTAXES)
def test_every_transfer_syntax_is_signed_by_dcmtk_as_we_verify_it(
    name: str, scanwarden_data: Path, tmp_path: Path, scanner: Signatory, hospital: Signatory
) -> None:
    """Both byte orders, implicit representations, private elements and encapsulated pixels of a real scanner."""
    file = tmp_path / "signed.dcm"
    file.write_bytes((scanwarden_data / "dicom" / name).read_bytes())
    scanner.signs(file)
    (check,) = check_file(file, (hospital.x509,))
    assert (check.grade, check.left_out) == (Grade.VALID, ())
    content = bytearray(file.read_bytes())
    pixels = dcmread(file).PixelData
    place = content.index(pixels[len(pixels) // 2 : len(pixels) // 2 + 64])
    content[place] ^= 1
    file.write_bytes(content)
    (check,) = check_file(file, (hospital.x509,))
    assert check.grade is (Grade.UNCHECKABLE if dcmread(file).original_encoding[0] else Grade.BROKEN)


@pytest.mark.parametrize("geometry", [AXIAL, *(g for g in GEOMETRIES if g.is_enhanced)], ids=lambda g: g.name)
def test_our_own_evidence_is_signed_as_dcmtk_verifies_it(
    geometry: Geometry, tmp_path: Path, scanner: Signatory, hospital: Signatory, program: Programs
) -> None:
    dciodvfy = program("/usr/bin/dciodvfy", "dicom3tools")
    phantom = write_phantom(tmp_path / "in", geometry)
    context = phantom.context(analysed_at=datetime.now(UTC).astimezone())
    signs = load_signer(scanner.certificate, scanner.private_key)
    files = build_evidence(analysis_of(phantom), context, ORTHANC, tmp_path / "1", signer=signs)
    again = build_evidence(analysis_of(phantom), context, ORTHANC, tmp_path / "2", signer=signs)
    plain = build_evidence(analysis_of(phantom), context, ORTHANC, tmp_path / "3")
    assert [file.path.read_bytes() for file in files] == [file.path.read_bytes() for file in again]
    assert [file.sop_instance_uid for file in files] == [file.sop_instance_uid for file in plain]
    for file in files:
        verify = [DCMSIGN, "--verify", "+rc", "+cf", str(hospital.certificate), str(file.path)]
        assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
        said = subprocess.run([dciodvfy, "-new", str(file.path)], capture_output=True, check=False)
        assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith(b"Error")] == []
        assert [check.proves for check in check_file(file.path, (hospital.x509,))] == [True]


def test_attack_report_edited_after_we_signed_it(tmp_path: Path, scanner: Signatory, hospital: Signatory) -> None:
    phantom = write_phantom(tmp_path / "in")
    context = phantom.context(analysed_at=datetime.now(UTC).astimezone())
    signs = load_signer(scanner.certificate, scanner.private_key)
    report = build_evidence(analysis_of(phantom), context, ORTHANC, tmp_path / "out", signer=signs)[-1].path
    verify = [DCMSIGN, "--verify", "+rc", "+cf", str(hospital.certificate), str(report)]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    content = report.read_bytes()
    assert content.count(b"SUSPECT") > 0
    report.write_bytes(content.replace(b"SUSPECT", b"CLEAR  "))
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0
    assert [check.grade for check in check_file(report, (hospital.x509,))] == [Grade.BROKEN]


def test_a_key_that_does_not_fit_its_certificate_is_refused(
    tmp_path: Path, scanner: Signatory, hospital: Signatory
) -> None:
    with pytest.raises(CannotSign, match="not the key"):
        load_signer(hospital.certificate, scanner.private_key)
    small = signer(tmp_path, hospital, "small", bits=1024)
    with pytest.raises(CannotSign, match="2048"):
        load_signer(small.certificate, small.private_key)


def _verdict(files: Sequence[Path], trust: Trust, model: KnownCube) -> StudyAnalysis:
    return analyse_study(files, models=[model], device="cpu", trust=trust)


@pytest.fixture
def head_study(tmp_path: Path, scanner: Signatory) -> list[Path]:
    """Images that the test's detector covers."""
    files = []
    for number in range(6):
        slices, rows, columns = np.meshgrid([number], np.arange(64), np.arange(80), indexing="ij")
        pixels = (slices * 300 + rows * 3 + columns).astype(np.uint16)[0]
        dataset = head(pixels, ImagePositionPatient=[0, 0, 3 * number], InstanceNumber=number + 1)
        files.append(scanner.signs(write_part10(dataset, tmp_path / f"{number}.dcm")))
    return files


def test_a_study_is_verified_only_when_all_is_proven_and_the_pixels_show_nothing(
    head_study: list[Path], hospital: Signatory
) -> None:
    quiet, loud = KnownCube(), KnownCube(((2, 4), (10, 30), (10, 30)))
    trust = trust_in(hospital, must_sign=head_study)
    verified = _verdict(head_study, trust, quiet)
    assert verified.verdict is Verdict.VERIFIED, verified.reasons
    assert verified.reasons[0].startswith("provenance: 6 of 6 instances proven")
    assert verified.reasons[1].startswith("pixels: no sign")
    assert _verdict(head_study, Trust(), quiet).verdict is Verdict.CLEAR
    outweighed = _verdict(head_study, trust, loud)
    assert outweighed.verdict in (Verdict.REVIEW, Verdict.SUSPECT), "a signature does not outweigh the pixels"
    assert any(reason.startswith("provenance: 6 of 6") for reason in outweighed.reasons), "and is told apart from them"
    rewritten(head_study[0], strip)
    assert _verdict(head_study, trust, quiet).verdict is Verdict.REVIEW
    rewritten(head_study[1], paint)
    assert _verdict(head_study, trust_in(hospital), quiet).verdict is Verdict.REVIEW


def test_the_report_tells_provenance_and_pixels_apart(
    head_study: list[Path], hospital: Signatory, tmp_path: Path
) -> None:
    verified = _verdict(head_study, trust_in(hospital), KnownCube())
    context = RevisionContext(verified.study_uid, 1, "ab" * 32, tuple(head_study), datetime.now(UTC).astimezone())
    report = dcmread(build_evidence(verified, context, ORTHANC, tmp_path / "out")[-1].path)
    texts = [str(item.TextValue) for item in _items(report) if item.ValueType == "TEXT"]
    assert any(text.startswith("provenance: 6 of 6 instances proven (6 as a trusted signer") for text in texts)
    assert any(text.startswith("pixels: no sign of an added or removed tumour") for text in texts)
    assert any(text.endswith("[signature-valid]") for text in texts)
    codes = [item.ConceptCodeSequence[0].CodeValue for item in _items(report) if item.ValueType == "CODE"]
    assert "SW-201" in codes


def _items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def test_first_seen_at_a_trusted_source_proves_what_no_signature_does(tmp_path: Path) -> None:
    files = write_phantom(tmp_path).files
    uids = frozenset(read_instance(file).sop_instance_uid for file in files)
    assert seen(files, Trust(first_seen=uids))[1].is_complete
    assert not seen(files, Trust(first_seen=frozenset(sorted(uids)[1:])))[1].is_complete
