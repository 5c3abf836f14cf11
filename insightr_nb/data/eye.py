"""Geometry of a synthetic eye: vessels, optic disc, fovea and lesions as shapes.

Coordinates are in "disc units": the round fundus image has radius 1 and its centre at the origin, x points right and
y down. All eyes are right eyes, with the optic disc on the right; `synthetic` renders them and mirrors left eyes.
"""

from dataclasses import dataclass, fields

import numpy as np

LESIONS = ("microaneurysm", "haemorrhage", "hard_exudate", "cotton_wool_spot", "new_vessel", "preretinal_haemorrhage")
POINTS = 28  # per vessel

Rng = np.random.Generator
Shapes = dict[str, list[tuple[np.ndarray, float]]]  # layer -> (polygon (k, 2) in disc units, opacity 0..1)


@dataclass(frozen=True)
class Vessels:
    """k vessels as polylines with widths, in disc units."""

    points: np.ndarray  # (k, POINTS, 2)
    widths: np.ndarray  # (k, POINTS)
    alive: np.ndarray  # (k,) int: number of leading points that are used
    vein: np.ndarray  # (k,) bool: vein or artery


@dataclass(frozen=True)
class Anatomy:
    """Anatomy of one (right) eye, in disc units."""

    disc: np.ndarray
    disc_radius: float
    cup: float
    fovea: np.ndarray
    vessels: Vessels


# --- anatomy ---------------------------------------------------------------------------------------------------------


def draw_anatomy(patient: Rng, eye: Rng, beading: float) -> Anatomy:
    """Draw the anatomy of an eye.

    Args:
        patient: Generator for what both eyes of the patient share.
        eye: Generator for the small differences between the eyes.
        beading: Strength of the venous beading, 0 to 1.
    """
    disc = np.array([0.62, -0.04]) + patient.uniform(-0.04, 0.04, 2) + eye.normal(0, 0.01, 2)
    fovea = np.array([-0.03, 0.04]) + patient.uniform(-0.03, 0.03, 2) + eye.normal(0, 0.008, 2)
    # Bezier control points of the upper vessels, relative to the optic disc: vein and artery of the temporal arcade,
    # artery and vein towards the nasal side, and a twig towards the macula. The lower vessels start as mirror images.
    upper = np.array(
        [
            [[0.00, 0.00], [0.02, -0.48], [-0.55, -0.72], [-1.42, -0.36]],
            [[0.01, 0.00], [-0.04, -0.42], [-0.46, -0.58], [-1.34, -0.62]],
            [[0.00, 0.00], [0.03, -0.25], [0.14, -0.50], [0.10, -0.95]],
            [[0.01, 0.00], [0.06, -0.16], [0.16, -0.26], [0.40, -0.42]],
            [[-0.02, 0.00], [-0.10, -0.06], [-0.22, -0.12], [-0.44, -0.10]],
        ]
    )
    control = np.concatenate([upper, upper * (1, -1)])
    control[:, 1:] += patient.normal(0, 0.035, control[:, 1:].shape) + eye.normal(0, 0.015, control[:, 1:].shape)
    vein = np.array([True, False, False, True, False] * 2)
    width = np.array([0.030, 0.022, 0.015, 0.020, 0.008] * 2)[:, None] * patient.uniform(0.9, 1.1)

    t = np.linspace(0, 1, POINTS)
    basis = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    waves = np.sin(patient.uniform(12, 25, (len(control), 1, 2)) * t[:, None] + eye.uniform(0, 6.28, (2,)))
    points = disc + basis @ control + patient.uniform(0.004, 0.014) * t[:, None] * waves
    # Venous beading: in severe disease, the calibre of the large veins oscillates.
    swing = 1 + np.where(vein, 0.35 * beading, 0)[:, None] * np.sin(38 * t)
    generation = Vessels(points, width * np.linspace(1, 0.3, POINTS) * swing, _alive(points, fovea), vein)
    tree = [generation]
    for density, shortest, longest in ((4.0, 0.30, 0.70), (6.0, 0.14, 0.36), (6.0, 0.08, 0.20)):
        generation = _branches(eye, generation, fovea, density, shortest, longest)
        tree.append(generation)
    vessels = Vessels(*(np.concatenate([getattr(part, field.name) for part in tree]) for field in fields(Vessels)))
    return Anatomy(disc, patient.uniform(0.125, 0.155), patient.uniform(0.35, 0.6), fovea, vessels)


def _branches(
    rng: Rng, parents: Vessels, fovea: np.ndarray, density: float, shortest: float, longest: float
) -> Vessels:
    """Next generation of vessels: ``density`` branches per disc unit of parent length, on alternate sides."""
    step = np.linalg.norm(parents.points[:, 1] - parents.points[:, 0], axis=1)
    number = np.rint(density * step * parents.alive).astype(int) * (parents.alive > 6)
    parent = np.repeat(np.arange(len(number)), number)
    k = len(parent)
    rank = np.arange(k) - np.repeat(number.cumsum() - number, number)
    place = 0.15 + 0.82 * (rank + rng.uniform(0, 1, k)) / number[parent]
    at = (place * (parents.alive[parent] - 2)).astype(int)
    start = parents.points[parent, at]
    direction = parents.points[parent, at + 1] - start
    side = 1.0 - 2 * ((rank + rng.integers(0, 2, len(number))[parent]) % 2)
    heading = np.arctan2(direction[:, 1], direction[:, 0]) + side * rng.uniform(0.45, 1.0, k)
    points = _walk(rng, start, heading, rng.uniform(shortest, longest, k), -side * rng.uniform(-0.3, 0.9, k), 0.10)
    widths = (parents.widths[parent, at] * rng.uniform(0.50, 0.72, k))[:, None] * np.linspace(1, 0.45, POINTS)
    return Vessels(points, widths, _alive(points, fovea), parents.vein[parent])


def _walk(
    rng: Rng, start: np.ndarray, heading: np.ndarray, length: np.ndarray, turn: np.ndarray, wobble: float
) -> np.ndarray:
    """k wavy lines (k, POINTS, 2) from ``start`` (k, 2), with a total turn of ``turn`` radians and random wobble."""
    noise = rng.normal(0, wobble, (len(start), POINTS)).cumsum(axis=1)
    angle = heading[:, None] + turn[:, None] * np.linspace(0, 1, POINTS) + noise
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * (length / (POINTS - 1))[:, None, None]
    return start[:, None] + steps.cumsum(axis=1) - steps[:, :1]


def _alive(points: np.ndarray, fovea: np.ndarray) -> np.ndarray:
    """Number of points of each vessel before it leaves the picture or enters the fovea, which has no vessels."""
    inside = (_norm(points) < 1.06) & (_norm(points - fovea) > 0.15)
    return np.logical_and.accumulate(inside, axis=1).sum(axis=1)


def _norm(points: np.ndarray) -> np.ndarray:
    return np.hypot(points[..., 0], points[..., 1])


def ribbon(points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the outlines (k, 2n, 2) of lines (k, n, 2) with widths (k, n)."""
    along = np.gradient(points, axis=1)
    normal = np.stack([-along[..., 1], along[..., 0]], axis=-1) / (_norm(along)[..., None] + 1e-9)
    offset = normal * (widths / 2)[..., None]
    return np.concatenate([points + offset, (points - offset)[:, ::-1]], axis=1)


# --- lesions ---------------------------------------------------------------------------------------------------------


def draw_lesions(rng: Rng, anatomy: Anatomy, severity: float, background: float) -> Shapes:
    """Draw the lesions of an eye as shapes.

    Args:
        rng: Generator.
        anatomy: Anatomy of the eye, which determines where lesions can lie.
        severity: Severity of the eye; below 0.5 there are no lesions.
        background: Severity of the non-proliferative lesions.

    Returns:
        For each of `LESIONS`, a list of (polygon in disc units, opacity).
    """
    shapes: Shapes = {name: [] for name in LESIONS}
    if severity < 0.5:
        return shapes

    def count(stages: tuple[float, ...], values: tuple[float, ...], least: int = 0) -> int:
        mean = np.interp(background, stages, values) * rng.lognormal(0, 0.25)
        return max(least, int(rng.poisson(mean)))

    places = _places(rng, count((0.5, 1.5, 2.5, 3.5), (3, 10, 18, 30), least=2), anatomy)
    for place in places:
        blob = _blob(rng, place, rng.uniform(0.011, 0.018), 0.05)
        shapes["microaneurysm"].append((blob, rng.uniform(0.75, 1.0)))
    if background < 1.5:
        return shapes

    n = count((1.5, 2.5, 3.5), (4, 10, 30), least=2 if background < 2.5 else 10)
    for place in _places(rng, n, anatomy, all_quadrants=background >= 2.5):
        shapes["haemorrhage"].append((_haemorrhage(rng, place, anatomy), rng.uniform(0.7, 1.0)))
    for _ in range(count((1.5, 2.5, 3.5), (1.2, 2.5, 3.5))):
        shapes["hard_exudate"] += _exudates(rng, anatomy)
    for _ in range(count((1.8, 2.4, 2.6, 3.5), (0, 0.6, 2.5, 6))):
        place = _beside_arcade(rng, anatomy, 0.10)
        blob = _blob(rng, place, rng.uniform(0.032, 0.06), 0.18, rng.uniform(0.55, 0.9), rng.uniform(0, np.pi))
        shapes["cotton_wool_spot"].append((blob, rng.uniform(0.8, 1.0)))
    if severity < 3.5:
        return shapes

    extent = severity - 3.5
    tufts = rng.poisson(0.9 + 2.3 * extent)
    boat = rng.uniform() < 0.25 + 0.5 * extent
    for i in range(max(int(tufts), int(not boat))):
        on_disc = i == 0 and rng.uniform() < 0.5
        centre = anatomy.disc + rng.normal(0, 0.04, 2) if on_disc else _beside_arcade(rng, anatomy, 0.05)
        shapes["new_vessel"] += _tuft(rng, centre, rng.uniform(0.10, 0.16) * (1 + 0.4 * extent))
    if boat:
        shapes["preretinal_haemorrhage"].append((_boat(rng, rng.uniform(0.13, 0.22) * (1 + 0.5 * extent)), 1.0))
    return shapes


def draw_distractors(rng: Rng, anatomy: Anatomy) -> Shapes:
    """Draw harmless specks that any eye may show: a few drusen, and dust on the lens."""
    drusen = anatomy.fovea + rng.normal(0, 0.22, (rng.poisson(1.5), 2))
    dust = rng.uniform(-0.7, 0.7, (rng.poisson(0.8), 2))
    return {
        "drusen": [(_blob(rng, place, rng.uniform(0.010, 0.022), 0.1), rng.uniform(0.5, 1.0)) for place in drusen],
        "dust": [(_blob(rng, place, rng.uniform(0.03, 0.05), 0.1), rng.uniform(0.5, 1.0)) for place in dust],
    }


def _places(rng: Rng, n: int, anatomy: Anatomy, all_quadrants: bool = False) -> np.ndarray:
    """Sample n places (n, 2) on the retina, denser near the centre, off the optic disc and the large vessels."""
    candidates = 5 * n + 40
    radius = 0.9 * rng.uniform(0.01, 1, candidates) ** 0.6
    angle = rng.uniform(0, 2 * np.pi, candidates)
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    free = _norm(places - anatomy.disc) > 1.3 * anatomy.disc_radius
    trunks = anatomy.vessels.points[:10, ::2].reshape(-1, 2)
    free &= _norm(places[:, None] - trunks).min(axis=1) > 0.035
    places = places[free]
    if all_quadrants:
        # Cycle through the four quadrants: sort the places by their rank within their quadrant.
        quadrant = 2 * (places[:, 0] > 0) + (places[:, 1] > 0)
        turn = np.zeros(len(places))
        for q in range(4):
            turn[quadrant == q] = np.arange((quadrant == q).sum())
        places = places[np.argsort(turn, kind="stable")]
    return places[:n]


def _beside_arcade(rng: Rng, anatomy: Anatomy, distance: float) -> np.ndarray:
    """Sample a place (2,) near one of the temporal arcades."""
    arcade = anatomy.vessels.points[rng.choice([0, 1, 5, 6])]
    return arcade[rng.integers(5, POINTS - 8)] + rng.normal(0, distance / 2, 2)


def _blob(
    rng: Rng, centre: np.ndarray, radius: float, roughness: float, flatness: float = 1.0, tilt: float = 0.0
) -> np.ndarray:
    """Outline (20, 2) of a roundish spot; ``flatness`` is its axis ratio, ``tilt`` the angle of the long axis."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    harmonics = np.array([[2], [3], [5]])
    swing = np.cos(harmonics * angle + rng.uniform(0, 2 * np.pi, (3, 1))) * rng.normal(0, 2 * roughness / harmonics)
    r = radius * np.clip(1 + swing.sum(axis=0), 0.4, 1.8)
    x, y = r * np.cos(angle), flatness * r * np.sin(angle)
    return centre + np.stack([x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)], axis=1)


def _haemorrhage(rng: Rng, place: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Outline of a dot, a blot, or sometimes a flame along the nerve fibres, which run towards the optic disc."""
    kind = rng.uniform()
    if kind < 0.4:
        return _blob(rng, place, rng.uniform(0.016, 0.026), 0.06)
    if kind < 0.85:
        return _blob(rng, place, rng.uniform(0.026, 0.055), 0.16, rng.uniform(0.6, 1.0), rng.uniform(0, np.pi))
    tilt = np.arctan2(*(anatomy.disc - place)[::-1]) + rng.normal(0, 0.3)
    return _blob(rng, place, rng.uniform(0.045, 0.075), 0.12, 0.3, tilt)


def _exudates(rng: Rng, anatomy: Anatomy) -> list[tuple[np.ndarray, float]]:
    """A cluster of hard exudates near the macula, sometimes as part of a ring around a leak."""
    angle = rng.uniform(0, 2 * np.pi)
    centre = anatomy.fovea + rng.uniform(0.12, 0.42) * np.array([np.cos(angle), np.sin(angle)])
    n = int(rng.integers(8, 26))
    if rng.uniform() < 0.4:
        around = rng.uniform(0, 2 * np.pi) + rng.uniform(0, rng.uniform(2.0, 5.0), n)
        ring = rng.uniform(0.07, 0.14) + rng.normal(0, 0.012, n)
        places = centre + ring[:, None] * np.stack([np.cos(around), np.sin(around)], axis=1)
    else:
        places = centre + rng.normal(0, rng.uniform(0.025, 0.055), (n, 2))
    return [(_blob(rng, p, 0.006 + rng.exponential(0.006), 0.2), rng.uniform(0.7, 1.0)) for p in places]


def _tuft(rng: Rng, centre: np.ndarray, reach: float) -> list[tuple[np.ndarray, float]]:
    """A tangle of fine, curling new vessels around ``centre``."""
    k = int(rng.integers(8, 14))
    start = centre + rng.normal(0, 0.15 * reach, (k, 2))
    turn = rng.choice([-1, 1], k) * rng.uniform(2.0, 6.0, k)
    lines = _walk(rng, start, rng.uniform(0, 2 * np.pi, k), rng.uniform(1.2, 2.6, k) * reach, turn, 0.25)
    outlines = ribbon(lines, np.broadcast_to(rng.uniform(0.005, 0.009, (k, 1)), lines.shape[:2]))
    return [(outline, 0.9) for outline in outlines]


def _boat(rng: Rng, half_width: float) -> np.ndarray:
    """Outline (24, 2) of a boat-shaped pre-retinal haemorrhage, with a level upper edge and a round lower edge."""
    angle = np.linspace(0, np.pi, 24)
    keel = rng.uniform(0.55, 0.9) * half_width * np.sin(angle) ** 0.8
    side = np.array([rng.uniform(-0.45, 0.45), rng.choice([-1, 1]) * rng.uniform(0.25, 0.5)])
    return side + np.stack([half_width * np.cos(angle), keel], axis=1)
