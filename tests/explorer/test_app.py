"""The explorer without a browser: choice of the run, links between the tabs, and runs that cannot be opened."""

import shutil
import threading
from pathlib import Path

import cv2
import pytest
from explorer import shown

from insightr_nb import archive, files
from insightr_nb.analysis import editing
from insightr_nb.analysis.edit import Edit
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data import synthetic
from insightr_nb.explorer import app as explorer
from insightr_nb.explorer import viewer
from insightr_nb.runs import Run


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
    assert len(app.tabs.children) == 5
    assert app.message.value == ""


@pytest.mark.parametrize("missing", ["weights.npy", "model.safetensors"])
def test_a_run_that_is_not_whole_is_named_with_what_is_missing_until_it_is_there(copied, smoke_run, missing):
    (copied / missing).unlink()
    app = explorer.Explorer()
    assert missing in app.message.value
    assert "cannot be opened" in app.message.value
    assert app.tabs.children == ()
    shutil.copyfile(smoke_run / missing, copied / missing)
    app.again.click()
    assert len(app.tabs.children) == 5
    assert app.message.value == ""


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
    assert len(app.tabs.children) == 5


def test_a_run_that_is_asked_for_and_not_there_is_named(copied):
    missing = copied.path.with_name("fold2")
    app = explorer.Explorer(missing)
    assert f"{files.display_path(missing)} is missing. Create it with: papermill" in app.notice
    assert app.tabs.children == ()
    app.chooser.value = str(copied.path.resolve())  # the others are still offered
    assert len(app.tabs.children) == 5


@pytest.mark.parametrize("content", ['{"state": ', "{}"])
def test_one_damaged_manifest_leaves_the_other_runs(copied, content):
    other = copied.path.with_name("fold1")
    shutil.copytree(copied.path, other)
    (other / "manifest.json").write_text(content)
    app = explorer.Explorer()
    assert len(app.tabs.children) == 5
    assert "fold1/manifest.json" in app.notice
    shutil.rmtree(other)
    app.again.click()
    assert app.notice == ""


def test_refresh_keeps_the_open_run(copied):
    for name in ("fold0-trial", "fold1"):
        shutil.copytree(copied.path, copied.path.with_name(name))
    app = explorer.Explorer(copied)
    assert app.compare_tab.sides[1].run.value == str(copied.path.with_name("fold1").resolve())  # the next fold
    tabs = app.tabs.children
    tabs[0].index.value = 4
    app.again.click()
    assert app.tabs.children is tabs
    assert tabs[0].index.value == 4


@pytest.fixture
def undrawn(copied, tmp_path):
    """The same, without cached display images."""
    shutil.rmtree(tmp_path / "data/synthetic-64/display", ignore_errors=True)
    return copied


def test_display_images_are_rendered_ahead(undrawn, monkeypatch):
    monkeypatch.setattr(explorer, "_AHEAD", 12)
    monkeypatch.setattr(explorer, "headless", lambda: False)
    before = set(threading.enumerate())
    app = explorer.Explorer()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
    store, e = app.exploration.loaded.store, app.exploration
    wanted = [*e.prototypes["image_id"].unique(), *e.predictions["image_id"]][:12]
    digests = store.table.set_index("image_id")["digest"]
    assert {digests[name] for name in wanted} == {path.stem for path in (store.path / "display").glob("*.jpg")}


def test_rendering_ahead_stops_when_another_run_is_opened(undrawn):
    app = explorer.Explorer()
    before, app.exploration = app.exploration, None
    app._draw_ahead(before)
    x = app.selection.explanation
    seen = {x.name, *(x.prototype_sources["image_id"][js[0]] for js in x.reasons(3))}
    assert len(list((before.loaded.store.path / "display").glob("*.jpg"))) == len(seen)


# -- tabs and links ---------------------------------------------------------------------------------------------------


def test_links_open_the_tab_of_what_they_name(copied):
    app = explorer.Explorer()
    source = app.exploration.loaded.prototypes["image_id"][3]
    app.go("prototype:3")
    assert (app.tabs.selected_index, app.browse_tab.chosen) == (1, 3)
    assert "prototype <b>3</b>" in app.browse_tab.headline.value
    app.go(f"image:{source}")
    assert app.tabs.selected_index == 0
    assert f"image <b>{source}</b>" in app.explain_tab.headline.value
    assert "from the training set of this run" in app.explain_tab.headline.value
    app.go("edit:3")
    assert (app.tabs.selected_index, app.edit_tab.prototype.value) == (3, 3)
    app.go("image:nobody")
    assert "no image &#x27;nobody&#x27;" in app.explain_tab.message.value


def test_every_tab_shows_the_explained_image_also_without_anywidget(copied, monkeypatch):
    monkeypatch.setattr(viewer, "AnyWidget", None)
    app = explorer.Explorer()
    app.explain_tab.index.value = 4
    name = app.exploration.predictions["image_id"][4]
    for n, tab in enumerate(app.tabs.children):
        app.tabs.selected_index = n
        assert isinstance(tab.viewer, viewer.FixedViewer)
        assert len(tab.viewer.children) == len(tab.viewer.content.blocks) > 1
    assert f"image {name}" in shown.text(app.edit_tab.viewer)
    assert len(app.tabs.titles) == 5


# -- another run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def edited(copied) -> str:
    """A second run on the same images, in which prototype 7 is off."""
    loaded = load_run(copied)
    run = editing.save(loaded, Edit.of(loaded).switched([7], on=False), "edited")
    return str(run.path.resolve())


def test_the_image_stays_when_the_run_changes(copied, edited, tmp_path):
    app = explorer.Explorer(copied)
    predictions = {path: Run(Path(path)).table("predictions.csv") for path in (str(copied.path.resolve()), edited)}
    app.explain_tab.index.value = 4
    app.explain_tab.count.value = 5
    for path in (edited, str(copied.path.resolve())):
        app.chooser.value = path
        row = predictions[path].iloc[4]
        assert f"image <b>{row['image_id']}</b>" in app.explain_tab.headline.value
        assert f">{row['prediction']:.2f}</b>" in app.explain_tab.headline.value
        assert (app.explain_tab.index.value, app.explain_tab.count.value) == (4, 5)
    assert predictions[edited]["prediction"][4] != predictions[str(copied.path.resolve())]["prediction"][4]
    cv2.imwrite(str(tmp_path / "eye.png"), synthetic.photograph(3, 5, 200).image[..., ::-1])
    app.explain_tab.explain_own(tmp_path / "eye.png")
    app.tabs.selected_index = 3
    app.chooser.value = edited
    assert app.tabs.selected_index == 3
    expect = explain(Run(Path(edited)), tmp_path / "eye.png").prediction
    assert "image eye.png" in shown.text(app.edit_tab.viewer)
    assert app.selection.explanation.prediction == pytest.approx(expect)
    assert app.message.value == ""
    assert "edited" in app.about.value


def test_an_image_that_the_other_run_has_not_is_reported(copied, tmp_path):
    """A run from a zip has some images only, which it shows; those are kept, also on another place of the slider."""
    archive.load(archive.export(copied, tmp_path / "run.zip", test_images=3))
    app = explorer.Explorer(copied)
    imported = next(path for _, path in app.chooser.options if "imported" in path)
    had = app.opened(imported)
    there = had.predictions["image_id"][had.available].tolist()
    gone = next(i for i in had.predictions["image_id"] if i not in there)
    app.go(f"image:{there[-1]}")
    app.chooser.value = imported
    assert app.message.value == ""
    assert f"image <b>{there[-1]}</b>" in app.explain_tab.headline.value
    assert app.explain_tab.index.value == app.explain_tab.index.max == len(there) - 1 < len(had.predictions) - 1
    app.explain_tab.index.value = 0
    assert f"image <b>{there[0]}</b>" in app.explain_tab.headline.value
    app.chooser.value = str(copied.path.resolve())
    app.go(f"image:{gone}")
    app.chooser.value = imported
    assert f"{gone} cannot be explained by this run: " in app.notice
    assert f"image <b>{there[0]}</b>" in app.explain_tab.headline.value


def test_a_training_image_stays_though_no_run_tests_it(copied, edited):
    app = explorer.Explorer(copied)
    source = app.exploration.loaded.prototypes["image_id"][3]
    app.go(f"image:{source}")
    app.chooser.value = edited
    assert app.selection.explanation.prediction == pytest.approx(explain(Run(Path(edited)), source).prediction)
    assert f"image <b>{source}</b>" in app.explain_tab.headline.value


def test_the_last_runs_stay_open(copied, monkeypatch):
    monkeypatch.setattr(explorer, "_OPEN", 2)
    for fold in (1, 2):
        shutil.copytree(copied.path, copied.path.with_name(f"fold{fold}"))
    app = explorer.Explorer(copied)
    paths = [path for _, path in app.chooser.options]
    first = app.opened(paths[1])
    assert app.opened(paths[1]) is first
    for path in paths[2:]:
        app.opened(path)
    assert len(app.explorations) == 2
    assert app.opened(paths[0]) is app.exploration
    assert app.opened(paths[1]) is not first


def test_a_saved_edit_can_be_opened_and_compared(copied):
    app = explorer.Explorer()
    tabs = app.tabs.children
    app.edit_tab.toggle(7)
    app.edit_tab.save.click()
    assert app.tabs.children is tabs  # nothing is opened again
    saved = str(copied.path.with_name("fold0-edited").resolve())
    assert saved in [path for _, path in app.chooser.options]
    app.compare_tab.sides[1].run.value = saved
    assert "The predictions differ by" in shown.text(app.compare_tab.viewer)
