"""The losses of INSightR-Net: L = alpha_MSE L_MSE + alpha_Clst L_Clst + alpha_PSD L_PSD (paper, section 2)."""

import torch
from torch.nn.functional import mse_loss

from insightr_nb.settings import LossSettings


def cluster_loss(
    min_distances: torch.Tensor,
    prototype_labels: torch.Tensor,
    targets: torch.Tensor,
    delta: float = 0.5,
    k: int = 3,
    inclusive: bool = False,
) -> torch.Tensor:
    """Cluster loss (Eq. 3): pull latent patches of an image towards prototypes with a label near the image's own.

    For each sample, average the k smallest distances among the prototypes with |label - target| < delta, or all of
    them if fewer than k are in range. The loss is the mean over samples. Samples with no prototype in range are
    excluded; the loss is 0 if that leaves none.

    Args:
        min_distances: (B, m) squared distances.
        prototype_labels: (m,).
        targets: (B,).
        delta: Half-width of the label range.
        k: Number of nearest prototypes to average.
        inclusive: Count |label - target| <= delta as in range, as the published code does.

    Returns:
        Scalar tensor.

    Example:
        >>> min_distances = torch.tensor([[0.25, 0.75, 4.0]])
        >>> cluster_loss(min_distances, torch.tensor([2.0, 2.25, 4.0]), targets=torch.tensor([2.0])).item()
        0.5
    """
    gap = (prototype_labels - targets[:, None]).abs()  # (B, m)
    in_range = gap <= delta if inclusive else gap < delta  # (B, m)
    k = min(k, min_distances.shape[1])
    nearest = min_distances.masked_fill(~in_range, torch.inf).topk(k, largest=False).values  # (B, k)
    count = in_range.sum(1).clamp(max=k)  # (B,)
    valid = torch.arange(k, device=count.device) < count[:, None]  # (B, k)
    mean = torch.where(valid, nearest, 0).sum(1) / count.clamp(min=1)  # (B,)
    return mean.sum() / (count > 0).sum().clamp(min=1)


def prototype_sample_distance_loss(min_distances: torch.Tensor, max_distance: float) -> torch.Tensor:
    """Prototype sample distance loss (Eq. 4): -mean_j log(1 - min_i d_ij / d_max), a latent patch near every prototype.

    The logarithm's argument is clamped at 1e-6, so the loss is finite at d = d_max.

    Args:
        min_distances: (B, m) squared distances.
        max_distance: Largest possible squared distance, d_max.

    Returns:
        Scalar tensor.

    Example:
        >>> min_distances = torch.tensor([[0.0, 2.0], [1.0, 3.0]])
        >>> round(prototype_sample_distance_loss(min_distances, max_distance=4.0).item(), 4)  # -log(0.5) / 2
        0.3466
    """
    nearest = min_distances.amin(0) / max_distance  # (m,)
    return -torch.log((1 - nearest).clamp(min=1e-6)).mean()


def total_loss(
    prediction: torch.Tensor,
    min_distances: torch.Tensor,
    targets: torch.Tensor,
    prototype_labels: torch.Tensor,
    max_distance: float,
    settings: LossSettings,
) -> dict[str, torch.Tensor]:
    """Compute the three losses and their weighted sum. Labels are on the model's scale, 1 to 5.

    Args:
        prediction: (B,).
        min_distances: (B, m) squared distances.
        targets: (B,).
        prototype_labels: (m,).
        max_distance: Largest possible squared distance, d_max.
        settings: Weights of the losses, and delta, its comparison and k of the cluster loss.

    Returns:
        Scalar tensors "mse", "cluster", "psd" and "total".
    """
    s = settings
    losses = {
        "mse": mse_loss(prediction, targets),
        "cluster": cluster_loss(min_distances, prototype_labels, targets, s.delta, s.k, s.delta_inclusive),
        "psd": prototype_sample_distance_loss(min_distances, max_distance),
    }
    losses["total"] = s.mse * losses["mse"] + s.cluster * losses["cluster"] + s.psd * losses["psd"]
    return losses
