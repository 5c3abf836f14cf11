"""Stability: effect of small image changes on the explanation and the prediction, next to the baseline's prediction."""

import contextlib
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from insightr_nb.analysis.deletion import predict
from insightr_nb.analysis.inference import Claim, effect, over_patients
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.metrics import top_prototypes, uncertainty
from insightr_nb.data.graham import GROUND
from insightr_nb.data.loading import augment
from insightr_nb.data.photograph import photograph, prepared
from insightr_nb.data.store import Store
from insightr_nb.errors import DataError
from insightr_nb.model.network import ResNetRegressor
from insightr_nb.settings import TrainingSettings

_DEGREES = 5


def _jpeg(image: np.ndarray, quality: int = 50) -> np.ndarray:
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]  # OpenCV's order is BGR
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]


def _affine(image: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    values = np.array(matrix, np.float64)
    return cv2.warpAffine(image, values, image.shape[:2], flags=cv2.INTER_LINEAR, borderValue=(GROUND,) * 3)


def _shift(image: np.ndarray, by: float = 0.015) -> np.ndarray:
    pixels = by * len(image)
    return _affine(image, [[1, 0, pixels], [0, 1, pixels]])


def _shear(image: np.ndarray, by: float = 0.1) -> np.ndarray:
    return _affine(image, [[1, by, -by * (len(image) - 1) / 2], [0, 1, 0]])


def _mirror(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def _rotate(image: np.ndarray, degrees: float = _DEGREES) -> np.ndarray:
    return augment(image, degrees, 1, GROUND)


def _brighter(image: np.ndarray, by: float = 1.15) -> np.ndarray:
    return np.clip(image * by, 0, 255).astype(np.uint8)


JPEG = "JPEG quality 50"
ROTATION = f"rotation by {_DEGREES}°"
BRIGHTER = "15 % brighter"
CHANGES = {  # of the prepared image
    JPEG: _jpeg,
    "shift by 1.5 %": _shift,
    "shear by 10 %": _shear,
    "mirror image": _mirror,
    ROTATION: _rotate,
}
_OF_THE_PHOTOGRAPH = {BRIGHTER: _brighter}  # applied to the raw photograph: preparation removes most of it


def seen(settings: TrainingSettings) -> set[str]:
    """Changes that training also made to its images: the rotation, if `training.rotation` reaches so far."""
    return {ROTATION} if settings.rotation >= _DEGREES else set()


def changed_images(store: Store, row: int) -> dict[str, np.ndarray]:
    """The image of a row of the store, (size, size, 3) uint8, under each change.

    Brightness is changed in the raw photograph, and left out if that can no longer be read.
    """
    image = store.image(row)
    changed = {name: change(image) for name, change in CHANGES.items()}
    with contextlib.suppress(DataError):
        raw = photograph(store.table["source"][row], store.settings.size)
        changed |= {name: prepared(change(raw), store.settings) for name, change in _OF_THE_PHOTOGRAPH.items()}
    return changed


@torch.no_grad()
def measure(run: LoadedRun, rows: Sequence[int], baseline: ResNetRegressor | None = None) -> pd.DataFrame:
    """Effect of small changes of the image.

    Args:
        run: The run.
        rows: Rows of predictions.csv.
        baseline: Network of the baseline.

    Returns:
        One row per image and change, with columns change, seen (in training), image_id, patient_id, overlap (share of
        the five largest contributions that stay, by prototype), moved_labels (1-Wasserstein distance of the labels of
        these five before and after), moved and baseline_moved (|change of the prediction| of the run and of the
        baseline, NaN without one), and of the changed image prediction and spread (of the labels under the
        contributions). Labels and predictions are in the user's units.
    """
    table, patients, scale = run.predictions, run.patients, run.store.scale
    made_in_training = seen(run.settings.training)
    found = []
    for n in tqdm(rows, desc="stability", unit="image", leave=False, mininterval=1):
        row = run.store.row(table["image_id"][n])
        changed = changed_images(run.store, row)
        batch = np.stack([run.store.image(row), *changed.values()])
        output = run.network(run.network.inputs(torch.from_numpy(batch)))
        predictions = scale.to_user(output.prediction.cpu().double()).numpy()
        others = np.full(len(batch), np.nan) if baseline is None else predict(baseline, batch, scale)
        weights = output.weights.cpu().numpy()
        top, spreads = top_prototypes(weights), uncertainty(weights, run.labels)
        labels = np.sort(run.labels[top], axis=1)  # between as many labels, sorted pairs give the Wasserstein distance
        for i, name in enumerate(changed, start=1):
            found.append(
                {
                    "change": name,
                    "seen": name in made_in_training,
                    "image_id": table["image_id"][n],
                    "patient_id": patients[n],
                    "overlap": len(set(top[0]) & set(top[i])) / top.shape[1],
                    "moved_labels": np.abs(labels[i] - labels[0]).mean(),
                    "moved": abs(predictions[i] - predictions[0]),
                    "baseline_moved": abs(others[i] - others[0]),
                    "prediction": predictions[i],
                    "spread": spreads[i],
                }
            )
    return pd.DataFrame(found)


_MEASURES = ("overlap", "moved_labels", "moved", "baseline_moved")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise the result of `measure`, also of several folds with a column fold; intervals are over patients.

    Returns:
        One row per change, with columns change, seen, images, the means of overlap, moved_labels, moved and
        baseline_moved, each with its interval (overlap low, overlap high, ...), and ratio (moved / baseline_moved).
    """
    found = []
    for name, part in rows.groupby("change", sort=False):
        values = {"change": name, "seen": bool(part["seen"].all()), "images": part["image_id"].nunique()}
        for column in _MEASURES:
            mean = over_patients(part[column], part["patient_id"])
            values |= {column: mean.mean, f"{column} low": mean.low, f"{column} high": mean.high}
        found.append(values | {"ratio": values["moved"] / values["baseline_moved"]})
    return pd.DataFrame(found)


def claims(rows: pd.DataFrame, held_out_ratio: float = 0.0) -> list[Claim]:
    """Claims about the prediction, averaged over the changes that training did not make, and about the contributions.

    The first needs a baseline and is left out without one.

    Args:
        rows: Result of `measure`, or those of several folds with a column fold.
        held_out_ratio: n_validation / n_training of the folds.
    """
    found = []
    unseen = rows[~rows["seen"].astype(bool)].dropna(subset="baseline_moved")
    if len(unseen):
        keys = [key for key in ("fold", "image_id", "patient_id") if key in rows]
        means = unseen.groupby(keys, sort=False, as_index=False)[["moved", "baseline_moved"]].mean()
        less = effect(means["baseline_moved"] - means["moved"], means, held_out_ratio=held_out_ratio)
        moved, others = means[["moved", "baseline_moved"]].mean()
        text = "Small changes of the image, unseen in training, change the prediction less than the baseline's"
        found.append(Claim(text, (less,), f"by {moved:.3f}, the baseline's by {others:.3f}: {less[0]} less"))
    coded = rows[rows["change"] == JPEG]
    stay = effect(coded["overlap"], coded, null=0.5, held_out_ratio=held_out_ratio)
    text = f"At least half of the five largest contributions stay under {JPEG}"
    found.append(Claim(text, (stay,), f"{stay[0].text('.0%')} stay"))
    return found
