"""What `scanwarden analyse` says of the whole images of a DICOM study: organ, synthesis, and what that rests on."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.options import answers

if TYPE_CHECKING:
    from config import Settings
    from inference.findings import SeriesSynthesis, StudyAnalysis
    from inference.presented import Grey
    from inference.saliency import Saliency


class WholeImages:
    """The series of one analysis that a whole-image model looked at, their strongest images looked at once more."""

    def __init__(self, analysis: "StudyAnalysis", files: Iterable[Path], settings: "Settings") -> None:
        self.series = analysis.synthesis
        self._resting: list[tuple[SeriesSynthesis, str, Grey, Saliency]] = []
        if any(series.probability is not None for series in self.series):
            self._look(files, settings)

    def _look(self, files: Iterable[Path], settings: "Settings") -> None:
        from inference.saliency import of_series
        from inference.whole_images import image_model_for

        chosen = settings.analysis
        model = image_model_for(chosen.image_model, device=chosen.device, threads=chosen.threads)
        if model is None:
            return
        by_uid = _by_uid(files)
        for series in self.series:
            found = of_series(series, by_uid, model)
            if found is not None:
                self._resting.append((series, *found))

    def print(self) -> None:
        for series in self.series:
            seen = f"{len(series.images):,} of {series.total:,} images"
            if series.probability is None:
                shown = f"{series.organ}{f': {series.reason}' if series.reason else ''}"
            else:
                shown = (
                    f"{series.organ} ({series.organ_probability:.2f}); "
                    f"generated as a whole: probability {series.probability:.2f}"
                )
            answers.print(
                f"  series …{series.series_uid[-12:]} shows: {shown}; {seen}", highlight=False, soft_wrap=True
            )
            for other, uid, _, saliency in self._resting:
                if other is series:
                    words = f"that score rests, on image …{uid[-12:]}, on {saliency.words}"
                    answers.print(f"    {words}", highlight=False, soft_wrap=True)

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"series_uid": series.series_uid, "sop_instance_uid": uid, "words": saliency.words}
            for series, uid, _, saliency in self._resting
        ]

    def write(self, folder: Path) -> list[Path]:
        """A picture for each series with a score, `saliency-NN.png`."""
        from inference.pictures.written import write_picture
        from inference.saliency import drawn

        folder.mkdir(parents=True, exist_ok=True)
        return [
            write_picture(
                folder / f"saliency-{number:02d}.png",
                drawn(grey, saliency.weights, f"generated as a whole: {series.probability or 0.0:.2f}"),
            )
            for number, (series, _, grey, saliency) in enumerate(self._resting, start=1)
        ]


def _by_uid(files: Iterable[Path]) -> dict[str, Path]:
    from inference.errors import UnreadableInstance
    from inference.instances import read_instance

    found: dict[str, Path] = {}
    for file in files:
        try:
            found.setdefault(read_instance(file).sop_instance_uid, file)
        except (UnreadableInstance, OSError):
            continue  # the analysis has said so
    return found
