"""The parameters cells of the notebooks: names, defaults and values are checked."""

import papermill
import pytest
from places import NOTEBOOKS, ROOT

from insightr_nb.errors import SettingsError
from insightr_nb.parameters import Ablations, Explore, Model, Prepare, Projection, Tables, TableSettings, Train, Trust


@pytest.mark.parametrize(("notebook", "kind"), NOTEBOOKS.items(), ids=NOTEBOOKS)
def test_the_parameters_of_a_notebook_are_those_that_are_checked(notebook, kind):
    """Names and defaults."""
    found = papermill.inspect_notebook(str(ROOT / f"notebooks/{notebook}.ipynb"))
    defaults = {name: about["default"] for name, about in found.items()}
    made = kind()
    assert defaults == {name: _as_code(getattr(made, name)) for name in kind.names()}


def _as_code(value) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_only_what_papermill_injected_is_checked():
    injected = {"In": ["", "fold = 0", "# Parameters\nfold = 2\n", "x = 1"], "fold": 2, "x": 1, "run": object()}
    assert Train.from_notebook(injected) == Train(fold=2)
    with pytest.raises(SettingsError, match="'fodl'.*'fold'"):
        Train.from_notebook(injected | {"In": ["", "# Parameters\nfodl = 2\n"]})
    assert Train.from_notebook({"In": ["fodl = 2"], "fodl": 2, "fold": 1}).settings.fold == 1


def test_parameters_of_the_preparation():
    assert Prepare(preset="paper").settings.size == 512
    assert Prepare(preset="paper", size=224).settings.size == 224
    made = Prepare(preset="paper", dataset="csv", name="a", label_max="10", workers="2")
    assert (made.settings.size, made.settings.label_max) == (512, 10.0)
    assert (made.options.workers, made.options.max_rejected) == (2, 0.01)
    with pytest.raises(SettingsError, match=r"max_rejected = 2.*from 0 to 1"):
        Prepare(max_rejected=2)
    with pytest.raises(SettingsError, match="label_min = 5.0: must be less than label_max = 4.0"):
        Prepare(dataset="csv", name="a", label_min=5, label_max=4)
    with pytest.raises(SettingsError, match="unknown parameter 'sise'.*'size'"):
        Prepare.from_notebook({"In": ["# Parameters\nsise = 3\n"]})


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Model, {"preset": "papr"}, "preset = 'papr': did you mean 'paper'"),
        (Train, {"fold": "two"}, "fold = 'two': must be a number"),
        (Projection, {"fold": 7}, "fold = 7: must be from 0 to 4"),
        (Trust, {"images": "1"}, "images = 1: must be at least 2"),
        (Explore, {"static": "perhaps"}, "static = 'perhaps': must be true or false"),
        (Tables, {"name": 2019}, "name = 2019: must be a string.*-r name"),
        (Prepare, {"dataset": "csv", "name": "a", "data_folder": 2019}, "data.folder = 2019: .*-r data_folder"),
        (Prepare, {"dataset": "csv", "name": "a", "label_column": 1.0}, "data.label_column = 1.0: .*-r label_column"),
        (Projection, {"folder": 2019}, "folder = 2019: must be a string.*-r folder"),
        (Projection, {"image": 0}, "image = 0: must be a string.*-r image"),
        (Projection, {"image": 20}, "image = 20: must be a string.*-r image"),
        (Trust, {"masks": 2019}, "masks = 2019: must be a string.*-r masks"),
    ],
)
def test_a_bad_value_is_named(kind, given, message):
    with pytest.raises(SettingsError, match=message):
        kind(**given)


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        ({"variants": "insight"}, ["variants = 'insight'", "did you mean 'insightr'"]),
        ({"shown": "no_kluster"}, ["shown", "'no_kluster'", "'no_cluster'"]),
        ({"preset": "dmo"}, ["'dmo'", "'demo'"]),
        ({"variants": "insightr,baseline,insightr"}, ["at most once"]),
        ({"variants": "none"}, ["at least one"]),
        ({"folds": 0}, ["folds = 0", "at least 1"]),
        ({"dataset": "csv"}, ["name"]),
    ],
)
def test_bad_parameters_of_a_table(given, fragments):
    with pytest.raises(SettingsError) as error:
        Ablations(**given)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_a_fold_that_the_data_do_not_have():
    with pytest.raises(SettingsError, match="fold = 3: must be from 0 to 2"):
        TableSettings(preset="smoke", folds=4).grid(["baseline"])
