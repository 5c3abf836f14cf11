"""A scene drawn as fixed pictures: where anywidget is not available, and for saving what is seen."""

import re
from collections.abc import Sequence
from html import unescape
from typing import Any

import cv2
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from insightr_nb.analysis.explanation import DISCLAIMER, Explanation
from insightr_nb.analysis.explanation_figures import contributions
from insightr_nb.data.graham import GROUND
from insightr_nb.explorer.scene import Scene


def pane(
    scene: Scene,
    content: dict[str, Any],
    shown: Sequence[str],
    opacity: float,
    side: int,
    zoom: float = 1.0,
    centre: Sequence[float] = (0.5, 0.5),
    chosen: int = 0,
) -> np.ndarray:
    """Draw a pane as `viewer.js` does.

    Args:
        scene: The scene with the pictures.
        content: The pane.
        shown: Names of the layers to draw.
        opacity: Opacity of the maps.
        side: Side of the result in pixels.
        zoom: Enlargement.
        centre: Point of the picture in the middle of the result, as shares of the picture's side.
        chosen: Number of the match whose maps are drawn, if the pane has several.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    reason = _reason(content, chosen)

    def place(points: Any) -> np.ndarray:
        return ((np.asarray(points, float) - centre) * zoom + 0.5) * side

    drawn = _warped(scene.images[content["image"]], zoom, centre, side)[..., :3].astype(float)
    for name, key in reason.get("layers", {}).items():
        if name in shown:
            layer = _warped(scene.images[key], zoom, centre, side).astype(float)
            strength = opacity * layer[..., 3:] / 255
            drawn = drawn * (1 - strength) + layer[..., :3] * strength
    drawn = np.ascontiguousarray(drawn.astype(np.uint8))
    if "lesions" in shown:
        for outline in content.get("outlines", []):
            points = [[float(v) for v in point.split(",")] for point in outline.split()]
            cv2.polylines(drawn, [place(points).round().astype(int)], True, (255, 255, 255), 1, cv2.LINE_AA)
    if "field" in shown and "field" in reason:
        _rectangle(drawn, place(np.reshape(reason["field"], (2, 2))), (255, 255, 255), 1)
    for box in content.get("boxes", []) if "boxes" in shown else []:
        corners = place(np.reshape(box["box"], (2, 2)))
        colour = tuple(round(255 * v) for v in to_rgb(box["colour"]))
        _rectangle(drawn, corners, (0, 0, 0), 4)
        _rectangle(drawn, corners, colour, 2)
        if not box["number"]:
            continue
        x, y = corners[0].round().astype(int)
        y = max(y, 16)
        cv2.rectangle(drawn, (x, y - 16), (x + 14, y), colour, -1)
        cv2.putText(drawn, box["number"], (x + 2, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return drawn


def figure(
    scene: Scene,
    x: Explanation,
    reasons: Sequence[Sequence[int]],
    shown: Sequence[str],
    opacity: float,
    view: dict[str, Any],
) -> Figure:
    """Draw the panes of an explanation with their captions, at the zoom that is seen, and all contributions.

    Args:
        scene: The scene.
        x: The explanation.
        reasons: Prototypes of each match.
        shown: Names of the layers to draw.
        opacity: Opacity of the maps.
        view: zoom, offset and chosen as `viewer.js` reports them; empty for whole pictures.
    """
    side, zoom, chosen = 520, view.get("zoom", 1.0), view.get("chosen", 0)

    def draw(content: dict[str, Any]) -> np.ndarray:
        centre = _centre(_reason(content, chosen), zoom, view.get("offset", (0, 0)))
        return pane(scene, content, shown, opacity, side, zoom, centre, chosen)

    rows: list[tuple[list[np.ndarray], str]] = []
    for block in scene.blocks:
        rows += [([draw(content)], "") for content in block.get("panes", [])]
        rows += [([draw(c) for c in pair["panes"]], plain(pair["caption"])) for pair in block.get("pairs", [])]
    drawn = Figure(figsize=(9, 3.2 * (len(rows) + 1)), layout="constrained")
    *places, last = drawn.subplots(len(rows) + 1, 1)
    gap = np.full((side, 12, 3), 255, np.uint8)
    for axes, (panes, caption) in zip(places, rows, strict=True):
        axes.imshow(np.hstack([part for p in panes for part in (p, gap)][:-1]))
        axes.set_axis_off()
        axes.set_anchor("W")
        axes.text(1.02, 0.5, caption, transform=axes.transAxes, va="center", fontsize=10, parse_math=False)
    contributions(last, x, [j for js in reasons for j in js])
    drawn.supxlabel(DISCLAIMER, fontsize=9)
    return drawn


def plain(html: str) -> str:
    """Text of a piece of HTML, with its line breaks."""
    return unescape(re.sub(r"<[^>]+>", "", html.replace("<br>", "\n"))).strip()


def _reason(content: dict[str, Any], chosen: int) -> dict[str, Any]:
    """The match that a pane shows."""
    return content["reasons"][min(chosen, len(content["reasons"]) - 1)] if content["reasons"] else {}


def _centre(reason: dict[str, Any], zoom: float, offset: Sequence[float]) -> np.ndarray:
    """Point in the middle of a pane, as in `viewer.js`: of the whole picture, or, the closer, at the match."""
    near = np.clip(zoom - 1, 0, 1)
    anchor = np.asarray(reason.get("anchor", (0.5, 0.5)))
    return np.clip(0.5 + near * (anchor + offset - 0.5), 0, 1)


def _warped(content: bytes, zoom: float, centre: Sequence[float], side: int) -> np.ndarray:
    """Decode a picture and show it at a zoom: (side, side, 3) or, with opacity, (side, side, 4) uint8 RGB(A)."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    if side * zoom < len(image):
        image = cv2.resize(image, (round(side * zoom),) * 2, interpolation=cv2.INTER_AREA)
    scale = side * zoom / len(image)
    shift = side / 2 - np.asarray(centre) * side * zoom + (scale - 1) / 2  # pixel centres lie half a pixel inside
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    warped = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    edges = ((np.array([[0], [1]]) - centre) * zoom + 0.5) * side
    (x0, y0), (x1, y1) = edges.round().astype(int).clip(0, side)
    outside = np.ones((side, side), bool)
    outside[y0:y1, x0:x1] = False
    warped[outside] = 0 if image.shape[2] == 4 else GROUND
    return warped


def _rectangle(picture: np.ndarray, corners: np.ndarray, colour: Sequence[int], width: int) -> None:
    (x0, y0), (x1, y1) = corners.round().astype(int)
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, width)
