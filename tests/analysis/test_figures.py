"""Figures and sentences of notebooks 02 and 03, by tables made by hand."""

import pandas as pd
import pytest
import torch

from insightr_nb.analysis import figures
from insightr_nb.model.network import INSightRNet
from insightr_nb.settings import RunSettings

HISTORY = pd.DataFrame(
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
        (2, "Among the last-layer epochs, epoch 2 of 3 has the lowest validation loss (0.300). It lies 0.200 below"),
        (3, "Among the last-layer epochs, epoch 3 of 3 has the lowest validation loss (0.600). It lies 0.200 above"),
    ],
)
def test_the_selected_epoch_in_words(selected, expect):
    assert figures.describe_training(HISTORY, selected) == f"{expect} the training loss."


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
