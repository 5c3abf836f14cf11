"""Sentences and readable tables of notebook 08 about the results of its measures.

They state numbers. What holds is judged in `verdicts` only, with the correction for all claims.
"""

from collections.abc import Iterable

import pandas as pd

from insightr_nb.analysis import confidence, conformal, deletion, lesions, stability, trust
from insightr_nb.analysis.familiarity import LEAST
from insightr_nb.analysis.geometry import Grid
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.wording import counted
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
            value, low, high, random = (part.loc[method, f"pointing{end}"] for end in ("", " low", " high", " random"))
            row |= {title: f"{value:.0%} ({low:.0%} to {high:.0%})", f"{title}: random backbone": f"{random:.0%}"}
        row["chance"] = f"{part['chance'].iloc[0]:.0%}"
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("lesion")


def describe_sources(sources: pd.DataFrame) -> str:
    """State how often prototypes lie on lesions of their source images. sources: result of `source_report`."""
    known = sources.dropna(subset="pointing")
    if known.empty:
        return "No prototype comes from an image with a lesion."
    means = known.drop(columns="pointing").mean(numeric_only=True)
    return (
        f"{int(known['pointing'].sum())} of {len(known)} prototypes from images with lesions have one under their "
        f"centre (chance {means['chance']:.1%}). Lesions cover {means['box']:.1%} of their boxes and "
        f"{means['area']:.1%} of the discs; the mass ratio of their maps is {means['mass'] / means['area']:.2f}."
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
            f"{row['gap']:+.3f} ({row['gap low']:+.3f} to {row['gap high']:+.3f}) against {order}"
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


def readable_certainty(table: pd.DataFrame) -> pd.DataFrame:
    """Scores of uncertainty with one column per measure and its interval. table: result of `certainty_table`."""
    titles = {
        "correlation": ("correlation with the error", 2),
        "partial": ("given the prediction", 2),
        "wrong": ("wrong grades (AUC)", 2),
        "gain": ("gain (0 chance, 1 best)", 2),
        "rest": (f"MAE without the least certain {confidence.REFERRED:.0%}", 3),
        "below middle": ("lower than by the middle", 3),
        "below grade": ("lower than by the grade", 3),
    }

    def cell(row: pd.Series, measure: str, digits: int) -> str:
        value, low, high = (f"{row[f'{measure}{end}']:.{digits}f}" for end in ("", " low", " high"))
        return "" if value == "nan" else value if low == high else f"{value} ({low} to {high})"

    columns = {title: [cell(row, m, digits) for _, row in table.iterrows()] for m, (title, digits) in titles.items()}
    return pd.DataFrame(columns, table.index)


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
        text = f"{row['coverage']:.0%} ({row['coverage low']:.0%} to {row['coverage high']:.0%})"
        rows.setdefault(group, {("", "images"): f"{row['images']:.0f}"}).update(
            {(method, "covered"): text, (method, "width"): f"{row['width']:.2f}"}
        )
    return pd.DataFrame.from_dict(rows, orient="index")


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
