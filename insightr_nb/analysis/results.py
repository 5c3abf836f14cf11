"""Collection of the runs of a table: their state and metrics, with a check that they share the same data."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from insightr_nb import runs
from insightr_nb.analysis import metrics
from insightr_nb.data.folds import fold_split
from insightr_nb.data.store import Store, open_store, store_path
from insightr_nb.errors import RunError
from insightr_nb.model.prototypes import similarity
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale, RunSettings
from insightr_nb.training.checkpoint import settings_of

METRICS = {
    "mae": ("MAE", "↓"),
    "mae_clamped": ("MAE, clamped", "↓"),
    "mae_source_labels": ("MAE with the grades of the sources", "↓"),
    "accuracy": ("Accuracy", "↑"),
    "kappa": ("Quadratic kappa", "↑"),
    "sparsity": ("Sparsity", "↓"),
    "sparsity_paper": ("Sparsity as the paper counts", "↓"),
    "diversity": ("Diversity", "↑"),
    "source_label_gap": ("Gap between label and source's grade", "↓"),
    "top_label_gap": ("Top-prototype label gap", "↓"),
    "label_spread": ("Spread of the labels", "↓"),
    "ground_share": ("Share on the background", "↓"),
}


@dataclass(frozen=True)
class Results:
    """Runs of one data set and preset.

    Attributes:
        frame: One row per run with the requested settings (variant, labels, fold, tag), `state`, `command` and the
            metrics, which are NaN if the run is not finished.
        runs: Finished runs by (variant, labels, fold, tag).
    """

    frame: pd.DataFrame
    runs: dict[tuple, Run]

    @property
    def missing(self) -> pd.DataFrame:
        """Rows of the unfinished runs, with the commands that finish them."""
        return self.frame.loc[
            self.frame["state"] != "finished", ["variant", "labels", "fold", "tag", "state", "command"]
        ]

    @property
    def grades(self) -> bool:
        """Whether the labels are grades, so that a confusion matrix applies."""
        return bool(self.frame["accuracy"].notna().any())

    @cached_property
    def store(self) -> Store:
        """The prepared store of the runs. Raises RunError if it is missing, or has other data than the runs."""
        manifest = next(iter(self.runs.values())).manifest
        store = open_store(store_path(settings_of(manifest["settings"]).data))
        if store.fingerprint != manifest["data"]["store"]:
            raise RunError(f"{store.path} has other data than the runs; prepare the original data or train again")
        return store

    @property
    def scale(self) -> LabelScale:
        """Label range of the store."""
        return self.store.scale

    @cached_property
    def patients(self) -> np.ndarray:
        """Patient of each test image, in the order of predictions.csv: (N_test,) strings, as of `Store.patients`."""
        return self.store.patients(next(iter(self.runs.values())).table("predictions.csv")["image_id"])

    @cached_property
    def held_out_ratio(self) -> float:
        """`Split.held_out_ratio`, mean over the folds of the finished runs."""
        settings = {key[2]: settings_of(run.manifest["settings"]).data for key, run in self.runs.items()}
        return float(np.mean([fold_split(self.store, data, fold).held_out_ratio for fold, data in settings.items()]))

    def run(self, variant: str, fold: int, labels: str = "categorical") -> Run | None:
        """The untagged run of a variant and fold; None if it is not finished.

        Args:
            variant: Variant of the run.
            fold: Fold of the run.
            labels: Kind of labels, "categorical" or "continuous".
        """
        return self.runs.get((variant, labels, fold, None))

    def finished(self, variant: str, labels: str = "categorical") -> list[Run] | None:
        """Runs of every fold of a variant; None if one is missing."""
        found = [self.run(variant, fold, labels) for fold in sorted(self.of(variant, labels)["fold"])]
        return found if found and all(found) else None

    def of(self, variant: str, labels: str = "categorical", tag: str | None = None) -> pd.DataFrame:
        """Rows of one variant, one per fold.

        Args:
            variant: Variant of the runs.
            labels: Kind of labels, "categorical" or "continuous".
            tag: Tag of the runs; None selects untagged runs.
        """
        f = self.frame
        same_tag = f["tag"].isna() if tag is None else f["tag"] == tag
        return f[(f["variant"] == variant) & (f["labels"] == labels) & same_tag]


def collect(wanted: Iterable[RunSettings]) -> Results:
    """Read the metrics of runs from their folders.

    Raises RunError for a run with different settings (names the field), for a damaged metrics file, and for runs made
    from different data or, within a fold, different splits (lists them).
    """
    rows, found = [], {}
    for settings in wanted:
        run = Run(runs.run_directory(settings))
        key = (settings.variant, settings.labels, settings.fold, settings.tag)
        row = dict(zip(("variant", "labels", "fold", "tag"), key, strict=True))
        row |= {"state": run.state, "command": run.command()}
        if row["state"] == "finished":
            runs.check_same(run, settings.as_dict(), {})
            run.require_whole()
            counted = paper_sparsity(run)
            row |= run.metrics | {"sparsity_paper": None if counted is None else counted.mean()} | source_labels(run)
            row |= {"store": run.manifest["data"]["store"], "split": run.manifest["data"]["split"]}
            found[key] = run
        rows.append(row)
    frame = pd.DataFrame(rows)
    _check_same_data(frame)
    for name in METRICS:
        frame[name] = frame.get(name, pd.Series(dtype=float)).astype(float)
    return Results(frame, found)


def paper_sparsity(run: Run) -> np.ndarray | None:
    """Sparsity (N,) as the published code counts it: from similarities instead of contributions, and from 0."""
    if not (run / "distances.npy").exists():
        return None
    model = settings_of(run.manifest["settings"]).model
    nearest = torch.from_numpy(run.array("distances.npy").min(axis=(2, 3)))  # (N, m)
    return metrics.sparsity(similarity(nearest, model.latent_channels, model.similarity, model.epsilon).numpy()) - 1


def source_labels(run: Run) -> dict[str, float | None]:
    """What a run would predict if each prototype meant what its source photograph was graded.

    The contributions stay as they are and each label in the weighted mean (Eq. 2) is replaced by the grade of the
    prototype's source. The importance r = theta^2 / label is thus not recomputed: only the meaning of a match changes.

    Returns:
        "mae_source_labels", the MAE of these predictions, and "source_label_gap", the mean |label - grade| over the
        prototypes. None without prototypes, and where the run's store is not there or does not have every source.
    """
    unknown = {"mae_source_labels": None, "source_label_gap": None}
    path = store_path(settings_of(run.manifest["settings"]).data, run.root)
    if not ((run / "prototypes.csv").exists() and (path / "meta.json").exists()):
        return unknown
    prototypes, test, store = run.table("prototypes.csv"), run.table("predictions.csv"), open_store(path)
    grades = prototypes["image_id"].map(store.table.set_index("image_id")["label"])  # (m,)
    if grades.isna().any() or store.fingerprint != run.manifest["data"]["store"]:
        return unknown
    weights = run.array("weights.npy").astype(float)  # (N, m)
    predictions = weights @ grades.to_numpy(float) / weights.sum(1)
    return {
        "mae_source_labels": metrics.mean_absolute_error(predictions, test["target"]),
        "source_label_gap": float((prototypes["label"] - grades).abs().mean()),
    }


def _check_same_data(frame: pd.DataFrame) -> None:
    if "store" not in frame:
        return
    done = frame[frame["state"] == "finished"]
    for column, groups in (("store", [done]), ("split", [g for _, g in done.groupby("fold")])):
        for group in groups:
            if group[column].nunique() > 1:
                listed = "; ".join(
                    f"{value}: " + ", ".join(f"{r.variant} {r.labels} fold {r.fold}" for r in part.itertuples())
                    for value, part in group.groupby(column)
                )
                raise RunError(
                    f"runs of one table were made from different data (fingerprint of the {column}): {listed}. "
                    "Retrain them with overwrite=True on one prepared store"
                )
