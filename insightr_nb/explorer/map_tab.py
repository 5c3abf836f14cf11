"""Tab 5 of the explorer: the latent space in two dimensions."""

from collections.abc import Callable
from functools import cached_property
from html import escape

import ipywidgets as w
import numpy as np

from insightr_nb.analysis.latent import LatentMap
from insightr_nb.explorer import pictures, widgets
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.scene import Scene, link
from insightr_nb.explorer.subject import Selection
from insightr_nb.explorer.viewer import viewer

_SIDE = 900  # pixels of the map
_LEGEND = (
    "Principal components. Stars: of every test image the five patches nearest to a prototype, by the image's label. "
    "Circles: prototypes, by their label. Blue is low, red is high. Diamonds: the explained image. A click on a circle "
    "or a star chooses it."
)


class MapTab(w.VBox):
    """Tab 5: prototypes among the patches of the test set; a click chooses a prototype or a patch."""

    def __init__(self, e: Exploration, selection: Selection, go: Callable[[str], None]) -> None:
        """Build the tab; `go` opens what a link names."""
        self.e, self.selection = e, selection
        self.patch: int | None = None  # chosen patch; None: the prototype of the slider
        self.slider = widgets.choice(len(e.labels), "prototype")
        self.look = widgets.button("browse it", icon="search")
        guard = selection.status.guard
        self.viewer = viewer(
            selection.status,
            go=lambda event: go(event["to"]),
            step=lambda event: self._step(event["by"]),
            at=lambda event: self.click(event["x"], event["y"]),
        )
        super().__init__([widgets.wrapped(self.slider, self.look), self.viewer])
        self.slider.observe(guard(lambda _: self._choose()), "value")
        self.look.on_click(guard(lambda _: go(f"prototype:{self.chosen}")))

    @property
    def chosen(self) -> int:
        """Number of the chosen prototype."""
        return int(self.e.prototypes["prototype"].iloc[self.slider.value])

    @cached_property
    def map(self) -> LatentMap:
        return LatentMap.of(self.e.loaded)

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the prototypes, (m, 2), and of the patches, (N * 5, 2), in the picture."""
        return pictures.places(self.map.prototypes, self.map.patches, _SIDE)

    def _step(self, by: int) -> None:
        self.slider.value = min(max(self.slider.value + by, 0), self.slider.max)

    def _choose(self) -> None:
        self.patch = None
        self.show()

    def click(self, x: float, y: float) -> None:
        """Choose the prototype or the patch nearest to a point, in shares of the picture's side."""
        point = np.array([x, y]) * _SIDE
        circles, stars = (((place - point) ** 2).sum(1) for place in self.places)
        if circles.min() < 12**2:  # a circle lies above the stars
            row = np.flatnonzero(self.e.prototypes["prototype"] == int(circles.argmin()))[0]
            self.patch, moved = None, self.slider.value != row
            self.slider.value = int(row)
            if not moved:
                self.show()
        elif stars.min() < 20**2:
            self.patch = int(stars.argmin())
            self.show()

    def show(self) -> None:
        """Update the map for the chosen prototype or patch and the explained image."""
        e, m = self.e, self.map
        each = len(m.patches) // len(e.predictions)
        name = self.selection.explanation.name if self.selection.subject.path is None else ""
        n = e.index(name)
        own = np.arange(each) + n * each if n is not None else np.array([], int)
        circles, stars = self.places
        ring = circles[self.chosen] if self.patch is None else stars[self.patch]
        low, high = e.labels.min(), e.labels.max()
        picture = pictures.scatter(circles, e.labels, stars, m.targets, low, high, ring, stars[own], _SIDE)
        scene = Scene(f"{e.loaded.path}:map")
        pane = {
            "image": scene.picture("map", pictures.encode(picture)),
            "alt": "map of the latent space: prototypes among patches of the test set",
            "name": "insightr-map",
            "at": True,
            "reasons": [{"anchor": (ring / _SIDE).tolist()}],
        }
        scene.blocks = [
            {"kind": "photograph", "style": "flex: 1 1 480px; max-width: 900px", "panes": [pane]},
            {"kind": "text", "html": f"{self._about()}<p>{_LEGEND}</p>"},
        ]
        self.viewer.layers((), 0.6)
        self.viewer.show(scene)

    def _about(self) -> str:
        e, plane = self.e, f"the plane holds {self.map.variance.sum():.0%} of the variance"
        if self.patch is None:
            j = self.chosen
            return f"<div>prototype <b>{j}</b>, label <b>{e.labels[j]:.2f}</b> (ring)</div><p>{plane}</p>"
        row = e.predictions.iloc[self.patch // (len(self.map.patches) // len(e.predictions))]
        known = f"patch of <b>{escape(row['image_id'])}</b>, label <b>{row['target']:g}</b> (ring)"
        to = link("explain it", f"image:{row['image_id']}")
        return f"<div>{known}{widgets.DOT}{to}</div><p>{plane}</p>"
