"""Verdicts on the paper's findings for a data set, computed from the runs; the files of notebooks 05 and 06."""

from operator import attrgetter
from pathlib import Path

import pandas as pd

from insightr_nb import files, runs
from insightr_nb.analysis import records
from insightr_nb.analysis.results import METRICS, Results, collect
from insightr_nb.analysis.statistics import errors, paired_difference, sparsity_tests
from insightr_nb.analysis.sweeps import SWEEPS, finished_sweeps
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run

HOLDS, NOT, OPEN = "holds", "does not hold", "open: runs are missing"


def findings(results: Results) -> pd.DataFrame:
    """Check the findings of the paper, section 4: one row per finding with columns finding, verdict and figures."""
    rows = [_parity(results), *_sparser(results)]
    for loss, variant, expect in (
        ("PSD loss", "no_psd", {"sparsity": 1, "diversity": -1}),
        ("cluster loss", "no_cluster", {"diversity": 1}),
        ("min-k average of the cluster loss", "no_min_k", {"sparsity": -1, "diversity": -1}),
    ):
        rows += [_removing(results, loss, variant, metric, direction) for metric, direction in expect.items()]
    return pd.DataFrame(rows, columns=["finding", "verdict", "figures"])


def _parity(results: Results) -> tuple[str, str, str]:
    """Holds if the upper limit of the difference in MAE is below 0.05 grades, a margin not taken from the paper."""
    finding = "INSightR-Net is as accurate as the baseline (MAE at most 0.05 above it, 95 % interval)"
    own, base = (errors(results, v) for v in ("insightr", "baseline"))
    if own is None or base is None:
        return finding, OPEN, ""
    difference, low, high = paired_difference(own, base)
    figures = (
        f"MAE {own.mean():.3f} against {base.mean():.3f}; difference {difference:+.3f} ({low:+.3f} to {high:+.3f})"
    )
    return finding, HOLDS if high < 0.05 else NOT, figures


def _sparser(results: Results) -> list[tuple[str, str, str]]:
    """Both ways of counting, by contributions and as in the paper, since they can disagree."""
    tests = sparsity_tests(results)
    rows = []
    counts = (("p", "sparsity", "contributions"), ("p_paper", "sparsity_paper", "as the paper counts"))
    for p, metric, counted in counts:
        finding = f"The inverse similarity is sparser than the logarithm ({counted}; Wilcoxon, p < 0.001 in every fold)"
        if tests.empty or tests[p].isna().any():
            rows.append((finding, OPEN, ""))
            continue
        inverse, logarithm = (results.of(v)[metric].mean() for v in ("insightr", "log_similarity"))
        figures = f"{inverse:.1f} against {logarithm:.1f} prototypes; largest p {tests[p].max():.1g}"
        rows.append((finding, HOLDS if (tests[p] < 0.001).all() else NOT, figures))
    return rows


def _removing(results: Results, loss: str, variant: str, metric: str, direction: int) -> tuple[str, str, str]:
    """Holds if the change has the paper's sign in the mean and in all folds except at most one."""
    word = {1: "raises", -1: "lowers"}[direction]
    finding = f"Removing the {loss} {word} {metric}"
    if not (results.finished(variant) and results.finished("insightr")):
        return finding, OPEN, ""
    with_it, without = (results.of(v).sort_values("fold")[metric].to_numpy(float) for v in ("insightr", variant))
    change = (without - with_it) * direction
    agree = int((change > 0).sum())
    holds = change.mean() > 0 and agree >= max(1, len(change) - 1)
    figures = f"{with_it.mean():.1f} with it, {without.mean():.1f} without; {agree} of {len(change)} folds agree"
    return finding, HOLDS if holds else NOT, figures


def as_text(found: pd.DataFrame, settings: TableSettings) -> str:
    """Format the findings in Markdown."""
    lines = [f"### {settings.title}, {settings.folds} folds", ""]
    for row in found.itertuples():
        lines.append(f"- {row.finding}: **{row.verdict}**" + (f". {row.figures}." if row.figures else "."))
    return "\n".join(lines) + "\n"


def describe_findings(found: pd.DataFrame) -> str:
    """Count the verdicts. found: result of `findings`."""
    holds, fails, unknown = ((found["verdict"] == verdict).sum() for verdict in (HOLDS, NOT, OPEN))
    return f"Of the {len(found)} findings, {holds} hold, {fails} do not, and {unknown} are open."


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
    settings: TableSettings, results: Results, found: pd.DataFrame, swept: pd.DataFrame, local: pd.DataFrame
) -> list[Path]:
    """Write findings.md, the tables as CSV, and their records in results/. Empty tables are not written.

    Args:
        settings: Settings of the tables.
        results: The runs of the findings.
        found: Result of `findings`. It has a record only if no run is missing.
        swept: Result of `sweeps`.
        local: Result of `locality.locality`.

    Returns:
        Paths of the files.
    """
    frames = {"findings": found, "sweeps": swept, "locality": local}
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
    }
    for name, frame in frames.items():
        if name == "findings" and len(results.missing):
            continue
        content = records.record(name, settings.run("insightr", 0), made_from[name], rows=frame)
        written.append(records.write(settings.folder / "results" / f"{name}.json", content))
    return written
