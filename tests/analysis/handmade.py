"""Finished and opened runs made by hand, so that every number in a table is known."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from insightr_nb import files, runs
from insightr_nb.analysis import metrics
from insightr_nb.analysis.geometry import Grid
from insightr_nb.analysis.results import Results, collect
from insightr_nb.data.store import store_path
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale

TARGETS = np.repeat([0.0, 1, 2, 3, 4], 8)
IDS = [str(n) for n in range(len(TARGETS))]

SETTINGS = TableSettings(preset="smoke", folds=3, variants="baseline,insightr,log_similarity")


def store(maximum: float = 4.0) -> None:
    """A prepared store: 40 test images of 20 patients, and 120 training images of 60.

    Each of three folds trains on 80. Training images "t0" and "t1" have grade 0, "t2" and "t3" grade 1, and so on.
    """
    settings = SETTINGS.run("baseline", 0).data
    path = store_path(settings)
    training = [f"t{n}" for n in range(120)]
    table = pd.DataFrame(
        {
            "image_id": IDS + training,
            "patient_id": [f"p{n // 2}" for n in range(160)],
            "label": [*TARGETS, *(n // 2 % 5 for n in range(120))],
            "split": ["test"] * 40 + ["train"] * 120,
            "source": "",
            "digest": "",
        }
    )
    files.write_csv(path / "table.csv", table.to_dict("records"))
    files.write_array(path / "images.npy", np.zeros((160, 1, 1, 3), np.uint8))
    meta = {"images": 160, "table": files.digest(path / "table.csv"), "settings": dataclasses.asdict(settings)}
    files.write_json(path / "meta.json", meta | {"label_range": [0, maximum], "grades": True, "fingerprint": "a"})


def make(
    settings,
    error: float = 0.25,
    used: int = 2,
    store: str = "a",
    split: str = "b",
    scatter: float = 0.5,
    more: int = 0,
    groups: int = 1,
) -> Run:
    """A finished run whose every prediction is `error` off and made by `used` equal contributions of 10.

    The first `more` images have one contribution more. With several groups, image n uses prototypes of group n %
    groups, which has ten of its own. Prototype j has label j / 2 and comes from training image "t<j>". The squared
    distance of every patch to its nearest prototype is 1, `scatter` of the variance of the patches.
    """
    run = Run(runs.run_directory(settings))
    run.start(settings, {"store": store, "split": split}, {}, resumed=False)
    predictions = TARGETS + error
    weights = None
    if settings.variant != "baseline":
        weights = np.zeros((len(TARGETS), groups, 10), np.float32)
        for n in range(len(TARGETS)):
            weights[n, n % groups, : used + (n < more)] = 1
        weights = weights.reshape(len(TARGETS), -1)
        files.write_array(run / "weights.npy", weights)
        files.write_array(run / "distances.npy", np.where(weights > 0, 1, 1e6)[:, :, None, None])  # N x m x H x W
        sign = np.resize([1, -1], len(TARGETS))[:, None, None]
        files.write_array(run / "nearest_latents.npy", sign * scatter**-0.5 * np.ones((1, 1, 1)))  # N x 1 x C
        prototypes = [{"prototype": j, "label": j / 2, "image_id": f"t{j}"} for j in range(10 * groups)]
        files.write_csv(run / "prototypes.csv", prototypes)
    rows = [{"image_id": i, "target": t, "prediction": p} for i, t, p in zip(IDS, TARGETS, predictions, strict=True)]
    files.write_csv(run / "predictions.csv", rows)
    files.write_json(run / "metrics.json", metrics.summary(predictions, TARGETS, LabelScale(), True, weights))
    run.record()
    run.update(state="finished")
    return run


def all_runs() -> Results:
    """Three folds of three variants, whose differences vary a little over folds.

    Errors are 0.2 + 0.008 f, 0.22 + 0.01 f and 0.3 + 0.012 f in fold f. Three prototypes are used; with the logarithm
    eight, and nine in f images.
    """
    store()
    errors = {"baseline": (0.2, 0.008), "insightr": (0.22, 0.01), "log_similarity": (0.3, 0.012)}
    for settings in SETTINGS.grid(SETTINGS.listed("variants")):
        (first, step), f = errors[settings.variant], settings.fold
        used = {"used": 8, "more": f} if settings.variant == "log_similarity" else {"used": 3}
        make(settings, first + step * f, **used, split=f"fold {f}")
    return collect(SETTINGS.grid(SETTINGS.listed("variants")))


class HandMade:
    """The part of LoadedRun that notebook 08 uses: 6 px images of nine cells; tables, arrays and network as given."""

    grid = Grid(size=6, cells=3, stride=2, offset=0.5, receptive_field=2)

    def __init__(self, images: dict[str, np.ndarray], labels=(0.0,), network=None, **files):
        names = list(images)
        table = pd.DataFrame({"image_id": names, "label": labels, "source": names})
        self.network = network
        if network is not None:
            network.inputs = lambda images: images.permute(0, 3, 1, 2).float() / 255
            network.prediction = lambda output: output.prediction
        self.patients = np.array([f"patient of {name}" for name in names])
        self.settings = SimpleNamespace(training=SimpleNamespace(rotation=360))
        self.store = SimpleNamespace(
            table=table,
            row=names.index,
            image=lambda row: images[names[row]],
            scale=LabelScale(1, 5),
            settings=SimpleNamespace(size=6),
        )
        for name in ("predictions", "prototypes"):
            setattr(self, name, pd.DataFrame(files.get(name, {})))
        self.labels = self.prototypes["label"].to_numpy(float) if "label" in self.prototypes else None
        for name in ("weights", "distances", "prototype_maps"):
            setattr(self, name, np.array(files[name]) if name in files else None)


def grey(level: int = 50) -> np.ndarray:
    return np.full((6, 6, 3), level, np.uint8)


def watching(*box: int):
    """A network whose prediction is the mean of these pixels, 0 to 1, and whose weights are even."""
    x0, y0, x1, y1 = box

    def network(images):
        prediction = images[:, :, y0:y1, x0:x1].mean((1, 2, 3))
        return SimpleNamespace(prediction=prediction, weights=torch.ones(len(images), 2))

    return network
