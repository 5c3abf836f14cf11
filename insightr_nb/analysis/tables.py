"""Tables of finished runs."""

import pandas as pd

from insightr_nb import runs
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

COLUMNS = {"mae": "MAE", "accuracy": "accuracy", "kappa": "kappa", "sparsity": "sparsity", "diversity": "diversity",
           "n_test": "test images"}  # fmt: skip


def compare(settings: list[RunSettings]) -> pd.DataFrame:
    """Metrics of runs, one row each, named by variant and fold. Raises RunError for a run that is not finished."""
    rows = {}
    for s in settings:
        metrics = Run(runs.run_directory(s)).require_finished().metrics
        rows[f"{s.variant}, fold {s.fold}"] = {title: metrics[name] for name, title in COLUMNS.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    """What `make demo` ends with: its results, and where to look."""
    variants = [RunSettings.from_parameters(variant=v) for v in ("baseline", "insightr", "log_similarity")]
    folders = [runs.run_directory(s) for s in variants]
    print(f"\n{compare(variants).round(3).to_string(na_rep='-')}\n")
    print(f"Prototypes and explanations  {runs.shown(folders[1] / 'figures')}")
    print(f"Executed notebooks           {runs.shown(runs.outputs_root() / 'notebooks')}")
    print(f"Files of the runs            {runs.shown(folders[1].parent.parent)}")
    print("Open them with: make lab")


if __name__ == "__main__":
    main()
