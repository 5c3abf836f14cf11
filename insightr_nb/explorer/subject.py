"""The image that the explorer explains, and what its tabs share."""

import dataclasses
import shutil
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp

from insightr_nb.analysis.explanation import Explanation, explain
from insightr_nb.data import display, photograph
from insightr_nb.errors import DataError
from insightr_nb.explorer import pictures
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.widgets import Status

LAYERS = {  # name: text of its switch, explanation
    "trace": ("trace", "the match traced to pixels: what the similarity of the cell depends on"),
    "cells": ("cells", "similarity over the cells of the latent grid"),
    "boxes": ("boxes", "the cell of each match and of its prototype, numbered"),
    "field": ("receptive field", "all that the chosen match can depend on"),
    "lesions": ("lesions", "outlines of the lesions, from the masks"),
}


@dataclass(frozen=True)
class View:
    """What is shown of an explanation.

    Attributes:
        count: Number of matches.
        layers: Names of the layers, of `LAYERS`.
        original: Original colours instead of the normalised photograph.
        masks: Folder of lesion masks of a data set that is not synthetic.
    """

    count: int = 3
    layers: tuple[str, ...] = ("trace", "boxes")
    original: bool = False
    masks: str | None = None


@dataclass(frozen=True)
class Subject:
    """An image of a data set, or, where `path` is given, a file.

    Attributes:
        name: image_id, or name of the file.
        path: The file.
        origin: Source and digest of an image of a data set, by which it is recognised in the store of another run;
            empty: not checked.
    """

    name: str
    path: Path | None = None
    origin: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, e: Exploration, image_id: str) -> "Subject":
        """Image of the data set of a run. Raises DataError for an unknown image_id."""
        return cls(image_id, origin=_origin(e, image_id))

    def explanation(self, e: Exploration) -> Explanation:
        """Explanation by a run: from its files for a test image, else computed.

        Raises DataError if the image cannot be used, or if the run knows another image by this name.
        """
        if self.path is not None:
            return explain(e.loaded, self.path).named(self.name)
        here = _origin(e, self.name)
        if any(self.origin) and all(mine != other for mine, other in zip(self.origin, here, strict=True)):
            store = e.loaded.store.path.name
            raise DataError(f"{self.name!r} is another image in {store}. Choose an image of that data set")
        n = e.index(self.name)
        return explain(e.loaded, self.name) if n is None else e.explanation(n)

    def baseline(self, e: Exploration) -> float | None:
        """Prediction of the baseline, for a test image, if there is one."""
        return None if self.path is not None else e.baseline_of(self.name)

    def picture(self, e: Exploration, original: bool = False, detail: bool = False) -> bytes:
        """The photograph as JPEG. Raises DataError if it cannot be had in its original colours.

        Args:
            e: The run, whose settings prepare a file.
            original: Original colours instead of the normalised photograph.
            detail: At the resolution of the source instead of at display size.
        """
        store = e.loaded.store
        if self.path is not None:
            settings = display.display_settings(store.settings)
            if detail:
                settings = dataclasses.replace(settings, size=photograph.native_size(self.path, settings))
            return pictures.encode(photograph.view(self.path, settings, original))
        row = store.row(self.name)
        if not original and not detail:
            return display.display_jpeg(store, row)
        if original:
            return pictures.encode(display.original_image(store, row, detail))
        return pictures.encode(display.detail_image(store, row))

    def outlines(self, e: Exploration, folder: str | None = None) -> list[str]:
        """Outlines of its lesions as points of SVG polygons, in shares of the side.

        Raises DataError if it has no masks.
        """
        if self.path is not None:
            raise DataError(f"there are no lesion masks of {self.name}")
        return e.lesions(self.name, folder)


@dataclass
class Selection:
    """What the tabs share: the explained image, what is shown of it, and the sign of being busy."""

    subject: Subject
    explanation: Explanation
    view: View
    status: Status
    opacity: float = 0.6  # of the maps
    layers_chosen: bool = False  # whether the user has switched a layer; until then the run decides on the trace

    @cached_property
    def uploads(self) -> Path:
        """Folder of uploaded files, which goes with the selection."""
        folder = Path(mkdtemp(prefix="insightr_nb_"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def _origin(e: Exploration, image_id: str) -> tuple[str, str]:
    table = e.loaded.store.table
    row = e.loaded.store.row(image_id)
    return str(table["source"].iloc[row]), str(table["digest"].iloc[row])
