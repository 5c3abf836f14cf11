"""INSightR-Net and the baseline (paper, Fig. 1)."""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from insightr_nb.data.graham import GROUND
from insightr_nb.model import losses
from insightr_nb.model.backbone import build_backbone, out_channels
from insightr_nb.model.prototypes import PrototypeLayer, WeightedMean
from insightr_nb.model.receptive_field import receptive_field
from insightr_nb.settings import LossSettings, ModelSettings

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Output(NamedTuple):
    """Output of INSightR-Net for a batch; predictions are on the model's label scale, 1 to 5."""

    prediction: torch.Tensor  # (B,)
    weights: torch.Tensor  # (B, m), contributions s * r
    similarities: torch.Tensor  # (B, m)
    min_distances: torch.Tensor  # (B, m)
    distances: torch.Tensor | None  # (B, m, H, W); None in a training step
    latent: torch.Tensor | None  # (B, C, H, W)


class Regressor(nn.Module):
    """Base class of both networks: the backbone, input normalisation and the training loss."""

    explains = False  # whether predictions are explained by prototypes

    def __init__(self, settings: ModelSettings, weights: str | None = None) -> None:
        """Build the backbone. `weights` overrides `settings.weights`."""
        super().__init__()
        self.backbone = build_backbone(settings.backbone, weights or settings.weights, settings.backbone_until)
        imagenet = settings.input_values == "imagenet"
        mean, deviation = (_IMAGENET_MEAN, _IMAGENET_STD) if imagenet else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(3, 1, 1), persistent=False)
        self.bgr = settings.channels == "bgr"

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images (B, S, S, 3) uint8 RGB for `forward`: (B, 3, S, S) float32, channels_last.

        The images are moved to the device of the network.
        """
        x = images.to(self.mean.device).permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S), a view in channels_last order
        x = (x - self.mean) / self.deviation
        return (x.flip(1) if self.bgr else x).contiguous(memory_format=torch.channels_last)

    def prediction(self, output: torch.Tensor) -> torch.Tensor:
        """Prediction (B,) on the model's scale, taken from the output of `forward`."""
        return output

    def loss(self, output: torch.Tensor, targets: torch.Tensor, settings: LossSettings) -> dict[str, torch.Tensor]:
        """Compute the terms of the training loss and their "total" as scalars.

        Args:
            output: The return value of `forward`.
            targets: (B,), on the model's scale.
            settings: Loss weights; unused by the baseline.
        """
        mse = losses.mse_loss(output, targets)
        return {"mse": mse, "total": mse}


class INSightRNet(Regressor):
    """INSightR-Net: latent patches, distances and similarities to prototypes, weighted mean of the prototype labels."""

    explains = True

    def __init__(self, settings: ModelSettings, weights: str | None = None) -> None:
        super().__init__(settings, weights)
        s = settings
        self.block = nn.Sequential(  # Conv + ReLU + Conv + Sigmoid, section 3, "Implementation"
            nn.Conv2d(
                out_channels(self.backbone),
                s.latent_channels,
                s.block_kernel,
                s.block_stride,
                s.block_padding,
                padding_mode="replicate",  # zero padding would make border cells identifiable
            ),
            nn.ReLU(),
            nn.Conv2d(s.latent_channels, s.latent_channels, 1),
        )
        for layer in (self.block[0], self.block[2]):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.prototype_layer = PrototypeLayer(s.prototypes, s.latent_channels, s.similarity, s.epsilon)
        self.window = receptive_field(self.backbone, self.block)  # here to reject unknown geometry early
        self.skip_ground = s.skip_ground
        ground = self.inputs(torch.full((1, 1, 1, 3), GROUND, dtype=torch.uint8))  # (1, 3, 1, 1)
        self.register_buffer("ground", ground, persistent=False)
        self.last_layer = WeightedMean(torch.linspace(s.prototype_label_min, s.prototype_label_max, s.prototypes))

    @property
    def prototype_labels(self) -> torch.Tensor:
        """Prototype labels (m,) on the model's scale."""
        return self.last_layer.labels

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """Compute latent patches in the unit cube: (B, 3, S, S) to (B, C, H, W) float32."""
        features = self.backbone(images)  # (B, 512, h, w) for ResNet-18
        return torch.sigmoid(self.block(features).float())  # last activation of the block, in float32

    def outside(self, images: torch.Tensor, height: int) -> torch.Tensor | None:
        """`ground_cells` if the setting `skip_ground` excludes them, else None.

        When the receptive field covers most of the image, a background cell can encode content from elsewhere, and it
        varies less than any patch of the retina. Without the exclusion, prototypes drift to such cells.
        """
        return self.ground_cells(images, height) if self.skip_ground else None

    def ground_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Mask of the grey background of normalised images (B, 3, S, S), to a grey level: (B, 1, S, S) bool."""
        return (images - self.ground).abs().amax(1, keepdim=True) < 0.005

    @torch.no_grad()
    def ground_cells(self, images: torch.Tensor, height: int) -> torch.Tensor:
        """Mask of the cells whose box shows more grey background than image: (B, H, W) bool, H = height.

        images: (B, 3, S, S), normalised by `inputs`.
        """
        stride, offset, _ = self.window
        ground = self.ground_pixels(images).float()  # (B, 1, S, S)
        before = math.floor(stride / 2 - offset)  # pixels of the first box before the image: background
        after = stride * height - before - images.shape[-1]
        padded = F.pad(ground, (before, after, before, after), value=1.0)
        return F.avg_pool2d(padded, stride)[:, 0] > 0.5  # (B, H, W)

    def forward(self, images: torch.Tensor) -> Output:
        latent = self.latent(images)  # (B, C, H, W)
        distances, min_distances, similarities = self.prototype_layer(latent, self.outside(images, latent.shape[2]))
        prediction, weights = self.last_layer(similarities)  # (B,), (B, m)
        return Output(prediction, weights, similarities, min_distances, distances, latent)

    def from_distances(self, min_distances: torch.Tensor) -> Output:
        """Output from known min_distances (B, m), without distances and latent."""
        similarities = self.prototype_layer.similarity(min_distances)
        prediction, weights = self.last_layer(similarities)
        return Output(prediction, weights, similarities, min_distances, None, None)

    def prediction(self, output: Output) -> torch.Tensor:
        return output.prediction

    def loss(self, output: Output, targets: torch.Tensor, settings: LossSettings) -> dict[str, torch.Tensor]:
        max_distance = self.prototype_layer.max_distance
        return losses.total_loss(
            output.prediction, output.min_distances, targets, self.prototype_labels, max_distance, settings
        )


class ResNetRegressor(Regressor):
    """The baseline: the same backbone, average pooling and one output (paper, section 3, "Implementation")."""

    def __init__(self, settings: ModelSettings, weights: str | None = None) -> None:
        super().__init__(settings, weights)
        self.last_layer = nn.Linear(out_channels(self.backbone), 1)
        nn.init.constant_(self.last_layer.bias, 3.0)  # midpoint of the labels 1 to 5

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Predict: (B, 3, S, S) to (B,) on the model's scale."""
        features = self.backbone(images).float().mean((2, 3))  # (B, C)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 resolves a grade to 1/64 only
            return self.last_layer(features)[:, 0]
