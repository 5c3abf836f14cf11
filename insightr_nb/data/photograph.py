"""Preparation of one photograph, from its source to the image in the store; runs in the worker processes."""

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

DISC = "disc:"  # prefix of a doubt about the disc
_SPARE = 1.05  # minimum factor by which a JPEG is decoded larger than needed
_LITTLE = 0.7  # scale factors below this use area averaging; above it little aliases, and cubic is six times faster
_SYNTHETIC = "synthetic:"
_RENDER = 1.2  # synthetic photographs are rendered larger than the prepared image by this factor


def photograph(source: str, size: int) -> np.ndarray:
    """Load the raw photograph of a `source`, (H, W, 3) uint8 RGB; a synthetic one is rendered for prepared `size`."""
    if source.startswith(_SYNTHETIC):
        seed, index = source.removeprefix(_SYNTHETIC).split("/")
        return synthetic.photograph(int(index), int(seed), render_size(size)).image
    return read_image(source)


def render_size(size: int) -> int:
    """Return the side in pixels of the synthetic photograph for a prepared image of `size`."""
    return round(size * _RENDER)


def thumbnail(source: str, side: int = 320, outline: bool = False) -> np.ndarray | None:
    """Load the raw photograph of a source as a thumbnail.

    Args:
        source: Path, or "synthetic:<seed>/<index>".
        side: Side of the thumbnail in pixels.
        outline: Whether to draw the detected circle of the fundus.

    Returns:
        (side, side, 3) uint8 RGB, padded with grey; None if the file is missing or cannot be decoded, or if
        `outline` is set and no fundus is found.
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
    """Prepare a raw photograph for the store.

    Args:
        image: (H, W, 3) uint8 RGB.
        settings: Size and kind of the preparation.
        disc: Disc of the fundus; found in the image if None and needed.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    if settings.preparation == "resize":
        return graham.resize(image, settings.size)
    if settings.centre == "image":
        return graham.published(image, settings.size, settings.recipe_size)
    return graham.normalise(image, settings.size, settings.recipe_size, disc)


def prepared_source(source: str | Path, settings: DataSettings) -> np.ndarray:
    """Apply `prepared` to an image file or a synthetic source; a JPEG is decoded at reduced size where possible.

    Raises DataError if it is missing or cannot be prepared.
    """
    return prepared_and_disc(str(source), settings)[0]


def uses_disc(settings: DataSettings) -> bool:
    """Whether the preparation is centred on the detected fundus."""
    return settings.preparation != "resize" and settings.centre != "image"


def prepared_and_disc(source: str, settings: DataSettings) -> tuple[np.ndarray, Disc | None]:
    """Return `prepared` of a source, and the disc if the preparation uses one."""
    around_disc = uses_disc(settings)
    if source.startswith(_SYNTHETIC):
        image = photograph(source, settings.size)
        disc = find_disc(image) if around_disc else None
        return prepared(image, settings, disc), disc
    if not around_disc:  # as the published script, decode the file at full size
        return prepared(read_image(source, settings.size if settings.preparation == "resize" else None), settings), None
    radius = graham.FUNDUS_RADIUS * settings.size / settings.recipe_size
    image, disc = fundus(source, radius)
    shrink = cv2.INTER_CUBIC if radius > _LITTLE * disc.radius else cv2.INTER_AREA
    return graham.normalise(image, settings.size, settings.recipe_size, disc, shrink), disc


def fundus(path: str | Path, radius: float) -> tuple[np.ndarray, Disc]:
    """Read a photograph at a reduced size sufficient for a fundus of this radius (px), and find its disc.

    The image is decoded slightly larger than needed, which keeps the prepared image within two grey levels of that
    from the full-size file.
    """
    image = read_image(path, shortest=int(2 * _SPARE * radius))
    disc = find_disc(image)
    if disc.radius < _SPARE * radius:  # a small fundus in a large image, or a small file
        image = read_image(path)
        disc = find_disc(image)
    return image, disc


@dataclass(frozen=True)
class Result:
    """Result of preparing one photograph: the image, or the reason for rejecting it."""

    image: np.ndarray | None
    reason: str = ""
    source: SourceFile | None = None  # the file that was read
    doubt: str = ""  # why the image may be wrong: a doubtful disc, a damaged file


def prepare_one(job: tuple[str, DataSettings]) -> Result:
    """Prepare the image of a job (source, settings). Failures are returned as the reason, not raised."""
    cv2.setNumThreads(1)
    source, settings = job
    try:
        file = None if source.startswith(_SYNTHETIC) else SourceFile.read(source)  # before decoding, to detect changes
    except OSError as error:
        return Result(None, f"{source}: cannot be read ({error.strerror})")
    try:
        with _decoder_errors() as decoder_errors:
            image, disc = prepared_and_disc(source, settings)
    except DataError as error:
        return Result(None, str(error), file)
    except (cv2.error, ValueError, MemoryError) as error:  # one bad file must not stop 80 000 others
        return Result(None, f"{source}: cannot be prepared ({type(error).__name__}: {error})", file)
    return Result(image, "", file, "; ".join(filter(None, [disc_doubt(disc), *dict.fromkeys(decoder_errors)])))


def disc_doubt(disc: Disc | None) -> str:
    """Return why the circle of the fundus may be wrong, beginning with `DISC`; empty if there is no doubt."""
    if disc is None or not disc.doubtful:
        return ""
    if disc.cropped:
        return f"{DISC} bright up to the corners: cropped inside the fundus, or not a fundus photograph"
    return f"{DISC} edge visible along less than half of the circle"


@contextlib.contextmanager
def _decoder_errors() -> Iterator[list[str]]:
    """Collect libjpeg's messages about damaged files from stderr within the block; pass on everything else."""
    errors: list[str] = []
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115  (closed below)
    except OSError:  # no temporary file possible: collect nothing
        yield errors
        return
    with file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield errors
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file.read().splitlines():
                text = line.decode(errors="replace")
                if text.startswith(("Corrupt JPEG data", "Premature end")) and "extraneous bytes" not in text:
                    errors.append(f"damaged file: {text}")
                else:
                    os.write(2, line + b"\n")


def end_with_parent() -> None:
    """Exit this worker process when its parent is killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
