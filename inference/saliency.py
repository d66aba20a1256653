"""Where in an image a synthesis score rests: in words, and as a picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference import whole_images
from inference.decoding import decode, refuse_unreadable
from inference.errors import InferenceError
from inference.findings import SeriesSynthesis
from inference.instances import Instance, read_instance
from inference.limits import MAX_VOXELS
from inference.presented import Grey, chosen, presented
from models.images.prediction import ImageModel, ImagePrediction

_HALF = 0.5
_SPREAD = 0.3  # share of the image from which on half the weight lies "everywhere"
_SCATTERED = 0.4  # share of the image from which on a box around half of the weight names no place
_LEAST_SIDE = 512
_LEGEND = 44
_HEAT = 0.45


@dataclass(frozen=True, eq=False)
class Saliency:
    """Where the score of one image rests; `weights` (rows, columns), 0 to 1. `index`: which slice of a plain volume."""

    weights: NDArray[np.float32] = field(repr=False)
    words: str
    index: int = 0


def of_series(
    series: SeriesSynthesis, files: Mapping[str, Path], model: ImageModel
) -> tuple[str, Grey, Saliency] | None:
    """The instance that looks most generated, as it was shown to the model, and where its score rests.

    `files` by SOP Instance UID. None where the series has no score, or its image cannot be read again.
    """
    scored = [(score, place) for place, score in enumerate(series.scores) if score is not None]
    if series.probability is None or not scored:
        return None
    score, place = max(scored)
    uid = series.images[place]
    try:
        instance = read_instance(files[uid])
        refuse_unreadable(instance, MAX_VOXELS)
        looks = [(shown, _looked_at(shown, model)) for shown in _shown(instance)]
    except (InferenceError, KeyError, OSError):
        return None
    # Of a multi-frame instance nothing tells the frame any more but its score.
    grey, answer = min(looks, key=lambda each: abs(model.card.image_probability(each[1].synthesis_logit) - score))
    if answer.saliency is None:
        return None
    return uid, grey, Saliency(answer.saliency, rests_on(answer.saliency))


def _shown(instance: Instance) -> Iterator[Grey]:
    wanted = chosen(len(instance.frames))
    for index, image in enumerate(decode(instance)):
        if index in wanted:
            yield presented(image, instance, instance.frames[index])


def _looked_at(shown: Grey, model: ImageModel) -> ImagePrediction:
    (answer,) = whole_images.look([shown], model, saliency=True)
    return answer


def rests_on(saliency: NDArray[np.float32]) -> str:
    """What holds half of the weight: a place, or the image as a whole. `saliency` (rows, columns), 0 to 1."""
    weight = np.clip(saliency, 0, None).astype(np.float64)
    total = float(weight.sum())
    if total <= 0:
        return "no place in it: nothing looks generated"
    ranked = np.sort(weight, axis=None)[::-1]
    enough = int(np.searchsorted(np.cumsum(ranked), _HALF * total)) + 1
    share = enough / weight.size
    if share >= _SPREAD:
        return "the image as a whole: no part of it stands out"
    place = weight >= ranked[enough - 1]
    rows, columns = np.flatnonzero(place.any(axis=1)), np.flatnonzero(place.any(axis=0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    if height * width >= _SCATTERED * weight.size:
        return f"places all over the image ({share:.0%} of it holds half of the weight)"
    return (
        f"{share:.0%} of the image, within rows {rows[0]}-{rows[-1] + 1} and columns {columns[0]}-{columns[-1] + 1}, "
        "which holds half of the weight"
    )


def drawn(grey: NDArray[np.uint8], saliency: NDArray[np.float32], words: str) -> NDArray[np.uint8]:
    """The image with the saliency over it in colour, BGR, and a line of legend below."""
    import cv2

    scale = max(1, -(-_LEAST_SIDE // min(grey.shape))) if max(grey.shape) < 2 * _LEAST_SIDE else 1
    size = (grey.shape[1] * scale, grey.shape[0] * scale)
    base = cv2.cvtColor(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    level = np.asarray(np.rint(np.clip(saliency, 0, 1) * 255), np.uint8)
    heat = cv2.applyColorMap(cv2.resize(level, size, interpolation=cv2.INTER_LINEAR), cv2.COLORMAP_INFERNO)
    picture = cv2.addWeighted(base, 1 - _HEAT, heat, _HEAT, 0)
    picture = cv2.copyMakeBorder(picture, 0, _LEGEND, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    for place, text in ((17, words), (36, "brighter: more like a generator's work; not a diagnosis")):
        cv2.putText(
            picture, text, (8, size[1] + place), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (200, 200, 200), 1, cv2.LINE_AA
        )
    return np.asarray(picture, np.uint8)
