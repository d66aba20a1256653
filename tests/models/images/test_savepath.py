import numpy as np
import pytest

from models.images import audits, savepath
from models.images.audits import AuditPair, ShortcutFound
from models.images.savepath import SavePath
from tests.drawn_bodies import body


@pytest.mark.parametrize("synthetic_side", [128, 160])
def test_both_of_a_pair_are_files_of_one_kind(synthetic_side: int) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        made, taken = savepath.twins(body(1, synthetic_side), body(2, 320), body(3, 320), rng)
        assert made.shape == taken.shape
        assert made.dtype == taken.dtype
        assert min(made.shape) >= 80


def test_a_pair_depends_on_its_seed_alone() -> None:
    first, again, other = (
        savepath.twins(body(1, 128), body(2), body(3), np.random.default_rng(seed)) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape != other[0].shape or (first[0] != other[0]).any()


def test_specification_gives_exactly_the_values_of_the_pattern() -> None:
    image, pattern = (savepath.grey(body(seed)) for seed in (1, 2))
    result = savepath.specified(image, pattern)
    np.testing.assert_array_equal(np.sort(result, axis=None), np.sort(pattern, axis=None))
    darker, brighter = np.quantile(image, 0.3), np.quantile(image, 0.95)
    assert result[image <= darker].mean() < result[image >= brighter].mean()


def test_a_pair_ends_in_files_of_about_one_size() -> None:
    quiet, loud = savepath.grey(body(1, noise=1.0)), savepath.grey(body(2, noise=12.0))
    for seed in range(4):
        for one, other in ((quiet, loud), (loud, quiet)):
            first, second = savepath.evened(one, other, np.random.default_rng(seed))
            assert savepath.weight(first) == pytest.approx(savepath.weight(second), rel=0.1)


def test_one_way_makes_the_same_of_the_same_image() -> None:
    image = savepath.grey(body(1))
    for seed in range(30):
        path = savepath.draw(np.random.default_rng(seed), image.shape, untouched=0.0)
        stored = path(image.copy())
        np.testing.assert_array_equal(stored, path(image.copy()))
        assert stored.dtype in (np.uint8, np.uint16)


def test_plain_depth_is_a_way_that_changes_nothing_else() -> None:
    image = body(1)
    np.testing.assert_array_equal(SavePath(())(savepath.grey(image)), image)


def test_images_that_differ_in_their_files_alone_are_told_apart_and_refused() -> None:
    pairs = [
        AuditPair(body(2 * k, 96), body(2 * k + 1, 96 + 16 * (k % 2)).astype(np.uint16) * 16, str(k)) for k in range(40)
    ]
    figures = audits.audit(pairs)
    assert figures["header"]["auc"] > 0.9
    with pytest.raises(ShortcutFound, match="header"):
        audits.gate(figures)


def test_equal_files_are_at_chance_and_pass() -> None:
    pairs = [AuditPair(body(2 * k, 96), body(2 * k + 1, 96), str(k)) for k in range(60)]
    figures = audits.audit(pairs)
    assert figures["header"]["auc"] < 0.65
    for name in ("file size", "histogram", "border"):
        assert 0.25 < figures[name]["auc"] < 0.75
        low, high = figures[name]["interval"]
        assert low <= figures[name]["auc"] <= high
