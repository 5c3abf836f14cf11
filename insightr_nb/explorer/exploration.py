"""Queries of the explorer on a finished run, answered from its stored files without running the network."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from insightr_nb.analysis import metrics
from insightr_nb.analysis.explanation import Explanation
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.errors import DataError
from insightr_nb.model.prototypes import importance
from insightr_nb.runs import Run


@dataclass
class Selection:
    """Selection shared by the tabs of the explorer: the image explained in tab 1."""

    explanation: Explanation | None = None


@dataclass(frozen=True)
class Exploration:
    """A run with m prototypes and N test images; labels in the user's units.

    Attributes:
        loaded: The run.
        baseline: Predictions of the baseline of the same fold by image_id; None if there are none.
    """

    loaded: LoadedRun
    baseline: pd.Series | None = None

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
    def importance(self) -> np.ndarray:
        """Importance scores r = theta^2 / label: (m,)."""
        last = self.loaded.network.last_layer
        return importance(last.theta, last.labels).detach().cpu().numpy().astype(float)

    @cached_property
    def top5(self) -> np.ndarray:
        """Prototypes with the largest contributions: (N, 5)."""
        return metrics.top_prototypes(self.weights)

    def explanation(self, n: int) -> Explanation:
        """Explanation of an available test image by its index in `predictions`."""
        row = self.predictions.iloc[n]
        name = str(row["image_id"])
        image, picture = self.loaded.store.image(self.loaded.store.row(name)), self.loaded.display_image(name)
        about = {"image": image, "picture": picture, "target": float(row["target"]), "name": name}
        return Explanation.of(self.loaded, float(row["prediction"]), self.weights[n], self.distances[n], **about)

    def predict(self, active: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Predictions (N,) with some prototypes switched off or relabelled; importance r and weights are unchanged.

        active: (m,) bool; labels: (m,), in the user's units. Raises DataError if every prototype is off.
        """
        check_any(active)
        weights = self.weights * active
        return (weights * labels).sum(1) / weights.sum(1)

    def summary(self, active: np.ndarray, labels: np.ndarray) -> dict[str, float | int | None]:
        """Metrics of the test set, as in metrics.json, for `predict` with the same arguments."""
        store = self.loaded.store
        targets = self.predictions["target"].to_numpy(float)
        changed = self.predict(active, labels)
        return metrics.summary(changed, targets, store.scale, store.grades, self.weights * active, labels)

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
        """Indices of available test images by "table" (in order) or "error" (descending), optionally of one label."""
        chosen = np.flatnonzero(self.available)
        if label is not None:
            chosen = chosen[self.predictions["target"].to_numpy()[chosen] == label]
        if by == "error":
            error = (self.predictions["prediction"] - self.predictions["target"]).abs().to_numpy()[chosen]
            chosen = chosen[np.argsort(-error, kind="stable")]
        return chosen


def check_any(active: np.ndarray) -> None:
    """Raise DataError if every prototype is switched off. active: (m,) bool."""
    if not np.any(active):
        raise DataError("all prototypes are switched off, so the prediction is undefined. Switch at least one on")


def baseline_predictions(run: Run) -> pd.Series | None:
    """Predictions of the comparable baseline run by image_id; None if there is none."""
    other = run.sibling("baseline")
    if other is None:
        return None
    return other.require_whole("predictions.csv").table("predictions.csv").set_index("image_id")["prediction"]
