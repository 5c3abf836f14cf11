"""Evaluation of explanations: faithfulness, stability, uncertainty, and quality of the prototypes.

Localisation on lesions is evaluated in `lesions`.
"""

import contextlib
import copy

import cv2
import numpy as np
import pandas as pd
import torch
from scipy import stats

from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.metrics import interval, top_prototypes, uncertainty
from insightr_nb.data.graham import GROUND
from insightr_nb.data.loading import augment
from insightr_nb.data.photograph import photograph, prepared
from insightr_nb.errors import DataError

# -- faithfulness -----------------------------------------------------------------------------------------------------


def completeness(run: LoadedRun) -> float:
    """Largest absolute difference between a prediction and the weighted mean of its stored contributions."""
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


def removed(image: np.ndarray, boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Copy of an image (size, size, 3) with these boxes filled with the grey background."""
    copy = image.copy()
    for x0, y0, x1, y1 in boxes:
        copy[y0:y1, x0:x1] = GROUND
    return copy


@torch.no_grad()
def predict(run: LoadedRun, images: np.ndarray, batch: int = 32) -> np.ndarray:
    """Predict prepared images.

    Args:
        run: The run.
        images: (N, size, size, 3) uint8.
        batch: Images per batch.

    Returns:
        (N,) predictions in the user's units.
    """
    parts = [
        run.network(run.network.inputs(torch.from_numpy(images[i : i + batch]))).prediction
        for i in range(0, len(images), batch)
    ]
    return run.store.scale.to_user(torch.cat(parts).cpu().double()).numpy()


def deletion(run: LoadedRun, rows: np.ndarray, steps: int = 8, seed: int = 0) -> pd.DataFrame:
    """Deletion curves: remove patches step by step, by largest contribution and in random order of the same cells.

    A faithful explanation changes the prediction faster than the random order. Only cells that show more image than
    background can be removed.

    Args:
        run: The run.
        rows: Rows of predictions.csv.
        steps: Maximum number of removed patches.
        seed: Seed of the random order.

    Returns:
        Columns image_id, order ("contribution" or "random"), removed (number of patches), change (|prediction -
        prediction of the whole image|) and removable (share of the contributions in removable cells).
    """
    table = run.predictions
    weights, distances = run.weights, run.distances
    rng = np.random.default_rng(seed)
    found = []
    for n in rows:
        image = run.store.image(run.store.row(table["image_id"][n]))
        sums = evidence(weights[n], distances[n])
        boxes = [run.grid.box(*cell) for cell in np.ndindex(*sums.shape)]
        shown = [i for i, (x0, y0, x1, y1) in enumerate(boxes) if (image[y0:y1, x0:x1] != GROUND).mean() > 0.5]
        removable = float(sums.flat[shown].sum() / sums.sum())
        best = sorted(rng.permutation(shown), key=lambda i: -sums.flat[i])  # ties in random order
        for order, cells in (("contribution", best), ("random", list(rng.permutation(shown)))):
            counts = np.arange(min(steps, len(cells)) + 1)
            changed = predict(run, np.stack([removed(image, [boxes[i] for i in cells[:k]]) for k in counts]))
            found += [
                {
                    "image_id": table["image_id"][n],
                    "order": order,
                    "removed": int(k),
                    "change": abs(p - changed[0]),
                    "removable": removable,
                }
                for k, p in zip(counts, changed, strict=True)
            ]
    return pd.DataFrame(found)


def area_between(curves: pd.DataFrame) -> tuple[float, float, float]:
    """Mean difference between the two deletion curves of an image, with its interval; positive means faithful."""
    wide = curves[curves["removed"] > 0].pivot_table(index="image_id", columns="order", values="change")
    return interval((wide["contribution"] - wide["random"]).to_numpy())


# -- stability --------------------------------------------------------------------------------------------------------


def _shift(image: np.ndarray, by: float = 0.015) -> np.ndarray:
    pixels = by * len(image)
    matrix = np.array([[1, 0, pixels], [0, 1, pixels]], np.float64)
    return cv2.warpAffine(image, matrix, image.shape[:2], flags=cv2.INTER_LINEAR, borderValue=(GROUND,) * 3)


def _rotate(image: np.ndarray, degrees: float = 5) -> np.ndarray:
    return augment(image, degrees, 1, GROUND)


def _jpeg(image: np.ndarray, quality: int = 50) -> np.ndarray:
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]  # OpenCV's order is BGR
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]


def _brighter(image: np.ndarray, by: float = 1.15) -> np.ndarray:
    return np.clip(image * by, 0, 255).astype(np.uint8)


CHANGES = {"JPEG quality 50": _jpeg, "shift by 1.5 %": _shift, "rotation by 5°": _rotate}  # of the prepared image
BRIGHTER = "15 % brighter"
_OF_THE_PHOTOGRAPH = {BRIGHTER: _brighter}  # applied to the raw photograph: preparation removes most of it


@torch.no_grad()
def stability(run: LoadedRun, rows: np.ndarray) -> pd.DataFrame:
    """Effect of small image changes: change, image_id, overlap of the top 5 (0 to 1), and moved (|prediction change|).

    Brightness is changed in the raw photograph. Images whose photograph can no longer be read have no such row.
    """
    table = run.predictions
    found = []
    for n in rows:
        row = run.store.row(table["image_id"][n])
        image = run.store.image(row)
        changed = {name: change(image) for name, change in CHANGES.items()}
        with contextlib.suppress(DataError):
            raw = photograph(run.store.table["source"][row], run.store.settings.size)
            changed |= {n: prepared(change(raw), run.store.settings) for n, change in _OF_THE_PHOTOGRAPH.items()}
        batch = np.stack([image, *changed.values()])
        output = run.network(run.network.inputs(torch.from_numpy(batch)))
        predictions = run.store.scale.to_user(output.prediction.cpu().double()).numpy()
        top = top_prototypes(output.weights.cpu().numpy())
        for i, name in enumerate(changed, start=1):
            found.append(
                {
                    "change": name,
                    "image_id": table["image_id"][n],
                    "overlap": len(set(top[0]) & set(top[i])) / top.shape[1],
                    "moved": abs(predictions[i] - predictions[0]),
                }
            )
    return pd.DataFrame(found)


# -- prototype quality ------------------------------------------------------------------------------------------------


def audit(run: LoadedRun, near: float = 0.01) -> pd.DataFrame:
    """Audit the prototypes: label, image_id, source_label, gap, twins, background and used, in the order of the labels.

    gap is |label - label of the source image|. twins counts the other prototypes from the same patch, or nearer than
    `near` times the median distance between prototypes. background is the share of the box that is grey background.
    used is the share of the test images with the prototype in the top 5.
    """
    table = run.prototypes
    vectors = run.network.prototype_layer.vectors.detach().cpu().double()
    between = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    limit = near * np.median(between[np.triu_indices(len(between), 1)])
    same = (between <= limit).sum(1) - 1
    top = top_prototypes(run.weights)
    rows = [run.store.row(i) for i in table["image_id"]]
    sources = run.store.table["label"].to_numpy(float)[rows]
    ground = [
        (run.store.image(row)[p.y0 : p.y1, p.x0 : p.x1] == GROUND).all(axis=2).mean()
        for row, p in zip(rows, table.itertuples(), strict=True)
    ]
    return table[["prototype", "label", "image_id"]].assign(
        source_label=sources,
        gap=np.abs(table["label"] - sources),
        twins=same,
        background=ground,
        used=[(top == j).any(axis=1).mean() for j in table["prototype"]],
    )


def warnings(table: pd.DataFrame, unit: float = 1.0) -> list[str]:
    """Describe the problems that an `audit` reveals; empty if none. unit: size of one grade in the labels' units."""
    found = []

    def add(rows: pd.DataFrame, text: str) -> None:
        if len(rows):
            listed = ", ".join(f"#{p}" for p in rows["prototype"][:8]) + (" ..." if len(rows) > 8 else "")
            found.append(f"{len(rows)} of {len(table)} prototypes {text}: {listed}")

    add(table[table["twins"] > 0], "have a twin: they show the same patch, so the explanation repeats itself")
    add(table[table["gap"] > 1.5 * unit], "carry a label more than 1.5 grades away from their source image")
    add(table[table["background"] > 0.5], "lie mostly outside the disc: they cannot show a lesion")
    add(table[table["used"] == 0], "are never among the top 5 of a test image")
    return found


# -- uncertainty ------------------------------------------------------------------------------------------------------


def referral(errors: np.ndarray, unsure: np.ndarray) -> pd.DataFrame:
    """Risk-coverage curve: MAE of the retained images against the share referred to a human.

    errors: (N,) absolute errors. unsure: (N,) uncertainties, larger is less certain. Returns columns referred (share),
    by uncertainty, best possible (ordered by the error itself) and chance (the MAE of all images).
    """
    by_uncertainty = np.asarray(errors, float)[np.argsort(unsure, kind="stable")]
    best = np.sort(errors)
    kept = np.arange(len(errors), 0, -1)
    return pd.DataFrame(
        {
            "referred": 1 - kept / len(errors),
            "by uncertainty": (by_uncertainty.cumsum() / np.arange(1, len(errors) + 1))[::-1],
            "best possible": (best.cumsum() / np.arange(1, len(errors) + 1))[::-1],
            "chance": np.mean(errors),
        }
    )


def certainty(run: LoadedRun) -> dict[str, float]:
    """Spearman correlation of uncertainty and error with its p value, and MAE without the least certain 20 %."""
    table = run.predictions
    labels = run.labels
    unsure = uncertainty(run.weights, labels)
    errors = (table["prediction"] - table["target"]).abs().to_numpy()
    rank = stats.spearmanr(unsure, errors)
    curve = referral(errors, unsure)
    kept = curve.iloc[int(0.2 * len(curve))]
    return {
        "correlation": float(rank.statistic),
        "p": float(rank.pvalue),
        "MAE of all": float(errors.mean()),
        "MAE without the least certain fifth": float(kept["by uncertainty"]),
    }


# -- effect of frozen BatchNorm ---------------------------------------------------------------------------------------


@torch.no_grad()
def drift_of_prototypes(run: LoadedRun, images: np.ndarray, epochs: int, moving: bool) -> list[float]:
    """Mean squared distance of the prototypes to their own patches after each of `epochs` passes over `images`.

    The run itself is not modified.

    Args:
        run: The run.
        images: (N, size, size, 3) uint8.
        epochs: Number of passes.
        moving: Update BatchNorm statistics, as in the published code's last-layer stage; otherwise they are frozen.

    Returns:
        `epochs` + 1 distances, the first before any pass.
    """
    network = copy.deepcopy(run.network).eval()
    if moving:
        network.backbone.train()
    table = run.prototypes
    sources = np.stack([run.store.image(run.store.row(i)) for i in table["image_id"]])
    found = []
    for epoch in range(epochs + 1):
        if epoch:
            for start in range(0, len(images), 30):
                network.backbone(network.inputs(torch.from_numpy(images[start : start + 30])))
        was = network.backbone.training
        network.eval()
        latent = torch.cat(
            [network.latent(network.inputs(torch.from_numpy(sources[i : i + 10]))) for i in range(0, len(sources), 10)]
        )
        rows, columns = torch.tensor(table["row"].tolist()), torch.tensor(table["col"].tolist())
        patches = latent[torch.arange(len(table)), :, rows, columns]  # (m, C)
        found.append(float((patches - network.prototype_layer.vectors).square().sum(1).mean()))
        network.backbone.train(was)
    return found
