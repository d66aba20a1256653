"""From the regions of several volumes to the findings of one study, numbered and painted."""

from collections.abc import Sequence

import numpy as np

from inference.findings import Finding, SeriesAnalysis, classes_of
from inference.looking import Analysed
from inference.volume import SourceSlice

MOST_FINDINGS = 20


def labelled(
    volumes: Sequence[Analysed],
) -> tuple[list[Finding], int, list[SeriesAnalysis], dict[int, tuple[SourceSlice, ...]]]:
    """Number the regions of all volumes, edits before tumours, the likeliest first, and paint them with their numbers.

    Edits beyond a model's domain come after the others.

    The findings, how many more there are, the painted volumes, and by label where the slices of a finding come from.
    """
    ranked = sorted(
        ((score, place, region) for place, analysed in enumerate(volumes) for score, region in analysed.regions),
        key=lambda entry: (
            not entry[2].finding_class.is_edit,
            volumes[entry[1]].is_beyond,
            -entry[0],
            entry[1],
            entry[2].component,
        ),
    )
    findings = [
        Finding(
            finding_class=region.finding_class,
            score=float(score),
            series_uid=volumes[place].series_uid,
            slices=region.slices,
            key_slice=region.key_slice,
            box=region.box,
            volume_mm3=region.volume_mm3,
            label=number,
            beyond_domain=volumes[place].is_beyond,
        )
        for number, (score, place, region) in enumerate(ranked[:MOST_FINDINGS], start=1)
    ]
    tables = [np.zeros(int(analysed.components.max(initial=0)) + 1, np.uint16) for analysed in volumes]
    slices_of = {}
    for finding, (_, place, region) in zip(findings, ranked, strict=False):
        tables[place][region.component] = finding.label
        slices_of[finding.label] = volumes[place].sources
    series = []
    for analysed, table in zip(volumes, tables, strict=True):
        labels = table[analysed.components]
        sources = analysed.sources
        series.append(
            SeriesAnalysis(
                series_uid=analysed.series_uid,
                sop_instance_uids=tuple(source.sop_instance_uid for source in sources),
                frame_numbers=tuple(source.frame_number for source in sources),
                source_files=tuple(source.file for source in sources),
                slice_scores=analysed.slice_scores,
                labels=labels,
                classes=classes_of(labels, findings),
            )
        )
    return findings, max(0, len(ranked) - MOST_FINDINGS), series, slices_of
