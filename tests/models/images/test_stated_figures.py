"""What README and the page on models say of the shipped whole-image network is what its card says."""

from pathlib import Path
from typing import Any

import pytest

from models import registry
from models.images import sections

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return next(card.figures for card in registry.available_image_models() if card.name == "organ-resnet")


def _interval(row: dict[str, Any], digits: int) -> str:
    low, high = row["auc_interval"]
    return f"{row['auc']:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def test_readme_states_the_figures_of_the_card(figures: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    organ = figures["organ"]["genuine"]
    assert f"organ of {organ['images']} genuine images" in readme
    assert f"{organ['right']} right, {organ['wrong']} wrong, {organ['abstained']} withheld" in readme
    assert f"{_interval(figures['as_they_came']['overall'], 4)}; {_interval(figures['overall'], 3)}" in readme
    left = {kind: ways["clean, as they came"]["auc"] for kind, ways in figures["left_out_generator"].items()}
    worst = min(left, key=lambda kind: left[kind])
    assert f"worst {left[worst]:.3f} (`{worst}`)" in readme
    unseen = figures["false_alarms"]["t1-healthy"]
    assert f"{unseen['alarms']} of {unseen['images']} of the never-seen" in readme


def test_the_page_on_models_states_every_kind_and_source_of_the_card(figures: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for kind, row in figures["by_kind"].items():
        came = figures["as_they_came"]["by_kind"][kind]
        assert f"| `{kind}` | {_interval(came, 3)} | {_interval(row, 3)} |" in page
    for source, row in figures["false_alarms"].items():
        assert f"| {source} | {row['images']} of {row['patients']} | {row['alarms']} |" in page


def test_the_cards_page_has_every_table_of_the_figures(figures: dict[str, Any]) -> None:
    page = (registry.SHIPPED / "cards" / "organ-resnet.md").read_text(encoding="utf-8")
    for section in (sections.organ(figures), sections.eight(figures), sections.other_sources(figures)):
        for table in section.tables:
            assert "| " + " | ".join(table.columns) + " |" in page
    assert str(sections.interval_of(figures["overall"], "auc")) in page
