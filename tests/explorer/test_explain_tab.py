"""Tab 1 of the explorer: the explanation of a test image or of a file of the user."""

from datetime import UTC, datetime

import cv2
import numpy as np
import pytest

from insightr_nb.analysis.explanation import explain
from insightr_nb.data import graham, synthetic
from insightr_nb.errors import DataError
from insightr_nb.explorer import app as explorer
from insightr_nb.explorer import explain_tab, pictures


def test_opacity_redraws_the_maps_only(copied, monkeypatch):
    app = explorer.Explorer()
    first = app.tabs.children[0]
    photograph, chart = first.picture.value, first.chart.value
    monkeypatch.setattr(explain_tab.pictures, "contributions", lambda *_: pytest.fail("drawn again"))
    pair = first.pairs[0][0].value
    first.opacity.value = 0.2
    assert first.pairs[0][0].value != pair
    assert (first.picture.value, first.chart.value) == (photograph, chart)


def test_unreadable_user_file_shows_a_message(copied, tmp_path):
    (tmp_path / "note.png").write_text("no picture")
    app = explorer.Explorer()
    tab = app.tabs.children[0]
    before = tab.headline.value
    tab.explain_own(tmp_path / "note.png")
    assert "cannot be decoded as an image" in tab.message.value
    tab.explain_own(tmp_path / "nowhere.png")
    assert "cannot be read" in tab.message.value
    assert tab.headline.value == before


def test_boxes_and_maps_are_those_of_explain(copied):
    """The explorer reads them from files; `explain` computes them."""
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


def test_warning_stays_while_the_image_is_displayed(own, tmp_path):
    app, tab = own
    tab.explain_own(tmp_path / "eye.png")
    assert tab.message.value == ""
    tab.explain_own(f' "{tmp_path / "scan.png"}" ')  # as people paste it
    assert "No clear fundus outline" in tab.message.value
    tab.count.value = 5
    app.tabs.selected_index = 1
    app.tabs.selected_index = 0
    assert "No clear fundus outline" in tab.message.value
    assert "scan.png" in tab.headline.value
    tab.back.click()
    assert tab.message.value == ""


def test_failing_user_file_keeps_the_displayed_image(own, tmp_path):
    _, tab = own
    tab.explain_own(tmp_path / "eye.png")
    tab.view.value = "original"
    picture, headline = tab.picture.value, tab.headline.value
    tab.explain_own(tmp_path / "black.png")
    assert "nearly black" in tab.message.value
    tab.view.value = "normalised"
    tab.view.value = "original"
    assert (tab.picture.value, tab.headline.value) == (picture, headline)


def test_what_if_is_about_the_displayed_image(own, tmp_path):
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


def test_images_are_ordered_by_error_and_chosen_by_label(copied):
    tab = explorer.Explorer().tabs.children[0]
    table = tab.e.predictions.assign(error=lambda t: (t["prediction"] - t["target"]).abs())
    tab.by.value = "error"
    assert table["image_id"][table["error"].idxmax()] in tab.headline.value
    tab.label.value = 2.0
    of_grade = table[table["target"] == 2]
    assert tab.index.max == len(of_grade) - 1
    assert of_grade["image_id"][of_grade["error"].idxmax()] in tab.headline.value


def test_an_uploaded_file_is_explained_under_its_name(own, tmp_path):
    _, tab = own
    content = (tmp_path / "eye.png").read_bytes()
    tab.explain_own(tmp_path / "eye.png")
    prediction = tab.selection.explanation.prediction
    tab.back.click()
    upload = {"name": "left eye.png", "type": "image/png", "size": len(content), "content": memoryview(content)}
    tab.upload.value = (upload | {"last_modified": datetime.now(UTC)},)
    assert "left eye.png" in tab.headline.value
    assert tab.selection.explanation.prediction == prediction
    assert tab.upload.value == ()  # the same file can be given again


def test_a_missing_original_photograph_is_reported(copied, monkeypatch):
    def gone(source, size):
        raise DataError(f"{source}: cannot be read")

    tab = explorer.Explorer().tabs.children[0]
    monkeypatch.setattr(explain_tab, "photograph", gone)
    tab.view.value = "original"
    assert "cannot be read" in tab.message.value
    assert tab.picture.value == pictures.encode(graham.resize(tab.selection.explanation.picture, 400))
