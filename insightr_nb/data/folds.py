"""The prepared data of one fold: what a run trains, validates and tests on."""

from dataclasses import dataclass

import numpy as np

from insightr_nb.data import splits
from insightr_nb.data.loading import Part
from insightr_nb.data.prepare import Store, prepare
from insightr_nb.errors import SettingsError
from insightr_nb.settings import RunSettings


@dataclass(frozen=True)
class FoldData:
    """The prepared store of a run and the parts of its fold, targets on the model's scale."""

    store: Store
    split: splits.Split
    training: Part
    validation: Part
    test: Part


def fold_data(settings: RunSettings) -> FoldData:
    """Prepares what is not prepared yet. Continuous labels, if asked for, go to training and validation only."""
    store = prepare(settings.data)
    split = splits.split(store.table, store.grades, settings.data, settings.fold)
    given = labels = store.table["label"].to_numpy(float)
    classes = splits.strata(given, store.grades)
    if settings.labels == "continuous":
        if not store.grades:
            raise SettingsError(
                f"labels = 'continuous': the labels of {settings.data.store_name!r} are no integer grades, so they "
                "are continuous as they are; use 'categorical', which leaves labels unchanged"
            )
        labels = splits.continuous_labels(labels, list(store.table["image_id"]), settings.seed)

    def part(rows: np.ndarray, values: np.ndarray) -> Part:
        targets = store.scale.to_model(values[rows]).astype(np.float32)
        return Part(store.images, rows, targets, classes[rows])

    return FoldData(store, split, part(split.training, labels), part(split.validation, labels), part(split.test, given))
