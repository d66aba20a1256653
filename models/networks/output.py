"""What every edit network gives back, so that training and inference need not know which one it is."""

from typing import NamedTuple

from torch import Tensor


class NetworkOutput(NamedTuple):
    """Logits: `edit` (slices, rows, columns), `edit_type` (slices, types, rows, columns), `image` (slices,).

    Only of networks that have them: `density` (slices, rows, columns), the share of edited pixels around each pixel as
    models.density defines it, 0 to 1 and no logit; `boundary` (slices, rows, columns), logits of the edit's rim.
    """

    edit: Tensor
    edit_type: Tensor
    image: Tensor
    density: Tensor | None = None
    boundary: Tensor | None = None
