"""Opening a finished run, and using it on a device."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from analysis import card

from insightr_nb.analysis import deletion, lesions, stability, tracing, trust
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.latent import LatentMap
from insightr_nb.analysis.loaded_run import LoadedRun, load_run
from insightr_nb.data.folds import fold_data
from insightr_nb.errors import SettingsError
from insightr_nb.model.network import ResNetRegressor


@pytest.fixture(scope="module")
def on_device(smoke_run) -> Iterator[LoadedRun]:
    """The smoke run on a CUDA device, or on a stand-in for one where there is none."""
    if torch.cuda.is_available():
        yield load_run(smoke_run, "cuda")
    else:
        run = load_run(smoke_run, "cpu")
        with card.Card():
            yield replace(run, network=card.put(copy.deepcopy(run.network)))


def grad_cam(run: LoadedRun) -> np.ndarray:
    """Grad-CAM and trace of a baseline on the device of the run."""
    torch.manual_seed(0)
    baseline = ResNetRegressor(run.settings.model, "random").eval()
    on_stand_in = run.device.type == "cuda" and not torch.cuda.is_available()
    baseline = card.put(baseline) if on_stand_in else baseline.to(run.device)
    return np.concatenate([values.ravel() for values in lesions.maps_of_baseline(baseline, first(run)).values()])


def first(run: LoadedRun) -> np.ndarray:
    return run.store.image(run.store.row(run.predictions["image_id"][0]))


USES = {
    "explanation": lambda run: [(e := explain(run, first(run))).prediction, *e.weights, *e.maps.ravel()],
    "familiarity": lambda run: run.familiarity(first(run)),
    "trace": lambda run: tracing.match(run.network, first(run), 3),
    "trace of the prediction": lambda run: tracing.prediction(run.network, first(run)),
    "Grad-CAM": grad_cam,
    "prediction": lambda run: deletion.predict(run.network, first(run)[None], run.store.scale),
    "stability": lambda run: stability.measure(run, np.arange(2))[["overlap", "moved"]].to_numpy(),
    "audit": lambda run: trust.audit(run)["twins"].to_numpy(),
    "drift": lambda run: trust.drift_of_prototypes(run, first(run)[None].repeat(3, 0), epochs=1, moving=True),
    "latent map": lambda run: LatentMap.of(run).prototypes,
    "importance": lambda run: run.importance,
}


@pytest.mark.parametrize("use", USES)
def test_a_network_on_a_card_gives_what_it_gives_on_the_cpu(on_device, use):
    assert on_device.device.type == "cuda"
    got, expect = USES[use](on_device), USES[use](load_run(on_device.run, "cpu"))
    np.testing.assert_allclose(got, expect, rtol=1e-3, atol=1e-3)


def test_loaded_run_reads_the_files_of_the_run_once(smoke_run):
    loaded = load_run(str(smoke_run.path), "cpu")
    assert loaded is load_run(smoke_run, "cpu")
    assert (loaded.path, loaded / "x", loaded.device.type) == (smoke_run.path, smoke_run.path / "x", "cpu")
    assert loaded.weights is loaded.weights
    assert loaded.labels.tolist() == loaded.prototypes["label"].tolist()
    assert loaded.distances.shape[:2] == loaded.weights.shape == (len(loaded.predictions), len(loaded.prototypes))
    assert loaded.display_grid.size >= loaded.grid.size


def test_twins_are_prototypes_of_the_same_patch(smoke_run):
    run = replace(load_run(smoke_run, "cpu"))  # a copy, whose table is another
    table = pd.DataFrame({"prototype": range(6), "image_id": list("abaaba"), "row": [1, 1, 1, 2, 1, 1], "col": 3})
    run.__dict__["prototypes"] = table
    assert run.twins == [(0, 2, 5), (1, 4)]


def test_similarities_and_background_of_the_test_images_give_their_metrics(smoke_run):
    run = load_run(smoke_run, "cpu")
    image_id = run.predictions["image_id"][3]
    np.testing.assert_allclose(run.similarities[3], explain(run, image_id).similarities, rtol=1e-3)
    shares = np.where(run.on_ground, run.weights, 0).sum(1) / run.weights.sum(1)
    assert shares.mean() == pytest.approx(run.metrics["ground_share"], abs=1e-6)


def test_the_background_is_unknown_without_all_images_or_where_there_is_none(smoke_run):
    run = load_run(smoke_run, "cpu")
    meta = run.store.meta
    for changed in (meta | {"partial": True}, meta | {"settings": meta["settings"] | {"preparation": "resize"}}):
        assert replace(run, store=replace(run.store, meta=changed)).on_ground is None


def test_nearest_patches_of_the_training_and_validation_images(smoke_run, smoke_settings):
    run, data = load_run(smoke_run, "cpu"), fold_data(smoke_settings)
    for part, subset in (("training", data.training.once()), ("validation", data.validation.once())):
        distances, targets = run.nearest_of(part)
        assert distances.shape == (len(subset), 10)
        assert targets.tolist() == run.store.table["label"].to_numpy(float)[subset.rows].tolist()
        e = explain(run, run.store.table["image_id"][subset.rows[-1]])
        np.testing.assert_allclose(distances[-1], e.min_distances, rtol=1e-3, atol=1e-5)


def test_a_device_that_is_not_there_is_named(smoke_run):
    with pytest.raises(SettingsError, match="device = 'cuda:99'"):
        load_run(smoke_run, "cuda:99")
