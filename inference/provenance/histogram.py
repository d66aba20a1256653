"""A comb in the histogram: values that were stretched and rounded again leave gaps, squeezed ones leave peaks.

Windowing to 8 bit and back, gamma and contrast do this (Stamm and Liu 2010); scanners write every value in their range.
Where only some slices of a stack have it, those went another way than the rest.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from inference.findings import Observation, Severity
from inference.provenance.rules import pixel_rule
from inference.provenance.wording import count, short, verb
from inference.volume import Volume

_DENSE = 12.0  # pixels that a value may expect, before its absence says something
_COMB = 0.12  # share of empty or doubled values
_CLEAN = 0.02
_LEAST = 24  # values


@pixel_rule
def histograms_have_no_comb(volume: Volume) -> Iterator[Observation]:
    """Each slice alone, in stored values: `comb` is the share of values that are empty amid full ones, or doubled."""
    shares = np.array(
        [
            comb(np.rint((voxels - instance.frames[index].intercept) / instance.frames[index].slope))
            for (instance, index), voxels in zip(volume.stack.members, volume.voxels, strict=True)
        ]
    )
    known = np.isfinite(shares)
    combed = np.flatnonzero(known & (shares >= _COMB))
    if not len(combed):
        return
    uids = tuple(dict.fromkeys(volume.instances[int(index)].sop_instance_uid for index in combed))
    evidence = {
        "series_uid": volume.series_uid,
        "slices": int(known.sum()),
        "with_comb": len(combed),
        "share_of_values": round(float(np.median(shares[combed])), 3),
    }
    if (known & (shares < _CLEAN)).sum() >= len(combed):
        yield Observation(
            "comb-in-part",
            Severity.WARNING,
            f"the grey values of {count(len(uids))} of {short(volume.series_uid)} {verb(len(uids), 'was', 'were')} "
            "windowed or "
            "stretched and rounded again, those of the rest not: these slices went through another program; compare "
            "them with the scanner's",
            evidence,
            uids,
        )
    else:
        yield Observation(
            "comb",
            Severity.WARNING,
            f"the grey values of {short(volume.series_uid)} were windowed or stretched and rounded again after the "
            "scanner: "
            "fine detail is lost, and so are traces of edits; fetch the originals",
            evidence,
            uids,
        )


def comb(values: NDArray[np.floating]) -> float:
    """The share of values, where a slice has many pixels a value, that are empty or hold twice their neighbours' count.

    NaN where too few values are dense enough to tell.
    """
    stored = values.astype(np.int64).ravel()
    low, high = int(stored.min()), int(stored.max())
    if high - low < _LEAST or high - low > 1 << 20:
        return float("nan")
    counts = np.bincount(stored - low).astype(np.float64)
    counts[[0, -1]] = np.median(counts)  # background and saturation pile up at the ends
    around = np.convolve(counts, np.ones(9) / 9, mode="same")
    # Only where most neighbours hold something: the scattered bright tail of a histogram is no comb.
    filled = np.convolve((counts > 0).astype(np.float64), np.ones(9) / 9, mode="same")
    dense = (around >= _DENSE) & (filled >= 0.3)
    dense[:4] = dense[-4:] = False
    if dense.sum() < _LEAST:
        return float("nan")
    return float(((counts == 0) | (counts > 2.2 * around + 6 * np.sqrt(around)))[dense].mean())
