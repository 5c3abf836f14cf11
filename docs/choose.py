"""Selection of a preset: trials compared on the validation set of one fold, written to a record in docs/results/.

    python docs/choose.py demo                                about 30 minutes on two cores
    python docs/choose.py photo --data_folder path/to/idrid   about 45 minutes

Finished trials are reused. The selection uses validation metrics only. For the photographs, of which there are few,
the record also holds the test metrics of every trial, to show how far the two differ.
"""

import argparse
from pathlib import Path

from insightr_nb.analysis import records
from insightr_nb.analysis.evaluation import evaluate, validation_metrics
from insightr_nb.manifests import flat
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training.trainer import train

LAYER3 = {"model.backbone_until": "layer3", "model.block_stride": 1}
TRIALS = {
    "demo": [
        ("insightr", {}),
        ("insightr", {"losses.cluster": 1.0}),
        ("insightr", {"losses.cluster": 0.1}),
        ("insightr", LAYER3 | {"losses.cluster": 1.0}),
        ("baseline", {"training.baseline_lr": 1e-4}),  # as many trials as INSightR-Net
        ("baseline", {"training.baseline_lr": 5e-4}),
        ("baseline", {"training.baseline_lr": 1e-3}),
        ("baseline", {}),
    ],
    "photo": [
        ("insightr", {}),
        ("insightr", {"losses.cluster": 0.3}),
        ("insightr", {"losses.cluster": 0.3, "losses.delta": 0.25}),
        ("baseline", {"training.baseline_lr": 1e-4}),
        ("baseline", {"training.baseline_lr": 5e-4}),
        ("baseline", {}),
    ],
}
FOLD = {"demo": 1, "photo": 0}
SETTINGS = {  # varied by the trials: the variant that each affects, and its column
    "losses.cluster": ("insightr", "weight of the cluster loss"),
    "losses.delta": ("insightr", "its range of labels"),
    "training.baseline_lr": ("baseline", "learning rate"),
}
METRICS = {
    "mae": "MAE ↓",
    "mae_clamped": "MAE, clamped ↓",
    "accuracy": "accuracy ↑",
    "kappa": "quadratic kappa ↑",
    "sparsity": "sparsity ↓",
    "diversity": "diversity ↑",
    "top_label_gap": "top-prototype label gap ↓",
    "label_spread": "spread of the labels ↓",
}


def trial(preset: str, variant: str, overrides: dict, data: dict) -> tuple[Run, RunSettings]:
    """Train one trial, or reuse its run, which may be that of a sweep over one setting."""
    short = {name.split(".")[-1]: f"{v:g}" if isinstance(v, float) else v for name, v in overrides.items()}
    tag = "-".join(f"{name}-{value}" for name, value in short.items()) or None
    settings = RunSettings.from_parameters(
        preset=preset, variant=variant, fold=FOLD[preset], overrides=overrides, tag=tag, **data
    )
    for step in settings.steps():
        run = train(step)
    return run, settings


def row(settings: RunSettings, metrics: dict, part: str) -> dict:
    """Return a row of the record: the settings that the trials vary, and the metrics on one part of the data."""
    varied = {name for _, overrides in TRIALS[settings.preset] for name in overrides}
    values = flat(settings.as_dict())
    shown = {"variant": settings.variant, "backbone ends at": settings.model.backbone_until}
    for name, (variant, title) in SETTINGS.items():
        if name in varied:
            shown[title] = f"{values[name]:g}" if settings.variant == variant else "-"
    if settings.preset == "photo":
        shown["images"] = part
    return shown | {name: metrics[key] for key, name in METRICS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=TRIALS)
    parser.add_argument("--data_folder", help="photo: IDRiD's photographs and a table with columns image and level")
    given = parser.parse_args()
    photographs = given.preset == "photo"
    data = {"dataset": "csv", "name": "idrid", "data_folder": given.data_folder} if photographs else {}
    trials = [trial(given.preset, variant, overrides, data) for variant, overrides in TRIALS[given.preset]]
    rows = []
    for run, settings in trials:
        rows.append(row(settings, validation_metrics(run, settings), "validation"))
    rows += [row(s, evaluate(run, s), "test") for run, s in trials if photographs]
    name = "photo" if photographs else "demo_choice"
    validation_mae = list(trials[-1][0].table("history.csv")["validation_mae"])  # of the baseline, epoch by epoch
    content = records.record(
        name, trials[0][1], [run for run, _ in trials], rows=rows, baseline_validation_mae=validation_mae
    )
    records.write(Path(__file__).parent / "results" / f"{name}.json", content)


if __name__ == "__main__":
    main()
