"""Explanation of the prediction for one image by a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from insightr_nb import files
from insightr_nb.analysis.familiarity import warning
from insightr_nb.analysis.loaded_run import LoadedRun, by_patch, load_run
from insightr_nb.analysis.metrics import top_prototypes, uncertainty
from insightr_nb.data import display
from insightr_nb.data.disc import find_disc
from insightr_nb.data.image_files import image_id, images_below, printable
from insightr_nb.data.photograph import DISC, disc_doubt, prepared, prepared_and_disc, uses_disc, view
from insightr_nb.errors import DataError, RunError
from insightr_nb.files import given_path
from insightr_nb.runs import Run

_DISTRUST = "Do not trust the prediction."
_UNKNOWN = (
    "Whether the image is like those that the run was trained on is unknown, because an older version evaluated the "
    "run. To know it, run notebook 03 on the run again."
)
DISCLAIMER = "For research use only; not a medical device. Nothing here may be used for a diagnosis."


@dataclass(frozen=True, repr=False)
class Explanation:
    """A prediction and its explanation; m prototypes on an H x W latent grid, labels in the user's units.

    prediction = sum(weights * prototype_labels) / sum(weights).
    """

    prediction: float
    weights: np.ndarray  # (m,) contributions w = s * r
    similarities: np.ndarray  # (m,) similarity of the nearest patch
    min_distances: np.ndarray  # (m,) squared
    maps: np.ndarray  # (m, H, W) squared distances of every patch
    cells: np.ndarray  # (m, 2) row and column of the nearest patch
    boxes: np.ndarray  # (m, 4) x0, y0, x1, y1 of that cell in the prepared image
    prototype_labels: np.ndarray  # (m,)
    prototype_sources: pd.DataFrame  # prototypes.csv: source patch of each prototype
    image: np.ndarray  # (size, size, 3) uint8 RGB, network input
    picture: np.ndarray  # (S, S, 3) uint8 RGB, at display size, for overlays
    target: float | None = None  # label, if the image belongs to the data set
    name: str = "image"  # image_id, or name of the file
    familiarity: float | None = None  # share of the validation images as unlike the training images; None: unknown
    warnings: tuple[str, ...] = ()  # reasons not to trust the prediction

    @classmethod
    def of(
        cls, run: LoadedRun, prediction: float, weights: np.ndarray, maps: np.ndarray, **about: Any
    ) -> "Explanation":
        """Explain a prediction from contributions and distance maps, computed now or read from the run's files.

        Args:
            run: The run.
            prediction: In the user's units.
            weights: (m,) contributions.
            maps: (m, H, W) squared distances.
            about: Image, picture, target, name and warnings; a warning is added for an image that is unfamiliar, or
                may be because it is no image of the data set and the run has no statistics of familiar images.
        """
        share = run.familiarity(about["image"])
        unfamiliar = None if share is None else warning(share, run.store.settings.store_name)
        warnings = (*filter(None, [unfamiliar]), *about.get("warnings", ()))
        warnings = (*warnings[:-1], f"{warnings[-1]} {_DISTRUST}") if warnings else ()
        about["warnings"] = (*warnings, _UNKNOWN) if share is None and about.get("target") is None else warnings
        flat = np.asarray(maps).reshape(len(maps), -1)
        cells = np.stack(np.unravel_index(flat.argmin(1), maps.shape[1:]), 1)  # (m, 2)
        return cls(
            prediction=prediction,
            weights=weights,
            similarities=run.similarity(flat.min(1)),
            min_distances=flat.min(1),
            maps=maps,
            cells=cells,
            boxes=np.array([run.grid.box(*cell) for cell in cells]),
            prototype_labels=run.labels,
            prototype_sources=run.prototypes,
            familiarity=share,
            **about,
        )

    def __repr__(self) -> str:
        """The prediction and the largest contributions, and a line for each warning."""
        top = ", ".join(f"#{j} (label {self.prototype_labels[j]:.2f}) {self.shares[j]:.0%}" for j in self.top(3))
        label = "" if self.target is None else f", label {self.target:g}"
        known = "" if self.familiarity is None else f", familiarity {self.familiarity:.0%}"
        return "\n".join(
            [
                f"Explanation({self.name}: prediction {self.prediction:.2f}{label}, uncertainty {self.uncertainty:.2f}"
                f"{known}; largest contributions of {len(self.weights)} prototypes: {top})",
                *(f"Warning: {text}" for text in self.warnings),
            ]
        )

    def named(self, name: str) -> "Explanation":
        """The same explanation under another name of its image."""
        return replace(self, name=name)

    @property
    def shares(self) -> np.ndarray:
        """Contributions normalised to sum to 1: (m,)."""
        return self.weights / self.weights.sum(dtype=float)

    @property
    def uncertainty(self) -> float:
        """Standard deviation of the prototype labels weighted by the contributions, in the user's units."""
        return float(uncertainty(self.weights[None], self.prototype_labels)[0])

    def top(self, count: int = 5) -> np.ndarray:
        """Indices of the prototypes with the largest contributions, in descending order."""
        return top_prototypes(self.weights[None], count)[0]

    def reasons(self, count: int = 5) -> list[tuple[int, ...]]:
        """Prototypes with the largest contributions, those of one source patch (twins) joined into one reason.

        Returns at most `count` tuples of prototype numbers, in descending order of their joint contribution; within a
        tuple, too. A reason that contributes nothing is left out.
        """
        active = self.prototype_sources[self.weights > 0]
        joined = [tuple(sorted(js, key=lambda j: -self.weights[j])) for js in by_patch(active)]
        joined.sort(key=lambda js: -self.weights[list(js)].sum(dtype=float))
        return joined[:count]


@torch.no_grad()
def explain(run: LoadedRun | Run | str | Path, image: str | Path | np.ndarray) -> Explanation:
    """Explain the prediction of a run for one image.

    Args:
        run: Result of `load_run`, a `Run`, or the path of its folder.
        image: An image_id of the run's data set, the path of an image file (prepared like the data set), or an
            (H, W, 3) uint8 RGB photograph. A file may be decoded at a reduced size, which changes the prepared image by
            at most two grey levels.

    Raises:
        RunError: If the run is not finished.
        DataError: If the image cannot be used.
    """
    run = run if isinstance(run, LoadedRun) else load_run(run)
    about = _pixels(run, image)
    output = run.network(run.network.inputs(torch.from_numpy(about["image"])[None]))
    prediction = float(run.store.scale.to_user(output.prediction[0].double()))
    return Explanation.of(run, prediction, output.weights[0].cpu().numpy(), output.distances[0].cpu().numpy(), **about)


@dataclass(frozen=True)
class FoldsExplanation:
    """Explanations of one image by several runs, usually the folds: mean prediction and spread."""

    explanations: list[Explanation]

    @property
    def prediction(self) -> float:
        """Mean of the predictions, in the user's units."""
        return float(np.mean([e.prediction for e in self.explanations]))

    @property
    def spread(self) -> float:
        """Standard deviation of the predictions (n - 1), in the user's units; 0 for a single run."""
        return float(np.std([e.prediction for e in self.explanations], ddof=1)) if len(self.explanations) > 1 else 0.0


def explain_folds(some_runs: Sequence[Run | str | Path], image: str | Path | np.ndarray) -> FoldsExplanation:
    """Run `explain` with each run in turn. Raises RunError for an empty list, and all errors of `explain`."""
    if not some_runs:
        raise RunError("explain_folds: no run was given")
    return FoldsExplanation([explain(run, image) for run in some_runs])


def explain_folder(run: LoadedRun | Run | str | Path, folder: str | Path, table: str | Path) -> pd.DataFrame:
    """Explain every image file below a folder, and write a table.

    Args:
        run: Result of `load_run`, a `Run`, or the path of its folder.
        folder: Folder of images without labels; subfolders are included.
        table: CSV file to write.

    Returns:
        One row per image: image (path in the folder), prediction, uncertainty, familiarity, prototype and label of the
        largest contribution, its share, warnings, and error, which says why an image could not be used.

    Raises:
        DataError: If the folder is missing or has no images.
    """
    run, folder = run if isinstance(run, LoadedRun) else load_run(run), given_path(folder)
    rows = []
    for path in tqdm(images_below(folder), desc="explaining", unit="image", leave=False, mininterval=1):
        row = {"image": printable(path.relative_to(folder).as_posix())}
        try:
            e = explain(run, path)
        except DataError as error:
            rows.append(row | {"error": printable(str(error))})
            continue
        j = int(e.top(1)[0])
        rows.append(
            row
            | {"prediction": e.prediction, "uncertainty": e.uncertainty, "familiarity": e.familiarity}
            | {"prototype": j, "label": float(e.prototype_labels[j]), "share": float(e.shares[j])}
            | {"warnings": " ".join(e.warnings), "error": ""}
        )
    columns = ["image", "prediction", "uncertainty", "familiarity", "prototype", "label", "share", "warnings", "error"]
    frame = pd.DataFrame(rows, columns=columns).astype({"prototype": "Int64"})
    with files.atomic(given_path(table)) as temporary:
        frame.to_csv(temporary, index=False)
    return frame


def _pixels(run: LoadedRun, image: str | Path | np.ndarray) -> dict[str, Any]:
    """Fields of an Explanation that describe its image: image, picture, and where known target and name."""
    settings = run.store.settings
    larger = display.display_settings(settings)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"image: an H x W x 3 uint8 RGB array is expected, not {image.shape} {image.dtype}")
        pixels = prepared(image, settings)
        picture = pixels if larger == settings else prepared(image, larger)
        doubt = disc_doubt(find_disc(image)) if uses_disc(settings) else ""
        return {"image": pixels, "picture": picture, "warnings": _of_disc(doubt)}
    if not isinstance(image, str | Path):
        raise DataError(
            f"image = {image!r}: must be an image_id, a path or an array. papermill turns digits into a "
            "number; use -r image 007 to pass a string"
        )
    if (run.store.table["image_id"] == str(image)).any():
        row, name = run.store.row(str(image)), str(image)
        target = float(run.store.table["label"][row])
        return {"image": run.store.image(row), "picture": run.display_image(name), "target": target, "name": name}
    image = given_path(image)
    if not image.is_file():
        example = run.store.table["image_id"].iloc[0]
        raise DataError(
            f"image {str(image)!r}: neither an image_id of {run.store.path.name} (such as {example!r}) "
            "nor an image file"
        )
    pixels, disc = prepared_and_disc(str(image), settings)
    picture = pixels if larger == settings else view(image, larger)
    name = printable(image_id(image.name))
    return {"image": pixels, "picture": picture, "name": name, "warnings": _of_disc(disc_doubt(disc))}


def _of_disc(doubt: str) -> tuple[str, ...]:
    text = f"No clear fundus outline: {doubt.removeprefix(DISC).strip()}."
    return (text,) if doubt else ()


def typical(predictions: pd.DataFrame) -> list[str]:
    """Test images of median error in the low, middle and high third of the labels: three, or fewer."""
    test = predictions.sort_values("target", kind="stable")
    test = test.assign(error=(test["prediction"] - test["target"]).abs())
    thirds = [test.iloc[rows].sort_values("error", kind="stable") for rows in np.array_split(np.arange(len(test)), 3)]
    return [third["image_id"].iloc[len(third) // 2] for third in thirds if len(third)]
