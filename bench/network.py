"""The network: steps and passes compared with those of a torchvision ResNet-18, and the cost of the prototypes."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet18

from bench.measure import Row, compare, seconds, value
from insightr_nb.analysis import evaluation
from insightr_nb.data.loading import Epoch, InOrder, Subset, batches
from insightr_nb.model import losses
from insightr_nb.model.network import INSightRNet, ResNetRegressor
from insightr_nb.settings import LabelScale, RunSettings
from insightr_nb.training import checkpoint, hardware
from insightr_nb.training.projection import project
from insightr_nb.training.stages import protocol, training_only
from insightr_nb.training.step import training_loss
from insightr_nb.training.trainer import _Trainer

BATCH = 30
SIZES = (256, 512)
STEPS = {"cuda": 20}  # steps and batches of a pass that are measured at once; one where it takes long enough


def settings_at(size: int, **model: Any) -> RunSettings:
    """Settings of preset `paper` for images of this size, with the full ResNet-18 and 9 x 9 cells."""
    block = {"model.block_stride": 1} if size == 256 else {}
    model = {f"model.{name}": value for name, value in model.items()}
    return RunSettings.from_parameters(preset="paper", overrides={"data.size": size} | block | model, tag="bench")


def repeated(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The function, several times over on a card, and then a wait until that has finished."""

    def repeat() -> None:
        for _ in range(STEPS.get(device.type, 1)):
            function()
        finish(device)

    return repeat


class Plain:
    """torchvision's ResNet-18 with one output, trained by Adam on the mean squared error.

    fast: bfloat16 where the device has units for it, and channels_last; else float32 in the default layout.
    """

    def __init__(self, images: torch.Tensor, device: torch.device, fast: bool, float32: bool = False) -> None:
        self.device, self.precision = device, "auto" if fast and not float32 else "float32"
        layout = torch.channels_last if fast else torch.contiguous_format
        self.network = resnet18(num_classes=1).to(device, memory_format=layout)
        self.inputs = images.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=layout).to(device)
        self.targets = torch.ones(len(images), 1, device=device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-5)

    def step(self) -> None:
        self.network.train()
        with hardware.autocast(self.device, self.precision):
            output = self.network(self.inputs)
        self.optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(output.float(), self.targets).backward()
        self.optimizer.step()

    @torch.no_grad()
    def infer(self) -> None:
        self.network.eval()
        with hardware.autocast(self.device, self.precision):
            self.network(self.inputs)


class Ours:
    """INSightR-Net of a preset, doing what the trainer does with a batch."""

    def __init__(self, images: torch.Tensor, device: torch.device, settings: RunSettings) -> None:
        self.settings = settings
        self.device = device
        model = self.settings.model
        self.network = INSightRNet(model, "random").to(device, memory_format=torch.channels_last).eval()
        self.images = images.to(device)
        self.targets = torch.linspace(1, 5, len(images), device=device)
        self.stages = {stage.name: stage for stage in protocol(self.settings)}
        self.optimizers = {name: stage.optimizer(self.network)[0] for name, stage in self.stages.items()}
        self.subset = repeating(images.numpy(), STEPS.get(device.type, 1))

    def step(self, name: str) -> None:
        stage, optimizer = self.stages[name], self.optimizers[name]
        with training_only(self.network, tuple(stage.learning_rates), stage.batchnorm_frozen):
            with hardware.autocast(self.device, "auto"):
                output = self.network(self.network.inputs(self.images))
            total = self.losses(output.prediction, output.min_distances)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()

    def losses(self, prediction: torch.Tensor, min_distances: torch.Tensor) -> torch.Tensor:
        labels, most = self.network.prototype_labels, self.network.prototype_layer.max_distance
        return losses.total_loss(prediction, min_distances, self.targets, labels, most, self.settings.losses)["total"]

    def project(self) -> None:
        project(self.network, self.subset, BATCH)
        finish(self.device)

    def evaluate(self) -> None:
        data = SimpleNamespace(store=SimpleNamespace(scale=LabelScale()))
        evaluation._predict(self.network, self.subset, data, self.settings, self.device)


def repeating(images: np.ndarray, times: int = 1) -> Subset:
    """These images (N, S, S, 3), several times over, with labels from 1 to 5."""
    count = times * len(images)
    labels = np.linspace(1, 5, count, dtype=np.float32)
    return Subset(images, np.arange(count) % len(images), labels, np.zeros(count, int))


def finish(device: torch.device) -> None:
    """Wait until the GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def photographs(size: int, count: int | None = None) -> torch.Tensor:
    """Noise in place of images (count, S, S, 3) uint8; by default a batch."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count or BATCH, size, size, 3), np.uint8))


def steps_and_passes(size: int, device: torch.device) -> list[Row]:
    images = photographs(size)
    ours = Ours(images, device, settings_at(size))
    default, same = Plain(images, device, fast=False), Plain(images, device, fast=True)
    same32 = Plain(images, device, fast=True, float32=True)
    a, b = "(a) ResNet-18, PyTorch's defaults", "(b) ResNet-18, same precision, layout and determinism"
    inference = "inference of (b)"
    images = len(ours.subset)
    joint, plain, plain_default, infer, infer32 = (
        repeated(step, device)
        for step in (lambda: ours.step("joint"), same.step, default.step, same.infer, same32.infer)
    )
    return [
        compare(f"joint step at {size} px", b, joint, plain, images),
        compare(f"joint step at {size} px", a, joint, with_defaults(plain_default, device), images),
        compare(f"projection pass at {size} px", f"{inference}, float32", ours.project, infer32, images),
        compare(f"evaluation pass at {size} px", f"{inference}, float32", ours.evaluate, infer32, images),
        compare(f"last-layer epoch at {size} px", inference, last_layer(ours), infer, images),
    ]


def with_defaults(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The function as most would run it: with PyTorch's own settings, not those that make a training deterministic."""

    def run() -> None:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.allow_tf32 = True
        try:
            function()
        finally:
            hardware.make_deterministic(device)

    return run


def trainer_of(settings: RunSettings, subset: Subset, device: torch.device) -> _Trainer:
    """A trainer of these images, without a run and without a pre-trained backbone."""
    overrides = {"training.pretrain_epochs": 0, "model.weights": "random"}
    started = RunSettings.from_parameters(preset=settings.preset, overrides=overrides, tag="bench")
    data = SimpleNamespace(training=subset, validation=subset, store=SimpleNamespace(scale=LabelScale()))
    made = _Trainer(started, None, data, device, None)
    made.settings = settings
    network = checkpoint.build_network(settings, "random")
    made.network = network.to(device, memory_format=torch.channels_last).eval()
    return made


def last_layer(ours: Ours) -> Callable[[], None]:
    """An epoch of the last-layer stage, loading and augmentation included."""
    stage, made = ours.stages["last layer"], trainer_of(ours.settings, ours.subset, ours.device)
    optimizer, _ = stage.optimizer(made.network)
    return lambda: made._epoch(stage, optimizer)


def of_preset(preset: str, device: torch.device, batches_in_all: int = 30, pairs: int = 15) -> list[Row]:
    """A preset at its size and with its batches: a step beside its baseline's, and the last-layer stage."""
    settings = RunSettings.from_parameters(preset=preset)
    size, batch = settings.data.size, settings.training.batch_size
    images = photographs(size, batches_in_all * batch)
    ours = Ours(images[:batch], device, settings)
    baseline = ResNetRegressor(settings.model, "random").to(device, memory_format=torch.channels_last).train()
    adam = torch.optim.Adam(baseline.parameters(), 1e-5)

    def baseline_step() -> None:
        terms, _ = training_loss(baseline, ours.images, ours.targets, settings)
        adam.zero_grad(set_to_none=True)
        terms["total"].backward()
        adam.step()

    stage = ours.stages["last layer"]
    training, validation = (repeating(part.numpy()) for part in (images, images[: len(images) // 4]))

    def epochs(plain: bool) -> Callable[[], None]:
        made = trainer_of(settings, training, device)
        made.data.validation = validation
        optimizer, _ = stage.optimizer(made.network)

        def plain_epoch() -> None:
            with training_only(made.network, ("last_layer",)):
                for seen, targets in batches(
                    Epoch(training, settings.training, 0, 0, device.type != "cpu"), batch, device
                ):
                    terms, _ = training_loss(made.network, seen, targets, settings)
                    optimizer.zero_grad(set_to_none=True)
                    terms["total"].backward()
                    optimizer.step()
                    torch.stack(list(terms.values())).tolist()
            with torch.no_grad():
                for seen, targets in batches(InOrder(validation), batch, device):
                    training_loss(made.network, seen, targets, settings)[0]["total"].item()

        def ours_epoch() -> None:
            made._epoch(stage, optimizer)
            made._validate(stage)

        def several() -> None:
            made.validation_table = None
            for _ in range(stage.epochs):
                plain_epoch() if plain else ours_epoch()

        return several

    return [
        compare(
            f"joint step of preset {preset}, {size} px, batches of {batch}",
            "step of its baseline",
            repeated(lambda: ours.step("joint"), device),
            repeated(baseline_step, device),
            batch * STEPS.get(device.type, 1),
            pairs=pairs,
        ),
        compare(
            f"last-layer stage of preset {preset}, {stage.epochs} epochs of {len(training)} images",
            "its steps one by one",
            epochs(plain=False),
            epochs(plain=True),
            stage.epochs * len(training),
            pairs=max(1, pairs // 3),
        ),
    ]


def prototype_layer(size: int, device: torch.device, counts: tuple[int, ...] = (10, 50, 250)) -> list[Row]:
    """Forward and backward of prototype layer, weighted mean and losses, as a share of a joint step."""
    rows = []
    for m in counts:
        ours = Ours(photographs(size), device, settings_at(size))
        model = settings_at(size, prototypes=m).model
        ours.network = INSightRNet(model, "random").to(device, memory_format=torch.channels_last).eval()
        ours.optimizers = {name: stage.optimizer(ours.network)[0] for name, stage in ours.stages.items()}
        with torch.no_grad():
            latent = ours.network.latent(ours.network.inputs(ours.images))

        def layer(ours: Ours = ours, latent: torch.Tensor = latent) -> None:
            leaf = latent.clone().requires_grad_()
            ours.network.prototype_layer.train()  # as in a joint step
            _, nearest, similarities = ours.network.prototype_layer(leaf)
            prediction, _ = ours.network.last_layer(similarities)
            ours.losses(prediction, nearest).backward()

        shares, saved = [], {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage()) and t,
            lambda t: t,
        ):
            layer()
        megabytes = sum(storage.nbytes() for storage in saved.values()) / 1e6
        saved.clear()
        layer, joint = repeated(layer, device), repeated(lambda ours=ours: ours.step("joint"), device)
        layer(), joint()
        for _ in range(7):
            shares.append(100 * seconds(layer) / seconds(joint))
        detail = f"{megabytes:.1f} MB kept for the backward pass of {BATCH} images"
        rows.append(value(f"prototype layer and losses, m = {m}, at {size} px", shares, "%", "a joint step", detail))
    return rows


def waiting(settings: RunSettings, device: torch.device, count: int = 120, pairs: int = 7) -> Row:
    """Share of an epoch, as trained, that its joint steps do not take: loading, augmentation and copies."""
    size, batch = settings.data.size, settings.training.batch_size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, photographs(size, count).numpy())
        images = np.load(path, mmap_mode="r")  # as from a prepared store
        subset = repeating(images, STEPS.get(device.type, 1))
        made = trainer_of(settings, subset, device)
        ours = Ours(torch.from_numpy(images[:batch].copy()), device, made.settings)
        stage = ours.stages["joint"]
        optimizer, _ = stage.optimizer(made.network)

        def epoch() -> None:
            made._epoch(stage, optimizer)
            finish(device)

        def steps() -> None:
            for _ in range(len(subset) // batch):
                ours.step("joint")
            finish(device)

        epoch(), steps()
        shares = []
        for pair in range(pairs):
            taken = {f: seconds(f) for f in ((epoch, steps) if pair % 2 else (steps, epoch))}
            shares.append(100 * (1 - taken[steps] / taken[epoch]))
    return value(f"waiting for data at {size} px", shares, "%", "an epoch as trained, minus its joint steps")


def run(device: torch.device) -> list[Row]:
    torch.manual_seed(0)
    hardware.make_deterministic(device)  # as a training
    rows = of_preset("demo", device) + [row for size in SIZES for row in steps_and_passes(size, device)]
    waits = [waiting(settings_at(size), device) for size in (SIZES if device.type == "cuda" else SIZES[:1])]
    return rows + prototype_layer(256, device) + prototype_layer(512, device, (50,)) + waits
