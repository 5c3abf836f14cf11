"""What `make demo` says before and after: how long it will take on this machine, the results, and where to look."""

import pandas as pd

from insightr_nb import files, runs
from insightr_nb.data.folds import fold_data
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import hardware
from insightr_nb.training.estimate import expected_minutes

VARIANTS = ("baseline", "insightr", "log_similarity")


def announce(preset: str) -> None:
    """Prepares the data and prints the time that the trainings will take, measured on this machine."""
    runs_of_demo = [RunSettings.from_parameters(preset=preset, variant=v) for v in VARIANTS]
    steps = [runs_of_demo[0].backbone_run(), *runs_of_demo]
    about = hardware.describe(hardware.choose_device())
    minutes = expected_minutes(steps, fold_data(steps[0]))
    precision = "bfloat16" if about["bfloat16"] else "float32: no units for bfloat16"
    print(f"{about['processor']}, {about['cores']} cores, device {about['device']}, training in {precision}")
    print(f"expected: {minutes:.0f} minutes of training, and about 2 for the rest")


def report(preset: str) -> None:
    """Prints the metrics of the trained variants, and where their figures and files are."""
    folders = {v: runs.run_directory(RunSettings.from_parameters(preset=preset, variant=v)) for v in VARIANTS}
    table = pd.DataFrame({v: Run(folder).require_finished().metrics for v, folder in folders.items()}).T
    print(f"\nTest set of the synthetic data, fold 0, preset {preset}\n\n{table.round(3).to_string(na_rep='-')}\n")
    print(f"Why this grade, prototypes   {files.shown(folders['insightr'] / 'figures')}")
    print(f"Executed notebooks           {files.shown(files.outputs_root() / 'notebooks')}")
    print("To open them                 make lab")
