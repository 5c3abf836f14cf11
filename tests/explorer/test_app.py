"""The explorer without a browser: choice of the run, and messages about runs that cannot be opened."""

import shutil
import threading

import pytest

from insightr_nb import archive, files
from insightr_nb.explorer import app as explorer


def test_without_a_run_it_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    app = explorer.Explorer()
    assert "Create one with: papermill notebooks/03_train.ipynb" in app.message.value
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
    assert "trained on different data" in explorer.Explorer().message.value


def test_an_unfinished_run_is_not_offered(copied):
    copied.update(state="failed", error="x")
    assert explorer.finished_runs() == ([], [])


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


def test_refresh_keeps_the_open_run(copied):
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
    """The same, without cached display images."""
    shutil.rmtree(tmp_path / "data/synthetic-64/display", ignore_errors=True)
    return copied


def test_display_images_are_rendered_ahead(undrawn, monkeypatch):
    monkeypatch.setattr(explorer, "headless", lambda: False)
    before = set(threading.enumerate())
    app = explorer.Explorer()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
    store, e = app.exploration.loaded.store, app.exploration
    wanted = {*e.prototypes["image_id"], *e.predictions["image_id"]}
    digests = store.table.set_index("image_id")["digest"]
    assert {digests[name] for name in wanted} == {path.stem for path in (store.path / "display").glob("*.jpg")}


def test_rendering_ahead_stops_when_another_run_is_opened(undrawn):
    app = explorer.Explorer()
    before, app.exploration = app.exploration, None
    app._draw_ahead(before)
    first = app.tabs.children[0]
    shown = {app.selection.explanation.name, *before.prototypes.set_index("prototype")["image_id"][first.top]}
    assert len(list((before.loaded.store.path / "display").glob("*.jpg"))) == len(shown)
