"""Prototype layer and weighted mean: Eq. 1 and Eq. 2 of Hesse and Namburete (MICCAI 2022)."""

import torch
from torch import nn


def squared_distances(latent: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance of every latent patch to every prototype (paper, section 2, "Prototype Layer").

    latent: (B, C, H, W); prototypes: (m, C). Returns (B, m, H, W) float32, non-negative, and exactly 0 where a patch
    equals a prototype.

    Distances are computed from differences: the expansion ||x||^2 - 2xp + ||p||^2 loses precision at the small
    distances that dominate the similarity. Autocast is off and no matrix product is used, so neither bfloat16 nor
    TF32 affects the result.

    Example:
        >>> latent = torch.tensor([[0.0, 3.0], [0.0, 4.0]]).reshape(1, 2, 1, 2)  # patches (0, 0) and (3, 4)
        >>> squared_distances(latent, prototypes=torch.zeros(1, 2)).tolist()
        [[[[0.0, 25.0]]]]
    """
    batch, channels, height, width = latent.shape
    with torch.autocast(latent.device.type, enabled=False):
        patches = latent.float().flatten(2).transpose(1, 2).contiguous()  # (B, H * W, C)
        distances = torch.cdist(
            prototypes.float().expand(batch, -1, -1), patches, compute_mode="donot_use_mm_for_euclid_dist"
        )  # (B, m, H * W)
        return distances.square().unflatten(2, (height, width))  # (B, m, H, W)


def similarity(
    distance: torch.Tensor, max_distance: float, kind: str = "inverse", epsilon: float = 1e-4
) -> torch.Tensor:
    """Similarity of a squared distance d.

    "inverse" is Eq. 1, 1 / (d / d_max + epsilon), at most 1 / epsilon. "log" is log((d + 1) / (d + epsilon)) of
    ProtoPNet (Chen et al., NeurIPS 2019), which does not normalise d.

    Args:
        distance: Squared distances of any shape.
        max_distance: Largest possible squared distance, d_max.
        kind: "inverse" or "log".
        epsilon: Bounds the similarity at d = 0.

    Returns:
        Similarities in the shape of `distance`.

    Raises:
        ValueError: For an unknown `kind`.

    Example:
        >>> similarity(torch.tensor([0.0, 1.0]), max_distance=4.0, epsilon=0.25).tolist()
        [4.0, 2.0]
    """
    if kind == "inverse":
        return 1 / (distance / max_distance + epsilon)
    if kind == "log":
        return torch.log((distance + 1) / (distance + epsilon))
    raise ValueError(f"kind = {kind!r}: must be 'inverse' or 'log'")


def weighted_mean(
    similarities: torch.Tensor, theta: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict by Eq. 2: mean of the prototype labels, weighted by contributions w = s * r with r = theta^2 / label.

    Args:
        similarities: (B, m), s.
        theta: (m,) parameters of the last layer.
        labels: (m,), positive.

    Returns:
        Prediction (B,) and contributions (B, m).

    Example:
        >>> labels = torch.tensor([1.0, 4.0])
        >>> weighted_mean(torch.tensor([[1.0, 3.0]]), theta=labels.sqrt(), labels=labels)  # (1 * 1 + 3 * 4) / (1 + 3)
        (tensor([3.2500]), tensor([[1., 3.]]))
    """
    weights = similarities * importance(theta, labels)  # (B, m)
    return (weights * labels).sum(1) / weights.sum(1), weights


def importance(theta: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Prototype importance score r (m,), from theta^2 = r * label (paper, below Eq. 2). theta, labels: (m,)."""
    return theta.square() / labels


class PrototypeLayer(nn.Module):
    """g_p: distances of latent patches to m learned prototypes, and similarities of the nearest patches."""

    def __init__(self, prototypes: int, channels: int, kind: str, epsilon: float) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.rand(prototypes, channels))  # (m, C), in the unit cube of the latent space
        self.kind, self.epsilon = kind, epsilon
        self.max_distance = float(channels)  # squared diagonal of the unit cube

    def forward(
        self, latent: torch.Tensor, outside: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Compute distances (B, m, H, W), min_distances (B, m) and similarities (B, m) of latent patches (B, C, H, W).

        Gradients pass through the nearest patches only, which are all that the losses depend on: `distances` has none,
        and is None in a training step (in `train()`, with gradients).

        outside: (B, H, W) bool, cells that cannot match; their distance is set to the maximum.
        """
        with_gradient = torch.is_grad_enabled() and (latent.requires_grad or self.vectors.requires_grad)
        with torch.no_grad():
            if with_gradient and self.training:
                distances, cells = None, self._nearest_cells(latent, outside)
            else:
                distances = self.distances(latent, self.vectors, outside)  # (B, m, H, W)
                cells = distances.flatten(2).argmin(2) if with_gradient else None  # (B, m)
        min_distances = self._distances_at(cells, latent, outside) if with_gradient else distances.flatten(2).amin(2)
        return distances, min_distances, self.similarity(min_distances)

    def _nearest_cells(self, latent: torch.Tensor, outside: torch.Tensor | None) -> torch.Tensor:
        """Nearest cell to each prototype (B, m), by the expansion ||x||^2 - 2xp + ||p||^2.

        A tenth of the time of `distances`, and precise enough to choose a cell, but not for its distance.
        """
        with torch.autocast(latent.device.type, enabled=False):
            patches, vectors = latent.float().flatten(2), self.vectors.float()  # (B, C, H * W), (m, C)
            squares = patches.square().sum(1, keepdim=True) + vectors.square().sum(1)[:, None]  # (B, m, H * W)
            distances = torch.baddbmm(squares, vectors.expand(len(patches), -1, -1), patches, alpha=-2)
        if outside is not None:
            distances = distances.masked_fill(outside.flatten(1)[:, None], self.max_distance)
        return distances.argmin(2)

    def _distances_at(self, cells: torch.Tensor, latent: torch.Tensor, outside: torch.Tensor | None) -> torch.Tensor:
        """Squared distances (B, m) of given cells (B, m) to the prototypes, with a gradient."""
        with torch.autocast(latent.device.type, enabled=False):
            patches = latent.float().flatten(2).transpose(1, 2)  # (B, H * W, C)
            first = patches.shape[1] * torch.arange(len(cells), device=cells.device)[:, None]  # cell of each image
            patches = patches.flatten(0, 1).index_select(0, (first + cells).flatten())  # whole rows: a cheap backward
            patches = patches.unflatten(0, cells.shape)  # (B, m, C)
            distances = (patches - self.vectors.float()).square().sum(2)
        if outside is None:
            return distances
        return distances.masked_fill(outside.flatten(1).gather(1, cells), self.max_distance)

    def distances(self, latent: torch.Tensor, vectors: torch.Tensor, outside: torch.Tensor | None) -> torch.Tensor:
        """Squared distances of latent patches to the given vectors.

        Args:
            latent: (B, C, H, W).
            vectors: (m, C).
            outside: (B, H, W) bool, cells whose distance is set to the maximum; None for no such cells.

        Returns:
            (B, m, H, W).
        """
        distances = squared_distances(latent, vectors)
        return distances if outside is None else distances.masked_fill(outside[:, None], self.max_distance)

    def similarity(self, distance: torch.Tensor) -> torch.Tensor:
        """Similarity of squared distances, with the layer's kind and epsilon."""
        return similarity(distance, self.max_distance, self.kind, self.epsilon)


class WeightedMean(nn.Module):
    """h_fc: the last layer. theta^2 is initialised to the labels, so every prototype starts with importance r = 1."""

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("labels", labels)  # (m,), fixed
        self.theta = nn.Parameter(labels.sqrt())  # (m,)

    def forward(self, similarities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weighted_mean(similarities, self.theta, self.labels)
