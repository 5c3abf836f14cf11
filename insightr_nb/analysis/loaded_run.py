"""A finished run opened for analysis: its settings, store, network, latent grid and result files."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from insightr_nb.analysis import familiarity
from insightr_nb.analysis.familiarity import Reference
from insightr_nb.analysis.geometry import Grid, grid, scaled_box
from insightr_nb.data import display
from insightr_nb.data.store import Store, open_store, store_path
from insightr_nb.errors import RunError
from insightr_nb.files import given_path
from insightr_nb.model.network import INSightRNet
from insightr_nb.model.prototypes import importance
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import hardware
from insightr_nb.training.checkpoint import load_model, settings_of


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

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

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
    def patients(self) -> np.ndarray:
        """Patient of each test image: (N,) strings. An image that the store lacks counts as a patient of its own."""
        return self.store.patients(self.predictions["image_id"])

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

    def nearest_of(self, part: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Squared distances of each image's nearest patches (n, m) float32, and targets (n,), every image once.

        part: "training" or "validation". Targets are those of the training, drawn ones for continuous labels. None for
        a run that was evaluated by an older version.
        """
        names = (f"distances_{part}.npy", f"targets_{part}.npy")
        return tuple(map(self.run.array, names)) if all((self / name).exists() for name in names) else None

    @cached_property
    def similarities(self) -> np.ndarray:
        """Similarities of the test images' nearest patches: (N, m) float32."""
        return self.similarity(np.min(self.distances, axis=(2, 3)))

    @cached_property
    def on_ground(self) -> np.ndarray | None:
        """Whether the test images' nearest patches are cells of mostly grey background: (N, m) bool.

        None where that is unknown: images prepared by "resize" have no grey background, and a run imported from a zip
        has only some of its images. Reads the images once.
        """
        if self.store.partial or self.store.settings.preparation == "resize":
            return None
        rows = pd.Index(self.store.table["image_id"]).get_indexer(self.predictions["image_id"])
        parts = []
        for chosen in np.array_split(np.arange(len(rows)), max(1, len(rows) // 30)):
            images = torch.from_numpy(np.array(self.store.images[rows[chosen]]))
            distances = self.distances[chosen]  # (B, m, H, W)
            ground = self.network.ground_cells(self.network.inputs(images), distances.shape[2])  # (B, H, W)
            cells = distances.reshape(*distances.shape[:2], -1).argmin(2)  # (B, m)
            parts.append(np.take_along_axis(ground.flatten(1).cpu().numpy(), cells, axis=1))
        return np.concatenate(parts)

    @cached_property
    def importance(self) -> np.ndarray:
        """Importance scores r = theta^2 / label of the prototypes: (m,) float64."""
        last = self.network.last_layer
        return importance(last.theta, last.labels).detach().cpu().numpy().astype(float)

    @cached_property
    def twins(self) -> list[tuple[int, ...]]:
        """Groups of at least two prototypes with the same source patch."""
        return [numbers for numbers in by_patch(self.prototypes) if len(numbers) > 1]

    @cached_property
    def reference(self) -> Reference | None:
        """Statistics of usual images; None for a run that was evaluated by an older version."""
        if not all((self / name).exists() for name in familiarity.FILES):
            return None
        return Reference.of(*(self.run.array(name) for name in familiarity.FILES))

    def familiarity(self, image: np.ndarray) -> float | None:
        """Share of the validation images as unlike the training images as this one, (size, size, 3) uint8."""
        if self.reference is None:
            return None
        values = familiarity.channel_statistics(self.network, torch.from_numpy(image)[None])
        return float(self.reference.familiarity(values.cpu().numpy())[0])

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

    def display_box(self, box: Iterable[float]) -> tuple[int, int, int, int]:
        """Convert a box x0, y0, x1, y1 from network pixels to display pixels."""
        return scaled_box(box, self.grid.size, self.display_grid.size)

    def similarity(self, distances: np.ndarray) -> np.ndarray:
        """Similarities of squared distances of any shape, with the network's similarity function."""
        return self.network.prototype_layer.similarity(torch.from_numpy(np.array(distances, np.float32))).numpy()


def by_patch(prototypes: pd.DataFrame) -> list[tuple[int, ...]]:
    """Group the prototypes of prototypes.csv by their source patch; numbers and groups in ascending order."""
    groups: dict[tuple, list[int]] = {}
    columns = prototypes[["prototype", "image_id", "row", "col"]]
    for number, *patch in columns.itertuples(index=False, name=None):
        groups.setdefault(tuple(patch), []).append(int(number))
    return sorted(tuple(sorted(numbers)) for numbers in groups.values())


def load_run(run: Run | str | Path, device: str = "auto") -> LoadedRun:
    """Open a finished run with prototypes.

    Args:
        run: The run, or its folder.
        device: Device of the network: "auto" (CUDA if present, else the CPU), "cpu", "cuda", "cuda:1" or "mps". TF32 is
            disabled, so that a prototype equals its patch on every device.

    Raises:
        RunError: If the run is not finished, damaged or without prototypes; states how to make it.
        SettingsError: If the machine has no such device.
    """
    run = run if isinstance(run, Run) else Run(given_path(run))
    run.require_finished()
    paths = (run / "manifest.json", run / "model.safetensors")
    modified = tuple(path.stat().st_mtime_ns for path in paths if path.exists())
    return _load(run, modified, hardware.choose_device(device))


@lru_cache(maxsize=8)  # the folds of a variant, explained one after the other
def _load(run: Run, _modified: tuple[int, ...], device: torch.device) -> LoadedRun:
    run.require_whole()
    settings = settings_of(run.manifest["settings"])
    hardware.make_deterministic(device)
    network = load_model(run / "model.safetensors", device)
    if not network.explains:
        raise RunError(
            f"{run.path} is a run of variant {settings.variant!r}, which has no prototypes, so it cannot be explained"
        )
    store = open_store(store_path(settings.data, run.root))
    if store.fingerprint != run.manifest["data"]["store"]:
        raise RunError(
            f"{run.path} was trained on different data from {store.path}; prepare the original data or train again"
        )
    return LoadedRun(run, settings, store, network, grid(network, store.images.shape[1]))
