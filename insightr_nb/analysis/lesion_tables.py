"""Summaries of `lesions.lesion_report`: tables with intervals over patients, and claims. Also of several folds."""

import pandas as pd

from insightr_nb.analysis.inference import Claim, Estimate, effect, over_patients, ratio_over_patients
from insightr_nb.analysis.lesions import BASELINE, CELLS, CONTRAST, TRACED, WHOLE
from insightr_nb.analysis.wording import interval_of

MILD = 2.0  # largest label of a mild image; chance is low there


def paired(report: pd.DataFrame, lesion: str = "any") -> pd.DataFrame:
    """Join the rows of the trained and of the random networks.

    Args:
        report: Result of `lesion_report`; of several folds with a column fold.
        lesion: Kind of lesion.

    Returns:
        The rows of the trained network, with further columns random_pointing, random_pooled and random_mass, NaN for
        controls.
    """
    keys = [name for name in ("fold", "method", "image_id") if name in report]
    part = report[report["lesion"] == lesion]
    random = part[part["network"] == "random"].set_index(keys)[["pointing", "pooled", "mass"]].add_prefix("random_")
    return part[part["network"] == "trained"].join(random, on=keys).reset_index(drop=True)


def lesion_table(report: pd.DataFrame) -> pd.DataFrame:
    """Summarise a `lesion_report`, for all and for mild images (label up to 2): one row per group and method.

    Intervals are 95 %, over patients. Only images with at least one lesion count.

    Args:
        report: Result of `lesion_report`; of several folds with a column fold.

    Returns:
        Index group and method; columns images, chance, ceiling, pooled_chance, and of each measure x (pointing, pooled
        and mass_ratio): x, "x low", "x high", "x random", "x gain" (trained - random), "x gain low" and "x gain high".
        mass_ratio is a ratio of sums over images: of the shares of the maps on lesions and of the shares of the discs
        that lesions cover; 1 is chance.
    """
    rows = {}
    images = paired(report)
    for group, part in (("all", images), (f"mild (label up to {MILD:g})", images[images["target"] <= MILD])):
        for method, own in part.groupby("method", sort=False):
            row = {"images": own["image_id"].nunique(), **own[["chance", "ceiling", "pooled_chance"]].mean()}
            for measure in ("pointing", "pooled", "mass_ratio"):
                trained, gain, random = _estimates(own, measure)
                row |= _columns(measure, trained) | {f"{measure} random": random} | _columns(f"{measure} gain", gain)
            rows[group, method] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["group", "method"])


def _estimates(own: pd.DataFrame, measure: str) -> tuple[Estimate, Estimate, float]:
    """Estimate a measure of one method: trained, trained - random, and the value of random."""
    patients = own["patient_id"]
    if measure == "mass_ratio":
        trained, random = own["mass"], own["random_mass"]

        def estimate(mass: pd.Series) -> Estimate:
            return ratio_over_patients(mass, own["area"], patients)
    else:
        trained, random = own[measure], own[f"random_{measure}"]

        def estimate(values: pd.Series) -> Estimate:
            return over_patients(values, patients)

    return estimate(trained), estimate(trained - random), estimate(random).mean


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name} low": estimate.low, f"{name} high": estimate.high}


def by_kind(report: pd.DataFrame) -> pd.DataFrame:
    """Pointing game by kind of lesion, for the largest contribution over cells and traced to pixels.

    Args:
        report: Result of `lesion_report`; of several folds with a column fold.

    Returns:
        Index lesion and method; columns images, chance, ceiling, pointing, "pointing low", "pointing high" and
        "pointing random".
    """
    rows = {}
    for lesion in report["lesion"].unique():
        images = paired(report, lesion)
        for method in (CELLS, TRACED) if lesion != "any" else ():
            own = images[images["method"] == method]
            trained, _, random = _estimates(own, "pointing")
            rows[lesion, method] = {
                "images": own["image_id"].nunique(),
                **own[["chance", "ceiling"]].mean(),
                **_columns("pointing", trained),
                "pointing random": random,
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["lesion", "method"])


def source_table(report: pd.DataFrame) -> pd.DataFrame:
    """Summarise a `lesions.source_report`: prototypes on lesions of their source images, beside a random backbone.

    Intervals are 95 %, over the patients of the source images.

    Args:
        report: Result of `source_report`; of several folds with a column fold.

    Returns:
        Index measure ("pointing", "box" and "mass"); columns prototypes (of each fold, added up), value, "value low",
        "value high", random, gain (value - random), "gain low", "gain high", and chance: of a random cell for pointing,
        and for box and mass the share of the discs that lesions cover.
    """
    keys = [name for name in ("fold", "prototype") if name in report]
    trained, random = (report[report["network"] == kind].set_index(keys) for kind in ("trained", "random"))
    rows = {}
    for measure, chance in (("pointing", "chance"), ("box", "area"), ("mass", "area")):
        differences = trained[measure] - random[measure]
        rows[measure] = {
            "prototypes": len(trained),
            **_columns("value", over_patients(trained[measure], trained["patient_id"])),
            "random": random[measure].mean(),
            **_columns("gain", over_patients(differences, trained["patient_id"])),
            "chance": trained[chance].mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def claims(report: pd.DataFrame, held_out_ratio: float = 0.0) -> list[Claim]:
    """Claims on the pointing game, each beyond what a control or a random backbone does.

    Args:
        report: Result of `lesion_report`; of several folds with a column fold. Without a baseline, its claim is left
            out.
        held_out_ratio: n_validation / n_training of the folds.
    """
    images = paired(report)
    images["gain"] = images["pointing"] - images["random_pointing"]
    keys = [name for name in ("fold", "image_id") if name in images]
    wide = images.pivot(index=[*keys, "patient_id"], columns="method", values=["pointing", "random_pointing", "gain"])
    rows, means = wide.index.to_frame(index=False), wide.mean()

    def claim(text: str, values: pd.Series, figures: str) -> Claim:
        found = effect(values.to_numpy(float), rows, held_out_ratio=held_out_ratio)
        return Claim(text, (found,), f"{figures}: {found[0]}")

    def trained_and_random(method: str) -> str:
        return f"{means['pointing', method]:.0%} of the images, random backbone {means['random_pointing', method]:.0%}"

    made = [
        claim(
            "The trace of the largest match peaks on a lesion more often than with a random backbone",
            wide["gain", TRACED],
            trained_and_random(TRACED),
        ),
        claim(
            "The trace of the largest match peaks on a lesion more often than the contrast of the image",
            wide["pointing", TRACED] - wide["pointing", CONTRAST],
            f"{means['pointing', TRACED]:.0%} of the images, contrast {means['pointing', CONTRAST]:.0%}",
        ),
        claim(
            "The map over cells of the largest match peaks on a lesion more often than with a random backbone",
            wide["gain", CELLS],
            trained_and_random(CELLS),
        ),
    ]
    if BASELINE in wide["gain"] and WHOLE in wide["gain"]:
        made.append(
            claim(
                "Beyond a random backbone, the trace of INSightR-Net's prediction peaks on a lesion more often than "
                "the baseline's",
                wide["gain", WHOLE] - wide["gain", BASELINE],
                f"gains {means['gain', WHOLE]:.0%} and {means['gain', BASELINE]:.0%}",
            )
        )
    return made


def readable(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Format a `lesion_table` as two tables that fit a page.

    Returns:
        "own grid": the pointing game on the grid of each method. "one grid": the same over pooled boxes, and the mass
        ratio. Values and gains over the random backbone have their intervals.
    """
    own, one = {}, {}
    for key, row in table.iterrows():
        own[key] = {
            "peak on a lesion": interval_of(row, "pointing", ".0%"),
            "minus random backbone": interval_of(row, "pointing gain", "+.0%"),
            "chance": f"{row['chance']:.0%}",
            "ceiling": f"{row['ceiling']:.0%}",
        }
        one[key] = {
            "pooled": interval_of(row, "pooled", ".0%"),
            "minus random backbone": interval_of(row, "pooled gain", "+.0%"),
            "chance": f"{row['pooled_chance']:.0%}",
            "mass ratio": interval_of(row, "mass_ratio", ".1f"),
            "mass ratio, minus random": interval_of(row, "mass_ratio gain", "+.1f"),
        }
    both = {"own grid": own, "one grid": one}
    names = table.index.names
    return {title: pd.DataFrame.from_dict(rows, orient="index").rename_axis(names) for title, rows in both.items()}


def readable_sources(table: pd.DataFrame) -> pd.DataFrame:
    """Format a `source_table` for a page."""
    titles = {
        "pointing": "centre of the cell on a lesion",
        "box": "share of the box that lesions cover",
        "mass": "share of the map on lesions",
    }
    rows = {
        titles[measure]: {
            "trained": interval_of(row, "value", ".1%"),
            "random backbone": f"{row['random']:.1%}",
            "difference": interval_of(row, "gain", "+.1%"),
            "chance": f"{row['chance']:.1%}",
        }
        for measure, row in table.iterrows()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("prototypes on their own photographs")
