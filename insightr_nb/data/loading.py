"""Batches from a prepared store. The order and augmentation of an epoch depend only on (seed, epoch)."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from insightr_nb.data import splits
from insightr_nb.settings import TrainingSettings

_THREADS = 4  # reader threads for a GPU


@dataclass(frozen=True)
class Subset:
    """Training, validation or test images of a fold: rows of a store with their targets.

    Attributes:
        images: (N_store, S, S, 3) uint8, memory-mapped.
        rows: (n,) int, indices into `images`.
        targets: (n,) float32 on the model's scale.
        strata: (n,) int, classes to balance.
    """

    images: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    strata: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def once(self) -> "Subset":
        """Return the subset with every image once, in store order; a split file may list an image several times."""
        rows, first = np.unique(self.rows, return_index=True)
        return Subset(self.images, rows, self.targets[first], self.strata[first])


class Epoch:
    """Images of one training epoch: balanced, shuffled, rotated and scaled, with randomness from (seed, epoch).

    With `on_device`, items are not augmented; `batches` rotates and scales whole batches on the device instead.
    """

    def __init__(
        self, subset: Subset, settings: TrainingSettings, seed: int, epoch: int, on_device: bool = False
    ) -> None:
        rng = np.random.default_rng([seed, epoch])
        self.subset, self.fill = subset, settings.fill
        self.on_device = on_device
        self.order = splits.balanced(subset.strata, rng)
        self.angles = rng.uniform(0, settings.rotation, len(self.order))  # degrees
        self.scales = rng.uniform(settings.scale_min, settings.scale_max, len(self.order))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.float32]:
        position = self.order[i]
        image = self.subset.images[self.subset.rows[position]]
        target = self.subset.targets[position]
        if self.on_device:
            return image, target
        return augment(image, self.angles[i], self.scales[i], self.fill), target


class InOrder:
    """The images of a subset, un-augmented and in order."""

    def __init__(self, subset: Subset) -> None:
        self.subset = subset

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.float32]:
        return self.subset.images[self.subset.rows[i]], self.subset.targets[i]


def augment(image: np.ndarray, angle: float, scale: float, fill: int) -> np.ndarray:
    """Rotate and scale an image about its centre.

    Args:
        image: (S, S, 3) uint8.
        angle: Angle in degrees.
        scale: Scale factor.
        fill: Grey level of exposed corners.

    Returns:
        (S, S, 3) uint8.
    """
    size = image.shape[0]
    centre = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), angle, scale)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(fill, fill, fill))


def augment_batch(images: torch.Tensor, angle: torch.Tensor, scale: torch.Tensor, fill: int) -> torch.Tensor:
    """Apply `augment` to a batch on its device.

    Args:
        images: (B, S, S, 3) uint8.
        angle: (B,) in radians, on the device of the images.
        scale: (B,) scale factors, on the same device.
        fill: Grey level of exposed corners.

    Returns:
        (B, S, S, 3) uint8.
    """
    cosine, sine, zero = angle.cos() / scale, angle.sin() / scale, torch.zeros_like(angle)
    back = torch.stack([cosine, -sine, zero, sine, cosine, zero], 1).view(-1, 2, 3)  # maps output to input coordinates
    x = images.permute(0, 3, 1, 2).float() - fill  # (B, 3, S, S); zero padding becomes `fill`
    grid = F.affine_grid(back, x.shape, align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False) + fill
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def rows_of_batches(count: int, batch_size: int) -> list[range]:
    """Return the rows of each batch, in order. A last batch of one is merged into the previous: BatchNorm needs two."""
    starts = list(range(0, count, batch_size))
    if batch_size > 1 and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return [range(*ends) for ends in pairwise([*starts, count])]


def batches(
    dataset: Epoch | InOrder, batch_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Iterate over the batches of a data set, in its order.

    With CUDA, threads read ahead from the store into pinned memory, and a stream of their own copies and rotates the
    next batches while the network works on this one; the host never waits for the device. Threads, unlike processes,
    need neither shared memory nor a copy of the store. On a CPU there is no reading ahead, to leave its cores to the
    network.

    Args:
        dataset: Images to iterate over.
        batch_size: Images per batch.
        device: Device of the batches.

    Yields:
        Images (B, S, S, 3) uint8 and targets (B,) float32, on the device.
    """
    cuda = device.type == "cuda"
    parts = rows_of_batches(len(dataset), batch_size)
    turns = None
    if isinstance(dataset, Epoch) and dataset.on_device:  # copied once, since each copy from the host is a wait
        turns = torch.tensor(np.stack([np.radians(dataset.angles), dataset.scales]), dtype=torch.float32).to(device)

    def to_device(rows: range, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        if turns is not None:
            images = augment_batch(images, *turns[:, rows.start : rows.stop], dataset.fill)
        return images, targets

    read = zip(parts, _read_ahead(dataset, parts, cuda), strict=True)
    if not cuda:
        yield from (to_device(rows, *batch) for rows, batch in read)
        return
    side, issued = _side_stream(device), deque()
    for rows, batch in read:
        with torch.cuda.stream(side):
            issued.append((to_device(rows, *batch), side.record_event()))
        if len(issued) > 1:  # the next batch is under way before this one is used
            yield _taken_over(*issued.popleft(), device)
    while issued:
        yield _taken_over(*issued.popleft(), device)


@cache
def _side_stream(device: torch.device) -> "torch.cuda.Stream":
    """The stream that copies and rotates; a single one, because PyTorch's allocator keeps memory for each stream."""
    return torch.cuda.Stream(device)


def _taken_over(
    batch: tuple[torch.Tensor, torch.Tensor], ready: "torch.cuda.Event", device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let the current stream wait for a batch of the side stream, and keep its memory until that stream has used it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(ready)
    for tensor in batch:
        tensor.record_stream(current)
    return batch


def _read_ahead(
    dataset: Epoch | InOrder, parts: list[range], cuda: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    shape, empty = dataset.subset.images.shape[1:], partial(torch.empty, pin_memory=True) if cuda else torch.empty

    def read(rows: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a batch from the store into (pinned) memory, which PyTorch reuses once the device has copied it."""
        images, targets = empty((len(rows), *shape), dtype=torch.uint8), empty(len(rows))
        pixels, labels = images.numpy(), targets.numpy()
        for k, i in enumerate(rows):
            pixels[k], labels[k] = dataset[i]
        return images, targets

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
    finally:  # also if the caller stops early
        pool.shutdown(cancel_futures=True)
