"""The latent space of a finished run in two dimensions (paper, Fig. 3)."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from insightr_nb.analysis.explanation import LoadedRun


@dataclass(frozen=True)
class LatentMap:
    """Principal components of the test patches nearest to a prototype and of the prototypes.

    patches: (N * 5, 2); targets: (N * 5,) labels of their images; prototypes: (m, 2) after the projection; before:
    (m, 2); variance: (2,) shares of the two components.
    """

    patches: np.ndarray
    targets: np.ndarray
    prototypes: np.ndarray
    before: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, loaded: LoadedRun) -> "LatentMap":
        run = loaded.run
        patches = run.array("nearest_latents.npy")  # (N, 5, C)
        targets = np.repeat(run.table("predictions.csv")["target"].to_numpy(), patches.shape[1])
        vectors = loaded.network.prototype_layer.vectors.detach().numpy()
        flat = patches.reshape(-1, patches.shape[2])
        pca = PCA(2).fit(np.concatenate([flat, vectors]))
        before = pca.transform(run.array("prototypes_before_projection.npy"))
        return cls(pca.transform(flat), targets, pca.transform(vectors), before, pca.explained_variance_ratio_)
