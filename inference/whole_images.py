"""Whole images: which organ a stack shows and whether a scanner made a series, by what a model says of its slices.

A slice alone decides nothing: an organ is named where at least half of the slices show it, and a series is judged by
the logits of its slices together.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inference.detectors import device_for
from inference.errors import InferenceError
from inference.findings import ModelUsed, SeriesSynthesis, Verdict
from models.images.card import ImageModelCard
from models.images.organs import Organ
from models.images.prediction import ImageModel, ImagePrediction

AUTO = "auto"
NONE = "none"
UNRECOGNISED = "no organ that I know"
INTERPOLATED = (
    "its images have less detail than their matrix, from a scanner that interpolates or from a generator, and at the "
    "matrix that their detail fills they look scanned: whether a scanner made them cannot be told"
)


def unrecognised(reason: str, where: str = "") -> str:
    """That no organ is known, and why; a reason that says no more than that is not told again."""
    return f"{UNRECOGNISED}{where}{f': {reason}' if reason and not reason.startswith('no organ') else ''}"


@dataclass(frozen=True)
class Agreement:
    """What the slices of one stack show together.

    `probability` is the mean calibrated probability of the organ over the `agreeing` of `images` slices that show it; 0
    where the organ is UNKNOWN, and `reason` then says why. `is_none`: most of them are taken for no image of an organ.
    """

    organ: Organ
    probability: float
    agreeing: int
    images: int
    reason: str = ""
    is_none: bool = False

    @property
    def share(self) -> float:
        return self.agreeing / self.images if self.images else 0.0


@dataclass(frozen=True, eq=False)
class Look:
    """What a model said of some slices of one stack: `images` names their instances, `total` counts all its slices."""

    series_uid: str
    images: tuple[str, ...]
    predictions: tuple[ImagePrediction, ...]
    total: int
    card: ImageModelCard = field(repr=False)

    @property
    def agreement(self) -> Agreement:
        return agreement(self.predictions, self.card)


def image_model_for(choice: str | ImageModel | None, *, device: str = "auto", threads: int = 0) -> ImageModel | None:
    """The whole-image model of a setting; a ready one passes through, None and `none` are none.

    `auto` is the one that ships, and none where its weights are not here. Raises DeviceUnavailable when `device` is not
    here, and models.errors.ModelsError when a named model is unknown or its weights are not those of its card.
    """
    if choice is None or choice == NONE:
        return None
    if not isinstance(choice, str):
        return choice
    name = _shipped() if choice == AUTO else choice
    if name is None:
        return None
    chosen = device_for(device)
    model = _loaded(name, chosen)
    if chosen == "cpu" and threads > 0:
        import torch

        torch.set_num_threads(threads)
    return model


def _shipped() -> str | None:
    from models import registry

    weights = registry.SHIPPED / "weights"
    names = (card.name for card in registry.available_image_models())
    return next((name for name in names if (weights / f"{name}.safetensors").is_file()), None)


@lru_cache(maxsize=2)
def _loaded(name: str, device: str) -> ImageModel:
    from models.images.registry import load_image_model

    return load_image_model(name, device)


def used(model: ImageModel) -> ModelUsed:
    """How an analysis names its whole-image model."""
    return ModelUsed(model.card.name, model.card.version, model.card.digest)


def look(
    images: Iterable[NDArray[np.generic]],
    model: ImageModel,
    *,
    saliency: bool = False,
    before_each: Callable[[], None] | None = None,
) -> list[ImagePrediction]:
    """Ask the model about grey images (rows, columns) as a viewer would show them (`inference.presented`), one by one.

    `before_each` is called before every image, and may end the work by raising. Raises InferenceError when an answer
    does not fit the question.
    """
    answers = []
    for image in images:
        if before_each is not None:
            before_each()
        answer = _checked(model.predict([image], saliency=saliency), model.card)
        answers.append(_at_own_detail(answer, image, model, before_each))
    return answers


def _at_own_detail(
    answer: ImagePrediction, image: NDArray[np.generic], model: ImageModel, before_each: Callable[[], None] | None
) -> ImagePrediction:
    """Ask again about an image that was interpolated, at the matrix that it fills."""
    from models.images.fineness import coarser

    if answer.organ is Organ.UNKNOWN:
        return answer
    again = []
    for smaller in coarser(image):
        if before_each is not None:
            before_each()
        again.append(_checked(model.predict([smaller]), model.card))
    return replace(answer, at_own_detail=min(each.synthesis_logit for each in again)) if again else answer


def _checked(answers: Sequence[ImagePrediction], card: ImageModelCard) -> ImagePrediction:
    if len(answers) != 1 or answers[0].organs.shape != (len(card.organs),):
        raise InferenceError(
            f"{card.name} gave {len(answers)} answers to one image, or of other organs than its card's"
        )
    if not (np.isfinite(answers[0].organs).all() and np.isfinite(answers[0].synthesis_logit)):
        raise InferenceError(f"{card.name} answered with values that are no numbers")
    return answers[0]


def agreement(predictions: Sequence[ImagePrediction], card: ImageModelCard) -> Agreement:
    """The organ that at least half of the slices show; UNKNOWN where they do not agree on one."""
    known = [prediction for prediction in predictions if prediction.organ is not Organ.UNKNOWN]
    sums = {organ: _probability(known, organ, card) for organ in dict.fromkeys(each.organ for each in known)}
    counts = Counter(prediction.organ for prediction in known)
    best = max(counts, key=lambda organ: (counts[organ], sums[organ]), default=Organ.UNKNOWN)
    if best is not Organ.UNKNOWN and 2 * counts[best] >= len(predictions):
        return Agreement(best, sums[best], counts[best], len(predictions))
    reasons = Counter(prediction.reason for prediction in predictions if prediction.organ is Organ.UNKNOWN)
    if 2 * sum(reasons.values()) > len(predictions):
        reason = reasons.most_common(1)[0][0]
    else:
        shown = ", ".join(f"{organ} on {count}" for organ, count in counts.most_common())
        reason = f"its images do not agree: {shown} of {len(predictions)}"
    none = sum(prediction.is_none for prediction in predictions)
    return Agreement(Organ.UNKNOWN, 0.0, 0, len(predictions), reason, is_none=2 * none > len(predictions))


def _probability(predictions: Sequence[ImagePrediction], organ: Organ, card: ImageModelCard) -> float:
    place = card.organs.index(organ)
    shown = [float(prediction.organs[place]) for prediction in predictions if prediction.organ is organ]
    return float(np.mean(shown)) if shown else 0.0


def by_series(looks: Sequence[Look]) -> tuple[SeriesSynthesis, ...]:
    """One answer for each series, from the slices of all its stacks together."""
    grouped: dict[str, list[Look]] = {}
    for each in looks:
        grouped.setdefault(each.series_uid, []).append(each)
    return tuple(judged(members) for members in grouped.values())


def judged(looks: Sequence[Look]) -> SeriesSynthesis:
    """What the looks at one series say together.

    One image has the calibration of one image; from two on they have the one of a series. Slices that show no organ
    that the model knows say nothing about their origin.
    """
    card = looks[0].card
    predictions = [prediction for each in looks for prediction in each.predictions]
    shown = agreement(predictions, card)
    known = [each for each in predictions if each.organ is not Organ.UNKNOWN]
    probability, verdict, doubt = None, Verdict.ABSTAIN, ""
    if shown.organ is not Organ.UNKNOWN:
        as_stored = _probability_of([each.synthesis_logit for each in known], card)
        probability = _probability_of([each.surest for each in known], card)
        verdict = _verdict(probability, card, alone=len(known) == 1)
        if verdict is Verdict.CLEAR and _verdict(as_stored, card, alone=len(known) == 1) is not Verdict.CLEAR:
            verdict, probability, doubt = Verdict.ABSTAIN, None, INTERPOLATED
    return SeriesSynthesis(
        series_uid=looks[0].series_uid,
        model=card.name,
        organ=shown.organ.value,
        organ_probability=shown.probability,
        probability=probability,
        verdict=verdict,
        images=tuple(image for each in looks for image in each.images),
        scores=tuple(
            None if each.organ is Organ.UNKNOWN else card.image_probability(each.surest) for each in predictions
        ),
        agreeing=shown.agreeing,
        total=sum(each.total for each in looks),
        reason=shown.reason or doubt,
    )


def _probability_of(logits: Sequence[float], card: ImageModelCard) -> float:
    return (
        card.image_probability(logits[0]) if len(logits) == 1 else card.series_probability(np.array(logits, np.float32))
    )


def _verdict(probability: float | None, card: ImageModelCard, *, alone: bool) -> Verdict:
    """One image alone has to pass the threshold of one image as well."""
    if probability is None:
        return Verdict.ABSTAIN
    limits = card.thresholds
    least = limits.image if alone else 0.0
    if probability >= max(limits.suspect, least):
        return Verdict.SUSPECT
    return Verdict.REVIEW if probability >= max(limits.review, least) else Verdict.CLEAR
