"""What every edit network gives back, so that training and inference need not know which one it is."""

from typing import NamedTuple

from torch import Tensor


class NetworkOutput(NamedTuple):
    """Logits: `edit` (slices, rows, columns), `edit_type` (slices, types, rows, columns), `image` (slices,)."""

    edit: Tensor
    edit_type: Tensor
    image: Tensor
