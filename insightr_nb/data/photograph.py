"""One photograph, from its source to the image that a store holds: what the workers of a preparation do."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from insightr_nb.data import graham, synthetic
from insightr_nb.data.disc import Disc, find_disc
from insightr_nb.data.images import read_image
from insightr_nb.data.sources import SourceFile
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

DISC = "disc:"  # begins a doubt about it
_SPARE = 1.05  # how much larger than needed a JPEG is decoded, at least
_LITTLE = 0.7  # a file is shrunk by area below this factor; above it, where little can alias, six times faster
_SYNTHETIC = "synthetic:"
_RENDER = 1.2  # synthetic photographs are drawn this much larger than the prepared image


def photograph(source: str, size: int) -> np.ndarray:
    """The raw photograph of a row's `source`, (H, W, 3) uint8 RGB; synthetic ones are drawn for prepared `size`."""
    if source.startswith(_SYNTHETIC):
        seed, index = source.removeprefix(_SYNTHETIC).split("/")
        return synthetic.photograph(int(index), int(seed), render_size(size)).image
    return read_image(source)


def render_size(size: int) -> int:
    """Side of the synthetic photograph that a prepared image of `size` is made from."""
    return round(size * _RENDER)


def thumbnail(source: str, side: int = 320, outline: bool = False) -> np.ndarray | None:
    """The raw photograph of a row's `source`, fitted into a square of grey, (side, side, 3) uint8 RGB.

    outline: draw the circle that was found. None where the file is not there any more or cannot be decoded.
    """
    try:
        image = photograph(source, side) if source.startswith(_SYNTHETIC) else read_image(source, shortest=side)
        if outline:
            disc = find_disc(image)
            width = max(2, min(image.shape[:2]) // 100)
            cv2.circle(image, (round(disc.x), round(disc.y)), round(disc.radius), (0, 255, 0), width)
    except DataError:
        return None
    return graham.resize(image, side)


def prepared(image: np.ndarray, settings: DataSettings, disc: Disc | None = None) -> np.ndarray:
    """A raw photograph as the store holds it, (size, size, 3) uint8 RGB."""
    if settings.preparation == "resize":
        return graham.resize(image, settings.size)
    if settings.centre == "image":
        return graham.published(image, settings.size, settings.recipe_size)
    return graham.normalise(image, settings.size, settings.recipe_size, disc)


def prepared_source(source: str, settings: DataSettings) -> np.ndarray:
    """`prepared` of a row's `source`. Raises DataError for one that is missing or cannot be prepared."""
    return _prepared_and_disc(source, settings)[0]


def prepared_file(path: str | Path, settings: DataSettings) -> np.ndarray:
    """`prepared` of an image file, from a JPEG decoded at reduced size where that is enough."""
    return _prepared_and_disc(str(path), settings)[0]


def _prepared_and_disc(source: str, settings: DataSettings) -> tuple[np.ndarray, Disc | None]:
    """`prepared`, and the disc if one was looked for."""
    around_disc = settings.preparation != "resize" and settings.centre != "image"
    if source.startswith(_SYNTHETIC):
        image = photograph(source, settings.size)
        disc = find_disc(image) if around_disc else None
        return prepared(image, settings, disc), disc
    if not around_disc:  # the exact port of the published script decodes the whole file
        return prepared(read_image(source, settings.size if settings.preparation == "resize" else None), settings), None
    radius = graham.FUNDUS_RADIUS * settings.size / settings.recipe_size
    image, disc = fundus(source, radius)
    shrink = cv2.INTER_CUBIC if radius > _LITTLE * disc.radius else cv2.INTER_AREA
    return graham.normalise(image, settings.size, settings.recipe_size, disc, shrink), disc


def fundus(path: str | Path, radius: float) -> tuple[np.ndarray, Disc]:
    """A photograph, decoded no larger than a fundus of this radius (px) needs, and the disc in it.

    It stays a little larger than needed: then what becomes of it is within two grey levels of the file decoded whole.
    """
    image = read_image(path, shortest=int(2 * _SPARE * radius))
    disc = find_disc(image)
    if disc.radius < _SPARE * radius:  # a small fundus in a wide frame, or a file that is not larger
        image = read_image(path)
        disc = find_disc(image)
    return image, disc


@dataclass(frozen=True)
class Result:
    """What became of one photograph: the image, or the reason why there is none; and whether its disc is doubtful."""

    image: np.ndarray | None
    reason: str = ""
    source: SourceFile | None = None  # the file that was read
    doubt: str = ""


def prepare_one(job: tuple[str, DataSettings]) -> Result:
    """A row's source and the settings to the prepared image."""
    cv2.setNumThreads(1)
    source, settings = job
    try:
        about = None if source.startswith(_SYNTHETIC) else SourceFile.read(source)  # before, so that a change is seen
    except OSError as error:
        return Result(None, f"{source}: cannot be read ({error.strerror})")
    try:
        with _decoder_errors() as said:
            image, disc = _prepared_and_disc(source, settings)
    except DataError as error:
        return Result(None, str(error), about)
    except (cv2.error, ValueError, MemoryError) as error:  # one odd file must not stop 80 000 others
        return Result(None, f"{source}: cannot be prepared ({type(error).__name__}: {error})", about)
    return Result(image, "", about, "; ".join(filter(None, [_doubt(disc), *dict.fromkeys(said)])))


def _doubt(disc: Disc | None) -> str:
    if disc is None or not disc.doubtful:
        return ""
    if disc.cropped:
        return f"{DISC} bright into its corners, cropped inside the fundus or no fundus photograph"
    return f"{DISC} no edge along half of the circle"


@contextlib.contextmanager
def _decoder_errors() -> Iterator[list[str]]:
    """What libjpeg writes to the error stream meanwhile about a file that is damaged inside; all else goes there."""
    said: list[str] = []
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115  (closed below)
    except OSError:  # no place for it: then it is not known
        yield said
        return
    with file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            for line in file.read().splitlines():
                text = line.decode(errors="replace")
                if text.startswith(("Corrupt JPEG data", "Premature end")) and "extraneous bytes" not in text:
                    said.append(f"damaged file: {text}")
                else:
                    os.write(2, line + b"\n")


def end_with_parent() -> None:
    """A worker must not outlive a parent that was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
