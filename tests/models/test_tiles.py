import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import inputs, tiles
from models.card import ModelCard
from models.networks import NetworkOutput
from models.registry import LoadedModel

INTENSITY = (0.0, 1000.0)


def head(rows: int = 300, columns: int = 212, slices: int = 3) -> inputs.FloatArray:
    """A bright disc in air, with noise."""
    y, x = np.mgrid[:rows, :columns]
    disc = ((y - rows / 2) / (0.4 * rows)) ** 2 + ((x - columns / 2) / (0.4 * columns)) ** 2 < 1
    volume = np.stack([700.0 * disc] * slices) + 20 * np.random.default_rng(0).standard_normal((slices, rows, columns))
    return volume.astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (129, 200), (256, 256), (512, 460)])
def test_squares_cover_a_slice_and_overlap_by_a_quarter(rows: int, columns: int) -> None:
    seen = np.zeros((rows, columns), np.int64)
    for row in (down := tiles.starts(rows, 128)):
        for column in (across := tiles.starts(columns, 128)):
            seen[row : row + 128, column : column + 128] += 1
    assert seen.min() >= 1
    assert all(after - before <= 96 for starts in (down, across) for before, after in itertools.pairwise(starts))
    assert all(start + 128 <= length for starts, length in ((down, rows), (across, columns)) for start in starts[1:])


def test_a_square_is_what_a_crop_of_training_is() -> None:
    volume = head()
    made = tiles.of_slice(volume, 1, 128, INTENSITY)
    for tile in made:
        crop = volume[:, tile.row : tile.row + 128, tile.column : tile.column + 128]
        np.testing.assert_array_equal(tile.channels, inputs.channels(crop, [1], intensity=INTENSITY)[0])
    first = tiles.of_slice(volume, 0, 128, INTENSITY)[0]
    np.testing.assert_array_equal(first.channels[0], first.channels[1])  # nothing lies below


def test_air_is_not_asked_about_but_one_square_always_is() -> None:
    volume = np.zeros((1, 512, 512), np.float32)
    volume[0, 200:300, 200:300] = 800
    made = tiles.of_slice(volume, 0, 128, INTENSITY)
    assert 0 < len(made) < 25
    assert len(tiles.of_slice(np.zeros_like(volume), 0, 128, INTENSITY)) == 1


def test_what_squares_agree_on_stays_and_nothing_is_said_of_the_rest() -> None:
    volume = head(512, 512)
    made = tiles.of_slice(volume, 1, 128, INTENSITY)
    maps = np.stack([np.full((2, 128, 128), 3.0, np.float32) for _ in made])
    whole = tiles.joined(made, maps, (512, 512), -9.0)
    assert whole.shape == (2, 512, 512)
    assert set(np.round(np.unique(whole), 4)) <= {-9.0, 3.0}
    assert whole[0, 256, 256] == pytest.approx(3.0)
    assert whole[0, 0, 0] == -9.0


class Bright(nn.Module):
    """Says that bright pixels are edited, and of an image the share of them."""

    def forward(self, x: Tensor) -> NetworkOutput:
        edit = 8.0 * (x[:, 1] - 1.0)
        return NetworkOutput(
            edit=edit, edit_type=torch.zeros(len(x), 3, *x.shape[2:]), image=(x[:, 1] > 1).float().mean(dim=(1, 2))
        )


@pytest.mark.parametrize("slices", [1, 3])
def test_a_model_with_tiles_finds_the_place_and_the_likeliest_square_speaks_for_the_slice(slices: int) -> None:
    volume = head(slices=slices)
    volume[slices // 2, 120:150, 90:120] = 3000
    card = ModelCard(name="m", version="1", network="none", arguments={}, digest="0" * 64, licence="none", tile=96)
    said = LoadedModel(card, Bright(), "cpu").predict(volume)
    assert said.edit.shape == volume.shape
    marked = np.argwhere(said.edit[slices // 2] > 0.5)
    assert marked.min(axis=0).tolist() == [120, 90]
    assert marked.max(axis=0).tolist() == [149, 119]
    assert said.edit[0, 0, 0] < 1e-3
    np.testing.assert_allclose(said.edit_type.sum(axis=1), 1.0, atol=1e-5)
    whole = LoadedModel(card.model_copy(update={"tile": None}), Bright(), "cpu").predict(volume)
    assert said.image_logit[slices // 2] > 2 * whole.image_logit[slices // 2]
