"""Synthetic colour fundus photographs with diabetic retinopathy, grades 0 to 4.

Every photograph is a function of ``(seed, index)`` alone: it reads nothing from disk and does not depend on the number
of photographs. Coordinates are in units of the radius of the round fundus image ("disc units": origin at its centre,
x to the right, y down), so an index shows the same eye with the same lesions at every size. Eyes are built as right
eyes (optic disc on the right); left eyes are mirrored at the end.

The lesions follow the International Clinical Diabetic Retinopathy scale: 0 none; 1 microaneurysms only; 2 also
haemorrhages and hard exudates; 3 many haemorrhages in all quadrants and cotton-wool spots; 4 new vessels or
pre-retinal haemorrhage. Their number increases with a continuous severity, so neighbouring grades overlap.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np
import pandas as pd

from insightr_nb.data.eye import LESIONS, Anatomy, Rng, Vessels, draw_anatomy, draw_distractors, draw_lesions, ribbon

EYES = ("left", "right")
# Correlation of the two eyes' normal scores; 0.86 gives about 0.85 for the uniformly distributed severity.
EYE_CORRELATION = 0.86
# Independent random streams, so that, for example, an additional lesion does not change the vessels or the noise.
SEVERITY, PATIENT, EYE, LESION, CAMERA = range(5)
OVERSAMPLING = 2  # factor of the finer canvas for vessels and lesions, because cv2 lines are at least one pixel wide
SHIFT = 4  # fractional bits of the coordinates passed to cv2

# Absorption of red, green and blue light by a full layer (optical depth). Blood absorbs green most.
ABSORPTION = {
    "vein": (0.34, 0.72, 0.50),
    "artery": (0.15, 0.48, 0.38),
    "macula": (0.30, 0.42, 0.36),
    "dust": (0.10, 0.10, 0.10),
    "microaneurysm": (0.40, 0.90, 0.60),
    "haemorrhage": (0.50, 1.05, 0.75),
    "new_vessel": (0.12, 0.90, 0.65),
    "preretinal_haemorrhage": (0.62, 1.45, 1.05),
}
# Colour (RGB in 0..1) and peak opacity of the pale lesions on the retina, lowest layer first.
PALE = {
    "drusen": ((0.93, 0.72, 0.42), 0.30),
    "cotton_wool_spot": ((0.97, 0.93, 0.80), 0.80),
    "hard_exudate": ((1.00, 0.90, 0.45), 0.90),
}
# Standard deviation of the blur of a layer, in disc units; other layers are blurred by the camera only.
SOFTNESS = {
    "haemorrhage": 0.005,
    "cotton_wool_spot": 0.016,
    "preretinal_haemorrhage": 0.006,
    "drusen": 0.008,
    "dust": 0.012,
}


@dataclass(frozen=True)
class Photograph:
    """One photograph with its ground truth.

    Attributes:
        image: (size, size, 3) uint8 RGB.
        masks: For each of LESIONS, (size, size) bool, true where such a lesion is visible.
        grade: 0 to 4.
        severity: In [grade - 0.5, grade + 0.5).
        patient: Number of the patient.
        eye: "left" or "right".
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    grade: int
    severity: float
    patient: int
    eye: str


@dataclass(frozen=True)
class _View:
    """Position of the fundus in the image: centre and radius in pixels of a size x size image."""

    size: int
    centre: np.ndarray
    radius: float

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x, (1, size), and y, (size, 1), of the pixel centres in disc units, float32."""
        x, y = ((np.arange(self.size) + 0.5 - self.centre[:, None]) / self.radius).astype(np.float32)
        return x[None, :], y[:, None]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Convert points (..., 2) from disc units to fixed-point pixels of the oversampled canvas."""
        pixels = (self.centre + self.radius * points) * OVERSAMPLING - 0.5
        return np.rint(pixels * (1 << SHIFT)).astype(np.int32)


def photograph(index: int, seed: int = 0, size: int = 256) -> Photograph:
    """Render a photograph with the masks of its lesions.

    Args:
        index: Number of the photograph; 2p and 2p + 1 are the left and right eye of patient p.
        seed: Seed of the data set.
        size: Side of the image in pixels.

    Returns:
        The photograph, with a (size, size, 3) uint8 RGB image.

    Raises:
        ValueError: For a negative index or seed, or a size below 32 pixels.
    """
    if index < 0:
        raise ValueError(f"index must be 0 or more, got {index}")
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels, got {size}")
    patient, side = divmod(int(index), 2)
    severity = _severities(patient, seed)[side]
    grade = _grade(severity)
    # Severity of the non-proliferative lesions: random for grade 4, the severity itself for lower grades.
    lesion_rng = _stream(seed, LESION, patient, side)
    background = float(lesion_rng.uniform(1.8, 3.4)) if grade == 4 else severity

    beading = float(np.clip(background - 2.6, 0, 1))
    anatomy = draw_anatomy(_stream(seed, PATIENT, patient), _stream(seed, EYE, patient, side), beading)
    shapes = draw_lesions(lesion_rng, anatomy, severity, background)
    shapes |= draw_distractors(_stream(seed, EYE, patient, side, 1), anatomy)

    camera = _stream(seed, CAMERA, patient, side)
    shift = camera.uniform(-0.02, 0.02, 2)
    radius = 0.47 * size * camera.uniform(0.98, 1.02)
    view = _View(size, 0.5 * size + radius * shift, radius)
    x, y = view.grid()
    field = np.clip((1 - np.sqrt(x * x + y * y)) * view.radius / 1.5, 0, 1)  # 1 inside the disc, soft edge
    layers = {}
    for name, drawn in shapes.items():
        if drawn:
            layer = _draw(view, (outline for outline, _ in drawn), ((opacity,) for _, opacity in drawn))
            layers[name] = _blur(layer, SOFTNESS.get(name, 0.0) * view.radius) * field

    image = _retina(view, anatomy, layers, _stream(seed, PATIENT, patient, 1), _stream(seed, EYE, patient, side, 2))
    image = _expose(image * field[..., None], view, _stream(seed, PATIENT, patient, 2), camera)
    masks = {name: layers[name] > 0.3 if name in layers else np.zeros((size, size), bool) for name in LESIONS}
    if EYES[side] == "left":
        image = np.ascontiguousarray(image[:, ::-1])
        masks = {name: np.ascontiguousarray(mask[:, ::-1]) for name, mask in masks.items()}
    return Photograph(image, masks, grade, severity, patient, EYES[side])


def table(n: int, seed: int = 0) -> pd.DataFrame:
    """Return the labels of the first ``n`` photographs without rendering them.

    Row i describes ``photograph(i, seed)``. Columns: image_id ("p00012_left"), patient_id ("p00012"), label (grade
    0..4), severity, eye. Raises ValueError for n below 1 or a negative seed.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    rows = []
    for patient in range((n + 1) // 2):
        for eye, severity in zip(EYES, _severities(patient, seed), strict=True):
            rows.append((f"p{patient:05d}_{eye}", f"p{patient:05d}", _grade(severity), severity, eye))
    return pd.DataFrame(rows[:n], columns=["image_id", "patient_id", "label", "severity", "eye"])


# --- severity --------------------------------------------------------------------------------------------------------


def _stream(seed: int, *key: int) -> Rng:
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    return np.random.default_rng([seed, *key])


def _severities(patient: int, seed: int) -> tuple[float, float]:
    """Severity of the left and right eye, each uniform in [-0.5, 4.5), so that all grades are equally frequent."""
    # Each fifth of the range gets one of every five successive patients, which also balances small data sets.
    block, place = divmod(patient, 5)
    stratum = _stream(seed, SEVERITY, 0, block).permutation(5)[place]
    rng = _stream(seed, SEVERITY, 1, patient)
    normal = NormalDist()
    common = normal.inv_cdf((stratum + rng.uniform(0.001, 0.999)) / 5)
    independent = rng.standard_normal(2)
    scores = EYE_CORRELATION**0.5 * common + (1 - EYE_CORRELATION) ** 0.5 * independent
    left, right = (min(5 * normal.cdf(score), 4.9999) - 0.5 for score in scores)
    return left, right


def _grade(severity: float) -> int:
    return int(np.floor(severity + 0.5))


# --- light and camera ------------------------------------------------------------------------------------------------


def _draw(view: _View, outlines: Iterable[np.ndarray], colours: Iterable[tuple[float, ...]]) -> np.ndarray:
    """Draw polygons in order: (size, size) float32, or (size, size, 3) for colours of 3 numbers in 0..1."""
    colours = [tuple(int(255 * value) for value in colour) for colour in colours]
    side = OVERSAMPLING * view.size
    canvas = np.zeros((side, side) if len(colours[0]) == 1 else (side, side, len(colours[0])), np.uint8)
    for outline, colour in zip(outlines, colours, strict=True):
        cv2.fillPoly(canvas, [view.pixels(outline)], colour, cv2.LINE_AA, SHIFT)
    return cv2.resize(canvas, (view.size, view.size), interpolation=cv2.INTER_AREA) * np.float32(1 / 255)


def _vessel_layers(view: _View, vessels: Vessels) -> np.ndarray:
    """Opacity of veins, arteries and the light reflex along large vessels, (size, size, 3); thin vessels are faint."""
    # cv2 also draws the outline of a polygon, which widens it by about one pixel of the canvas.
    edge = 1 / (OVERSAMPLING * view.radius)
    bodies = ribbon(vessels.points, np.maximum(vessels.widths - edge, 1e-3))
    reflexes = ribbon(vessels.points, np.maximum(0.3 * vessels.widths - edge, 1e-3))
    opacity = np.clip(0.10 + vessels.widths[:, 0] / 0.022, 0, 1)
    outlines, colours = [], []
    for i in np.flatnonzero(vessels.alive > 3)[::-1]:  # reversed: trunks lie on top of their branches
        n = vessels.alive[i]
        colour = (opacity[i], 0) if vessels.vein[i] else (0, opacity[i])
        outlines.append(np.concatenate([bodies[i, :n], bodies[i, -n:]]))
        colours.append((*colour, 0))
        if vessels.widths[i, 0] > 0.017:
            outlines.append(np.concatenate([reflexes[i, :n], reflexes[i, -n:]]))
            colours.append((*colour, 1))
    return _draw(view, outlines, colours)


def _noise(rng: Rng, cells: int, size: int) -> np.ndarray:
    """Smooth noise, (size, size) float32, with about ``cells`` bumps per side; the same pattern at every size."""
    grid = rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.25 else image


def _cover(image: np.ndarray, alpha: np.ndarray, rgb: tuple[float, float, float]) -> None:
    """Paint ``rgb`` over ``image`` in place, only where ``alpha`` (size, size) is not zero."""
    x, y, width, height = cv2.boundingRect((alpha > 0).astype(np.uint8))
    part = image[y : y + height, x : x + width]
    part += alpha[y : y + height, x : x + width, None] * (np.array(rgb, np.float32) - part)


def _retina(view: _View, anatomy: Anatomy, layers: dict[str, np.ndarray], patient: Rng, eye: Rng) -> np.ndarray:
    """Colour of the retina under even light, (size, size, 3) float32 RGB, about 0..1."""
    x, y = view.grid()
    pigmentation = patient.uniform(0, 1)
    colour = np.array([0.90, 0.50, 0.27]) * (1 - pigmentation) + np.array([0.55, 0.25, 0.12]) * pigmentation
    colour *= patient.uniform(0.94, 1.06, 3)
    texture = 0.04 * _noise(eye, 5, view.size) + 0.03 * _noise(eye, 14, view.size) + 0.012 * _noise(eye, 60, view.size)
    # Ridges of smooth noise imitate the large choroidal vessels visible through a thin retina.
    texture += patient.uniform(0.01, 0.05) * (0.8 - 2 * np.abs(_noise(eye, 11, view.size)))
    image = (1 + texture)[..., None] * colour.astype(np.float32)

    cup = anatomy.disc - (0.15 * anatomy.disc_radius, 0)
    for centre, scale, edge, opacity, rgb in (
        (anatomy.disc, 1.15, 0.10, 0.30, (0.80, 0.55, 0.30)),  # the paler tissue around the optic disc
        (anatomy.disc, 1.00, 0.03, 0.85, (0.97, 0.74, 0.42)),
        (cup, anatomy.cup, 0.05, 0.75, (1.00, 0.92, 0.68)),
    ):
        distance = np.sqrt(((x - float(centre[0])) / 0.92) ** 2 + (y - float(centre[1])) ** 2)
        _cover(image, opacity * np.clip((scale * anatomy.disc_radius - distance) / edge + 0.5, 0, 1), rgb)
    for name, (rgb, opacity) in PALE.items():
        if name in layers:
            _cover(image, opacity * layers[name], rgb)

    depth = {name: layer for name, layer in layers.items() if name in ABSORPTION}
    depth["vein"], depth["artery"], reflex = cv2.split(_vessel_layers(view, anatomy.vessels))
    visible = 1 - 0.45 * reflex
    if "cotton_wool_spot" in layers:  # swollen nerve fibres cover the vessels
        visible *= 1 - 0.8 * layers["cotton_wool_spot"]
    depth["vein"] *= visible
    depth["artery"] *= visible
    distance = (x - float(anatomy.fovea[0])) ** 2 + (y - float(anatomy.fovea[1])) ** 2
    depth["macula"] = 0.75 * np.exp(distance / (-2 * 0.20**2)) + 0.55 * np.exp(distance / (-2 * 0.055**2))
    absorption = cv2.merge(list(depth.values())) @ np.array([ABSORPTION[name] for name in depth], np.float32)
    return image * np.exp(-absorption)


def _expose(image: np.ndarray, view: _View, patient: Rng, camera: Rng) -> np.ndarray:
    """Apply uneven light, white balance, blur and noise to an RGB float32 image; return uint8."""
    x, y = view.grid()
    gradient = patient.uniform(-0.10, 0.10, 2) + camera.normal(0, 0.03, 2)
    light = 1 - patient.uniform(0.18, 0.38) * (x * x + y * y) + gradient[0] * x + gradient[1] * y
    gain = 255 * patient.uniform(0.9, 1.08) * patient.uniform(0.94, 1.06, 3) * camera.uniform(0.98, 1.02, 3)
    image = image * light[..., None].astype(np.float32) * gain.astype(np.float32)
    image = _blur(image, patient.uniform(0.003, 0.006) * view.radius)
    image += camera.standard_normal(image.shape, np.float32) * np.float32(patient.uniform(1.0, 2.2))
    return np.clip(image, 0, 255).astype(np.uint8)
