"""Every number of a run, in frozen dataclasses.

`RunSettings.from_parameters(preset="paper", fold=2)` makes them of what a user gives. The defaults are the text of
Hesse and Namburete (MICCAI 2022); what departs from them is in `presets`.
"""

import dataclasses
import inspect
import json
from dataclasses import dataclass, fields
from typing import Any

from insightr_nb.checked import Checked, choice, coerce, limits, suggest
from insightr_nb.errors import SettingsError
from insightr_nb.presets import PRESETS, VARIANTS


@dataclass(frozen=True)
class LabelScale:
    """The label range of the user (grades 0 to 4) against the model's own, 1 to 5 (paper, section 3, "Dataset")."""

    minimum: float = 0.0
    maximum: float = 4.0

    @property
    def unit(self) -> float:
        """How much of the user's unit is 1 of the model's; 1.0 for grades 0 to 4."""
        return (self.maximum - self.minimum) / 4.0

    def to_model(self, label):
        return (label - self.minimum) / self.unit + 1.0

    def to_user(self, label):
        return (label - 1.0) * self.unit + self.minimum


CATALOGUED = ("eyepacs", "aptos2019", "idrid", "retinamnist")  # data sets with a layout of their own: data/catalog.py


@dataclass(frozen=True)
class DataSettings(Checked):
    """Which photographs, and how they become square images of `size` pixels. `None` means: as the data set has it."""

    group = "data."
    dataset: str = choice("synthetic", "synthetic", *CATALOGUED, "csv")
    folder: str | None = None  # where the raw images are
    name: str | None = None  # names the prepared store; the data set's own name unless csv
    size: int = limits(256, 32, 4096)  # side of the prepared image in pixels
    recipe_size: int = choice(512, 512, 540)  # the size for which the radii hold: fundus 300 px, mask 270 px
    preparation: str | None = choice(None, "graham", "resize")  # graham, if there is no store yet
    centre: str | None = choice(None, "disc", "image")  # disc, if there is no store yet; image: the published script
    table: str | None = None  # csv: the label table, relative to the folder
    image_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
    split_column: str | None = None  # holds "train" and "test"
    label_min: float | None = None
    label_max: float | None = None
    train_images: int = limits(750, 10)  # synthetic: how many to draw, training and validation parts of all folds
    test_images: int = limits(250, 5)
    seed: int = limits(0, 0)  # of the synthetic images and of the splits, so that folds are the same for every run
    folds: int = limits(5, 2, 50)
    max_train_per_grade: int | None = limits(None, 1)  # 2443, if there is no store yet
    max_test_per_grade: int | None = limits(None, 1)  # 1206
    all_images: bool | None = None  # prepare what is beyond these caps as well, though no part uses it
    split_file: str | None = None  # the JSON of folds that the paper's authors published
    test_split_file: str | None = None  # and that of the test part

    def __post_init__(self):
        super().__post_init__()
        if self.dataset == "csv" and not self.name:
            raise SettingsError("name: a csv data set needs a name for its prepared store, e.g. -p name my_images")
        of_csv = ["table", "label_min", "label_max", *(f.name for f in fields(self) if f.name.endswith("_column"))]
        of_files = ["name", "folder", "split_file", "test_split_file"]
        for names, kinds in ((of_csv, ("csv",)), (of_files, ("csv", *CATALOGUED))):
            for name in names:
                if getattr(self, name) is not None and self.dataset not in kinds:
                    given = "data_folder" if name == "folder" else name
                    raise SettingsError(
                        f"{given} = {getattr(self, name)!r}: only for dataset = {' or '.join(map(repr, kinds))}, "
                        f"not {self.dataset!r}"
                    )
        if self.test_split_file and not self.split_file:
            raise SettingsError(f"test_split_file = {self.test_split_file!r}: needs split_file as well")
        if self.name and not all(c.isalnum() or c in "-_" for c in self.name):
            raise SettingsError(f"name = {self.name!r}: only letters, digits, '-' and '_', since folders are called so")
        if None not in (self.label_min, self.label_max) and not self.label_min < self.label_max:
            raise SettingsError(f"label_min = {self.label_min} must lie below label_max = {self.label_max}")

    @property
    def store_name(self) -> str:
        return self.name or self.dataset


@dataclass(frozen=True)
class ModelSettings(Checked):
    """Backbone f, additional block, prototype layer g_p (paper, section 2)."""

    group = "model."
    backbone: str = "resnet18"  # any convolutional classification network of torchvision
    backbone_until: str | None = None  # its last part, e.g. "layer2": a latent cell sees less of the image; None: whole
    weights: str = "imagenet"  # "random", "imagenet", or a file (.safetensors, .pth, a Lightning .ckpt)
    input_values: str = choice("imagenet", "imagenet", "unit")  # ImageNet mean and deviation, or x / 255
    channels: str = choice("rgb", "rgb", "bgr")
    block_kernel: int = limits(2, 1)  # first convolution of the additional block; chosen for a 9 x 9 latent grid
    block_stride: int = limits(2, 1)
    block_padding: int = limits(1, 0)
    latent_channels: int = limits(128, 1)  # c_z; also d_max, since the latent space is the unit cube
    skip_ground: bool = False  # latent cells that show mostly the grey ground match no prototype
    prototypes: int = limits(50, 2)  # m
    prototype_label_min: float = limits(0.1, 1e-3)  # in the model's 1 to 5
    prototype_label_max: float = 5.9
    similarity: str = choice("inverse", "inverse", "log")
    epsilon: float = limits(1e-4, 1e-12)

    def __post_init__(self):
        super().__post_init__()
        if not self.prototype_label_min < self.prototype_label_max:
            raise SettingsError(
                f"model.prototype_label_max = {self.prototype_label_max}: must lie above "
                f"model.prototype_label_min = {self.prototype_label_min}"
            )


@dataclass(frozen=True)
class LossSettings(Checked):
    """Weights of the losses (alpha) and the parameters of Eq. 3."""

    group = "losses."
    mse: float = limits(1.0, 0)
    cluster: float = limits(1.0, 0)
    psd: float = limits(10.0, 0)
    k: int = limits(3, 1)
    delta: float = limits(0.5, 1e-6)


@dataclass(frozen=True)
class TrainingSettings(Checked):
    """The three-stage protocol, its rates, and the regression trainings (paper, section 3, "Implementation")."""

    group = "training."
    cycles: int = limits(2, 1)
    warm_up_epochs: int = limits(5, 0)  # of the joint epochs of the first cycle: backbone frozen
    joint_epochs: int = limits(20, 1)
    last_layer_epochs: int = limits(10, 1)
    lr_backbone: float = limits(1e-5, 0)
    lr_block: float = limits(1e-3, 0)
    lr_prototypes: float = limits(1e-3, 0)
    lr_last_layer: float = limits(1e-3, 0)
    block_weight_decay: float = limits(0.0, 0)
    joint_halve_every: int = limits(0, 0)  # epochs after which the joint rates halve; 0: constant
    pretrain_epochs: int = limits(30, 0)  # 0: the backbone's weights are used as given
    pretrain_lr: float = limits(5e-4, 0)
    pretrain_halve_every: int = limits(5, 0)
    baseline_epochs: int = limits(30, 1)
    baseline_lr: float = limits(1e-4, 0)
    baseline_halve_every: int = limits(5, 0)
    batch_size: int = limits(30, 1)
    rotation: float = limits(360.0, 0, 360)  # degrees
    scale_min: float = limits(0.9, 0.1)
    scale_max: float = limits(1.1, 0.1)
    fill: int = limits(128, 0, 255)  # grey level of corners that rotation opens; 128 is the mask's ground
    batchnorm_images: int = limits(0, 0)  # training images to re-estimate BatchNorm's statistics with; 0: never
    batchnorm_frozen: bool = False  # BatchNorm's statistics stand still in the joint epochs
    selection: str = choice("mse", "mse", "total")  # validation loss by which the last-layer epochs are compared
    precision: str = choice("auto", "auto", "float32", "bfloat16")  # of training; projection and tests are float32

    def __post_init__(self):
        super().__post_init__()
        if self.warm_up_epochs > self.joint_epochs:
            raise SettingsError(
                f"training.warm_up_epochs = {self.warm_up_epochs}: they are the first of the joint epochs, "
                f"so at most training.joint_epochs = {self.joint_epochs}"
            )
        if self.scale_min > self.scale_max:
            raise SettingsError(f"training.scale_min = {self.scale_min}: above scale_max = {self.scale_max}")


GROUPS = {"data": DataSettings, "model": ModelSettings, "losses": LossSettings, "training": TrainingSettings}

# What the backbone's pre-training depends on: an override of anything else shares the backbone of the preset.
_BACKBONE_FIELDS = {
    "model.backbone",
    "model.backbone_until",
    "model.weights",
    "model.input_values",
    "model.channels",
    "training.batch_size",
} | {
    f"training.{name}"
    for name in ("pretrain_epochs", "pretrain_lr", "pretrain_halve_every", "rotation", "scale_min", "scale_max")
    + ("fill", "batchnorm_images", "precision")
}


@dataclass(frozen=True)
class RunSettings(Checked):
    """One run: a variant trained on one fold. Everything that decides its result is in here."""

    preset: str
    variant: str
    labels: str = choice("categorical", "categorical", "continuous")
    fold: int = limits(0, 0)
    seed: int = limits(0, 0, 2**32 - 1)
    tag: str | None = None
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    losses: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    overwrite: bool = False

    @classmethod
    def from_parameters(
        cls,
        dataset: str = "synthetic",
        data_folder: str | None = None,
        name: str | None = None,
        preset: str = "demo",
        labels: str = "categorical",
        variant: str = "insightr",
        fold: int = 0,
        seed: int = 0,
        device: str = "auto",
        batch_size: int | None = None,
        overrides: dict | str | None = None,
        tag: str | None = None,
        overwrite: bool = False,
        **unknown: Any,
    ) -> "RunSettings":
        """What the parameters of a notebook become.

        `overrides` maps dotted names of settings to values, {"losses.k": 1}; a JSON text is accepted as well. A tag is
        required with it, with a `batch_size` and with a seed other than 0, and ends up in the name of the run's folder.

        Raises SettingsError for an unknown name or a value of the wrong type or out of range; the message names both.
        """
        if unknown:
            name = next(iter(unknown))
            known = list(inspect.signature(cls.from_parameters).parameters)[:-1]
            raise SettingsError(f"unknown parameter {name!r}: {suggest(name, known)}")
        check_known("preset", preset, PRESETS)
        check_known("variant", variant, VARIANTS)
        changes = parse_overrides(overrides)
        if batch_size is not None:
            changes["training.batch_size"] = batch_size
        seed = coerce(seed, int, "seed")
        tag = coerce(tag, str | None, "tag")
        if (seed != 0 or changes) and not tag:
            what = f"seed = {seed}" if seed else ", ".join(f"{k} = {v!r}" for k, v in changes.items())
            raise SettingsError(f"tag: needed because {what} departs from preset {preset!r}; e.g. -p tag my_trial")
        if tag is not None and not (tag.strip(".") and all(c.isalnum() or c in "-_." for c in tag)):
            raise SettingsError(f"tag = {tag!r}: only letters, digits, '.', '-' and '_', since a folder is called so")
        made = groups(preset, VARIANTS[variant] | changes)
        made["data"] = dataclasses.replace(made["data"], dataset=dataset, folder=data_folder, name=name)
        settings = cls(preset, variant, labels, fold, seed, tag, device, **made, overwrite=overwrite)
        if variant == "backbone" and settings.training.pretrain_epochs == 0:
            raise SettingsError("variant = 'backbone' with training.pretrain_epochs = 0: there is nothing to train")
        if settings.fold >= settings.data.folds:
            raise SettingsError(f"fold = {settings.fold}: folds count from 0 to {settings.data.folds - 1}")
        return settings

    @property
    def explains(self) -> bool:
        """Whether the variant has prototypes; the others are trained by the mean squared error alone."""
        return self.variant not in ("backbone", "baseline")

    def backbone_run(self) -> "RunSettings | None":
        """The pre-training whose backbone this run starts from; None if it starts from given weights.

        Variants and sweeps share it, unless they change what the pre-training depends on: then it carries their tag.
        """
        if self.variant == "backbone" or self.training.pretrain_epochs == 0:
            return None
        plain = groups(self.preset, {})
        own = _differences(vars(self), plain, _BACKBONE_FIELDS)  # no variant has any of its own
        same_data = dataclasses.replace(
            plain["data"], dataset=self.data.dataset, folder=self.data.folder, name=self.data.name
        )
        tag = self.tag if own or self.seed or self.data != same_data else None
        made = groups(self.preset, own) | {"data": self.data}
        return dataclasses.replace(self, variant="backbone", tag=tag, **made)

    def steps(self) -> "list[RunSettings]":
        """The runs to make, in order: the backbone's pre-training if it needs one, then this run."""
        backbone = self.backbone_run()
        return [self] if backbone is None else [dataclasses.replace(backbone, overwrite=False), self]

    def changes(self) -> dict[str, Any]:
        """What departs from preset and variant, as `overrides`."""
        names = {f"{group}.{f.name}" for group, kind in GROUPS.items() for f in fields(kind)} - set(_DATA_PARAMETERS)
        return _differences(vars(self), groups(self.preset, VARIANTS[self.variant]), names)

    def as_dict(self) -> dict:
        """Nested plain values, for the manifest; without what does not change the result (device, overwrite)."""
        values = dataclasses.asdict(self)
        for key in ("device", "overwrite"):
            values.pop(key)
        values["data"].pop("folder")
        return values


def _differences(groups: dict[str, Any], plain: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Those of the dotted names whose value in `groups` is not that in `plain`, with the value."""
    pairs = {name: name.split(".") for name in sorted(names)}
    values = {name: (getattr(groups[g], f), getattr(plain[g], f)) for name, (g, f) in pairs.items()}
    return {name: value for name, (value, before) in values.items() if value != before}


def check_known(name: str, value: Any, known: dict[str, Any]) -> None:
    """Raises SettingsError that suggests what may have been meant."""
    if not isinstance(value, str) or value not in known:
        raise SettingsError(f"{name} = {value!r}: {suggest(value, known)}")


_DATA_PARAMETERS = {"data.dataset": "dataset", "data.folder": "data_folder", "data.name": "name"}


def parse_overrides(overrides: dict | str | None) -> dict[str, Any]:
    """Dotted names to values; a JSON text (papermill -p) is parsed. Raises SettingsError for an unknown name."""
    if isinstance(overrides, str):
        try:
            overrides = json.loads(overrides) if overrides.strip() else {}
        except json.JSONDecodeError as error:
            example = '{"losses.k": 1}'
            raise SettingsError(f"overrides = {overrides!r}: not JSON ({error}); e.g. {example}") from None
    if overrides is not None and not isinstance(overrides, dict):
        raise SettingsError(f"overrides = {overrides!r}: must be a mapping such as {{'losses.k': 1}}")
    known = [f"{g}.{f.name}" for g, kind in GROUPS.items() for f in fields(kind)]
    for name in overrides or {}:
        if name in _DATA_PARAMETERS:
            raise SettingsError(f"overrides: {name!r} is not an override; use the parameter {_DATA_PARAMETERS[name]}")
        if name not in known:
            raise SettingsError(f"overrides: unknown setting {name!r}; {suggest(name, known)}")
    return dict(overrides or {})


def groups(preset: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """The groups of settings ("data", "model", "losses", "training") of a preset with overrides."""
    merged = PRESETS[preset] | overrides
    return {
        group: kind(**{name.split(".")[1]: value for name, value in merged.items() if name.split(".")[0] == group})
        for group, kind in GROUPS.items()
    }
