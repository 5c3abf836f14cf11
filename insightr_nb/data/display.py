"""Images at a size for people: maps and boxes are drawn over these, not over the small images that a network sees.

The source of a row is prepared once more, at `SIZE` pixels, and kept as a JPEG in the folder `display` of the store.
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

SIZE = 512  # pixels a side
_SAME = 2.0  # grey levels, mean difference: the source is still the photograph that the network has seen


def display_settings(settings: DataSettings) -> DataSettings:
    """The settings of a store, for images of display size; a store of larger images stays as it is."""
    return dataclasses.replace(settings, size=max(settings.size, SIZE))


def display_image(store: Store, row: int) -> np.ndarray:
    """Image `row` of a store at display size, (S, S, 3) uint8 RGB with S = max(SIZE, size of the store).

    Where the source is gone, or is not the photograph any more that was prepared: the store's image, enlarged.
    """
    image = None if store.images.shape[1] >= SIZE else _kept(store, row)
    return enlarged(store.image(row), SIZE) if image is None else image


def draw(store: Store, row: int) -> bool:
    """Draws the file that `display_image` reads, if it needs one and it is not there yet; whether it did."""
    if store.images.shape[1] >= SIZE or (store.path / "display" / _name(store, row)).exists():
        return False
    _kept(store, row)
    return True


def write_pictures(store: Store, rows: np.ndarray, folder: Path) -> None:
    """These rows at display size as JPEG files in `folder`, which `display_image` finds in the folder of a store.

    Rows without a source are left out, and all where the store's images are not smaller.
    """
    if store.images.shape[1] < SIZE:
        for row in rows:
            if (image := _kept(store, row)) is None:
                continue
            kept = store.path / "display" / _name(store, row)
            if kept.exists():  # as it is: coded once more, it would lose a little
                folder.mkdir(exist_ok=True)
                shutil.copy(kept, folder)
            else:
                _write(folder / kept.name, image)


def enlarged(image: np.ndarray, size: int) -> np.ndarray:
    """A square image at `size` pixels a side, or as it is where it is not smaller."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) if len(image) < size else image


def _kept(store: Store, row: int) -> np.ndarray | None:
    """The image from its file, which is made if it is not there; None where there is no source."""
    path = store.path / "display" / _name(store, row)
    if path.exists():
        try:
            return _read(path, path.stat().st_mtime_ns)
        except DataError:  # damaged: it is drawn anew
            path.unlink()
    small, large = _drawn(store.table["source"].iloc[row], store.settings)
    if large is None or np.abs(small.astype(float) - store.image(row)).mean() > _SAME:
        return None
    try:
        _write(path, large)
    except RunError:  # a store that cannot be written to: then it is drawn every time
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
    """A source as the network saw it and at display size; None twice where it is gone or cannot be prepared."""
    try:
        return prepared_source(source, settings), prepared_source(source, display_settings(settings))
    except (DataError, cv2.error, ValueError, MemoryError):  # as in `prepare`: what an odd file raises
        return None, None


@lru_cache(maxsize=128)
def _read(path: Path, _modified: int) -> np.ndarray:
    image = read_image(path)
    image.setflags(write=False)  # it is shared
    return image
