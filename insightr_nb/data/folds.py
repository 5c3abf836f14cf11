"""The prepared data of one fold: what a run trains, validates and tests on."""

from dataclasses import dataclass

import numpy as np

from insightr_nb.data import split_file, splits
from insightr_nb.data.loading import Part
from insightr_nb.data.prepare import prepare
from insightr_nb.data.store import Store
from insightr_nb.errors import SettingsError
from insightr_nb.settings import DataSettings, RunSettings


@dataclass(frozen=True)
class FoldData:
    """The prepared store of a run and the parts of its fold, targets on the model's scale."""

    store: Store
    split: splits.Split
    training: Part
    validation: Part
    test: Part


def fold_split(store: Store, settings: DataSettings, fold: int) -> splits.Split:
    """The parts of a fold: those of the split file that the store was prepared with, or our own."""
    if store.settings.split_file:
        return split_file.split(store.path / "split.json", store.table, fold)
    return splits.split(store.table, store.grades, settings, fold)


def fold_data(settings: RunSettings) -> FoldData:
    """Prepares what is not prepared yet. Continuous labels, if asked for, go to training and validation only."""
    store = prepare(settings.data)
    split = fold_split(store, settings.data, settings.fold)
    given = store.table["label"].to_numpy(float)
    classes = splits.strata(given, store.grades)
    training, validation = given[split.training], given[split.validation]
    if settings.labels == "continuous":
        if not store.grades:
            raise SettingsError(
                f"labels = 'continuous': the labels of {settings.data.store_name!r} are no integer grades, so they "
                "are continuous as they are; use 'categorical', which leaves labels unchanged"
            )
        if split.continuous:
            training, validation = split.continuous
        else:
            drawn = splits.continuous_labels(given, list(store.table["image_id"]), settings.seed)
            training, validation = drawn[split.training], drawn[split.validation]

    def part(rows: np.ndarray, labels: np.ndarray) -> Part:
        return Part(store.images, rows, store.scale.to_model(labels).astype(np.float32), classes[rows])

    return FoldData(
        store,
        split,
        part(split.training, training),
        part(split.validation, validation),
        part(split.test, given[split.test]),
    )
