"""Edit a finished run without training: predictions, metrics and refit of an edit, and saving it as a run of its own.

Everything is computed from the stored files of the run, so that it also works for a run imported from a zip.

Example:
    >>> run = load_run("outputs/runs/synthetic/demo/categorical/insightr/fold0")  # doctest: +SKIP
    >>> edit = Edit.of(run).switched([3, 17], on=False).merged(*run.twins)  # doctest: +SKIP
    >>> save(run, refit(run, edit), tag="repaired", by="A. Reader")  # doctest: +SKIP
"""

import copy
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from insightr_nb import files
from insightr_nb.analysis import metrics, refitting
from insightr_nb.analysis.edit import Edit
from insightr_nb.analysis.evaluation import write_predictions
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.errors import DataError, RunError
from insightr_nb.model.network import INSightRNet
from insightr_nb.runs import Run
from insightr_nb.settings import check_tag
from insightr_nb.training.checkpoint import save_model

__all__ = ["Edit", "mae_of", "predict", "refit", "save", "summary", "weights"]


def weights(edit: Edit, similarities: np.ndarray) -> np.ndarray:
    """Contributions s * r (Eq. 2): (N, m).

    Args:
        edit: The edited last layer.
        similarities: (N, m), such as `LoadedRun.similarities`.

    Raises:
        DataError: If every prototype is off.
    """
    if not edit.importance.any():
        raise DataError("all prototypes are switched off, so the prediction is undefined. Switch at least one on")
    return np.asarray(similarities, float) * edit.importance


def predict(edit: Edit, similarities: np.ndarray) -> np.ndarray:
    """Predictions (N,) in the user's units. Arguments and errors as for `weights`."""
    contributions = weights(edit, similarities)
    return contributions @ edit.labels / contributions.sum(1)


def summary(run: LoadedRun, edit: Edit) -> dict[str, float | int | None]:
    """Metrics of the test set for an edit, as in metrics.json.

    ground_share is None where the run does not have all its images, as when it was imported from a zip. Raises
    DataError if every prototype is off.
    """
    contributions = weights(edit, run.similarities)
    predictions = contributions @ edit.labels / contributions.sum(1)
    targets = run.predictions["target"].to_numpy(float)
    about = (run.store.scale, run.store.grades, contributions, edit.labels, run.on_ground)
    return metrics.summary(predictions, targets, *about)


def mae_of(run: LoadedRun, edit: Edit, part: str) -> float | None:
    """MAE of the training or validation images (`part`), which, unlike the test set, may guide an edit.

    None for a run that was evaluated by an older version. Raises DataError if every prototype is off.
    """
    stored = _stored(run, part)
    return None if stored is None else _error(edit, *stored)


def refit(run: LoadedRun, edit: Edit) -> Edit:
    """Refit the importance of the prototypes that are on; labels stay, and prototypes that are off stay off.

    Minimises the mean squared error of the training images from the current importance on, and keeps the iteration
    with the lowest MAE on the validation images, the start included. The sum of the importance stays, since predictions
    do not depend on it.

    Args:
        run: The run.
        edit: The edit to start from.

    Returns:
        An edit whose `refitted` holds iterations, selected (number of the iteration), and training_mae and
        validation_mae as [before, after].

    Raises:
        DataError: If every prototype is off.
        RunError: If the run lacks the distances of its training and validation images; says how to add them.
    """
    parts = {part: _required(run, part) for part in ("training", "validation")}
    before = {part: _error(edit, *stored) for part, stored in parts.items()}
    on, to_model = np.flatnonzero(edit.importance), run.store.scale.to_model
    labels, scores = to_model(edit.labels[on]), edit.scores[on]
    similarities, targets = parts["training"]
    found = [
        replace(edit, scores=_with(edit.scores, on, theta**2 / labels))
        for theta in refitting.steps(np.sqrt(scores * labels), similarities[:, on], labels, to_model(targets))
    ]
    errors = [_error(step, *parts["validation"]) for step in found]
    selected = int(np.argmin(errors))
    fitted = found[selected].scores[on]
    new = _with(edit.scores, on, fitted * (scores.sum() / fitted.sum())) if selected else edit.scores
    fit = replace(edit, scores=new, on=edit.on & (new > 0))
    after = {f"{part}_mae": [before[part], _error(fit, *stored)] for part, stored in parts.items()}
    return replace(fit, refitted={"iterations": len(found) - 1, "selected": selected} | after)


def _with(values: np.ndarray, chosen: np.ndarray, new: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[chosen] = new
    return values


def _stored(run: LoadedRun, part: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Similarities (n, m) and targets (n,) of the training or validation images, if the run has them."""
    stored = run.nearest_of(part)
    return None if stored is None else (run.similarity(stored[0]).astype(float), np.array(stored[1]))


def _required(run: LoadedRun, part: str) -> tuple[np.ndarray, np.ndarray]:
    """`_stored`. Raises RunError if the run does not have them."""
    stored = _stored(run, part)
    if stored is None:
        made_from = run.run.edited
        again = f"{made_from['from']} again and edit that run" if made_from else f"it again: {run.run.command()}"
        if run.store.partial:
            again = "the original run again, where it was trained, and export that"
        raise RunError(
            f"run {files.display_path(run.path)} has no distances of its {part} images, because an older version "
            f"evaluated it. To add them, run notebook 03 on {again}"
        )
    return stored


def _error(edit: Edit, similarities: np.ndarray, targets: np.ndarray) -> float:
    return metrics.mean_absolute_error(predict(edit, similarities), targets)


def save(run: LoadedRun, edit: Edit, tag: str, by: str = "", why: str = "") -> Run:
    """Save an edit as a finished run of its own, in the folder of the same fold with another tag.

    Model, prototypes, predictions, weights and metrics are those of the edit, all other recorded files are copied;
    figures and results of notebook 08 are not, since they show the original. The manifest's entry "edited" says what
    was changed, and in which run.

    Args:
        run: The run that was edited.
        edit: The edit.
        tag: Tag of the new run.
        by: Who edited it, for the manifest.
        why: The reason, for the manifest.

    Returns:
        The new run.

    Raises:
        SettingsError: For an invalid tag.
        DataError: If every prototype is off.
        RunError: If the edit changes nothing or belongs to another run, the run is damaged, the new folder exists
            already or cannot be written; nothing is left behind.
    """
    check_tag(tag)
    if not np.array_equal(edit.start[0], run.labels) or not np.array_equal(edit.start[1], Edit.of(run).scores):
        raise RunError(f"the edit does not belong to run {files.display_path(run.path)}. Start from Edit.of(run)")
    if not edit.changed:
        raise RunError("the edit changes nothing. Switch off, relabel, merge or refit prototypes before saving")
    folder = run.path.with_name(f"{run.path.name.partition('-')[0]}-{tag}")
    run.run.require_whole()
    scored = summary(run, edit)
    with files.exclusive_lock(folder):
        if folder.exists():
            raise RunError(f"{files.display_path(folder)} exists already. Choose another tag than {tag!r}")
        with files.atomic_folder(folder) as temporary:
            _write(run, edit, temporary, tag)
            files.write_json(temporary / "metrics.json", scored)
            files.write_json(temporary / "manifest.json", _manifest(run, edit, temporary, tag, by, why))
    return Run(folder)


def _write(run: LoadedRun, edit: Edit, folder: Path, tag: str) -> None:
    for name in run.run.manifest["files"]:
        shutil.copyfile(run / name, folder / name)
    save_model(folder / "model.safetensors", _network(run, edit), replace(run.settings, tag=tag).as_dict())
    labels = [round(float(label), 6) for label in edit.labels]
    files.write_csv(folder / "prototypes.csv", run.prototypes.assign(label=labels).to_dict("records"))
    contributions = weights(edit, run.similarities).astype(np.float32)
    files.write_array(folder / "weights.npy", contributions)
    ids, targets = (run.predictions[name].to_numpy() for name in ("image_id", "target"))
    write_predictions(folder / "predictions.csv", ids, targets, predict(edit, run.similarities), contributions)


def _network(run: LoadedRun, edit: Edit) -> INSightRNet:
    """Copy of the network with the edited last layer; what is unchanged keeps its bits."""
    network = copy.deepcopy(run.network)
    last = network.last_layer
    labels = np.where(edit.new_labels, run.store.scale.to_model(edit.labels), last.labels.cpu().double().numpy())
    theta = np.sqrt(edit.importance * labels)  # theta^2 = r * label
    changed = edit.new_labels | (edit.importance != edit.start[1])
    with torch.no_grad():
        last.labels.copy_(torch.from_numpy(labels))
        last.theta.copy_(torch.from_numpy(np.where(changed, theta, last.theta.cpu().double().numpy())))
    return network


def _manifest(run: LoadedRun, edit: Edit, folder: Path, tag: str, by: str, why: str) -> dict[str, Any]:
    original = run.run.manifest
    edited = {
        "from": files.display_path(run.path),
        "model": original["files"]["model.safetensors"]["sha256"],
        **edit.provenance,
        "by": by or None,
        "why": why or None,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "previous": original.get("edited"),  # of a run that was itself edited
    }
    recorded = {path.name: files.digest(path) for path in sorted(folder.iterdir())}
    return original | {"settings": original["settings"] | {"tag": tag}, "files": recorded, "edited": edited}
