"""Choice of device, precision and threads, and the error for a lack of memory."""

import pytest
import torch

from insightr_nb.errors import RunError, SettingsError
from insightr_nb.settings import RunSettings
from insightr_nb.training import hardware


def test_the_device_is_chosen_or_the_wish_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert hardware.choose_device("auto").type == "cpu"
    for name in ("cuda", "cuda:1", "tpu"):
        with pytest.raises(SettingsError, match=f"device = '{name}'"):
            hardware.choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert hardware.choose_device("auto").type == "cuda"
    with pytest.raises(SettingsError, match="cuda devices on this machine: 1"):
        hardware.choose_device("cuda:1")


@pytest.mark.parametrize(
    ("units", "expect"), [({}, False), ({"amx_bf16": True}, True), ({"amx_bf16": False, "avx512_bf16": True}, True)]
)
def test_bfloat16_is_used_where_the_processor_has_units_for_it(monkeypatch, units, expect):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    cpu = torch.device("cpu")
    with hardware.autocast(cpu, "auto"):
        assert torch.is_autocast_enabled("cpu") == expect
    with hardware.autocast(cpu, "bfloat16"):
        assert torch.is_autocast_enabled("cpu")
    with hardware.autocast(cpu, "float32"):
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
