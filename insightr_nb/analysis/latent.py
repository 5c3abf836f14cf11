"""Two-dimensional projection of the latent space of a finished run (paper, Fig. 3)."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from insightr_nb.analysis.loaded_run import LoadedRun


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
