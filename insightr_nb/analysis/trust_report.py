"""Sentences and readable tables of notebook 08 about the results of its measures.

They state numbers. What holds is judged in `verdicts` only, with the correction for all claims.
"""

from collections.abc import Iterable

import pandas as pd

from insightr_nb.analysis import confidence, conformal, deletion, lesions, stability, trust
from insightr_nb.analysis.familiarity import LEAST
from insightr_nb.analysis.geometry import Grid
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.wording import counted, interval_of
from insightr_nb.data import splits


def describe_grid(grid: Grid) -> str:
    """Compare the box of a cell, its receptive field and the image."""
    return (
        f"A box of {grid.stride} px stands for a receptive field of {grid.receptive_field} px, which is "
        f"{grid.receptive_field / grid.size:.0%} of the image's side ({grid.size} px)."
    )


# -- lesions ----------------------------------------------------------------------------------------------------------


def describe_lesions(table: pd.DataFrame) -> str:
    """Compare the pointing game of each map with a random backbone and with contrast alone. table: `lesion_table`."""
    part = table.loc["all"]

    def compared(method: str) -> str:
        row = part.loc[method]
        gain, low, high = (row[f"pointing gain{end}"] for end in ("", " low", " high"))
        return (
            f"{row['pointing']:.0%} (random backbone: {row['pointing random']:.0%}; difference {gain:+.2f}, "
            f"{low:+.2f} to {high:+.2f})"
        )

    text = (
        f"In {part['images'].iloc[0]:.0f} images with lesions, the trace of the largest match peaks on a lesion in "
        f"{compared(lesions.TRACED)}; contrast alone does in {part.loc[lesions.CONTRAST, 'pointing']:.0%}. Over cells, "
        f"the same match peaks on one in {compared(lesions.CELLS)}; chance is "
        f"{part.loc[lesions.CELLS, 'chance']:.0%}, the best possible {part.loc[lesions.CELLS, 'ceiling']:.0%}."
    )
    for method, name in ((lesions.WHOLE, "The whole prediction's trace"), (lesions.BASELINE, "The baseline's trace")):
        if method in part.index:
            text += f" {name}: {compared(method)}."
    return text


def readable_kinds(kinds: pd.DataFrame) -> pd.DataFrame:
    """Pointing game by kind of lesion, over cells and traced, with its intervals. kinds: result of `by_kind`."""
    rows = {}
    for lesion, part in kinds.groupby(level="lesion", sort=False):
        part = part.droplevel("lesion")
        row = rows[lesion.replace("_", " ")] = {"images": f"{part['images'].iloc[0]:.0f}"}
        for method, title in ((lesions.CELLS, "over cells"), (lesions.TRACED, "traced")):
            values = part.loc[method]
            row[title] = interval_of(values, "pointing", ".0%")
            row[f"{title}: random backbone"] = f"{values['pointing random']:.0%}"
        row["chance"] = f"{part['chance'].iloc[0]:.0%}"
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("lesion")


def describe_sources(table: pd.DataFrame) -> str:
    """State how often prototypes lie on lesions of their source images. table: result of `source_table`."""
    centre, box = table.loc["pointing"], table.loc["box"]
    return (
        f"Of {table['prototypes'].iloc[0]:.0f} prototypes from images with lesions, {centre['value']:.0%} have one "
        f"under the centre of their cell (random backbone: {centre['random']:.0%}, chance: {centre['chance']:.0%}). "
        f"Lesions cover {box['value']:.1%} of their boxes (random backbone: {box['random']:.1%}) and "
        f"{box['chance']:.1%} of the discs."
    )


def examples_with_lesions(report: pd.DataFrame, count: int = 5) -> pd.Series:
    """Choose images with lesions, evenly spaced over the sorted labels. report: result of `lesion_report`."""
    images = report[report["lesion"] == "any"].drop_duplicates("image_id").sort_values("target", kind="stable")
    return images["image_id"].iloc[splits.evenly_spaced(len(images), count)]


def describe_traced(report: pd.DataFrame, shown: Iterable[str]) -> str:
    """Count the hits of the pointing game on some images, over cells and traced. report: of `lesion_report`."""
    part = report[(report["lesion"] == "any") & report["image_id"].isin(list(shown))]
    hits = part.groupby(["network", "method"])["pointing"].sum()
    return (
        f"Of these {part['image_id'].nunique()} images, the peak is on a lesion in {hits['trained', lesions.CELLS]:g} "
        f"over cells and in {hits['trained', lesions.TRACED]:g} traced to pixels; with a random backbone, in "
        f"{hits['random', lesions.CELLS]:.1f} and {hits['random', lesions.TRACED]:.1f} on average."
    )


# -- faithfulness and stability ---------------------------------------------------------------------------------------


def describe_completeness(difference: float) -> str:
    """Report the identity of stored contributions and predictions. difference: result of `deletion.completeness`."""
    return (
        "The stored contributions reproduce the predictions by construction; their largest difference is "
        f"{difference:.1e}. This checks the files, and is not a test of the explanation."
    )


def describe_deletion(table: pd.DataFrame) -> str:
    """State the effect of each fill beside its controls, and what cannot be removed. table: of `deletion.summary`."""
    text = []
    for fill, part in table.groupby("fill", sort=False):
        part = part.set_index("order")
        gaps = " and ".join(
            f"{interval_of(row, 'gap', '+.3f')} against {order}"
            for order, row in part.loc[list(deletion.CONTROLS)].iterrows()
        )
        text.append(
            f"Fill {fill}: removing the largest contributions changes the prediction by "
            f"{part.loc['contribution', 'change']:.3f}, averaged over the steps; {gaps}. A faithful order "
            "is above 0 against both."
        )
    text.append(
        f"{counted(int(table['images'].max()), 'image')}; 95 % intervals over patients. The patches that can be "
        f"removed carry {table['removable'].mean():.0%} of the contributions."
    )
    return "\n".join(text)


def describe_stability(table: pd.DataFrame) -> str:
    """State what each kind of change does, JPEG first. table: result of `stability.summary`."""
    rows = table.set_index("change")
    coded, worst = rows.loc[stability.JPEG], rows["moved"].idxmax()
    text = [
        f"{stability.JPEG} replaces {1 - coded['overlap']:.0%} of the five largest contributions and moves their "
        f"labels by {coded['moved_labels']:.2f} on average. The prediction moves most under the change '{worst}': by "
        f"{rows.loc[worst, 'moved']:.2f}."
    ]
    if rows["baseline_moved"].notna().any():
        ratios = rows["ratio"]
        text.append(
            f"It moves {ratios.min():.1f} ({ratios.idxmin()}) to {ratios.max():.1f} times ({ratios.idxmax()}) as far "
            "as the baseline's prediction."
        )
    else:
        text.append("There is no finished baseline to compare with.")
    if rows["seen"].any():
        text.append(
            f"Training made the change '{', '.join(rows.index[rows['seen']])}' too: it is a reference, not a test."
        )
    images = int(rows["images"].max())
    if gone := images - int(rows["images"].get(stability.BRIGHTER, 0)):
        text.append(
            f"{gone} of these {images} photographs are no longer at their source; their brightness is not changed."
        )
    return "\n".join(text)


# -- prototypes, certainty and familiarity ----------------------------------------------------------------------------


def describe_audit(audit: pd.DataFrame, unit: float = 1.0) -> str:
    """List the warnings about the prototypes. audit: result of `trust.audit`; unit: size of one grade."""
    found = trust.warnings(audit, unit)
    return "\n".join(f"Warning: {text}" for text in found) or f"None of the {len(audit)} prototypes is in doubt."


def readable_certainty(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Format a `certainty_table` as two tables that fit a page: one row per score, values with their intervals.

    Returns:
        "error": how a score follows the error; "referral": what the referral of the least certain images gains, which
        `confidence.CHANCE` and `confidence.BEST` frame.
    """
    titles = {
        "error": {
            "correlation": ("correlation with the error", ".2f"),
            "partial": ("given the prediction", ".2f"),
            "wrong": ("wrong grades (AUC)", ".2f"),
        },
        "referral": {
            "gain": ("gain (0 chance, 1 best)", ".2f"),
            "rest": (f"MAE without the least certain {confidence.REFERRED:.0%}", ".3f"),
            "below middle": ("below that of 'nearness to the middle'", "+.3f"),
            "below grade": ("below that of 'nearest grade'", "+.3f"),
        },
    }
    scores = {"error": table.drop([confidence.CHANCE, confidence.BEST], errors="ignore"), "referral": table}

    return {
        part: pd.DataFrame(
            {
                title: [interval_of(row, measure, form) for _, row in scores[part].iterrows()]
                for measure, (title, form) in of.items()
            },
            scores[part].index,
        )
        for part, of in titles.items()
    }


def describe_certainty(table: pd.DataFrame) -> str:
    """State how the spread of the labels follows the error, and by which score the MAE of the rest is lowest.

    table: Result of `certainty_table`.
    """
    own = table.loc[confidence.SPREAD]
    low, high = own["partial low"], own["partial high"]
    rests = table["rest"].drop([confidence.CHANCE, confidence.BEST])
    first = rests.idxmin()
    return (
        f"The {confidence.SPREAD} and the error have a rank correlation of {own['correlation']:.2f}; given the "
        f"prediction, {own['partial']:.2f} ({low:.2f} to {high:.2f}).\n"
        f"Referring the least certain {confidence.REFERRED:.0%} by it changes the MAE of the rest from "
        f"{table.loc[confidence.CHANCE, 'rest']:.3f} to {own['rest']:.3f}. The lowest, {rests[first]:.3f}, is that of "
        f"'{first}'" + (", a function of the prediction." if first in confidence.TRIVIAL else ".")
    )


def readable_coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage and width of each method, one row per group of images. table: result of `coverage_table`."""
    rows = {}
    for (group, method), row in table.iterrows():
        cells = rows.setdefault(group, {"images": f"{row['images']:.0f}"})
        cells[method] = f"{interval_of(row, 'coverage', '.0%')}; {row['width']:.2f}"
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("covered; mean width")


def describe_coverage(table: pd.DataFrame) -> str:
    """State coverage and width of each method, and the grade and the change covered least. table: `coverage_table`."""
    methods = ", ".join(
        f"{row['coverage']:.1%} with a mean width of {row['width']:.2f} ({method})"
        for method, row in table.loc["all"].iterrows()
    )
    shares = table.xs(conformal.SAME, level="method")["coverage"].drop(["all", conformal.BEFORE], errors="ignore")
    is_grade = shares.index.str.startswith("grade ")
    least = [
        f"{part.min():.1%} {how} '{part.idxmin()}'"
        for how, part in (("of", shares[is_grade]), ("under", shares[~is_grade]))
        if len(part)
    ]
    text = f"The {conformal.LEVEL:.0%} interval covers {methods}."
    return text + (f" With {conformal.SAME}, it covers least: {' and '.join(least)}." if least else "")


def describe_familiarity(run: LoadedRun, some: Iterable[int]) -> str:
    """Count the test images that are flagged as unfamiliar, among rows `some` of predictions.csv."""
    if run.reference is None:
        return "Unknown: an older version evaluated this run. Run notebook 03 on it to add the statistics."
    ids = run.predictions["image_id"].iloc[list(some)]
    ids = ids[ids.isin(run.store.table["image_id"])]  # an imported run includes only some images
    flagged = sum(run.familiarity(run.store.image(run.store.row(i))) < LEAST for i in ids)
    return (
        f"{flagged} of {counted(len(ids), 'test image')} ({flagged / len(ids):.1%}) {'is' if flagged == 1 else 'are'} "
        f"flagged as unfamiliar; of images like the training images, about {LEAST:.0%} are."
    )


def describe_drift(moving: list[float], frozen: list[float]) -> str:
    """Compare the drift of the prototypes with moving and with frozen BatchNorm statistics, after the last epoch."""
    return (
        f"After {len(moving) - 1} epochs the prototypes are at a mean squared distance of {moving[-1]:.4f} from their "
        f"patches if the statistics move, and of {frozen[-1]:.1e} if they are frozen."
    )
