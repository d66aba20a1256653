"""Models of the registry are detectors; devices that are not there are named, not replaced."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.detectors import Detection, Detector, RegistryDetector, check, detectors_for, device_for
from inference.errors import DeviceUnavailable, InferenceError
from inference.findings import FindingClass
from inference.volume import read_volumes
from models.card import ModelCard


class Model:
    """What `models.registry.LoadedModel` shows."""

    card = ModelCard(
        name="m", version="1", network="none", arguments={}, digest="0" * 64, licence="test",
        domain={"rows": (60.0, 70.0)},
    )  # fmt: skip

    def predict(self, volume: NDArray[np.float32], spacing: Any, *, batch: int) -> Any:
        class Predictions:
            edit = np.zeros_like(volume)
            image_logit = np.zeros(len(volume), np.float32)
            edit_type = np.zeros((len(volume), 3, *volume.shape[1:]), np.float32)
            density = None

        Predictions.edit_type[:, 1] = 1
        return Predictions


def test_types_of_the_model_become_classes_of_findings(write_series: Any, brain: NDArray[np.uint16]) -> None:
    (volume,) = read_volumes(write_series(brain))
    detection = RegistryDetector(Model()).detect(volume, batch=2)  # type: ignore[arg-type]
    assert np.all(detection.classes == FindingClass.REMOVED_TUMOUR.code)


def test_images_unlike_those_measured_on_are_not_recognised(write_series: Any, brain: NDArray[np.uint16]) -> None:
    detector = RegistryDetector(Model())  # type: ignore[arg-type]
    (inside,) = read_volumes(write_series(brain, folder="inside"))
    (outside,) = read_volumes(write_series(brain[:, :40], folder="outside"))
    assert detector.recognises(inside)
    assert "rows is 40" in detector.recognises(outside).reasons[0]


def test_a_detector_that_is_ready_needs_no_device(known_cube: Any) -> None:
    detector = known_cube()
    assert isinstance(detector, Detector)
    assert detectors_for([detector], device="cuda") == (detector,)


def test_a_gpu_that_is_not_here_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for("auto") == "cpu"
    with pytest.raises(DeviceUnavailable, match=r"analysis\.device is 'cuda'"):
        device_for("cuda")


@pytest.mark.parametrize("fault", ["shape", "nan"])
def test_an_answer_that_does_not_fit_is_refused(write_series: Any, brain: NDArray[np.uint16], fault: str) -> None:
    (volume,) = read_volumes(write_series(brain))
    edit = np.zeros(volume.source_shape, np.float32)
    if fault == "nan":
        edit[0, 0, 0] = np.nan
    answer = Detection(edit[1:] if fault == "shape" else edit, np.zeros(8, np.float32), edit.astype(np.uint8)
                       if fault == "shape" else np.zeros(edit.shape, np.uint8))  # fmt: skip
    with pytest.raises(InferenceError, match="answered"):
        check(answer, volume)


def test_headers_and_geometry_need_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, inference.volume, inference.findings, inference.provenance; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path.cwd()).returncode == 0
