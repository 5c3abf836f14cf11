"""Output of `make demo`: the expected duration on this machine beforehand, the results and their files afterwards."""

import pandas as pd

from insightr_nb import files, runs
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

VARIANTS = ("baseline", "insightr")


def announce(preset: str) -> None:
    """Prepare the data and print the expected training time, based on a measurement on this machine."""
    from insightr_nb.data.folds import fold_data  # local: `report` does not need PyTorch, which takes seconds to import
    from insightr_nb.training import estimate, hardware

    runs_of_demo = [RunSettings.from_parameters(preset=preset, variant=v) for v in VARIANTS]
    steps = [runs_of_demo[0].backbone_run(), *runs_of_demo]
    threads = hardware.use_idle_cores()
    device = hardware.choose_device()
    data = fold_data(steps[0])
    minutes = estimate.expected_minutes(steps, data, estimate.measure(steps[0], data))
    print(f"{hardware.summary(device, steps[0].training.precision)}, {threads}")
    print(f"expected time: about {minutes:.0f} minutes of training, plus 1 for the rest")


def report(preset: str) -> None:
    """Print the metrics of the trained variants and the locations of their figures and notebooks."""
    folders = {v: runs.run_directory(RunSettings.from_parameters(preset=preset, variant=v)) for v in VARIANTS}
    table = pd.DataFrame({v: Run(folder).require_finished().metrics for v, folder in folders.items()}).T
    table = table.rename(columns={"top_label_gap": "gap", "label_spread": "spread", "ground_share": "ground"})
    text = table.astype(float).round(3).to_string(na_rep="-", float_format=lambda v: f"{v:g}")
    print(f"\nTest set of the synthetic data, fold 0, preset {preset}\n\n{text}\n")
    print(
        "gap: distance of the prediction from the label of the largest contribution; spread: standard deviation of\n"
        "the prototype labels, weighted by contribution; ground: share of the contributions from the grey background.\n"
        "All metrics: docs/run_files.md\n"
    )
    print(f"Explanation figures          {files.display_path(folders['insightr'] / 'figures')}")
    print(f"Executed notebooks           {files.display_path(files.outputs_root() / 'notebooks')}")
    print("To open them                 make lab")
