"""Batches from a prepared store. Order and augmentation of an epoch depend on (seed, epoch) only."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from insightr_nb.data import splits
from insightr_nb.settings import TrainingSettings

_THREADS = 4  # that read for a card


@dataclass(frozen=True)
class Part:
    """Rows of a store with their targets: one part of a split.

    images: (N_store, S, S, 3) uint8, memory-mapped; rows: (n,) into it; targets: (n,) float32 on the model's scale;
    strata: (n,) int, what is kept in balance.
    """

    images: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    strata: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def once(self) -> "Part":
        """Every image once, in the order of the store; a split file may list an image several times."""
        rows, first = np.unique(self.rows, return_index=True)
        return Part(self.images, rows, self.targets[first], self.strata[first])


class Epoch:
    """The images of one training epoch: balanced, shuffled, rotated and scaled, all drawn from (seed, epoch).

    on_device: `batches` rotates and scales whole batches on the device, so that an image costs the loader a copy.
    """

    def __init__(self, part: Part, settings: TrainingSettings, seed: int, epoch: int, on_device: bool = False):
        rng = np.random.default_rng([seed, epoch])
        self.part, self.fill = part, settings.fill
        self.on_device = on_device
        self.order = splits.balanced(part.strata, rng)
        self.angles = rng.uniform(0, settings.rotation, len(self.order))  # degrees
        self.scales = rng.uniform(settings.scale_min, settings.scale_max, len(self.order))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int):
        position = self.order[i]
        image = self.part.images[self.part.rows[position]]
        target = self.part.targets[position]
        if self.on_device:
            return np.array(image), target
        return augment(image, self.angles[i], self.scales[i], self.fill), target


class InOrder:
    """Every image of a part once, un-augmented, in the order of the part."""

    def __init__(self, part: Part):
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, i: int):
        return np.array(self.part.images[self.part.rows[i]]), self.part.targets[i]


def augment(image: np.ndarray, angle: float, scale: float, fill: int) -> np.ndarray:
    """Rotation by `angle` degrees and scaling about the centre; what comes into view is filled with grey `fill`."""
    size = image.shape[0]
    centre = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), angle, scale)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(fill, fill, fill))


def augment_batch(images: torch.Tensor, angles: np.ndarray, scales: np.ndarray, fill: int) -> torch.Tensor:
    """`augment` for a batch, on its device. images: (B, S, S, 3) uint8; angles, scales: (B,). Returns the same form."""
    angle, scale = (torch.as_tensor(v, dtype=torch.float32).to(images.device) for v in (np.radians(angles), scales))
    cosine, sine, zero = angle.cos() / scale, angle.sin() / scale, torch.zeros_like(angle)
    back = torch.stack([cosine, -sine, zero, sine, cosine, zero], 1).view(-1, 2, 3)  # from result to image
    x = images.permute(0, 3, 1, 2).float() - fill  # (B, 3, S, S); what lies outside is 0
    grid = F.affine_grid(back, x.shape, align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False) + fill
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def rows_of_batches(count: int, batch_size: int) -> list[range]:
    """The rows of every batch, in order. A last batch of one joins the one before: BatchNorm needs two values."""
    starts = list(range(0, count, batch_size))
    if batch_size > 1 and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return [range(*ends) for ends in pairwise([*starts, count])]


def batches(
    dataset: Epoch | InOrder, batch_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of (images (B, S, S, 3) uint8, targets (B,) float32) on the device, in the order of the dataset.

    With CUDA, threads read ahead into pinned memory, from which a copy is asynchronous; threads need neither shared
    memory nor a copy of the store. A CPU's cores are the network's.
    """
    parts = rows_of_batches(len(dataset), batch_size)
    for rows, (images, targets) in zip(parts, _read_ahead(dataset, parts, device.type == "cuda"), strict=True):
        images = images.to(device, non_blocking=True)
        if isinstance(dataset, Epoch) and dataset.on_device:
            seen = slice(rows.start, rows.stop)
            images = augment_batch(images, dataset.angles[seen], dataset.scales[seen], dataset.fill)
        yield images, targets.to(device, non_blocking=True)


def _read_ahead(
    dataset: Epoch | InOrder, parts: list[range], cuda: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    def read(rows: range) -> tuple[torch.Tensor, torch.Tensor]:
        images, targets = zip(*(dataset[i] for i in rows), strict=True)
        batch = torch.from_numpy(np.stack(images)), torch.from_numpy(np.array(targets, np.float32))
        return tuple(tensor.pin_memory() for tensor in batch) if cuda else batch

    if not cuda:
        yield from map(read, parts)
        return
    pool = ThreadPoolExecutor(_THREADS)
    try:
        waiting = deque(pool.submit(read, rows) for rows in parts[: 2 * _THREADS])
        for rows in [*parts[2 * _THREADS :], *[None] * len(waiting)]:
            yield waiting.popleft().result()
            if rows is not None:
                waiting.append(pool.submit(read, rows))
    finally:  # also where the loop over the batches ends early
        pool.shutdown(cancel_futures=True)
