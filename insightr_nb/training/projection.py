"""Projection: replace every prototype by the nearest latent patch of the training set (paper, "Training Algorithm")."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from insightr_nb import files
from insightr_nb.data.folds import FoldData
from insightr_nb.data.loading import InOrder, Subset, batches
from insightr_nb.model.network import INSightRNet
from insightr_nb.runs import Run


@dataclass(frozen=True)
class Projection:
    """Source patch of each of the m prototypes.

    Attributes:
        positions: (m,) indices into the projected subset.
        rows: (m,) row of the latent cell.
        columns: (m,) column of the latent cell.
        distances: (m,) squared distance from the prototype before projection to its patch.
        before: (m, C) prototype vectors before projection.
        maps: (m, H, W) squared distances of the projected prototypes on their source images.
    """

    positions: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    distances: np.ndarray
    before: np.ndarray
    maps: np.ndarray


class _Candidates(NamedTuple):
    """Nearest patch of each of the m prototypes among the images so far, with the latent of its image."""

    distance: torch.Tensor  # (m,)
    place: torch.Tensor  # (m, 3), position in the subset, row, column
    latents: torch.Tensor  # (m, C, H, W)
    outside: torch.Tensor | None  # (m, H, W)

    def improved(self, later: "_Candidates") -> "_Candidates":
        """Take the patches that are nearer in `later`; of two as near, the earlier.

        Done with `where`: to index by a condition, the host would wait for the device.
        """
        nearer = later.distance < self.distance
        pairs = zip(self, later, strict=True)
        return _Candidates(
            *(
                None if new is None else torch.where(nearer.view(-1, *[1] * (new.ndim - 1)), new, old)
                for old, new in pairs
            )
        )


@torch.no_grad()
def project(network: INSightRNet, subset: Subset, batch_size: int = 30) -> Projection:
    """Replace every prototype by the nearest latent patch among all images, in place.

    One float32 pass over the un-augmented images in order; memory depends on m, not on the number of images. Ties go to
    the lowest (distance, image, row, column), so the result does not depend on the batch size.

    Args:
        network: The network, set to `eval()`.
        subset: Images to search.
        batch_size: Images per batch.

    Returns:
        The source patch of each prototype.
    """
    network.eval()
    layer = network.prototype_layer
    device = layer.vectors.device
    m = len(layer.vectors)
    before = layer.vectors.detach().clone()  # (m, C)
    nearest: _Candidates | None = None
    start = 0
    for images, _ in batches(InOrder(subset), batch_size, device):
        inputs = network.inputs(images)
        latent = network.latent(inputs)  # (B, C, H, W)
        b, _, height, width = latent.shape
        outside = network.outside(inputs, height)
        distances = layer.distances(latent, before, outside)  # (B, m, H, W)
        flat = distances.transpose(0, 1).flatten(1)  # (m, B * H * W), in the order image, row, column
        distance = flat.amin(1)
        cell = (flat == distance[:, None]).int().argmax(1)  # first of equal distances
        image, row, column = cell // (height * width), cell // width % height, cell % width
        place = torch.stack([start + image, row, column], 1)
        found = _Candidates(distance, place, latent[image], None if outside is None else outside[image])
        nearest = found if nearest is None else nearest.improved(found)
        start += b
    _, place, latents, outside = nearest
    layer.vectors.copy_(latents[torch.arange(m, device=device), :, place[:, 1], place[:, 2]])
    maps = []
    for j in range(m):
        hidden = None if outside is None else outside[j, None]
        maps.append(layer.distances(latents[j, None], layer.vectors[j, None], hidden)[0, 0])  # (H, W)
    positions, rows, columns = place.cpu().numpy().T
    moved = nearest.distance.cpu().numpy()
    return Projection(positions, rows, columns, moved, before.cpu().numpy(), torch.stack(maps).cpu().numpy())


def write_prototypes(run: Run, projection: Projection, network: INSightRNet, data: FoldData) -> None:
    """Write prototypes.csv, prototype_maps.npy and prototypes_before_projection.npy of a run.

    Args:
        run: The run.
        projection: Sources of the prototypes, with positions in the training set with every image once.
        network: The network, for its prototype labels.
        data: Data of the fold.
    """
    labels = data.store.scale.to_user(network.prototype_labels.cpu().double().numpy())
    rows = data.training.once().rows[projection.positions]
    files.write_csv(
        run / "prototypes.csv",
        [
            {
                "prototype": j,
                "label": round(float(labels[j]), 6),
                "image_id": data.store.table["image_id"][rows[j]],
                "row": int(projection.rows[j]),
                "col": int(projection.columns[j]),
                "distance_before_projection": float(projection.distances[j]),
            }
            for j in range(len(labels))
        ],
    )
    files.write_array(run / "prototype_maps.npy", projection.maps)
    files.write_array(run / "prototypes_before_projection.npy", projection.before)
