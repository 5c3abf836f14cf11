"""What the explorer asks of a finished run, answered from its stored files: no image goes through the network again."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from insightr_nb.analysis import metrics
from insightr_nb.analysis.explanation import LoadedRun
from insightr_nb.errors import DataError
from insightr_nb.model.prototypes import importance
from insightr_nb.runs import Run


@dataclass(frozen=True)
class Exploration:
    """A run with m prototypes on N test images; labels in the user's units.

    baseline: predictions of the baseline of the same fold by image id, where it is there.
    """

    loaded: LoadedRun
    baseline: pd.Series | None = None

    @property
    def predictions(self) -> pd.DataFrame:
        """predictions.csv: image_id, target, prediction, ..."""
        return self.loaded.predictions

    @cached_property
    def available(self) -> np.ndarray:
        """(N,) whether the image itself is in the store; with a run from a zip only some came along."""
        return self.predictions["image_id"].isin(self.loaded.store.table["image_id"]).to_numpy()

    @cached_property
    def prototypes(self) -> pd.DataFrame:
        """prototypes.csv, in the order of the labels: prototype, label, image_id, row, col, ..., x0, y0, x1, y1."""
        return self.loaded.prototypes.sort_values("label", kind="stable").reset_index(drop=True)

    @property
    def labels(self) -> np.ndarray:
        """(m,) float64, in the order of the prototypes' numbers."""
        return self.loaded.labels

    @cached_property
    def weights(self) -> np.ndarray:
        """(N, m) contributions, float64."""
        return self.loaded.weights.astype(float)

    @property
    def distances(self) -> np.ndarray:
        """(N, m, H, W), memory-mapped."""
        return self.loaded.distances

    @cached_property
    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, m) squared distance of the nearest patch to each prototype, and (N, m, 2) its row and column."""
        flat = np.asarray(self.distances).reshape(*self.distances.shape[:2], -1)
        cells = np.stack(np.unravel_index(flat.argmin(2), self.distances.shape[2:]), axis=2)
        return flat.min(2), cells

    @cached_property
    def importance(self) -> np.ndarray:
        """(m,) r = theta^2 / label."""
        last = self.loaded.network.last_layer
        return importance(last.theta, last.labels).detach().numpy().astype(float)

    @cached_property
    def top5(self) -> np.ndarray:
        """(N, 5) the prototypes with the largest contributions."""
        return metrics.top_prototypes(self.weights)

    def predict(self, active: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(N,) predictions with some prototypes switched off and other labels; r and so the weights stay.

        active: (m,) bool; labels: (m,), in the user's units. Raises DataError when every prototype is off.
        """
        check_any(active)
        weights = self.weights * active
        return (weights * labels).sum(1) / weights.sum(1)

    def summary(self, active: np.ndarray, labels: np.ndarray) -> dict[str, float | int | None]:
        """The metrics of the test set, as in metrics.json, under such a change."""
        store = self.loaded.store
        targets = self.predictions["target"].to_numpy(float)
        changed = self.predict(active, labels)
        return metrics.summary(changed, targets, store.scale, store.grades, self.weights * active, labels)

    def nearest_patches(self, prototype: int, count: int = 9) -> pd.DataFrame:
        """The available test images nearest to a prototype, nearest first: n, image_id, target, distance, box."""
        distances, cells = self.nearest
        order = np.argsort(distances[:, prototype], kind="stable")
        order = order[self.available[order]][:count]
        boxes = [self.loaded.grid.box(*cells[n, prototype]) for n in order]
        rows = self.predictions.iloc[order][["image_id", "target"]].reset_index(drop=True)
        return rows.assign(n=order, distance=distances[order, prototype], box=boxes)

    def usage(self, prototype: int) -> pd.Series:
        """Share of the test images with the prototype in the top 5: "all", then by label (or by its quintile)."""
        used = (self.top5 == prototype).any(axis=1)
        targets = self.predictions["target"]
        by_label = targets if targets.nunique() <= 11 else pd.qcut(targets, 5, duplicates="drop")
        shares = pd.Series(used).groupby(by_label.to_numpy()).mean()
        return pd.concat([pd.Series({"all": used.mean()}), shares])

    def order(self, by: str, label: float | None = None) -> np.ndarray:
        """Numbers of available test images by "table" (in order) or "error" (largest first); of one label if given."""
        chosen = np.flatnonzero(self.available)
        if label is not None:
            chosen = chosen[self.predictions["target"].to_numpy()[chosen] == label]
        if by == "error":
            error = (self.predictions["prediction"] - self.predictions["target"]).abs().to_numpy()[chosen]
            chosen = chosen[np.argsort(-error, kind="stable")]
        return chosen


def check_any(active: np.ndarray) -> None:
    if not np.any(active):
        raise DataError("every prototype is switched off: a mean of nothing is undefined. Switch at least one on")


def baseline_predictions(run: Run) -> pd.Series | None:
    """Predictions of the baseline that the run can be compared with, by image id; None where there is none."""
    other = run.sibling("baseline")
    if other is None:
        return None
    return other.require_whole("predictions.csv").table("predictions.csv").set_index("image_id")["prediction"]
