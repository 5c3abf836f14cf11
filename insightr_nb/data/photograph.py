"""One photograph, from its source to the image that a store holds: what the workers of a preparation do."""

import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from insightr_nb.data import graham, synthetic
from insightr_nb.data.images import read_image
from insightr_nb.data.sources import SourceFile
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

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


def prepared(image: np.ndarray, settings: DataSettings) -> np.ndarray:
    """A raw photograph as the store holds it, (size, size, 3) uint8 RGB."""
    if settings.preparation == "resize":
        return graham.resize(image, settings.size)
    if settings.centre == "image":
        return graham.published(image, settings.size, settings.recipe_size)
    return graham.normalise(image, settings.size, settings.recipe_size)


def prepared_source(source: str, settings: DataSettings) -> np.ndarray:
    """`prepared` of a row's `source`. Raises DataError for one that is missing or cannot be prepared."""
    if source.startswith(_SYNTHETIC):
        return prepared(photograph(source, settings.size), settings)
    return prepared_file(source, settings)


def prepared_file(path: str | Path, settings: DataSettings) -> np.ndarray:
    """`prepared` of an image file, from a JPEG decoded at reduced size where that is enough."""
    if settings.preparation == "resize":
        return prepared(read_image(path, shortest=settings.size), settings)
    if settings.centre == "image":  # the exact port decodes the whole file
        return prepared(read_image(path), settings)
    radius = graham.FUNDUS_RADIUS * settings.size / settings.recipe_size
    image, disc = fundus(path, radius)
    shrink = cv2.INTER_CUBIC if radius > _LITTLE * disc.radius else cv2.INTER_AREA
    return graham.normalise(image, settings.size, settings.recipe_size, disc, shrink)


def fundus(path: str | Path, radius: float) -> tuple[np.ndarray, graham.Disc]:
    """A photograph, decoded no larger than a fundus of this radius (px) needs, and the disc in it.

    It stays a little larger than needed: then what becomes of it is within two grey levels of the file decoded whole.
    """
    image = read_image(path, shortest=int(2 * _SPARE * radius))
    disc = graham.find_disc(image)
    if disc.radius < _SPARE * radius:  # a small fundus in a wide frame, or a file that is not larger
        image = read_image(path)
        disc = graham.find_disc(image)
    return image, disc


def prepare_one(job: tuple[str, DataSettings]) -> tuple[np.ndarray | None, str, SourceFile | None]:
    """Of a row's source and the settings: the prepared image, or why there is none; and the file that was read."""
    cv2.setNumThreads(1)
    source, settings = job
    try:
        about = None if source.startswith(_SYNTHETIC) else SourceFile.read(source)  # before, so that a change is seen
    except OSError as error:
        return None, f"{source}: cannot be read ({error.strerror})", None
    try:
        return prepared_source(source, settings), "", about
    except DataError as error:
        return None, str(error), about
    except (cv2.error, ValueError, MemoryError) as error:  # one odd file must not stop 80 000 others
        return None, f"{source}: cannot be prepared ({type(error).__name__}: {error})", about


def end_with_parent() -> None:
    """A worker must not outlive a parent that was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
