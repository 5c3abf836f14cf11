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
from PIL import Image

from insightr_nb.data import graham, synthetic
from insightr_nb.data.disc import Disc, find_disc, published_disc
from insightr_nb.data.images import jpeg_hole, read_image
from insightr_nb.data.sources import SourceFile
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

DISC = "disc:"  # prefix of a doubt about the disc
_SPARE = 1.05  # minimum factor by which a JPEG is decoded larger than needed
_LITTLE = 0.7  # scale factors below this use area averaging; above it little aliases, and cubic is six times faster
_MEASURED = 640  # px; minimum shorter side at which the fundus of a file is measured
_LARGEST = 4096  # px; maximum of `native_size`
_SYNTHETIC = "synthetic:"
_SYNTHETIC_SIZE = 1024  # px; `native_size` of synthetic photographs, which can be rendered at any size
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


def prepared(
    image: np.ndarray, settings: DataSettings, disc: Disc | None = None, shrink: int = cv2.INTER_AREA
) -> np.ndarray:
    """Prepare a raw photograph for the store.

    Args:
        image: (H, W, 3) uint8 RGB.
        settings: Size and kind of the preparation.
        disc: Disc of the fundus; found in the image if None and needed.
        shrink: OpenCV interpolation for shrinking, if centred on the disc.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    if settings.preparation == "resize":
        return graham.resize(image, settings.size)
    if settings.centre == "image":
        return graham.published(image, settings.size, settings.recipe_size)
    return graham.normalise(image, settings.size, settings.recipe_size, disc, shrink)


def view(image: str | Path | np.ndarray, settings: DataSettings, original: bool = False) -> np.ndarray:
    """Prepare a photograph at the size of the settings, or show its original colours in the same geometry.

    Args:
        image: Image file, source "synthetic:<seed>/<index>", or raw photograph, (H, W, 3) uint8 RGB.
        settings: Kind of the preparation, and the size.
        original: Whether to keep the original colours. With preparation "resize", both pictures are the same.

    Returns (size, size, 3) uint8 RGB. Raises DataError if the file cannot be decoded or no fundus is found.
    """
    how = (None, cv2.INTER_AREA)
    if not isinstance(image, np.ndarray):
        image, *how = _load(str(image), settings)
    if not original or settings.preparation == "resize":
        return prepared(image, settings, *how)
    if settings.centre == "image":
        return graham.published_cropped(image, settings.size, settings.recipe_size)
    return graham.cropped(image, settings.size, settings.recipe_size, *how)


def native_size(image: str | Path | np.ndarray, settings: DataSettings) -> int:
    """Return the size of the prepared image at which one of its pixels is one pixel of the photograph.

    Arguments and errors are those of `view`. The result is at least `settings.size` and at most 4096 pixels; 1024 for a
    synthetic source.
    """
    side = None
    if not isinstance(image, np.ndarray):
        if str(image).startswith(_SYNTHETIC):
            return max(settings.size, _SYNTHETIC_SIZE)
        side, image = _longer_side(image), read_image(image, _MEASURED)  # measured at reduced size
    if settings.preparation == "resize":
        native = max(image.shape)
    else:
        find = find_disc if uses_disc(settings) else published_disc
        native = find(image).radius * settings.recipe_size / graham.FUNDUS_RADIUS
    return max(settings.size, min(round(native * (side or max(image.shape)) / max(image.shape)), _LARGEST))


def uses_disc(settings: DataSettings) -> bool:
    """Whether the preparation is centred on the detected fundus."""
    return settings.preparation != "resize" and settings.centre != "image"


def prepared_and_disc(source: str, settings: DataSettings) -> tuple[np.ndarray, Disc | None]:
    """Return `prepared` of a source, and the disc if the preparation uses one."""
    image, *how = _load(source, settings)
    return prepared(image, settings, *how), how[0]


def _load(source: str, settings: DataSettings) -> tuple[np.ndarray, Disc | None, int]:
    """Load a photograph as large as needed; also its disc if the preparation uses one, and how to shrink it."""
    if source.startswith(_SYNTHETIC):
        image = photograph(source, settings.size)
        return image, find_disc(image) if uses_disc(settings) else None, cv2.INTER_AREA
    if not uses_disc(settings):  # as the published script, decode the file at full size
        return read_image(source, settings.size if settings.preparation == "resize" else None), None, cv2.INTER_AREA
    image, disc = fundus(source, radius := graham.FUNDUS_RADIUS * settings.size / settings.recipe_size)
    return image, disc, cv2.INTER_CUBIC if radius > _LITTLE * disc.radius else cv2.INTER_AREA


def fundus(path: str | Path, radius: float) -> tuple[np.ndarray, Disc]:
    """Read a photograph at a reduced size sufficient for a fundus of this radius (px), and find its disc.

    The image is decoded slightly larger than needed, which keeps the prepared image within two grey levels of that
    from the full-size file.
    """
    image = read_image(path, shortest=int(2 * _SPARE * radius))
    disc = find_disc(image)
    if disc.radius < _SPARE * radius and _longer_side(path) != max(image.shape):  # a small fundus in a large image
        image = read_image(path)
        disc = find_disc(image)
    return image, disc


def _longer_side(path: str | Path) -> int | None:
    """Longer side in px of an image file, from its header; None if it cannot be read."""
    errors = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
    with contextlib.suppress(*errors), Image.open(path) as header:
        return max(header.size)
    return None


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
        if file and not decoder_errors and (damage := jpeg_hole(source)):
            decoder_errors.append(f"damaged file: {damage}")
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
