"""Shared by the tests of the explorer: a run whose prototypes 2 and 6 are twins, opened once, and a selected image."""

import shutil

import numpy as np
import pytest
import torch
from explorer.shown import TWINS

from insightr_nb import files
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data import display
from insightr_nb.data.store import open_store, store_path
from insightr_nb.errors import DataError
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.subject import Selection, Subject, View
from insightr_nb.explorer.widgets import Status
from insightr_nb.runs import Run
from insightr_nb.training.checkpoint import load_model, save_model


@pytest.fixture(scope="session")
def twinned(smoke_run, smoke_settings, tmp_path_factory) -> Run:
    """A copy of the smoke run in which prototype 6 is the patch that 2 is, and 3 and 5 have exchanged their labels.

    Others that share a patch, which depends on the processor, move to another cell of their source image.
    """
    root, first, second = tmp_path_factory.mktemp("twins"), *TWINS
    for part in ("data/synthetic-64", smoke_run.path.relative_to(smoke_run.root)):
        shutil.copytree(smoke_run.root / part, root / part)
    run = Run(root / smoke_run.path.relative_to(smoke_run.root))
    network = load_model(run / "model.safetensors", torch.device("cpu"))
    table, maps = run.table("prototypes.csv"), run.array("prototype_maps.npy").copy()
    store, taken = open_store(store_path(smoke_settings.data, root)), set()
    with torch.no_grad():
        for j in [first, *(j for j in range(len(table)) if j not in TWINS)]:
            image_id, *own = table.loc[j, ["image_id", "row", "col"]]
            row, col = next(c for c in [tuple(own), *np.ndindex(maps[j].shape)] if (image_id, *c) not in taken)
            taken.add((image_id, row, col))
            inputs = network.inputs(torch.from_numpy(store.image(store.row(image_id)))[None])
            latent, layer = network.latent(inputs), network.prototype_layer
            if (row, col) != tuple(own):
                table.loc[j, ["row", "col"]] = row, col
                layer.vectors[j] = latent[0, :, row, col]
                outside = network.outside(inputs, latent.shape[2])
                maps[j] = layer.distances(latent, layer.vectors[j][None], outside)[0, 0].numpy()
        layer.vectors[second] = layer.vectors[first]
        network.last_layer.labels[[3, 5]] = network.last_layer.labels[[5, 3]]
    save_model(run / "model.safetensors", network, run.manifest["settings"])
    for column in set(table) - {"prototype", "label"}:
        table.loc[second, column] = table.loc[first, column]
    table.loc[[3, 5], "label"] = table["label"][[5, 3]].to_numpy()
    maps[second] = maps[first]
    files.write_csv(run / "prototypes.csv", table.to_dict("records"))
    files.write_array(run / "prototype_maps.npy", maps)
    run.record()
    run.update(state="trained")
    evaluate(run, smoke_settings)
    return run


@pytest.fixture(scope="session")
def explored(twinned) -> Exploration:
    return Exploration(load_run(twinned))


@pytest.fixture(scope="session")
def smoke(smoke_run) -> Exploration:
    """Another run on the same images."""
    return Exploration(load_run(smoke_run))


@pytest.fixture
def selection(explored) -> Selection:
    """Test image 5, of which only the boxes are shown."""
    subject = Subject(explored.predictions["image_id"][5])
    return Selection(subject, subject.explanation(explored), View(layers=("boxes",)), Status())


@pytest.fixture
def went() -> list:
    """Where the links of a tab have led."""
    return []


@pytest.fixture
def sources_gone(monkeypatch) -> None:
    """The original photographs are no longer there."""

    def gone(*_, **__) -> None:
        raise DataError("eye.png: cannot be read")

    monkeypatch.setattr(display, "original_image", gone)
