"""How long trainings will take on this machine, and whether one is much slower than was announced."""

import os
import time
from dataclasses import dataclass

import torch

from insightr_nb import runs
from insightr_nb.data.folds import FoldData
from insightr_nb.data.loading import Epoch, network_input
from insightr_nb.model.network import ResNetRegressor
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import hardware
from insightr_nb.training.stages import Stage, protocol

_SLOW = 2.0  # times the announced time of an epoch


@dataclass(frozen=True)
class Pace:
    """Seconds an image, in training and in inference, with the backbone alone."""

    training: float
    inference: float

    def epoch(self, stage: Stage, settings: RunSettings, data: FoldData) -> float:
        """Seconds of one epoch of a stage, its validation included."""
        trains = "backbone" in stage.learning_rates
        images = len(Epoch(data.training, settings.training, 0, 0))
        extra = len(data.validation) + settings.training.batchnorm_images * (trains and not stage.batchnorm_frozen)
        return images * (self.training if trains else self.inference) + extra * self.inference

    def slower(self, seconds: float, stage: Stage, settings: RunSettings, data: FoldData) -> str:
        """A sentence where an epoch took much longer than announced, with what helps; else an empty text."""
        factor = seconds / self.epoch(stage, settings, data)
        if factor < _SLOW or seconds < 2:
            return ""
        note = f"This epoch took {factor:.1f} times as long as announced."
        if hardware.choose_device(settings.device).type == "cpu":
            note += (
                f" Other processes may use the {os.cpu_count()} cores: beside them {torch.get_num_threads()} threads "
                "wait for each other. Fewer are faster then: interrupt, set OMP_NUM_THREADS=1, and give the same "
                "command again; it goes on after the last epoch"
            )
        return note


def measure(settings: RunSettings, data: FoldData) -> Pace:
    """Times a few steps on this machine. Raises RunError for a lack of memory."""
    device = hardware.choose_device(settings.device)
    hardware.make_deterministic(device)  # before the first product on a card: cuBLAS reads its setting once
    with hardware.memory_errors(settings):
        network = ResNetRegressor(settings.model, "random").to(device, memory_format=torch.channels_last)
        shape = settings.training.batch_size, *data.store.images.shape[1:]
        images = network_input(torch.zeros(shape, dtype=torch.uint8, device=device), settings.model)
        seconds = []
        for training in (True, False):
            network.train(training)
            with hardware.autocast(device, settings.training.precision), torch.set_grad_enabled(training):
                for _ in range(4):  # the first are warm-up
                    begin = time.monotonic()
                    loss = network(images).sum()
                    if training:
                        loss.backward()
                    loss.item()
                    last = (time.monotonic() - begin) / len(images)
            seconds.append(last)
    return Pace(*seconds)


def expected_minutes(steps: list[RunSettings], data: FoldData, pace: Pace) -> float:
    """How long the trainings that are not finished will take, evaluation included."""
    seconds = 0.0
    for settings in steps:
        run = Run(runs.run_directory(settings))
        if (run / "model.safetensors").exists() and not (run / "last.ckpt").exists() and not settings.overwrite:
            continue
        for stage in protocol(settings):
            seconds += stage.epochs * pace.epoch(stage, settings, data)
            if stage.projects:  # in float32, about twice the time
                seconds += 2 * len(data.training) * pace.inference
        seconds += 2 * len(data.test) * pace.inference
    return seconds / 60
