"""Why PyTorch cannot use an NVIDIA GPU of this machine, and what to install."""

import ctypes
import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import version

import torch

# Oldest NVIDIA driver for each major version of CUDA: docs.nvidia.com/deploy/cuda-compatibility, "Minor Version
# Compatibility", table 1.
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver.

    Attributes:
        version: For example "580.65.06".
        cuda: (major, minor) of the newest CUDA that it supports.
        cards: Number of GPUs, including those hidden from this process.
    """

    version: str
    cuda: tuple[int, int]
    cards: int


def nvidia_driver() -> Driver | None:
    """The installed NVIDIA driver, or None; asks NVML, which works even if the driver is too old for PyTorch."""
    version, supported, cards = ctypes.create_string_buffer(80), ctypes.c_int(), ctypes.c_int()
    try:
        nvml = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
        if nvml.nvmlInit_v2():
            return None
        failed = (
            nvml.nvmlSystemGetDriverVersion(version, ctypes.c_uint(80))
            or nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(supported))  # 12020 for 12.2
            or nvml.nvmlDeviceGetCount_v2(ctypes.byref(cards))
        )
        nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no library, or one without these functions
        return None
    if failed:
        return None
    return Driver(version.value.decode(), (supported.value // 1000, supported.value % 1000 // 10), cards.value)


def has_kernels(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether code compiled for these architectures runs on a GPU.

    Machine code (sm_86) runs on GPUs with the same major and the same or a larger minor version; PTX (compute_90) is
    compiled at run time for newer GPUs. With suffix a (sm_90a), both run on this version only; with suffix f (sm_100f),
    as machine code does. Source: CUDA C++ Programming Guide, "Application Compatibility".

    Args:
        capability: (major, minor) compute capability of the GPU.
        architectures: As listed by `torch.cuda.get_arch_list`.
    """
    return any(_runs(capability, name) for name in architectures)


def _runs(capability: tuple[int, int], architecture: str) -> bool:
    kind, number, suffix = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", architecture).groups()
    built = divmod(int(number), 10)
    if suffix == "a":
        return capability == built
    if kind == "compute" and not suffix:
        return capability >= built
    return capability[0] == built[0] and capability >= built


def problem(index: int = 0) -> str:
    """Why PyTorch cannot use a GPU of this machine, with what to install; empty if it can, or if there is none.

    GPUs hidden by CUDA_VISIBLE_DEVICES count as absent. Only NVIDIA's GPUs are examined.

    Args:
        index: Number of the GPU among the visible ones.
    """
    if torch.version.hip:
        return ""
    if torch.cuda.is_available():
        return _without_kernels(index) if index < torch.cuda.device_count() else ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip()[:1] in ("", "-", "N")  # NoDevFiles: SLURM, no GPU
    driver = None if hidden else nvidia_driver()
    return _unavailable(driver) if driver and driver.cards else ""


def _without_kernels(index: int) -> str:
    """Message for a visible GPU that the installed torch has no kernels for; empty if it has."""
    capability, architectures = torch.cuda.get_device_capability(index), torch.cuda.get_arch_list()
    if has_kernels(capability, architectures):
        return ""
    builds = [cuda for cuda, published in _builds().items() if has_kernels(capability, published)]
    remedy = f"Install {_install(builds[0])}" if builds else "Install another version of torch"
    others = [
        number
        for number in range(torch.cuda.device_count())
        if has_kernels(torch.cuda.get_device_capability(number), architectures)
    ]
    if others:
        remedy = f"Use device = 'cuda:{others[0]}', or install{remedy.removeprefix('Install')}"
    return (
        f"{torch.cuda.get_device_name(index)} has compute capability {capability[0]}.{capability[1]}, but torch "
        f"{torch.__version__} has kernels for {', '.join(architectures)} only. {remedy}"
    )


def _unavailable(driver: Driver) -> str:
    """Message for a machine with this driver and GPUs, where `torch.cuda.is_available()` is False."""
    supports = f"the NVIDIA driver {driver.version} supports CUDA {driver.cuda[0]}.{driver.cuda[1]}"
    builds = [cuda for cuda in _builds() if _version(cuda) <= driver.cuda]
    builds = builds or [cuda for cuda in _builds() if _major(cuda) == driver.cuda[0]]  # newer, but of the same major
    other_build = _install(builds[-1]) if builds else "an older version of torch"
    if torch.version.cuda is None:
        return f"{supports}, but torch {torch.__version__} was built without CUDA. Install {other_build}"
    needed = _major(torch.version.cuda)
    if needed > driver.cuda[0]:
        newer = f"NVIDIA driver {_OLDEST_DRIVER[needed]} or newer" if needed in _OLDEST_DRIVER else "a newer driver"
        return (
            f"{supports}, but torch {torch.__version__} needs CUDA {torch.version.cuda}. Install {newer}, or "
            f"{other_build}"
        )
    return f"{supports}, but torch finds no usable GPU. Check nvidia-smi and CUDA_VISIBLE_DEVICES"


def _version(cuda: str) -> tuple[int, int]:
    major, minor = cuda.split(".")[:2]
    return int(major), int(minor)


def _major(cuda: str) -> int:
    return _version(cuda)[0]


def _builds() -> dict[str, list[str]]:
    """Architectures of the builds published of the installed torch, by version of CUDA, oldest first."""
    host = "aarch64" if platform.machine() == "aarch64" else "x86_64"
    published = torch.cuda.PYTORCH_RELEASES_CODE_CC
    return {cuda: [f"sm_{code}" for code in published[cuda].get(host, ())] for cuda in sorted(published)}


def _install(cuda: str) -> str:
    """Command that replaces the installed torch and torchvision by their builds for a version of CUDA, and no more."""
    build = f"cu{cuda.replace('.', '')}"
    wanted = [f"{name}=={version(name).partition('+')[0]}+{build}" for name in ("torch", "torchvision")]
    return (
        f"torch for CUDA {cuda}: {sys.executable} -m pip install {' '.join(wanted)} --index-url "
        f"https://download.pytorch.org/whl/{build}"
    )
