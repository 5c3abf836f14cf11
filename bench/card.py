"""Measurements for a GPU: trainings side by side, and a fold of preset `paper` from epochs of every stage."""

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.measure import Row, seconds, value
from bench.network import finish, photographs, repeating, trainer_of
from bench.runs import SHORT, temporary_outputs
from insightr_nb.data import prepare
from insightr_nb.data.loading import Epoch
from insightr_nb.settings import RunSettings
from insightr_nb.training import trainer
from insightr_nb.training.projection import project
from insightr_nb.training.stages import Stage, protocol
from insightr_nb.training.trainer import _Trainer

_JOB = """
import sys
from bench.card import job

job(sys.argv[1], sys.argv[2])
"""


def job_settings(preset: str, tag: str) -> RunSettings:
    """Settings of a training of the baseline, without a pre-trained backbone."""
    overrides = {name: SHORT[name] for name in ("training.pretrain_epochs", "model.weights")}
    return RunSettings.from_parameters(preset=preset, variant="baseline", tag=tag, overrides=overrides)


def side_by_side(preset: str = "demo", count: int = 4) -> Row:
    """Throughput of several trainings at once, in processes of their own, compared with one after the other."""
    with temporary_outputs():
        prepare.prepare(job_settings(preset, "store").data)
        tags = map(str, itertools.count())  # a finished training is not trained again

        def at_once(jobs: int) -> float:
            begin = time.perf_counter()
            commands = [[sys.executable, "-c", _JOB, preset, next(tags)] for _ in range(jobs)]
            started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
            if failed := [process.args for process in started if process.wait()]:
                raise RuntimeError(f"{len(failed)} of {jobs} trainings failed: {failed[0]}")
            return time.perf_counter() - begin

        at_once(1)  # files are in memory from here on
        alone, together = at_once(1), at_once(count)
    detail = f"{alone:.1f} s one, {together:.1f} s {count} at once, imports included"
    return value(
        f"{count} baselines of preset {preset} at once", [count * alone / together], "x", "one after the other", detail
    )


def job(preset: str, tag: str) -> None:
    """Train one of `side_by_side`."""
    trainer.train(job_settings(preset, tag))


def pace(made: _Trainer, stage: Stage) -> tuple[float, float]:
    """Seconds that an epoch of the stage takes for each training image, and for each validation image."""
    optimizer, _ = stage.optimizer(made.network)

    def epoch() -> None:
        made._epoch(stage, optimizer)
        finish(made.device)

    def validate() -> None:
        made.validation_table = None
        made._validate(stage)
        finish(made.device)

    epoch(), validate()
    images = len(Epoch(made.data.training, made.settings.training, 0, 0))
    # The validation images of a last-layer stage pass through the network once in the stage.
    validations = 1 / stage.epochs if stage.only_last_layer else 1
    return seconds(epoch) / images, validations * seconds(validate) / len(made.data.validation)


def projection_pace(made: _Trainer) -> float:
    """Seconds of an image in a projection."""

    def projection() -> None:
        project(made.network, made.data.training, made.settings.training.batch_size)
        finish(made.device)

    projection()
    return seconds(projection) / len(made.data.training)


def paper_fold(
    device: torch.device, preset: str = "paper", images: int = 1_200, training: int = 12_000, validation: int = 2_400
) -> Row:
    """Minutes of the trainings of a fold, backbone and INSightR-Net, from epochs of every stage with fewer images.

    Args:
        device: Device to measure on.
        preset: The preset; images have its size.
        images: Images of the measured epochs.
        training: Training images of the fold, equally many of each grade.
        validation: Validation images of the fold.
    """
    size = RunSettings.from_parameters(preset=preset).data.size
    parts: list[tuple[int, str, float]] = []  # how often, what, seconds of each
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, photographs(size, images).numpy())
        subset = repeating(np.load(path, mmap_mode="r"))
        for variant in ("backbone", "insightr"):
            settings = RunSettings.from_parameters(preset=preset, variant=variant)
            stages, made = protocol(settings), trainer_of(settings, subset, device)
            for stage in {stage.name: stage for stage in stages}.values():
                epochs = sum(each.epochs for each in stages if each.name == stage.name)
                of_training, of_validation = pace(made, stage)
                each = training * of_training + validation * of_validation
                parts.append((epochs, f"epochs {stage.name}", each))
            if projections := sum(stage.projects for stage in stages):
                parts.append((projections, "projections", training * projection_pace(made)))
    return value(
        f"trainings of a fold of preset {preset}, {training} images of {size} px",
        [sum(times * each for times, _, each in parts) / 60],
        "min",
        f"extrapolated from {images} images",
        ", ".join(f"{times} {what} of {each:.1f} s" for times, what, each in parts),
    )


def run(device: torch.device) -> list[Row]:
    return [side_by_side(), paper_fold(device)] if device.type == "cuda" else []
