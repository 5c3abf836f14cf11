"""Tab 2 of the explorer: a prototype, the photograph it is a patch of, its nearest patches, and its usage."""

from collections.abc import Callable
from html import escape

import ipywidgets as w
import numpy as np

from insightr_nb.explorer import pictures, widgets
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.scene import Scene, link, prototype_pane
from insightr_nb.explorer.subject import Selection, Subject
from insightr_nb.explorer.viewer import viewer

_SIDE = 200  # pixels of the nearest patches


class BrowseTab(w.VBox):
    """Tab 2: a prototype, its source, the nearest patches of the test set, and its usage."""

    def __init__(self, e: Exploration, selection: Selection, go: Callable[[str], None]) -> None:
        """Build the tab; `go` opens what a link names."""
        self.e, self.selection = e, selection
        self.slider = widgets.choice(len(e.labels), "prototype")
        legend = widgets.small("prototypes in the order of their labels")
        self.headline = widgets.text("")
        self.headline.add_class("insightr-prototype")
        self.message = widgets.text("")
        self.viewer = viewer(
            selection.status,
            go=lambda event: go(event["to"]),
            step=lambda event: self.step(event["by"]),
            detail=lambda event: self._detail(),
        )
        super().__init__([widgets.wrapped(self.slider, legend), self.message, self.headline, self.viewer])
        self.slider.observe(selection.status.guard(lambda _: self.show()), "value")

    @property
    def chosen(self) -> int:
        """Number of the prototype."""
        return int(self.e.prototypes["prototype"].iloc[self.slider.value])

    def choose(self, prototype: int) -> None:
        """Select a prototype by its number, and show it."""
        row = int(np.flatnonzero(self.e.prototypes["prototype"] == prototype)[0])
        if self.slider.value == row:
            self.show()
        self.slider.value = row

    def step(self, by: int) -> None:
        """Go to the prototype with the next lower (-1) or higher (1) label."""
        self.slider.value = min(max(self.slider.value + by, 0), self.slider.max)

    def show(self) -> None:
        """Update the tab for the selected prototype."""
        e, j, store = self.e, self.chosen, self.e.loaded.store
        p = e.loaded.prototypes.iloc[j]
        scene = Scene(f"{e.loaded.path}:prototype:{j}", self.selection.view.original)
        pane = prototype_pane(scene, e, j, self.selection.view)
        scene.blocks = [
            {"kind": "photograph", "panes": [pane], "title": "the training photograph that it is a patch of"},
            {
                "kind": "thumbs",
                "thumbs": self._nearest(scene, j),
                "style": _THUMBS,
                "title": _NEAR,
            },
            {"kind": "chart", "html": pictures.shares_chart(e.usage(j)), "title": _USED},
        ]
        twins = [k for group in e.loaded.twins if j in group for k in group if k != j]
        source = str(p["image_id"])
        known = [
            f"prototype <b>{j}</b>, label <b>{p['label']:.2f}</b>",
            f"from <b>{escape(source)}</b> (label {store.table['label'][store.row(source)]:g}), row {p['row']}, "
            f"column {p['col']}",
            f"importance r {e.loaded.importance[j]:.2f}",
        ]
        if twins:
            known.append(f"<b>twin</b> of {' and '.join(str(k) for k in twins)}: the same patch")
        self.headline.value = widgets.line(widgets.DOT.join(known))
        links = [link("its photograph explained", f"image:{source}"), link("switch it off in What if", f"edit:{j}")]
        links += [link(f"twin {k}", f"prototype:{k}") for k in twins]
        scene.blocks.insert(0, {"kind": "text", "style": "flex: 1 1 100%", "html": widgets.DOT.join(links)})
        self.message.value = widgets.message("\n".join(scene.problems))
        self.viewer.layers(self.selection.view.layers, self.selection.opacity)
        self.viewer.show(scene)

    def _nearest(self, scene: Scene, j: int) -> list[dict]:
        run, reach, thumbs = self.e.loaded, int(1.5 * self.e.loaded.display_grid.stride), []
        for n, near in enumerate(self.e.nearest_patches(j).itertuples()):
            patch = pictures.patch(run.display_image(near.image_id), run.display_box(near.box), reach, _SIDE)
            caption = f"{escape(near.image_id)}<br>label {near.target:g}, squared distance {near.distance:.3f}"
            thumbs.append(
                {
                    "image": scene.picture(f"near:{n}", pictures.encode(patch)),
                    "alt": f"patch of {near.image_id}",
                    "caption": caption,
                    "go": f"image:{near.image_id}",
                }
            )
        return thumbs

    def _detail(self) -> bytes:
        source = str(self.e.loaded.prototypes["image_id"].iloc[self.chosen])
        return Subject.of(self.e, source).picture(self.e, self.viewer.content.original, detail=True)


_THUMBS = "grid-template-columns: repeat(3, 1fr); max-width: 640px"
_NEAR = "nine nearest patches of the test set, each the middle of its picture; a click explains its photograph"
_USED = "share of the test images, by label, in which it is among the five largest contributions"
