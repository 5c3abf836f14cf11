"""Agreement with lesions: by hand, and on the smoke run."""

import numpy as np
import pytest
import torch

from insightr_nb.analysis import lesions, places, sanity, tracing
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.geometry import Grid
from insightr_nb.data.masks import lesion_masks
from insightr_nb.model.network import ResNetRegressor

OURS = {lesions.CELLS, lesions.TRACED, lesions.WHOLE}
BASELINE = {lesions.GRAD_CAM, lesions.BASELINE}


def test_the_measures_of_one_method_by_hand():
    """Two maps over 3 x 3 cells of 2 px, centred at 1, 3, 5: one hits the lesion under (1, 2), the other does not."""
    grid = Grid(size=6, cells=3, stride=2, offset=1.0, receptive_field=3)
    disc = np.ones((6, 6), bool)
    lesion = np.zeros((6, 6), bool)
    lesion[3, 5] = True
    hit, miss = np.zeros((2, 3, 3))
    hit[1, 2] = miss[0, 0] = 1
    (row,) = lesions.measure([hit, miss], grid, grid, {"any": lesion}, disc)
    heat = grid.upsample(hit)
    assert row == {
        "lesion": "any",
        "pointing": 0.5,
        "chance": pytest.approx(1 / 9),
        "ceiling": 1,
        "pooled": 0.5,
        "pooled_chance": pytest.approx(1 / 9),
        "mass": pytest.approx(heat[3, 5] / heat.sum() / 2),
        "area": pytest.approx(1 / 36),
    }
    between = np.roll(lesion, -1, axis=1)  # in the same box, not under a centre
    (row,) = lesions.measure([hit], grid, grid, {"any": between}, disc)
    assert (row["pointing"], row["ceiling"], row["pooled"]) == (0, 0, 1)


@pytest.fixture(scope="module")
def report(loaded):
    torch.manual_seed(0)
    return lesions.lesion_report(loaded, ResNetRegressor(loaded.settings.model, "random").eval(), limit=6)


def test_the_report_has_a_row_per_image_method_network_and_kind(loaded, report):
    assert not report.duplicated(["method", "network", "image_id", "lesion"]).any()
    found = report.groupby("network")["method"].unique().map(set)
    assert found["random"] == OURS | BASELINE
    assert found["trained"] == OURS | BASELINE | set(lesions.CONTROLS)
    assert 1 <= report["image_id"].nunique() <= 6
    sizes = report.groupby(["method", "network"]).size()
    assert sizes.nunique() == 1
    assert report[["pointing", "pooled", "ceiling", "chance", "pooled_chance", "area"]].to_numpy().min() >= 0
    patients = dict(zip(loaded.predictions["image_id"], loaded.patients, strict=True))
    assert (report["patient_id"] == report["image_id"].map(patients)).all()
    assert (report[report["method"] == lesions.TRACED]["ceiling"] == 1).all()


def test_hits_are_those_of_the_explanation_and_its_trace(loaded, report):
    part = report[(report["lesion"] == "any") & (report["network"] == "trained")].set_index(["image_id", "method"])
    for image_id in part.index.unique("image_id"):
        e = explain(loaded, image_id)
        lesion = np.any(list(lesion_masks(loaded.store, image_id).values()), axis=0)
        row, col = np.clip(np.rint(loaded.grid.centre(e.cells[e.top(1)[0]])).astype(int), 0, 63)
        assert part.loc[(image_id, lesions.CELLS), "pointing"] == lesion[row, col]
        traced = tracing.match(loaded.network, e.image, int(e.top(1)[0]))
        share = places.mass_share(traced, lesion & lesions.disc_of(e.image))  # NaN for a trace of zeros
        assert part.loc[(image_id, lesions.TRACED), "mass"] == pytest.approx(share, nan_ok=True)
        assert part.loc[(image_id, lesions.TRACED), "target"] == e.target


def test_the_values_of_the_random_backbones_are_averaged(loaded, report):
    part = report[(report["network"] == "random") & (report["lesion"] == "any")]
    first = part[part["method"] == lesions.TRACED].iloc[0]
    image = loaded.store.image(loaded.store.row(first["image_id"]))
    lesion = np.any(list(lesion_masks(loaded.store, first["image_id"]).values()), axis=0)
    networks = sanity.random_backbones(loaded.network, sanity.training_images(loaded))
    heats = [lesions.maps_of_prototypes(network, image)[lesions.TRACED] for network in networks]
    assert first["pointing"] == pytest.approx(np.mean([lesion[heat == heat.max()].mean() for heat in heats]))


def test_without_a_baseline_its_methods_are_left_out(loaded):
    short = lesions.lesion_report(loaded, limit=2, whole=False)
    assert set(short["method"]) == {lesions.CELLS, lesions.TRACED, *lesions.CONTROLS}


def test_grad_cam_is_on_the_grid_of_the_feature_map(loaded):
    torch.manual_seed(0)
    baseline = ResNetRegressor(loaded.settings.model, "random").eval()
    grid = lesions.feature_grid(baseline, 64)
    assert (grid.cells, grid.stride) == (2, 32)  # ResNet-18
    assert lesions.maps_of_baseline(baseline, loaded.store.image(0))[lesions.GRAD_CAM].shape == (2, 2)


def test_prototypes_on_lesions_of_their_sources(loaded):
    sources = lesions.source_report(loaded)
    trained = sources[sources["network"] == "trained"]
    masks = {i: np.any(list(lesion_masks(loaded.store, i).values()), axis=0) for i in loaded.prototypes["image_id"]}
    with_lesions = loaded.prototypes[[bool(masks[i].any()) for i in loaded.prototypes["image_id"]]]
    assert trained["prototype"].tolist() == with_lesions["prototype"].tolist()
    for one, p in zip(trained.itertuples(), with_lesions.itertuples(), strict=True):  # the nearest cell is its own
        row, col = np.clip(np.rint(loaded.grid.centre(np.array([p.row, p.col]))).astype(int), 0, 63)
        assert one.pointing == masks[p.image_id][row, col]
        assert one.box == masks[p.image_id][p.y0 : p.y1, p.x0 : p.x1].mean()
        assert 0 < one.mass < 1
        assert one.patient_id == loaded.store.table.set_index("image_id")["patient_id"][p.image_id]
    random = sources[sources["network"] == "random"]
    assert random["prototype"].tolist() == trained["prototype"].tolist()
    assert random["chance"].tolist() == trained["chance"].tolist()
    p = with_lesions.iloc[0]
    image = loaded.store.image(loaded.store.row(p["image_id"]))
    maps = [
        lesions.similarity_maps(network, image)[p["prototype"]]
        for network in sanity.random_backbones(loaded.network, sanity.training_images(loaded))
    ]
    expect = [lesions.share_of_box(values, masks[p["image_id"]], loaded.grid) for values in maps]
    assert random["box"].iloc[0] == pytest.approx(np.mean(expect))
