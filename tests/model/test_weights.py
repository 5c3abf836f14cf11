"""Weights of a backbone from files of many kinds."""

import argparse
import os
import re
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from model.loaded import assert_loaded

from insightr_nb.errors import ModelError
from insightr_nb.model.backbone import build_backbone
from insightr_nb.model.weights import load_weights, read_state_dict


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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>Log in</html>", "a web page"),
    ],
)
def test_what_stands_in_for_a_file_is_named(tmp_path, content, what, suffix):
    (tmp_path / f"m{suffix}").write_bytes(content)
    with pytest.raises(ModelError, match=rf"m{suffix}: cannot be read as weights; it is {what}"):
        read_state_dict(tmp_path / f"m{suffix}")


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


def test_the_prefix_with_the_most_tensors_is_used(tmp_path, trained):
    """As DeepLab saves it: two other parts have a tensor of the same name as the first of the backbone."""
    other = {f"{part}.conv1.weight": torch.zeros(9, 9) for part in ("aspp", "decoder")}
    torch.save({"state_dict": other | {f"backbone.{k}": v for k, v in trained.items()}}, tmp_path / "m.pth")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth")), trained)


def test_a_network_that_a_file_contains_twice_is_named(tmp_path, trained):
    """As MoCo saves its two encoders."""
    other = {f"encoder_q.{k}": torch.zeros_like(v) for k, v in trained.items()}
    torch.save({"state_dict": other | {f"encoder_k.{k}": v for k, v in trained.items()}}, tmp_path / "m.pth")
    with pytest.warns(UserWarning, match=r"m\.pth: contains the network 2 times.*using 'encoder_k\.'"):
        assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth")), trained)


def test_of_several_networks_the_one_that_fits_is_loaded(tmp_path, trained):
    """By shapes and by what is left over, not by names alone: of both, ResNet-34 has all tensors of ResNet-18."""
    larger = torchvision.models.resnet34().state_dict()
    both = {f"a.{k}": v for k, v in larger.items()} | {f"b.{k}": v for k, v in trained.items()}
    torch.save(both, tmp_path / "m.pth")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth")), trained)
    torch.save(trained, tmp_path / "m.pth")
    assert_loaded(build_backbone("resnet18", str(tmp_path / "m.pth"), "maxpool"), trained)


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
