"""What a viewer shows: blocks of pictures, texts and charts as nested dictionaries, and their pictures by key.

Coordinates are shares of a picture's side, from 0 to 1. `viewer.js` draws the blocks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from matplotlib.colors import Normalize

from insightr_nb.analysis.explanation import Explanation
from insightr_nb.analysis.explanation_figures import heat_scale
from insightr_nb.errors import DataError
from insightr_nb.explorer import pictures
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.pictures import COLOURS
from insightr_nb.explorer.subject import Subject, View

_MAP_SIDE = 160  # pixels of the maps, which are enlarged smoothly
_SAME = 1e-9  # squared distance below which a patch is the prototype itself


@dataclass
class Scene:
    """What a viewer shows.

    Attributes:
        id: A new one is a new subject: zoom and choice begin anew.
        original: Whether photographs have their original colours.
        blocks: As `viewer.js` draws them.
        images: JPEG and PNG pictures by the keys that the blocks use.
        problems: What could not be shown, and why.
    """

    id: str
    original: bool = False
    blocks: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def look(self) -> str:
        """What pictures at the resolution of the source stay good for."""
        return f"{self.id}:{self.original}"

    def picture(self, key: str, content: bytes) -> str:
        """Keep a picture under a key, and return the key."""
        self.images[key] = content
        return key

    def photograph(self, key: str, e: Exploration, subject: Subject) -> str:
        """Keep the photograph of a subject under a key, normalised where it has no original colours any more."""
        try:
            return self.picture(key, subject.picture(e, self.original))
        except DataError as error:
            if not self.original:
                raise
            self.problems.append(str(error))
            return self.picture(key, subject.picture(e))

    def outlines(self, e: Exploration, subject: Subject, view: View) -> list[str]:
        """Outlines of the lesions of a subject, if they are shown."""
        if "lesions" in view.layers:
            try:
                return subject.outlines(e, view.masks)
            except DataError as error:
                self.problems.append(str(error))
        return []


def link(text: str, to: str) -> str:
    """HTML of a link within the explorer; `to` is for example "prototype:12" or "image:0042"."""
    return f'<button class="link" data-go="{escape(to)}">{escape(text)}</button>'


def number(place: int) -> str:
    """HTML of the number of a match, in its colour."""
    return f'<span class="iv-number" style="background:{COLOURS[place]}">{place + 1}</span>'


def share(box: Iterable[float], size: int) -> list[float]:
    """Convert a box or a point in pixels of a picture of `size` pixels a side to shares of the side."""
    return [round(float(v) / size, 5) for v in box]


def photograph_block(
    scene: Scene, e: Exploration, subject: Subject, x: Explanation, view: View, prefix: str = ""
) -> dict[str, Any]:
    """Block of the explained photograph with all matches.

    Args:
        scene: The scene, to which its pictures are added.
        e: The run.
        subject: The image.
        x: Its explanation by the run.
        view: What to show.
        prefix: Prefix of the keys of the pictures, where a scene has several explanations.
    """
    reasons, size = x.reasons(view.count), e.loaded.grid.size
    boxes = [
        {"box": share(x.boxes[js[0]], size), "number": str(n + 1), "colour": COLOURS[n], "reason": n}
        for n, js in enumerate(reasons)
    ]
    maps = _own_maps(scene, e, x, [js[0] for js in reasons], view, prefix)
    pane = {
        "name": "insightr-picture",
        "image": scene.photograph(f"{prefix}image", e, subject),
        "alt": f"{'original' if view.original else 'normalised'} photograph {x.name}",
        "detail": f"{prefix}image",
        "outlines": scene.outlines(e, subject, view),
        "boxes": boxes,
        "reasons": [
            {"layers": layers, "field": _field(e, x.cells[js[0]]), "anchor": _middle(box["box"])}
            for js, layers, box in zip(reasons, maps, boxes, strict=True)
        ],
    }
    return {"kind": "photograph", "panes": [pane]}


def explained(
    scene: Scene, e: Exploration, subject: Subject, x: Explanation, view: View, prefix: str = ""
) -> list[dict[str, Any]]:
    """Blocks of an explanation: the photograph with all matches, and each match beside its prototype.

    Arguments as for `photograph_block`.
    """
    block = photograph_block(scene, e, subject, x, view, prefix)
    [whole] = block["panes"]
    pairs = []
    reasons = x.reasons(view.count)
    for n, js in enumerate(reasons):
        own = {"name": "insightr-match", "reasons": [whole["reasons"][n]]}
        match = whole | own | {"boxes": [whole["boxes"][n] | {"reason": None}]}
        prototype = prototype_pane(scene, e, js[0], view, prefix, n, _scale(e, x, [js[0] for js in reasons]))
        pairs.append({"panes": [match, prototype], "caption": _caption(e, x, js, n, prefix)})
    carried, others = sum(x.shares[list(js)].sum() for js in reasons), len(x.weights) - sum(map(len, reasons))
    legend = (
        "Each match in the photograph, and its prototype in the training photograph that it is a patch of. "
        f"These {len(reasons)} carry {carried:.0%} of the weight, the other {others} prototypes the rest. Box: the "
        "matched cell. Glow: what it depends on, which may lie outside the box."
    )
    return [block, {"kind": "pairs", "pairs": pairs, "title": legend}]


def prototype_pane(
    scene: Scene,
    e: Exploration,
    j: int,
    view: View,
    prefix: str = "",
    place: int | None = None,
    scale: Normalize | None = None,
) -> dict[str, Any]:
    """Pane of a prototype in the training photograph that it is a patch of.

    Args:
        scene: The scene, to which its pictures are added.
        e: The run.
        j: Number of the prototype.
        view: What to show.
        prefix: Prefix of the keys of the pictures.
        place: Place of its match, which gives number and colour; None for a prototype by itself.
        scale: Scale of the similarities, by default its own.
    """
    p, size = e.loaded.prototypes.iloc[j], e.loaded.grid.size
    source = Subject.of(e, str(p["image_id"]))
    key = scene.photograph(f"{prefix}source:{source.name}", e, source)
    box, layers = share(p[["x0", "y0", "x1", "y1"]], size), {}
    if "cells" in view.layers:
        similar = e.loaded.similarity(e.loaded.prototype_maps[j])
        layers["cells"] = scene.picture(f"{prefix}cells:of:{j}", _heat(e, similar, scale or heat_scale(similar)))
    if "trace" in view.layers:
        layers["trace"] = scene.picture(f"{prefix}trace:of:{j}", pictures.trace_png(e.source_trace(j)))
    badge = "" if place is None else str(place + 1)
    return {
        "name": "insightr-source",
        "image": key,
        "alt": f"training photograph {source.name}, with prototype {j}",
        "detail": key,
        "outlines": scene.outlines(e, source, view),
        "boxes": [{"box": box, "number": badge, "colour": COLOURS[place or 0], "reason": None}],
        "reasons": [{"layers": layers, "field": _field(e, p[["row", "col"]].to_numpy(int)), "anchor": _middle(box)}],
    }


def marked(reasons: Sequence[Sequence[int]]) -> dict[int, int]:
    """Place of each prototype among the reasons, for the chart of the contributions."""
    return {j: n for n, js in enumerate(reasons) for j in js}


def _own_maps(
    scene: Scene, e: Exploration, x: Explanation, first: Sequence[int], view: View, prefix: str
) -> list[dict[str, str]]:
    """Keys of the maps of each match on the image, by layer."""
    maps: list[dict[str, str]] = [{} for _ in first]
    if "cells" in view.layers:
        scale = _scale(e, x, first)
        for n, values in enumerate(e.loaded.similarity(x.maps[first])):  # (k, H, W)
            maps[n]["cells"] = scene.picture(f"{prefix}cells:{n}", _heat(e, values, scale))
    if "trace" in view.layers:
        for n, (j, values) in enumerate(zip(first, e.traces(x.image, first), strict=True)):
            if x.min_distances[j] < _SAME:  # there the similarity has no gradient
                values = e.source_trace(j)
            maps[n]["trace"] = scene.picture(f"{prefix}trace:{n}", pictures.trace_png(values))
    return maps


def _scale(e: Exploration, x: Explanation, first: Sequence[int]) -> Normalize:
    """One scale for the cells of all matches, on the image and on the prototypes' photographs."""
    return heat_scale(e.loaded.similarity(x.maps[first]))


def _heat(e: Exploration, similar: np.ndarray, scale: Normalize) -> bytes:
    return pictures.heat_png(e.loaded.grid.scaled(_MAP_SIDE).upsample(np.clip(scale(similar), 0, 1)))


def _caption(e: Exploration, x: Explanation, js: Sequence[int], place: int, prefix: str) -> str:
    j, weights = js[0], x.weights[list(js)].astype(float)
    label = float(weights @ x.prototype_labels[list(js)] / weights.sum())
    names = " and ".join(link(str(k), f"{prefix}prototype:{k}") for k in js)
    twins = "" if len(js) == 1 else "<br>twins: prototypes of one patch, joined"
    source = str(x.prototype_sources["image_id"].iloc[j])
    grade = e.loaded.store.table["label"][e.loaded.store.row(source)]
    return (
        f"{number(place)} prototype{'s' * (len(js) > 1)} {names}, label <b>{label:.2f}</b>, "
        f"contribution <b>{100 * x.shares[list(js)].sum():.1f}&nbsp;%</b>{twins}<br>"
        f"similarity {_short(x.similarities[j])}, squared distance {x.min_distances[j]:.3g}<br>"
        f"from {link(source, f'{prefix}image:{source}')}, a photograph of label {grade:g}"
    )


def _short(value: float) -> str:
    """Three digits, without an exponent for large values."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _field(e: Exploration, cell: np.ndarray) -> list[float]:
    """Receptive field x0, y0, x1, y1 of a cell (row, column), clipped to the picture."""
    grid = e.loaded.grid
    row, col = grid.centre(cell) + 0.5  # the centre of pixel i is i + 0.5 of its edges
    half = grid.receptive_field / 2
    return share(np.clip([col - half, row - half, col + half, row + half], 0, grid.size), grid.size)


def _middle(box: Sequence[float]) -> list[float]:
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
