"""GPUs that the installed torch cannot use: the reason, and what to install. Cards, drivers and builds are imitated."""

import ctypes
import re
import sys

import pytest
import torch

from insightr_nb.training import cuda
from insightr_nb.training.cuda import Driver, has_kernels

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]  # torch 2.14 for x86-64
INDEX = "--index-url https://download.pytorch.org/whl/"
CUDA_12 = (
    f"torch for CUDA 12.6: {sys.executable} -m pip install torch==2.14.1+cu126 torchvision==0.29.1+cu126 {INDEX}cu126"
)


@pytest.fixture
def machine(monkeypatch):
    """A function that imitates torch and the machine; without arguments one without cards and driver."""
    published = {
        "13.0": {"x86_64": {75, 80, 86, 90, 100, 120}, "aarch64": {80, 90, 110}},
        "12.6": {"x86_64": {50, 60, 70, 75, 80, 86, 90}, "aarch64": {80, 90}},
    }
    monkeypatch.setattr(torch.cuda, "PYTORCH_RELEASES_CODE_CC", published)
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
    monkeypatch.setattr(cuda.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def imitate(cards=(), driver=None, build="13.0", architectures=CUDA_13):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: cards[index][1])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: cards[index][0])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))
        monkeypatch.setattr(torch.version, "cuda", build)
        monkeypatch.setattr(cuda, "nvidia_driver", lambda: driver)

    return imitate


@pytest.mark.parametrize(
    ("capability", "architectures", "expect"),
    [
        ((6, 1), CUDA_13, False),  # GTX 1080
        ((7, 0), CUDA_13, False),  # V100
        ((7, 5), CUDA_13, True),  # T4
        ((8, 9), CUDA_13, True),  # RTX 4090 runs sm_86
        ((9, 0), CUDA_13, True),  # H100
        ((12, 1), CUDA_13, True),
        ((11, 0), CUDA_13, False),  # another major version
        ((6, 1), ["sm_60"], True),
        ((6, 0), ["sm_61"], False),  # older than the code
        ((12, 0), ["sm_90"], False),
        ((12, 0), ["sm_80", "compute_90"], True),  # PTX runs on anything newer
        ((8, 9), ["compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 0), ["sm_90a", "compute_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((10, 3), ["sm_100a"], False),
        ((11, 0), ["compute_100f"], False),
        ((9, 0), [], False),
    ],
)
def test_on_which_cards_compiled_code_runs(capability, architectures, expect):
    assert has_kernels(capability, architectures) == expect


def test_a_card_that_can_be_used_and_a_machine_without_one_are_no_problem(machine):
    machine([("NVIDIA H100", (9, 0))])
    assert cuda.problem() == ""
    assert cuda.problem(1) == ""  # which is not there: `choose_device` says so
    machine()
    assert cuda.problem() == ""
    machine(driver=Driver("535.183.01", (12, 2), cards=0))  # a login node
    assert cuda.problem() == ""


@pytest.mark.parametrize("card", [("NVIDIA GeForce GTX 1080", (6, 1)), ("Tesla V100-SXM2-16GB", (7, 0))])
def test_a_card_without_kernels_names_the_build_that_has_them(machine, card):
    machine([("NVIDIA H100", (9, 0)), card])
    assert cuda.problem(0) == ""
    name, (major, minor) = card
    about = (
        f"{name} has compute capability {major}.{minor}, but torch 2.14.1+cu130 has kernels for {', '.join(CUDA_13)} "
    )
    assert cuda.problem(1) == f"{about}only. Use device = 'cuda:0', or install {CUDA_12}"
    machine([card])
    assert cuda.problem() == f"{about}only. Install {CUDA_12}"


def test_a_card_newer_or_older_than_every_build(machine):
    machine([("NVIDIA GB10", (12, 1))], build="12.6", architectures=["sm_80", "sm_90"])
    assert cuda.problem().endswith(INDEX + "cu130")
    machine([("Tesla K80", (3, 7))])
    assert cuda.problem().endswith(" only. Install another version of torch")


def test_an_old_driver_names_the_driver_and_the_build_to_install(machine):
    machine(driver=Driver("535.183.01", (12, 2), cards=1))
    assert cuda.problem() == (
        "the NVIDIA driver 535.183.01 supports CUDA 12.2, but torch 2.14.1+cu130 needs CUDA 13.0. Install NVIDIA "
        f"driver 580 or newer, or {CUDA_12}"
    )
    machine(driver=Driver("470.256.02", (11, 4), cards=1))
    assert cuda.problem().endswith("Install NVIDIA driver 580 or newer, or an older version of torch")


def test_other_reasons_why_a_card_is_not_available(machine, monkeypatch):
    driver = Driver("580.65.06", (13, 0), cards=2)
    machine(driver=driver)
    assert cuda.problem() == (
        "the NVIDIA driver 580.65.06 supports CUDA 13.0, but torch finds no usable GPU. Check nvidia-smi and "
        "CUDA_VISIBLE_DEVICES"
    )
    monkeypatch.setattr(torch, "__version__", "2.14.1+cpu")
    machine(driver=driver, build=None, architectures=[])
    assert "torch 2.14.1+cpu was built without CUDA. Install torch for CUDA 13.0: " in cuda.problem()
    torch.cuda.PYTORCH_RELEASES_CODE_CC["13.4"] = torch.cuda.PYTORCH_RELEASES_CODE_CC["13.0"]
    assert "Install torch for CUDA 13.0: " in cuda.problem()  # 13.4 is newer than the driver


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_hidden_cards_are_no_problem(machine, monkeypatch, hidden):
    machine(driver=Driver("535.183.01", (12, 2), cards=1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert cuda.problem() == ""


def test_amds_cards_are_left_to_torch(machine, monkeypatch):
    machine([("AMD Instinct MI300X", (9, 4))], build=None, architectures=["gfx942"])
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert cuda.problem() == ""


def test_the_installed_torch_lists_its_builds_and_architectures_as_expected():
    builds = cuda._builds()
    assert re.fullmatch(r"\d+\.\d+", max(builds))
    assert all(has_kernels((9, 0), architectures) for architectures in builds.values())
    for name in torch.cuda.get_arch_list():
        assert re.fullmatch(r"(sm|compute)_\d+[af]?", name)
    if torch.version.cuda:
        assert cuda._major(torch.version.cuda) in cuda._OLDEST_DRIVER


class Nvml:
    """NVIDIA's management library on a machine with two cards."""

    def __init__(self, **codes):
        self.codes, self.ended = codes, 0

    def nvmlInit_v2(self):
        return self.codes.get("init", 0)

    def nvmlSystemGetDriverVersion(self, text, size):
        text.value = b"535.183.01"
        return self.codes.get("version", 0)

    def nvmlSystemGetCudaDriverVersion_v2(self, number):
        number._obj.value = 12020
        return 0

    def nvmlDeviceGetCount_v2(self, number):
        number._obj.value = 2
        return 0

    def nvmlShutdown(self):
        self.ended += 1


def test_the_driver_is_read_from_nvidias_library(monkeypatch):
    library = Nvml()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert cuda.nvidia_driver() == Driver("535.183.01", (12, 2), 2)
    assert library.ended == 1


@pytest.mark.parametrize("library", [None, object(), Nvml(init=9), Nvml(version=3)])
def test_no_driver_where_the_library_is_missing_or_fails(monkeypatch, library):
    def load(name):
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert cuda.nvidia_driver() is None
