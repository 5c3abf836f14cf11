"""How long trainings will take on this machine."""

import time

import torch

from insightr_nb import runs
from insightr_nb.data.folds import FoldData
from insightr_nb.data.loading import Epoch, network_input
from insightr_nb.model.network import ResNetRegressor
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import hardware
from insightr_nb.training.stages import protocol


def expected_minutes(steps: list[RunSettings], data: FoldData) -> float:
    """How long the trainings that are not finished will take on this machine, from a few timed steps of each kind."""
    minutes = 0.0
    for settings in steps:
        run = Run(runs.run_directory(settings))
        if (run / "model.safetensors").exists() and not (run / "last.ckpt").exists() and not settings.overwrite:
            continue
        device = hardware.choose_device(settings.device)
        network = ResNetRegressor(settings.model, "random").to(device, memory_format=torch.channels_last)
        images = network_input(
            torch.zeros(15, *data.store.images.shape[1:], dtype=torch.uint8, device=device), settings.model
        )
        seconds = {}
        for training in (True, False):
            network.train(training)
            with hardware.autocast(device, settings.training.precision), torch.set_grad_enabled(training):
                for _ in range(2):  # the first is warm-up
                    begin = time.monotonic()
                    loss = network(images).sum()
                    if training:
                        loss.backward()
                    loss.item()
                    seconds[training] = (time.monotonic() - begin) / len(images)
        epoch = len(Epoch(data.training, settings.training, 0, 0))
        for stage in protocol(settings):
            each = epoch * seconds["backbone" in stage.learning_rates] + len(data.validation) * seconds[False]
            minutes += stage.epochs * each / 60
            if stage.projects:  # in float32, about twice the time
                minutes += 2 * len(data.training) * seconds[False] / 60
        minutes += 2 * len(data.test) * seconds[False] / 60
    return minutes
