"""The groups of settings of a run, as frozen dataclasses: data, model, losses and training.

The defaults follow the text of Hesse and Namburete (MICCAI 2022); `presets` holds the departures from them. The default
of a setting added later must be the behaviour before it: `manifests.with_defaults` assumes it for older runs.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from insightr_nb.checked import Checked, choice, limits
from insightr_nb.errors import SettingsError

Number = TypeVar("Number", float, np.ndarray)


@dataclass(frozen=True)
class LabelScale:
    """Maps the user's label range (e.g. grades 0 to 4) to the model's, 1 to 5 (paper, section 3, "Dataset")."""

    minimum: float = 0.0
    maximum: float = 4.0

    @property
    def unit(self) -> float:
        """Size of one model unit in the user's units; 1.0 for grades 0 to 4."""
        return (self.maximum - self.minimum) / 4.0

    def to_model(self, label: Number) -> Number:
        return (label - self.minimum) / self.unit + 1.0

    def to_user(self, label: Number) -> Number:
        return (label - 1.0) * self.unit + self.minimum


CATALOGUED = ("eyepacs", "aptos2019", "idrid", "retinamnist")  # data sets with a known layout: data/layouts.py


@dataclass(frozen=True)
class DataSettings(Checked):
    """Selection of the photographs and their preparation as square images of `size` pixels.

    A setting left None takes the value of the data set or of an existing prepared store.
    """

    group = "data."
    dataset: str = choice("synthetic", "synthetic", *CATALOGUED, "csv")
    folder: str | None = None  # folder of the raw images
    name: str | None = None  # name of the prepared store; default: the data set's name (required for csv)
    size: int = limits(256, 32, 4096)  # side of the prepared image in pixels
    recipe_size: int = choice(512, 512, 540)  # size at which the radii apply: fundus 300 px, mask 270 px
    preparation: str | None = choice(None, "graham", "resize")  # graham for a new store
    centre: str | None = choice(None, "disc", "image")  # disc for a new store; image: as in the published script
    table: str | None = None  # csv: the label table, in the folder if the path is relative
    image_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None  # or "from_names"
    split_column: str | None = None  # holds "train" and "test"
    label_min: float | None = None
    label_max: float | None = None
    train_images: int = limits(750, 10)  # synthetic: images to draw for training and validation, over all folds
    test_images: int = limits(250, 5)
    seed: int = limits(0, 0)  # seed of the synthetic images and the splits: every run sees the same folds
    folds: int = limits(5, 2, 50)
    max_train_per_grade: int | None = limits(None, 1)  # 2443 for a new store
    max_test_per_grade: int | None = limits(None, 1)  # 1206 for a new store
    all_images: bool | None = None  # also prepare the images beyond these caps, which no split uses
    split_file: str | None = None  # JSON of the folds, as published by the paper's authors
    test_split_file: str | None = None  # JSON of their test set

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == "csv" and not self.name:
            raise SettingsError(
                "name: required for dataset = 'csv', to name its prepared store; e.g. -p name my_images"
            )
        of_csv = ["table", "label_min", "label_max", *(f.name for f in fields(self) if f.name.endswith("_column"))]
        of_files = ["name", "folder", "split_file", "test_split_file"]
        for names, kinds in ((of_csv, ("csv",)), (of_files, ("csv", *CATALOGUED))):
            for name in names:
                if getattr(self, name) is not None and self.dataset not in kinds:
                    given = "data_folder" if name == "folder" else name
                    raise SettingsError(
                        f"{given} = {getattr(self, name)!r}: only valid for dataset = {' or '.join(map(repr, kinds))}, "
                        f"not {self.dataset!r}"
                    )
        if self.test_split_file and not self.split_file:
            raise SettingsError(f"test_split_file = {self.test_split_file!r}: requires split_file as well")
        if self.name and not all(c.isalnum() or c in "-_" for c in self.name):
            raise SettingsError(
                f"name = {self.name!r}: must consist of letters, digits, '-' and '_': it names a folder"
            )
        if None not in (self.label_min, self.label_max) and not self.label_min < self.label_max:
            raise SettingsError(f"label_min = {self.label_min}: must be less than label_max = {self.label_max}")

    @property
    def store_name(self) -> str:
        return self.name or self.dataset


@dataclass(frozen=True)
class ModelSettings(Checked):
    """Settings of the backbone f, the additional block and the prototype layer g_p (paper, section 2)."""

    group = "model."
    backbone: str = "resnet18"  # any convolutional classification network of torchvision
    backbone_until: str | None = None  # last layer to keep, e.g. "layer2" for smaller receptive fields; None: all
    weights: str = "imagenet"  # "random", "imagenet", or a file (.safetensors, .pth, Lightning .ckpt)
    input_values: str = choice("imagenet", "imagenet", "unit")  # ImageNet mean and standard deviation, or x / 255
    channels: str = choice("rgb", "rgb", "bgr")
    block_kernel: int = limits(2, 1)  # first convolution of the additional block; gives a 9 x 9 latent grid
    block_stride: int = limits(2, 1)
    block_padding: int = limits(1, 0)
    latent_channels: int = limits(128, 1)  # c_z; also d_max, because the latent space is the unit cube
    skip_ground: bool = False  # exclude latent patches that show mostly grey background from matching
    prototypes: int = limits(50, 2)  # m
    prototype_label_min: float = limits(0.1, 1e-3)  # on the model's label scale, 1 to 5
    prototype_label_max: float = 5.9
    similarity: str = choice("inverse", "inverse", "log")
    epsilon: float = limits(1e-4, 1e-12)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prototype_label_min < self.prototype_label_max:
            raise SettingsError(
                f"model.prototype_label_max = {self.prototype_label_max}: must be greater than "
                f"model.prototype_label_min = {self.prototype_label_min}"
            )


@dataclass(frozen=True)
class LossSettings(Checked):
    """Loss weights (alpha) and the parameters of Eq. 3."""

    group = "losses."
    mse: float = limits(1.0, 0)
    cluster: float = limits(1.0, 0)
    psd: float = limits(10.0, 0)
    k: int = limits(3, 1)
    delta: float = limits(0.5, 1e-6)
    delta_inclusive: bool = False  # also count a prototype whose label is exactly delta away


@dataclass(frozen=True)
class TrainingSettings(Checked):
    """Settings of the three-stage protocol, pre-training and the baseline (paper, section 3, "Implementation")."""

    group = "training."
    cycles: int = limits(2, 1)
    warm_up_epochs: int = limits(5, 0)  # first joint epochs of the first cycle, with the backbone frozen
    joint_epochs: int = limits(20, 1)
    last_layer_epochs: int = limits(10, 1)
    lr_backbone: float = limits(1e-5, 0)  # lr_<part>: in the joint and last-layer stages, of that part of the network
    lr_block: float = limits(1e-3, 0)
    lr_prototypes: float = limits(1e-3, 0)
    lr_last_layer: float = limits(1e-3, 0)
    block_weight_decay: float = limits(0.0, 0)
    joint_halve_every: int = limits(0, 0)  # halve the joint learning rates every so many epochs; 0: constant
    persistent_optimizers: bool = False  # keep Adam's moments from one cycle to the next; False: new in every stage
    pretrain_epochs: int = limits(30, 0)  # 0: use the backbone's weights without pre-training
    pretrain_lr: float = limits(5e-4, 0)
    pretrain_halve_every: int = limits(5, 0)
    baseline_epochs: int = limits(30, 1)
    baseline_lr: float = limits(1e-4, 0)
    baseline_halve_every: int = limits(5, 0)
    batch_size: int = limits(30, 1)
    rotation: float = limits(360.0, 0, 360)  # degrees
    scale_min: float = limits(0.9, 0.1)
    scale_max: float = limits(1.1, 0.1)
    fill: int = limits(128, 0, 255)  # grey level of corners exposed by rotation; 128 is the background of the mask
    batchnorm_images: int = limits(0, 0)  # training images for re-estimating the BatchNorm statistics; 0: never
    batchnorm_frozen: bool = False  # keep the BatchNorm statistics fixed in the joint epochs
    selection: str = choice("mse", "mse", "total")  # validation loss that selects among the last-layer epochs
    precision: str = choice("auto", "auto", "float32", "bfloat16")  # for training; projection and tests use float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_up_epochs > self.joint_epochs:
            raise SettingsError(
                f"training.warm_up_epochs = {self.warm_up_epochs}: must be at most training.joint_epochs = "
                f"{self.joint_epochs}, because they are the first joint epochs"
            )
        if self.scale_min > self.scale_max:
            raise SettingsError(
                f"training.scale_min = {self.scale_min}: must be at most training.scale_max = {self.scale_max}"
            )


GROUPS = {"data": DataSettings, "model": ModelSettings, "losses": LossSettings, "training": TrainingSettings}
