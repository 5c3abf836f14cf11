"""Sentences of notebook 04: the prototypes of a finished run, their projection, and single explanations."""

import numpy as np
import pandas as pd

from insightr_nb.analysis.explanation import Explanation, FoldsExplanation
from insightr_nb.analysis.geometry import Grid
from insightr_nb.analysis.wording import counted


def describe_prototypes(table: pd.DataFrame, grades: np.ndarray, grid: Grid) -> str:
    """Count the different patches and compare the labels with the grades of the source images.

    Adds a warning if fewer than half of the prototypes are different patches.

    Args:
        table: Content of prototypes.csv.
        grades: (m,) labels of the source images.
        grid: Latent grid of the run.
    """
    patches = table[["image_id", "row", "col"]].drop_duplicates()
    text = (
        f"{len(table)} prototypes from {len(patches)} different patches of {table['image_id'].nunique()} images. "
        f"The label differs from the grade of the source image by {np.abs(table['label'] - grades).mean():.2f} on "
        f"average. The receptive field of a cell is {grid.receptive_field} px of {grid.size}."
    )
    if len(patches) < 0.5 * len(table):
        text += "\nWarning: fewer than half of the prototypes are different patches; they have collapsed."
    return text


def describe_exactness(distances: list[float], similarities: list[float], limit: float) -> str:
    """State the largest distance of a prototype to its patch, and the smallest similarity beside its maximum.

    Args:
        distances: Squared distance of each prototype to its source patch.
        similarities: Similarity of each prototype to its source image.
        limit: Largest possible similarity.
    """
    return (
        f"Largest squared distance of a prototype to its patch: {max(distances):.1e}. "
        f"Smallest similarity: {min(similarities):.1f} of at most {limit:.1f}."
    )


def describe_explanation(e: Explanation, folds: FoldsExplanation, count: int = 3) -> str:
    """State the prediction for one image, its largest contributions, and the predictions of all folds.

    Args:
        e: Explanation of the image by the run.
        folds: Its explanations by the runs of all folds.
        count: Number of contributions.
    """
    top = e.top(count)
    labels = ", ".join(f"{e.prototype_labels[j]:.1f}" for j in top)
    text = (
        f"{e.name}: prediction {e.prediction:.2f}"
        + ("" if e.target is None else f", label {e.target:g}")
        + f". The {len(top)} largest contributions make {e.shares[top].sum():.0%} of it and carry the labels {labels}; "
        f"the spread of all labels is {e.uncertainty:.2f}."
    )
    if len(folds.explanations) > 1:
        text += f" Mean of {len(folds.explanations)} folds: {folds.prediction:.2f}, spread {folds.spread:.2f}."
    return "\n".join([text, *(f"Warning: {warning}" for warning in e.warnings)])


def describe_folder(table: pd.DataFrame) -> str:
    """Count the images of a folder that could be used, and those with a warning. table: result of `explain_folder`."""
    used = table[table["error"] == ""]
    text = f"{counted(len(table), 'image')}, of which {len(table) - len(used)} could not be used"
    if used.empty:
        return f"{text}."
    flagged = int((used["warnings"] != "").sum())
    low, high = used["prediction"].min(), used["prediction"].max()
    return f"{text} and {flagged} have a warning. Predictions from {low:.2f} to {high:.2f}."


def describe_projection(table: pd.DataFrame) -> str:
    """State how far the projection moved the prototypes. table: content of prototypes.csv."""
    distance = table["distance_before_projection"]
    farthest = table.loc[distance.idxmax()]
    return (
        f"The projection moved the prototypes by a squared distance of {distance.median():.3f} in the median; "
        f"prototype {farthest['prototype']} (label {farthest['label']:.1f}) moved farthest, by {distance.max():.3f}."
    )
