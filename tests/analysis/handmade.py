"""Finished and opened runs made by hand, so that every number in a table is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from insightr_nb import files, runs
from insightr_nb.analysis import metrics
from insightr_nb.analysis.geometry import Grid
from insightr_nb.analysis.results import Results, collect
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale

TARGETS = np.repeat([0.0, 1, 2, 3, 4], 8)


SETTINGS = TableSettings(preset="smoke", folds=3, variants="baseline,insightr,log_similarity")


def make(settings, error: float = 0.25, used: int = 2, store: str = "a", split: str = "b") -> Run:
    """A finished run whose every prediction is `error` off and made by `used` equal contributions of 10."""
    run = Run(runs.run_directory(settings))
    run.start(settings, {"store": store, "split": split}, {}, resumed=False)
    predictions = TARGETS + error
    weights = None
    if settings.variant != "baseline":
        weights = np.zeros((len(TARGETS), 10), np.float32)
        weights[:, :used] = 1
        files.write_array(run / "weights.npy", weights)
        files.write_array(run / "distances.npy", np.where(weights > 0, 1, 1e6)[:, :, None, None])  # N x m x H x W
    rows = [
        {"image_id": str(i), "target": t, "prediction": p}
        for i, (t, p) in enumerate(zip(TARGETS, predictions, strict=True))
    ]
    files.write_csv(run / "predictions.csv", rows)
    files.write_json(run / "metrics.json", metrics.summary(predictions, TARGETS, LabelScale(), True, weights))
    run.record()
    run.update(state="finished")
    return run


def all_runs(**changes) -> Results:
    for settings in SETTINGS.grid(SETTINGS.listed("variants")):
        error = {"baseline": 0.2, "insightr": 0.22, "log_similarity": 0.3}[settings.variant] + 0.01 * settings.fold
        make(settings, error, used={"log_similarity": 8}.get(settings.variant, 3), split=f"fold {settings.fold}")
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
