"""The three sets of a fold: their rows, and their targets on the model's scale from 1 to 5."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from insightr_nb.data import folds
from insightr_nb.data.store import Store
from insightr_nb.settings import RunSettings


@pytest.fixture
def store(monkeypatch, tmp_path) -> Store:
    """30 images, graded 0 1 2 3 4 0 1 ..., of which the last ten are the test part."""
    table = pd.DataFrame({"image_id": [f"i{n}" for n in range(30)], "patient_id": [f"p{n}" for n in range(30)]})
    table["label"] = np.arange(30) % 5.0
    table["split"] = ["train"] * 20 + ["test"] * 10
    meta = {"label_range": [0, 4], "grades": True, "settings": {"dataset": "synthetic"}}
    made = Store(tmp_path, np.zeros((30, 1, 1, 3), np.uint8), table, meta)
    monkeypatch.setattr(folds, "prepare", lambda settings: made)
    return made


def settings(**parameters) -> RunSettings:
    return RunSettings.from_parameters(preset="smoke", overrides={"data.folds": 4}, tag="t", **parameters)


def test_the_targets_are_the_grades_plus_1(store):
    data = folds.fold_data(settings(fold=1))
    assert (len(data.training), len(data.validation), len(data.test)) == (15, 5, 10)
    assert sorted([*data.training.rows, *data.validation.rows]) == list(range(20))
    assert data.test.rows.tolist() == list(range(20, 30))
    for subset in (data.training, data.validation, data.test):
        assert subset.targets.dtype == np.float32
        assert subset.targets.tolist() == [n % 5 + 1 for n in subset.rows]
        assert subset.strata.tolist() == [n % 5 for n in subset.rows]


def test_another_fold_validates_other_images(store):
    rows = [folds.fold_data(settings(fold=fold)).validation.rows for fold in range(4)]
    assert sorted(np.concatenate(rows)) == list(range(20))


def test_continuous_labels_apply_to_training_and_validation_only(store):
    data = folds.fold_data(settings(labels="continuous"))
    again = folds.fold_data(settings(labels="continuous"))
    for subset, same in ((data.training, again.training), (data.validation, again.validation)):
        grades = subset.rows % 5 + 1
        assert (np.abs(subset.targets - grades) <= 0.5).all()
        assert (subset.targets != grades).any()
        assert subset.targets.tolist() == same.targets.tolist()
        assert subset.strata.tolist() == (subset.rows % 5).tolist()  # over-sampling follows the grade
    assert data.test.targets.tolist() == [n % 5 + 1 for n in data.test.rows]


def test_the_split_of_a_store_does_not_depend_on_the_labels_of_the_run(store):
    plain, continuous = (folds.fold_data(settings(labels=kind)).split for kind in ("categorical", "continuous"))
    assert plain.fingerprint == continuous.fingerprint
    assert plain.fingerprint == folds.fold_split(store, settings().data, 0).fingerprint
    assert plain.fingerprint != folds.fold_split(store, settings().data, 1).fingerprint


def test_continuous_labels_of_a_split_file_are_used_as_they_are(store, monkeypatch):
    plain = folds.fold_split(store, settings().data, 0)
    given = tuple(rows % 5 + 0.25 for rows in (plain.training, plain.validation))
    monkeypatch.setattr(folds, "fold_split", lambda *_: replace(plain, continuous=given))
    data = folds.fold_data(settings(labels="continuous"))
    assert data.training.targets.tolist() == [n % 5 + 1.25 for n in plain.training]
    assert data.validation.targets.tolist() == [n % 5 + 1.25 for n in plain.validation]
    assert folds.fold_data(settings()).training.targets.tolist() == [n % 5 + 1 for n in plain.training]
