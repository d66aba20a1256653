"""A whole-image model with random weights, published into a temporary folder."""

from pathlib import Path

import pytest
import torch

from models import networks, registry
from models.images import inputs
from models.images.card import ImageModelCard


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model of width 8, named `untrained`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arguments = {"channels": len(inputs.CHANNELS), "width": 8}
    folder = tmp_path_factory.mktemp("image-models")
    card = ImageModelCard(
        name="untrained",
        version="0",
        network="organ_resnet",
        arguments=arguments,
        digest="0" * 64,
        licence="Apache-2.0",
    )
    registry.publish(networks.build("organ_resnet", **arguments), card, folder)
    return folder
