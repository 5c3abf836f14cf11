"""Verdicts on the paper's findings for a data set, computed from the runs; the files of notebooks 05 and 06."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pandas as pd

from insightr_nb import files, runs
from insightr_nb.analysis import latent, records
from insightr_nb.analysis.inference import HOLDS, NOT, UNKNOWN, Claim, judged
from insightr_nb.analysis.results import METRICS, Results, collect
from insightr_nb.analysis.seeds import finished_seeds
from insightr_nb.analysis.statistics import Difference, compare
from insightr_nb.analysis.sweeps import SWEEPS, finished_sweeps
from insightr_nb.parameters import MARGIN, TableSettings
from insightr_nb.runs import Run

OPEN = "open: runs are missing"

# How the first variant of a comparison should lie to the second: the sides on which their difference is tested, as
# (turned, within the margin).
_SIDES = {
    "above": [(False, False)],
    "below": [(True, False)],
    "not below": [(False, True)],
    "not above": [(True, True)],
    "similar": [(False, True), (True, True)],
}
_PROTOTYPES = ("sparsity", "sparsity_paper", "diversity", "hardly_used")  # measures that count them


@dataclass(frozen=True)
class Comparison:
    """What a finding says of two variants: `first` is `side` `second` in `measure` of `statistics.compare`."""

    first: str
    side: str
    second: str
    measure: str
    shown: tuple[str, ...] = ()  # other measures whose difference is stated as well


# Section 4 of the paper
FINDINGS: dict[str, tuple[Comparison, ...]] = {
    "INSightR-Net is as accurate as the baseline (MAE of clamped predictions, within the margin)": (
        Comparison("insightr", "not above", "baseline", "mae_clamped", ("mae",)),
    ),
    "INSightR-Net is as accurate as the baseline (accuracy, within the margin)": (
        Comparison("insightr", "not below", "baseline", "accuracy"),
    ),
    "The inverse similarity is sparser than the logarithm (contributions)": (
        Comparison("insightr", "below", "log_similarity", "sparsity"),
    ),
    "The inverse similarity is sparser than the logarithm (as the paper counts)": (
        Comparison("insightr", "below", "log_similarity", "sparsity_paper"),
    ),
    "The inverse similarity keeps the diversity of the logarithm (within the margin)": (
        Comparison("insightr", "not below", "log_similarity", "diversity"),
    ),
    "The inverse similarity has a lower MAE than the logarithm (clamped predictions)": (
        Comparison("insightr", "below", "log_similarity", "mae_clamped", ("mae",)),
    ),
    "Removing the PSD loss raises sparsity": (
        Comparison("no_psd", "above", "insightr", "sparsity", ("sparsity_paper",)),
    ),
    "Removing the PSD loss lowers diversity": (Comparison("no_psd", "below", "insightr", "diversity"),),
    "Removing the cluster loss raises diversity": (Comparison("no_cluster", "above", "insightr", "diversity"),),
    "Removing the cluster loss keeps sparsity similar (within the margin)": (
        Comparison("no_cluster", "similar", "insightr", "sparsity", ("sparsity_paper",)),
    ),
    "Removing the cluster loss spreads the samples out around the prototypes (Fig. 3; squared distance to the nearest "
    "prototype as a share of the samples' variance)": (Comparison("no_cluster", "above", "insightr", "scatter"),),
    "Removing the min-k average of the cluster loss lowers sparsity": (
        Comparison("no_min_k", "below", "insightr", "sparsity", ("sparsity_paper",)),
    ),
    "Removing the min-k average of the cluster loss lowers diversity": (
        Comparison("no_min_k", "below", "insightr", "diversity"),
    ),
    "Without the min-k average more prototypes are hardly used than in INSightR-Net and than without the cluster loss "
    "(Fig. 3; in the top 5 of less than 1 % of the images)": (
        Comparison("no_min_k", "above", "insightr", "hardly_used"),
        Comparison("no_min_k", "above", "no_cluster", "hardly_used"),
    ),
}


def findings(results: Results) -> pd.DataFrame:
    """Judge the findings of the paper, section 4, by `inference.judged`.

    A finding holds, or does not, only if it does so over the folds (corrected t) and, for a measure per image, over the
    patients (bootstrap), after Holm's correction for all findings whose runs exist. With one fold, the data cannot
    tell. The margin is `parameters.MARGIN` in the unit of the measure. Accuracy needs labels that are grades.

    Returns:
        Columns finding, verdict, p (adjusted; NaN for missing runs) and figures, one row per finding.
    """
    without_grades = bool(results.runs) and not results.grades
    wanted = {t: cs for t, cs in FINDINGS.items() if not (without_grades and cs[0].measure == "accuracy")}
    claims = [_claim(text, comparisons, results) for text, comparisons in wanted.items()]
    table = judged([claim for claim in claims if claim is not None]).set_index("claim").reindex(list(wanted))
    missing = table["verdict"].isna()
    table["verdict"] = table["verdict"].astype(object).mask(missing, OPEN)
    table["figures"] = table["figures"].astype(object).mask(missing, "")
    return table.astype({"p": float}).rename_axis("finding").reset_index()


def _claim(text: str, comparisons: Iterable[Comparison], results: Results) -> Claim | None:
    effects, figures = [], []
    for c in comparisons:
        difference = compare(results, c.first, c.second, c.measure)
        if difference is None:
            return None
        margin = _margin(c, results)
        effects += [
            tuple(difference.estimates(-margin if within else 0.0, turned).values())
            for turned, within in _SIDES[c.side]
        ]
        figures.append(_figures(difference, c.measure))
        figures += [_figures(compare(results, c.first, c.second, name), name, name) for name in c.shown]
        if _SIDES[c.side][0][1]:
            figures.append(f"margin {margin:.3g}")
    return Claim(text, tuple(effects), "; ".join(figures))


def _margin(comparison: Comparison, results: Results) -> float:
    if comparison.measure in _PROTOTYPES:
        return MARGIN * results.finished(comparison.first)[0].array("weights.npy").shape[1]
    return MARGIN * (1.0 if comparison.measure == "accuracy" else results.scale.unit)


def _figures(difference: Difference, measure: str, title: str = "") -> str:
    """Means of both variants, and their difference with its intervals."""
    digits, unit = (1, " prototypes") if measure in _PROTOTYPES else (3, "")
    first, second = (f"{values.mean():.{digits}f}" for values in (difference.first, difference.second))
    estimates = difference.estimates()
    intervals = [
        f"over {source} {e.low:+.{digits}f} to {e.high:+.{digits}f}"
        for source, e in estimates.items()
        if e.low == e.low
    ]
    heading = {"": "", "mae": "not clamped, ", "sparsity_paper": "as the paper counts, "}[title]
    text = f"{heading}{first} against {second}{unit}: {estimates['folds'].mean:+.{digits}f}"
    return text + (f" (95 % interval {', '.join(intervals)})" if intervals else "")


def as_text(found: pd.DataFrame, settings: TableSettings) -> str:
    """Format the findings in Markdown."""
    lines = [f"### {settings.title}, {settings.folds} folds", ""]
    return "\n".join([*lines, *map(line, found.to_dict("records"))]) + "\n"


def line(row: dict) -> str:
    """Format one finding as an item of a list in Markdown. row: finding, verdict, p (None or NaN if open), figures."""
    p = row["p"]
    known = "" if p is None or p != p else f" (p = {p:.1g})" if p >= 0.001 else " (p < 0.001)"
    return f"- {row['finding']}: **{row['verdict']}**{known}." + (f" {row['figures']}." if row["figures"] else "")


def describe_findings(found: pd.DataFrame) -> str:
    """Count the verdicts. found: result of `findings`."""
    holds, fails, unknown, missing = ((found["verdict"] == verdict).sum() for verdict in (HOLDS, NOT, UNKNOWN, OPEN))
    text = f"Of the {len(found)} findings, {holds} hold and {fails} do not; for {unknown}, these data cannot tell"
    return text + (f", and {missing} are open, because runs are missing." if missing else ".")


def sweeps(settings: TableSettings) -> pd.DataFrame:
    """Results of the finished sweep runs: parameter, value, fold, tag and the metrics."""
    columns = ["parameter", "value", "fold", "tag", *METRICS]
    found = finished_sweeps(settings)
    if not found:
        return pd.DataFrame(columns=columns)
    parameters = [parameter for parameter, _ in found]
    values = [attrgetter(SWEEPS[parameter][0])(run) for parameter, run in found]
    frame = collect(run for _, run in found).frame.assign(parameter=parameters, value=values)
    parts = [part.sort_values(["value", "fold"]) for _, part in frame[columns].groupby("parameter")]
    return pd.concat(parts, ignore_index=True)


def statistics(wilcoxon: pd.DataFrame | None, differences: pd.DataFrame) -> dict:
    """Content of statistics.json; values of missing runs are null."""

    def plain(frame: pd.DataFrame | None) -> list[dict]:
        return [] if frame is None else frame.astype(object).where(frame.notna(), None).to_dict("records")

    return {"sparsity_wilcoxon": plain(wilcoxon), "mae_minus_baseline": plain(differences)}


def cells_of_figure_3(results: Results, variant: str = "insightr") -> pd.DataFrame:
    """Compare the cells of Fig. 3 with those of the published code (`latent.published_cells`), one row per fold.

    Columns: fold, shared and distinct, both in cells of five per image. Empty if a fold is missing.
    """
    rows = []
    for fold, run in enumerate(results.finished(variant) or ()):
        shared, distinct = latent.published_cells(run.array("distances.npy"))
        rows.append({"fold": fold, "shared": 5 * shared, "distinct": distinct})
    return pd.DataFrame(rows)


# -- files ------------------------------------------------------------------------------------------------------------


def write_statistics(
    settings: TableSettings, results: Results, wilcoxon: pd.DataFrame | None, differences: pd.DataFrame
) -> list[Path]:
    """Write statistics.json and, if no run is missing, the record results/table1.json.

    Args:
        settings: Settings of the table.
        results: The runs.
        wilcoxon: Result of `sparsity_tests`, or None.
        differences: Result of `against_baseline`.

    Returns:
        Paths of the files.
    """
    written = [settings.folder / "statistics.json"]
    files.write_json(written[0], statistics(wilcoxon, differences))
    if not len(results.missing):
        content = records.record(
            "table1",
            settings.run("insightr", 0),
            results.runs.values(),
            rows=results.frame[["variant", "labels", "fold", *METRICS, "n_test"]],
            sparsity_wilcoxon=wilcoxon,
            mae_minus_baseline=differences,
        )
        written.append(records.write(settings.folder / "results" / "table1.json", content))
    return written


def write_ablations(
    settings: TableSettings,
    results: Results,
    found: pd.DataFrame,
    swept: pd.DataFrame,
    local: pd.DataFrame,
    seeded: pd.DataFrame,
) -> list[Path]:
    """Write findings.md, the tables as CSV, and their records in results/. Empty tables are not written.

    Args:
        settings: Settings of the tables.
        results: The runs of the findings.
        found: Result of `findings`. It has a record only if no run is missing.
        swept: Result of `sweeps`.
        local: Result of `locality.locality`.
        seeded: Result of `seeds.seeds`.

    Returns:
        Paths of the files.
    """
    frames = {"findings": found, "sweeps": swept, "locality": local, "seeds": seeded}
    frames["figure_3"] = cells_of_figure_3(results)
    frames = {name: frame for name, frame in frames.items() if len(frame)}
    written = [settings.folder / f"{name}.csv" for name in frames]
    for path, frame in zip(written, frames.values(), strict=True):
        files.write_csv(path, frame.to_dict("records"))
    with files.atomic(settings.folder / "findings.md") as temporary:
        temporary.write_text(as_text(found, settings), encoding="utf-8")
    written.append(settings.folder / "findings.md")
    sweep_runs = [(parameter, Run(runs.run_directory(run))) for parameter, run in finished_sweeps(settings)]
    made_from = {
        "findings": list(results.runs.values()),
        "sweeps": [run for _, run in sweep_runs],
        "locality": [run for parameter, run in sweep_runs if parameter == "locality"],
        "seeds": [Run(runs.run_directory(run)) for run in finished_seeds(settings)],
        "figure_3": results.finished("insightr"),
    }
    for name, frame in frames.items():
        if name == "findings" and len(results.missing):
            continue
        more = {"margin": MARGIN} if name == "findings" else {}
        content = records.record(name, settings.run("insightr", 0), made_from[name], rows=frame, **more)
        written.append(records.write(settings.folder / "results" / f"{name}.json", content))
    return written
