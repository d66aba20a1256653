"""Figures of a report, drawn without a display; the same numbers give the same bytes."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.figures import auc
from models.reports.report import Measured, Picture

Scores = Sequence[float] | NDArray[np.floating]
COLOURS = ("#0b4fa0", "#c2410c", "#047857", "#7e22ce", "#b8860b", "#be185d", "#0e7490", "#4d4d4d")
_STYLES = ("-", "--", "-.", ":")


def roc(curves: Mapping[str, tuple[Scores, Scores]], caption: str) -> Picture:
    """ROC of (positive, negative) scores by name; at the right the part that matters, false alarms on a log scale."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    whole, few = figure.subplots(1, 2)
    for place, (name, (positive, negative)) in enumerate(curves.items()):
        alarms, found = roc_points(positive, negative)
        label = f"{name}: {auc(positive, negative):.3f} ({len(positive)} : {len(negative)})"
        for axes in (whole, few):
            axes.step(alarms, found, where="post", label=label, **_line(place))
    few.set(xlim=(1e-3, 1), xscale="log")
    for rate in (0.01, 0.05):
        few.axvline(rate, color="#4d4d4d", linewidth=0.8, linestyle=":")
    whole.plot([0, 1], [0, 1], color="#4d4d4d", linewidth=0.8)
    for axes in (whole, few):
        axes.set(xlabel="false alarms (share of genuine)", ylabel="found (share of manipulated)", ylim=(0, 1.01))
    if curves:
        whole.legend(fontsize=7, loc="lower right", title="AUC (manipulated : genuine)", title_fontsize=7)
    return Picture(caption, png_of(figure))


def roc_points(positive: Scores, negative: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of negatives and of positives at or above each score, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    shares = [
        np.append(0.0, 1 - np.searchsorted(np.sort(values), thresholds, side="left") / max(len(values), 1))
        for values in (negative, positive)
    ]
    return shares[0], shares[1]


def confusion(
    counts: NDArray[np.integer[Any]], labels: Sequence[str], caption: str, *, answers: Sequence[str] | None = None
) -> Picture:
    """Counts, (truth, answer), with the share of each row as colour; `answers` where they are not the labels."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    columns = labels if answers is None else answers
    figure = Figure(figsize=(2.8 + 0.62 * len(columns), 2.2 + 0.62 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        dark = shares[row, column] > 0.5
        axes.text(column, row, f"{count}", ha="center", va="center", color="white" if dark else "#1a1a1a", fontsize=9)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=9)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set(xlabel="answer", ylabel="truth")
    return Picture(caption, png_of(figure))


def reliability(curves: Mapping[str, tuple[Scores, NDArray[np.bool_]]], caption: str, *, bins: int = 10) -> Picture:
    """Outcome against (probability, outcome) by name in equal bins; below, how many cases each bin holds."""
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="#4d4d4d", linewidth=0.8)
    for number, (name, (said, outcome)) in enumerate(curves.items()):
        probability = np.asarray(said, dtype=np.float64)
        place = np.minimum((probability * bins).astype(int), bins - 1)
        filled = [k for k in range(bins) if (place == k).any()]
        style = _line(number)
        upper.plot(
            [probability[place == k].mean() for k in filled],
            [outcome[place == k].mean() for k in filled],
            marker="o",
            label=name,
            **style,
        )
        middle = (np.arange(bins) + 0.5) / bins
        lower.step(middle, np.bincount(place, minlength=bins), where="mid", **style)
    upper.set(ylabel="share that were manipulated", xlim=(0, 1), ylim=(-0.02, 1.02))
    lower.set(xlabel="probability that was said", ylabel="cases", ylim=(0, None), yscale="symlog")
    if curves:
        upper.legend(fontsize=8, loc="upper left")
    return Picture(caption, png_of(figure))


def froc(
    curves: Mapping[str, tuple[Scores, Scores]], caption: str, *, marks: Sequence[float] = (0.1, 0.5, 1.0)
) -> Picture:
    """FROC by name: (false alarms a scan, sensitivity), each in the order of rising false alarms."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, (name, (alarms, found)) in enumerate(curves.items()):
        axes.step(np.maximum(alarms, 1e-2), found, where="post", label=name, **_line(place))
    for mark in marks:
        axes.axvline(mark, color="#4d4d4d", linewidth=0.8, linestyle=":")
    axes.set(
        xlim=(1e-2, 10),
        xscale="log",
        xlabel="false alarms a scan",
        ylabel="found (share of edited regions)",
        ylim=(0, 1.01),
    )
    if curves:
        axes.legend(fontsize=8, loc="lower right")
    return Picture(caption, png_of(figure))


def bars(
    values: Mapping[str, Measured],
    caption: str,
    *,
    axis: str,
    limits: tuple[float, float] | None = None,
    target: float | None = None,
) -> Picture:
    """A bar for each group with its interval and count; `target` as a line."""
    figure = Figure(figsize=(7, 0.9 + 0.34 * max(len(values), 1)), layout="constrained")
    axes = figure.subplots()
    for place, each in enumerate(values.values()):
        value = float("nan") if each.value is None else each.value
        axes.barh(place, value, color=COLOURS[0], height=0.7)
        if each.low is not None and each.high is not None:
            axes.plot([each.low, each.high], [place, place], color="#1a1a1a", linewidth=1.5)
    labels = [name if each.of is None else f"{name} ({each.of:,})" for name, each in values.items()]
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    if limits is not None:
        axes.set_xlim(*limits)
    if target is not None:
        axes.axvline(target, color="#c2410c", linewidth=1.2, linestyle="--")
    return Picture(caption, png_of(figure))


def lines(
    curves: Mapping[str, tuple[Scores, Scores]],
    caption: str,
    *,
    across: str,
    up: str,
    limits: tuple[float, float] | None = None,
) -> Picture:
    """A line for each name: (across, up)."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Axes = figure.subplots()
    for place, (name, (first, second)) in enumerate(curves.items()):
        axes.plot(first, second, marker="o", markersize=3, label=name, **_line(place))
    axes.set(xlabel=across, ylabel=up)
    if limits is not None:
        axes.set_ylim(*limits)
    if curves:
        axes.legend(fontsize=8)
    return Picture(caption, png_of(figure))


def png_of(figure: Figure) -> bytes:
    """The figure as PNG, without the name of the program that drew it."""
    written = BytesIO()
    figure.savefig(written, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return written.getvalue()


def _line(place: int) -> dict[str, Any]:
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": _STYLES[place // len(COLOURS) % len(_STYLES)],
        "linewidth": 1.5,
    }
