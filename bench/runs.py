"""Runs: explanation of an image, a what-if, a fold from start to end, and scaling with the number of images."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

from bench.measure import Row, compare, in_process, seconds, value
from insightr_nb.analysis import editing
from insightr_nb.analysis.edit import Edit
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.loaded_run import LoadedRun, load_run
from insightr_nb.model.network import Regressor
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import trainer

SHORT = {
    "training.pretrain_epochs": 0,
    "training.cycles": 1,
    "training.joint_epochs": 1,
    "training.warm_up_epochs": 0,
    "training.last_layer_epochs": 1,
    "model.weights": "random",
    "data.folds": 2,
}


@contextlib.contextmanager
def temporary_outputs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, INSIGHTR_OUTPUTS=folder):
        yield Path(folder)


def finished(preset: str, tag: str = "bench", **changes: dict[str, Any]) -> Run:
    """Train and evaluate a run without pre-training the backbone."""
    overrides = SHORT | {f"{group}.{name}": v for group, given in changes.items() for name, v in given.items()}
    settings = RunSettings.from_parameters(preset=preset, overrides=overrides, tag=tag)
    run = trainer.train(settings)
    evaluate(run, settings)
    return run


def explanations(presets: dict[str, int]) -> list[Row]:
    """Explanation of one image, and a what-if on all test images, both compared with one forward pass.

    presets: Number of test images of each preset; 40 images are trained on.
    """
    rows = []
    with temporary_outputs():
        for preset, test in presets.items():
            run = load_run(finished(preset, data={"train_images": 40, "test_images": test}))
            image_id = run.predictions["image_id"][0]
            image = torch.from_numpy(run.store.image(run.store.row(image_id)))[None]
            size = run.grid.size

            @torch.no_grad()
            def forward(run: LoadedRun = run, image: torch.Tensor = image) -> None:
                run.network.backbone(run.network.inputs(image))

            rows.append(
                compare(
                    f"explanation of one image at {size} px",
                    "its plain forward pass, float32",
                    lambda run=run, i=image_id: explain(run, i),
                    forward,
                    1,
                    pairs=15,
                )
            )
            edit = Edit.of(run).switched(range(0, len(run.labels), 10), on=False)
            rows.append(
                compare(
                    f"what-if on {test} test images",
                    "a forward pass of one of them",
                    lambda run=run, edit=edit: editing.summary(run, edit),
                    forward,
                    1,
                )
            )
    return rows


@contextlib.contextmanager
def default_layout() -> Iterator[None]:
    """Let the trainer use PyTorch's default memory layout."""
    original = Regressor.inputs

    def contiguous(self: Regressor, images: torch.Tensor) -> torch.Tensor:
        return original(self, images).contiguous()

    with (
        mock.patch.object(torch, "channels_last", torch.contiguous_format),
        mock.patch.object(Regressor, "inputs", contiguous),
    ):
        yield


def fold(data: dict[str, int], preset: str = "demo", pairs: int = 2) -> Row:
    """A fold of a preset with its full protocol, without pre-training.

    Args:
        data: Settings of the data that differ from the preset's, such as fewer images.
        preset: The preset.
        pairs: Number of folds trained each way.
    """
    times: dict[str, list[float]] = {"auto": [], "float32": []}
    training = vars(RunSettings.from_parameters(preset=preset).training)
    names = ("cycles", "joint_epochs", "warm_up_epochs", "last_layer_epochs")
    protocol = {name: training[name] for name in names}
    with temporary_outputs():
        for pair in range(pairs):
            for precision in ("auto", "float32") if pair % 2 else ("float32", "auto"):
                changes = {"data": data, "training": protocol | {"precision": precision}}
                train = partial(finished, preset, f"{pair}-{precision}", **changes)
                with default_layout() if precision == "float32" else contextlib.nullcontext():
                    times[precision].append(seconds(train))
    ratios = np.array(times["float32"]) / np.array(times["auto"])
    detail = f"{np.median(times['auto']):.0f} s against {np.median(times['float32']):.0f} s, {pairs} pairs"
    images = f", {data['train_images']} images" if "train_images" in data else ""
    return value(f"fold of preset {preset}{images}", ratios, "x", "float32, default layout", detail)


def precisions(seeds: tuple[int, ...] = (0, 1, 2)) -> Row:
    """Test MAE of preset `smoke`, its backbone included, in bfloat16 minus that in float32, by seed."""
    differences = []
    with temporary_outputs():
        for seed in seeds:
            errors = {}
            for precision in ("bfloat16", "float32"):
                settings = RunSettings.from_parameters(
                    preset="smoke", seed=seed, overrides={"training.precision": precision}, tag=f"{precision}-{seed}"
                )
                for step in settings.steps():
                    run = trainer.train(step)
                errors[precision] = evaluate(run, settings)["mae"]
            differences.append(errors["bfloat16"] - errors["float32"])
    listed = ", ".join(f"{difference:+.3f}" for difference in differences)
    return value("MAE of preset smoke in bfloat16", differences, "grades", "minus that in float32", f"seeds: {listed}")


_GROWTH = """
import json, sys
from pathlib import Path
from bench.runs import grown

if __name__ == "__main__":
    print(json.dumps(grown(sys.argv[1])))
"""


def grown(folder: str) -> dict[str, float]:
    """Train on the images of a folder, a last-layer stage included.

    Returns the seconds of the last joint epoch, and the memory of the process at the end in MB.
    """
    settings = RunSettings.from_parameters(
        dataset="csv",
        name="many",
        data_folder=folder,
        preset="smoke",
        overrides=SHORT | {"data.size": 64, "data.preparation": "resize", "training.joint_epochs": 2},
        tag="bench",
    )
    run = trainer.train(settings)
    history = run.table("history.csv")
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    anonymous = sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1024
    return {"seconds": float(history["seconds"][history["stage"] == "joint"].iloc[-1]), "megabytes": anonymous}


def growth(counts: tuple[int, ...] = (2_000, 8_000)) -> list[Row]:
    """Time of an epoch and memory against the number of images, at 64 px."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            raw.mkdir()
            rng = np.random.default_rng(0)
            lines = ["image,label"]
            for i in range(count):
                cv2.imwrite(str(raw / f"{i}.bmp"), rng.integers(0, 256, (64, 64, 3), np.uint8))
                lines.append(f"{i}.bmp,{i % 5}")
            (raw / "labels.csv").write_text("\n".join(lines) + "\n")
            measured = in_process(_GROWTH, raw)
            each = 1000 * measured["seconds"] / count
            detail = f"{measured['seconds']:.1f} s the epoch, {measured['megabytes']:.0f} MB of its own memory"
            rows.append(value(f"a joint epoch of {count} images at 64 px", [each], "ms an image", detail=detail))
    return rows


def run(device: torch.device) -> list[Row]:
    # A fold of all images would take a CPU several minutes.
    data = {"folds": 5} | ({} if device.type == "cuda" else {"train_images": 94, "test_images": 31})
    return [*explanations({"demo": 250, "paper": 10}), fold(data), precisions(), *growth()]
