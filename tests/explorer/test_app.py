"""The explorer without a browser: what is shown when something is wrong; the rest is in tests/browser."""

import shutil
import threading

import cv2
import numpy as np
import pytest

from insightr_nb import archive, files
from insightr_nb.data import synthetic
from insightr_nb.explorer import app as explorer
from insightr_nb.explorer import explain_tab
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
    assert explorer.finished_runs() == ([], [])


def test_nothing_is_computed_again_that_did_not_change(copied, monkeypatch):
    app = explorer.Explorer()
    first = app.tabs.children[0]
    photograph, chart = first.picture.value, first.chart.value
    monkeypatch.setattr(explain_tab.pictures, "contributions", lambda *_: pytest.fail("drawn again"))
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
    tab.reset.click()
    tab.set_label.click()  # as it is shown, rounded: no change
    assert (tab.table.value, tab.changes.value) == (before, "")
    tab.label.value = 99.0
    tab.set_label.click()
    assert "label 99: must be from -0.90 to 4.90" in tab.message.value
    assert tab.table.value == before


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
    assert tab.boxes == [app.exploration.loaded.display_box(box) for box in e.boxes[e.top(3)]]
    read = app.selection.explanation
    assert (read.name, read.target, read.prediction) == (e.name, e.target, pytest.approx(e.prediction, abs=1e-5))
    assert np.array_equal(read.picture, e.picture)
    assert np.array_equal(read.image, e.image)
    assert np.asarray(read.maps) == pytest.approx(e.maps, abs=1e-4)
    assert read.similarities == pytest.approx(e.similarities, rel=1e-3)


# -- own images -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(copied, tmp_path):
    """The app, and files: a fundus, a bright rectangle on black, one that is nearly black."""
    cv2.imwrite(str(tmp_path / "eye.png"), synthetic.photograph(3, 5, 200).image[..., ::-1])
    scan = np.zeros((200, 300, 3), np.uint8)
    scan[60:120, 20:280] = 180
    cv2.imwrite(str(tmp_path / "scan.png"), scan)
    cv2.imwrite(str(tmp_path / "black.png"), np.full((200, 200, 3), 3, np.uint8))
    app = explorer.Explorer()
    return app, app.tabs.children[0]


def test_the_warning_stays_as_long_as_the_image_is_shown(own, tmp_path):
    app, tab = own
    tab.explain_own(tmp_path / "eye.png")
    assert tab.message.value == ""
    tab.explain_own(f' "{tmp_path / "scan.png"}" ')  # as people paste it
    assert "No disc found" in tab.message.value
    tab.count.value = 5
    app.tabs.selected_index = 1
    app.tabs.selected_index = 0
    assert "No disc found" in tab.message.value
    assert "scan.png" in tab.headline.value
    tab.back.click()
    assert tab.message.value == ""


def test_a_file_that_fails_changes_nothing(own, tmp_path):
    _, tab = own
    tab.explain_own(tmp_path / "eye.png")
    tab.view.value = "original"
    picture, headline = tab.picture.value, tab.headline.value
    tab.explain_own(tmp_path / "black.png")
    assert "nearly black" in tab.message.value
    tab.view.value = "normalised"
    tab.view.value = "original"
    assert (tab.picture.value, tab.headline.value) == (picture, headline)


def test_the_slider_leaves_an_own_image_and_what_if_is_about_the_image_shown(own, tmp_path):
    app, tab = own
    tab.explain_own(tmp_path / "eye.png")
    app.tabs.selected_index = 2
    what_if = app.tabs.children[2]
    assert "image eye.png" in what_if.table.value
    assert f"{app.selection.explanation.prediction:.2f}" in what_if.table.value
    what_if.off.value = tuple(range(5))
    weights = app.selection.explanation.weights.astype(float)
    weights[:5] = 0
    assert f"what if {weights @ what_if.e.labels / weights.sum():.2f}" in what_if.chart.value
    app.tabs.selected_index = 0
    tab.index.value = 7
    assert tab.e.predictions["image_id"][7] in tab.headline.value
    app.tabs.selected_index = 2
    assert tab.e.predictions["image_id"][7] in what_if.table.value


# -- which run --------------------------------------------------------------------------------------------------------


def test_a_run_that_is_asked_for_in_another_spelling(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = explorer.Explorer(f"{copied.path.relative_to(tmp_path)}/")
    assert app.chooser.value == str(copied.path.resolve())
    assert len(app.tabs.children) == 4


def test_a_run_that_is_asked_for_and_not_there_is_named(copied):
    missing = copied.path.with_name("fold2")
    app = explorer.Explorer(missing)
    assert f"{files.display_path(missing)} is missing. Create it with: papermill" in app.notice
    assert app.tabs.children == ()
    app.chooser.value = str(copied.path.resolve())  # the others are still offered
    assert len(app.tabs.children) == 4


@pytest.mark.parametrize("content", ['{"state": ', "{}"])
def test_one_damaged_manifest_leaves_the_other_runs(copied, content):
    other = copied.path.with_name("fold1")
    shutil.copytree(copied.path, other)
    (other / "manifest.json").write_text(content)
    app = explorer.Explorer()
    assert len(app.tabs.children) == 4
    assert "fold1/manifest.json" in app.notice


def test_look_again_keeps_what_is_open(copied):
    shutil.copytree(copied.path, copied.path.with_name("fold1"))
    app = explorer.Explorer()
    tabs = app.tabs.children
    tabs[0].index.value = 4
    app.again.click()
    assert app.tabs.children is tabs
    assert tabs[0].index.value == 4


def test_a_run_from_a_zip_shows_the_images_that_came_along(copied, tmp_path, monkeypatch):
    zipped = archive.export(copied, tmp_path / "run.zip", test_images=6)
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "elsewhere"))
    archive.load(zipped)
    tab = explorer.Explorer().tabs.children[0]
    assert tab.index.max == len(tab.order) - 1 < len(tab.e.predictions) - 1
    tab.index.value = tab.index.max
    assert tab.e.predictions["image_id"][tab.order[-1]] in tab.headline.value


@pytest.fixture
def undrawn(copied, tmp_path):
    """The same, without the pictures that other tests have looked at."""
    shutil.rmtree(tmp_path / "data/synthetic-64/display", ignore_errors=True)
    return copied


def test_pictures_are_drawn_before_they_are_looked_at(undrawn, monkeypatch):
    monkeypatch.setattr(explorer, "headless", lambda: False)
    before = set(threading.enumerate())
    app = explorer.Explorer()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
    store, e = app.exploration.loaded.store, app.exploration
    wanted = {*e.prototypes["image_id"], *e.predictions["image_id"]}
    digests = store.table.set_index("image_id")["digest"]
    assert {digests[name] for name in wanted} == {path.stem for path in (store.path / "display").glob("*.jpg")}


def test_drawing_ahead_ends_when_another_run_is_opened(undrawn):
    app = explorer.Explorer()
    before, app.exploration = app.exploration, None
    app._draw_ahead(before)
    first = app.tabs.children[0]
    shown = {app.selection.explanation.name, *before.prototypes.set_index("prototype")["image_id"][first.top]}
    assert len(list((before.loaded.store.path / "display").glob("*.jpg"))) == len(shown)
