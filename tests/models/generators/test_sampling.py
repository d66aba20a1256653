"""The folder of synthetic images: splits kept, an index that readers can trust, a sheet to look at."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.errors import MissingData
from models.images.organs import Organ
from models.images.synthetic import FIELDS, INDEX, load_synthetic
from models.splits import Split
from models.tampering.generators.contact import contact_sheet
from models.tampering.generators.material import Example
from models.tampering.generators.sampling import instances, sample
from models.tampering.generators.training import GeneratorConfig, train
from tests.models.generators.tiny import TINY

COUNTS = (4, 2, 3)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, examples: list[Example]) -> Path:
    """A VAE of two seeds, one of each of the kinds that start from images; one step each."""
    folder = tmp_path_factory.mktemp("generators")
    for kind, seed in (("vae", 1), ("vae", 2), ("translation", 1), ("diffusion", 1), ("vq", 1)):
        config = GeneratorConfig(kind, folder / f"{kind}-{seed}", seed, 1, changes=TINY[kind])
        train(config, examples, quiet=True)
    return folder


@pytest.mark.parametrize("kind", ["vae", "translation", "diffusion", "vq"])
def test_an_image_made_from_a_genuine_one_keeps_its_patient_and_split(
    kind: str, trained: Path, tmp_path: Path, examples: list[Example]
) -> None:
    sample(kind, trained, tmp_path, examples, images=COUNTS)
    made = load_synthetic(tmp_path)
    splits = {(example.image.source, example.image.patient): example.image.split for example in examples}
    assert made
    for image in made:
        assert splits[image.source, image.patient] is image.split


def test_translation_starts_from_the_healthy(trained: Path, tmp_path: Path, examples: list[Example]) -> None:
    sample("translation", trained, tmp_path, examples, images=COUNTS)
    states = {(example.image.source, example.image.patient): example.diseased for example in examples}
    assert {states[image.source, image.patient] for image in load_synthetic(tmp_path)} == {False}


def test_reconstructions_keep_the_size_of_their_original(
    trained: Path, tmp_path: Path, examples: list[Example]
) -> None:
    sample("vq", trained, tmp_path, examples, images=COUNTS)
    sizes = {image.source: image.pixels.shape for image in load_synthetic(tmp_path)}
    assert sizes == {"kidney": (48, 48), "chest": (41, 54)}


def test_no_histogram_tells_the_made_from_the_genuine(trained: Path, tmp_path: Path, examples: list[Example]) -> None:
    sample("vq", trained, tmp_path, examples, images=COUNTS)
    originals = {(example.image.source, example.image.patient): example.image.pixels for example in examples}
    for image in load_synthetic(tmp_path):
        original = originals[image.source, image.patient]
        np.testing.assert_array_equal(np.sort(image.pixels, axis=None), np.sort(original, axis=None))
        assert (image.pixels != original).any()


def test_images_of_the_test_split_come_from_the_other_instance(
    trained: Path, tmp_path: Path, examples: list[Example]
) -> None:
    assert sample("vae", trained, tmp_path, examples, images=COUNTS) == 2 * sum(COUNTS)
    made = load_synthetic(tmp_path)
    assert {(image.split, image.instance) for image in made} == {
        (Split.TRAIN, "vae-1"),
        (Split.CALIBRATION, "vae-1"),
        (Split.TEST, "vae-2"),
    }
    assert {(image.organ, image.source) for image in made} == {
        (Organ.KIDNEY_CT, "kidney"),
        (Organ.CHEST_XRAY, "chest"),
    }


def test_sampling_again_makes_the_same_images_and_doubles_nothing(
    trained: Path, tmp_path: Path, examples: list[Example]
) -> None:
    sample("vq", trained, tmp_path, examples, images=COUNTS)
    sample("vae", trained, tmp_path, examples, images=COUNTS)
    before = [image.pixels.tobytes() for image in load_synthetic(tmp_path, kinds=("vae",))]
    sample("vae", trained, tmp_path, examples, images=COUNTS)
    assert [image.pixels.tobytes() for image in load_synthetic(tmp_path, kinds=("vae",))] == before
    assert {image.kind for image in load_synthetic(tmp_path)} == {"vae", "vq"}


def test_wanted_splits_and_kinds_alone_are_read(trained: Path, tmp_path: Path, examples: list[Example]) -> None:
    sample("vae", trained, tmp_path, examples, images=COUNTS)
    assert len(load_synthetic(tmp_path, splits=(Split.TEST,))) == 2 * COUNTS[2]
    with pytest.raises(MissingData, match=r"gan_nearest, only of: vae"):
        load_synthetic(tmp_path, kinds=("gan_nearest",))


def test_what_is_trained_is_listed_in_order_of_seed(trained: Path) -> None:
    assert [instance.name for instance in instances(trained)["vae"]] == ["vae-1", "vae-2"]


def test_sampling_an_untrained_kind_names_the_command(trained: Path, tmp_path: Path, examples: list[Example]) -> None:
    with pytest.raises(MissingData, match="scanwarden generators train gan_nearest"):
        sample("gan_nearest", trained, tmp_path, examples)


def test_the_reader_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="scanwarden generators sample"):
        load_synthetic(tmp_path)
    (tmp_path / INDEX).write_text("path,kind\n", encoding="utf-8")
    with pytest.raises(MissingData, match="does not begin with"):
        load_synthetic(tmp_path)
    row = {"path": "a.png", "kind": "vae", "source": "chest", "organ": "chest X-ray", "split": "test"}
    _index(tmp_path, row)
    with pytest.raises(MissingData, match=r"a\.png stands in the index"):
        load_synthetic(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    _index(tmp_path, row | {"organ": "liver"})
    with pytest.raises(MissingData, match="liver"):
        load_synthetic(tmp_path)


def test_a_contact_sheet_shows_genuine_rows_above_made_ones(
    trained: Path, tmp_path: Path, examples: list[Example]
) -> None:
    sample("vae", trained, tmp_path, examples, images=COUNTS)
    sheet = cv2.imread(str(contact_sheet(tmp_path / "sheets" / "vae.png", load_synthetic(tmp_path), examples)), 0)
    assert sheet is not None
    assert sheet.shape[0] == 4 * 160  # two organs
    assert sheet[:160, : 3 * 160].std() > 5


def _index(folder: Path, row: dict[str, str]) -> None:
    with (folder / INDEX).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        writer.writeheader()
        writer.writerow(row)
