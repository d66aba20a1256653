from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models import networks
from models.images import audits, inputs, release
from models.images.audits import ShortcutFound
from models.images.datasets import GenuineImage
from models.images.organs import Organ
from models.images.registry import load_image_model
from models.images.samples import ImageBatches
from models.images.subjects import Plan
from models.images.synthetic import SyntheticImage
from models.images.training import ImageTrainingConfig
from models.splits import Split
from tests.drawn_bodies import blurred, body

ORGANS = (Organ.BRAIN_MR, Organ.LUNG_CT)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageTrainingConfig:
    """A finished run of a network that learned nothing, and few made-up images of every split."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = [
        GenuineImage(organ, source, f"{split}{k // 3}", split, body(50 * place + k, 130))
        for place, (organ, source) in enumerate(zip(ORGANS, ("brain-cheng", "lung"), strict=True))
        for split in Split
        for k in range(6)
    ]
    made = [blurred(image, "vae") for image in images]

    def material(_: ImageTrainingConfig, split: Split) -> tuple[list[GenuineImage], list[SyntheticImage]]:
        return [each for each in images if each.split is split], [each for each in made if each.split is split]

    monkeypatch.setattr(release, "material", material)
    monkeypatch.setattr("models.images.datasets.load", lambda *_: images)
    monkeypatch.setattr(
        "models.images.evaluation.load_synthetic", lambda *_, **__: [each for each in made if each.split is Split.TEST]
    )
    config = ImageTrainingConfig(
        data=tmp_path,
        synthetic=tmp_path,
        output=tmp_path / "run",
        arguments={"channels": len(inputs.CHANNELS), "width": 8},
    )
    config.output.mkdir()
    network = networks.build(config.network, **config.arguments)
    save_file(network.state_dict(), config.output / "weights.safetensors")
    return config


def test_what_is_published_loads_and_states_what_was_measured(
    run: ImageTrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "BOUND", 1.0)  # so few images that chance is far from one half
    few = Plan(known=4, other=2, synthetic=4, treated=1, beside=2, series=4)
    card = release.release(run, "organ-tiny", "0", folder=tmp_path, plan=few)
    model = load_image_model("organ-tiny", folder=tmp_path)
    assert model.card == card
    assert card.figures["overall"]["synthetic"] == 8
    assert card.generators.keys() == {"vae"}
    page = (tmp_path / "cards" / "organ-tiny.md").read_text(encoding="utf-8")
    assert card.digest in page
    assert "Known failures" in page


def test_a_network_whose_images_betray_themselves_is_not_published(
    run: ImageTrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_left(batches: ImageBatches, seed: int) -> list[audits.AuditPair]:
        drawn = [batches.pair(np.random.default_rng([seed, k])) for k in range(24)]
        return [
            audits.AuditPair(made.pixels, np.asarray(genuine.pixels).astype(np.uint16) * 9, genuine.patient)
            for made, genuine, _ in drawn
        ]

    monkeypatch.setattr(audits, "pairs", as_left)
    with pytest.raises(ShortcutFound, match="savepath"):
        release.release(run, "organ-tiny", "0", folder=tmp_path)
    assert not (tmp_path / "weights").exists()
