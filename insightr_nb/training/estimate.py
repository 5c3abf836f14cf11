"""Estimate of the training time on this machine, and detection of epochs much slower than estimated."""

import itertools
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from insightr_nb import runs
from insightr_nb.data.folds import FoldData
from insightr_nb.data.loading import Epoch, InOrder, batches
from insightr_nb.model import losses
from insightr_nb.model.network import ResNetRegressor
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import hardware
from insightr_nb.training.stages import Stage, protocol

_SLOW = 2.0  # ratio of actual to estimated time of an epoch


@dataclass(frozen=True)
class Pace:
    """Seconds per image in training and in inference, measured with the backbone alone."""

    training: float
    inference: float

    def epoch(self, stage: Stage, settings: RunSettings, data: FoldData) -> float:
        """Estimate the seconds of one epoch of a stage, validation included.

        Args:
            stage: The stage.
            settings: Settings of the run.
            data: Data of the fold.
        """
        trains = "backbone" in stage.learning_rates
        images = len(Epoch(data.training, settings.training, 0, 0))
        validation = len(data.validation) / (stage.epochs if stage.only_last_layer else 1)  # there once in the stage
        extra = validation + settings.training.batchnorm_images * (trains and not stage.batchnorm_frozen)
        return images * (self.training if trains else self.inference) + extra * self.inference

    def slower(self, seconds: float, stage: Stage, settings: RunSettings, data: FoldData) -> str:
        """Describe an epoch on a CPU that was much slower than estimated, with a remedy; empty if it was not.

        Only epochs that train the backbone are compared, because `measure` times its training steps.

        Args:
            seconds: Actual duration of the epoch.
            stage: Its stage.
            settings: Settings of the run.
            data: Data of the fold.

        Returns:
            Text for the user, or "".
        """
        factor = seconds / self.epoch(stage, settings, data)
        on_cpu = hardware.choose_device(settings.device).type == "cpu"
        if not on_cpu or "backbone" not in stage.learning_rates or factor < _SLOW or seconds < 2:
            return ""
        threads = torch.get_num_threads()
        note = f"This epoch took {factor:.1f} times as long as estimated: other processes may be using the cores"
        if threads > 1:
            note += (
                f". Fewer than {threads} threads are then faster: interrupt, set OMP_NUM_THREADS=1, and rerun the same "
                "command; training resumes after the last completed epoch"
            )
        return note


def measure(settings: RunSettings, data: FoldData) -> Pace:
    """Time a few training and inference steps on this machine. Raises RunError if memory runs out."""
    device = hardware.choose_device(settings.device)
    hardware.make_deterministic(device)  # before the first CUDA matrix product: cuBLAS reads its setting once
    with hardware.memory_errors(settings):
        network = ResNetRegressor(settings.model, "random").to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters())
        size, seconds = settings.training.batch_size, []
        augmented = Epoch(data.training, settings.training, 0, 0, device.type != "cpu")
        for subset, training in ((augmented, True), (InOrder(data.training), False)):
            network.train(training)
            times, begin = [], time.monotonic()
            for images, targets in itertools.islice(batches(subset, size, device), 11):  # the first is warm-up
                with hardware.autocast(device, settings.training.precision), torch.set_grad_enabled(training):
                    loss = losses.mse_loss(network(network.inputs(images)), targets)
                if training:
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                loss.item()
                now = time.monotonic()
                times.append((now - begin) / len(images))
                begin = now
            seconds.append(statistics.median(times[1:] or times))
    return Pace(*seconds)


def untrained(steps: list[RunSettings]) -> list[RunSettings]:
    """Runs whose training is not complete."""
    return [s for s in steps if s.overwrite or not Run(runs.run_directory(s)).is_trained]


def interrupted(steps: list[RunSettings]) -> dict[str, Any] | None:
    """Hardware recorded in the manifest of the first run that will be resumed; None if none will be."""
    resumed = (Run(runs.run_directory(settings)) for settings in untrained(steps) if not settings.overwrite)
    return next((run.manifest["hardware"] for run in resumed if (run / "last.ckpt").exists()), None)


def expected_minutes(steps: list[RunSettings], data: FoldData, pace: Pace) -> float:
    """Estimate the minutes that the unfinished trainings take, evaluation included.

    Args:
        steps: Settings of the runs; completed ones count as 0.
        data: Data of the fold.
        pace: Result of `measure`.
    """
    seconds = 0.0
    for settings in untrained(steps):
        for stage in protocol(settings):
            seconds += stage.epochs * pace.epoch(stage, settings, data)
            if stage.projects:  # float32 inference takes about twice the time
                seconds += 2 * len(data.training) * pace.inference
        seconds += 2 * len(data.test) * pace.inference
    return seconds / 60
