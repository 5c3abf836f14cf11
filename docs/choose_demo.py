"""How preset demo was chosen: trials on fold 1, judged on its validation part, to docs/results/demo_choice.json.

    python docs/choose_demo.py       about 20 minutes on two cores; finished trials are found

Test images are not looked at. Beside the metrics: how often the peak of the largest match lies on a lesion, by the
centre of its cell and traced to pixels, over the validation images with lesions.
"""

from pathlib import Path

import numpy as np
import torch

from insightr_nb.analysis import records, tracing
from insightr_nb.analysis.evaluation import validation_metrics
from insightr_nb.analysis.geometry import grid
from insightr_nb.analysis.lesions import at_centres
from insightr_nb.analysis.metrics import top_prototypes
from insightr_nb.data.folds import fold_data
from insightr_nb.data.loading import network_input
from insightr_nb.data.masks import lesion_masks
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training.checkpoint import load_model
from insightr_nb.training.trainer import train

FOLD = 1
LAYER3 = {"model.backbone_until": "layer3", "model.block_stride": 1}
TRIALS = [
    ("insightr", {}),
    ("insightr", {"losses.cluster": 1.0}),
    ("insightr", {"losses.cluster": 0.1}),
    ("insightr", LAYER3 | {"losses.cluster": 1.0}),
    ("baseline", {}),
]


def trial(variant: str, overrides: dict) -> tuple[Run, dict]:
    """The trained run, and its row."""
    tag = "choice-" + "-".join(f"{value}" for value in overrides.values()) if overrides else None
    settings = RunSettings.from_parameters(variant=variant, fold=FOLD, overrides=overrides, tag=tag)
    for step in settings.steps():
        run = train(step)
    found = validation_metrics(run, settings)
    row = {
        "variant": variant,
        "backbone ends at": settings.model.backbone_until,
        "weight of the cluster loss": "-" if variant == "baseline" else f"{settings.losses.cluster:g}",
        "MAE ↓": found["mae"],
        "MAE, clamped ↓": found["mae_clamped"],
        "accuracy ↑": found["accuracy"],
        "sparsity ↓": found["sparsity"],
        "diversity ↑": found["diversity"],
        "gap of the top label ↓": found["top_label_gap"],
        "spread of the labels ↓": found["label_spread"],
    }
    if variant != "baseline":
        row |= pointing(run, settings)
    return run, row


def pointing(run: Run, settings: RunSettings) -> dict[str, float]:
    """Share of the validation images with lesions whose largest match has its peak on one."""
    network, data = load_model(run / "model.safetensors"), fold_data(settings)
    cells = grid(network, data.store.images.shape[1])
    traced, centred = [], []
    for row in data.validation.rows:
        lesion = np.any(list(lesion_masks(data.store, data.store.table["image_id"][row]).values()), axis=0)
        if not lesion.any():
            continue
        image = data.store.image(row)
        output = network(network_input(torch.from_numpy(image)[None], settings.model))
        j = top_prototypes(output.weights.detach().numpy(), 1)[0, 0]
        heat = tracing.trace(network, image, settings.model, lambda out, j=j: out.similarities[0, j].log())
        traced.append(lesion.flat[heat.argmax()])
        hits = at_centres(cells.centre(np.arange(cells.cells)), lesion)
        centred.append(hits.flat[output.distances[0, j].argmin()])
    return {"peak on a lesion, traced ↑": float(np.mean(traced)), "over cells ↑": float(np.mean(centred))}


def main() -> None:
    made, rows = zip(*(trial(*each) for each in TRIALS), strict=True)
    baseline = made[-1].table("history.csv")["validation_mae"]
    content = records.record(
        "demo_choice", RunSettings.from_parameters(), made, rows=list(rows), baseline_validation_mae=list(baseline)
    )
    records.write(Path(__file__).parent / "results" / "demo_choice.json", content)


if __name__ == "__main__":
    main()
