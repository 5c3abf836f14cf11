"""Model files and training states: round trip, damage, and malicious pickles."""

import struct

import pytest
import safetensors.torch
import torch

from insightr_nb.errors import ModelError, RunError
from insightr_nb.settings import RunSettings
from insightr_nb.training.checkpoint import build_network, load_model, load_state, save_model, save_state


@pytest.mark.parametrize("variant", ["insightr", "baseline", "log_similarity"])
def test_the_file_alone_is_enough_to_build_the_network(tmp_path, variant):
    torch.manual_seed(1)
    settings = RunSettings.from_parameters(preset="smoke", variant=variant)
    network = build_network(settings).eval()
    save_model(tmp_path / "model.safetensors", network, settings.as_dict())
    again = load_model(tmp_path / "model.safetensors")
    x = torch.randn(2, 3, 64, 64)
    ours, theirs = (n(x) if variant == "baseline" else n(x).prediction for n in (network, again))
    torch.testing.assert_close(ours, theirs)
    assert not again.training


def test_damaged_and_foreign_files_are_named(tmp_path):
    settings = RunSettings.from_parameters(preset="smoke")
    path = tmp_path / "model.safetensors"
    with pytest.raises(RunError, match=r"model\.safetensors is missing"):
        load_model(path)
    save_model(path, build_network(settings), settings.as_dict())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        load_model(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="not written by this package"):
        load_model(path)


def test_tensors_of_another_architecture_are_named(tmp_path):
    settings = RunSettings.from_parameters(preset="smoke")
    other = RunSettings.from_parameters(preset="smoke", overrides={"model.prototypes": 12}, tag="m12")
    save_model(tmp_path / "model.safetensors", build_network(other), settings.as_dict())
    with pytest.raises(ModelError, match=r"3 tensors differ.*last_layer\.labels.*prototype_layer\.vectors"):
        load_model(tmp_path / "model.safetensors")


def test_state_round_trips_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "last.ckpt"
    save_state(path, {"network": {"a": torch.arange(3)}, "history": [{"epoch": 1, "loss": 0.5, "stage": "joint"}]})
    state = load_state(path)
    assert state["history"] == [{"epoch": 1, "loss": 0.5, "stage": "joint"}]
    assert state["network"]["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match=r"last\.ckpt is damaged.*overwrite=True"):
        load_state(path)


class Malicious:
    """A pickle that would make a file when it is opened."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_given_as_a_state_is_refused_and_nothing_of_it_runs(tmp_path, zipped):
    path, proof = tmp_path / "last.ckpt", tmp_path / "proof"
    torch.save({"history": Malicious(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RunError, match=r"last\.ckpt is damaged"):
        load_state(path)
    assert not proof.exists()


def test_flipped_bit_in_a_state_is_detected(tmp_path):
    path = tmp_path / "last.ckpt"
    save_state(path, {"network": {"a": torch.arange(300.0)}, "history": []})
    content = path.read_bytes()
    last = content.index(struct.pack("<f", 299))  # the tensor's bytes end here
    for at in (last, last - 4 * 200):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(RunError, match=r"last\.ckpt is damaged \(.+\)\. Use overwrite=True"):
            load_state(path)
