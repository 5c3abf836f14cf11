"""Figures of notebooks 01 to 03: what they show, read back from matplotlib."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colors
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from PIL import Image

from insightr_nb.analysis import figures
from insightr_nb.model.network import INSightRNet
from insightr_nb.settings import LabelScale, ModelSettings, RunSettings

pytestmark = pytest.mark.usefixtures("closing")


def shown(axes) -> np.ndarray:
    (image,) = axes.images
    return np.asarray(image.get_array())


def plain(level: int) -> np.ndarray:
    return np.full((4, 4, 3), level, np.uint8)


def test_a_grid_has_its_pictures_in_their_places_and_headings():
    grid = figures.image_grid([[plain(1), plain(2)], [plain(3), plain(4)]], ["left", "cost $1$"], ["a", "b"], "title")
    assert [shown(axes)[0, 0, 0] for axes in grid.axes] == [1, 2, 3, 4]
    assert [axes.get_title() for axes in grid.axes] == ["left", "cost $1$", "", ""]
    assert [axes.get_ylabel() for axes in grid.axes] == ["a", "", "b", ""]
    assert grid.get_suptitle() == "title"


def test_a_figure_is_saved_with_130_dots_an_inch_and_its_dollars_are_no_formula(tmp_path):
    """ "$_$" in a title would be an error of mathtext."""
    path = tmp_path / "new" / "a.png"
    assert figures.save(figures.image_grid([[plain(1)]], ["image $_$"], ["a"], "$_$"), path) == path
    with Image.open(path) as saved:
        assert saved.info["dpi"] == pytest.approx((130, 130), abs=0.1)


@pytest.fixture
def raw(tmp_path):
    """Twelve raw photographs, of which the second is no image."""
    for n in range(12):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((30, 30, 3), 20 * n, np.uint8))
    (tmp_path / "1.png").write_text("no image")
    names = [str(n) for n in range(12)]
    return pd.DataFrame({"image_id": names, "source": [str(tmp_path / f"{name}.png") for name in names]})


def test_the_first_ten_photographs_that_can_be_read_are_shown(raw):
    figure = figures.photographs(raw, "title")
    assert [axes.get_title() for axes in figure.axes] == ["0", "2", "3", "4", "5", "6", "7", "8", "9", "10"]
    assert [shown(axes)[160, 160, 0] for axes in figure.axes][:3] == [0, 40, 60]
    few = figures.photographs(raw[:3], "title")
    assert [axes.axison for axes in few.axes] == [True, True, False, False, False]


def test_no_figure_where_no_photograph_can_be_read(raw):
    assert figures.photographs(raw[1:2], "title") is None


def test_a_doubtful_disc_is_drawn(tmp_path):
    """The circle of a fundus of 100 px in an image of 320: green, and only for a doubt about the disc."""
    disc = cv2.circle(np.zeros((320, 320, 3), np.uint8), (160, 160), 100, (90, 120, 150), -1)
    cv2.imwrite(str(tmp_path / "a.png"), disc)
    listed = pd.DataFrame({"image_id": ["a", "a"], "source": [str(tmp_path / "a.png")] * 2})
    (one, *_), (other, *_) = (
        figures.photographs(listed[:1].assign(doubt=doubt), "").axes for doubt in ("disc: no edge", "damaged file: x")
    )
    green = (shown(one) == (0, 255, 0)).all(axis=2)
    rows, columns = np.nonzero(green)
    assert len(rows) > 600  # a circle of 2 px
    assert np.hypot(rows - 160, columns - 160) == pytest.approx(100, abs=5)
    assert not (shown(other) == (0, 255, 0)).all(axis=2).any()


def test_similarity_curves_follow_eq_1_and_the_logarithm():
    figure = figures.similarity_curves(ModelSettings(latent_channels=128, epsilon=1e-4))
    absolute, relative = figure.axes
    for line, equation, best in (
        (0, lambda d: 1 / (d / 128 + 1e-4), 10_000),
        (1, lambda d: np.log((d + 1) / (d + 1e-4)), np.log(10_000)),
    ):
        d, values = absolute.lines[line].get_data()
        assert (d[0], d[-1]) == pytest.approx((1e-5, 128))
        np.testing.assert_allclose(values, equation(d), rtol=1e-3)
        np.testing.assert_allclose(relative.lines[line].get_ydata(), equation(d) / best, rtol=1e-3)
    names = [text.get_text() for text in absolute.get_legend().get_texts()]
    assert [name.split(", ")[-1] for name in names] == ["1e+04 at d = 0", "9.21 at d = 0"]
    assert {absolute.get_xscale(), absolute.get_yscale(), relative.get_xscale()} == {"log"}


def test_the_architecture_is_boxes_in_order_joined_by_arrows():
    steps = [(f"step {n}", f"Eq. {n}", f"B x {n}") for n in range(6)]
    (axes,) = figures.architecture(steps, "the network").axes
    boxes = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
    assert len(boxes) == 6
    assert len([p for p in axes.patches if isinstance(p, FancyArrowPatch)]) == 5
    assert [text.get_text() for text in axes.texts] == [word for step in steps for word in step]
    places = [(box.get_x(), -box.get_y()) for box in boxes]
    assert places == sorted(places, key=lambda place: (place[1], place[0]))  # four in a row, from left to right
    assert [y for _, y in places] == [places[0][1]] * 4 + [places[4][1]] * 2


HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4, 5],
        "stage": ["warm-up", "joint", "last layer", "joint", "last layer"],
        "cycle": [1, 1, 1, 2, 2],
        "train_mse": [5.0, 4, 3, 2, 1],
        "train_psd": [0.5, 0.4, 0.3, 0.2, 0.1],
        "validation_mse": [6.0, 5, 4, 3, 2],
        "train_mae": [1.0, 0.9, 0.8, 0.7, 0.6],
        "validation_mae": [2.0, 1.9, 1.8, 1.7, 1.6],
    }
)


def test_training_curves_show_losses_mae_stages_projections_and_the_selected_epoch():
    figure = figures.training_curves(HISTORY, selected_epoch=3, title="run")
    losses, mae = figure.axes
    curves = {line.get_label(): line.get_ydata() for line in losses.lines if not line.get_label().startswith("_")}
    assert curves.pop("training, mse").tolist() == [5, 4, 3, 2, 1]
    assert curves.pop("training, psd").tolist() == [0.5, 0.4, 0.3, 0.2, 0.1]
    assert curves.pop("validation, mse (mean over grades)").tolist() == [6, 5, 4, 3, 2]
    assert curves == {}  # no cluster loss in this history
    assert [line.get_ydata().tolist() for line in mae.lines[:2]] == [
        HISTORY[f"{part}_mae"].tolist() for part in ("train", "validation")
    ]
    assert mae.get_ylim() == (0, pytest.approx(2.16))
    for axes in (losses, mae):
        upright = {(line.get_linestyle(), line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 2}
        assert upright == {("--", 2.5), ("--", 4.5), (":", 3)}  # projections before the last-layer stages; selected
        spans = [p for p in axes.patches if isinstance(p, Rectangle | Polygon)]
        assert [(p.get_x(), p.get_width()) for p in spans] == [(0.5, 1), (1.5, 1), (2.5, 1), (3.5, 1), (4.5, 1)]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["warm-up", "joint", "last layer", "projection", "selected: epoch 3"]


def test_a_stage_of_several_epochs_is_one_band():
    history = HISTORY.assign(stage=["joint"] * 3 + ["last layer"] * 2, cycle=1)
    spans = [(p.get_x(), p.get_width()) for p in figures.training_curves(history, 5).axes[0].patches]
    assert spans == [(0.5, 3), (3.5, 2)]


def test_a_new_cycle_is_a_new_band():
    history = HISTORY.assign(stage="joint", cycle=[1, 1, 2, 2, 2])
    spans = [(p.get_x(), p.get_width()) for p in figures.training_curves(history, 5).axes[0].patches]
    assert spans == [(0.5, 2), (2.5, 3)]


def test_predictions_lie_at_their_labels():
    table = pd.DataFrame({"target": [0.0, 10, 20], "prediction": [1.0, 9, 25]})
    (axes,) = figures.predictions_by_label(table, LabelScale(0, 20), "title").axes
    x, y = axes.collections[0].get_offsets().T
    assert y.tolist() == [1, 9, 25]
    assert 0.12 < np.abs(x - [0, 10, 20]).max() <= 0.12 * 5  # a grade is 5 of these units
    assert len(set(x - [0, 10, 20])) == 3
    assert [values.tolist() for values in axes.lines[0].get_data()] == [[0, 20], [0, 20]]
    assert colors.same_color(axes.lines[0].get_color(), "black")


SHORT = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "cycle": 1,
        "stage": ["joint", "last layer", "last layer"],
        "train_mse": [1.0, 0.5, 0.4],
        "validation_mse": [1.2, 0.3, 0.6],
    }
)


@pytest.mark.parametrize(
    ("selected", "expect"),
    [
        (2, "Epoch 2 of 3 was selected; its validation loss (mse) is 0.300, {}. It lies 0.200 below"),
        (3, "Epoch 3 of 3 was selected; its validation loss (mse) is 0.600, {}. It lies 0.200 above"),
    ],
)
def test_the_selected_epoch_in_words(selected, expect):
    text = f"{expect.format('the lowest of the last-layer epochs is 0.300')} the training loss."
    assert figures.describe_training(SHORT, selected) == text


def test_the_bias_at_low_and_high_labels_in_words():
    test = pd.DataFrame({"target": [2, 0, 1], "prediction": [1.5, 0.25, 1]})
    text = figures.describe_predictions(test)
    assert "lowest labels the mean error (prediction - label) is +0.25" in text
    assert text.endswith("with the highest -0.50.")
    assert "+0.00" in figures.describe_predictions(test[:1])  # one image: no high third


def test_the_similarities_in_words():
    settings = RunSettings.from_parameters(preset="smoke").model
    text = figures.describe_similarity(settings, share=settings.epsilon)
    assert "Eq. 1 keeps 50% of its largest value" in text  # 1 / (eps + eps) of 1 / eps


def test_the_steps_of_the_network_have_its_shapes():
    settings = RunSettings.from_parameters(preset="smoke")
    network, images = INSightRNet(settings.model).eval(), torch.rand(2, 3, settings.data.size, settings.data.size)
    with torch.no_grad():
        steps = figures.network_steps(settings.model, images, network.backbone(images), network(images))
    shapes = {name: shape for name, _, shape in steps}
    assert shapes["image"] == "3x64x64"
    assert shapes["prototype layer"].split("x")[0] == shapes["similarity"] == str(settings.model.prototypes)
    assert shapes["weighted mean"] == "1"


def test_figures_are_saved_by_name(tmp_path):
    drawn = {name: figures.plt.figure(figsize=(1, 1)) for name in ("a", "b")}
    written = figures.save_all(drawn, tmp_path / "new")
    assert written == [tmp_path / "new" / "a.png", tmp_path / "new" / "b.png"]
    assert all(path.stat().st_size for path in written)
    figures.plt.close("all")
