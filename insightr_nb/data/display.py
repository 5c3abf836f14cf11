"""Images at a size for people: maps and boxes are drawn over these, not over the small images that a network sees.

The source of a row is prepared once more, at `SIZE` pixels, and kept as a JPEG in the folder `display` of the store.
"""

import dataclasses
import os
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from insightr_nb import files
from insightr_nb.data.images import read_image
from insightr_nb.data.prepare import prepared_source
from insightr_nb.data.store import Store
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

SIZE = 512  # pixels a side
_QUALITY = 95  # of the JPEG
_SAME = 2.0  # grey levels, mean difference: the source is still the photograph that the network has seen


def display_settings(settings: DataSettings) -> DataSettings:
    """The settings of a store, for images of display size; a store of larger images stays as it is."""
    return dataclasses.replace(settings, size=max(settings.size, SIZE))


def display_image(store: Store, row: int) -> np.ndarray:
    """Image `row` of a store at display size, (S, S, 3) uint8 RGB with S = max(SIZE, size of the store).

    Where the source is gone, or is not the photograph any more that was prepared: the store's image, enlarged.
    """
    if store.images.shape[1] >= SIZE:
        return store.image(row)
    path = display_path(store, row)
    if not path.exists():
        image = _from_source(store, row)
        if image is None or not os.access(store.path, os.W_OK):
            return enlarged(store.image(row), SIZE) if image is None else image
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        with files.atomic(path) as temporary:
            temporary.write_bytes(coded.tobytes())
    return _read(path, path.stat().st_mtime_ns)


def display_path(store: Store, row: int) -> Path:
    """Where image `row` is kept at display size; it is there once `display_image` has drawn it from its source."""
    return store.path / "display" / f"{store.table['digest'].iloc[row]}.jpg"


def _from_source(store: Store, row: int) -> np.ndarray | None:
    source, settings = store.table["source"].iloc[row], store.settings
    try:
        if np.abs(prepared_source(source, settings).astype(float) - store.image(row)).mean() > _SAME:
            return None
        return prepared_source(source, display_settings(settings))
    except DataError:  # the source is gone
        return None


def enlarged(image: np.ndarray, size: int) -> np.ndarray:
    """A square image at `size` pixels a side, or as it is where it is not smaller."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) if len(image) < size else image


@lru_cache(maxsize=128)
def _read(path: Path, _modified: int) -> np.ndarray:
    image = read_image(path)
    image.setflags(write=False)  # it is shared
    return image
