"""Presets and variants: the numbers of the paper and of the published code."""

import dataclasses

import pytest

from insightr_nb.settings import PRESETS, VARIANTS, RunSettings


def test_preset_paper_has_the_numbers_of_the_paper():
    s = RunSettings.from_parameters(preset="paper")
    assert (s.data.size, s.data.recipe_size) == (512, 512)
    assert (s.model.prototypes, s.model.latent_channels, s.model.epsilon) == (50, 128, 1e-4)
    assert (s.model.prototype_label_min, s.model.prototype_label_max) == (0.1, 5.9)
    assert dataclasses.astuple(s.losses) == (1.0, 1.0, 10.0, 3, 0.5, False)
    t = s.training
    assert (t.cycles, t.joint_epochs, t.last_layer_epochs, t.warm_up_epochs, t.batch_size) == (2, 20, 10, 5, 30)
    assert (t.lr_backbone, t.lr_block, t.lr_prototypes, t.lr_last_layer) == (1e-5, 1e-3, 1e-3, 1e-3)
    assert (t.baseline_epochs, t.baseline_lr, t.baseline_halve_every) == (30, 1e-4, 5)
    assert (t.rotation, t.scale_min, t.scale_max, t.fill) == (360, 0.9, 1.1, 128)
    assert (t.batchnorm_images, t.joint_halve_every, t.block_weight_decay) == (0, 0, 0)
    assert t.persistent_optimizers is False


def test_preset_released_has_the_numbers_of_the_published_code():
    s = RunSettings.from_parameters(preset="released")
    assert (s.data.size, s.losses.k, s.training.joint_epochs, s.training.last_layer_epochs) == (540, 4, 21, 9)
    assert (s.training.baseline_lr, s.training.joint_halve_every, s.training.fill) == (5e-4, 5, 0)
    assert (s.model.input_values, s.model.channels, s.training.selection) == ("unit", "bgr", "total")
    assert (s.losses.delta, s.losses.delta_inclusive, s.training.persistent_optimizers) == (0.5, True, True)


@pytest.mark.parametrize(
    ("preset", "labels", "variant", "k"),
    [
        ("released", "categorical", "insightr", 4),  # config/params_example_ordinal.json
        ("released", "continuous", "insightr", 3),  # config/params_example_continuous.json
        ("released", "continuous", "no_psd", 3),
        ("released", "continuous", "no_min_k", 1),
        ("paper", "categorical", "insightr", 3),
        ("paper", "continuous", "insightr", 3),
        ("demo", "continuous", "insightr", 3),
    ],
)
def test_k_of_the_cluster_loss_by_preset_and_labels(preset, labels, variant, k):
    s = RunSettings.from_parameters(preset=preset, labels=labels, variant=variant)
    assert s.losses.k == k
    assert s.changes() == {}
    assert s.backbone_run().tag is None


def test_an_override_of_k_counts_with_continuous_labels_too():
    s = RunSettings.from_parameters(preset="released", labels="continuous", overrides={"losses.k": 4}, tag="k4")
    assert s.losses.k == 4
    assert s.changes() == {"losses.k": 4}


@pytest.mark.parametrize("preset", ["paper", "demo", "photo", "smoke"])
def test_only_released_has_the_settings_of_the_published_code(preset):
    for labels in ("categorical", "continuous"):
        s = RunSettings.from_parameters(preset=preset, labels=labels)
        assert (s.losses.k, s.losses.delta_inclusive, s.training.persistent_optimizers) == (3, False, False)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_of_every_preset_and_variant_round_trip(preset, variant):
    from insightr_nb.training.checkpoint import settings_of

    settings = RunSettings.from_parameters(preset=preset, variant=variant, fold=1)
    assert settings_of(settings.as_dict()) == settings
