"""Backbones from torchvision, and weights from files of many kinds."""

import argparse
import hashlib
import io
import os
import re
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision

from insightr_nb.errors import ModelError
from insightr_nb.model import backbone as module
from insightr_nb.model.backbone import build_backbone, out_channels
from insightr_nb.model.weights import load_weights, read_state_dict


@pytest.fixture(scope="module")
def trained():
    """A ResNet-18 with recognisable weights, whole, as torchvision saves it."""
    torch.manual_seed(7)
    return torchvision.models.resnet18(weights=None).state_dict()


def assert_loaded(backbone, state):
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[key], msg=key)


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


def test_weights_from_a_plain_state_dict(tmp_path, trained):
    torch.save(trained, tmp_path / "resnet18.pth")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "resnet18.pth")), trained)


def test_weights_from_a_file_of_an_older_torch(tmp_path, trained):
    torch.save(trained, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_loaded(build_backbone("resnet18", str(tmp_path / "old.pth")), trained)


def test_weights_from_safetensors_with_a_prefix(tmp_path, trained):
    safetensors.torch.save_file({f"backbone.{k}": v for k, v in trained.items()}, tmp_path / "m.safetensors")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.safetensors")), trained)


def test_weights_from_a_lightning_checkpoint_like_the_papers(tmp_path, trained, monkeypatch):
    """It holds the authors' own parameter class and Lightning's callbacks beside the tensors; none of it is needed."""
    names = types.ModuleType("define_parameters")
    exec("class Parameters:\n    def __init__(self):\n        self.lr = 5e-4\n", names.__dict__)
    names.Parameters.__module__ = "define_parameters"
    monkeypatch.setitem(sys.modules, "define_parameters", names)
    content = {
        "epoch": 29,
        "state_dict": {f"model.features.{k}": v for k, v in trained.items() if not k.startswith("fc")}
        | {"model.fc.weight": torch.zeros(1, 512)},
        "hyper_parameters": {"params": names.Parameters()},
        "callbacks": {},
    }
    torch.save(content, tmp_path / "model.ckpt")
    monkeypatch.delitem(sys.modules, "define_parameters")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "model.ckpt")), trained)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("modern", [True, False])
def test_malicious_pickle_is_refused_and_not_executed(tmp_path, trained, modern):
    trap = tmp_path / "it_ran"
    content = {"state_dict": trained, "extra": Malicious(trap)}
    torch.save(content, tmp_path / "bad.ckpt", _use_new_zipfile_serialization=modern)
    with pytest.raises(ModelError, match=r"bad\.ckpt: refers to .*system" if modern else "cannot be read"):
        build_backbone("resnet18", str(tmp_path / "bad.ckpt"))
    assert not trap.exists()


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


def test_weights_of_another_architecture_are_named(tmp_path, trained):
    torch.save(trained, tmp_path / "r18.pth")
    with pytest.raises(ModelError, match=r"r18\.pth.*layer1\.0\.conv1\.weight is \(64, 64, 3, 3\) instead of"):
        build_backbone("resnet50", str(tmp_path / "r18.pth"))
    with pytest.raises(ModelError, match="no tensor named"):
        load_weights(build_backbone("vgg11"), tmp_path / "r18.pth")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken zip"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="broken"):
        read_state_dict(path)


# -- what else is in a file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model", "state_dict", "model_state_dict", "net"])
def test_weights_inside_what_a_training_saves(tmp_path, trained, name):
    """As timm, RETFound, Lightning and others save them, with numpy numbers and arguments beside them."""
    beside = {"epoch": 3, "best": np.float64(0.9), "args": argparse.Namespace(lr=np.ones(2)), "seen": {}}
    torch.save({name: trained} | beside, tmp_path / "m.pth")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth")), trained)


def test_weights_beside_what_libraries_leave_in_a_checkpoint(tmp_path, trained):
    """A profiler's counts, a mask of pruning, a tensor beside the state dict."""
    counted = trained | {"layer1.0.conv1.total_ops": torch.zeros(1), "layer1.0.conv1.weight_mask": torch.ones(1)}
    torch.save({"net": counted, "accuracy": torch.tensor(0.9)}, tmp_path / "m.pth")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth")), trained)
    torch.save(trained | {"model": {"x": torch.ones(1)}}, tmp_path / "flat.pth")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "flat.pth")), trained)


def test_several_state_dicts_are_named(tmp_path, trained):
    torch.save({"student": trained, "teacher": trained}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match=r"m\.pth: contains several state dicts \('student', 'teacher'\)"):
        build_backbone("resnet18", str(tmp_path / "m.pth"))


@pytest.mark.parametrize(
    ("larger", "name", "until", "surplus"),
    [
        ("resnet34", "resnet18", None, r"layer1\.2\.conv1\.weight is unexpected"),
        ("resnet34", "resnet18", "layer2", r"layer1\.2\.conv1\.weight is unexpected"),
        ("convnext_small", "convnext_tiny", None, r"features\.5\.9\.layer_scale is unexpected"),
    ],
)
def test_weights_of_a_larger_network_are_refused(tmp_path, larger, name, until, surplus):
    torch.save(torchvision.models.get_model(larger).state_dict(), tmp_path / "m.pth")
    with pytest.raises(ModelError, match=surplus):
        build_backbone(name, str(tmp_path / "m.pth"), until)


def test_weights_of_the_whole_network_fit_its_first_part(tmp_path, trained):
    torch.save(
        {f"module.{k}": v for k, v in trained.items()} | {"module.optimizer.x": torch.ones(1)}, tmp_path / "m.pth"
    )
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth"), "layer2"), trained)


def test_a_densenet_with_the_names_of_torchvisions_files(tmp_path):
    state = torchvision.models.densenet121(weights=None).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "m.pth")
    assert_loaded(build_backbone("densenet121", str(tmp_path / "m.pth")), state)


def test_weights_that_are_not_finite_are_refused(tmp_path, trained):
    torch.save(trained | {"bn1.weight": torch.full((64,), torch.nan)}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match=r"1 tensors contain non-finite values, such as bn1\.weight"):
        build_backbone("resnet18", str(tmp_path / "m.pth"))


def test_weights_with_a_hole_are_refused(tmp_path, trained):
    torch.save(trained, tmp_path / "m.pth")
    with open(tmp_path / "m.pth", "r+b") as file:
        file.seek(20_000_000)
        file.write(bytes(400_000))
    with pytest.raises(ModelError, match=r"m\.pth: cannot be read as weights \(Bad CRC-32.*damaged"):
        build_backbone("resnet18", str(tmp_path / "m.pth"))


def test_weights_without_checksums_are_read(tmp_path, trained):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(trained, tmp_path / "m.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth")), trained)


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
