"""Property-based tests: any input is either used or refused with an error of the package that names it."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from insightr_nb.data import catalog, split_file
from insightr_nb.errors import DataError, InsightrError, SettingsError
from insightr_nb.model.losses import total_loss
from insightr_nb.model.prototypes import similarity, weighted_mean
from insightr_nb.parameters import Prepare, Train
from insightr_nb.settings import GROUPS, DataSettings, LabelScale, LossSettings, RunSettings

# ruff: noqa: PT017  either outcome is right; what is asserted is what the refusal says
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**6),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["1e-5", "0", "True", "insightr", "paper", "fold1", "../x", "csv", "cpu", "{}", '{"losses.k": 1}']),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
SETTINGS = [f"{group}.{f.name}" for group, kind in GROUPS.items() for f in dataclasses.fields(kind)]
relaxed = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def names_it(message: str, given: dict) -> bool:
    """Whether a message names one of the parameters, and its value unless what is missing is another one."""
    names = [name.split(".")[-1].removeprefix("data_") for name in given]  # data_folder is the field data.folder
    return any(name in message for name in names) or "tag: required" in message or "name:" in message


@relaxed
@given(st.dictionaries(st.sampled_from([*Train.names(), "fodl", "k"]), ANYTHING, max_size=4))
def test_parameters_of_a_run(parameters):
    try:
        made = RunSettings.from_parameters(**parameters)
    except SettingsError as error:
        assert names_it(str(error), parameters), (str(error), parameters)
    else:
        assert RunSettings.from_parameters(**parameters) == made
        json.dumps(made.as_dict(), allow_nan=False)


@relaxed
@given(st.dictionaries(st.sampled_from([*SETTINGS, "losses.kk"]), ANYTHING, min_size=1, max_size=3))
@example({"training.lr_backbone": float("nan")})
def test_overrides(overrides):
    try:
        made = RunSettings.from_parameters(overrides=overrides, tag="t")
    except SettingsError as error:
        assert names_it(str(error), overrides), (str(error), overrides)
    else:
        again = RunSettings.from_parameters(overrides=made.changes(), tag="t")
        assert again == made  # what the manifest records is enough to make the settings again


@relaxed
@given(st.dictionaries(st.sampled_from(Prepare.names()), ANYTHING, max_size=4))
def test_parameters_of_the_preparation(parameters):
    try:
        Prepare(**parameters)
    except SettingsError as error:
        assert names_it(str(error), parameters), (str(error), parameters)


CELL = st.one_of(
    st.sampled_from(
        [
            "a.png",
            "b.png",
            "c",
            "A.PNG",
            "",
            "0",
            "4",
            "2.5",
            "-1",
            "nan",
            "inf",
            "1e400",
            "../a.png",
            "/etc/passwd",
            " 3 ",
            "train",
            "test",
        ]
    ),
    st.text(max_size=6),
)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    return tmp_path


@relaxed
@given(
    st.lists(st.sampled_from(["image", "label", "patient", "split", " label ", "x", ""]), min_size=1, max_size=4),
    st.lists(st.lists(CELL, max_size=5), max_size=5),
)
@example(["image", "label"], [["a.png", "0"], ["b.png", "4"]])
@example(["image", "label"], [["../a.png", "0"], ["b.png", "4"]])
def test_label_tables(folder, header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    (folder / "labels.csv").write_text(text.getvalue(), encoding="utf-8")
    about = DataSettings(
        dataset="csv",
        name="x",
        folder=str(folder),
        patient_column="patient" if "patient" in header else None,
        split_column="split" if "split" in header else None,
    )
    try:
        table = catalog.find(about)
    except DataError as error:
        assert str(folder) in str(error) or "patients" in str(error) or "images" in str(error), str(error)
    else:
        assert np.isfinite(table.rows["label"]).all()
        assert all(Path(s).resolve().parent == folder.resolve() for s in table.rows["source"])


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 9), st.floats(), st.sampled_from(["a", "b", "c", "Fold 0"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["Fold 0", "Fold 1", "train", "val", "files", "labels", "fussed_labels"]), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@relaxed
@given(JSON)
@example({"Fold 0": {"train": {"files": ["a"], "labels": [1], "fussed_labels": [float("nan")]}, "val": {}}})
def test_split_files(folder, content):
    (folder / "cv.json").write_text(json.dumps(content))
    rows = pd.DataFrame({"image_id": ["a", "b", "c"], "label": [0.0, 2.0, 4.0], "patient_id": ["a", "b", "c"]})
    about = DataSettings(dataset="csv", name="x", folder=str(folder), split_file=str(folder / "cv.json"))
    try:
        split_file.read(about, rows, LabelScale())
    except InsightrError as error:
        assert "cv.json" in str(error)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(2, 12),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 128.0]),
    st.sampled_from(["inverse", "log"]),
)
def test_losses_and_weighted_mean_stay_finite_and_in_range(batch, m, seed, scale, kind):
    generator = torch.Generator().manual_seed(seed)
    distances = torch.rand(batch, m, generator=generator) * scale
    labels = torch.linspace(0.1, 5.9, m)
    theta = (torch.randn(m, generator=generator) + 1e-3).requires_grad_()
    similarities = similarity(distances, 128.0, kind, 1e-4)
    prediction, weights = weighted_mean(similarities, theta, labels)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert (prediction >= labels.min() - 1e-5).all()
    assert (prediction <= labels.max() + 1e-5).all()
    targets = torch.rand(batch, generator=generator) * 4 + 1
    values = total_loss(prediction, distances, targets, labels, 128.0, LossSettings())
    assert all(v.isfinite() for v in values.values())
    values["total"].backward()
    assert theta.grad.isfinite().all()
