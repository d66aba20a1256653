"""A study in, a verdict out: what is found, what is not looked at, and why."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from inference.analysis import Progress, analyse_folder, analyse_study
from inference.errors import NotOneStudy
from inference.findings import FindingClass, Observation, Severity, StudyAnalysis, Verdict
from inference.overlays import write_overlays
from models.card import Thresholds

Brain = NDArray[np.uint16]
BOX = ((2, 5), (10, 30), (20, 50))


def test_a_known_cube_is_a_finding_where_it_is(write_series: Any, brain: Brain, known_cube: Any) -> None:
    files = write_series(brain, distance=4.0)
    analysis = analyse_study(files, models=[known_cube(BOX)])
    assert analysis.verdict is Verdict.SUSPECT
    assert analysis.score > 0.9
    (finding,) = analysis.findings
    assert finding.finding_class is FindingClass.REMOVED_TUMOUR
    assert finding.slices == (2, 4)
    assert finding.box == (10, 20, 30, 50)
    assert finding.key_slice in (2, 3, 4)
    assert finding.volume_mm3 == pytest.approx(3 * 20 * 30 * 4.0 * 0.5 * 0.75)
    assert 0 < finding.score <= analysis.score
    (series,) = analysis.series
    assert series.source_files == tuple(files)
    expected = np.zeros(brain.shape, np.uint8)
    expected[tuple(slice(*ends) for ends in BOX)] = FindingClass.REMOVED_TUMOUR.code
    assert np.array_equal(series.classes, expected)
    assert np.array_equal(series.labels, expected > 0)
    assert [score > 0.5 for score in series.slice_scores] == [False, False, True, True, True, False, False, False]


def test_nothing_found_in_a_whole_study_is_clear(write_series: Any, brain: Brain, known_cube: Any) -> None:
    analysis = analyse_study(write_series(brain), models=[known_cube()])
    assert analysis.verdict is Verdict.CLEAR
    assert analysis.score < 0.1
    assert analysis.reasons == ("no sign of an added or removed tumour in 8 slices (probability of manipulation 0.00)",)


def test_an_analysis_survives_the_way_to_the_next_step(
    write_series: Any, brain: Brain, known_cube: Any, tmp_path: Path
) -> None:
    analysis = analyse_study(write_series(brain), models=[known_cube(BOX)])
    analysis.save(tmp_path / "kept")
    again = StudyAnalysis.load(tmp_path / "kept")
    assert again.to_json() == json.loads(json.dumps(analysis.to_json()))
    assert np.array_equal(again.series[0].labels, analysis.series[0].labels)
    assert again.findings == analysis.findings


def test_every_finding_has_a_picture(write_series: Any, brain: Brain, known_cube: Any, tmp_path: Path) -> None:
    analysis = analyse_study(write_series(brain), models=[known_cube(BOX)])
    (picture,) = write_overlays(analysis, tmp_path / "pictures")
    assert picture.name == "finding-01.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"BodyPartExamined": "KNEE"}, "body part KNEE"),
        ({"BodyPartExamined": None}, "body part not stated"),
        ({"LossyImageCompression": "01"}, "lossy compression"),
        ({"Rows": 65535}, "ask the sender to resend it"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "only grey images"),
        ({"places": [0, 3, 6, 9, 9, 12, 15, 18]}, "where another one lies"),
        ({"ImagePositionPatient": None, "InstanceNumber": None}, "neither places nor numbers"),
    ],
)
def test_what_no_model_covers_ends_in_abstain_with_the_reason(
    write_series: Any, brain: Brain, known_cube: Any, attributes: dict[str, Any], reason: str
) -> None:
    detector = known_cube(max_matrix=70_000)
    analysis = analyse_study(write_series(brain, **attributes), models=[detector])
    assert analysis.verdict is Verdict.ABSTAIN
    assert analysis.score == 0.5
    assert any(reason in each for each in analysis.reasons), analysis.reasons
    assert detector.seen == 0


def test_one_slice_is_too_little(write_series: Any, brain: Brain, known_cube: Any) -> None:
    analysis = analyse_study(write_series(brain[:1]), models=[known_cube()])
    assert analysis.verdict is Verdict.ABSTAIN
    assert "1 slice; at least 3" in analysis.reasons[0]


def test_a_matrix_of_sixteen_is_too_little(write_series: Any, known_cube: Any) -> None:
    analysis = analyse_study(write_series(np.zeros((8, 16, 16), np.uint16)), models=[known_cube()])
    assert analysis.verdict is Verdict.ABSTAIN
    assert "matrix 16×16" in analysis.reasons[0]


def test_a_flat_image_is_not_called_clear(write_series: Any, known_cube: Any) -> None:
    analysis = analyse_study(write_series(np.full((8, 64, 64), 7, np.uint16)), models=[known_cube()])
    assert analysis.verdict is Verdict.ABSTAIN
    assert "every pixel has the same value" in analysis.reasons[0]


def test_images_unlike_those_the_card_knows_are_never_clear(write_series: Any, brain: Brain, known_cube: Any) -> None:
    detector = known_cube(domain={"rows": (200.0, 600.0)})
    analysis = analyse_study(write_series(brain), models=[detector])
    assert analysis.verdict is Verdict.ABSTAIN
    assert "rows is 64; known-cube was measured on 200 to 600" in analysis.reasons[0]


def test_a_cut_slice_costs_clear_and_only_itself(write_series: Any, brain: Brain, known_cube: Any) -> None:
    files = write_series(brain)
    files[4].write_bytes(files[4].read_bytes()[:-3000])
    analysis = analyse_study(files, models=[known_cube()])
    assert analysis.verdict is Verdict.ABSTAIN
    assert "ask the sender to resend it" in analysis.reasons[0]
    assert len(analysis.to_json()["slices"]) == 7
    suspect = analyse_study(files, models=[known_cube(((1, 4), (10, 30), (20, 50)))])
    assert suspect.verdict is Verdict.SUSPECT
    assert any("ask the sender to resend it" in reason for reason in suspect.reasons)


def test_a_missing_slice_asks_for_a_review(write_series: Any, brain: Brain, known_cube: Any) -> None:
    files = write_series(brain)
    analysis = analyse_study([*files[:3], *files[4:]], models=[known_cube()])
    assert analysis.verdict is Verdict.REVIEW
    assert "1 slice is missing" in analysis.reasons[0]


def test_a_series_that_is_not_covered_costs_clear_but_no_finding(
    write_series: Any, brain: Brain, known_cube: Any
) -> None:
    covered = write_series(brain, folder="covered")
    other = write_series(brain, folder="other", SeriesInstanceUID="1.2.3.77", BodyPartExamined="KNEE")
    partly = analyse_study([*covered, *other], models=[known_cube()])
    assert partly.verdict is Verdict.ABSTAIN
    assert "series …1.2.3.77: body part KNEE" in partly.reasons[0]
    assert "8 slices that were analysed" in partly.reasons[1]
    assert analyse_study([*covered, *other], models=[known_cube(BOX)]).verdict is Verdict.SUSPECT


def test_planning_slices_withhold_no_verdict(write_series: Any, brain: Brain, known_cube: Any) -> None:
    covered = write_series(brain, folder="covered")
    planning = write_series(
        brain[:2], folder="planning", SeriesInstanceUID="1.2.3.77", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    analysis = analyse_study([*covered, *planning], models=[known_cube()])
    assert analysis.verdict is Verdict.CLEAR
    assert any("2 slices; at least 3" in reason for reason in analysis.reasons)
    assert analyse_study(planning, models=[known_cube()]).verdict is Verdict.ABSTAIN


def document(sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3.4.5"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.3.4"
    dataset.Modality = "DOC"
    return dataset


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.9.1.1"])
def test_a_pdf_or_a_waveform_alone_ends_in_abstain(
    write_dataset: Any, tmp_path: Path, known_cube: Any, sop_class: str
) -> None:
    analysis = analyse_study([write_dataset(document(sop_class), tmp_path / "one.dcm")], models=[known_cube()])
    assert analysis.verdict is Verdict.ABSTAIN
    assert "without an image" in analysis.reasons[0]


def test_a_report_beside_the_images_is_named_and_no_obstacle(
    write_series: Any, write_dataset: Any, tmp_path: Path, brain: Brain, known_cube: Any
) -> None:
    report = write_dataset(document("1.2.840.10008.5.1.4.1.1.88.33"), tmp_path / "report.dcm")
    analysis = analyse_study([*write_series(brain), report], models=[known_cube()])
    assert analysis.verdict is Verdict.CLEAR
    assert any("1 object without an image" in reason for reason in analysis.reasons)


def test_an_incident_of_the_caller_keeps_a_study_from_clear(write_series: Any, brain: Brain, known_cube: Any) -> None:
    incident = Observation("digest-differs", Severity.INCIDENT, "an image is not what it was when first seen")
    analysis = analyse_study(write_series(brain), models=[known_cube()], observations=[incident])
    assert analysis.verdict is Verdict.REVIEW
    assert analysis.reasons[0] == incident.text
    assert incident in analysis.observations


def test_one_uid_with_two_contents_is_an_incident_and_an_equal_copy_is_none(
    write_series: Any, brain: Brain, known_cube: Any, tmp_path: Path
) -> None:
    files = write_series(brain)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(files[3].read_bytes())
    assert analyse_study([*files, copy], models=[known_cube()]).verdict is Verdict.CLEAR
    dataset = dcmread(copy)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(copy)
    assert analyse_study([*files, copy], models=[known_cube()]).verdict is Verdict.CLEAR
    dataset = dcmread(files[3])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(copy)
    analysis = analyse_study([*files, copy], models=[known_cube()])
    assert analysis.verdict is Verdict.REVIEW
    assert analysis.observations[0].rule == "same-uid-other-file"


def test_time_that_is_over_ends_in_abstain(write_series: Any, brain: Brain, known_cube: Any) -> None:
    analysis = analyse_study(write_series(brain), models=[known_cube()], time_limit=0)
    assert analysis.verdict is Verdict.ABSTAIN
    assert any("time limit" in reason for reason in analysis.reasons)


def test_a_study_above_the_bound_of_voxels_ends_in_abstain(write_series: Any, brain: Brain, known_cube: Any) -> None:
    analysis = analyse_study(write_series(brain), models=[known_cube()], max_voxels=10_000)
    assert analysis.verdict is Verdict.ABSTAIN
    assert any("max_voxels" in reason for reason in analysis.reasons)


def test_at_most_twenty_findings_are_listed_and_the_rest_counted(write_series: Any, known_cube: Any) -> None:
    class Spots(known_cube):  # type: ignore[misc]
        def detect(self, volume: Any, *, batch: int) -> Any:
            answer = super().detect(volume, batch=batch)
            answer.logits[:] = 6
            for row in range(0, 120, 20):
                for column in range(0, 120, 20):
                    answer.edit[1:4, row : row + 12, column : column + 12] = 0.9
            return answer

    voxels = np.random.default_rng(0).integers(0, 900, (6, 128, 128)).astype(np.uint16)
    analysis = analyse_study(write_series(voxels), models=[Spots()])
    assert len(analysis.findings) == 20
    assert "16 weaker regions are not listed" in analysis.reasons
    assert set(np.unique(analysis.series[0].labels)) == set(range(21))


def test_files_of_two_studies_are_not_one(write_series: Any, brain: Brain, known_cube: Any) -> None:
    files = [*write_series(brain, folder="a"), *write_series(brain, folder="b", StudyInstanceUID="1.2.9")]
    with pytest.raises(NotOneStudy, match="2 studies"):
        analyse_study(files, models=[known_cube()])


def test_a_study_of_which_nothing_can_be_read_keeps_its_name(tmp_path: Path, known_cube: Any) -> None:
    (tmp_path / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 60)
    analysis = analyse_study([tmp_path / "x.dcm", tmp_path / "gone.dcm"], models=[known_cube()], study_uid="1.2.3")
    assert (analysis.study_uid, analysis.verdict) == ("1.2.3", Verdict.ABSTAIN)
    assert any("gone.dcm" in reason for reason in analysis.reasons)


def test_a_folder_gives_one_result_for_each_study_and_names_strangers(
    write_series: Any, brain: Brain, known_cube: Any, tmp_path: Path
) -> None:
    write_series(brain, folder="all/a")
    write_series(brain, folder="all/b", StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1")
    (tmp_path / "all/README.txt").write_text("images of a phantom")
    (tmp_path / "all/DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    results = analyse_folder(tmp_path / "all", models=[known_cube()])
    assert [result.study_uid for result in results] == ["1.2.826.0.1.3680043.8.498.1", "1.2.9"]
    assert {result.verdict for result in results} == {Verdict.CLEAR}
    assert all("not DICOM, ignored: README.txt" in result.reasons for result in results)


def test_a_damaged_file_among_several_studies_is_a_result_of_its_own(
    write_series: Any, brain: Brain, known_cube: Any, tmp_path: Path
) -> None:
    write_series(brain, folder="all/a")
    write_series(brain, folder="all/b", StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1")
    (tmp_path / "all/cut.dcm").write_bytes((tmp_path / "all/a/0000.dcm").read_bytes()[:300])
    verdicts = {result.study_uid: result.verdict for result in analyse_folder(tmp_path / "all", models=[known_cube()])}
    assert verdicts.pop("") is Verdict.ABSTAIN
    assert set(verdicts.values()) == {Verdict.CLEAR}


def test_progress_counts_up_to_the_whole(write_series: Any, brain: Brain, known_cube: Any) -> None:
    seen: list[Progress] = []
    analyse_study(write_series(brain), models=[known_cube()], progress=seen.append)
    assert seen[-1] == Progress("detect", 8, 8)
    assert [step.done for step in seen] == sorted(step.done for step in seen)


def test_two_detectors_are_one_voice(write_series: Any, brain: Brain, known_cube: Any) -> None:
    both = analyse_study(write_series(brain), models=[known_cube(BOX), known_cube(BOX, logit=4.0)])
    assert both.verdict is Verdict.SUSPECT
    assert len(both.models) == 2
    cautious = {"thresholds": Thresholds(review=0.4)}
    torn = analyse_study(write_series(brain), models=[known_cube(BOX, **cautious), known_cube(**cautious)])
    assert torn.verdict is Verdict.REVIEW


@pytest.mark.real_data
def test_real_studies_are_read_whole(scanwarden_data: Path, known_cube: Any) -> None:
    results = analyse_folder(scanwarden_data / "dicom/flair-glioma", models=[known_cube()])
    assert [len(result.to_json()["slices"]) for result in results] == [56, 55, 53, 54]
    assert {result.verdict for result in results} == {Verdict.CLEAR}
    assert {each.severity for result in results for each in result.observations} == {Severity.INFO}


@pytest.mark.real_data
def test_a_siemens_mosaic_is_not_taken_for_one_slice(scanwarden_data: Path, known_cube: Any) -> None:
    (result,) = analyse_folder(scanwarden_data / "dicom/transfer-syntaxes", models=[known_cube()])
    assert result.verdict is Verdict.ABSTAIN
    assert "mosaic" in result.reasons[0]
