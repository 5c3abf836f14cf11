"""Where in an image a match comes from: traced back from its cell through the network to the pixels.

A map over cells says where the network *placed* its evidence. Nothing in the training asks for the middle of the
receptive field: a lesion at its rim serves as well, and then maps lie beside what they are about (notebook 08).
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch

from insightr_nb.analysis.explanation import LoadedRun
from insightr_nb.data.graham import GROUND
from insightr_nb.model.network import Regressor

_SIGMA = 1 / 128  # of the Gaussian that joins neighbouring pixels, in sides of the image


def trace(network: Regressor, image: np.ndarray, target: Callable[..., torch.Tensor]) -> np.ndarray:
    """How much each pixel, by what it differs from the grey ground, makes of a scalar: (size, size), not negative.

    image: prepared, (size, size, 3) uint8; target: the network's output to a scalar. Input times gradient (Shrikumar
    et al., "Not just a black box", 2016) with the ground as reference, absolute, summed over channels, and smoothed.
    """
    pixels = network.inputs(torch.tensor(image[None])).requires_grad_()  # (1, 3, size, size)
    ground = network.inputs(torch.full((1, 1, 1, 3), GROUND, dtype=torch.uint8))
    (gradient,) = torch.autograd.grad(target(network(pixels)), pixels)
    made = ((pixels - ground) * gradient).abs().sum(1)[0]
    return smoothed(made.detach().numpy())


def match(run: LoadedRun, image: np.ndarray, prototype: int) -> np.ndarray:
    """(size, size): what in a prepared image makes its match with a prototype, by `trace` of the log similarity."""
    return trace(run.network, image, lambda output: output.similarities[0, prototype].log())


def contrast(image: np.ndarray) -> np.ndarray:
    """(size, size): how much each pixel differs from the ground. What `trace` shows of a network that knows nothing."""
    return smoothed(np.abs(image.astype(np.float32) - GROUND).sum(2))


def smoothed(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(np.ascontiguousarray(values, np.float32), (0, 0), len(values) * _SIGMA)
