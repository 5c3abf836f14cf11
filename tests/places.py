"""Where the project and the folder shared beside it are, and the notebooks with their parameters."""

from pathlib import Path

from insightr_nb.parameters import Ablations, Explore, Model, Prepare, Projection, Tables, Train, Trust

ROOT = Path(__file__).resolve().parents[1]
IDRID = ROOT.parent / "shared" / "data" / "idrid"  # 413 real photographs; cases that need them are skipped without
NOTEBOOKS = {
    "01_prepare_data": Prepare,
    "02_model": Model,
    "03_train": Train,
    "04_projection": Projection,
    "05_tables": Tables,
    "06_ablations": Ablations,
    "07_explore": Explore,
    "08_trust": Trust,
}
