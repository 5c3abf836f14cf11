"""Unfamiliar images: how runs that have only seen drawings take real photographs; writes docs/results/unfamiliar.json.

    python docs/unfamiliar.py path/to/idrid       a folder of photographs; about 2 minutes on one core

Of the five runs of INSightR-Net of preset `demo`, which must be finished: the share of the photographs and of the run's
own test images that `analysis.familiarity` flags, and the median of their smallest squared distance to a prototype.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from insightr_nb import runs
from insightr_nb.analysis import records
from insightr_nb.analysis.familiarity import LEAST, channel_statistics
from insightr_nb.analysis.loaded_run import LoadedRun, load_run
from insightr_nb.data.image_files import images_below
from insightr_nb.data.images import read_image
from insightr_nb.data.photograph import prepared
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

_BATCH = 30


@torch.no_grad()
def measure(run: LoadedRun, images: np.ndarray) -> dict[str, float]:
    """Share of images (N, S, S, 3) uint8 that are flagged, and the median of their smallest squared distances."""
    statistics, nearest = [], []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start : start + _BATCH])
        statistics.append(channel_statistics(run.network, batch).cpu().numpy())
        nearest.append(run.network(run.network.inputs(batch)).min_distances.amin(1).cpu().numpy())
    familiar = run.reference.familiarity(np.concatenate(statistics))
    return {
        "images": len(images),
        "flagged": float((familiar < LEAST).mean()),
        "nearest": float(np.median(np.concatenate(nearest))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of photographs, such as IDRiD's")
    paths = list(images_below(parser.parse_args().folder))
    rows, measured, photographs = [], [], None
    for fold in range(RunSettings.from_parameters(preset="demo").data.folds):
        run = load_run(Run(runs.run_directory(RunSettings.from_parameters(preset="demo", fold=fold))), "cpu")
        if photographs is None:
            photographs = np.stack([prepared(read_image(path), run.store.settings) for path in paths])
        own = np.stack([run.store.image(run.store.row(name)) for name in run.predictions["image_id"]])
        rows += [
            {"fold": fold, "data": data} | measure(run, images)
            for data, images in (("photographs of IDRiD", photographs), ("synthetic test images", own))
        ]
        measured.append(run.run)
    content = records.record("unfamiliar", run.settings, measured, rows=rows)
    records.write(Path(__file__).parent / "results" / "unfamiliar.json", content)


if __name__ == "__main__":
    main()
