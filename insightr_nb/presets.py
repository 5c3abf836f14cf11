"""Presets and variants: the settings, by dotted name, that depart from the defaults (the text of the paper).

`paper` follows the text of Hesse and Namburete (MICCAI 2022). `released` follows the authors' published code where it
differs from the text. `demo` is small enough for a laptop, `photo` is for a few hundred photographs, and `smoke` is
for tests.
"""

from typing import Any

# For data sets of hundreds of images: 20 joint epochs (10 per cycle) with small batches, from random weights.
_SHORT: dict[str, Any] = {
    "model.weights": "random",
    "model.skip_ground": True,
    "training.warm_up_epochs": 2,
    "training.joint_epochs": 10,
    "training.last_layer_epochs": 2,
    "training.lr_backbone": 5e-5,
    "training.lr_prototypes": 6e-3,
    "training.lr_last_layer": 1e-2,
    "training.joint_halve_every": 5,
    "training.pretrain_lr": 1e-3,
    "training.baseline_epochs": 20,  # at least as many as INSightR-Net trains the backbone for
    "training.baseline_lr": 2e-4,
    "training.baseline_halve_every": 5,
    "training.batch_size": 10,
    "training.batchnorm_images": 300,
    "training.batchnorm_frozen": True,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"data.size": 512},
    "released": {
        "data.size": 540,
        "data.recipe_size": 540,
        "data.centre": "image",
        "model.input_values": "unit",
        "model.channels": "bgr",
        "model.block_kernel": 1,
        "model.block_padding": 0,
        "losses.k": 4,
        "losses.delta_inclusive": True,
        "training.joint_epochs": 21,
        "training.last_layer_epochs": 9,
        "training.block_weight_decay": 1e-3,
        "training.joint_halve_every": 5,
        "training.persistent_optimizers": True,
        "training.baseline_lr": 5e-4,
        "training.fill": 0,
        "training.selection": "total",
    },
    "demo": _SHORT
    | {
        "data.size": 128,  # small images allow many steps
        "losses.cluster": 0.3,  # selected from 1, 0.3 and 0.1 on validation data: docs/results/demo_choice.json
        "model.backbone_until": "layer2",  # 16 x 16 at 128 px, as the full backbone at 512 px: fits the paper's block
        "training.pretrain_epochs": 14,
        "training.pretrain_halve_every": 5,
    },
    "photo": _SHORT
    | {
        "data.size": 256,
        # Cluster weight and range as in the paper: 66 validation photographs cannot choose among three pairs
        # (docs/results/photo.json)
        "model.backbone_until": "layer3",  # 16 x 16 at 256 px
        "training.pretrain_epochs": 30,
        "training.pretrain_halve_every": 10,
    },
    "smoke": {
        "data.size": 64,
        "data.train_images": 120,
        "data.test_images": 40,
        "data.folds": 3,
        "model.weights": "random",
        "model.block_stride": 1,
        "model.latent_channels": 16,
        "model.prototypes": 10,
        "training.warm_up_epochs": 1,
        "training.joint_epochs": 2,
        "training.last_layer_epochs": 1,
        "training.lr_backbone": 1e-4,
        "training.joint_halve_every": 1,
        "training.pretrain_epochs": 2,
        "training.baseline_epochs": 1,
        "training.batchnorm_images": 30,
    },
}

# What a preset changes in addition for continuous labels.
CONTINUOUS: dict[str, dict[str, Any]] = {
    "released": {"losses.k": 3},  # the code has one configuration file for each kind of labels
}

VARIANTS: dict[str, dict[str, Any]] = {
    "backbone": {},  # regression pre-training from which the other variants start
    "baseline": {},  # ResNet-18 with average pooling and one output
    "insightr": {},
    "log_similarity": {"model.similarity": "log"},  # Table 1, (1a)
    "no_psd": {"losses.psd": 0.0},  # (1b)
    "no_cluster": {"losses.cluster": 0.0},  # (1c)
    "no_cluster_no_psd": {"losses.cluster": 0.0, "losses.psd": 0.0},  # (1d)
    "no_min_k": {"losses.k": 1},  # (1e): the minimum instead of the mean of the k smallest distances
}

REGRESSIONS = ("backbone", "baseline")  # variants without prototypes, trained by the mean squared error alone
