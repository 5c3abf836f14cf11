"""All settings of a run, as frozen dataclasses.

`RunSettings.from_parameters(preset="paper", fold=2)` builds them from user parameters. The defaults follow the text
of Hesse and Namburete (MICCAI 2022); `presets` holds the departures from them.
"""

import dataclasses
import inspect
import json
from dataclasses import dataclass, fields
from typing import Any

from insightr_nb.checked import Checked, choice, coerce, limits, suggest
from insightr_nb.errors import SettingsError
from insightr_nb.presets import PRESETS, REGRESSIONS, VARIANTS


@dataclass(frozen=True)
class LabelScale:
    """Maps the user's label range (e.g. grades 0 to 4) to the model's, 1 to 5 (paper, section 3, "Dataset")."""

    minimum: float = 0.0
    maximum: float = 4.0

    @property
    def unit(self) -> float:
        """Size of one model unit in the user's units; 1.0 for grades 0 to 4."""
        return (self.maximum - self.minimum) / 4.0

    def to_model(self, label):
        return (label - self.minimum) / self.unit + 1.0

    def to_user(self, label):
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
    table: str | None = None  # csv: the label table, relative to the folder
    image_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
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

    def __post_init__(self):
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

    def __post_init__(self):
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


@dataclass(frozen=True)
class TrainingSettings(Checked):
    """Settings of the three-stage protocol, pre-training and the baseline (paper, section 3, "Implementation")."""

    group = "training."
    cycles: int = limits(2, 1)
    warm_up_epochs: int = limits(5, 0)  # first joint epochs of the first cycle, with the backbone frozen
    joint_epochs: int = limits(20, 1)
    last_layer_epochs: int = limits(10, 1)
    lr_backbone: float = limits(1e-5, 0)
    lr_block: float = limits(1e-3, 0)
    lr_prototypes: float = limits(1e-3, 0)
    lr_last_layer: float = limits(1e-3, 0)
    block_weight_decay: float = limits(0.0, 0)
    joint_halve_every: int = limits(0, 0)  # halve the joint learning rates every so many epochs; 0: constant
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

    def __post_init__(self):
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

# Settings that affect the backbone's pre-training. Runs that override only other settings share the preset's backbone.
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
    """Settings of one run, a variant trained on one fold: everything that determines its result."""

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
        """Build the settings of a run from the parameters of a notebook.

        Args:
            dataset: "synthetic", a catalogued data set, or "csv".
            data_folder: Folder of the raw images; not needed if the prepared store exists.
            name: Name of the prepared store; required for "csv".
            preset: Name in `PRESETS`.
            labels: "categorical" or "continuous".
            variant: Name in `VARIANTS`.
            fold: Fold to validate on, counted from 0.
            seed: Seed of the run. A value other than 0 requires a tag.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            batch_size: Override of "training.batch_size"; requires a tag.
            overrides: Maps dotted setting names to values, e.g. {"losses.k": 1}; a JSON string is also accepted.
                Requires a tag.
            tag: Suffix of the name of the run's folder.
            overwrite: Replace an existing run.
            **unknown: Rejected; named in the error.

        Returns:
            The checked settings.

        Raises:
            SettingsError: For an unknown name, or a value of the wrong type or out of range. The message names both.
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
            raise SettingsError(f"tag: required because {what} differs from preset {preset!r}; e.g. -p tag my_trial")
        if tag is not None and not (tag.strip(".") and all(c.isalnum() or c in "-_." for c in tag)):
            raise SettingsError(f"tag = {tag!r}: must consist of letters, digits, '.', '-' and '_': it names a folder")
        given = groups(preset, VARIANTS[variant] | changes)
        given["data"] = dataclasses.replace(given["data"], dataset=dataset, folder=data_folder, name=name)
        settings = cls(preset, variant, labels, fold, seed, tag, device, **given, overwrite=overwrite)
        if variant == "backbone" and settings.training.pretrain_epochs == 0:
            raise SettingsError(
                "variant = 'backbone': training.pretrain_epochs = 0 leaves nothing to train; use at least 1"
            )
        if settings.fold >= settings.data.folds:
            raise SettingsError(f"fold = {settings.fold}: must be from 0 to {settings.data.folds - 1} (data.folds - 1)")
        return settings

    @property
    def explains(self) -> bool:
        """Whether the variant has prototypes; the others are trained with the mean squared error alone."""
        return self.variant not in REGRESSIONS

    def backbone_run(self) -> "RunSettings | None":
        """Return the pre-training run whose backbone this run starts from, or None if there is no pre-training.

        Variants and sweeps share it, unless they change a setting that affects it; it then carries their tag.
        """
        if self.variant == "backbone" or self.training.pretrain_epochs == 0:
            return None
        defaults = groups(self.preset, {})
        overrides = _differences(vars(self), defaults, _BACKBONE_FIELDS)  # no variant changes any of these
        default_data = dataclasses.replace(
            defaults["data"], dataset=self.data.dataset, folder=self.data.folder, name=self.data.name
        )
        tag = self.tag if overrides or self.seed or self.data != default_data else None
        given = groups(self.preset, overrides) | {"data": self.data}
        return dataclasses.replace(self, variant="backbone", tag=tag, **given)

    def steps(self) -> "list[RunSettings]":
        """Return the runs to train, in order: the backbone's pre-training if needed, then this run."""
        backbone = self.backbone_run()
        return [self] if backbone is None else [dataclasses.replace(backbone, overwrite=False), self]

    def changes(self) -> dict[str, Any]:
        """Return the settings that differ from preset and variant, in the form of `overrides`."""
        names = {f"{group}.{f.name}" for group, kind in GROUPS.items() for f in fields(kind)} - set(_DATA_PARAMETERS)
        return _differences(vars(self), groups(self.preset, VARIANTS[self.variant]), names)

    def as_dict(self) -> dict:
        """Return nested plain values for the manifest.

        Omits what does not change the result: device, overwrite and the data folder.
        """
        values = dataclasses.asdict(self)
        for key in ("device", "overwrite"):
            values.pop(key)
        values["data"].pop("folder")
        return values


def _differences(groups: dict[str, Any], defaults: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return {dotted name: value in `groups`} for the names whose value differs from that in `defaults`."""
    pairs = {name: name.split(".") for name in sorted(names)}
    values = {name: (getattr(groups[g], f), getattr(defaults[g], f)) for name, (g, f) in pairs.items()}
    return {name: value for name, (value, default) in values.items() if value != default}


def check_known(name: str, value: Any, known: dict[str, Any]) -> None:
    """Raise SettingsError with a suggestion if `value` is not one of the known names."""
    if not isinstance(value, str) or value not in known:
        raise SettingsError(f"{name} = {value!r}: {suggest(value, known)}")


_DATA_PARAMETERS = {"data.dataset": "dataset", "data.folder": "data_folder", "data.name": "name"}


def parse_overrides(overrides: dict | str | None) -> dict[str, Any]:
    """Return overrides as {dotted name: value}, parsing a JSON string (papermill -p).

    Raises SettingsError for invalid JSON, another type, or an unknown name.
    """
    if isinstance(overrides, str):
        try:
            overrides = json.loads(overrides) if overrides.strip() else {}
        except json.JSONDecodeError as error:
            example = '{"losses.k": 1}'
            raise SettingsError(f"overrides = {overrides!r}: not valid JSON ({error}); e.g. {example}") from None
    if overrides is not None and not isinstance(overrides, dict):
        raise SettingsError(f"overrides = {overrides!r}: must be a mapping such as {{'losses.k': 1}}")
    known = [f"{g}.{f.name}" for g, kind in GROUPS.items() for f in fields(kind)]
    for name in overrides or {}:
        if name in _DATA_PARAMETERS:
            raise SettingsError(f"overrides: {name!r} cannot be overridden; use the parameter {_DATA_PARAMETERS[name]}")
        if name not in known:
            raise SettingsError(f"overrides: unknown setting {name!r}; {suggest(name, known)}")
    return dict(overrides or {})


def groups(preset: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the settings groups ("data", "model", "losses", "training") of a preset with overrides applied."""
    merged = PRESETS[preset] | overrides
    return {
        group: kind(**{name.split(".")[1]: value for name, value in merged.items() if name.split(".")[0] == group})
        for group, kind in GROUPS.items()
    }
