"""Sanity check of maps: the same network with a random backbone, which has learned nothing of where lesions are.

After Adebayo et al., "Sanity checks for saliency maps", 2018. What a map shows of a trained network is only evidence of
what was learned as far as the map of the random network does not show it too.
"""

import copy

import numpy as np
import torch
from torch.optim.swa_utils import update_bn

from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.data import splits
from insightr_nb.model.network import Regressor

SEEDS = (1, 2, 3)
_IMAGES, _BATCH = 100, 25  # for the BatchNorm statistics


def training_images(run: LoadedRun, count: int = _IMAGES) -> np.ndarray:
    """Prepared images that are not test images, evenly spaced: at most `count`, (N, size, size, 3) uint8."""
    rows = np.flatnonzero(run.store.table["split"] == "train")
    return np.array(run.store.images[rows[splits.evenly_spaced(len(rows), count)]])


def random_backbones(network: Regressor, images: np.ndarray, seeds: tuple[int, ...] = SEEDS) -> list[Regressor]:
    """Copies of a network with a random backbone; all that follows it, such as block and prototypes, is kept.

    BatchNorm statistics are those of the given images, so that features are of the scale that the rest expects.

    Args:
        network: Either network; it is not modified.
        images: (N, size, size, 3) uint8.
        seeds: One copy per seed.

    Returns:
        The copies, in `eval()` mode.
    """
    copies = []
    for seed in seeds:
        changed = copy.deepcopy(network)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for module in changed.backbone.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        with torch.no_grad():
            parts = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
            update_bn((changed.inputs(torch.from_numpy(part)) for part in parts), changed.backbone)
        copies.append(changed.eval())
    return copies
