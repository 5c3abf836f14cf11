"""Queries of the explorer on a finished run, answered from its stored files where they suffice."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from insightr_nb.analysis import metrics, tracing
from insightr_nb.analysis.explanation import Explanation
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.data import display, masks
from insightr_nb.data.folds import fold_split
from insightr_nb.errors import DataError, RunError
from insightr_nb.explorer import pictures
from insightr_nb.runs import Run


@dataclass(frozen=True)
class Exploration:
    """A run with m prototypes and N test images; labels in the user's units.

    Attributes:
        loaded: The run.
        baseline: Predictions of the baseline of the same fold by image_id; None if there are none.
        baseline_problem: Why there are none, if the baseline is damaged.
    """

    loaded: LoadedRun
    baseline: pd.Series | None = None
    baseline_problem: str = ""

    @property
    def predictions(self) -> pd.DataFrame:
        """predictions.csv: image_id, target, prediction, ..."""
        return self.loaded.predictions

    @cached_property
    def available(self) -> np.ndarray:
        """Whether the image is in the store: (N,) bool. A run imported from a zip includes only some images."""
        return self.predictions["image_id"].isin(self.loaded.store.table["image_id"]).to_numpy()

    @cached_property
    def prototypes(self) -> pd.DataFrame:
        """prototypes.csv, sorted by label: prototype, label, image_id, row, col, ..., x0, y0, x1, y1."""
        return self.loaded.prototypes.sort_values("label", kind="stable").reset_index(drop=True)

    @property
    def labels(self) -> np.ndarray:
        """Labels by prototype number: (m,) float64."""
        return self.loaded.labels

    @cached_property
    def weights(self) -> np.ndarray:
        """Contributions: (N, m) float64."""
        return self.loaded.weights.astype(float)

    @property
    def distances(self) -> np.ndarray:
        """Squared distances: (N, m, H, W), memory-mapped."""
        return self.loaded.distances

    @cached_property
    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared distance of the nearest patch to each prototype, (N, m), and its row and column, (N, m, 2)."""
        flat = np.asarray(self.distances).reshape(*self.distances.shape[:2], -1)
        cells = np.stack(np.unravel_index(flat.argmin(2), self.distances.shape[2:]), axis=2)
        return flat.min(2), cells

    @cached_property
    def top5(self) -> np.ndarray:
        """Prototypes with the largest contributions: (N, 5)."""
        return metrics.top_prototypes(self.weights)

    @cached_property
    def uncertainties(self) -> np.ndarray:
        """Uncertainty of each prediction: (N,), in the user's units."""
        return metrics.uncertainty(self.weights, self.labels)

    @cached_property
    def familiarities(self) -> np.ndarray:
        """Familiarity of each available test image, (N,); NaN where it is unknown."""
        found, store = np.full(len(self.predictions), np.nan), self.loaded.store
        if self.loaded.reference is not None:
            for n in np.flatnonzero(self.available):
                found[n] = self.loaded.familiarity(store.image(store.row(self.predictions["image_id"].iloc[n])))
        return found

    def index(self, image_id: str) -> int | None:
        """Index of an available test image in `predictions`; None for any other image."""
        found = np.flatnonzero((self.predictions["image_id"] == image_id).to_numpy() & self.available)
        return int(found[0]) if len(found) else None

    @cached_property
    def _parts(self) -> dict[str, str]:
        store, settings = self.loaded.store, self.loaded.settings
        if store.partial:  # the split cannot be made again, but prototypes are patches of training images
            return dict.fromkeys(self.prototypes["image_id"], "training")
        split = fold_split(store, settings.data, settings.fold)
        ids = store.table["image_id"].to_numpy()
        rows = {"training": split.training, "validation": split.validation, "test": split.test}
        return {image_id: part for part, chosen in rows.items() for image_id in ids[chosen]}

    def part(self, image_id: str) -> str:
        """Part of the run's split that holds an image: "training", "validation" or "test"; empty if unknown."""
        return "test" if self.index(image_id) is not None else self._parts.get(image_id, "")

    def traces(self, image: np.ndarray, prototypes: Sequence[int]) -> np.ndarray:
        """Matches of a prepared image, (size, size, 3), traced to its pixels: (k, size, size)."""
        with _threads(self.fastest[0]):
            return tracing.matches(self.loaded.network, image, prototypes)

    @cached_property
    def fastest(self) -> tuple[int, float]:
        """Number of threads that trace three matches fastest, and the seconds that they take.

        One image is little work: beside other processes, a second thread waits more than it helps.
        """
        image, count, spent = self.loaded.store.image(0), range(min(3, len(self.labels))), {}
        for threads in sorted({torch.get_num_threads(), 1}, reverse=True):
            with _threads(threads):
                for _ in range(2):
                    begin = time.monotonic()
                    tracing.matches(self.loaded.network, image, count)
                    spent[threads] = min(spent.get(threads, np.inf), time.monotonic() - begin)
        return min(spent.items(), key=lambda item: item[1])

    def source_trace(self, prototype: int) -> np.ndarray:
        """The match of a prototype with its own source image, traced to the pixels of that: (size, size)."""
        if prototype not in self._source_traces:
            store, source = self.loaded.store, self.loaded.prototypes["image_id"][prototype]
            image = store.image(store.row(source))
            self._source_traces[prototype] = tracing.match(self.loaded.network, image, prototype)
        return self._source_traces[prototype]

    @cached_property
    def _source_traces(self) -> dict[int, np.ndarray]:
        return {}

    def thumbnail(self, prototype: int, side: int) -> bytes:
        """The patch of a prototype with its surroundings as JPEG of `side` pixels a side."""
        if (prototype, side) not in self._thumbnails:
            run, p = self.loaded, self.loaded.prototypes.iloc[prototype]
            box, reach = run.display_box(p[["x0", "y0", "x1", "y1"]]), int(run.display_grid.stride)
            patch = pictures.patch(run.display_image(p["image_id"]), box, reach, side)
            self._thumbnails[prototype, side] = pictures.encode(patch)
        return self._thumbnails[prototype, side]

    @cached_property
    def _thumbnails(self) -> dict[tuple[int, int], bytes]:
        return {}

    def has_masks(self, folder: str | None = None) -> bool:
        """Whether lesion masks are available: a folder is given, or the data are synthetic."""
        return masks.has_masks(self.loaded.store, folder)

    def baseline_of(self, image_id: str) -> float | None:
        """Prediction of the baseline for an image, if there is one."""
        return None if self.baseline is None or image_id not in self.baseline else float(self.baseline[image_id])

    def lesions(self, image_id: str, folder: str | None = None) -> list[str]:
        """Outlines of an image's lesions as points of SVG polygons in shares of the side.

        Raises DataError if it has no masks, or a mask does not fit its photograph.
        """
        if (image_id, folder) not in self._lesions:
            store = self.loaded.store
            if not masks.has_masks_of(store, image_id, folder):
                raise DataError(f"there are no lesion masks of {image_id}")
            found = masks.lesion_masks(store, image_id, folder, display.SIZE)
            polygons = [polygon / display.SIZE for mask in found.values() for polygon in masks.outlines(mask)]
            self._lesions[image_id, folder] = [" ".join(f"{x:.4f},{y:.4f}" for x, y in one) for one in polygons]
        return self._lesions[image_id, folder]

    @cached_property
    def _lesions(self) -> dict[tuple[str, str | None], list[str]]:
        return {}

    def explanation(self, n: int) -> Explanation:
        """Explanation of an available test image by its index in `predictions`."""
        row = self.predictions.iloc[n]
        name = str(row["image_id"])
        image, picture = self.loaded.store.image(self.loaded.store.row(name)), self.loaded.display_image(name)
        about = {"image": image, "picture": picture, "target": float(row["target"]), "name": name}
        return Explanation.of(self.loaded, float(row["prediction"]), self.weights[n], self.distances[n], **about)

    def nearest_patches(self, prototype: int, count: int = 9) -> pd.DataFrame:
        """Available test images nearest to a prototype, in ascending distance: n, image_id, target, distance, box."""
        distances, cells = self.nearest
        order = np.argsort(distances[:, prototype], kind="stable")
        order = order[self.available[order]][:count]
        boxes = [self.loaded.grid.box(*cells[n, prototype]) for n in order]
        rows = self.predictions.iloc[order][["image_id", "target"]].reset_index(drop=True)
        return rows.assign(n=order, distance=distances[order, prototype], box=boxes)

    def usage(self, prototype: int) -> pd.Series:
        """Share of the test images with the prototype in the top 5: "all", then by label (or its quintile)."""
        used = (self.top5 == prototype).any(axis=1)
        targets = self.predictions["target"]
        by_label = targets if targets.nunique() <= 11 else pd.qcut(targets, 5, duplicates="drop")
        shares = pd.Series(used).groupby(by_label.to_numpy()).mean()
        return pd.concat([pd.Series({"all": used.mean()}), shares])

    def order(self, by: str, label: float | None = None) -> np.ndarray:
        """Indices of available test images, optionally of one label.

        Args:
            by: "table" (in order), "error" or "uncertainty" (largest first), or "familiarity" (smallest first).
            label: Label of the images; None for all.
        """
        chosen = np.flatnonzero(self.available)
        if label is not None:
            chosen = chosen[self.predictions["target"].to_numpy()[chosen] == label]
        if by == "table":
            return chosen
        if by == "error":
            first = -(self.predictions["prediction"] - self.predictions["target"]).abs().to_numpy()
        else:
            first = {"uncertainty": lambda: -self.uncertainties, "familiarity": lambda: self.familiarities}[by]()
        return chosen[np.argsort(first[chosen], kind="stable")]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def baseline_predictions(run: Run) -> tuple[pd.Series | None, str]:
    """Predictions of the comparable baseline run by image_id, None if there are none, and what is wrong with it."""
    try:
        other = run.sibling("baseline")
        if other is None:
            return None, ""
        table = other.require_whole("predictions.csv").table("predictions.csv")
        return table.set_index("image_id")["prediction"], ""
    except RunError as error:  # the run can be explored without it
        return None, f"Without the baseline: {error}"
