"""What the field has published of such classifiers, each with where it was read; nothing here was measured by us."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Published:
    """One published figure. `differs`: what makes it no like-for-like comparison."""

    system: str
    task: str
    figure: str
    source: str
    differs: str


PUBLISHED: Final = (
    Published(
        "MedXFake (ResNet-18)",
        "eight classes: brain, chest, kidney, lung × real, fake; fakes by diffusion (DDPM) and GANs",
        "F1 99.78 %",
        "Karakose, Altundogan, Çeçen: README of github.com/tgoktug/MedXFake, commit a46eb3a",
        "their images; neither a split by patient nor a generator left out is stated there; no table by class",
    ),
    Published(
        "MedNet (EfficientNetV2-B4, spatial and channel attention)",
        "lung CT of the CT-GAN set: edited or not",
        "accuracy 85.49 %",
        "Albahli, Nawaz: Multimedia Tools and Applications 83 (2024), abstract",
        "local edits of a scan, not images made whole",
    ),
    Published(
        "Vision transformer",
        "six classes: real and generated invoices, faces, medical CT",
        "test accuracy 96.08 %, weighted F1 96.08 %",
        "Mahdi, Arshed, Muneer: Mathematics 13 (2025) 19, 3093, abstract",
        "one medical organ of three domains; folds by image",
    ),
)
NOT_FOUND: Final = (
    "No published confusion matrix of the eight classes, and no published figure for real and fake knee X-rays beside "
    "lung CT, was found in the sources at hand (the code at github.com/AiNet-999/PLOSOne_MedDeepfake states none): "
    "those places are empty here rather than filled from memory."
)
