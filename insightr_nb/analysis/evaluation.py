"""Evaluation of the selected model on the test set, and all result files of a run."""

from pathlib import Path

import numpy as np
import torch

from insightr_nb import files
from insightr_nb.analysis import familiarity, metrics
from insightr_nb.analysis.geometry import grid
from insightr_nb.data.folds import FoldData, fold_data
from insightr_nb.data.loading import InOrder, Subset, batches
from insightr_nb.model.network import INSightRNet, Output, Regressor
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import checkpoint, hardware

TOP = 5  # prototypes listed per prediction, and latent patches stored per image
NEAREST = tuple(f"{kind}_{part}.npy" for kind in ("distances", "targets") for part in ("training", "validation"))


def evaluate(run: Run, settings: RunSettings) -> dict:
    """Evaluate a trained run on the test set and mark it finished; a finished run is not evaluated again.

    Writes predictions.csv and metrics.json; for a network with prototypes also weights.npy, distances.npy,
    nearest_latents.npy, the boxes in prototypes.csv, and for the training and validation images the statistics of
    `familiarity`, the `nearest_distances` and their targets, which are also added to a finished run of an older
    version. Runs in float32; results are in the user's units. Returns the metrics.
    """
    with files.exclusive_lock(run.path):
        if run.state == "finished" and (run / "metrics.json").exists():  # Snakemake deletes outputs before rerunning
            run.require_whole()
            lacking = {*familiarity.FILES, *NEAREST} - run.manifest["files"].keys()
            if settings.explains and lacking:
                _add_subsets(run, settings, lacking)
            return run.metrics
        _evaluate(run, settings)
    return run.metrics


def _evaluate(run: Run, settings: RunSettings) -> None:
    device = hardware.choose_device(settings.device)
    run.require_whole("model.safetensors")
    with run.working(), hardware.memory_errors(settings):
        hardware.make_deterministic(device)
        network = checkpoint.load_model(run / "model.safetensors", device)
        data = fold_data(settings)
        data.store.check()
        predictions, outputs = _predict(network, data.test, data, settings, device)
        targets = data.store.table["label"].to_numpy(float)[data.test.rows]
        ids = data.store.table["image_id"].to_numpy()[data.test.rows]
        write_predictions(run / "predictions.csv", ids, targets, predictions, outputs.get("weights"))
        if outputs:
            for name in ("weights", "distances", "nearest_latents"):
                files.write_array(run / f"{name}.npy", outputs[name])
            _add_boxes(run, network, data.store.images.shape[1])
            _write_subsets(run, network, data, {*familiarity.FILES, *NEAREST})
        files.write_json(run / "metrics.json", _metrics(network, data, predictions, targets, outputs))
        run.record()
    run.update(state="finished", error=None)


def _add_subsets(run: Run, settings: RunSettings, names: set[str]) -> None:
    device = hardware.choose_device(settings.device)
    hardware.make_deterministic(device)
    _write_subsets(run, checkpoint.load_model(run / "model.safetensors", device), fold_data(settings), names)
    run.record()


def _write_subsets(run: Run, network: INSightRNet, data: FoldData, names: set[str]) -> None:
    """Write those of `names` among the statistics, nearest distances and targets of training and validation images."""
    to_user = data.store.scale.to_user
    for part, subset in (("training", data.training.once()), ("validation", data.validation.once())):
        for kind, compute in (
            ("statistics", familiarity.statistics),
            ("distances", nearest_distances),
            ("targets", lambda _, subset: to_user(subset.targets.astype(float))),
        ):
            if (name := f"{kind}_{part}.npy") in names:
                files.write_array(run / name, compute(network, subset))


@torch.no_grad()
def nearest_distances(network: INSightRNet, subset: Subset, batch_size: int = 30) -> np.ndarray:
    """Squared distance of the nearest patch of every image, un-augmented, to each prototype: (n, m) float32."""
    parts = []
    for images, _ in batches(InOrder(subset), batch_size, network.mean.device):
        parts.append(network(network.inputs(images)).min_distances.cpu())  # (B, m)
    return torch.cat(parts).numpy()


def validation_metrics(run: Run, settings: RunSettings) -> dict:
    """Metrics of a trained run on the validation subset of its fold, for choosing settings; writes nothing.

    Targets are the original labels, even where training uses drawn continuous ones. Raises RunError for a damaged
    model.
    """
    device = hardware.choose_device(settings.device)
    hardware.make_deterministic(device)
    network = checkpoint.load_model(run.require_whole("model.safetensors") / "model.safetensors", device)
    data = fold_data(settings)
    predictions, outputs = _predict(network, data.validation, data, settings, device)
    targets = data.store.table["label"].to_numpy(float)[data.validation.rows]
    return _metrics(network, data, predictions, targets, outputs)


def _metrics(
    network: Regressor, data: FoldData, predictions: np.ndarray, targets: np.ndarray, outputs: dict[str, np.ndarray]
) -> dict:
    scale, labels = data.store.scale, None
    if network.explains:
        labels = scale.to_user(network.prototype_labels.cpu().double().numpy())
    on_ground = None if data.store.settings.preparation == "resize" else outputs.get("on_ground")  # no grey background
    explained = outputs.get("weights"), labels, on_ground
    return metrics.summary(predictions, targets, scale, data.store.grades, *explained)


@torch.no_grad()
def _predict(
    network: Regressor, subset: Subset, data: FoldData, settings: RunSettings, device: torch.device
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Predictions (N,) of a subset in the user's units, and the explanation arrays by name (empty for a baseline)."""
    predictions: list[np.ndarray] = []
    parts: dict[str, list[np.ndarray]] = {}
    for images, _ in batches(InOrder(subset), settings.training.batch_size, device):
        inputs = network.inputs(images)
        output = network(inputs)
        predictions.append(data.store.scale.to_user(network.prediction(output).cpu().double()).numpy())
        if network.explains:
            for name, value in (
                ("weights", output.weights),
                ("distances", output.distances),
                ("nearest_latents", nearest_latents(output)),
                ("on_ground", _on_ground(network, inputs, output.distances)),
            ):
                parts.setdefault(name, []).append(value.cpu().numpy())
    return np.concatenate(predictions), {name: np.concatenate(values) for name, values in parts.items()}


def _on_ground(network: INSightRNet, inputs: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Whether the nearest patch to each prototype is a cell of mostly grey background: (B, m) bool."""
    ground = network.ground_cells(inputs, distances.shape[2]).flatten(1)  # (B, H * W)
    return ground.gather(1, distances.flatten(2).argmin(2))


def nearest_latents(output: Output, count: int = TOP) -> torch.Tensor:
    """Select the `count` distinct latent patches of each image nearest to any prototype: (B, count, C) (Fig. 3).

    The published code takes the nearest patch of each of the `count` nearest prototypes instead, so one patch can be
    taken several times; `latent.published_cells` counts the difference.
    """
    nearest = output.distances.amin(1).flatten(1)  # (B, H * W), distance of each patch to its nearest prototype
    cells = nearest.topk(min(count, nearest.shape[1]), largest=False).indices  # (B, count)
    latent = output.latent.flatten(2).transpose(1, 2)  # (B, H * W, C)
    return latent.gather(1, cells[..., None].expand(-1, -1, latent.shape[2]))


def write_predictions(
    path: Path, ids: np.ndarray, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None
) -> None:
    """Write predictions.csv.

    Args:
        path: File to write.
        ids: (N,) image ids.
        targets: (N,), in the user's units.
        predictions: (N,), in the user's units.
        weights: (N, m) contributions, of which the largest are listed; None for a baseline.
    """
    rows = [
        {"image_id": i, "target": float(t), "prediction": float(p)}
        for i, t, p in zip(ids, targets, predictions, strict=True)
    ]
    if weights is not None:
        top = metrics.top_prototypes(weights, TOP)
        for n, row in enumerate(rows):
            for rank, j in enumerate(top[n], start=1):
                row |= {f"prototype_{rank}": int(j), f"weight_{rank}": float(weights[n, j])}
    files.write_csv(path, rows)


def _add_boxes(run: Run, network: INSightRNet, size: int) -> None:
    cells = grid(network, size)
    table = run.table("prototypes.csv")
    boxes = [cells.box(row, col) for row, col in zip(table["row"], table["col"], strict=True)]
    table[["x0", "y0", "x1", "y1"]] = boxes
    files.write_csv(run / "prototypes.csv", table.to_dict("records"))
