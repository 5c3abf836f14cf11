"""Quality of the prototypes, and the effect of frozen BatchNorm.

Other measures of notebook 08 are in `lesions`, `deletion`, `stability`, `confidence` and `conformal`.
"""

import copy

import numpy as np
import pandas as pd
import torch

from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.metrics import top_prototypes
from insightr_nb.data.graham import GROUND

# -- prototype quality ------------------------------------------------------------------------------------------------


def audit(run: LoadedRun, near: float = 0.01) -> pd.DataFrame:
    """Audit the prototypes: label, image_id, source_label, gap, twins, background and used, in the order of the labels.

    gap is |label - label of the source image|. twins counts the other prototypes from the same patch, or nearer than
    `near` times the median distance between prototypes. background is the share of the box that is grey background.
    used is the share of the test images with the prototype in the top 5.
    """
    table = run.prototypes
    vectors = run.network.prototype_layer.vectors.detach().cpu().double()
    between = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    limit = near * np.median(between[np.triu_indices(len(between), 1)])
    same = (between <= limit).sum(1) - 1
    top = top_prototypes(run.weights)
    rows = [run.store.row(i) for i in table["image_id"]]
    sources = run.store.table["label"].to_numpy(float)[rows]
    ground = [
        (run.store.image(row)[p.y0 : p.y1, p.x0 : p.x1] == GROUND).all(axis=2).mean()
        for row, p in zip(rows, table.itertuples(), strict=True)
    ]
    return table[["prototype", "label", "image_id"]].assign(
        source_label=sources,
        gap=np.abs(table["label"] - sources),
        twins=same,
        background=ground,
        used=[(top == j).any(axis=1).mean() for j in table["prototype"]],
    )


def warnings(table: pd.DataFrame, unit: float = 1.0) -> list[str]:
    """Describe the problems that an `audit` reveals; empty if none. unit: size of one grade in the labels' units."""
    found = []

    def add(rows: pd.DataFrame, text: str) -> None:
        if len(rows):
            listed = ", ".join(f"#{p}" for p in rows["prototype"][:8]) + (" ..." if len(rows) > 8 else "")
            found.append(f"{len(rows)} of {len(table)} prototypes {text}: {listed}")

    add(table[table["twins"] > 0], "have a twin: they show the same patch, so the explanation repeats itself")
    add(table[table["gap"] > 1.5 * unit], "carry a label more than 1.5 grades away from their source image")
    add(table[table["background"] > 0.5], "lie mostly outside the disc: they cannot show a lesion")
    add(table[table["used"] == 0], "are never among the top 5 of a test image")
    return found


# -- effect of frozen BatchNorm ---------------------------------------------------------------------------------------


@torch.no_grad()
def drift_of_prototypes(run: LoadedRun, images: np.ndarray, epochs: int, moving: bool) -> list[float]:
    """Mean squared distance of the prototypes to their own patches after each of `epochs` passes over `images`.

    The run itself is not modified.

    Args:
        run: The run.
        images: (N, size, size, 3) uint8.
        epochs: Number of passes.
        moving: Update BatchNorm statistics, as in the published code's last-layer stage; otherwise they are frozen.

    Returns:
        `epochs` + 1 distances, the first before any pass.
    """
    network = copy.deepcopy(run.network).eval()
    if moving:
        network.backbone.train()
    table = run.prototypes
    sources = np.stack([run.store.image(run.store.row(i)) for i in table["image_id"]])
    found = []
    for epoch in range(epochs + 1):
        if epoch:
            for start in range(0, len(images), 30):
                network.backbone(network.inputs(torch.from_numpy(images[start : start + 30])))
        was = network.backbone.training
        network.eval()
        latent = torch.cat(
            [network.latent(network.inputs(torch.from_numpy(sources[i : i + 10]))) for i in range(0, len(sources), 10)]
        )
        rows, columns = torch.tensor(table["row"].tolist()), torch.tensor(table["col"].tolist())
        patches = latent[torch.arange(len(table)), :, rows, columns]  # (m, C)
        found.append(float((patches - network.prototype_layer.vectors).square().sum(1).mean()))
        network.backbone.train(was)
    return found
