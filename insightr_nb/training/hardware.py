"""Device, precision and threads of a run, and their description in the manifest."""

import contextlib
import os
import platform
import warnings
from collections.abc import Iterator
from typing import Any

import psutil
import torch

from insightr_nb.errors import RunError, SettingsError
from insightr_nb.settings import RunSettings
from insightr_nb.training import cuda


def choose_device(name: str = "auto") -> torch.device:
    """Device of that name; "auto" is the first GPU that PyTorch can use with CUDA, else the CPU.

    Raises SettingsError if the device is unavailable. Where an NVIDIA GPU is there that the installed torch cannot use,
    the error says what to install; "auto" warns of it once and returns the CPU.
    """
    if name == "auto":
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            if not cuda.problem(index):
                return torch.device("cuda", index) if index else torch.device("cuda")
        if problem := cuda.problem():
            warnings.warn(f"device = 'auto' uses the CPU, because {problem}", stacklevel=1)  # once per process
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"device = {name!r}: must be auto, cpu, cuda, cuda:<number> or mps") from None
    if device.type == "cuda" and (problem := cuda.problem(device.index or 0)):
        raise SettingsError(f"device = {name!r}: {problem}")
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    available = count.get(device.type, 0)
    if (device.index or 0) >= available:
        raise SettingsError(f"device = {name!r}: {device.type} devices on this machine: {available}; use auto")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 units, so that bfloat16 is faster than float32."""
    if device.type == "cuda":
        # `torch.cuda.is_bf16_supported` would ask the current GPU, which may be another.
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device.index or 0) >= (8, 0)
    if device.type == "cpu":
        units = torch.cpu.get_capabilities()
        return bool(units.get("amx_bf16") or units.get("avx512_bf16"))
    return False


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether training uses bfloat16; with precision "auto", if the device has units for it."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Autocast context for training, see `uses_bfloat16`. Evaluation uses float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(device, precision))


@contextlib.contextmanager
def memory_errors(settings: RunSettings) -> Iterator[None]:
    """Convert PyTorch's various out-of-memory errors into one RunError that suggests a remedy."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        mentioned = any(words in str(error) for words in ("out of memory", "can't allocate memory", "ALLOC_FAILED"))
        if not mentioned and not isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise
        raise RunError(
            f"out of memory with batches of {settings.training.batch_size} images of {settings.data.size} px "
            f"({str(error).partition(chr(10))[0] or type(error).__name__}). Completed epochs are kept. Use a smaller "
            "batch, in a separate run: "
            f"-p batch_size {max(1, settings.training.batch_size // 2)} -p tag smaller_batch"
        ) from error


def make_deterministic(device: torch.device) -> None:
    """Use deterministic algorithms on CUDA where available, and disable TF32.

    With TF32, a projected prototype would not equal its patch.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Otherwise, every `torch.empty` is filled with NaN first, in case a kernel reads memory before writing it. None
        # of ours does (tests/gpu trains with and without), so the bits are the same and the filling is wasted time.
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def idle_cores(seconds: float = 0.5) -> float:
    """Number of idle CPU cores on this machine, averaged over `seconds`."""
    return (os.cpu_count() or 1) * (1 - psutil.cpu_percent(interval=seconds) / 100)


def threads_of_each(trainings: int = 1, cores: int | None = None) -> int:
    """Threads per training for several parallel trainings on a CPU: the idle cores divided evenly, at least one.

    cores: upper limit, by default all. Using more threads than idle cores makes threads wait for each other.
    """
    idle = round(idle_cores())
    return max(1, min(cores or idle, idle) // trainings)


def use_idle_cores(hardware: dict[str, Any] | None = None) -> str:
    """Set PyTorch's thread count by `threads_of_each`, unless OMP_NUM_THREADS is set. Returns a line for the log.

    $INSIGHTR_SIDE_BY_SIDE is the number of trainings started at once, as by `make demo`, because the others are not yet
    busy when idle cores are counted. hardware: from the manifest of a resumed run, which keeps its thread count and
    hence its rounding.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        idle = threads_of_each(int(os.environ.get("INSIGHTR_SIDE_BY_SIDE") or 1))
        torch.set_num_threads((hardware or {}).get("threads") or min(idle, torch.get_num_threads()))
    return f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"


def describe(device: torch.device) -> dict[str, str | int | bool | None]:
    """Describe the device, its precision and its software for the manifest.

    Keys: device (name), processor, cores, threads, bfloat16 (has units for it); torch, its version; driver, cuda and
    cudnn, the versions of the NVIDIA driver, of PyTorch's CUDA and of cuDNN (92400 for 9.24.0), None on other devices.
    """
    on_cuda = device.type == "cuda"
    driver = cuda.nvidia_driver() if on_cuda else None
    return {
        "device": torch.cuda.get_device_name(device) if on_cuda else str(device),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "bfloat16": has_bfloat16(device),
        "torch": torch.__version__,
        "driver": driver.version if driver else None,
        "cuda": torch.version.cuda if on_cuda else None,
        "cudnn": torch.backends.cudnn.version() if on_cuda else None,
    }


def summary(device: torch.device, precision: str) -> str:
    """One line on where and in which precision training runs, to print before it starts.

    Args:
        device: Device of the training.
        precision: Setting `training.precision`.
    """
    about = describe(device)
    name = f"device {about['device']}" + (f" (driver {about['driver']})" if about["driver"] else "")
    where = f"{about['processor']}, {name}" if device.type == "cpu" else name
    without_units = precision == "auto" and not about["bfloat16"]
    used = "bfloat16" if uses_bfloat16(device, precision) else "float32" + " (no bfloat16 units)" * without_units
    return f"{where}, training in {used}"
