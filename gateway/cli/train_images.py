"""`scanwarden train` of a whole-image network."""

from pathlib import Path

from gateway.cli.options import answers, fail

NAMES = ("organ-resnet", "organ-attention")


def train_images(
    name: str,
    data: Path,
    runs: Path,
    *,
    steps: int,
    seed: int,
    threads: int,
    without_generators: tuple[str, ...] = (),
    without_sources: tuple[str, ...] = (),
    publish: Path | None = None,
    version: str = "0",
) -> None:
    """Train on genuine images and on `runs`/synthetic; the name says which network, alone or with a suffix."""
    from models.images.release import release
    from models.images.synthetic import load_synthetic
    from models.images.training import TRAINED_SOURCES, ImageTrainingConfig, train
    from models.splits import Split

    if unknown := set(without_sources) - set(TRAINED_SOURCES):
        fail(f"--without-source {', '.join(sorted(unknown))}: trained on are {', '.join(TRAINED_SOURCES)}")
    if without_generators:
        load_synthetic(runs / "synthetic", kinds=without_generators, splits=(Split.CALIBRATION,))  # are there such?
    config = ImageTrainingConfig(
        data=data,
        synthetic=runs / "synthetic",
        output=runs / name,
        network=next(known for known in NAMES if name.startswith(known)).replace("-", "_"),
        without_kinds=without_generators,
        without_sources=without_sources,
        steps=steps,
        seed=seed,
        threads=threads,
    )
    folder = train(config)
    answers.print(f"averaged weights and curves are in {folder}", highlight=False, soft_wrap=True)
    if publish is not None:
        card = release(config, name, version, folder=publish)
        answers.print(f"published {card.name} {card.version}: {card.digest}", highlight=False, soft_wrap=True)
