"""The backbone f: the convolutional part of a torchvision classification network."""

import difflib
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torchvision import models
from torchvision.models import get_model, get_model_weights

from insightr_nb import files
from insightr_nb.errors import ModelError
from insightr_nb.files import given_path
from insightr_nb.model.weights import load_weights

_HEAD = ("avgpool", "global_pool", "dropout", "fc", "classifier", "head", "heads")


def build_backbone(name: str = "resnet18", weights: str = "random", until: str | None = None) -> nn.Sequential:
    """Build the feature extractor: (B, 3, S, S) to a feature map (B, C, h, w), without pooling and classification head.

    Submodules keep torchvision's names, so torchvision state dicts load without renaming.

    Args:
        name: Any convolutional classification network of torchvision.
        weights: "random", "imagenet" (torchvision's default weights, downloaded on first use), or the path of a state
            dict: .safetensors, .pth, or a Lightning checkpoint such as the paper's.
        until: Name of the last child module to keep, such as "layer3" of a ResNet; None keeps all of them. Ending
            earlier gives each latent cell a smaller receptive field.

    Returns:
        The backbone as an nn.Sequential.

    Raises:
        ModelError: For an unknown network, a network without a feature map, or weights that are unavailable or do not
            fit.
    """
    known = models.list_models(module=models)  # classification only
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        raise ModelError(
            f"model.backbone = {name!r}: torchvision has no such network; closest names: {', '.join(close) or 'none'}"
        )
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}  # else a FutureWarning
    model = get_model(name, weights=None, **options)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for child_name, child in model.named_children():
        if child_name in _HEAD:
            break
        if not child_name.lower().startswith("aux"):  # auxiliary classifiers of GoogLeNet and Inception
            layers[child_name] = child
        if child_name == until:
            break
    if until not in (None, *layers):
        raise ModelError(
            f"model.backbone_until = {until!r}: {name} has no such module before its head; use one of: "
            f"{', '.join(layers)}"
        )
    if name.startswith("densenet") and until is None:  # its forward applies the last ReLU functionally
        layers["relu"] = nn.ReLU()
    backbone = nn.Sequential(layers)
    _feature_shape(backbone, name)
    if weights != "random":
        path = _imagenet_file(name) if weights == "imagenet" else given_path(weights)
        load_weights(backbone, path, {k for k in model.state_dict() if k.partition(".")[0] not in _HEAD})
    return backbone


def _imagenet_file(name: str) -> Path:
    """Path of torchvision's weights in the cache of torch.hub, downloaded on first use.

    Raises ModelError if the download fails or the file's hash differs from the published one.
    """
    url = get_model_weights(name).DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    published = torch.hub.HASH_REGEX.search(path.name)[1]  # first digits of the SHA-256
    alternatives = (
        f"Download {url} on another machine and pass the file: "
        "-p overrides '{\"model.weights\": \"path/to/file.pth\"}' -p tag imagenet, or use 'random'"
    )
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), published)
        except (OSError, RuntimeError) as error:  # no connection, HTTP error, hash mismatch (proxy page)
            raise ModelError(
                f"model.weights = 'imagenet': the weights of {name} could not be downloaded ({error}). {alternatives}"
            ) from error
    digest = files.digest(path)["sha256"]
    if not digest.startswith(published):
        raise ModelError(
            f"model.weights = 'imagenet': {path} is not the file published by torchvision: its SHA-256 begins with "
            f"{digest[:8]} instead of {published} (a truncated download, or the error page of a proxy). Delete it to "
            f"download it again. {alternatives}"
        )
    return path


def out_channels(backbone: nn.Sequential) -> int:
    """Number of channels C of the feature map (B, C, h, w)."""
    return _feature_shape(backbone, "the backbone")[1]


def _feature_shape(backbone: nn.Sequential, name: str) -> torch.Size:
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            shape = backbone(torch.zeros(1, 3, 160, 160)).shape
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ModelError(f"model.backbone = {name!r}: its feature extractor cannot be used alone ({error})") from error
    finally:
        backbone.train(training)
    if len(shape) != 4 or shape[2] < 2:
        raise ModelError(
            f"model.backbone = {name!r}: its output has shape {tuple(shape)}, not that of a feature map (B, C, h, w); "
            "use a convolutional network"
        )
    return shape
