"""Opening a finished run on a device."""

import pytest
import torch

from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.errors import SettingsError


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_explain_alike(smoke_run):
    on_cpu, on_cuda = load_run(smoke_run, "cpu"), load_run(smoke_run, "auto")
    assert on_cuda.device.type == "cuda"
    name = on_cpu.predictions["image_id"][0]
    got, expect = explain(on_cuda, name), explain(on_cpu, name)
    assert got.prediction == pytest.approx(expect.prediction, abs=1e-3)
    assert got.maps == pytest.approx(expect.maps, abs=1e-3)


def test_loaded_run_reads_the_files_of_the_run_once(smoke_run):
    loaded = load_run(str(smoke_run.path), "cpu")
    assert loaded is load_run(smoke_run, "cpu")
    assert (loaded.path, loaded / "x", loaded.device.type) == (smoke_run.path, smoke_run.path / "x", "cpu")
    assert loaded.weights is loaded.weights
    assert loaded.labels.tolist() == loaded.prototypes["label"].tolist()
    assert loaded.distances.shape[:2] == loaded.weights.shape == (len(loaded.predictions), len(loaded.prototypes))
    assert loaded.display_grid.size >= loaded.grid.size


def test_a_device_that_is_not_there_is_named(smoke_run):
    with pytest.raises(SettingsError, match="device = 'cuda:99'"):
        load_run(smoke_run, "cuda:99")
