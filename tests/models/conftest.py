"""A head from the phantom, and a model with random weights that is published into a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import inputs, networks, registry
from models.card import ModelCard
from models.tampering.inpainters import networks as inpainters
from models.tampering.inpainters import weights
from models.tampering.inpainters.catalogue import INPAINTERS
from models.tampering.phantom import make_phantom_study, phantom_volume


@pytest.fixture(scope="session")
def head() -> NDArray[np.uint16]:
    return phantom_volume(np.random.default_rng(3), slices=7, matrix=128, lesion=True)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom_study(folder, np.random.default_rng(4), slices=6, matrix=128)
    return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model of width 4, named `untrained`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arguments = {"channels": len(inputs.CHANNELS), "width": 4}
    folder = tmp_path_factory.mktemp("models")
    card = ModelCard(
        name="untrained", version="0", network="edit_unet", arguments=arguments, digest="0" * 64, licence="Apache-2.0"
    )
    registry.publish(networks.build("edit_unet", **arguments), card, folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def untrained_inpainters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every inpainter with random weights: what a test needs to know of learned families holds for any weights."""
    folder = tmp_path_factory.mktemp("inpainters")
    torch.manual_seed(0)
    for kind in INPAINTERS.values():
        weights.save(kind, inpainters.build(kind.network, **kind.arguments).state_dict(), 0, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANWARDEN_INPAINTERS", str(folder))
        yield folder
