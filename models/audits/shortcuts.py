"""The audits of what training is given: twins as they end their journey, before they become input channels."""

from collections.abc import Sequence

import numpy as np

from models.audits import views
from models.audits.audit import Audit
from models.audits.classifier import judged, told_apart
from models.samples import StoredTwins
from models.tampering.families import EditType


def outside_the_mask(twins: Sequence[StoredTwins]) -> Audit:
    """A classifier that sees only pixels far from the edit, of twin against twin."""
    genuine, edited, groups = [], [], []
    for twin in twins:
        middle = len(twin.genuine) // 2
        region = twin.region[middle]
        pair = [views.outside(slab[middle], region) for slab in (twin.genuine, twin.edited)]
        if region.any() and pair[0] is not None and pair[1] is not None:
            genuine.append(pair[0])
            edited.append(pair[1])
            groups.append(f"{twin.source}/{twin.patient}")
    return told_apart(
        np.array(genuine),
        np.array(edited),
        groups,
        name="outside the mask",
        bound=0.55,
        about="in how many pairs of twins the pixels far from the edit tell which is the edited one",
        remedy="outside the mask edited images must be their twins, pixel for pixel: models/tampering/compose",
    )


def surface(twins: Sequence[StoredTwins]) -> Audit:
    """A classifier that sees only compressed size, range, depth and histogram."""
    middles = [len(twin.genuine) // 2 for twin in twins]
    groups = [f"{twin.source}/{twin.patient}" for twin in twins]
    genuine = np.array([views.surface(twin.genuine[k]) for twin, k in zip(twins, middles, strict=True)])
    edited = np.array([views.surface(twin.edited[k]) for twin, k in zip(twins, middles, strict=True)])
    return judged(
        genuine,
        edited,
        [*groups, *groups],
        name="header, size, histogram",
        bound=0.6,
        about="a classifier of compressed size, range, depth and histogram, edited images against all genuine ones",
        remedy="one of the two is stored otherwise, or edits change far more than a lesion would: models/tampering",
    )


def priors(twins: Sequence[StoredTwins]) -> Audit:
    """A classifier that sees only where a region lies and how large it is: edits that claim a tumour, against tumours.

    Twins of whole slices of sources that mark their tumours.
    """
    real, made, groups = [], [], [[], []]  # type: ignore[var-annotated]
    for twin in twins:
        middle = len(twin.genuine) // 2
        who = f"{twin.source}/{twin.patient}"
        if twin.lesion[middle].any() and (found := views.place(twin.lesion[middle], twin.genuine[middle])) is not None:
            real.append(found)
            groups[0].append(who)
        if twin.family.edit_type is EditType.RESYNTHESISED:
            continue
        if twin.region[middle].any() and (found := views.place(twin.region[middle], twin.genuine[middle])) is not None:
            made.append(found)
            groups[1].append(who)
    return judged(
        np.array(real).reshape(len(real), -1),
        np.array(made).reshape(len(made), -1),
        [*groups[0], *groups[1]],
        name="place and size",
        bound=0.75,
        about="a classifier of place and size, added and removed tumours against real ones",
        remedy="draw edits where and as large as real lesions are: models/tampering/regions",
    )
