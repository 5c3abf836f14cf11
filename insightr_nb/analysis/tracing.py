"""Attribution of a match to pixels: gradients traced from the cell back through the network.

A map over cells shows the cell at which the network *encodes* its evidence. Training does not centre evidence in the
receptive field: a lesion at its rim serves equally well, so a map can lie beside the evidence (notebook 08).
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.data.graham import GROUND
from insightr_nb.model.network import Regressor

_SIGMA = 1 / 128  # of the smoothing Gaussian, as a share of the image's side


def trace(network: Regressor, image: np.ndarray, target: Callable[..., torch.Tensor]) -> np.ndarray:
    """Input-times-gradient attribution of a scalar, relative to the grey background.

    Shrikumar et al., "Not just a black box", 2016; absolute values, summed over channels and smoothed.

    Args:
        network: The network.
        image: Prepared image, (size, size, 3) uint8.
        target: Maps the network's output to a scalar.

    Returns:
        (size, size), non-negative.
    """
    return _traced(network, image, lambda output: [target(output)])[0]


def match(run: LoadedRun, image: np.ndarray, prototype: int) -> np.ndarray:
    """Attribute the match of a prepared image with a prototype to pixels, by `trace` of the log similarity.

    Args:
        run: The run.
        image: Prepared image, (size, size, 3) uint8.
        prototype: Number of the prototype.

    Returns:
        (size, size), non-negative.
    """
    return matches(run, image, [prototype])[0]


def matches(run: LoadedRun, image: np.ndarray, prototypes: Sequence[int]) -> np.ndarray:
    """`match` of several prototypes with one pass of the image through the network.

    Args:
        run: The run.
        image: Prepared image, (size, size, 3) uint8.
        prototypes: Numbers of the k prototypes.

    Returns:
        (k, size, size), non-negative.
    """
    return _traced(run.network, image, lambda output: [output.similarities[0, j].log() for j in prototypes])


def patch(run: LoadedRun, image: np.ndarray, row: int, col: int) -> np.ndarray:
    """Attribute a latent patch to pixels: `trace` of its squared distance to the patch of a grey image at that place.

    For the source of a prototype, where `match` is 0: at distance 0 the similarity has no gradient.

    Args:
        run: The run.
        image: Prepared image, (size, size, 3) uint8.
        row: Row of the patch's cell.
        col: Column.

    Returns:
        (size, size), non-negative.
    """
    with torch.no_grad():
        grey = run.network.inputs(torch.full((1, *image.shape), GROUND, dtype=torch.uint8))
        nothing = run.network.latent(grey)[0, :, row, col]  # (C,)
    return trace(run.network, image, lambda output: (output.latent[0, :, row, col] - nothing).square().sum())


def _traced(network: Regressor, image: np.ndarray, targets: Callable[..., Sequence[torch.Tensor]]) -> np.ndarray:
    pixels = network.inputs(torch.tensor(image[None])).requires_grad_()  # (1, 3, size, size)
    ground = network.inputs(torch.full((1, 1, 1, 3), GROUND, dtype=torch.uint8))
    traces = []
    for target in targets(network(pixels)):
        (gradient,) = torch.autograd.grad(target, pixels, retain_graph=True)
        made = ((pixels - ground) * gradient).abs().sum(1)[0]
        traces.append(smoothed(made.detach().cpu().numpy()))
    return np.stack(traces)


def contrast(image: np.ndarray) -> np.ndarray:
    """Image contrast, |pixel - grey background|, smoothed: (size, size). Control for `trace`, without a network."""
    return smoothed(np.abs(image.astype(np.float32) - GROUND).sum(2))


def smoothed(values: np.ndarray) -> np.ndarray:
    """Smooth a map (size, size) with a Gaussian."""
    return cv2.GaussianBlur(np.ascontiguousarray(values, np.float32), (0, 0), len(values) * _SIGMA)
