"""The viewer: photographs with layers, zoomed and panned in step, with the texts and charts beside them.

`viewer.js` draws a `Scene` and reports what is clicked. Where anywidget is not available, `FixedViewer` shows the same
scene as fixed pictures.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w
import traitlets

from insightr_nb.explorer import fixed, pictures, widgets
from insightr_nb.explorer.scene import Scene

try:
    from anywidget import AnyWidget
except ImportError:  # the fixed pictures need ipywidgets alone
    AnyWidget = None

_FOLDER = Path(__file__).parent
Handler = Callable[[dict[str, Any]], Any]


class Viewer:
    """What both viewers share: the scene, what is seen of it, and the handlers of its events."""

    def __init__(self, status: widgets.Status, **handlers: Handler) -> None:
        """Create a viewer.

        Args:
            status: Where problems are shown.
            **handlers: Called with the event of that name: "go" (to), "step" (by), "at" (x, y), "detail" (key; returns
                a JPEG).
        """
        super().__init__()
        self.status, self.handlers = status, handlers
        self.content = Scene("")
        self.view: dict[str, Any] = {}  # zoom, chosen and centres as they are seen

    def handle(self, event: dict[str, Any]) -> Any:
        """Pass an event to its handler."""
        handler = self.handlers.get(event["event"])
        return handler(event) if handler else None


if AnyWidget is not None:

    class ZoomViewer(Viewer, AnyWidget):
        """The viewer in a browser."""

        _esm = _FOLDER / "viewer.js"
        _css = _FOLDER / "viewer.css"
        scene = traitlets.Dict().tag(sync=True)
        images = traitlets.Dict().tag(sync=True)
        shown = traitlets.List().tag(sync=True)
        opacity = traitlets.Float(0.6).tag(sync=True)

        def __init__(self, status: widgets.Status, **handlers: Handler) -> None:
            super().__init__(status, **handlers)
            self._count = itertools.count(1)
            self.on_msg(self._received)

        def show(self, scene: Scene) -> None:
            """Show a scene; zoom and chosen match are kept if its id is that of the scene before."""
            if scene.id != self.content.id:
                self.view = {}
            self.content = scene
            with self.hold_sync():  # the number makes it another scene where only its pictures are new
                self.images = scene.images
                about = {"id": scene.id, "look": scene.look, "number": next(self._count)}
                self.scene = about | {"blocks": scene.blocks}

        def layers(self, shown: Sequence[str], opacity: float) -> None:
            """Set the names of the layers that are shown, and the opacity of the maps."""
            self.shown, self.opacity = list(shown), opacity

        def _received(self, _widget: w.Widget, event: dict[str, Any], _buffers: list) -> None:
            try:
                self.status.guard(self._act)(event)
            finally:
                self.send({"done": True})

        def _act(self, event: dict[str, Any]) -> None:
            if event["event"] == "view":
                if event["scene"] == self.content.id:  # else it is of a scene that is no longer shown
                    self.view = event["view"]
            elif event["event"] == "detail":
                self._detail(event)
            else:
                self.handle(event)

        def _detail(self, event: dict[str, Any]) -> None:
            """Send a picture at the resolution of its source, or none if there is a problem with it."""
            answer = []
            try:
                answer.append(self.handle(event))
            finally:
                self.send({"detail": event["key"], "look": self.content.look}, buffers=answer)


class FixedViewer(Viewer, w.VBox):
    """The scene as fixed pictures, without anywidget: no zoom, no links."""

    def __init__(self, status: widgets.Status, **handlers: Handler) -> None:
        super().__init__(status, **handlers)
        self.add_class("insightr-viewer-fixed")
        self.shown, self.opacity = ["boxes"], 0.6

    def show(self, scene: Scene) -> None:
        """Show a scene."""
        self.content = scene
        self.children = [self._block(block) for block in scene.blocks]

    def layers(self, shown: Sequence[str], opacity: float) -> None:
        """Set the names of the layers that are shown, and the opacity of the maps."""
        if (list(shown), opacity) != (self.shown, self.opacity):
            self.shown, self.opacity = list(shown), opacity
            self.show(self.content)

    def _block(self, block: dict[str, Any]) -> w.Widget:
        wrap = w.Layout(flex_flow="row wrap")
        children: list[w.Widget] = [widgets.text(block["title"])] if block.get("title") else []
        if "blocks" in block:
            children.append(w.HBox([self._block(inner) for inner in block["blocks"]], layout=wrap))
        children += [self._picture(content, 400) for content in block.get("panes", [])]
        for pair in block.get("pairs", []):
            panes = w.HBox([self._picture(content, 200) for content in pair["panes"]])
            children.append(w.HBox([panes, widgets.text(pair["caption"])], layout=wrap))
        thumbs = [
            w.VBox([w.Image(value=self.content.images[t["image"]], width=80), widgets.text(t["caption"])])
            for t in block.get("thumbs", [])
        ]
        children += [w.HBox(thumbs, layout=wrap)] if thumbs else []
        children += [widgets.text(block["html"])] if block.get("html") else []
        return w.VBox(children)

    def _picture(self, content: dict[str, Any], side: int) -> w.Image:
        drawn = fixed.pane(self.content, content, self.shown, self.opacity, side)
        return w.Image(value=pictures.encode(drawn), format="jpeg", width=side)


def viewer(status: widgets.Status, **handlers: Handler) -> "ZoomViewer | FixedViewer":
    """Create the viewer that this environment can show. Arguments as for the viewers."""
    return FixedViewer(status, **handlers) if AnyWidget is None else ZoomViewer(status, **handlers)
