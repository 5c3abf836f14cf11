"""Batches: order and augmentation follow from seed and epoch; corners are filled."""

import contextlib
import dataclasses
import multiprocessing
import random
import threading
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch

from insightr_nb.data import loading
from insightr_nb.data.loading import (
    Epoch,
    InOrder,
    Subset,
    _read_ahead,
    augment,
    augment_batch,
    batches,
    rows_of_batches,
)
from insightr_nb.settings import TrainingSettings

CPU = torch.device("cpu")
PLAIN = TrainingSettings(rotation=0, scale_min=1, scale_max=1)


@pytest.fixture
def subset() -> Subset:
    """Seven of nine images, image i of grey 10 i with a white corner; grades 0 0 0 0 1 1 2."""
    images = np.repeat(np.arange(0, 90, 10, dtype=np.uint8), 8 * 8 * 3).reshape(9, 8, 8, 3).copy()
    images[:, :2, :2] = 255
    rows = np.array([8, 1, 2, 3, 5, 6, 7])
    return Subset(images, rows, np.array([1, 1, 1, 1, 2, 2, 3.5], np.float32), np.array([0, 0, 0, 0, 1, 1, 2]))


def content(dataset) -> list[tuple[bytes, float]]:
    return [(image.tobytes(), float(target)) for image, target in (dataset[i] for i in range(len(dataset)))]


# -- an epoch ---------------------------------------------------------------------------------------------------------


def test_an_epoch_is_balanced_and_keeps_images_and_targets_together(subset):
    seen = [
        (int(image[4, 4, 0]), float(target)) for image, target in (Epoch(subset, PLAIN, 0, 0)[i] for i in range(12))
    ]
    assert len(Epoch(subset, PLAIN, 0, 0)) == 12
    assert sorted(seen) == [(10, 1), (20, 1), (30, 1)] + [(50, 2)] * 2 + [(60, 2)] * 2 + [(70, 3.5)] * 4 + [(80, 1)]


def test_order_and_augmentation_depend_on_seed_and_epoch_only(subset):
    first = content(Epoch(subset, TrainingSettings(), seed=3, epoch=5))
    np.random.seed(1)  # noqa: NPY002  (neither global state matters)
    torch.manual_seed(1)
    random.seed(1)
    content(Epoch(subset, TrainingSettings(), seed=3, epoch=4))
    again = Epoch(subset, TrainingSettings(batch_size=2), seed=3, epoch=5)
    assert content(again)[::-1] == [(again[i][0].tobytes(), float(again[i][1])) for i in reversed(range(12))]
    assert content(again) == first


@pytest.mark.parametrize(("seed", "epoch"), [(3, 6), (4, 5), (5, 3)])
def test_another_seed_or_epoch_is_another_order_and_augmentation(subset, seed, epoch):
    one, other = Epoch(subset, TrainingSettings(), 3, 5), Epoch(subset, TrainingSettings(), seed, epoch)
    assert one.order.tolist() != other.order.tolist()
    assert not set(one.angles) & set(other.angles)
    assert not set(one.scales) & set(other.scales)


def test_angles_and_scales_fill_their_ranges():
    many = Subset(
        np.zeros((1, 8, 8, 3), np.uint8), np.zeros(2000, int), np.zeros(2000, np.float32), np.zeros(2000, int)
    )
    epoch = Epoch(many, TrainingSettings(), 0, 0)
    assert np.histogram(epoch.angles, 4, (0, 360))[0].tolist() == pytest.approx([500] * 4, abs=80)
    assert np.histogram(epoch.scales, 4, (0.9, 1.1))[0].tolist() == pytest.approx([500] * 4, abs=80)
    assert len(set(epoch.angles)) == 2000


def test_the_batch_size_does_not_change_what_is_seen(subset):
    one, other = (
        torch.cat([images for images, _ in batches(Epoch(subset, TrainingSettings(), 0, 1), size, CPU)])
        for size in (5, 12)
    )
    assert torch.equal(one, other)


# -- in order ---------------------------------------------------------------------------------------------------------


def test_in_order_yields_every_image_once_unchanged(subset):
    got = [(images, targets) for images, targets in batches(InOrder(subset), 3, CPU)]
    assert [len(images) for images, _ in got] == [3, 4]
    images, targets = torch.cat([i for i, _ in got]), torch.cat([t for _, t in got])
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (7, 8, 8, 3))
    assert (targets.dtype, targets.tolist()) == (torch.float32, [1, 1, 1, 1, 2, 2, 3.5])
    assert np.array_equal(images.numpy(), subset.images[subset.rows])


def test_read_only_store_is_not_modified(subset, tmp_path):
    np.save(tmp_path / "images.npy", subset.images)
    mapped = dataclasses.replace(subset, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    for images, _ in batches(InOrder(mapped), 4, CPU):
        images.zero_()
    assert np.array_equal(mapped.images, subset.images)
    assert content(Epoch(mapped, TrainingSettings(), 0, 0)) == content(Epoch(subset, TrainingSettings(), 0, 0))


# -- augmentation -----------------------------------------------------------------------------------------------------

CORNERS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.uint8)[..., None] * np.uint8([10, 20, 25])


@pytest.mark.parametrize(
    ("angle", "expect"),
    [
        (0, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        (90, [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),  # counter-clockwise
        (180, [[9, 8, 7], [6, 5, 4], [3, 2, 1]]),
        (360, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    ],
)
def test_rotation_is_about_the_centre(angle, expect):
    got = augment(CORNERS, angle, 1.0, fill=128)
    assert (got[..., 0] // 10).tolist() == expect
    assert (got[..., 2] // 25).tolist() == expect


@pytest.mark.parametrize("fill", [128, 0, 255])
@pytest.mark.parametrize(
    ("angle", "scale", "cells"),
    [(45, 1, [(0, 0), (0, 63), (63, 0), (63, 63)]), (0, 0.5, [(0, 32), (14, 14), (49, 49)])],
)
def test_uncovered_corners_have_the_fill_value(fill, angle, scale, cells):
    got = augment(np.full((64, 64, 3), 200, np.uint8), angle, scale, fill)
    assert [got[cell].tolist() for cell in cells] == [[fill] * 3] * len(cells)
    assert got[32, 32].tolist() == [200, 200, 200]


def test_the_fill_of_an_epoch_is_that_of_the_settings(subset):
    for fill in (128, 7):
        settings = TrainingSettings(rotation=0, scale_min=0.5, scale_max=0.5, fill=fill)
        image, _ = Epoch(subset, settings, 0, 0)[0]
        assert image[0, 4].tolist() == [fill] * 3


def test_scaling_enlarges_about_the_centre():
    image = np.zeros((64, 64, 3), np.uint8)
    image[28:36, 28:36] = 200
    got = augment(image, 0, 2.0, 128)[..., 1] > 100
    rows, columns = np.nonzero(got)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 39, 24, 39)


# -- augmentation on a card -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (90, 1.0), (33, 1.0), (200, 0.9), (301.5, 1.1)])
def test_a_batch_on_the_device_is_augmented_like_its_images(angle, scale):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    images = np.stack([cv2.resize(i, (64, 64), interpolation=cv2.INTER_CUBIC) for i in small])  # smooth
    expect = [augment(images[0], angle, scale, 128), augment(images[1], 10, 1.0, 128)]
    got = augment_batch(
        torch.from_numpy(images), torch.tensor([angle, 10]).deg2rad(), torch.tensor([scale, 1.0]), 128
    ).numpy()
    assert (got.dtype, got.shape) == (np.uint8, images.shape)
    difference = np.abs(got.astype(int) - np.stack(expect))
    inside = np.hypot(*np.mgrid[-31.5:32, -31.5:32]) < 28  # OpenCV rounds places to 1/32 px, and the rim of the image
    assert difference[:, inside].max() <= 3
    assert difference[:, inside].mean() < 0.5
    filled = np.all(expect[0] == 128, axis=2)  # the corners that the rotation opens
    assert (got[0][filled] == 128).sum() >= 0.95 * got[0][filled].size


def test_epoch_on_device_returns_raw_images_that_batches_augment(subset):
    settings = TrainingSettings()
    plain, device = Epoch(subset, settings, 3, 5), Epoch(subset, settings, 3, 5, on_device=True)
    raw, target = device[4]
    assert np.array_equal(raw, subset.images[subset.rows[device.order[4]]])
    assert target == plain[4][1]
    got = torch.cat([images for images, _ in batches(device, 5, CPU)])
    assert torch.equal(
        got,
        augment_batch(
            torch.from_numpy(np.stack([device[i][0] for i in range(len(device))])),
            torch.tensor(np.radians(plain.angles), dtype=torch.float32),
            torch.tensor(plain.scales, dtype=torch.float32),
            settings.fill,
        ),
    )


def test_cuda_batches_come_from_threads_and_pinned_memory(subset, monkeypatch):
    """In the same order, without a child process, and nothing goes on where the loop ends early."""
    pinned, empty = [], torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *shape, pin_memory=False, **more: pinned.append(pin_memory) or empty(*shape, **more)
    )
    epoch = Epoch(subset, TrainingSettings(), 3, 5)
    for size in (1, 2, 5):
        parts = rows_of_batches(len(epoch), size)
        read = [list(_read_ahead(epoch, parts, cuda)) for cuda in (True, False)]
        assert pinned == [True] * 2 * len(parts) + [False] * 2 * len(parts)
        pinned.clear()
        for ahead, plain in zip(*read, strict=True):
            assert all(torch.equal(a, p) for a, p in zip(ahead, plain, strict=True))
    before = threading.active_count()
    for _ in _read_ahead(epoch, rows_of_batches(len(epoch), 1), True):
        assert not multiprocessing.active_children()
        break
    assert threading.active_count() == before


def test_on_a_cpu_no_other_device_is_asked(subset, monkeypatch):
    """Not on a Mac, nor on a machine with a card: a stream of None would start CUDA."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA is started"))
    assert len(list(batches(InOrder(subset), 2, CPU))) == 3


class Stream:
    """The parts of a CUDA stream that the loader uses; notes them in a list."""

    noted: ClassVar[list] = []

    def __init__(self, name: str = "side") -> None:
        self.name = name

    def record_event(self) -> int:
        self.noted.append(("ready", len(self.noted)))
        return len(self.noted) - 1

    def wait_event(self, event: int) -> None:
        self.noted.append(("waited for", event))


def test_the_next_batch_is_under_way_before_one_is_used(subset, monkeypatch):
    """The current stream waits for each batch, whose memory it is made to keep. Streams and the device are imitated."""
    noted, main, empty = Stream.noted, Stream("main"), torch.empty
    monkeypatch.setattr(Stream, "noted", noted)
    noted.clear()
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **more: empty(*shape, **more))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **more: tensor)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: noted.append(("kept by", stream.name)))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(loading, "_side_stream", lambda device: Stream())
    seen = []
    for images, _ in batches(InOrder(subset), 3, torch.device("cuda")):
        noted.append(("used", None))
        seen.append(images)
    assert torch.equal(torch.cat(seen), torch.from_numpy(subset.images[subset.rows]))
    names = [name for name, _ in noted]
    kept = ["waited for", "kept by", "kept by", "used"]
    assert names == ["ready", "ready", *kept, *kept]
    assert [value for name, value in noted if name == "waited for"] == [0, 1]
    assert {value for name, value in noted if name == "kept by"} == {"main"}


def test_an_error_of_a_reading_thread_is_raised(subset, monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **more: empty(*shape, **more))
    broken = dataclasses.replace(subset, rows=np.array([8, 1, 2, 3, 5, 6, 99]))
    with pytest.raises(IndexError):
        list(_read_ahead(InOrder(broken), rows_of_batches(7, 2), True))


@pytest.mark.parametrize(
    ("count", "size", "lengths"),
    [(7, 3, [3, 4]), (7, 4, [4, 3]), (6, 3, [3, 3]), (1, 3, [1]), (3, 1, [1, 1, 1]), (4, 3, [4]), (0, 3, [])],
)
def test_single_last_image_joins_the_previous_batch(count, size, lengths):
    """BatchNorm cannot train on one value a channel, as a feature map of one cell gives."""
    parts = rows_of_batches(count, size)
    assert [len(rows) for rows in parts] == lengths
    assert [i for rows in parts for i in rows] == list(range(count))
