"""Familiarity of an image: whether it resembles the images that a run was trained on.

Distances in the latent space do not tell. A network maps unfamiliar photographs onto patches that it knows: one trained
on the synthetic drawings finds nearer prototypes in real photographs than in its own test images (docs/trust.md). The
first convolution has not discarded what differs. Its channel statistics, the mean and standard deviation of every
channel over the fundus, are compared with those of the training images by the Mahalanobis distance (Lee et al., "A
simple unified framework for detecting out-of-distribution samples", 2018), with the covariance of Ledoit and Wolf. The
distances of the validation images say which distance is usual.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from torch import nn
from torch.nn import functional as F

from insightr_nb.data import splits
from insightr_nb.data.loading import InOrder, Subset, batches
from insightr_nb.model.network import INSightRNet

LEAST = 0.03  # an image is unfamiliar if less than this share of the validation images are as far away
FILES = ("statistics_training.npy", "statistics_validation.npy")  # in the folder of a run
_MOST = 2000  # images measured of each subset


@torch.no_grad()
def channel_statistics(network: INSightRNet, images: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of every channel of the first convolution over the pixels that are not background.

    Args:
        network: The network.
        images: (B, S, S, 3) uint8.

    Returns:
        (B, 2 * channels).
    """
    inputs = network.inputs(images)  # (B, 3, S, S)
    convolution = next(layer for layer in network.backbone.modules() if isinstance(layer, nn.Conv2d))
    values = convolution(inputs)  # (B, C, H, W)
    inside = F.adaptive_avg_pool2d((~network.ground_pixels(inputs)).float(), values.shape[2:]) > 0.5  # (B, 1, H, W)
    count = inside.sum((2, 3)).clamp(min=1)  # (B, 1)
    mean = (values * inside).sum((2, 3)) / count
    variance = ((values - mean[..., None, None]).square() * inside).sum((2, 3)) / count
    return torch.cat([mean, variance.sqrt()], 1)


def statistics(network: INSightRNet, subset: Subset, batch_size: int = 30) -> np.ndarray:
    """`channel_statistics` of at most 2000 images of a subset, evenly spaced: (n, 2 * channels) float32.

    Args:
        network: The network.
        subset: The images.
        batch_size: Images per batch.
    """
    subset = subset.once()
    rows = splits.evenly_spaced(len(subset), _MOST)
    chosen = Subset(subset.images, subset.rows[rows], subset.targets[rows], subset.strata[rows])
    device = network.mean.device
    parts = [channel_statistics(network, images).cpu() for images, _ in batches(InOrder(chosen), batch_size, device)]
    return torch.cat(parts).numpy()


@dataclass(frozen=True)
class Reference:
    """What is usual for a run.

    Attributes:
        mean: (d,) mean statistics of the training images.
        scale: (d,) their standard deviations.
        precision: (d, d) inverse of their covariance, after division by `scale`.
        usual: (V,) distances of the validation images.
    """

    mean: np.ndarray
    scale: np.ndarray
    precision: np.ndarray
    usual: np.ndarray

    @classmethod
    def of(cls, training: np.ndarray, validation: np.ndarray) -> "Reference":
        """Estimate the reference from the `statistics` of training and validation images, (n, d) each."""
        mean, scale = training.mean(0, dtype=float), training.std(0, dtype=float) + 1e-6
        precision = LedoitWolf(assume_centered=True).fit((training - mean) / scale).precision_
        found = cls(mean, scale, precision, np.empty(0))
        return cls(mean, scale, precision, found.distance(validation))

    def distance(self, values: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance of statistics (n, d) to the training images: (n,)."""
        z = (values - self.mean) / self.scale
        return np.einsum("ni,ij,nj->n", z, self.precision, z)

    def familiarity(self, values: np.ndarray) -> np.ndarray:
        """Share of the validation images that are at least as far from the training images: (n,), from 0 to 1."""
        return (self.usual >= self.distance(values)[:, None]).mean(1)


def warning(familiarity: float, dataset: str) -> str | None:
    """Return a warning for an unfamiliar image, or None.

    Args:
        familiarity: Result of `Reference.familiarity`.
        dataset: Name of the data set that the run was trained on.
    """
    if familiarity >= LEAST:
        return None
    share = f"{familiarity:.0%}" if familiarity else "none"
    return (
        f"This image is unlike the images of {dataset!r} that the run was trained on: {share} of its validation images "
        "differ as much."
    )
