"""The explorer without a browser: what is shown when something is wrong; the rest is in tests/browser."""

import shutil

import numpy as np
import pytest

from insightr_nb import explorer, files
from insightr_nb.runs import Run


@pytest.fixture
def copied(smoke_run, tmp_path, monkeypatch):
    """The outputs with one run to damage."""
    source = files.outputs_root()
    for part in ("data/synthetic-64", smoke_run.path.relative_to(source)):
        shutil.copytree(source / part, tmp_path / part)
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    return Run(tmp_path / smoke_run.path.relative_to(source))


def test_without_a_run_it_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    app = explorer.Explorer()
    assert "Make one with: papermill notebooks/03_train.ipynb" in app.message.value
    assert app.tabs.children == ()


def test_a_run_is_found_when_it_has_been_made(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "none"))
    app = explorer.Explorer()
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    app.again.click()
    assert len(app.tabs.children) == 4
    assert app.message.value == ""


@pytest.mark.parametrize("missing", ["weights.npy", "distances.npy", "predictions.csv", "model.safetensors"])
def test_a_run_that_is_not_whole_is_named_with_what_is_missing(copied, missing):
    (copied / missing).unlink()
    app = explorer.Explorer()
    assert missing in app.message.value
    assert "cannot be opened" in app.message.value
    assert app.tabs.children == ()


def test_a_run_on_other_data_than_the_store_now_holds(copied, tmp_path):
    meta = tmp_path / "data/synthetic-64/meta.json"
    meta.write_text(meta.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    assert "trained on other data" in explorer.Explorer().message.value


def test_an_unfinished_run_is_not_offered(copied):
    copied.update(state="failed", error="x")
    assert explorer.finished_runs() == []


def test_nothing_is_computed_again_that_did_not_change(copied, monkeypatch):
    app = explorer.Explorer()
    first = app.tabs.children[0]
    photograph, chart = first.picture.value, first.chart.value
    monkeypatch.setattr(explorer.pictures, "contributions", lambda *_: pytest.fail("drawn again"))
    pair = first.pairs[0][0].value
    first.opacity.value = 0.2
    assert first.pairs[0][0].value != pair
    assert (first.picture.value, first.chart.value) == (photograph, chart)


def test_what_if_and_back(copied):
    app = explorer.Explorer()
    app.tabs.selected_index = 2
    tab = app.tabs.children[2]
    before = tab.table.value
    tab.off.value = (0, 1)
    assert tab.table.value != before
    tab.all_off.click()
    assert "switched off" in tab.message.value
    tab.reset.click()
    assert (tab.table.value, tab.message.value) == (before, "")
    tab.prototype.value, tab.label.value = 3, 4.0
    tab.set_label.click()
    assert tab.table.value != before
    assert "→ 4.00" in tab.changes.value
    tab.label.value = 99.0  # outside the range: the widget keeps to its limit
    assert tab.label.value == pytest.approx(tab.e.labels.max())


def test_the_map_leads_to_a_prototype(copied):
    app = explorer.Explorer()
    app.tabs.selected_index = 3
    tab = app.tabs.children[3]
    tab.slider.value = 4
    tab.look.click()
    assert app.tabs.selected_index == 1
    assert f"prototype <b>{tab.chosen}</b>" in app.tabs.children[1].headline.value


def test_an_own_image_that_is_no_image(copied, tmp_path):
    (tmp_path / "note.png").write_text("no picture")
    app = explorer.Explorer()
    tab = app.tabs.children[0]
    before = tab.headline.value
    tab.explain_own(tmp_path / "note.png")
    assert "not an image that can be decoded" in tab.message.value
    tab.explain_own(tmp_path / "nowhere.png")
    assert "cannot be read" in tab.message.value
    assert tab.headline.value == before


def test_boxes_and_maps_are_those_of_explain(copied):
    """The explorer reads them from files; `explain` computes them."""
    from insightr_nb.analysis.explanation import explain

    app = explorer.Explorer()
    tab = app.tabs.children[0]
    tab.index.value = 5
    e = explain(copied, app.exploration.predictions["image_id"][5])
    assert tab.top.tolist() == e.top(3).tolist()
    assert np.array_equal(tab.boxes, e.boxes[e.top(3)])
    assert np.asarray(tab.maps) == pytest.approx(e.maps, abs=1e-4)
