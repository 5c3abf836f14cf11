"""The prepared data of one fold: training, validation and test set of a run."""

from dataclasses import dataclass

import numpy as np

from insightr_nb.data import split_file, splits
from insightr_nb.data.loading import Subset
from insightr_nb.data.prepare import prepare
from insightr_nb.data.store import Store
from insightr_nb.errors import SettingsError
from insightr_nb.settings import DataSettings, RunSettings


@dataclass(frozen=True)
class FoldData:
    """The prepared store of a run and the three sets of its fold, with targets on the model's scale."""

    store: Store
    split: splits.Split
    training: Subset
    validation: Subset
    test: Subset


def fold_split(store: Store, settings: DataSettings, fold: int) -> splits.Split:
    """Return the split of one fold.

    Args:
        store: The prepared store. If it was prepared with a split file, the fold comes from that file.
        settings: Settings of the data; determine the split otherwise.
        fold: Fold to validate on, counted from 0.
    """
    if store.settings.split_file:
        return split_file.split(store.path / "split.json", store.table, fold)
    return splits.split(store.table, store.grades, settings, fold)


def fold_data(settings: RunSettings) -> FoldData:
    """Return the data of a run's fold, preparing the store if needed.

    Continuous labels, if requested, apply to the training and validation sets only; the test set keeps its grades.
    Raises SettingsError if continuous labels are requested for labels that are not integer grades.
    """
    store = prepare(settings.data)
    split = fold_split(store, settings.data, settings.fold)
    labels = store.table["label"].to_numpy(float)
    classes = splits.strata(labels, store.grades)
    training, validation = labels[split.training], labels[split.validation]
    if settings.labels == "continuous":
        if not store.grades:
            raise SettingsError(
                f"labels = 'continuous': the labels of {settings.data.store_name!r} are not integer grades and already "
                "continuous; use labels = 'categorical', which leaves them unchanged"
            )
        if split.continuous:
            training, validation = split.continuous
        else:
            drawn = splits.continuous_labels(labels, list(store.table["image_id"]), settings.seed)
            training, validation = drawn[split.training], drawn[split.validation]

    def subset(rows: np.ndarray, targets: np.ndarray) -> Subset:
        return Subset(store.images, rows, store.scale.to_model(targets).astype(np.float32), classes[rows])

    return FoldData(
        store,
        split,
        subset(split.training, training),
        subset(split.validation, validation),
        subset(split.test, labels[split.test]),
    )
