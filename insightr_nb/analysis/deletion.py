"""Faithfulness by deletion: does removing the patches with the largest contributions change the prediction most?

Samek et al., "Evaluating the visualization of what a deep neural network has learned", 2017. The order by contribution
is compared with two controls over the same patches: random orders, and an order by contrast that needs no network.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from insightr_nb.analysis import tracing
from insightr_nb.analysis.inference import Claim, Estimate, effect, over_patients
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.data.graham import GROUND
from insightr_nb.model.network import Regressor
from insightr_nb.settings import LabelScale

CONTROLS = ("random", "contrast")
ORDERS = ("contribution", *CONTROLS)
FILLS = ("grey", "blurred")
BLUR = 1 / 8  # sigma of the blurred fill, as a share of the image's side


def completeness(run: LoadedRun) -> float:
    """Largest absolute difference between a prediction and the weighted mean of its stored contributions.

    An identity of the model (Eq. 2): it checks the files of the run, and does not test the explanation.
    """
    weights = np.array(run.weights, float)
    labels = run.labels
    made = (weights * labels).sum(1) / weights.sum(1)
    return float(np.abs(made - run.predictions["prediction"]).max())


def evidence(weights: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Sum the contributions of all prototypes of one image at their matching cells.

    weights: (m,); distances: (m, H, W). Returns (H, W), which sums to the sum of the weights.
    """
    cells = distances.reshape(len(distances), -1).argmin(1)
    sums = np.bincount(cells, weights=np.asarray(weights, float), minlength=distances[0].size)
    return sums.reshape(distances.shape[1:])


def filling(image: np.ndarray, fill: str) -> np.ndarray:
    """Content of removed patches, as an image of the same shape (size, size, 3) uint8.

    fill: "grey" for the grey level of the background, "blurred" for the image after a Gaussian filter of `BLUR`. The
    preparation subtracts the local mean, so the two look alike, but cells of exact background cannot match a prototype
    where the setting `skip_ground` is on: grey excludes a cell, and blurred leaves plain retina.
    """
    if fill == "grey":
        return np.full_like(image, GROUND)
    return cv2.GaussianBlur(image, (0, 0), len(image) * BLUR)


def removals(image: np.ndarray, boxes: Sequence[tuple[int, int, int, int]], filled: np.ndarray) -> np.ndarray:
    """Replace boxes one after the other: (len(boxes), size, size, 3), the last one with all boxes replaced.

    Args:
        image: (size, size, 3).
        boxes: x0, y0, x1, y1 of each box, x1 and y1 exclusive.
        filled: Image that the boxes are taken from, (size, size, 3).
    """
    steps = np.repeat(image[None], len(boxes), axis=0)
    for step, (x0, y0, x1, y1) in enumerate(boxes):
        steps[step:, y0:y1, x0:x1] = filled[y0:y1, x0:x1]
    return steps


@torch.no_grad()
def predict(network: Regressor, images: np.ndarray, scale: LabelScale, batch: int = 32) -> np.ndarray:
    """Predict prepared images.

    Args:
        network: INSightR-Net or a baseline.
        images: (N, size, size, 3) uint8.
        scale: Label scale of the data.
        batch: Images per batch.

    Returns:
        (N,) predictions in the user's units.
    """
    parts = [
        network.prediction(network(network.inputs(torch.from_numpy(images[i : i + batch]))))
        for i in range(0, len(images), batch)
    ]
    return scale.to_user(torch.cat(parts).cpu().double()).numpy()


def measure(run: LoadedRun, rows: Sequence[int], steps: int = 8, randoms: int = 3, seed: int = 0) -> pd.DataFrame:
    """Deletion curves: remove patches one after the other, in each of `ORDERS`, replaced by each of `FILLS`.

    Only cells that show more image than background are removed, in every order: random patches lie inside the disc.
    Contrast is the mean of `tracing.contrast` in the box of a cell.

    Args:
        run: The run.
        rows: Rows of predictions.csv.
        steps: Maximum number of removed patches.
        randoms: Number of random orders, whose changes are averaged.
        seed: Seed of the random orders.

    Returns:
        One row per image, fill, order and number of removed patches, with columns image_id, patient_id, fill, order,
        removed, change (|prediction - prediction of the whole image|, in the user's units) and removable (share of the
        contributions in removable cells). An image without such cells is left out.
    """
    table, patients = run.predictions, run.patients
    rng = np.random.default_rng(seed)
    found = []
    for n in tqdm(rows, desc="deletion", unit="image", leave=False, mininterval=1):
        image = run.store.image(run.store.row(table["image_id"][n]))
        sums = evidence(run.weights[n], run.distances[n])  # (H, W)
        boxes = [run.grid.box(*cell) for cell in np.ndindex(*sums.shape)]
        cells = np.flatnonzero([_shows_image(image[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes])
        if not len(cells):
            continue
        pixels = tracing.contrast(image)
        contrast = np.array([pixels[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in boxes])
        sequences = {
            "contribution": [_descending(sums.ravel(), cells, rng)],
            "contrast": [_descending(contrast, cells, rng)],
            "random": [rng.permutation(cells) for _ in range(randoms)],
        }
        whole = predict(run.network, image[None], run.store.scale)
        for fill in FILLS:
            filled = filling(image, fill)
            for order in ORDERS:
                images = [removals(image, [boxes[i] for i in each[:steps]], filled) for each in sequences[order]]
                predictions = predict(run.network, np.concatenate(images), run.store.scale)
                change = np.abs(predictions - whole).reshape(len(images), -1).mean(0)
                found += [
                    {
                        "image_id": table["image_id"][n],
                        "patient_id": patients[n],
                        "fill": fill,
                        "order": order,
                        "removed": removed,
                        "change": value,
                        "removable": float(sums.flat[cells].sum() / sums.sum()),
                    }
                    for removed, value in enumerate([0.0, *change])
                ]
    return pd.DataFrame(found)


def _descending(values: np.ndarray, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order cells (n,) by their values, largest first and ties at random."""
    mixed = rng.permutation(cells)
    return mixed[np.argsort(-values[mixed], kind="stable")]


def _shows_image(pixels: np.ndarray) -> bool:
    """Whether more than half of these pixels (h, w, 3) differ from the grey background."""
    return bool((pixels != GROUND).any(axis=2).mean() > 0.5)


def per_image(curves: pd.DataFrame) -> pd.DataFrame:
    """Average the curves of `measure` over the steps.

    Returns:
        One row per image, fill and order, with columns image_id, patient_id, fill, order, change (mean over the numbers
        of removed patches from 1) and removable.
    """
    keys = ["image_id", "patient_id", "fill", "order"]
    removed = curves[curves["removed"] > 0].groupby(keys, sort=False, as_index=False)
    return removed.agg(change=("change", "mean"), removable=("removable", "first"))


def _differences(rows: pd.DataFrame, fill: str, control: str) -> tuple[pd.Series, pd.DataFrame]:
    keys = [key for key in ("fold", "image_id", "patient_id") if key in rows]
    wide = rows[rows["fill"] == fill].pivot(index=keys, columns="order", values="change").reset_index()
    return wide["contribution"] - wide[control], wide


def gap(rows: pd.DataFrame, fill: str, control: str, held_out_ratio: float = 0.0) -> tuple[Estimate, ...]:
    """Difference of the mean change between the order by contribution and a control; above 0 is faithful.

    Args:
        rows: Result of `per_image`, or those of several folds with a column fold.
        fill: One of `FILLS`.
        control: One of `CONTROLS`.
        held_out_ratio: n_validation / n_training of the folds.

    Returns:
        The estimates of `inference.effect`.
    """
    return effect(*_differences(rows, fill, control), held_out_ratio=held_out_ratio)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise the result of `per_image`, also of several folds with a column fold; intervals are over patients.

    Returns:
        One row per fill and order, with columns fill, order, images, change, change low, change high, gap (mean change
        by contribution minus that of this order), gap low, gap high and removable.
    """
    found = []
    for (fill, order), part in rows.groupby(["fill", "order"], sort=False):
        mean = over_patients(part["change"], part["patient_id"])
        values = {"change": mean.mean, "change low": mean.low, "change high": mean.high}
        if order in CONTROLS:
            differences, wide = _differences(rows, fill, order)
            between = over_patients(differences, wide["patient_id"])
            values |= {"gap": between.mean, "gap low": between.low, "gap high": between.high}
        known = {"fill": fill, "order": order, "images": part["image_id"].nunique()}
        found.append(known | values | {"removable": part["removable"].mean()})
    return pd.DataFrame(found)


def claims(rows: pd.DataFrame, held_out_ratio: float = 0.0) -> list[Claim]:
    """One claim per fill: removal by contribution changes the prediction more than both controls.

    rows: Result of `per_image`, also of several folds with a column fold. held_out_ratio: as in `inference.effect`.
    """
    found = []
    for fill in FILLS:
        gaps = [gap(rows, fill, control, held_out_ratio) for control in CONTROLS]
        text = (
            "Removing the patches with the largest contributions changes the prediction more than removing random ones "
            f"or those of the highest contrast ({fill} fill)"
        )
        figures = "; ".join(f"{each[0]} against {control}" for control, each in zip(CONTROLS, gaps, strict=True))
        found.append(Claim(text, tuple(gaps), figures))
    return found
