"""Prototype layer and weighted mean: Eq. 1 and Eq. 2 of Hesse and Namburete (MICCAI 2022)."""

import torch
from torch import nn


def squared_distances(latent: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance of every latent patch to every prototype (paper, section 2, "Prototype Layer").

    latent: (B, C, H, W); prototypes: (m, C). Returns (B, m, H, W), float32, never negative, and 0 wherever a patch
    equals a prototype. Computed from differences: the expansion ||x||^2 - 2xp + ||p||^2 loses the small distances that
    decide the similarity. Autocast is off and no matrix product is used, so neither bfloat16 nor TF32 come in.
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
    """Similarity of a squared distance d, of any shape.

    "inverse": Eq. 1, 1 / (d / d_max + epsilon), at most 1 / epsilon. "log": log((d + 1) / (d + epsilon)) of ProtoPNet
    (Chen et al., NeurIPS 2019), on the plain distance.
    """
    if kind == "inverse":
        return 1 / (distance / max_distance + epsilon)
    if kind == "log":
        return torch.log((distance + 1) / (distance + epsilon))
    raise ValueError(f"kind = {kind!r}: must be 'inverse' or 'log'")


def weighted_mean(
    similarities: torch.Tensor, theta: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 2: the prediction as a mean of prototype labels, weighted by contributions w = s * r, r = theta^2 / label.

    similarities: (B, m); theta: (m,); labels: (m,), positive. Returns the prediction (B,) and the weights (B, m).
    """
    weights = similarities * importance(theta, labels)  # (B, m)
    return (weights * labels).sum(1) / weights.sum(1), weights


def importance(theta: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """r, the prototype importance score: theta^2 = r * label (paper, below Eq. 2). Shapes (m,)."""
    return theta.square() / labels


class PrototypeLayer(nn.Module):
    """g_p: distances to m learned prototypes and the similarities of the nearest patches."""

    def __init__(self, prototypes: int, channels: int, kind: str, epsilon: float):
        super().__init__()
        self.vectors = nn.Parameter(torch.rand(prototypes, channels))  # (m, C), in the unit cube like the latent space
        self.kind, self.epsilon = kind, epsilon
        self.max_distance = float(channels)  # the squared diagonal of the unit cube

    def forward(
        self, latent: torch.Tensor, outside: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """latent: (B, C, H, W). Returns distances (B, m, H, W), min_distances (B, m), similarities (B, m).

        outside: (B, H, W) bool, cells that match nothing: their distance is the largest possible.
        """
        distances = self.distances(latent, self.vectors, outside)  # (B, m, H, W)
        min_distances = distances.flatten(2).amin(2)  # (B, m)
        return distances, min_distances, self.similarity(min_distances)

    def distances(self, latent: torch.Tensor, vectors: torch.Tensor, outside: torch.Tensor | None) -> torch.Tensor:
        """Squared distances (B, m, H, W) of `vectors` (m, C), the largest possible one in cells that are `outside`."""
        distances = squared_distances(latent, vectors)
        return distances if outside is None else distances.masked_fill(outside[:, None], self.max_distance)

    def similarity(self, distance: torch.Tensor) -> torch.Tensor:
        return similarity(distance, self.max_distance, self.kind, self.epsilon)


class WeightedMean(nn.Module):
    """h_fc: the last layer. theta^2 starts at the labels, so every prototype has importance r = 1."""

    def __init__(self, labels: torch.Tensor):
        super().__init__()
        self.register_buffer("labels", labels)  # (m,), fixed
        self.theta = nn.Parameter(labels.sqrt())  # (m,)

    def forward(self, similarities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weighted_mean(similarities, self.theta, self.labels)
