"""Training on a GPU: prototypes are patches, the CPU agrees, the same bits come again, and the host does not wait.

`make test-gpu`; a few minutes. Without a GPU, the same tests run in small on the CPU (preset smoke).
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch

from insightr_nb import runs
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.data import splits
from insightr_nb.data.folds import FoldData, fold_data
from insightr_nb.data.loading import Epoch, Subset, augment_batch, batches
from insightr_nb.model import losses
from insightr_nb.model.network import INSightRNet, Regressor
from insightr_nb.model.prototypes import squared_distances
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import checkpoint, hardware, trainer

# Algorithms without a deterministic version warn, which is no error here: whether the bits repeat is tested.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def device() -> torch.device:
    device = hardware.choose_device()
    hardware.make_deterministic(device)  # before the first matrix product: cuBLAS reads its setting once
    print(f"\n{hardware.describe(device)}, torch {torch.__version__}")
    return device


@pytest.fixture(scope="module")
def preset(device) -> str:
    """On a GPU, the preset of `make demo`."""
    return "demo" if device.type == "cuda" else "smoke"


@pytest.fixture(scope="module")
def trained(preset) -> Run:
    """INSightR-Net with its backbone, trained and evaluated on the device."""
    settings = RunSettings.from_parameters(preset=preset)
    for step in settings.steps():
        run = trainer.train(step)
        evaluate(run, step)
    return run


@pytest.fixture(scope="module")
def data(preset) -> FoldData:
    return fold_data(RunSettings.from_parameters(preset=preset))


def repeated(tag: str, variant: str = "insightr") -> Run:
    """A training of preset smoke, started from the backbone without a tag."""
    for step in RunSettings.from_parameters(preset="smoke", variant=variant, tag=tag).steps():
        run = trainer.train(step)
    return run


def assert_same_bits(one: Run, two: Run) -> None:
    one, two = (safetensors.torch.load_file(run / "model.safetensors") for run in (one, two))
    assert one.keys() == two.keys()
    off = {k: (one[k].double() - two[k].double()).abs().max().item() for k in one if not torch.equal(one[k], two[k])}
    assert off == {}, "tensors that differ, and by how much"


def network_on(run: Run, device: str | torch.device) -> Regressor:
    return checkpoint.load_model(run / "model.safetensors", torch.device(device))


@torch.no_grad()
def predictions(network: Regressor, images: np.ndarray, data: FoldData) -> np.ndarray:
    """Predictions (N,) of images (N, S, S, 3) in the user's units, in float32."""
    parts = []
    for start in range(0, len(images), 30):
        batch = torch.from_numpy(images[start : start + 30]).to(network.mean.device)
        parts.append(network.prediction(network(network.inputs(batch))).cpu().double())
    return data.store.scale.to_user(torch.cat(parts)).numpy()


@pytest.mark.parametrize("variant", ["backbone", "baseline", "insightr"])
def test_every_variant_trains_to_finite_losses(trained, preset, variant):
    run = trainer.train(RunSettings.from_parameters(preset=preset, variant=variant))
    history = run.table("history.csv")
    assert np.isfinite(history[["train_total", "validation_total"]]).all(axis=None)
    print(f"\n{preset} {variant}: {run.manifest['seconds']:.1f} s, epochs of {history['seconds'].median():.2f} s")


def test_prototypes_are_patches_of_their_images_on_both_devices(trained, data, device):
    table = trained.table("prototypes.csv")
    images = torch.from_numpy(np.stack([data.store.images[data.store.row(name)] for name in table["image_id"]]))
    for where in ("cpu", device):
        network = network_on(trained, where)
        assert isinstance(network, INSightRNet)
        with torch.no_grad():
            latent = network.latent(network.inputs(images.to(where)))  # (m, C, H, W)
        patches = latent[list(range(len(table))), :, table["row"].tolist(), table["col"].tolist()]  # (m, C)
        pairs = squared_distances(patches[..., None, None], network.prototype_layer.vectors)  # (m, m, 1, 1)
        assert pairs.flatten(1).diagonal().max() <= 1e-6, f"on {where}"


def test_cpu_device_and_file_have_the_same_predictions(trained, data, device):
    images = np.stack([data.test.images[row] for row in data.test.rows])
    file = trained.table("predictions.csv")["prediction"].to_numpy()
    for where in ("cpu", device):
        np.testing.assert_allclose(predictions(network_on(trained, where), images, data), file, rtol=0, atol=1e-3)


def test_rotation_on_cpu_and_device_differs_by_one_grey_level_at_most(data, device):
    images = torch.from_numpy(np.stack([data.training.images[row] for row in data.training.rows[:30]]))
    angles, scales = torch.linspace(0, 5.2, len(images)), torch.linspace(0.9, 1.1, len(images))
    one, two = (
        augment_batch(*(each.to(where) for each in (images, angles, scales)), 128).cpu().int()
        for where in ("cpu", device)
    )
    assert (one - two).abs().max() <= 1


@pytest.fixture(scope="module")
def first(device) -> Run:
    return repeated("first")


def test_the_same_bits_twice(first):
    backbones = [repeated(tag, "backbone") for tag in ("first", "second")]
    assert_same_bits(*backbones)
    assert_same_bits(first, repeated("second"))


def test_the_same_bits_after_an_interruption(first, monkeypatch):
    """In the second step of the fifth epoch, a joint one of the second cycle."""
    run = Run(runs.run_directory(RunSettings.from_parameters(preset="smoke", tag="interrupted")))
    original, calls = losses.total_loss, []

    def stop(*args, **kwargs):
        if (run / "history.csv").exists() and len(run.table("history.csv")) == 4:
            calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(losses, "total_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            repeated("interrupted")
    assert run.state == "interrupted"
    assert_same_bits(first, repeated("interrupted"))


def test_the_same_bits_with_memory_filled_before_use(first, monkeypatch):
    """`hardware.make_deterministic` leaves it unfilled: NaN in it would be seen if a kernel read it."""
    original = hardware.make_deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory

    def fill(device):
        original(device)
        torch.use_deterministic_algorithms(True, warn_only=True)  # also on a CPU
        torch.utils.deterministic.fill_uninitialized_memory = True

    monkeypatch.setattr(hardware, "make_deterministic", fill)
    try:
        filled = repeated("filled")
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = before[1]
    assert_same_bits(first, filled)


@contextlib.contextmanager
def counted_waits(device: torch.device) -> Iterator[list[int]]:
    """Append to the list how often the host waited for the device in the block; 0 on a CPU."""
    waits: list[int] = []
    on_card = device.type == "cuda"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if on_card:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            if on_card:
                torch.cuda.set_sync_debug_mode("default")
    waits.append(sum("synchronizing CUDA operation" in str(warning.message) for warning in caught))


def test_the_counter_of_waits_sees_one(device):
    with counted_waits(device) as waits:
        torch.ones((), device=device).item()
    assert waits == [int(device.type == "cuda")]


class MeasuredEpoch(NamedTuple):
    stage: str
    waits: int  # times that the host waited for the device
    reserved: int  # bytes of the device's memory that PyTorch holds at the end


@pytest.fixture(scope="module")
def epochs(preset, trained, device) -> list[MeasuredEpoch]:
    """Every epoch of a training that starts from the backbone of `trained`."""
    original, measured = trainer._Trainer._epoch, []

    def epoch(self, stage, optimizer):
        with counted_waits(device) as waits:
            row = original(self, stage, optimizer)
        reserved = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
        measured.append(MeasuredEpoch(stage.name, waits[0], reserved))
        return row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer._Trainer, "_epoch", epoch)
        trainer.train(RunSettings.from_parameters(preset=preset, tag="measured"))
    assert {epoch.stage for epoch in measured} == {"warm-up", "joint", "last layer"}
    return measured


def test_the_host_waits_once_in_25_steps_at_most(epochs, preset, data):
    """And five times an epoch, for copies before its first step and for its results."""
    images = len(splits.balanced(data.training.strata, np.random.default_rng(0)))  # of an epoch
    steps = images / RunSettings.from_parameters(preset=preset).training.batch_size
    for epoch in epochs:
        print(f"\n{epoch.stage}: {epoch.waits / steps:.2f} waits per step", end="")
        assert epoch.waits <= steps / 25 + 5, epoch.stage


def test_memory_of_the_device_does_not_grow_from_cycle_to_cycle(epochs, device):
    if device.type != "cuda":
        pytest.skip("PyTorch does not count the memory of a CPU")
    starts = [i for i, epoch in enumerate(epochs) if epoch.stage == "last layer"]
    one_cycle = starts[-1] // 2 + 1  # epochs that have seen every stage
    first = max(epoch.reserved for epoch in epochs[:one_cycle])
    assert epochs[-1].reserved <= 1.05 * first


def test_batches_are_the_same_while_the_device_is_busy(device):
    """The loader is then ahead, on a stream of its own: it must not reuse memory that is still to be read."""
    images = np.random.default_rng(0).integers(0, 256, (40, 512, 512, 3), np.uint8)
    subset = Subset(images, np.arange(40), np.arange(40, dtype=np.float32), np.zeros(40, int))
    training = RunSettings.from_parameters(preset="paper").training
    epoch = Epoch(subset, training, seed=0, epoch=0, on_device=True)

    def seen(where: torch.device, cycles: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and targets of all batches; `cycles` of the device's clock pass before each is copied."""
        parts = []
        for batch in batches(epoch, 4, where):
            if where.type == "cuda":
                torch.cuda._sleep(cycles)
            parts.append(tuple(tensor.clone() for tensor in batch))
        return tuple(torch.cat(column).cpu() for column in zip(*parts, strict=True))

    images_idle, targets_idle = seen(device, 0)
    images_busy, targets_busy = seen(device, 20_000_000)  # about 10 ms
    images_cpu, targets_cpu = seen(torch.device("cpu"), 0)
    assert torch.equal(images_busy, images_idle)
    assert torch.equal(targets_busy, targets_idle)
    assert torch.equal(targets_busy, targets_cpu)
    off = (images_busy.int() - images_cpu.int()).abs()
    # Noise is steep: where a rounded coordinate differs in its last bit, so may a grey level, by one.
    assert off.max() <= 1
    assert off.float().mean() < 0.01
