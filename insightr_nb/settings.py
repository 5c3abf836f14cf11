"""All settings of a run, and how they are built from user parameters.

`RunSettings.from_parameters(preset="paper", fold=2)` starts from a preset and a variant, and applies the overrides.
"""

import dataclasses
import inspect
import json
from dataclasses import dataclass, fields
from typing import Any

from insightr_nb.checked import Checked, choice, coerce, limits, suggest
from insightr_nb.errors import SettingsError
from insightr_nb.presets import CONTINUOUS, PRESETS, REGRESSIONS, VARIANTS
from insightr_nb.setting_groups import (
    CATALOGUED,
    GROUPS,
    DataSettings,
    LabelScale,
    LossSettings,
    ModelSettings,
    TrainingSettings,
)

__all__ = [
    "CATALOGUED",
    "GROUPS",
    "DataSettings",
    "LabelScale",
    "LossSettings",
    "ModelSettings",
    "RunSettings",
    "TrainingSettings",
    "check_known",
    "check_tag",
    "groups",
    "parse_overrides",
]

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
        if tag is not None:
            check_tag(tag)
        if (seed != 0 or changes) and not tag:
            what = f"seed = {seed}" if seed else ", ".join(f"{k} = {v!r}" for k, v in changes.items())
            raise SettingsError(f"tag: required because {what} differs from preset {preset!r}; e.g. -p tag my_trial")
        given = groups(preset, VARIANTS[variant] | changes, labels)
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
        defaults = groups(self.preset, {}, self.labels)
        overrides = _differences(vars(self), defaults, _BACKBONE_FIELDS)  # no variant changes any of these
        default_data = dataclasses.replace(
            defaults["data"], dataset=self.data.dataset, folder=self.data.folder, name=self.data.name
        )
        tag = self.tag if overrides or self.seed or self.data != default_data else None
        given = groups(self.preset, overrides, self.labels) | {"data": self.data}
        return dataclasses.replace(self, variant="backbone", tag=tag, **given)

    def steps(self) -> "list[RunSettings]":
        """Return the runs to train, in order: the backbone's pre-training if needed, then this run."""
        backbone = self.backbone_run()
        return [self] if backbone is None else [dataclasses.replace(backbone, overwrite=False), self]

    def changes(self) -> dict[str, Any]:
        """Return the settings that differ from preset and variant, in the form of `overrides`."""
        names = {f"{group}.{f.name}" for group, kind in GROUPS.items() for f in fields(kind)} - set(_DATA_PARAMETERS)
        return _differences(vars(self), groups(self.preset, VARIANTS[self.variant], self.labels), names)

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


def check_tag(tag: Any) -> None:
    """Raise SettingsError for a tag that cannot be the end of a folder's name."""
    tag = coerce(tag, str, "tag")
    if not (tag.strip(".") and all(c.isalnum() or c in "-_." for c in tag)):
        raise SettingsError(f"tag = {tag!r}: must consist of letters, digits, '.', '-' and '_': it names a folder")


def check_known(name: str, value: Any, known: dict[str, Any]) -> None:
    """Check that a value is one of the known names.

    Args:
        name: Name of the parameter, for the error.
        value: Value to check.
        known: Known names, as keys.

    Raises:
        SettingsError: If it is not; suggests the nearest name.
    """
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


def groups(preset: str, overrides: dict[str, Any], labels: str = "categorical") -> dict[str, Any]:
    """Return the settings groups ("data", "model", "losses", "training") of a preset with overrides applied."""
    merged = PRESETS[preset] | (CONTINUOUS.get(preset, {}) if labels == "continuous" else {}) | overrides
    return {
        group: kind(**{name.split(".")[1]: value for name, value in merged.items() if name.split(".")[0] == group})
        for group, kind in GROUPS.items()
    }
