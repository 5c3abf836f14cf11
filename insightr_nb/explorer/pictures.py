"""Pictures of the explorer, composed with OpenCV in a few milliseconds, and its charts as SVG.

The charts are as wide as their place: horizontal positions are percentages, so texts keep their size.
"""

from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from insightr_nb.analysis.figures import LABEL_COLOURS
from insightr_nb.data.graham import GROUND

_GLOW = (0, 229, 255)  # of the maps: cyan, a colour that no fundus has
# Colours of the numbered matches: those of Okabe and Ito, which people with colour blindness tell apart, and grey.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2", "#BBBBBB")
_HIGHEST = 0.995  # quantile of a trace that is drawn at full strength


def encode(image: np.ndarray) -> bytes:
    """Encode an (H, W, 3) RGB array as JPEG."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def heat_png(heat: np.ndarray) -> bytes:
    """Encode a map (H, W) from 0 to 1 as PNG: a glow whose opacity is the value."""
    values = (255 * np.clip(heat, 0, 1)).astype(np.uint8)
    coloured = np.dstack([*(np.full_like(values, v) for v in _GLOW[::-1]), values])  # BGR and opacity
    return cv2.imencode(".png", coloured)[1].tobytes()


def trace_png(values: np.ndarray) -> bytes:
    """Encode a trace (H, W), non-negative, like `heat_png`, on a scale of its own by square root."""
    highest = float(np.quantile(values, _HIGHEST)) or 1.0
    return heat_png(np.sqrt(np.clip(values / highest, 0, 1)))


def patch(image: np.ndarray, box: Sequence[float], reach: int, side: int) -> np.ndarray:
    """Crop the surroundings of a box.

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
    cropped = padded[y : y + 2 * reach, x : x + 2 * reach]
    return cv2.resize(cropped, (side, side), interpolation=cv2.INTER_AREA if side < 2 * reach else cv2.INTER_CUBIC)


def contributions(
    labels: np.ndarray,
    shares: np.ndarray,
    top: Mapping[int, int],
    lines: dict[str, tuple[float, str]],
    prefix: str = "",
) -> str:
    """Bar chart of the contributions as SVG, one bar per prototype at its label; a click on it opens the prototype.

    Args:
        labels: (m,) of the prototypes.
        shares: (m,) contributions, normalised to sum to 1.
        top: Place of each numbered prototype, from 0; its bar has the colour and number of that match.
        lines: Vertical lines, text -> (label, dashes as in SVG, empty for a solid line).
        prefix: Prefix of the links to prototypes.
    """
    low, high = min(labels.min(), *(v for v, _ in lines.values())), max(labels.max(), *(v for v, _ in lines.values()))
    height, extent = 190, max(high - low, 1e-9)
    above, bottom, most = 18 * len(lines) + 14, height - 36, max(shares.max(), 1e-9)
    bar = 0.7 * 90 / max(len(labels), 2)

    def x(label: float) -> float:
        return 5 + 90 * (label - low) / extent

    colours = [to_hex(c) for c in colormaps[LABEL_COLOURS]((labels - labels.min()) / max(np.ptp(labels), 1e-9))]
    parts = [_svg(height, "contributions of all prototypes by their labels")]
    left = bool(x(max(v for v, _ in lines.values())) > 70)  # so no text is crossed
    side, shift = ("end", -5) if left else ("start", 5)
    for n, (text, (label, dashes)) in enumerate(sorted(lines.items(), key=lambda line: line[1][0], reverse=left)):
        parts.append(
            f'<line x1="{x(label):.2f}%" x2="{x(label):.2f}%" y1="{18 * n + 2}" y2="{bottom}" stroke="currentColor" '
            f'stroke-width="2" stroke-dasharray="{dashes}"/>'
            f'<text x="{x(label):.2f}%" dx="{shift}" y="{18 * n + 13}" text-anchor="{side}">'
            f"{escape(text)}</text>"
        )
    for j in np.argsort(-shares):  # of bars in one place, the lower one is in front
        tall = (bottom - above) * shares[j] / most
        middle, place = x(labels[j]), top.get(int(j))
        edge, line = ("#555", 1) if place is None else (COLOURS[place], 3)
        parts.append(
            f'<rect data-go="{prefix}prototype:{j}" x="{middle - bar / 2:.2f}%" y="{bottom - tall:.1f}" '
            f'width="{bar:.2f}%" height="{tall:.1f}" fill="{colours[j]}" stroke="{edge}" stroke-width="{line}">'
            f"<title>prototype {j}, label {labels[j]:.2f}: {100 * shares[j]:.1f} %</title></rect>"
        )
        if place is not None:
            y = max(bottom - tall - 16, 0)
            parts.append(
                f'<svg x="{middle:.2f}%" y="{y:.1f}" overflow="visible"><rect x="-8" width="16" height="15" '
                f'fill="{COLOURS[place]}" stroke="#000"/><text y="12" text-anchor="middle" font-weight="bold" '
                f'style="fill:#000">{place + 1}</text></svg>'
            )
    parts.append(f'<line x1="3%" x2="97%" y1="{bottom}" y2="{bottom}" stroke="#888"/>')
    parts += [
        f'<text x="{x(tick):.2f}%" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>'
        for tick in MaxNLocator(10, steps=[1, 2, 5, 10]).tick_values(low, high).round(9)
        if low <= tick <= high
    ]
    parts.append(f'<text x="50%" y="{height - 5}" text-anchor="middle">label of the prototype</text>')
    parts.append(f'<text x="0" y="{above + 4}">{100 * most:.1f} % of the weight</text>')
    return "".join(parts) + "</svg>"


def shares_chart(shares: pd.Series) -> str:
    """Bar chart of shares by name as SVG, from 0 to 100 %."""
    height = 120
    each = 96 / len(shares)
    parts = [_svg(height, "shares by label")]
    for i, (name, share) in enumerate(shares.items()):
        tall, middle = (height - 46) * share, 2 + (i + 0.5) * each
        text = f"{name:g}" if isinstance(name, float | int) else str(name)
        parts.append(
            f'<rect x="{middle - 0.42 * each:.2f}%" y="{height - 22 - tall:.1f}" width="{0.84 * each:.2f}%" '
            f'height="{tall:.1f}" fill="{"#888" if i == 0 else "#5b8db8"}"/>'
            f'<text x="{middle:.2f}%" y="{height - 27 - tall:.1f}" text-anchor="middle">{100 * share:.0f} %</text>'
            f'<text x="{middle:.2f}%" y="{height - 7}" text-anchor="middle">{escape(text)}</text>'
        )
    return "".join(parts) + "</svg>"


def _svg(height: int, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{label}">'
    )


def places(prototypes: np.ndarray, patches: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of points of the latent map in a picture of `side` pixels: (m, 2) prototypes and (n, 2) patches.

    Args:
        prototypes: (m, 2), any units.
        patches: (n, 2), the same units.
        side: Side of the picture in pixels.
    """
    both = np.concatenate([prototypes, patches])
    begin, extent = both.min(0), np.maximum(np.ptp(both, axis=0), 1e-9)
    inner = side - 40  # the second component points upwards
    made = [20 + inner * (p - begin) / extent * [1, -1] + [0, inner] for p in (prototypes, patches)]
    return made[0].astype(int), made[1].astype(int)


def scatter(
    circles: np.ndarray,
    values: np.ndarray,
    stars: np.ndarray,
    grades: np.ndarray,
    low: float,
    high: float,
    ring: np.ndarray,
    diamonds: np.ndarray,
    side: int,
) -> np.ndarray:
    """Draw the latent map, all positions in pixels (`places`).

    Args:
        circles: (m, 2) prototypes.
        values: (m,) their labels.
        stars: (n, 2) test patches.
        grades: (n,) labels of the patches' images.
        low: Label at the lower end of the colour scale.
        high: Label at the upper end of the colour scale.
        ring: (2,) what is chosen.
        diamonds: (k, 2) patches of the explained image.
        side: Side of the picture in pixels.

    Returns:
        (side, side, 3) uint8.
    """
    picture = np.full((side, side, 3), 255, np.uint8)
    palette = (colormaps[LABEL_COLOURS](np.linspace(0, 1, 256))[:, :3] * 255).astype(int)

    def colour(v: float) -> list[int]:
        return [int(c) for c in palette[int(np.clip((v - low) / (high - low), 0, 1) * 255)]]

    faint = picture.copy()
    for p, g in zip(stars.tolist(), grades, strict=True):
        cv2.drawMarker(faint, p, colour(g), cv2.MARKER_STAR, 10, 1, cv2.LINE_AA)
    picture = cv2.addWeighted(picture, 0.45, faint, 0.55, 0)
    for p, v in zip(circles.tolist(), values, strict=True):
        cv2.circle(picture, p, 10, colour(v), -1, cv2.LINE_AA)
        cv2.circle(picture, p, 10, (0, 0, 0), 1, cv2.LINE_AA)
    for p in diamonds.tolist():
        cv2.drawMarker(picture, p, (0, 0, 0), cv2.MARKER_DIAMOND, 22, 3, cv2.LINE_AA)
    cv2.circle(picture, ring.tolist(), 18, (0, 0, 0), 3, cv2.LINE_AA)
    return picture
