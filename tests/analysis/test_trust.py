"""Measures of trust on runs made by hand, and on the smoke run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from analysis.handmade import HandMade, grey

from insightr_nb.analysis import trust


def test_warnings_count_and_list_prototypes():
    table = pd.DataFrame(
        {"prototype": [0, 1, 2], "gap": [0, 2, 0], "twins": [1, 1, 0], "background": [0, 0, 0.9], "used": [0.1, 0, 0.2]}
    )
    found = trust.warnings(table)
    assert [w.split(":")[0] for w in found] == [
        "2 of 3 prototypes have a twin",
        "1 of 3 prototypes carry a label more than 1.5 grades away from their source image",
        "1 of 3 prototypes lie mostly outside the disc",
        "1 of 3 prototypes are never among the top 5 of a test image",
    ]
    assert found[2].endswith("#2")
    assert trust.warnings(table.iloc[:0]) == []


# -- a run made by hand -----------------------------------------------------------------------------------------------


def test_audit_of_four_prototypes_by_hand():
    """0 and 1 are twins; 2 lies on the ground; 3 carries a label two grades off; 2 is never in the top 1 of five."""
    half = grey()
    half[:, :3] = 128
    vectors = torch.tensor([[0.0, 0], [0, 0.001], [1, 1], [1, 0]])
    table = {
        "prototype": [0, 1, 2, 3],
        "label": [0.0, 0.1, 2, 4],
        "image_id": ["a", "a", "b", "b"],
        "x0": [0, 0, 0, 4],
        "y0": [0, 0, 2, 2],
        "x1": [2, 2, 2, 6],
        "y1": [2, 2, 4, 4],
    }
    weights = np.zeros((2, 8))
    weights[:, [0, 1, 3, 4, 5, 6, 7]] = 1, 1, 1, 0.5, 0.5, 0.5, 0.5
    weights[1, 3] = 0
    run = HandMade(
        {"a": grey(), "b": half},
        labels=[0.0, 2.0],
        prototypes=table,
        weights=weights,
        network=SimpleNamespace(prototype_layer=SimpleNamespace(vectors=vectors)),
    )
    audit = trust.audit(run)
    assert audit["twins"].tolist() == [1, 1, 0, 0]
    assert audit["gap"].tolist() == pytest.approx([0, 0.1, 0, 2])
    assert audit["background"].tolist() == [0, 0, 1, 0]
    assert audit["used"].tolist() == [1, 1, 0, 0.5]


# -- on a run ---------------------------------------------------------------------------------------------------------


def test_audit_of_a_run(loaded):
    audit = trust.audit(loaded)
    assert audit["gap"].tolist() == pytest.approx((audit["label"] - audit["source_label"]).abs().tolist())
    same = loaded.prototypes[["image_id", "row", "col"]].duplicated(keep=False)
    assert (audit.loc[same.to_numpy(), "twins"] > 0).all()


def test_prototypes_drift_only_where_batchnorm_moves(loaded):
    """The first fault of the published code (design.md, section 4)."""
    images = np.stack([loaded.store.image(row) for row in range(60)])
    before = {k: v.clone() for k, v in loaded.network.state_dict().items()}
    moving = trust.drift_of_prototypes(loaded, images, epochs=2, moving=True)
    frozen = trust.drift_of_prototypes(loaded, images, epochs=2, moving=False)
    assert max(frozen) <= 1e-6
    assert moving[0] <= 1e-6
    assert moving[2] > 1e-4
    assert all((before[k] == v).all() for k, v in loaded.network.state_dict().items())
