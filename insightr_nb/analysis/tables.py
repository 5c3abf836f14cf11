"""Tables over runs: Table 1 of the paper, its statistics, sweeps. A missing run is shown as missing, never left out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from insightr_nb import files, runs
from insightr_nb.analysis import metrics
from insightr_nb.analysis.explanation import load
from insightr_nb.checked import Checked, limits, suggest
from insightr_nb.data.store import open_store
from insightr_nb.errors import RunError, SettingsError
from insightr_nb.presets import VARIANTS
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale, RunSettings

METRICS = {"mae": ("MAE", "↓"), "mae_clamped": ("MAE, clamped", "↓"), "accuracy": ("Accuracy", "↑"),
           "kappa": ("Quadratic kappa", "↑"), "sparsity": ("Sparsity", "↓"),
           "sparsity_paper": ("Sparsity as the paper counts", "↓"), "diversity": ("Diversity", "↑"),
           "top_label_gap": ("Gap of the top label", "↓"), "label_spread": ("Spread of the labels", "↓"),
           "ground_share": ("Share on the ground", "↓")}  # fmt: skip
DIGITS = {"sparsity": 1, "sparsity_paper": 1, "diversity": 1, "top_label_gap": 2, "label_spread": 2}  # 3 for the others

NAMES = {
    "baseline": "ResNet-18 baseline",
    "log_similarity": "(1a) with log similarity",
    "no_psd": "(1b) w/o PSD loss",
    "no_cluster": "(1c) w/o cluster loss",
    "no_cluster_no_psd": "(1d) w/o cluster and PSD loss",
    "no_min_k": "(1e) w/o min-k in the cluster loss",
    "insightr": "(1) INSightR-Net",
}

# Table 1 of the paper: EyePACS, mean and standard deviation over five folds. Its sparsity was counted from 0 and on
# similarities, not contributions: compare it with `sparsity_paper`.
PAPER = pd.DataFrame(
    {
        "baseline": [(0.59, 0.004), (0.52, 0.003), None, None],
        "log_similarity": [(0.61, 0.003), (0.51, 0.003), (19.2, 1.15), (35.0, 4.24)],
        "no_psd": [(0.60, 0.004), (0.51, 0.005), (15.2, 0.82), (31.2, 1.47)],
        "no_cluster": [(0.60, 0.001), (0.52, 0.003), (14.8, 1.37), (40.8, 6.18)],
        "no_cluster_no_psd": [(0.60, 0.003), (0.51, 0.012), (18.7, 0.93), (37.6, 4.45)],
        "no_min_k": [(0.60, 0.004), (0.52, 0.008), (9.9, 1.10), (32.0, 1.67)],
        "insightr": [(0.59, 0.004), (0.52, 0.005), (14.6, 0.73), (35.8, 2.64)],
    },
    index=["mae", "accuracy", "sparsity_paper", "diversity"],
).T


TABLE_PARAMETERS = ("dataset", "name", "preset", "folds", "variants", "continuous")  # of notebook 05
ABLATION_PARAMETERS = ("dataset", "name", "preset", "folds", "variants", "shown", "fold")  # of notebook 06


@dataclass(frozen=True)
class TableSettings(Checked):
    """Which runs a table is made of: what the parameters of notebooks 05 and 06 become."""

    dataset: str = "synthetic"
    name: str | None = None
    preset: str = "demo"
    folds: int = limits(5, 1)
    variants: str = ",".join(NAMES)  # names with commas between
    continuous: str = "baseline,insightr"  # rows of the table with continuous labels; "none" for no such table
    shown: str = "insightr,no_cluster,no_min_k"  # columns of Figure 3
    fold: int = limits(0, 0)  # of Figure 3

    def __post_init__(self):
        super().__post_init__()
        for field in ("variants", "continuous", "shown"):
            names = self.names(field)
            if len(set(names)) < len(names) or (field == "variants" and not names):
                raise SettingsError(f"{field} = {getattr(self, field)!r}: names each once"
                                    + ", and at least one" * (field == "variants"))  # fmt: skip
            for name in names:
                if name not in NAMES:
                    raise SettingsError(f"{field} = {getattr(self, field)!r}: unknown variant {name!r}; "
                                        f"{suggest(name, [v for v in VARIANTS if v in NAMES])}")  # fmt: skip
        self.run("baseline", 0)  # checks data set and preset

    def names(self, field: str) -> list[str]:
        return [n.strip() for n in getattr(self, field).split(",") if n.strip() not in ("", "none")]

    def run(self, variant: str, fold: int, labels: str = "categorical", **given) -> RunSettings:
        return RunSettings.from_parameters(dataset=self.dataset, name=self.name, preset=self.preset, variant=variant,
                                           fold=fold, labels=labels, **given)  # fmt: skip

    def grid(self, variants: Iterable[str], labels: str = "categorical") -> list[RunSettings]:
        """Every variant on every fold."""
        return [self.run(variant, fold, labels) for variant in variants for fold in range(self.folds)]

    @property
    def folder(self) -> Path:
        return files.outputs_root() / "tables" / (self.name or self.dataset) / self.preset

    @property
    def title(self) -> str:
        return f"{self.name or self.dataset}, preset {self.preset}"


@dataclass(frozen=True)
class Results:
    """Runs of some data set and preset.

    frame: a row a run, with the columns of the settings asked for (variant, labels, fold, tag), `state`, `command` and
    the metrics (NaN where it is not finished). runs: those that are finished, by (variant, labels, fold, tag).
    """

    frame: pd.DataFrame
    runs: dict[tuple, Run]

    @property
    def missing(self) -> pd.DataFrame:
        return self.frame.loc[
            self.frame["state"] != "finished", ["variant", "labels", "fold", "tag", "state", "command"]
        ]

    @property
    def grades(self) -> bool:
        """Whether the labels are grades, so that they can be confused."""
        return bool(self.frame["accuracy"].notna().any())

    @property
    def scale(self) -> LabelScale:
        """The range of the labels, of the prepared store of any of the runs."""
        run = next(iter(self.runs.values()))
        data = run.manifest["settings"]["data"]
        return open_store(files.outputs_root() / "data" / f"{data['name'] or data['dataset']}-{data['size']}").scale

    def run(self, variant: str, fold: int, labels: str = "categorical") -> Run | None:
        return self.runs.get((variant, labels, fold, None))

    def finished(self, variant: str, labels: str = "categorical") -> list[Run] | None:
        """The runs of every fold; None where one is missing."""
        found = [self.run(variant, fold, labels) for fold in sorted(self.of(variant, labels)["fold"])]
        return found if found and all(found) else None

    def of(self, variant: str, labels: str = "categorical", tag: str | None = None) -> pd.DataFrame:
        """The rows of one variant, a row a fold."""
        f = self.frame
        same_tag = f["tag"].isna() if tag is None else f["tag"] == tag
        return f[(f["variant"] == variant) & (f["labels"] == labels) & same_tag]


def collect(wanted: Iterable[RunSettings]) -> Results:
    """The metrics of these runs, read from their folders.

    Raises RunError for a run that was made with other settings (names the field), for a metrics file that is damaged,
    and for runs that were made from different data or, within a fold, different splits (lists them).
    """
    rows, found = [], {}
    for settings in wanted:
        run = Run(runs.run_directory(settings))
        key = (settings.variant, settings.labels, settings.fold, settings.tag)
        row = dict(zip(("variant", "labels", "fold", "tag"), key, strict=True))
        row |= {"state": run.state, "command": run.command()}
        if row["state"] == "finished":
            runs.check_same(run, settings.as_dict(), {})
            run.require_whole()
            counted = _paper_sparsity(run)
            row |= run.metrics | {"sparsity_paper": None if counted is None else counted.mean()}
            row |= {"store": run.manifest["data"]["store"], "split": run.manifest["data"]["split"]}
            found[key] = run
        rows.append(row)
    frame = pd.DataFrame(rows)
    _check_same_data(frame)
    for name in METRICS:
        frame[name] = frame.get(name, pd.Series(dtype=float)).astype(float)
    return Results(frame, found)


def _paper_sparsity(run: Run) -> np.ndarray | None:
    """(N,) sparsity as the published code counts it: similarities instead of contributions, from 0 instead of 1."""
    if not (run / "distances.npy").exists():
        return None
    loaded = load(run)
    nearest = run.array("distances.npy").min(axis=(2, 3))  # (N, m)
    return metrics.sparsity(loaded.similarity(nearest)) - 1


def _check_same_data(frame: pd.DataFrame) -> None:
    if "store" not in frame:
        return
    done = frame[frame["state"] == "finished"]
    for column, groups in (("store", [done]), ("split", [g for _, g in done.groupby("fold")])):
        for group in groups:
            if group[column].nunique() > 1:
                listed = "; ".join(
                    f"{value}: " + ", ".join(f"{r.variant} {r.labels} fold {r.fold}" for r in part.itertuples())
                    for value, part in group.groupby(column)
                )
                raise RunError(
                    f"runs of one table were made from different data (fingerprint of the {column}): {listed}. "
                    "Make them again with overwrite=True, from one prepared store"
                )


# -- Table 1 ----------------------------------------------------------------------------------------------------------


def summary(results: Results, variants: Iterable[str], labels: str = "categorical") -> pd.DataFrame:
    """Mean and standard deviation over folds (n - 1): one row a variant, columns (metric, "mean" | "sd").

    Where a fold is missing, both are NaN, and the column ("folds", "done") says how many of how many there are. So are
    those of a metric that not every fold has (a run of an older version).
    """
    rows = {}
    for variant in variants:
        part = results.of(variant, labels)
        whole = len(part) > 0 and (part["state"] == "finished").all()
        row = {("folds", "done"): (part["state"] == "finished").sum(), ("folds", "asked"): len(part)}
        for name in METRICS:
            known = whole and part[name].notna().all()
            row[name, "mean"] = part[name].mean() if known else np.nan
            row[name, "sd"] = part[name].std(ddof=1) if known and len(part) > 1 else np.nan
        rows[variant] = row
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame


def table1(results: Results, variants: Iterable[str], labels: str = "categorical", paper: bool = True) -> pd.DataFrame:
    """Texts for a reader: "0.59 ± 0.004" a metric and variant, and beside them the paper's own numbers on EyePACS."""
    numbers = summary(results, variants, labels)
    rows = {}
    for variant in numbers.index:
        row = {}
        done, asked = int(numbers.loc[variant, ("folds", "done")]), int(numbers.loc[variant, ("folds", "asked")])
        for name, (title, arrow) in METRICS.items():
            mean, sd = numbers.loc[variant, (name, "mean")], numbers.loc[variant, (name, "sd")]
            if done < asked or not asked:
                text = f"missing ({asked - done} of {asked} folds)"
            elif np.isnan(mean):
                text = "-"
            else:
                digits = DIGITS.get(name, 3)
                text = f"{mean:.{digits}f}" + ("" if np.isnan(sd) else f" ± {sd:.{digits}f}")
            row[f"{title} {arrow}"] = text
        for name in PAPER.columns if paper else ():
            value = PAPER.loc[variant, name] if variant in PAPER.index else None
            title = METRICS[name.removesuffix("_paper")][0]
            row[f"{title}, paper (EyePACS)"] = f"{value[0]:g} ± {value[1]:g}" if value else "-"
        rows[NAMES[variant]] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("")


def write(frame: pd.DataFrame, path: Path, caption: str) -> list[Path]:
    """The same table as CSV, Markdown and LaTeX (booktabs) beside each other; `path` has no suffix."""
    plain = frame.reset_index()
    latex = plain.map(lambda v: v.replace("±", r"$\pm$") if isinstance(v, str) else v)
    latex.columns = [str(c).replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$") for c in latex.columns]
    texts = {
        ".csv": plain.to_csv(index=False),
        ".md": plain.to_markdown(index=False, disable_numparse=True) + f"\n\n{caption}\n",
        ".tex": latex.style.hide(axis="index").format(escape=None).to_latex(hrules=True, caption=_latex(caption)),
    }
    written = []
    for suffix, text in texts.items():
        with files.atomic(path.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(path.with_suffix(suffix))
    return written


def _latex(text: str) -> str:
    for sign in "_%&#":
        text = text.replace(sign, "\\" + sign)
    return text


# -- statistics -------------------------------------------------------------------------------------------------------


def sparsity_tests(results: Results, first: str = "insightr", second: str = "log_similarity") -> pd.DataFrame:
    """Wilcoxon signed-rank test, a row a fold: is the sparsity of `first` smaller, image by image? One-sided p.

    Paper, section 4: "p < 0.001 for all folds". `p` counts contributions, `p_paper` counts as the paper does.
    Folds that are not finished for both are NaN.
    """
    rows = []
    for fold in sorted(results.of(first)["fold"]):
        pair = [results.run(variant, fold) for variant in (first, second)]
        row = {"fold": fold, first: np.nan, second: np.nan, "p": np.nan, "p_paper": np.nan}
        if all(pair):
            own, other = (metrics.sparsity(run.array("weights.npy")) for run in pair)
            row |= {first: own.mean(), second: other.mean(), "p": _p_less(own, other)}
            row["p_paper"] = _p_less(*(_paper_sparsity(run) for run in pair))
        rows.append(row)
    return pd.DataFrame(rows, columns=["fold", first, second, "p", "p_paper"])


def _p_less(own: np.ndarray, other: np.ndarray) -> float:
    return float(wilcoxon(own, other, alternative="less").pvalue) if (own != other).any() else 1.0


def errors(results: Results, variant: str, labels: str = "categorical") -> np.ndarray | None:
    """(folds, N_test) absolute errors; None where a fold is missing."""
    found = results.finished(variant, labels)
    if found is None:
        return None
    tables = [run.table("predictions.csv") for run in found]
    return np.stack([(table["prediction"] - table["target"]).abs().to_numpy() for table in tables])


def paired_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, samples: int = 5000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `first` - `second` and its confidence interval by a bootstrap over images and folds.

    first, second: (folds, N) errors on the same images. Every sample draws folds and images with replacement, so both
    the choice of training data and that of test images count. Returns (difference, low, high).
    """
    difference = first - second
    folds, images = difference.shape
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for i in range(samples):
        weight = np.bincount(rng.integers(folds, size=folds), minlength=folds) @ difference
        means[i] = weight[rng.integers(images, size=images)].mean() / folds
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)


def against_baseline(results: Results, variants: Iterable[str], labels: str = "categorical") -> pd.DataFrame:
    """MAE of each variant minus that of the baseline with a 95 % interval; NaN where a fold of either is missing."""
    base = errors(results, "baseline", labels)
    rows = []
    for variant in variants:
        if variant == "baseline":
            continue
        own = errors(results, variant, labels)
        values = (np.nan,) * 3 if base is None or own is None else paired_difference(own, base)
        rows.append({"variant": variant, **dict(zip(("difference", "low", "high"), values, strict=True))})
    return pd.DataFrame(rows, columns=["variant", "difference", "low", "high"])


# -- sweeps -----------------------------------------------------------------------------------------------------------

# What a sweep is called -> the settings that it changes; the first of them is the axis of its curve.
SWEEPS = {
    "prototypes": ("model.prototypes",),
    "k": ("losses.k",),
    "delta": ("losses.delta",),
    "cluster": ("losses.cluster",),
    "epsilon": ("model.epsilon",),
    "psd": ("losses.psd",),
    "depth": ("model.latent_channels",),
    "locality": ("model.backbone_until", "model.block_kernel", "model.block_stride", "model.block_padding"),
}
_STRIDES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}  # of ResNet, where its backbone ends


def localities(settings: TableSettings) -> list[str]:
    """Where the backbone can end so that a block makes 9 x 9 cells of images of the preset's size."""
    size = settings.run("insightr", 0).data.size
    return [layer for layer, stride in _STRIDES.items() if size in (8 * stride * block for block in (1, 2, 4, 8))]


def sweep_overrides(settings: TableSettings, parameter: str, value: float | str) -> dict[str, float | str | int]:
    """The overrides at one value of a sweep.

    locality: the backbone ends at this layer, and the block's kernel and stride make the same 9 x 9 cells of it.
    Raises SettingsError for an unknown parameter or value, and where the images are too small for that many cells.
    """
    if parameter not in SWEEPS:
        raise SettingsError(f"sweep over {parameter!r}: {suggest(parameter, SWEEPS)}")
    if parameter != "locality":
        try:
            return {SWEEPS[parameter][0]: float(value)}
        except ValueError:
            raise SettingsError(f"sweep over {parameter}: {value!r} must be a number") from None
    if value not in _STRIDES:
        raise SettingsError(f"sweep over locality: {suggest(value, _STRIDES)}")
    size = settings.run("insightr", 0).data.size
    if value not in localities(settings):
        raise SettingsError(
            f"sweep over locality: images of {size} px have no 9 x 9 cells at {value}; use another layer"
        )
    stride = size // (8 * _STRIDES[value])
    return dict(zip(SWEEPS[parameter], (value, max(2, stride), stride, max(1, stride // 2)), strict=True))


def sweep(
    settings: TableSettings, parameter: str, values: Iterable[float | str], folds: Iterable[int]
) -> list[RunSettings]:
    """The runs of a sweep over one property of INSightR-Net, tagged `<parameter>-<value>`.

    At the preset's own value it is the run of the tables, without a tag: nothing is trained twice.
    """
    found = []
    for value in values:
        overrides = sweep_overrides(settings, parameter, value)
        tag = f"{parameter}-{value if parameter == 'locality' else format(float(value), 'g')}"
        for fold in folds:
            run = settings.run("insightr", fold, overrides=overrides, tag=tag)
            found.append(run if run.changes() else settings.run("insightr", fold))
    return found


def finished_sweeps(settings: TableSettings) -> list[tuple[str, RunSettings]]:
    """(parameter, run) of the finished runs of sweeps: tagged `<parameter>-<value>`, with no other override than its.

    With them the run without a tag of each of their folds, where it is finished: the point at the preset's own value.
    """
    folder = runs.run_directory(settings.run("insightr", 0)).parent
    found = []
    for path in sorted(folder.glob("fold*-*-*")):
        fold, _, tag = path.name.removeprefix("fold").partition("-")
        parameter = tag.partition("-")[0]
        if parameter in SWEEPS and Run(path).state == "finished":
            overrides = Run(path).manifest["overrides"]
            if SWEEPS[parameter][0] in overrides and set(overrides) <= set(SWEEPS[parameter]):
                found.append((parameter, settings.run("insightr", int(fold), overrides=overrides, tag=tag)))
    for parameter, fold in sorted({(parameter, run.fold) for parameter, run in found}):
        plain = settings.run("insightr", fold)
        if Run(runs.run_directory(plain)).state == "finished":
            found.append((parameter, plain))
    return found
