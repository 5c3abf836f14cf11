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
    """How long the trainings that are not finished will take on this machine, from a few timed steps of each kind.

    Raises RunError for a lack of memory.
    """
    seconds = 0.0
    for settings in steps:
        run = Run(runs.run_directory(settings))
        if (run / "model.safetensors").exists() and not (run / "last.ckpt").exists() and not settings.overwrite:
            continue
        with hardware.memory_errors(settings):
            training, inference = _seconds_an_image(settings, data)
        epoch = len(Epoch(data.training, settings.training, 0, 0))
        for stage in protocol(settings):
            trains = "backbone" in stage.learning_rates
            extra = len(data.validation) + settings.training.batchnorm_images * (trains and not stage.batchnorm_frozen)
            seconds += stage.epochs * (epoch * (training if trains else inference) + extra * inference)
            if stage.projects:  # in float32, about twice the time
                seconds += 2 * len(data.training) * inference
        seconds += 2 * len(data.test) * inference
    return seconds / 60


def _seconds_an_image(settings: RunSettings, data: FoldData) -> tuple[float, float]:
    """In training and in inference, with the backbone alone."""
    device = hardware.choose_device(settings.device)
    hardware.make_deterministic(device)  # before the first product on a card: cuBLAS reads its setting once
    network = ResNetRegressor(settings.model, "random").to(device, memory_format=torch.channels_last)
    shape = settings.training.batch_size, *data.store.images.shape[1:]
    images = network_input(torch.zeros(shape, dtype=torch.uint8, device=device), settings.model)
    found = []
    for training in (True, False):
        network.train(training)
        with hardware.autocast(device, settings.training.precision), torch.set_grad_enabled(training):
            for _ in range(2):  # the first is warm-up
                begin = time.monotonic()
                loss = network(images).sum()
                if training:
                    loss.backward()
                loss.item()
                seconds = (time.monotonic() - begin) / len(images)
        found.append(seconds)
    return found[0], found[1]
