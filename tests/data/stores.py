"""A small synthetic store and a small csv data set, for the tests of preparation."""

from pathlib import Path

from insightr_nb.settings import DataSettings

SETTINGS = DataSettings(size=32, train_images=16, test_images=8, folds=2)
COLOURS = {f"{i}.png": (200, 10 * i, 5) for i in range(10)}


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def colours_table(labels=(0, 1)) -> str:
    return "image,label\n" + "".join(f"{name},{labels[i % len(labels)]}\n" for i, name in enumerate(COLOURS))
