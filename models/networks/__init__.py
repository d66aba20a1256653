"""The registry of networks: a new one is a new file here and an entry in NETWORKS."""

from collections.abc import Callable
from typing import Any

from torch import nn

from models.errors import UnknownModel
from models.networks.organ_attention import OrganAttention
from models.networks.organ_resnet import OrganResNet
from models.networks.output import NetworkOutput
from models.networks.unet import EditUNet, EditUNetDensity
from models.networks.whole_image import WholeImageOutput


def _edit_maskrcnn(**arguments: Any) -> nn.Module:
    from models.networks.maskrcnn import EditMaskRCNN  # torchvision takes a second that the others need not wait

    return EditMaskRCNN(**arguments)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "edit_unet": EditUNet,
    "edit_unet_density": EditUNetDensity,
    "edit_maskrcnn": _edit_maskrcnn,
    "organ_resnet": OrganResNet,
    "organ_attention": OrganAttention,
}


def build(name: str, **arguments: Any) -> nn.Module:
    """A network with fresh weights; raises UnknownModel for a name that is not in NETWORKS."""
    if name not in NETWORKS:
        raise UnknownModel(f"network {name!r} is not known; known: {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name](**arguments)


__all__ = ["NETWORKS", "NetworkOutput", "WholeImageOutput", "build"]
