"""Figures, tables and sentences of notebook 01, which prepares the data."""

from collections.abc import Mapping

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from insightr_nb import files
from insightr_nb.analysis.figures import image_grid
from insightr_nb.analysis.wording import counted
from insightr_nb.data import graham, patients, splits, synthetic
from insightr_nb.data.folds import fold_split
from insightr_nb.data.layouts import DATA_SETS
from insightr_nb.data.photograph import thumbnail
from insightr_nb.data.split_file import shared_patients
from insightr_nb.data.splits import Split
from insightr_nb.data.store import Store
from insightr_nb.settings import DataSettings

_COLOURS = dict(zip(synthetic.LESIONS, plt.get_cmap("tab10").colors, strict=False))
_NOT_BLACK = 10  # grey levels above which a pixel of a photograph belongs to the fundus


def attribution(dataset: str) -> str:
    """Title, licence and citation of a data set, one per line; a note for a data set without them."""
    if dataset not in DATA_SETS:
        return f"{dataset}: no licence or citation on record"
    about = DATA_SETS[dataset]
    lines = (about.title, about.licence and f"Licence: {about.licence}", about.citation and f"Cite: {about.citation}")
    return "\n".join(line for line in lines if line)


# -- the synthetic photographs ----------------------------------------------------------------------------------------


def outlined(image: np.ndarray, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draw the outlines of lesions on a pale grey copy of a photograph, one colour per kind of lesion.

    Args:
        image: (H, W, 3) uint8.
        masks: {lesion: (H, W) bool}.

    Returns:
        (H, W, 3) uint8.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    picture = np.repeat((150 + 0.4 * grey).astype(np.uint8)[..., None], 3, axis=2)
    for lesion, mask in masks.items():
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, [int(255 * c) for c in _COLOURS[lesion]], 2)
    return picture


def five_grades(seed: int) -> Figure:
    """Plot one synthetic photograph of each grade: as drawn, normalised, and with the outlines of its lesions."""
    labels = synthetic.table(100, seed)["label"]
    examples = [synthetic.photograph(int(labels.index[labels == grade][1]), seed, 400) for grade in range(5)]
    figure = image_grid(
        [
            [e.image for e in examples],
            [graham.normalise(e.image, 320) for e in examples],
            [outlined(e.image, e.masks) for e in examples],
        ],
        columns=[f"grade {e.grade}, severity {e.severity:.2f}" for e in examples],
        rows=["photograph", "normalised", "lesion masks"],
        title="Synthetic fundus photographs, one of each grade",
    )
    handles = [plt.Line2D([], [], color=c, label=lesion.replace("_", " ")) for lesion, c in _COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


# -- the prepared store -----------------------------------------------------------------------------------------------


def describe_store(store: Store) -> str:
    """Number, size and label range of the prepared images, number of rejected ones, and the fingerprint."""
    size = store.settings.size
    return (
        f"{len(store.images)} images of {size} x {size} px, {len(store.rejected)} rejected; "
        f"labels from {store.scale.minimum:g} to {store.scale.maximum:g}; fingerprint {store.fingerprint}"
    )


def counts(store: Store) -> pd.DataFrame:
    """Images of each label in the training and test part, in the data set and after the caps: one row per label."""
    used = store.table[store.table["split"] != "extra"]
    columns = {}
    for part in ("train", "test"):
        columns[part, "in the data set"] = pd.Series(store.meta["before"][part])
        columns[part, "used"] = used.loc[used["split"] == part, "label"].map("{:g}".format).value_counts()
    table = pd.DataFrame(columns).fillna(0).astype(int).rename_axis("grade" if store.grades else "label")
    return table.sort_index()


def describe_counts(table: pd.DataFrame) -> str:
    """Name the rarest and the most frequent grade of the training part. table: result of `counts`."""
    used = table["train", "used"]
    rare, often = used.idxmin(), used.idxmax()
    return (
        f"In the training part, grade {rare} is the rarest ({counted(used[rare], 'image')}) and grade {often} the most "
        f"frequent ({used[often]})."
    )


# -- before and after -------------------------------------------------------------------------------------------------


def examples(store: Store, count: int = 5) -> pd.DataFrame:
    """Rows of the store's table, evenly spaced over the sorted labels."""
    order = store.table["label"].sort_values(kind="stable").index
    return store.table.loc[order[np.linspace(0, len(order) - 1, count).round().astype(int)]]


def raw_photographs(shown: pd.DataFrame) -> list[np.ndarray] | None:
    """Thumbnails of the raw photographs of these rows; None if one is no longer at its source."""
    pictures = [thumbnail(source) for source in shown["source"]]
    return None if any(picture is None for picture in pictures) else pictures


def before_and_after(store: Store, shown: pd.DataFrame, raw: list[np.ndarray] | None) -> Figure:
    """Plot raw photographs above the prepared images of the same rows.

    Args:
        store: The prepared store.
        shown: Rows of the store's table.
        raw: Result of `raw_photographs`; None omits the row.
    """
    rows = ({} if raw is None else {"raw": raw}) | {"prepared": [store.images[row] for row in shown.index]}
    return image_grid(
        list(rows.values()),
        columns=[f"{row.image_id}\nlabel {row.label:g}" for row in shown.itertuples()],
        rows=list(rows),
        title=f"{store.settings.store_name}: before and after the preparation ({store.settings.preparation})",
    )


def describe_brightness(raw: list[np.ndarray] | None, prepared: list[np.ndarray]) -> str:
    """Compare how much the mean brightness differs between the raw photographs and between the prepared images."""
    if raw is None:
        return "Some of these photographs are no longer at their source. The prepared images are intact."
    spans = [np.ptp([image[image.max(axis=2) > _NOT_BLACK].mean() for image in images]) for images in (raw, prepared)]
    return (
        f"The mean brightness of these images differs by up to {spans[0]:.1f} of 255 grey levels before the "
        f"preparation, and by up to {spans[1]:.1f} after it."
    )


# -- folds ------------------------------------------------------------------------------------------------------------


def fold_splits(store: Store, settings: DataSettings) -> dict[int, Split]:
    """Splits of all folds: those of the split file, if the store has one. Raises DataError if a patient is divided."""
    count = len(files.read_json(store.path / "split.json")) if store.settings.split_file else settings.folds
    return {fold: fold_split(store, settings, fold) for fold in range(count)}


def fold_counts(store: Store, parts: Mapping[int, Split]) -> pd.DataFrame:
    """Rows of each grade (or quintile of other labels) in the validation part of each fold, and in the test part."""
    classes = splits.strata(store.table["label"].to_numpy(), store.grades)
    columns = {f"fold {fold}": pd.Series(classes[split.validation]).value_counts() for fold, split in parts.items()}
    columns["test"] = pd.Series(classes[parts[0].test]).value_counts()
    table = pd.DataFrame(columns).fillna(0).astype(int).sort_index()
    return table.rename_axis("grade" if store.grades else "quintile")


def fold_figure(table: pd.DataFrame) -> Figure:
    """Plot the result of `fold_counts` as a table shaded by number."""
    size = (1.1 * table.shape[1] + 2, 0.45 * table.shape[0] + 1.4)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    sns.heatmap(
        table, annot=True, fmt="d", cmap="Blues", vmin=0, vmax=1.6 * table.to_numpy().max(), cbar=False, ax=axes
    )
    axes.set_title("Images in the validation part of each fold, and in the test part")
    axes.tick_params(axis="y", rotation=0)
    return figure


def describe_folds(table: pd.DataFrame) -> str:
    """State the largest difference between folds in one grade or quintile. table: result of `fold_counts`."""
    folds = table.drop(columns="test")
    span = folds.max(axis=1) - folds.min(axis=1)
    return (
        f"The folds differ most in {table.index.name} {span.idxmax()}: from {folds.loc[span.idxmax()].min()} to "
        f"{counted(folds.loc[span.idxmax()].max(), 'validation image')}."
    )


def describe_patients(store: Store, parts: Mapping[int, Split]) -> str:
    """State whether patients are in more than one part of a split: one sentence, or one line per fold of a split file.

    `fold_splits` has checked the folds; published ones were not grouped by patient, so they are counted instead.
    """
    if store.settings.split_file:
        lines = []
        for fold, split in parts.items():
            shared, images = shared_patients(store.table, split), len(np.unique(split.validation))
            lines.append(
                f"fold {fold}: {shared} of {images} validation images ({shared / images:.1%}) have a photograph of the "
                "same patient in the training part"
            )
        return "\n".join(lines)
    sides = parts[0].training, parts[0].validation, parts[0].test
    return patients.on_two_sides(store.meta["notes"], store.table["image_id"], sides)
