"""Tab 1 of the explorer: the explanation of a test image or of a file of the user."""

import json
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from explorer import shown

from insightr_nb import files
from insightr_nb.analysis.explanation import explain
from insightr_nb.data import synthetic
from insightr_nb.explorer import explain_tab
from insightr_nb.explorer.explain_tab import ExplainTab
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.fixed import plain
from insightr_nb.explorer.subject import Subject


@pytest.fixture
def tab(explored, selection, went) -> ExplainTab:
    made = ExplainTab(explored, selection, went.append)
    made.index.value = 3
    return made


@pytest.fixture
def photographs(tmp_path):
    """A fundus, a bright rectangle on black, one that is nearly black, and a text."""
    cv2.imwrite(str(tmp_path / "eye.png"), synthetic.photograph(3, 5, 700).image[..., ::-1])
    scan = np.zeros((200, 300, 3), np.uint8)
    scan[60:120, 20:280] = 180
    cv2.imwrite(str(tmp_path / "scan.png"), scan)
    cv2.imwrite(str(tmp_path / "black.png"), np.full((200, 200, 3), 3, np.uint8))
    (tmp_path / "note.png").write_text("no picture")
    return tmp_path


# -- a test image -----------------------------------------------------------------------------------------------------


def test_headline_boxes_and_chart_are_those_of_explain(tab, explored):
    name = explored.predictions["image_id"][3]
    x = explain(explored.loaded, name)
    assert plain(tab.headline.value).replace("\xa0", "").split("·") == [
        f"image {name} ",
        f" prediction {x.prediction:.2f} (grade {round(x.prediction)}) ",
        f" uncertainty {x.uncertainty:.2f} ",
        f" label {x.target:g} ",
        f" familiarity {x.familiarity:.0%}",
    ]
    reasons = x.reasons(3)
    assert [b["box"] for b in shown.pane(tab.viewer)["boxes"]] == [(x.boxes[js[0]] / 64).tolist() for js in reasons]
    bars = shown.bars(shown.blocks(tab.viewer, "chart")[0]["html"])
    heights = np.array([float(bars[j].get("height")) for j in range(10)])
    assert heights / heights.max() == pytest.approx(x.shares / x.shares.max(), abs=0.01)
    for box, js in zip(shown.pane(tab.viewer)["boxes"], reasons, strict=True):
        assert {bars[j].get("stroke") for j in js} == {box["colour"]}
    for text, js in zip(shown.captions(tab.viewer), reasons, strict=True):
        assert f" {' and '.join(map(str, js))}, label" in text
    tab.count.value = 5
    assert len(shown.captions(tab.viewer)) == len(shown.pane(tab.viewer)["boxes"]) == min(5, len(x.reasons(10)))


def test_the_baseline_and_the_label_are_lines_of_the_chart(explored, selection):
    name = explored.predictions["image_id"][3]
    with_baseline = Exploration(explored.loaded, explored.predictions.set_index("image_id")["target"] + 0.25)
    tab = ExplainTab(with_baseline, selection, lambda _: None)
    tab.find(name)
    target = explored.predictions["target"][3]
    assert f"baseline {target + 0.25:.2f}" in plain(tab.headline.value)
    chart = shown.blocks(tab.viewer, "chart")[0]["html"]
    for text in (f"baseline {target + 0.25:.2f}", f"label {target:g}", "prediction"):
        assert f">{text}" in chart


def test_layers_are_computed_when_they_are_switched_on(tab, monkeypatch):
    assert shown.pane(tab.viewer)["reasons"][0]["layers"] == {}
    tab.switches["trace"].value = True
    assert tab.viewer.shown == ["trace", "boxes"]
    assert shown.pane(tab.viewer)["reasons"][0]["layers"] == {"trace": "trace:0"}
    tab.switches["trace"].value, tab.switches["cells"].value = False, True
    assert shown.pane(tab.viewer)["reasons"][0]["layers"] == {"cells": "cells:0"}
    before = tab.viewer.content
    tab.opacity.value = 0.2
    assert (tab.viewer.opacity, tab.selection.opacity) == (0.2, 0.2)
    assert tab.viewer.content is before  # nothing is drawn again


def test_images_are_ordered_and_chosen_by_label(tab, twinned):
    table = twinned.table("predictions.csv").assign(error=lambda t: (t["prediction"] - t["target"]).abs())
    tab.by.value = "error"
    assert table["image_id"][table["error"].idxmax()] in tab.headline.value
    tab.label.value = 2.0
    of_grade = table[table["target"] == 2]
    assert tab.index.max == len(of_grade) - 1
    assert of_grade["image_id"][of_grade["error"].idxmax()] in tab.headline.value
    tab.label.value = "all"
    for order, highest in (("uncertainty", True), ("familiarity", False)):
        tab.by.value = order
        values = [getattr(explain(twinned, name), order) for name in table["image_id"]]
        value = getattr(tab.selection.explanation, order)
        assert value == pytest.approx(max(values) if highest else min(values), abs=1e-3)


def test_steps_keys_and_links(tab, explored, went):
    ids = explored.predictions["image_id"]
    for by, n in ((1, 4), (-1, 3)):
        tab.viewer.handle({"event": "step", "by": by})
        assert ids[n] in tab.headline.value
    tab.index.value = 0
    tab.previous.click()
    assert ids[0] in tab.headline.value
    tab.next.click()
    assert ids[1] in tab.headline.value
    tab.viewer.handle({"event": "go", "to": "prototype:3"})
    assert went == ["prototype:3"]


def test_go_to_an_image_by_its_id(tab, explored):
    ids = explored.predictions["image_id"]
    tab.goto.value = f" {ids[7]} "
    assert (tab.index.value, tab.message.value) == (7, "")
    assert ids[7] in tab.headline.value
    tab.goto.value = "nobody"
    assert "no image &#x27;nobody&#x27; in synthetic-64; its ids look like" in tab.message.value
    assert ids[7] in tab.headline.value
    source = explored.loaded.prototypes["image_id"][3]
    tab.goto.value = source  # not in the test set
    assert "from the training set of this run" in plain(tab.headline.value)
    assert not tab.back.disabled
    tab.index.value = 2
    tab.goto.value = source  # once more
    assert source in tab.headline.value
    tab.back.click()
    assert ids[2] in tab.headline.value
    assert tab.back.disabled


def test_details_are_at_the_resolution_of_the_source_in_the_colours_that_are_shown(tab, explored):
    name = explored.predictions["image_id"][3]
    source = shown.blocks(tab.viewer, "pairs")[0]["pairs"][0]["panes"][1]["detail"]
    for original in (False, True):
        tab.switches["original"].value = original
        for key, image_id in (("image", name), (source, source.removeprefix("source:"))):
            got = tab.viewer.handle({"event": "detail", "key": key})
            assert got == Subject(image_id).picture(explored, original, detail=True)
            assert len(shown.decoded(got)) == 1024
    assert shown.pane(tab.viewer)["alt"] == f"original photograph {name}"


def test_a_missing_original_photograph_is_reported(tab, explored, sources_gone):
    tab.switches["original"].value = True
    assert "cannot be read" in tab.message.value
    name = explored.predictions["image_id"][3]
    assert tab.viewer.content.images["image"] == Subject(name).picture(explored)


def test_a_view_is_saved_or_the_reason_is_reported(tab, tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    name = tab.selection.explanation.name
    tab.save.click()
    tab.save.click()
    assert f"saved to {files.display_path(tmp_path / 'views' / f'{name}-2.png')} and {name}-2.json" in tab.message.value
    assert json.loads((tmp_path / f"views/{name}.json").read_text())["image"] == name
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / f"views/{name}.json"))  # a file, no folder
    tab.save.click()
    assert "could not be written" in tab.selection.status.value or "could not be written" in tab.message.value


def test_data_without_masks_have_no_lesions(explored, selection, monkeypatch):
    assert not ExplainTab(explored, selection, lambda _: None).switches["lesions"].disabled
    monkeypatch.setattr(Exploration, "has_masks", lambda *_: False)
    assert ExplainTab(explored, selection, lambda _: None).switches["lesions"].disabled


# -- a file of the user -----------------------------------------------------------------------------------------------


def test_a_file_is_explained_in_full(tab, explored, photographs):
    tab.path.value = str(photographs / "eye.png")
    tab.explain_file.click()
    x = explain(explored.loaded, photographs / "eye.png")
    assert plain(tab.headline.value).startswith("image eye.png")
    assert f"prediction {x.prediction:.2f}" in plain(tab.headline.value)
    assert "label" not in plain(tab.headline.value)
    assert [b["box"] for b in shown.pane(tab.viewer)["boxes"]] == [
        (x.boxes[js[0]] / 64).tolist() for js in x.reasons(3)
    ]
    detail = shown.decoded(tab.viewer.handle({"event": "detail", "key": "image"}))
    assert len(detail) > 512
    assert not tab.back.disabled


def test_the_warning_stays_while_the_image_is_displayed(tab, photographs):
    tab.explain_own(photographs / "eye.png")
    assert "No clear fundus outline" not in tab.warnings.value
    tab.explain_own(f' "{photographs / "scan.png"}" ')  # as people paste it
    for _ in range(2):
        assert "No clear fundus outline" in tab.warnings.value
        assert tab.warnings.value.count("Do not trust the prediction.") == 1
        tab.count.value = 5
        tab.show()  # as when the tab is opened again
        tab.find("nobody")
        assert "no image" in tab.message.value
    assert "scan.png" in tab.headline.value
    tab.back.click()
    assert (tab.message.value, tab.warnings.value) == ("", "")


def test_a_failing_file_keeps_the_displayed_image(tab, photographs):
    tab.explain_own(photographs / "eye.png")
    tab.switches["original"].value = True
    picture, headline = tab.viewer.content.images["image"], tab.headline.value
    for name, why in (
        ("black.png", "nearly black"),
        ("note.png", "cannot be decoded as an image"),
        ("nowhere.png", "nowhere.png"),
    ):
        tab.explain_own(photographs / name)
        assert why in tab.message.value
        tab.switches["original"].value = False
        tab.switches["original"].value = True
        assert (tab.viewer.content.images["image"], tab.headline.value) == (picture, headline)
        assert tab.message.value == ""


def test_an_uploaded_file_is_explained_under_its_name(tab, photographs):
    content = (photographs / "eye.png").read_bytes()
    tab.explain_own(photographs / "eye.png")
    prediction = tab.selection.explanation.prediction
    tab.back.click()
    upload = {"name": "left eye.png", "type": "image/png", "size": len(content), "content": memoryview(content)}
    tab.upload.value = (upload | {"last_modified": datetime.now(UTC)},)
    assert "left eye.png" in tab.headline.value
    assert tab.selection.explanation.prediction == prediction
    assert tab.upload.value == ()  # the same file can be given again
    (photographs / "note.png").rename(photographs / "text.png")
    bad = upload | {"name": "text.png", "content": memoryview(b"no picture"), "last_modified": datetime.now(UTC)}
    tab.upload.value = (bad,)
    assert "text.png" in tab.message.value
    assert str(tab.selection.uploads) not in tab.message.value


def test_names_are_escaped(explored):
    x = explored.explanation(0).named("<b>")
    assert "image <b>&lt;b&gt;</b>" in explain_tab.headline(explored, Subject("<b>"), x)
