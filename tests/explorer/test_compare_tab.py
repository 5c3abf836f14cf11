"""Tab 3 of the explorer: two images or two runs, with the numbers of both and of their difference."""

import cv2
import numpy as np
import pytest
from explorer import shown

from insightr_nb.analysis.explanation import explain
from insightr_nb.explorer.compare_tab import CompareTab
from insightr_nb.explorer.fixed import plain
from insightr_nb.explorer.subject import Subject, View


@pytest.fixture
def runs(explored, smoke) -> dict:
    return {str(e.loaded.path.resolve()): e for e in (explored, smoke)}


@pytest.fixture
def tab(explored, runs, selection, went) -> CompareTab:
    listed = [(path, path) for path in runs]
    made = CompareTab(listed[0][0], listed, selection, runs.__getitem__, went.append, went.append)
    made.sides[1].run.value = listed[1][0]
    made.show()
    return made


def titles(tab) -> list[str]:
    return [plain(block["title"]) for block in shown.blocks(tab.viewer, "column")]


def test_one_image_by_two_runs(tab, explored, smoke):
    name = explored.predictions["image_id"][5]
    for e, title in zip((explored, smoke), titles(tab), strict=True):
        row = e.predictions.iloc[5]
        assert f"insightr/fold0 \xa0·\xa0 image {name} \xa0·\xa0 prediction {row['prediction']:.2f}" in title
        assert f"label {row['target']:g}" in title
    a, b = (explain(e.loaded, name) for e in (explored, smoke))
    sources = [{x.prototype_sources["image_id"][js[0]] for js in x.reasons(5)} for x in (a, b)]
    shared = len(sources[0] & sources[1])
    assert shown.text(tab.viewer) == (
        f"The predictions differ by {abs(round(a.prediction, 2) - round(b.prediction, 2)):.2f}. "
        "Their five largest contributions share "
        f"{shared} training photograph{'s' * (shared != 1)}."
    )


def test_two_images_by_one_run(tab, explored):
    left, right = tab.sides
    right.run.value = left.run.value
    assert shown.text(tab.viewer).startswith("Both sides show the same image and run")
    right.image.value = explored.predictions["image_id"][8]
    a, b = (explain(explored.loaded, explored.predictions["image_id"][n]) for n in (5, 8))
    shared = sorted(set(a.reasons(5)) & set(b.reasons(5)))
    names = ", ".join(" = ".join(map(str, js)) for js in shared)
    assert shown.text(tab.viewer) == (
        f"The predictions differ by {abs(round(a.prediction, 2) - round(b.prediction, 2)):.2f}. "
        "Their five largest contributions share "
        f"{len(shared)} prototypes: {names}."
    )
    charts = shown.blocks(tab.viewer, "chart")
    for x, chart in zip((a, b), charts, strict=True):
        tallest = max(shown.bars(chart["html"]).items(), key=lambda bar: float(bar[1].get("height")))[0]
        assert tallest == x.top(1)[0]
    panes = [block["panes"][0] for block in shown.blocks(tab.viewer, "photograph")]
    for n, prefix, pane in zip((5, 8), ("a:", "b:"), panes, strict=True):
        subject = Subject(explored.predictions["image_id"][n])
        assert pane["image"] == f"{prefix}image"
        assert tab.viewer.content.images[pane["image"]] == subject.picture(explored)
        assert tab.viewer.handle({"event": "detail", "key": pane["detail"]}) == subject.picture(explored, detail=True)
    source = next(key for key in tab.viewer.content.images if key.startswith("b:source:"))
    expect = Subject(source.removeprefix("b:source:")).picture(explored, detail=True)
    assert tab.viewer.handle({"event": "detail", "key": source}) == expect


def test_sides_are_exchanged_in_one_step(tab, monkeypatch):
    left, right = tab.sides
    left.image.value = tab.selection.subject.name
    before = left.run.value, right.run.value
    first, second = titles(tab)
    drawn = []
    monkeypatch.setattr(tab.viewer, "show", lambda scene, show=tab.viewer.show: drawn.append(scene) or show(scene))
    tab.swap.click()
    assert (right.run.value, left.run.value) == before
    assert (left.image.value, right.image.value) == ("", tab.selection.subject.name)
    assert titles(tab) == [second, first]
    assert len(drawn) == 1


def test_links_stay_on_their_side_or_open_a_prototype_of_the_open_run(tab, explored, went):
    name = explored.loaded.prototypes["image_id"][4]
    tab.viewer.handle({"event": "go", "to": f"b:image:{name}"})
    left, right = titles(tab)
    assert f"image {name}" in right
    assert f"image {tab.selection.subject.name}" in left
    tab.viewer.handle({"event": "go", "to": "a:prototype:4"})
    assert went == ["prototype:4"]
    tab.viewer.handle({"event": "go", "to": "b:prototype:3"})
    assert went == ["prototype:4"]
    assert "prototype 3 is one of another run" in tab.selection.status.value
    tab.viewer.handle({"event": "step", "by": 1})
    assert went == ["prototype:4", 1]


def test_what_cannot_be_explained_is_reported_and_the_other_side_stays(tab):
    left, _ = titles(tab)
    tab.sides[1].image.value = "nobody"
    assert "right: image &#x27;nobody&#x27;" in tab.message.value
    assert titles(tab) == [left]
    assert shown.text(tab.viewer) == ""
    tab.sides[1].image.value = ""
    assert tab.message.value == ""


def test_a_missing_source_is_reported_and_the_normalised_pictures_are_shown(tab, explored, sources_gone):
    tab.selection.view = View(layers=(), original=True)
    tab.show()
    assert "eye.png: cannot be read" in tab.message.value
    assert len(titles(tab)) == 2
    assert tab.viewer.content.images["b:image"] == tab.selection.subject.picture(explored)


def test_warnings_of_each_side_are_shown(tab, tmp_path):
    scan = np.zeros((200, 300, 3), np.uint8)
    scan[60:120, 20:280] = 180
    cv2.imwrite(str(tmp_path / "scan.png"), scan)
    tab.selection.subject = Subject("scan.png", tmp_path / "scan.png")
    tab.show()
    for side in ("left", "right"):
        assert f"{side}: No clear fundus outline" in tab.warnings.value or f"{side}: This" in tab.warnings.value
    assert all("image scan.png" in title for title in titles(tab))


def test_a_run_that_is_saved_meanwhile_can_be_chosen(tab, runs, smoke):
    before = [side.run.value for side in tab.sides]
    drawn = tab.viewer.content
    tab.list_runs([*((path, path) for path in runs), ("new", "new")])
    assert [side.run.value for side in tab.sides] == before
    assert all("new" in dict(side.run.options) for side in tab.sides)
    assert tab.viewer.content is drawn
