"""The viewer's events and what it sends; without anywidget, the same scene as fixed pictures."""

import os
import subprocess
import sys

import ipywidgets
import numpy as np
import pytest
from explorer import shown
from places import ROOT

from insightr_nb.errors import DataError
from insightr_nb.explorer import fixed, pictures, viewer
from insightr_nb.explorer.scene import Scene
from insightr_nb.explorer.widgets import Status

GREY = np.full((64, 64, 3), 90, np.uint8)


def scene(name: str = "a") -> Scene:
    """A photograph, a pair, thumbnails and a text."""
    made = Scene(name)
    box = {"box": [0.25, 0.25, 0.75, 0.5], "number": "1", "colour": "#ff0000", "reason": None}
    pane = {
        "image": made.picture("image", pictures.encode(GREY)),
        "alt": "",
        "boxes": [box],
        "reasons": [{"layers": {"trace": made.picture("trace", pictures.heat_png(np.ones((8, 8))))}}],
    }
    thumb = {"image": "image", "caption": "small"}
    made.blocks = [
        {"kind": "column", "title": "left", "blocks": [{"kind": "photograph", "panes": [pane]}]},
        {"kind": "pairs", "title": "matches", "pairs": [{"panes": [pane, pane], "caption": "how alike"}]},
        {"kind": "thumbs", "thumbs": [thumb, thumb]},
        {"kind": "text", "html": "<b>words</b>"},
    ]
    return made


@pytest.fixture
def sent(monkeypatch):
    """A viewer, the events that its handlers get, and what it sends."""
    events, messages = [], []

    def detail(event: dict) -> bytes:
        if event["key"] == "gone":
            raise DataError("source: cannot be read")
        return b"large"

    handlers = dict.fromkeys(("go", "step", "at"), events.append)
    made = viewer.viewer(Status(), **handlers, detail=detail)
    monkeypatch.setattr(made, "send", lambda content, buffers=None: messages.append((content, buffers)))
    return made, events, messages


def test_a_scene_and_its_layers_go_to_the_browser(sent):
    made, _, _ = sent
    made.layers(("trace", "boxes"), 0.3)
    made.show(content := scene())
    assert isinstance(made, viewer.ZoomViewer)
    assert (made.shown, made.opacity) == (["trace", "boxes"], 0.3)
    assert made.images == content.images
    assert made.scene == {"id": "a", "look": "a:False", "number": 1, "blocks": content.blocks}
    made.show(scene())
    assert made.scene["number"] == 2  # where only pictures are new, the browser draws them, too
    state = made.get_state()
    assert {"scene", "images", "shown", "opacity"} <= state.keys()


def test_events_reach_their_handlers_and_are_answered(sent):
    made, events, messages = sent
    for event in ({"event": "go", "to": "image:3"}, {"event": "step", "by": -1}, {"event": "at", "x": 0.1, "y": 0.2}):
        made._received(made, event, [])
        assert events.pop() == event
        assert messages.pop() == ({"done": True}, None)
    assert made.handle({"event": "unknown"}) is None


def test_a_picture_in_detail_is_sent_with_the_scene_it_belongs_to(sent):
    made, _, messages = sent
    made.show(scene("b"))
    made._received(made, {"event": "detail", "key": "image"}, [])
    assert messages == [({"detail": "image", "look": "b:False"}, [b"large"]), ({"done": True}, None)]


def test_where_there_is_no_detail_the_picture_stays_and_the_next_is_asked_for(sent):
    made, _, messages = sent
    made.show(scene("b"))
    made._received(made, {"event": "detail", "key": "gone"}, [])
    assert messages == [({"detail": "gone", "look": "b:False"}, []), ({"done": True}, None)]
    assert "source: cannot be read" in made.status.value


def test_the_viewer_is_not_left_busy_by_an_error(sent):
    made, _, messages = sent
    made.handlers["go"] = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        made._received(made, {"event": "go", "to": "x"}, [])
    assert messages == [({"done": True}, None)]
    assert "ZeroDivisionError" in made.status.value


def test_the_zoom_is_that_of_the_scene_that_is_seen(sent):
    """The browser shows another subject whole again, without an event."""
    made, _, _ = sent
    made.show(scene("a"))
    view = {"zoom": 2.0, "chosen": 1, "offset": [0.2, 0.3]}
    made._received(made, {"event": "view", "scene": "a", "view": view}, [])
    made.show(scene("a"))
    assert made.view == view
    made.show(scene("b"))
    assert made.view == {}
    made._received(made, {"event": "view", "scene": "a", "view": view}, [])  # it comes late
    assert made.view == {}


def test_without_anywidget_the_explorer_is_imported_and_opened(copied, tmp_path):
    """As where it is not installed."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without/anywidget.py").write_text("raise ImportError")
    code = (
        "from insightr_nb.explorer.app import Explorer\n"
        "app = Explorer()\n"
        "for n in range(5): app.tabs.selected_index = n\n"
        "assert app.status.value == '', app.status.value\n"
        "print(*(len(tab.viewer.children) for tab in app.tabs.children))"
    )
    paths = os.pathsep.join([str(tmp_path / "without"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [int(n) for n in done.stdout.split()] == [3, 4, 3, 4, 2]  # blocks of each tab


def test_without_anywidget_the_scene_is_drawn(monkeypatch):
    monkeypatch.setattr(viewer, "AnyWidget", None)
    made = viewer.viewer(Status())
    assert isinstance(made, viewer.FixedViewer)
    made.layers(("trace", "boxes"), 1.0)
    made.show(content := scene())

    def of(kind, widget=made):
        children = getattr(widget, "children", ())
        return [*([widget] if isinstance(widget, kind) else []), *(w for c in children for w in of(kind, c))]

    images = of(ipywidgets.Image)
    assert [image.width for image in images] == ["400", "200", "200", "80", "80"]
    assert [w.value for w in of(ipywidgets.HTML)] == ["left", "matches", "how alike", "small", "small", "<b>words</b>"]
    pane = content.blocks[0]["blocks"][0]["panes"][0]
    assert images[0].value == pictures.encode(fixed.pane(content, pane, ["trace", "boxes"], 1.0, 400))
    made.layers((), 1.0)
    assert np.abs(shown.decoded(of(ipywidgets.Image)[0].value).astype(int) - 90).max() < 3
