"""Images at display size, over which maps and boxes are drawn instead of over the network's small inputs.

The source of a row is prepared again at `SIZE` pixels and cached as a JPEG in the `display` folder of the store.
"""

import dataclasses
import shutil
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from insightr_nb import files
from insightr_nb.data.images import read_image
from insightr_nb.data.photograph import prepared_source
from insightr_nb.data.store import Store
from insightr_nb.errors import DataError, RunError
from insightr_nb.settings import DataSettings

SIZE = 512  # side in pixels
_SAME = 2.0  # grey levels; maximum mean difference at which the source still counts as the prepared photograph


def display_settings(settings: DataSettings) -> DataSettings:
    """Return the settings of a store with `size` raised to at least `SIZE`."""
    return dataclasses.replace(settings, size=max(settings.size, SIZE))


def display_image(store: Store, row: int) -> np.ndarray:
    """Return image `row` of a store at display size, (S, S, 3) uint8 RGB with S = max(SIZE, size of the store).

    If the source is missing or has changed since preparation, the store's image is enlarged instead.
    """
    image = None if store.images.shape[1] >= SIZE else _kept(store, row)
    return enlarged(store.image(row), SIZE) if image is None else image


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
    small, large = _drawn(store.table["source"].iloc[row], store.settings)
    if large is None or np.abs(small.astype(float) - store.image(row)).mean() > _SAME:
        return None
    try:
        _write(path, large)
    except RunError:  # the store is not writable: create the image on every call
        return large
    return _read(path, path.stat().st_mtime_ns)


def _name(store: Store, row: int) -> str:
    return f"{store.table['digest'].iloc[row]}.jpg"


def _write(path: Path, image: np.ndarray) -> None:
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    with files.atomic(path) as temporary:
        temporary.write_bytes(coded.tobytes())


@lru_cache(maxsize=64)
def _drawn(source: str, settings: DataSettings) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Prepare a source at the network's size and at display size; (None, None) if it is missing or fails."""
    try:
        return prepared_source(source, settings), prepared_source(source, display_settings(settings))
    except (DataError, cv2.error, ValueError, MemoryError):  # the errors of an unusual file, as in `prepare_one`
        return None, None


@lru_cache(maxsize=128)
def _read(path: Path, _modified: int) -> np.ndarray:
    image = read_image(path)
    image.setflags(write=False)  # shared through the cache
    return image
