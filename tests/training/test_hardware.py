"""Choice of device, precision and threads, and the error for a lack of memory."""

import pytest
import torch

from insightr_nb.errors import RunError, SettingsError
from insightr_nb.settings import RunSettings
from insightr_nb.training import cuda, hardware

CPU = torch.device("cpu")


def test_the_device_is_chosen_or_the_wish_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert hardware.choose_device("auto").type == "cpu"
    for name in ("cuda", "cuda:1", "tpu"):
        with pytest.raises(SettingsError, match=f"device = '{name}'"):
            hardware.choose_device(name)
    one_card(monkeypatch)
    assert hardware.choose_device("auto").type == "cuda"
    with pytest.raises(SettingsError, match="cuda devices on this machine: 1"):
        hardware.choose_device("cuda:1")


def one_card(monkeypatch, capability=(9, 0), name="NVIDIA H100"):
    """Imitate a machine with one card."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: name)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])


def test_a_card_that_torch_cannot_use_is_an_error_where_it_was_asked_for_and_a_warning_where_not(monkeypatch):
    one_card(monkeypatch, (6, 1), "GTX 1080")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(SettingsError, match=f"device = '{name}': GTX 1080 has compute capability 6.1, .* Install"):
            hardware.choose_device(name)
    with pytest.warns(UserWarning, match="device = 'auto' uses the CPU, because GTX 1080 has .* Install"):
        assert hardware.choose_device("auto") == CPU
    assert hardware.choose_device("cpu") == CPU  # asked for: no warning


def test_auto_takes_the_first_card_that_torch_can_use(monkeypatch):
    one_card(monkeypatch)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", [(6, 1), (9, 0)].__getitem__)
    assert hardware.choose_device("auto") == torch.device("cuda:1")
    assert hardware.uses_bfloat16(torch.device("cuda:1"), "auto")
    assert not hardware.uses_bfloat16(torch.device("cuda"), "auto")
    monkeypatch.setattr(torch.cuda, "get_device_capability", [(9, 0), (9, 0)].__getitem__)
    assert hardware.choose_device("auto") == torch.device("cuda")


def test_a_driver_that_is_too_old_is_an_error_where_the_card_was_asked_for_and_a_warning_where_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda, "nvidia_driver", lambda: cuda.Driver("535.183.01", (12, 2), 1))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    message = "the NVIDIA driver 535.183.01 supports CUDA 12.2, but .* needs CUDA 13.0. Install NVIDIA driver 580"
    with pytest.raises(SettingsError, match=f"device = 'cuda': {message}"):
        hardware.choose_device("cuda")
    with pytest.warns(UserWarning, match=f"device = 'auto' uses the CPU, because {message}"):
        assert hardware.choose_device("auto") == CPU


def test_deterministic_algorithms_do_not_fill_memory_that_is_written_before_it_is_read():
    filled = torch.utils.deterministic.fill_uninitialized_memory
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        hardware.make_deterministic(CPU)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory == filled
        hardware.make_deterministic(torch.device("cuda"))
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32


def test_the_description_of_a_card_has_its_software(monkeypatch):
    plain = hardware.describe(CPU)
    assert list(plain) == ["device", "processor", "cores", "threads", "bfloat16", "torch", "driver", "cuda", "cudnn"]
    assert (plain["device"], plain["driver"], plain["cuda"], plain["cudnn"]) == ("cpu", None, None, None)
    one_card(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92400)
    monkeypatch.setattr(cuda, "nvidia_driver", lambda: cuda.Driver("580.65.06", (13, 0), 1))
    on_card = plain | {"device": "NVIDIA H100", "bfloat16": True}
    on_card |= {"driver": "580.65.06", "cuda": "13.0", "cudnn": 92400}
    assert hardware.describe(torch.device("cuda")) == on_card
    assert hardware.summary(torch.device("cuda"), "auto") == (
        "device NVIDIA H100 (driver 580.65.06), training in bfloat16"
    )
    assert hardware.summary(torch.device("cuda"), "float32").endswith(", training in float32")


@pytest.mark.parametrize(
    ("units", "precision", "expect"),
    [
        ({}, "auto", "Xeon, device cpu, training in float32 (no bfloat16 units)"),
        ({}, "float32", "Xeon, device cpu, training in float32"),
        ({}, "bfloat16", "Xeon, device cpu, training in bfloat16"),
        ({"amx_bf16": True}, "auto", "Xeon, device cpu, training in bfloat16"),
        ({"amx_bf16": True}, "float32", "Xeon, device cpu, training in float32"),
    ],
)
def test_the_summary_names_device_and_precision(monkeypatch, units, precision, expect):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units | {"cpu_name": "Xeon"})
    assert hardware.summary(CPU, precision) == expect


@pytest.mark.parametrize(
    ("units", "expect"), [({}, False), ({"amx_bf16": True}, True), ({"amx_bf16": False, "avx512_bf16": True}, True)]
)
def test_bfloat16_is_used_where_the_processor_has_units_for_it(monkeypatch, units, expect):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    with hardware.autocast(CPU, "auto"):
        assert torch.is_autocast_enabled("cpu") == expect
    with hardware.autocast(CPU, "bfloat16"):
        assert torch.is_autocast_enabled("cpu")
    with hardware.autocast(CPU, "float32"):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:"
            "117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    ],
)
def test_out_of_memory_says_what_helps(error):
    settings = RunSettings.from_parameters(preset="paper")
    message = "out of memory with batches of 30 images of 512 px .*-p batch_size 15 -p tag smaller_batch"
    with pytest.raises(RunError, match=message), hardware.memory_errors(settings):
        raise error


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="^shapes$"), hardware.memory_errors(RunSettings.from_parameters()):
        raise RuntimeError("shapes")


@pytest.mark.parametrize(
    ("busy", "trainings", "cores", "threads"),
    [
        (0, 1, None, 4),
        (20, 1, None, 3),
        (50, 1, None, 2),
        (100, 1, None, 1),
        (0, 2, 4, 2),
        (50, 2, 4, 1),
        (50, 1, 2, 2),
        (0, 2, 16, 2),
        (0, 2, 1, 1),
    ],
)
def test_trainings_share_the_idle_cores(monkeypatch, busy, trainings, cores, threads):
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(hardware.psutil, "cpu_percent", lambda interval: busy)
    assert hardware.threads_of_each(trainings, cores) == threads


def test_threads_follow_the_load_unless_they_are_given(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(hardware.psutil, "cpu_percent", lambda interval: 75)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 4)
    try:
        torch.set_num_threads(3)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert hardware.use_idle_cores() == "3 threads on 4 cores"
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert hardware.use_idle_cores({"threads": 2}) == "2 threads on 4 cores"  # of the run that is resumed
        assert hardware.use_idle_cores() == "1 threads on 4 cores"
        torch.set_num_threads(3)
        monkeypatch.setattr(hardware.psutil, "cpu_percent", lambda interval: 0)
        monkeypatch.setenv("INSIGHTR_SIDE_BY_SIDE", "2")  # two trainings that start now: neither is busy yet
        assert hardware.use_idle_cores() == "2 threads on 4 cores"
    finally:
        torch.set_num_threads(before)
