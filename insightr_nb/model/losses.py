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
) -> torch.Tensor:
    """Eq. 3: pulls latent patches of an image towards the prototypes with a label near its own.

    min_distances: (B, m); prototype_labels: (m,); targets: (B,). The mean over samples of the mean of the k smallest
    distances among prototypes with |label - target| < delta. Where fewer than k are in range, the mean of those; a
    sample with none is left out (0 if that is every sample). Returns a scalar.
    """
    in_range = (prototype_labels - targets[:, None]).abs() < delta  # (B, m)
    k = min(k, min_distances.shape[1])
    nearest = min_distances.masked_fill(~in_range, torch.inf).topk(k, largest=False).values  # (B, k)
    count = in_range.sum(1).clamp(max=k)  # (B,)
    found = torch.arange(k, device=count.device) < count[:, None]  # (B, k)
    mean = torch.where(found, nearest, 0).sum(1) / count.clamp(min=1)  # (B,)
    return mean.sum() / (count > 0).sum().clamp(min=1)


def prototype_sample_distance_loss(min_distances: torch.Tensor, max_distance: float) -> torch.Tensor:
    """Eq. 4: every prototype should have a latent patch nearby: -mean_j log(1 - min_i d_ij / d_max).

    min_distances: (B, m), squared. Finite at d = d_max: the logarithm's argument is at least 1e-6. Returns a scalar.
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
    """The three losses and their weighted sum as scalars: "mse", "cluster", "psd", "total".

    prediction: (B,); min_distances: (B, m); targets: (B,); prototype_labels: (m,); labels on the model's 1 to 5.
    """
    losses = {
        "mse": mse_loss(prediction, targets),
        "cluster": cluster_loss(min_distances, prototype_labels, targets, settings.delta, settings.k),
        "psd": prototype_sample_distance_loss(min_distances, max_distance),
    }
    losses["total"] = settings.mse * losses["mse"] + settings.cluster * losses["cluster"] + settings.psd * losses["psd"]
    return losses
