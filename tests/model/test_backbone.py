"""Backbones from torchvision, and weights from files of many kinds."""

import hashlib
import io
import types

import pytest
import torch
import torchvision
from model.loaded import assert_loaded

from insightr_nb.errors import ModelError
from insightr_nb.model import backbone as module
from insightr_nb.model.backbone import build_backbone, out_channels


def test_backbone_equals_torchvisions_network_up_to_the_pooling():
    torch.manual_seed(0)
    whole = torchvision.models.resnet18(weights=None).eval()
    backbone = build_backbone("resnet18").eval()
    backbone.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("fc")})
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(whole.fc(backbone(x).mean((2, 3))), whole(x))
    assert backbone(x).shape == (1, 512, 2, 2)
    assert out_channels(backbone) == 512


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v3_small", "convnext_tiny"])
def test_other_networks_by_name(name):
    torch.manual_seed(0)
    assert build_backbone(name)(torch.randn(2, 3, 64, 64)).dim() == 4


@pytest.mark.parametrize(
    ("name", "weights", "fragments"),
    [
        ("resnet81", "random", ["'resnet81'", "resnet"]),
        ("vit_b_16", "random", ["'vit_b_16'"]),
        ("fcn_resnet50", "random", ["'fcn_resnet50'", "no such network"]),
        ("resnet18", "no_such_file.pth", ["no_such_file.pth", "no such file"]),
    ],
)
def test_a_bad_backbone_is_named(name, weights, fragments):
    with pytest.raises(ModelError) as caught:
        build_backbone(name, weights)
    for fragment in fragments:
        assert fragment in str(caught.value)


# -- ImageNet ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch.hub, and no network."""

    def offline(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_imagenet_weights_that_cannot_be_downloaded_say_what_to_do(cache):
    with pytest.raises(ModelError, match=r"no connection.*https://.*resnet18.*model\.weights"):
        build_backbone("resnet18", "imagenet")


def test_imagenet_weights_from_the_cache(cache, trained, monkeypatch):
    torch.save(trained, cache / "new.pth")
    digest = hashlib.sha256((cache / "new.pth").read_bytes()).hexdigest()[:8]
    url = f"https://example.org/resnet18-{digest}.pth"
    monkeypatch.setattr(
        module, "get_model_weights", lambda _: types.SimpleNamespace(DEFAULT=types.SimpleNamespace(url=url))
    )
    (cache / "new.pth").rename(cache / f"resnet18-{digest}.pth")
    assert_loaded(build_backbone("resnet18", "imagenet"), trained)


@pytest.mark.parametrize("content", [b"", b"<html>log in to the network</html>", b"PK\x03\x04" + bytes(1000)])
def test_a_cached_download_that_is_something_else_is_named(cache, content):
    name = torchvision.models.get_model_weights("resnet18").DEFAULT.url.rpartition("/")[2]
    (cache / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} is not the file published by torchvision.*Delete it"):
        build_backbone("resnet18", "imagenet")


def test_a_download_that_is_a_page_of_a_proxy_is_named(cache, monkeypatch):
    class Page(io.BytesIO):
        def info(self):
            return types.SimpleNamespace(get_all=lambda _: None)

    monkeypatch.setattr(torch.hub, "urlopen", lambda _: Page(b"<html>log in</html>"))
    with pytest.raises(
        ModelError, match=r"could not be downloaded \(invalid hash value.*another machine and pass the file"
    ):
        build_backbone("resnet18", "imagenet")
    assert not list(cache.iterdir())
