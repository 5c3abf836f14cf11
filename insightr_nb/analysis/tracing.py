"""Attribution of a match or a prediction to pixels: a gradient traced back through the network.

A map over cells shows the cell at which the network *encodes* its evidence. Training does not centre evidence in the
receptive field: a lesion at its rim serves equally well, so a map can lie beside the evidence (notebook 08).

The attribution is integrated gradients (Sundararajan et al., "Axiomatic attribution for deep networks", 2017) from the
grey background to the image, by the midpoint rule with a single step, per unit of contrast. The gradient at the image
itself points at lesions less often, perhaps because a match close to its prototype hardly depends on what made it one.
Multiplied by the contrast, as integrated gradients are, even a network with a random backbone points at lesions,
because those stand out. Chosen on validation images, with more steps and occlusion among the alternatives:
`docs/results/attribution_choice.json`.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from insightr_nb.data.graham import GROUND
from insightr_nb.model.network import INSightRNet, Output, Regressor

_SIGMA = 1 / 128  # of the smoothing Gaussian, as a share of the image's side


def trace(network: Regressor, image: np.ndarray, target: Callable[..., torch.Tensor]) -> np.ndarray:
    """Attribute a scalar to pixels: by how much it rises per unit of contrast to the grey background.

    The gradient is that of an image halfway to the background, in the direction of the contrast of each colour. It is
    summed over colours and smoothed, and its positive part is returned.

    Args:
        network: The network.
        image: Prepared image, (size, size, 3) uint8.
        target: Maps the network's output to a scalar.

    Returns:
        (size, size), non-negative.
    """
    return traces(network, image, lambda output: [target(output)])[0]


def traces(network: Regressor, image: np.ndarray, targets: Callable[..., Sequence[torch.Tensor]]) -> np.ndarray:
    """`trace` of several scalars with one pass of the image through the network.

    Args:
        network: The network.
        image: Prepared image, (size, size, 3) uint8.
        targets: Maps the network's output to k scalars.

    Returns:
        (k, size, size), non-negative.
    """
    pixels = network.inputs(torch.tensor(image[None]))  # (1, 3, size, size)
    ground = network.inputs(torch.full((1, 1, 1, 3), GROUND, dtype=torch.uint8))
    halfway = ((pixels + ground) / 2).requires_grad_()
    found = []
    for target in targets(network(halfway)):
        (gradient,) = torch.autograd.grad(target, halfway, retain_graph=True)
        found.append(supporting(gradient * (pixels - ground).sign()))
    return np.stack(found)


def supporting(attribution: torch.Tensor) -> np.ndarray:
    """Sum a signed attribution over colours, smooth it, and keep its positive part: (1, 3, S, S) to (S, S)."""
    return np.maximum(smoothed(attribution.sum(1)[0].detach().cpu().numpy()), 0)


def matched_cells(network: INSightRNet, image: np.ndarray) -> torch.Tensor:
    """Nearest cell of a prepared image (size, size, 3) to each prototype: (m,) int64, row * W + column."""
    with torch.no_grad():
        return network(network.inputs(torch.tensor(image[None]))).distances[0].flatten(1).argmin(1)


def similarities_at(network: INSightRNet, output: Output, cells: torch.Tensor) -> torch.Tensor:
    """Similarities of given cells of the first image, those of `matched_cells`, to the prototypes: (m,).

    Unlike `output.similarities`, they stay those of the same cells while the image fades to the background.
    """
    patches = output.latent[0].flatten(1).T[cells]  # (m, C)
    return network.prototype_layer.similarity((patches - network.prototype_layer.vectors).square().sum(1))


def match(network: INSightRNet, image: np.ndarray, prototype: int) -> np.ndarray:
    """Attribute the match of a prepared image with a prototype to pixels, by `trace` of its log similarity.

    Args:
        network: The network.
        image: Prepared image, (size, size, 3) uint8.
        prototype: Number of the prototype.

    Returns:
        (size, size), non-negative.
    """
    return matches(network, image, [prototype])[0]


def matches(network: INSightRNet, image: np.ndarray, prototypes: Sequence[int]) -> np.ndarray:
    """`match` of several prototypes.

    Args:
        network: The network.
        image: Prepared image, (size, size, 3) uint8.
        prototypes: Numbers of the k prototypes.

    Returns:
        (k, size, size), non-negative.
    """
    cells = matched_cells(network, image)
    return traces(network, image, lambda output: similarities_at(network, output, cells)[list(prototypes)].log())


def prediction(network: Regressor, image: np.ndarray) -> np.ndarray:
    """Attribute a whole prediction to pixels: what raises it.

    Args:
        network: Either network. That of INSightR-Net predicts from the cells that match the whole image.
        image: Prepared image, (size, size, 3) uint8.

    Returns:
        (size, size), non-negative.
    """
    if not network.explains:
        return trace(network, image, torch.sum)
    cells = matched_cells(network, image)
    return trace(network, image, lambda output: network.last_layer(similarities_at(network, output, cells)[None])[0])


def contrast(image: np.ndarray) -> np.ndarray:
    """Image contrast, |pixel - grey background|, smoothed: (size, size). Control for `trace`, without a network."""
    return smoothed(np.abs(image.astype(np.float32) - GROUND).sum(2))


def smoothed(values: np.ndarray) -> np.ndarray:
    """Smooth a map (size, size) with a Gaussian."""
    return cv2.GaussianBlur(np.ascontiguousarray(values, np.float32), (0, 0), len(values) * _SIGMA)
