"""What a comparison says of one file: quiet for every faithful copy, exact about every other one."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom import FileDataset, dcmread, dcmwrite
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from gateway.app import App
from gateway.verification.checking import known_study
from gateway.verification.compare import Comparison, Found, State, StudyComparison, compare_study
from gateway.verification.folder import compare_folder, scan
from storage.firstseen import Standing
from tests.remembered import analysed, edited, gateway, phantom, receive, remember


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with gateway(tmp_path) as opened:
        yield opened


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return phantom(tmp_path / "study", 3, slices=3)


def compared(app: App, folder: Path, **options: bool) -> StudyComparison:
    found = scan(app, folder)
    (study_uid,) = found.studies
    return compare_folder(app, found, study_uid, **options)


def only(found: StudyComparison, state: State) -> Comparison:
    (one,) = (each for each in found.instances if each.state is state)
    return one


def put(dataset: FileDataset, file: Path) -> None:
    dataset.save_as(file)


def test_the_files_that_were_sent_are_as_first_seen_whatever_header_their_writer_chose(
    app: App, files: list[Path]
) -> None:
    remember(app, files)
    found = compared(app, files[0].parent)
    assert (found.counts, found.differs, found.standing) == ({"as-first-seen": 3}, False, Standing.PROVED)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless], ids=["ivr", "be", "rle"])
def test_a_copy_in_another_lossless_syntax_is_re_encoded(app: App, files: list[Path], syntax: UID) -> None:
    remember(app, files)
    for file in files:
        dataset = dcmread(file)
        if syntax == RLELossless:
            dataset.compress(syntax, generate_instance_uid=False)
            put(dataset, file)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            dcmwrite(
                file, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian
            )
    found = compared(app, files[0].parent)
    assert found.counts == {"re-encoded": 3}
    assert not any(each.elements for each in found.instances)


def test_padding_character_set_and_spelling_of_numbers_are_an_encoding(app: App, files: list[Path]) -> None:
    one = dcmread(files[0])
    one.SpecificCharacterSet, one.PatientName, one.StudyTime = "ISO_IR 100", "Müller^Änne", "090000"
    put(one, files[0])
    remember(app, files)
    again = dcmread(files[0])
    again.SpecificCharacterSet, again.StudyTime = "ISO_IR 192", "090000.000000"
    again.PatientName = "Müller^Änne^^"
    again.PixelSpacing = [f"{float(each):.8f}" for each in again.PixelSpacing]
    put(again, files[0])
    assert compared(app, files[0].parent).counts == {"as-first-seen": 2, "re-encoded": 1}


def test_an_edited_region_is_named_by_its_box(app: App, files: list[Path]) -> None:
    remember(app, files)
    put(edited(files[1], (10, 12, 18, 17)), files[1])
    one = only(compared(app, files[0].parent), State.ALTERED)
    assert one.region is not None
    assert (one.changed, one.region.box, one.region.pixels) == (("pixels",), (10, 12, 18, 17), 40)


def test_without_our_copy_an_alteration_is_still_seen(app: App, files: list[Path]) -> None:
    study_uid = remember(app, files)
    for seen in known_study(app, study_uid, None).first_seen.instances.values():
        app.store.remove(seen.path or "")
    put(edited(files[1]), files[1])
    one = only(compared(app, files[0].parent), State.ALTERED)
    assert (one.changed, one.region) == (("pixels",), None)
    assert "our copy is gone" in one.note


def test_our_own_copy_is_not_believed_when_it_was_changed_too(app: App, files: list[Path]) -> None:
    study_uid = remember(app, files)
    forged = edited(files[1])
    seen = known_study(app, study_uid, None).first_seen.instances[forged.SOPInstanceUID]
    put(forged, files[1])
    put(forged, app.store.locate(seen.path or ""))
    one = only(compared(app, files[0].parent), State.ALTERED)
    assert one.changed == ("pixels",)


def test_an_element_outside_the_digests_is_named_and_no_alteration(app: App, files: list[Path]) -> None:
    remember(app, files)
    dataset = dcmread(files[2])
    dataset.WindowCenter = 12345
    put(dataset, files[2])
    one = only(compared(app, files[0].parent), State.REENCODED)
    assert one.elements == ("WindowCenter",)


def test_an_instance_that_was_never_received_is_extra_and_its_study_known(app: App, files: list[Path]) -> None:
    remember(app, files[:2])
    found = compared(app, files[0].parent)
    assert found.counts == {"as-first-seen": 2, "extra": 1}
    assert found.differs


def test_a_part_of_a_study_is_not_missing_the_rest_when_it_is_called_a_part(app: App, files: list[Path]) -> None:
    remember(app, files)
    files[2].unlink()
    assert compared(app, files[0].parent).counts == {"as-first-seen": 2, "missing": 1}
    assert compared(app, files[0].parent, partial=True).counts == {"as-first-seen": 2}


def test_a_study_that_was_never_received_is_unknown_and_no_incident(app: App, files: list[Path]) -> None:
    found = compared(app, files[0].parent)
    assert (found.counts, found.differs, found.standing) == ({"unknown": 3}, False, None)


def test_an_edited_study_uid_does_not_hide_whose_image_it_is(app: App, files: list[Path]) -> None:
    study_uid = remember(app, files)
    dataset = dcmread(files[0])
    dataset.StudyInstanceUID = "1.2.3"
    put(dataset, files[0])
    found = compared(app, files[0].parent)
    assert found.study_uid == study_uid
    # The patient's digest covers the study's UID.
    assert only(found, State.ALTERED).changed == ("identifiers", "patient")


def test_a_file_that_cannot_be_read_is_not_what_it_was(app: App, files: list[Path]) -> None:
    remember(app, files)
    dataset = dcmread(files[1])
    dataset.PixelData = dataset.PixelData[:100]
    put(dataset, files[1])
    assert only(compared(app, files[0].parent), State.ALTERED).sop_instance_uid == dataset.SOPInstanceUID


def test_bytes_alone_are_compared_before_a_study_is_analysed(app: App, files: list[Path]) -> None:
    receive(app, files)
    found = compared(app, files[0].parent)
    assert (found.counts, found.standing) == ({"as-first-seen": 3}, Standing.PROVED)
    put(edited(files[1]), files[1])
    assert compared(app, files[0].parent).counts == {"as-first-seen": 2, "altered": 1}


def test_nothing_is_decoded_where_decoding_is_not_allowed(
    app: App, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = remember(app, files)
    put(edited(files[1]), files[1])

    def refused(*_: object) -> None:
        raise AssertionError("decoded")

    for name in ("pixel_digest", "difference", "dcmread"):
        monkeypatch.setattr(f"gateway.verification.compare.{name}", refused)
    known = known_study(app, study_uid, None)
    held = Found({str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): [file] for file in files})
    found = compare_study(known, held, app.store, decode=False)
    assert found.counts == {"as-first-seen": 2, "undecided": 1}


def test_late_instances_join_the_roots_of_the_next_revision(app: App, files: list[Path]) -> None:
    study_uid = remember(app, files[:2])
    receive(app, files[2:])
    assert known_study(app, study_uid, None).first_seen.standing is Standing.PROVED
    analysed(app, study_uid)
    known = known_study(app, study_uid, None).first_seen
    assert (len(known.instances), known.standing) == (3, Standing.PROVED)


CHANGES: dict[str, Callable[[FileDataset], None]] = {
    "identifiers": lambda d: setattr(d, "InstanceNumber", 99),
    "patient": lambda d: setattr(d, "PatientID", "ANOTHER"),
    "geometry": lambda d: setattr(d, "SliceThickness", 9),
    "acquisition": lambda d: setattr(d, "AcquisitionDate", "20010101"),
    "image": lambda d: setattr(d, "LossyImageCompression", "01"),
}


@pytest.mark.parametrize("group", CHANGES)
def test_a_header_edit_is_told_by_its_group(app: App, files: list[Path], group: str) -> None:
    remember(app, files)
    dataset = dcmread(files[0])
    CHANGES[group](dataset)
    put(dataset, files[0])
    assert only(compared(app, files[0].parent), State.ALTERED).changed == (group,)


def test_a_comparison_tells_no_value_of_the_header(app: App, files: list[Path]) -> None:
    remember(app, files)
    dataset = deepcopy(dcmread(files[0]))
    dataset.PatientName, dataset.PatientComments = "Secret^Person", "Secret comment"
    put(dataset, files[0])
    found = compared(app, files[0].parent)
    assert found.differs
    assert "Secret" not in str(found.to_json()) + str(found.notes)
