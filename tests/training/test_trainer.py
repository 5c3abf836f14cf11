"""Training of the smoke run: its files, resuming, failures, and repetition."""

import copy
import dataclasses
import math
import shutil
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from insightr_nb import runs
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data.folds import fold_data
from insightr_nb.data.loading import Epoch, Subset, batches, rows_of_batches
from insightr_nb.data.prepare import prepare
from insightr_nb.data.store import open_store, store_path
from insightr_nb.errors import ModelError, RunError, SettingsError
from insightr_nb.model import losses
from insightr_nb.model.prototypes import squared_distances
from insightr_nb.runs import Run
from insightr_nb.settings import DataSettings, RunSettings
from insightr_nb.training import checkpoint, trainer
from insightr_nb.training.checkpoint import load_model
from insightr_nb.training.stages import Stage, protocol, training_only
from insightr_nb.training.step import training_loss
from insightr_nb.training.trainer import train

RESULTS = ("model.safetensors", "predictions.csv", "weights.npy", "metrics.json", "prototypes.csv")


def settings(tag: str, **parameters) -> RunSettings:
    return RunSettings.from_parameters(preset="smoke", tag=tag, **parameters)


def test_a_finished_run_has_its_files(smoke_run):
    expect = {
        "manifest.json",
        "history.csv",
        "model.safetensors",
        "prototypes.csv",
        "prototype_maps.npy",
        "prototypes_before_projection.npy",
        "predictions.csv",
        "weights.npy",
        "distances.npy",
        "nearest_latents.npy",
        "statistics_training.npy",
        "statistics_validation.npy",
        "distances_training.npy",
        "distances_validation.npy",
        "targets_training.npy",
        "targets_validation.npy",
        "metrics.json",
    }
    assert {f.name for f in smoke_run.path.iterdir() if f.is_file()} == expect
    assert smoke_run.state == "finished"
    test = smoke_run.metrics["n_test"]
    assert smoke_run.array("weights.npy").shape == (test, 10)
    assert smoke_run.array("weights.npy").dtype == np.float32
    assert smoke_run.array("distances.npy").shape == (test, 10, 3, 3)
    assert smoke_run.array("nearest_latents.npy").shape == (test, 5, 16)
    history = smoke_run.table("history.csv")
    assert history["stage"].tolist() == ["warm-up", "joint", "last layer", "joint", "joint", "last layer"]
    selected = history.set_index("epoch").loc[smoke_run.manifest["selected_epoch"]]
    last_layer = history[history["stage"] == "last layer"]
    assert selected["stage"] == "last layer"
    assert selected["validation_mse"] == last_layer["validation_mse"].min()


def test_every_prototype_of_the_finished_model_is_its_source_patch(smoke_run):
    """Also after the last-layer stage, because frozen parts keep their BatchNorm statistics."""
    store = open_store(store_path(RunSettings.from_parameters(preset="smoke").data))
    network = load_model(smoke_run / "model.safetensors")
    table = smoke_run.table("prototypes.csv")
    training = set(store.table["image_id"].iloc[fold_data(RunSettings.from_parameters(preset="smoke")).split.training])
    for j, p in table.iterrows():
        image = torch.from_numpy(np.array(store.images[store.row(p["image_id"])]))[None]
        with torch.no_grad():
            latent = network.latent(network.inputs(image))
        patch = latent[:, :, p["row"] : p["row"] + 1, p["col"] : p["col"] + 1]
        assert squared_distances(latent=patch, prototypes=network.prototype_layer.vectors[j : j + 1]).item() <= 1e-6
        assert p["image_id"] in training
        explanation = explain(smoke_run, p["image_id"])
        assert explanation.similarities[j] == pytest.approx(1e4, rel=1e-4)  # 1 / epsilon
        assert explanation.maps[j, p["row"], p["col"]] <= 1e-6


def test_contributions_make_the_prediction(smoke_run):
    table = smoke_run.table("predictions.csv")
    weights = smoke_run.array("weights.npy").astype(float)
    labels = smoke_run.table("prototypes.csv")["label"].to_numpy()
    np.testing.assert_allclose((weights * labels).sum(1) / weights.sum(1), table["prediction"], rtol=0, atol=1e-5)
    assert labels[0] == pytest.approx(-0.9)
    assert labels[-1] == pytest.approx(4.9)
    assert smoke_run.metrics["mae"] == pytest.approx((table["prediction"] - table["target"]).abs().mean())
    for rank in (1, 5):
        best = weights[np.arange(len(table)), table[f"prototype_{rank}"]]
        np.testing.assert_allclose(best, table[f"weight_{rank}"])
        np.testing.assert_allclose(best, np.sort(weights, 1)[:, -rank])


def test_an_explanation_agrees_with_the_files_of_the_run(smoke_run):
    run = load_run(smoke_run.path)
    table = smoke_run.table("predictions.csv")
    for n in (0, len(table) - 1):
        e = explain(run, table["image_id"][n])
        assert e.prediction == pytest.approx(table["prediction"][n], abs=1e-4)  # one image against a batch, float32
        assert e.target == table["target"][n]
        assert e.top(1)[0] == table["prototype_1"][n]
        np.testing.assert_allclose(e.maps, smoke_run.array("distances.npy")[n], atol=1e-4)
        assert [e.maps[j, r, c] for j, (r, c) in enumerate(e.cells)] == pytest.approx(e.min_distances)
        assert e.boxes.shape == (10, 4)


def test_same_seed_gives_bitwise_equal_results(smoke_run, smoke_settings):
    again = settings("again")
    run = train(again)
    evaluate(run, again)
    for name in RESULTS:
        if name != "model.safetensors":  # its metadata holds the tag
            assert (run / name).read_bytes() == (smoke_run / name).read_bytes(), name
    ours, theirs = (safetensors.torch.load_file(r / "model.safetensors") for r in (run, smoke_run))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    shutil.rmtree(run.path)


@pytest.mark.parametrize("epoch", [1, 3, 5])  # 5: the second of two joint epochs, with optimiser and schedule under way
def test_resumed_run_equals_an_uninterrupted_one(smoke_run, monkeypatch, epoch):
    """Stopped in the middle of an epoch, whatever the stage: the epochs before it are kept."""
    broken = settings(f"stopped{epoch}")
    run = stopped(broken, epoch, monkeypatch)
    train(broken)
    evaluate(run, broken)
    for name in RESULTS[1:]:
        assert (run / name).read_bytes() == (smoke_run / name).read_bytes(), name
    assert not (run / "last.ckpt").exists()
    shutil.rmtree(run.path)


def stopped(given: RunSettings, epoch: int, monkeypatch) -> Run:
    """A run that is interrupted in the second step of an epoch, from 1."""
    original = losses.total_loss

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6 * (epoch - 1) + 2:  # four steps and two validation batches an epoch
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    calls: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(losses, "total_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            train(given)
    run = Run(runs.run_directory(given))
    assert run.state == "interrupted"
    kept = len(pd.read_csv(run / "history.csv")) if (run / "history.csv").exists() else 0
    assert kept == epoch - 1
    return run


PERSISTENT = {"training.persistent_optimizers": True}


def steps_of_adam(given: RunSettings, monkeypatch) -> list[int]:
    """Train a run; the number of steps that Adam has counted after each epoch."""
    counted: dict[int, int] = {}
    save = checkpoint.save_state

    def noted(path, state):
        if state["history"]:
            counted[len(state["history"])] = int(state["optimizer_state"]["optimizer"]["state"][0]["step"])
        save(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", noted)
        train(given)
    return list(counted.values())


def under_way(given: RunSettings, **training) -> tuple[trainer._Trainer, Stage]:
    """A trainer of the smoke run before its first epoch, with other training settings, and its last-layer stage."""
    made = trainer._Trainer(given, Run(runs.run_directory(given)), fold_data(given), torch.device("cpu"), None)
    made.settings = dataclasses.replace(given, training=dataclasses.replace(given.training, **training))
    return made, next(stage for stage in protocol(given) if stage.only_last_layer)


@pytest.mark.parametrize("at_once", [1, 2])  # as on a CPU and on a card
def test_replayed_steps_of_the_last_layer_are_those_of_a_plain_loop(smoke_run, smoke_settings, monkeypatch, at_once):
    monkeypatch.setitem(trainer._AT_ONCE, "cpu", at_once)
    made, stage = under_way(smoke_settings, precision="float32")
    plain = copy.deepcopy(made.network)
    optimizer, _ = stage.optimizer(made.network)
    got = made._epoch(stage, optimizer)
    optimizer, _ = stage.optimizer(plain)
    epoch = Epoch(made.data.training, made.settings.training, made.settings.seed, 0)
    total = 0.0
    with training_only(plain, ("last_layer",)):
        for images, targets in batches(epoch, made.settings.training.batch_size, torch.device("cpu")):
            terms, _ = training_loss(plain, images, targets, made.settings)
            optimizer.zero_grad()
            terms["total"].backward()
            optimizer.step()
            total += terms["total"].item() * len(targets)
    start = plain.last_layer.labels.sqrt()
    assert (plain.last_layer.theta - start).abs().max() > 1e-4  # the steps moved it
    torch.testing.assert_close(made.network.last_layer.theta, plain.last_layer.theta, rtol=0, atol=1e-6)
    assert got["train_total"] == pytest.approx(total / len(epoch), rel=1e-5)
    for name, value in plain.state_dict().items():  # nothing else changed
        assert name == "last_layer.theta" or torch.equal(value, made.network.state_dict()[name])


def test_a_last_layer_stage_computes_the_validation_distances_once(smoke_run, smoke_settings, monkeypatch):
    made, stage = under_way(smoke_settings)
    seen: list[int] = []
    original = trainer.forward
    monkeypatch.setattr(trainer, "forward", lambda n, images, s: seen.append(len(images)) or original(n, images, s))
    first, again = made._validate(stage), made._validate(stage)
    assert sum(seen) == len(made.data.validation)
    assert first == again
    joint = next(s for s in protocol(made.settings) if s.name == "joint")
    assert made._validate(joint)["validation_mse"] == pytest.approx(first["validation_mse"], rel=1e-4)
    assert sum(seen) == 2 * len(made.data.validation)
    with torch.no_grad():
        made.network.last_layer.theta[0] += 1
    assert made._validate(stage)["validation_mse"] != first["validation_mse"]


def test_an_epoch_reads_from_the_device_once_in_25_steps(smoke_run, smoke_settings, monkeypatch):
    """A card would wait at every read."""
    made, _ = under_way(smoke_settings, batch_size=2, precision="float32")
    joint = next(s for s in protocol(made.settings) if s.name == "joint")
    reads: list[str] = []
    for name in ("tolist", "item", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero"):
        original = getattr(torch.Tensor, name)

        def counted(tensor, *args, name=name, original=original, **more):
            frame = sys._getframe(1)
            if frame.f_globals["__name__"].startswith("insightr_nb") and "_read_ahead" not in frame.f_code.co_qualname:
                reads.append(name)
            return original(tensor, *args, **more)

        monkeypatch.setattr(torch.Tensor, name, counted)
    made._epoch(joint, joint.optimizer(made.network)[0])
    steps = len(rows_of_batches(len(Epoch(made.data.training, made.settings.training, 0, 0)), 2))
    assert steps > 25
    assert reads == ["tolist"] * math.ceil(steps / 25)


def test_a_stage_has_a_new_optimizer_by_default(monkeypatch):
    """Four steps an epoch: warm-up, joint, last layer; joint twice, last layer."""
    given = settings("new")
    assert steps_of_adam(given, monkeypatch) == [4, 4, 4, 4, 8, 4]
    shutil.rmtree(runs.run_directory(given))


def test_persistent_optimizers_continue_in_the_next_cycle(smoke_run, monkeypatch):
    """One Adam for the joint and one for the last-layer stages of all cycles; the learning rates are the same."""
    given = settings("counted", overrides=PERSISTENT)
    assert steps_of_adam(given, monkeypatch) == [4, 4, 4, 8, 12, 8]
    new, persistent = (run.table("history.csv") for run in (smoke_run, Run(runs.run_directory(given))))
    pd.testing.assert_frame_equal(new.filter(like="lr_"), persistent.filter(like="lr_"), check_exact=True)
    assert (new["train_total"] == persistent["train_total"]).tolist() == [True] * 3 + [False] * 3  # cycles 1 and 2
    shutil.rmtree(runs.run_directory(given))


@pytest.mark.parametrize("epoch", [4, 5, 6])  # of cycle 2: first and second joint epoch, last layer
def test_a_resumed_run_with_persistent_optimizers_equals_an_uninterrupted_one(persistent_run, monkeypatch, epoch):
    broken = settings(f"persistent{epoch}", overrides=PERSISTENT)
    run = stopped(broken, epoch, monkeypatch)
    train(broken)
    ours, theirs = (r.table("history.csv").drop(columns="seconds") for r in (run, persistent_run))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert (run / "prototypes.csv").read_bytes() == (persistent_run / "prototypes.csv").read_bytes()
    ours, theirs = (safetensors.torch.load_file(r / "model.safetensors") for r in (run, persistent_run))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    shutil.rmtree(run.path)


@pytest.fixture(scope="module")
def persistent_run(smoke_run) -> Run:
    return train(settings("persistent", overrides=PERSISTENT))


@pytest.mark.parametrize(
    ("call", "message"),
    [(9, "the loss is not finite in epoch 2 .*total = nan"), (11, "the validation loss is not finite in epoch 2")],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(smoke_run, monkeypatch, call, message):
    wild = settings("wild")
    original = losses.total_loss

    def poisoned(*args, **kwargs):
        values = original(*args, **kwargs)
        calls.append(1)
        if len(calls) == call:
            values["total"] = values["total"] * torch.nan
        return values

    calls: list[int] = []
    monkeypatch.setattr(losses, "total_loss", poisoned)
    with pytest.raises(RunError, match=message):
        train(wild)
    run = Run(runs.run_directory(wild))
    assert run.state == "failed"
    assert "not finite" in run.manifest["error"]
    assert len(pd.read_csv(run / "history.csv")) == 1
    monkeypatch.undo()
    train(wild)  # the same command goes on
    assert evaluate(run, wild) == smoke_run.metrics
    shutil.rmtree(run.path)


def test_a_run_of_an_older_version_resumes_with_the_current_columns_of_history(monkeypatch):
    """Older versions wrote rate_<part> for lr_<part>, in history.csv and in last.ckpt."""
    given = settings("older", variant="backbone", seed=1)
    run = Run(runs.run_directory(given))
    validate = trainer._Trainer._validate
    monkeypatch.setattr(
        trainer._Trainer, "_validate", lambda self, stage: validate(self, stage) if not self.history else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        train(given)
    monkeypatch.undo()
    state = checkpoint.load_state(run / "last.ckpt")
    older = [{name.replace("lr_", "rate_"): value for name, value in row.items()} for row in state["history"]]
    assert {"rate_backbone", "rate_last_layer"} <= older[0].keys()
    checkpoint.save_state(run / "last.ckpt", state | {"history": older})
    pd.DataFrame(older).to_csv(run / "history.csv", index=False)
    assert run.table("history.csv")["lr_backbone"].tolist() == [5e-4]
    train(given)
    history = pd.read_csv(run / "history.csv")
    assert history["lr_backbone"].tolist() == [5e-4, 5e-4]
    assert not [name for name in history if name.startswith("rate_")]
    shutil.rmtree(run.path)


def test_finished_run_is_not_trained_again(smoke_run, smoke_settings, monkeypatch):
    monkeypatch.setattr(trainer._Trainer, "train", lambda self: pytest.fail("trained again"))
    before = (smoke_run / "model.safetensors").stat().st_mtime_ns
    assert train(smoke_settings) == smoke_run
    assert evaluate(smoke_run, smoke_settings) == smoke_run.metrics
    assert (smoke_run / "model.safetensors").stat().st_mtime_ns == before
    assert smoke_run.state == "finished"


def test_overwriting_keeps_the_finished_run_until_the_new_one_can_begin(smoke_run, smoke_settings, monkeypatch):
    def fail(*args):
        raise ModelError("no such weights")

    monkeypatch.setattr(checkpoint, "build_network", fail)
    with pytest.raises(ModelError, match="no such weights"):
        train(dataclasses.replace(smoke_settings, overwrite=True))
    assert smoke_run.state == "finished"
    assert (smoke_run / "model.safetensors").exists()


def test_the_epoch_is_selected_by_the_loss_that_the_settings_name():
    changes = {"training.selection": "total", "training.last_layer_epochs": 2, "losses.psd": 1000}
    run = train(settings("total", overrides=changes))
    history = run.table("history.csv")
    history = history[history["stage"] == "last layer"].set_index("epoch")
    assert len(history) == 4
    assert run.manifest["selected_epoch"] == history["validation_total"].idxmin()
    shutil.rmtree(run.path)


def test_other_settings_in_the_same_folder_are_refused(smoke_run, smoke_settings):
    changed = dataclasses.replace(smoke_settings, losses=dataclasses.replace(smoke_settings.losses, k=2))
    with pytest.raises(RunError, match=r"losses\.k was 3, is now 2.*another tag"):
        train(changed)
    assert smoke_run.state == "finished"


def test_a_missing_backbone_names_the_command():
    with pytest.raises(RunError, match="backbone .* is missing.*-p variant backbone -p fold 2"):
        train(RunSettings.from_parameters(preset="smoke", fold=2))


def test_continuous_labels_need_grades(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "out"))
    rng = np.random.default_rng(0)
    lines = ["image,label"]
    for n in range(60):
        cv2.imwrite(str(tmp_path / f"{n}.png"), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
        lines.append(f"{n}.png,{n / 7}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    prepare(DataSettings(dataset="csv", name="ages", folder=str(tmp_path), size=64, preparation="resize"))
    ages = RunSettings.from_parameters(dataset="csv", name="ages", preset="smoke")
    data = fold_data(ages)
    assert data.training.targets.min() >= 1
    assert data.training.targets.max() <= 5
    with pytest.raises(SettingsError, match="'ages' are not integer grades"):
        fold_data(dataclasses.replace(ages, labels="continuous"))


def test_continuous_labels_are_for_training_and_validation_only():
    categorical = fold_data(RunSettings.from_parameters(preset="smoke"))
    continuous = fold_data(RunSettings.from_parameters(preset="smoke", labels="continuous"))
    for name in ("training", "validation"):
        before, after = getattr(categorical, name), getattr(continuous, name)
        assert isinstance(after, Subset)
        difference = after.targets - before.targets
        assert np.abs(difference).max() <= 0.5
        assert np.unique(difference).size > 0.9 * len(difference)
        np.testing.assert_array_equal(before.strata, after.strata)
    np.testing.assert_array_equal(categorical.test.targets, continuous.test.targets)
    assert set(categorical.test.targets) <= {1, 2, 3, 4, 5}
