"""A light Mask R-CNN for lesions and edits: real, added and removed tumours with masks (He 2017; FPN: Lin 2017).

A box is judged by two questions, *is there a lesion?* and *was the region edited?*, and the classes are their product:
a removed tumour is no lesion in an edited region. The same two are asked of every place first, and the boxes are told
(Chen 2019, "Hybrid Task Cascade"): boxes are few, and a backbone that learns from them alone learns slowly. A region
proposal network learns to see lesions alone, for where one was removed there is nothing to see; such regions are read
from the U-Net's density map (models.density) and injected.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

BACKGROUND, REAL, ADDED, REMOVED = range(4)
INSTANCE_CLASSES = ("real", "added", "removed")  # label k of a box is INSTANCE_CLASSES[k - 1]
STRIDE = 32  # of the coarsest level: slices are padded to its multiples
_ANCHORS = ((8, 16), (24, 34), (48, 64), (90, 128))  # pixels, for the levels of stride 4, 8, 16 and 32
_ASPECTS = (0.6, 1.0, 1.67)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 8), channels)


class _Block(nn.Module):
    """A residual block of ResNet-18 with GroupNorm: a study's result must not depend on its neighbours in a batch."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = _norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = _norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)), inplace=True)
        return functional.relu(self.second_norm(self.second(y)) + self.shortcut(x), inplace=True)


class _Backbone(nn.Module):
    """ResNet-18 of narrow stages under a feature pyramid that keeps stride 4, where a lesion of 8 pixels is 2 wide."""

    def __init__(self, channels: int, widths: Sequence[int], pyramid: int) -> None:
        super().__init__()
        stem = widths[0] // 2
        self.stem = nn.Sequential(
            nn.Conv2d(channels, stem, 5, 2, 2, bias=False), _norm(stem), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(_Block(inputs, outputs, stride), _Block(outputs, outputs, 1))
            for inputs, outputs, stride in zip([stem, *widths], widths, (1, 2, 2, 2), strict=False)
        )
        self.pyramid = FeaturePyramidNetwork(list(widths), pyramid)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        levels: dict[str, Tensor] = {}
        for level, stage in enumerate(self.stages):
            x = stage(x)
            levels[str(level)] = x
        return cast("dict[str, Tensor]", self.pyramid(levels))


class _Dense(nn.Module):
    """The two questions asked of every place of the finest level, and what was answered told to all levels."""

    def __init__(self, pyramid: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(pyramid, pyramid, 3, 1, 1, bias=False), _norm(pyramid), nn.ReLU(inplace=True)
        )
        self.answer = nn.Conv2d(pyramid, 2, 1)
        self.tell = nn.Conv2d(2, pyramid, 1)
        with torch.no_grad():
            cast("Tensor", self.answer.bias).fill_(-2.0)  # most places are neither

    def forward(self, levels: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The levels, and logits (slices, 2, rows, columns) of the finest: lesion, edited."""
        logits = self.answer(self.look(levels["0"])).float()
        shares = logits.sigmoid()
        told = {
            name: level + self.tell(functional.adaptive_avg_pool2d(shares, (level.shape[2], level.shape[3])))
            for name, level in levels.items()
        }
        return told, logits


class FactorisedPredictor(nn.Module):
    """Two independent answers of a box, as the joint log-probabilities of (nothing, real, added, removed).

    They sum to 1, so that torchvision's softmax leaves them as they are, and its cross-entropy is the sum of those of
    the two answers.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lesion = nn.Linear(features, 1)
        self.edited = nn.Linear(features, 1)
        self.boxes = nn.Linear(features, 4 * (1 + len(INSTANCE_CLASSES)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return joint(self.lesion(x)[:, 0], self.edited(x)[:, 0]), self.boxes(x)


def joint(lesion: Tensor, edited: Tensor) -> Tensor:
    """Log-probabilities (boxes, 4) of nothing, real, added and removed, from the logits of the two questions."""
    yes, no = functional.logsigmoid(lesion), functional.logsigmoid(-lesion)
    touched, untouched = functional.logsigmoid(edited), functional.logsigmoid(-edited)
    return torch.stack([no + untouched, yes + untouched, yes + touched, no + touched], dim=-1)


class EditMaskRCNN(nn.Module):
    """Input (slices, channels, rows, columns) at native resolution, multiples of STRIDE; nothing is resized.

    `width` is that of the first stage. In training mode it returns the losses, else for each slice the `boxes`
    (column0, row0, column1, row1) in pixels, `labels`, `scores` (the product of the two answers) and `masks`
    (boxes, 1, 28, 28), probabilities within each box.
    """

    def __init__(self, channels: int, width: int = 48, pyramid: int = 64, proposals: int = 48, most: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width]
        levels = [str(level) for level in range(len(widths))]
        self.backbone = _Backbone(channels, widths, pyramid)
        self.dense = _Dense(pyramid)
        anchors = AnchorGenerator(_ANCHORS, (_ASPECTS,) * len(_ANCHORS))
        self.rpn = RegionProposalNetwork(
            anchors,
            RPNHead(pyramid, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.6,
            bg_iou_thresh=0.3,
            batch_size_per_image=128,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 300, "testing": 150},
            post_nms_top_n={"training": 150, "testing": proposals},
            nms_thresh=0.7,
        )
        box_head = TwoMLPHead(pyramid * 7 * 7, 4 * pyramid)
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(levels, 7, 2),
            box_head,
            FactorisedPredictor(4 * pyramid),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=32,
            positive_fraction=0.35,
            bbox_reg_weights=None,
            score_thresh=0.1,
            nms_thresh=0.4,
            detections_per_img=most,
            mask_roi_pool=MultiScaleRoIAlign(levels, 14, 2),
            mask_head=MaskRCNNHeads(pyramid, [pyramid, pyramid], 1),
            mask_predictor=MaskRCNNPredictor(pyramid, pyramid, 1 + len(INSTANCE_CLASSES)),
        )

    def forward(
        self,
        x: Tensor,
        injected: Sequence[Tensor] | None = None,
        targets: list[dict[str, Tensor]] | None = None,
        *,
        boxes: bool = True,
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        """`injected` are boxes for each slice that the heads look at beside those that the network proposes itself.

        `boxes` False, in training: only what is asked of every place is learned.
        """
        size = (x.shape[2], x.shape[3])
        levels, said = self.dense(self.backbone(x))
        dense = {"loss_dense": dense_loss(said, targets)} if self.training and targets is not None else {}
        if not boxes:
            return dense
        features = {name: level.float() for name, level in levels.items()}
        # Boxes need more digits than bfloat16 has.
        with torch.autocast(x.device.type, enabled=False):
            images = ImageList(x, [size] * len(x))
            proposals, losses = self.rpn(images, features, None if targets is None else [_visible(t) for t in targets])
            if injected is not None:
                proposals = [torch.cat([own, more.to(own)]) for own, more in zip(proposals, injected, strict=True)]
            found, head_losses = self.roi_heads(features, proposals, images.image_sizes, targets)
        return {**dense, **losses, **head_losses} if self.training else cast("list[dict[str, Tensor]]", found)


def dense_loss(said: Tensor, targets: Sequence[dict[str, Tensor]]) -> Tensor:
    """Cross-entropy of both questions and soft Dice of the first, against the share of each place that is covered."""
    labels = [target["labels"] for target in targets]
    wanted = torch.stack(
        [
            torch.stack(
                [_covered(target, torch.isin(label, label.new_tensor(of))) for of in ([REAL, ADDED], [ADDED, REMOVED])]
            )
            for target, label in zip(targets, labels, strict=True)
        ]
    )
    wanted = functional.avg_pool2d(wanted, wanted.shape[-1] // said.shape[-1])
    lesion, edited = functional.binary_cross_entropy_with_logits(said, wanted, reduction="none").mean(dim=(0, 2, 3))
    share, true = said[:, 0].sigmoid(), wanted[:, 0]
    dice = 1 - (2 * (share * true).sum() + 1) / (share.sum() + true.sum() + 1)
    return cast("Tensor", 2.0 * lesion + edited + dice)


def _covered(target: dict[str, Tensor], chosen: Tensor) -> Tensor:
    """1 where one of the chosen masks is, else 0: (rows, columns)."""
    return (target["masks"] * chosen[:, None, None].to(torch.uint8)).sum(dim=0).clamp(max=1).float()


def _visible(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a proposal network can learn to see: lesions, and not the places where one was."""
    return {"boxes": target["boxes"][target["labels"] != REMOVED]}
