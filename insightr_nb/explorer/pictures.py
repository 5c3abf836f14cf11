"""Images of the explorer as arrays, composed with OpenCV in a few milliseconds, and its charts as SVG."""

from collections.abc import Container, Iterable, Sequence
from html import escape

import cv2
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from insightr_nb.analysis.figures import LABEL_COLOURS
from insightr_nb.data.graham import GROUND

CYAN = (0, 229, 255)


def boxed(
    image: np.ndarray,
    boxes: Iterable[Iterable[float]],
    side: int,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """Resize a square picture and draw boxes on it.

    Args:
        image: Square picture.
        boxes: x0, y0, x1, y1 in pixels of `image`.
        side: Side of the result in pixels.
        colours: RGB of each box, cyan by default.

    Returns:
        (side, side, 3) uint8.
    """
    scale = side / image.shape[0]
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = np.ascontiguousarray(cv2.resize(image, (side, side), interpolation=shrink))
    for i, box in enumerate(boxes):
        x0, y0, x1, y1 = (round(v * scale) for v in box)
        colour = CYAN if colours is None else colours[i]
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), [int(c) for c in colour], 2)
    return picture


def patch(image: np.ndarray, box: Sequence[float], reach: int, side: int) -> np.ndarray:
    """Crop a box with its surroundings, with the box drawn.

    Args:
        image: Square picture.
        box: x0, y0, x1, y1 in pixels of `image`.
        reach: Distance from the centre of the box to the sides of the crop, in pixels of `image`.
        side: Side of the result in pixels.

    Returns:
        (side, side, 3) uint8.
    """
    x, y = round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2)
    padded = cv2.copyMakeBorder(image, *[reach] * 4, cv2.BORDER_CONSTANT, value=(GROUND,) * 3)
    moved = np.array(box) - [x - reach, y - reach] * 2
    return boxed(padded[y : y + 2 * reach, x : x + 2 * reach], [moved], side)


def row(pictures: list[np.ndarray], gap: int = 6) -> np.ndarray:
    """Concatenate pictures of equal height horizontally, with white gaps."""
    white = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for p in pictures for part in (p, white)]
    return np.hstack(parts[:-1])


def encode(image: np.ndarray) -> bytes:
    """Encode an (H, W, 3) RGB array as JPEG for an image widget."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def label_colour(label: float, low: float, high: float) -> str:
    """Hex colour of a label.

    Args:
        label: The label.
        low: Label at the lower end of the colour scale.
        high: Label at the upper end.
    """
    return to_hex(colormaps[LABEL_COLOURS]((label - low) / (high - low)))


def contributions(
    labels: np.ndarray,
    shares: np.ndarray,
    top: Container[int],
    lines: dict[str, tuple[float, str]],
    width: int = 880,
    height: int = 190,
) -> str:
    """Bar chart of the contributions as SVG, one bar per prototype at its label.

    Args:
        labels: (m,) of the prototypes.
        shares: (m,) contributions, normalised to sum to 1.
        top: Numbers of the outlined prototypes.
        lines: Vertical lines, text -> (label, colour).
        width: Width in pixels.
        height: Height in pixels.
    """
    low, high = min(labels.min(), *(v for v, _ in lines.values())), max(labels.max(), *(v for v, _ in lines.values()))
    bottom, most = height - 34, max(shares.max(), 1e-9)
    bar = max(2.0, 0.8 * (width - 60) / max(len(labels), 2))

    def x(label: float) -> float:
        return 40 + (width - 80) * (label - low) / (high - low)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">']
    for j in np.argsort(labels):
        tall = (bottom - 26) * shares[j] / most
        edge = "black" if j in top else "none"
        parts.append(
            f'<rect x="{x(labels[j]) - bar / 2:.1f}" y="{bottom - tall:.1f}" width="{bar:.1f}" height="{tall:.1f}" '
            f'fill="{label_colour(labels[j], labels.min(), labels.max())}" stroke="{edge}">'
            f"<title>prototype {j}, label {labels[j]:.2f}: {100 * shares[j]:.1f} %</title></rect>"
        )
    parts.append(f'<line x1="30" x2="{width - 20}" y1="{bottom}" y2="{bottom}" stroke="#888"/>')
    for tick in range(int(np.ceil(low)), int(np.floor(high)) + 1, max(1, int((high - low) // 12))):
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 15}" font-size="11" text-anchor="middle">{tick}</text>')
    parts.append(
        f'<text x="{width / 2}" y="{height - 4}" font-size="11" text-anchor="middle">label of the prototype</text>'
    )
    parts.append(f'<text x="4" y="24" font-size="11">{100 * most:.1f} %</text>')
    for i, (text, (label, colour)) in enumerate(lines.items()):
        side = "end" if x(label) > width * 0.7 else "start"
        shift = -5 if side == "end" else 5
        parts.append(
            f'<line x1="{x(label):.1f}" x2="{x(label):.1f}" y1="4" y2="{bottom}" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x(label) + shift:.1f}" y="{12 + 13 * i}" font-size="12" fill="{colour}" text-anchor="{side}">'
            f"{escape(text)}</text>"
        )
    return "".join(parts) + "</svg>"


def shares_chart(shares: pd.Series, width: int = 420, height: int = 120) -> str:
    """Bar chart of shares as SVG, one bar per name from 0 to 100 %.

    Args:
        shares: A Series of shares by name.
        width: Width in pixels.
        height: Height in pixels.
    """
    each = (width - 20) / len(shares)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">']
    for i, (name, share) in enumerate(shares.items()):
        tall = (height - 46) * share
        text = f"{name:g}" if isinstance(name, float | int) else str(name)
        parts.append(
            f'<rect x="{14 + i * each:.1f}" y="{height - 22 - tall:.1f}" width="{each - 8:.1f}" '
            f'height="{tall:.1f}" '
            f'fill="{"#555" if i == 0 else "#5b8db8"}"/>'
            f'<text x="{10 + (i + 0.5) * each:.1f}" y="{height - 26 - tall:.1f}" font-size="11" text-anchor="middle">'
            f"{100 * share:.0f} %</text>"
            f'<text x="{10 + (i + 0.5) * each:.1f}" y="{height - 7}" font-size="11" text-anchor="middle">'
            f"{escape(text)}</text>"
        )
    return "".join(parts) + "</svg>"


def scatter(
    points: np.ndarray,
    values: np.ndarray,
    stars: np.ndarray,
    grades: np.ndarray,
    low: float,
    high: float,
    chosen: int,
    side: int = 560,
) -> np.ndarray:
    """Draw the latent map: test patches as stars and prototypes as circles, by label; a ring marks the chosen one.

    Args:
        points: (m, 2) prototypes.
        values: (m,) labels of the prototypes.
        stars: (n, 2) test patches.
        grades: (n,) labels of the patches' images.
        low: Label at the lower end of the colour scale.
        high: Label at the upper end of the colour scale.
        chosen: Index of the ringed prototype.
        side: Side of the picture in pixels.

    Returns:
        (side, side, 3) uint8.
    """
    both = np.concatenate([points, stars])
    begin, extent = both.min(0), np.maximum(np.ptp(both, axis=0), 1e-9)
    picture = np.full((side, side, 3), 255, np.uint8)
    palette = (colormaps[LABEL_COLOURS](np.linspace(0, 1, 256))[:, :3] * 255).astype(int)

    def place(p: np.ndarray) -> tuple[int, ...]:
        return tuple(int(v) for v in (20 + (side - 40) * (p - begin) / extent * [1, -1] + [0, side - 40]))

    def colour(v: float) -> list[int]:
        return [int(c) for c in palette[int(np.clip((v - low) / (high - low), 0, 1) * 255)]]

    faint = picture.copy()
    for p, g in zip(stars, grades, strict=True):
        cv2.drawMarker(faint, place(p), colour(g), cv2.MARKER_STAR, 7, 1, cv2.LINE_AA)
    picture = cv2.addWeighted(picture, 0.45, faint, 0.55, 0)
    for j, (p, v) in enumerate(zip(points, values, strict=True)):
        cv2.circle(picture, place(p), 7, colour(v), -1, cv2.LINE_AA)
        cv2.circle(picture, place(p), 7, (0, 0, 0), 1, cv2.LINE_AA)
        if j == chosen:
            cv2.circle(picture, place(p), 13, (0, 0, 0), 2, cv2.LINE_AA)
    return picture
