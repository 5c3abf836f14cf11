"""Read what a viewer shows: blocks, pictures, and the bars of a chart."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from insightr_nb.explorer.fixed import plain

TWINS = (2, 6)  # prototypes of one patch in the run of these tests


def blocks(viewer, kind: str) -> list[dict[str, Any]]:
    """Blocks of a kind, also those in columns."""

    def flat(some) -> Iterator[dict[str, Any]]:
        for block in some:
            yield block
            yield from flat(block.get("blocks", []))

    return [block for block in flat(viewer.content.blocks) if block["kind"] == kind]


def pane(viewer) -> dict[str, Any]:
    """The first photograph."""
    return blocks(viewer, "photograph")[0]["panes"][0]


def text(viewer, kind: str = "text") -> str:
    """Plain text of all blocks of a kind."""
    return " ".join(plain(block["html"]) for block in blocks(viewer, kind))


def captions(viewer) -> list[str]:
    return [plain(pair["caption"]) for pair in blocks(viewer, "pairs")[0]["pairs"]]


def bars(svg: str) -> dict[int, ET.Element]:
    """Bars of a chart of contributions by prototype number."""
    rectangles = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")
    return {int(r.get("data-go").rpartition(":")[2]): r for r in rectangles if r.get("data-go")}


def decoded(content: bytes) -> np.ndarray:
    """Picture (H, W, 3) RGB, or (H, W, 4) with opacity."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
