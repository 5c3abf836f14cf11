"""The latent space of a finished run (paper, Fig. 3): projection to two dimensions, and how near the prototypes are.

The figure's patches are those that `evaluation.nearest_latents` stores: the five *distinct* cells of an image that are
nearest to any prototype, which is one reading of the caption, "the 5 embeddings closest to a prototype". The published
code (PPNet.forward with return_convs) takes the five prototypes nearest to the image and, for each of them, the cell
nearest to it: a cell that is nearest to several prototypes is taken several times. `published_cells` counts these.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.runs import Run


@dataclass(frozen=True)
class LatentMap:
    """First two principal components of the prototypes and of the test patches nearest to a prototype.

    Attributes:
        patches: (N * 5, 2).
        targets: (N * 5,) labels of the patches' images.
        prototypes: (m, 2) after projection onto training patches.
        before: (m, 2) before that projection.
        variance: (2,) explained variance ratios.
    """

    patches: np.ndarray
    targets: np.ndarray
    prototypes: np.ndarray
    before: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, loaded: LoadedRun) -> "LatentMap":
        """Fit the PCA to the stored patches and the prototypes of a run."""
        patches = loaded.run.array("nearest_latents.npy")  # (N, 5, C)
        targets = np.repeat(loaded.predictions["target"].to_numpy(), patches.shape[1])
        vectors = loaded.network.prototype_layer.vectors.detach().cpu().numpy()
        flat = patches.reshape(-1, patches.shape[2])
        pca = PCA(2).fit(np.concatenate([flat, vectors]))
        before = pca.transform(loaded.run.array("prototypes_before_projection.npy"))
        return cls(pca.transform(flat), targets, pca.transform(vectors), before, pca.explained_variance_ratio_)


def scatter(run: Run) -> float:
    """Mean squared distance of the stored patches to their nearest prototype, divided by the variance of the patches.

    0 if every patch equals a prototype, 1 if they are as far from the prototypes as from their own mean.
    """
    patches = run.array("nearest_latents.npy").astype(float)  # (N, 5, C)
    nearest = run.array("distances.npy").min(axis=1).reshape(len(patches), -1)  # (N, H * W)
    nearest = np.sort(nearest, axis=1)[:, : patches.shape[1]]
    variance = np.square(patches - patches.mean((0, 1))).sum(2).mean()
    return float(nearest.mean() / variance)


def published_cells(distances: np.ndarray, count: int = 5) -> tuple[float, float]:
    """Compare the cells that the published code takes for Fig. 3 with those of this package.

    Args:
        distances: (N, m, H, W) squared distances.
        count: Number of cells per image.

    Returns:
        Share of the published code's cells that are among this package's, and the mean number of distinct ones among
        the published code's `count`.
    """
    flat = np.asarray(distances).reshape(*distances.shape[:2], -1)  # (N, m, H * W)
    own = np.argsort(flat.min(1), axis=1, kind="stable")[:, :count]
    prototypes = np.argsort(flat.min(2), axis=1, kind="stable")[:, :count]
    published = np.take_along_axis(flat.argmin(2), prototypes, axis=1)  # (N, count)
    shared = (published[:, :, None] == own[:, None, :]).any(2).mean()
    return float(shared), float(np.mean([len(set(cells)) for cells in published]))
