"""Images at display size, over which maps and boxes are drawn instead of over the network's small inputs.

The source of a row is prepared again at `SIZE` pixels and cached as a JPEG in the `display` folder of the store. It
is also shown at the resolution of the photograph and in its original colours, in the same geometry.
"""

import contextlib
import dataclasses
import os
import shutil
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from insightr_nb import files
from insightr_nb.data.images import read_image
from insightr_nb.data.photograph import native_size, view
from insightr_nb.data.store import Store
from insightr_nb.errors import DataError, RunError
from insightr_nb.settings import DataSettings

SIZE = 512  # side in pixels
_SAME = 2.0  # grey levels; maximum mean difference at which the source still counts as the prepared photograph
_QUALITY = 92  # of the JPEGs that `display_jpeg` encodes


def display_settings(settings: DataSettings) -> DataSettings:
    """Return the settings of a store with `size` raised to at least `SIZE`."""
    return dataclasses.replace(settings, size=max(settings.size, SIZE))


def display_image(store: Store, row: int) -> np.ndarray:
    """Return image `row` of a store at display size, (S, S, 3) uint8 RGB with S = max(SIZE, size of the store).

    If the source is missing or has changed since preparation, the store's image is enlarged instead.
    """
    image = None if store.images.shape[1] >= SIZE else _kept(store, row)
    return enlarged(store.image(row), SIZE) if image is None else image


def display_jpeg(store: Store, row: int) -> bytes:
    """Return `display_image` as a JPEG: the cached file if there is one, else encoded at quality 92."""
    image = display_image(store, row)  # creates or repairs the file
    if store.images.shape[1] < SIZE:
        with contextlib.suppress(OSError):  # no file: source missing or changed, or store not writable
            return (store.path / "display" / _name(store, row)).read_bytes()
    return _encoded(image, _QUALITY)


def detail_image(store: Store, row: int) -> np.ndarray:
    """Return image `row` of a store at the resolution of its photograph, but at least at display size.

    If the source is missing or has changed since preparation, returns the display image.

    Args:
        store: The prepared store.
        row: Row of the image.

    Returns:
        (S, S, 3) uint8 RGB, read-only, with S = `photograph.native_size`.
    """
    image, _ = _source_view(store, row, detail=True)
    if image is None:
        image = display_image(store, row)
        image.setflags(write=False)
    return image


def original_image(store: Store, row: int, detail: bool = False) -> np.ndarray:
    """Return the photograph of a row in its original colours, with the crop and scale of the prepared image.

    Args:
        store: The prepared store.
        row: Row of the image.
        detail: Whether to return it at the size of `detail_image` instead of that of `display_image`.

    Returns:
        (S, S, 3) uint8 RGB, read-only.

    Raises:
        DataError: If the source is missing or has changed since preparation.
    """
    image, reason = _source_view(store, row, original=True, detail=detail)
    if image is None:
        raise DataError(
            f"{store.table['source'].iloc[row]}: {reason}, so image {store.table['image_id'].iloc[row]!r} cannot be "
            "shown in its original colours; its normalised picture is still there. Put the photograph that was "
            "prepared back at this path"
        )
    return image


def draw(store: Store, row: int) -> bool:
    """Create the JPEG that `display_image` reads, if needed. Returns False if there was nothing to do."""
    if store.images.shape[1] >= SIZE or (store.path / "display" / _name(store, row)).exists():
        return False
    _kept(store, row)
    return True


def write_pictures(store: Store, rows: np.ndarray, folder: Path) -> None:
    """Write display images as the JPEG files that `display_image` reads.

    Rows without a source are skipped. Nothing is written if the store's images already have display size.

    Args:
        store: The prepared store.
        rows: Rows to write.
        folder: The `display` folder of the target store; created if needed.
    """
    if store.images.shape[1] < SIZE:
        for row in rows:
            if (image := _kept(store, row)) is None:
                continue
            kept = store.path / "display" / _name(store, row)
            if kept.exists():  # copy: encoding the JPEG again would lose quality
                folder.mkdir(exist_ok=True)
                shutil.copy(kept, folder)
            else:
                _write(folder / kept.name, image)


def enlarged(image: np.ndarray, size: int) -> np.ndarray:
    """Enlarge a square image to `size` pixels a side; an image that is not smaller is returned unchanged."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) if len(image) < size else image


def _kept(store: Store, row: int) -> np.ndarray | None:
    """Read the cached display image, creating it if needed; None if the source is missing or has changed."""
    path = store.path / "display" / _name(store, row)
    if path.exists():
        try:
            return _read(path, path.stat().st_mtime_ns)
        except DataError:  # damaged: create it again
            path.unlink()
    large, _ = _source_view(store, row)
    if large is None:
        return None
    try:
        _write(path, large)
    except RunError:  # the store is not writable: create the image on every call
        return large
    return _read(path, path.stat().st_mtime_ns)


def _name(store: Store, row: int) -> str:
    return f"{store.table['digest'].iloc[row]}.jpg"


def _write(path: Path, image: np.ndarray) -> None:
    with files.atomic(path) as temporary:
        temporary.write_bytes(_encoded(image, 95))


def _encoded(image: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _source_view(store: Store, row: int, original: bool = False, detail: bool = False) -> tuple[np.ndarray | None, str]:
    """View of the source of a row at display size, or at its native size with `detail`.

    Returns None and the reason if the source is missing or is no longer the photograph that was prepared.
    """
    source, settings = store.table["source"].iloc[row], store.settings
    try:
        modified = 0 if source.startswith("synthetic:") else os.stat(source).st_mtime_ns
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    small = _small(source, settings, False, False, modified)
    if small is None or np.abs(small.astype(float) - store.image(row)).mean() > _SAME:
        return None, "has changed since it was prepared"
    large = (_large if detail else _small)(source, display_settings(settings), original, detail, modified)
    return large, "" if large is not None else "cannot be prepared at a larger size"


def _render(source: str, settings: DataSettings, original: bool, detail: bool, _modified: int) -> np.ndarray | None:
    """View of a source at the size of the settings or at its native size, read-only; None if it fails."""
    try:
        if detail:
            settings = dataclasses.replace(settings, size=native_size(source, settings))
        picture = view(source, settings, original)
    except (DataError, cv2.error, ValueError, MemoryError):  # the errors of an unusual file, as in `prepare_one`
        return None
    picture.setflags(write=False)  # shared through the caches
    return picture


_small, _large = lru_cache(maxsize=64)(_render), lru_cache(maxsize=8)(_render)  # large ones hold up to 50 MB each


@lru_cache(maxsize=128)
def _read(path: Path, _modified: int) -> np.ndarray:
    image = read_image(path)
    image.setflags(write=False)  # shared through the cache
    return image
