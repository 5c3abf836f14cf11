"""One training step: the loss of a batch, and a trial step before training starts."""

import numpy as np
import torch

from insightr_nb.data.folds import FoldData
from insightr_nb.errors import ModelError, RunError
from insightr_nb.model.network import Output, Regressor
from insightr_nb.settings import RunSettings
from insightr_nb.training import checkpoint, hardware


def training_loss(
    network: Regressor, images: torch.Tensor, targets: torch.Tensor, settings: RunSettings
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Compute the terms of the loss with their "total", and the prediction (B,).

    Args:
        network: The network.
        images: (B, S, S, 3) uint8.
        targets: (B,), on the model's scale.
        settings: Precision and loss weights.
    """
    output = forward(network, images, settings)
    return network.loss(output, targets, settings.losses), network.prediction(output).detach()


def forward(network: Regressor, images: torch.Tensor, settings: RunSettings) -> torch.Tensor | Output:
    """Output of the network for images (B, S, S, 3) uint8, in the precision of the training."""
    with hardware.autocast(images.device, settings.training.precision):
        return network(network.inputs(images))


def try_out(settings: RunSettings, data: FoldData) -> None:
    """Run one training step on two full-size images, to detect settings that cannot work before training starts.

    With batches of one, it is a step on one image, because BatchNorm needs more than one value per channel.

    Raises ModelError naming the settings responsible, RunError if memory runs out.
    """
    model = settings.model
    subset = data.training
    count = min(settings.training.batch_size, 2)
    images = torch.from_numpy(np.stack([subset.images[row] for row in subset.rows[:count]]))
    network = checkpoint.build_network(settings, "random").train()
    try:
        with hardware.memory_errors(settings):
            training_loss(network, images, torch.from_numpy(subset.targets[:count]), settings)[0]["total"].backward()
    except RunError:
        raise
    except (RuntimeError, ValueError) as error:
        larger_batch = ", or use more than one image per batch (batch_size)" if count == 1 else ""
        until = f" up to {model.backbone_until}" if model.backbone_until else ""
        raise ModelError(
            f"images of {images.shape[1]} px are too small for {model.backbone}{until} and a block with kernel size "
            f"{model.block_kernel}, stride {model.block_stride} and padding {model.block_padding}: {error}. Prepare "
            f"larger images (size), or change model.backbone_until or model.block_kernel{larger_batch}"
        ) from error
