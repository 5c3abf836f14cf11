"""Explanation of the prediction for one image by a finished run."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from insightr_nb.analysis.geometry import Grid, grid, scaled_box
from insightr_nb.analysis.metrics import top_prototypes, uncertainty
from insightr_nb.data import display
from insightr_nb.data.photograph import prepared, prepared_file
from insightr_nb.data.store import Store, open_store, store_path
from insightr_nb.errors import DataError, RunError
from insightr_nb.files import given_path
from insightr_nb.model.network import INSightRNet
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training.checkpoint import load_model, settings_of


@dataclass(frozen=True)
class Explanation:
    """A prediction and its explanation; m prototypes on an H x W latent grid, labels in the user's units.

    prediction = sum(weights * prototype_labels) / sum(weights).
    """

    prediction: float
    weights: np.ndarray  # (m,) contributions w = s * r
    similarities: np.ndarray  # (m,) similarity of the nearest patch
    min_distances: np.ndarray  # (m,) squared
    maps: np.ndarray  # (m, H, W) squared distances of every patch
    cells: np.ndarray  # (m, 2) row and column of the nearest patch
    boxes: np.ndarray  # (m, 4) x0, y0, x1, y1 of that cell in the prepared image
    prototype_labels: np.ndarray  # (m,)
    prototype_sources: pd.DataFrame  # prototypes.csv: source patch of each prototype
    image: np.ndarray = field(repr=False)  # (size, size, 3) uint8 RGB, network input
    picture: np.ndarray = field(repr=False)  # (S, S, 3) uint8 RGB, at display size, for overlays
    target: float | None = None  # label, if the image belongs to the data set

    @property
    def shares(self) -> np.ndarray:
        """Contributions normalised to sum to 1: (m,)."""
        return self.weights / self.weights.sum(dtype=float)

    @property
    def uncertainty(self) -> float:
        """Standard deviation of the prototype labels weighted by the contributions, in the user's units."""
        return float(uncertainty(self.weights[None], self.prototype_labels)[0])

    def top(self, count: int = 5) -> np.ndarray:
        """Indices of the prototypes with the largest contributions, in descending order."""
        return top_prototypes(self.weights[None], count)[0]


@dataclass(frozen=True)
class LoadedRun:
    """A finished run with everything needed to explain images: settings, store, network and latent grid."""

    run: Run
    settings: RunSettings
    store: Store
    network: INSightRNet
    grid: Grid

    @property
    def path(self) -> Path:
        return self.run.path

    def __truediv__(self, name: str) -> Path:
        return self.run / name

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json."""
        return self.run.metrics

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """predictions.csv: one row per test image with image_id, target, prediction, ..."""
        return self.run.table("predictions.csv")

    @cached_property
    def prototypes(self) -> pd.DataFrame:
        """prototypes.csv: one row per prototype with prototype, label, image_id, row, col, x0, y0, x1, y1, ..."""
        return self.run.table("prototypes.csv")

    @cached_property
    def labels(self) -> np.ndarray:
        """Prototype labels: (m,) float64."""
        return self.prototypes["label"].to_numpy(float)

    @cached_property
    def weights(self) -> np.ndarray:
        """Contributions to the predictions of the test images: (N, m) float32, memory-mapped."""
        return self.run.array("weights.npy")

    @cached_property
    def distances(self) -> np.ndarray:
        """Squared distances of the test images' patches: (N, m, H, W) float32, memory-mapped."""
        return self.run.array("distances.npy")

    @cached_property
    def prototype_maps(self) -> np.ndarray:
        """Squared distances of the patches of each prototype's source image: (m, H, W) float32, memory-mapped."""
        return self.run.array("prototype_maps.npy")

    @property
    def display_grid(self) -> Grid:
        """Latent grid of the images at display size."""
        return self.grid.scaled(max(self.grid.size, display.SIZE))

    def display_image(self, image_id: str) -> np.ndarray:
        """Image of the data set at display size: (S, S, 3) uint8 RGB."""
        return display.display_image(self.store, self.store.row(image_id))

    def display_images(self, image_ids: Iterable[str]) -> list[np.ndarray]:
        """`display_image` of several images; images not yet in the cache are rendered in parallel."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.display_image, image_ids))

    def display_box(self, box) -> tuple[int, int, int, int]:
        """Convert a box x0, y0, x1, y1 from network pixels to display pixels."""
        return scaled_box(box, self.grid.size, self.display_grid.size)

    def similarity(self, distances: np.ndarray) -> np.ndarray:
        """Similarities of squared distances of any shape, with the network's similarity function."""
        return self.network.prototype_layer.similarity(torch.from_numpy(np.array(distances, np.float32))).numpy()


def load_run(run: Run | str | Path) -> LoadedRun:
    """Open a finished run with prototypes. Raises RunError that states what is missing and how to create it."""
    run = run if isinstance(run, Run) else Run(given_path(run))
    run.require_finished()
    model = run / "model.safetensors"
    return _load(run, model.stat().st_mtime_ns if model.exists() else 0)


@lru_cache(maxsize=4)
def _load(run: Run, _modified: int) -> LoadedRun:
    run.require_whole()
    settings = settings_of(run.manifest["settings"])
    network = load_model(run / "model.safetensors")
    if not network.explains:
        raise RunError(f"{run.path} is a run of variant {settings.variant!r}, which has no prototypes to explain with")
    store = open_store(store_path(settings.data, run.root))
    if store.fingerprint != run.manifest["data"]["store"]:
        raise RunError(f"{run.path} was trained on other data than {store.path} now holds; prepare or train again")
    return LoadedRun(run, settings, store, network, grid(network, store.images.shape[1]))


@torch.no_grad()
def explain(run: LoadedRun | Run | str | Path, image: str | Path | np.ndarray) -> Explanation:
    """Explain the prediction of a run for one image.

    `run` is a `Run`, the path of its folder, or the result of `load_run`. `image` is an image_id of the run's data set,
    the path of an image file (prepared like the data set), or an (H, W, 3) uint8 RGB photograph.

    Raises RunError for an unfinished run, DataError for an unusable image.
    """
    run = run if isinstance(run, LoadedRun) else load_run(run)
    pixels, picture, target = _pixels(run, image)
    output = run.network(run.network.inputs(torch.from_numpy(pixels)[None]))
    maps = output.distances[0].numpy()  # (m, H, W)
    cells = np.stack(np.unravel_index(maps.reshape(len(maps), -1).argmin(1), maps.shape[1:]), 1)  # (m, 2)
    sources = run.prototypes
    return Explanation(
        prediction=float(run.store.scale.to_user(output.prediction[0].double())),
        weights=output.weights[0].numpy(),
        similarities=output.similarities[0].numpy(),
        min_distances=output.min_distances[0].numpy(),
        maps=maps,
        cells=cells,
        boxes=np.array([run.grid.box(*cell) for cell in cells]),
        prototype_labels=run.labels,
        prototype_sources=sources,
        image=pixels,
        picture=picture,
        target=target,
    )


@dataclass(frozen=True)
class FoldsExplanation:
    """Explanations of one image by several runs, usually the folds: mean prediction and spread."""

    explanations: list[Explanation]

    @property
    def prediction(self) -> float:
        """Mean of the predictions, in the user's units."""
        return float(np.mean([e.prediction for e in self.explanations]))

    @property
    def spread(self) -> float:
        """Standard deviation of the predictions (n - 1), in the user's units; 0 for a single run."""
        return float(np.std([e.prediction for e in self.explanations], ddof=1)) if len(self.explanations) > 1 else 0.0


def explain_folds(some_runs: Sequence[Run | str | Path], image: str | Path | np.ndarray) -> FoldsExplanation:
    """Run `explain` with each run in turn. Raises RunError for an empty list, and all errors of `explain`."""
    if not some_runs:
        raise RunError("explain_folds: no run was given")
    return FoldsExplanation([explain(run, image) for run in some_runs])


def _pixels(run: LoadedRun, image: str | Path | np.ndarray) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Prepared image (size, size, 3) uint8, the same at display size, and its label if it belongs to the data set."""
    settings = run.store.settings
    larger = display.display_settings(settings)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"image: an H x W x 3 uint8 RGB array is expected, not {image.shape} {image.dtype}")
        pixels = prepared(image, settings)
        return pixels, pixels if larger == settings else prepared(image, larger), None
    if not isinstance(image, str | Path):
        raise DataError(
            f"image = {image!r}: must be an image_id, a path or an array. papermill turns digits into a "
            "number; -r image 007 hands over the text"
        )
    if (run.store.table["image_id"] == str(image)).any():
        row = run.store.row(str(image))
        return run.store.image(row), run.display_image(str(image)), float(run.store.table["label"][row])
    image = given_path(image)
    if not image.is_file():
        example = run.store.table["image_id"].iloc[0]
        raise DataError(
            f"image {str(image)!r}: neither an image_id of {run.store.path.name} (such as {example!r}) "
            "nor an image file"
        )
    pixels = prepared_file(image, settings)
    return pixels, pixels if larger == settings else prepared_file(image, larger), None


def typical(predictions: pd.DataFrame) -> list[str]:
    """Test images of median error in the low, middle and high third of the labels: three, or fewer."""
    test = predictions.sort_values("target", kind="stable")
    test = test.assign(error=(test["prediction"] - test["target"]).abs())
    thirds = [test.iloc[rows].sort_values("error", kind="stable") for rows in np.array_split(np.arange(len(test)), 3)]
    return [third["image_id"].iloc[len(third) // 2] for third in thirds if len(third)]
