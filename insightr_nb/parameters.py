"""What the parameters cell of a notebook becomes: one class a notebook, checked as a whole.

A notebook calls `Train.from_notebook(globals())` after its parameters cell; each class has the fields of its notebook.
"""

import ast
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from insightr_nb import files
from insightr_nb.checked import Checked, coerce, limits, suggest
from insightr_nb.errors import SettingsError
from insightr_nb.presets import PRESETS, VARIANTS
from insightr_nb.settings import DataSettings, RunSettings, check_known, groups

TABLE_VARIANTS = ("baseline", "log_similarity", "no_psd", "no_cluster", "no_cluster_no_psd", "no_min_k", "insightr")


class Parameters:
    """The parameters of a notebook: a frozen dataclass that checks itself when it is made."""

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """The parameters of the notebook whose `globals()` these are, after a check of what papermill injected.

        papermill accepts a misspelt `-p fodl 2` in silence: it puts `fodl = 2` into a cell of its own, which begins
        with "# Parameters". Only that cell is checked, so re-running cells in JupyterLab, where other names exist, is
        never refused.

        Raises SettingsError that names the unknown parameter, or the value that cannot be used.
        """
        names = cls.names()
        cells = [c for c in namespace.get("In", []) if isinstance(c, str) and c.startswith("# Parameters\n")]
        for statement in ast.parse(cells[-1]).body if cells else []:
            for target in getattr(statement, "targets", []):
                if target.id not in names:
                    raise SettingsError(f"unknown parameter {target.id!r}: {suggest(target.id, names)}")
        return cls(**{name: namespace[name] for name in names if name in namespace})

    @classmethod
    def names(cls) -> list[str]:
        return [f.name for f in fields(cls)]

    def _values(self, *left_out: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.names() if name not in left_out}


@dataclass(frozen=True)
class Prepare(Parameters):
    """Notebook 01. A preparation left None is the preset's, or that of the store that is there."""

    dataset: str = "synthetic"
    data_folder: str | None = None
    name: str | None = None
    preset: str = "demo"
    table: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
    split_column: str | None = None
    label_min: float | None = None
    label_max: float | None = None
    size: int | None = None
    preparation: str | None = None
    centre: str | None = None
    max_train_per_grade: int | None = None
    max_test_per_grade: int | None = None
    all_images: bool | None = None
    split_file: str | None = None
    test_split_file: str | None = None
    workers: int | None = None
    max_rejected: float = 0.01
    overwrite: bool = False

    def __post_init__(self):
        self.settings, self.options  # noqa: B018  (checks them)

    @cached_property
    def settings(self) -> DataSettings:
        check_known("preset", self.preset, PRESETS)
        given = self._values("preset", "data_folder", *(f.name for f in fields(PrepareOptions)))
        given = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(groups(self.preset, {})["data"], folder=self.data_folder, **given)

    @cached_property
    def options(self) -> "PrepareOptions":
        return PrepareOptions(self.workers, self.max_rejected, self.overwrite)


@dataclass(frozen=True)
class PrepareOptions(Checked):
    """How to prepare a store; nothing of it changes what is in the store."""

    workers: int | None = limits(None, 1)  # processes; one a core by default
    max_rejected: float = limits(0.01, 0, 1)  # share of unusable images that is still accepted
    overwrite: bool = False


@dataclass(frozen=True)
class Model(Parameters):
    """Notebook 02."""

    preset: str = "demo"

    def __post_init__(self):
        self.settings  # noqa: B018

    @cached_property
    def settings(self) -> RunSettings:
        return RunSettings.from_parameters(preset=self.preset)


@dataclass(frozen=True)
class Train(Parameters):
    """Notebook 03: the parameters of `RunSettings.from_parameters`."""

    dataset: str = "synthetic"
    data_folder: str | None = None
    name: str | None = None
    preset: str = "demo"
    labels: str = "categorical"
    variant: str = "insightr"
    fold: int = 0
    seed: int = 0
    device: str = "auto"
    batch_size: int | None = None
    overrides: dict | str | None = None
    tag: str | None = None
    overwrite: bool = False

    def __post_init__(self):
        self.settings  # noqa: B018

    @cached_property
    def settings(self) -> RunSettings:
        return RunSettings.from_parameters(**self._values())


@dataclass(frozen=True)
class _Result(Parameters):
    """Which finished run to look at."""

    dataset: str = "synthetic"
    name: str | None = None
    preset: str = "demo"
    labels: str = "categorical"
    variant: str = "insightr"
    fold: int = 0
    tag: str | None = None

    def __post_init__(self):
        self.settings  # noqa: B018

    @cached_property
    def settings(self) -> RunSettings:
        own = {f.name for f in fields(self)} - {f.name for f in fields(_Result)}
        return RunSettings.from_parameters(**self._values(*own))


@dataclass(frozen=True)
class Projection(_Result):
    """Notebook 04."""

    image: str | None = None  # image_id or path of an image to explain


@dataclass(frozen=True)
class Trust(_Result):
    """Notebook 08."""

    masks: str | None = None
    image: str | None = None
    images: int = 60  # test images for deletion and stability

    def __post_init__(self):
        super().__post_init__()
        images = coerce(self.images, int, "images")
        if images < 2:
            raise SettingsError(f"images = {images}: at least 2")
        object.__setattr__(self, "images", images)


@dataclass(frozen=True)
class TableSettings(Parameters, Checked):
    """Which runs a table is made of: variants on folds of one data set and preset."""

    dataset: str = "synthetic"
    name: str | None = None
    preset: str = "demo"
    folds: int = limits(5, 1)
    variants: str = ",".join(TABLE_VARIANTS)  # names with commas between

    def __post_init__(self):
        super().__post_init__()
        for field in ("variants", "continuous", "shown"):
            names = self.listed(field)
            if len(set(names)) < len(names) or (field == "variants" and not names):
                raise SettingsError(f"{field} = {getattr(self, field)!r}: names each once"
                                    + ", and at least one" * (field == "variants"))  # fmt: skip
            for name in names:
                if name not in TABLE_VARIANTS:
                    raise SettingsError(f"{field} = {getattr(self, field)!r}: unknown variant {name!r}; "
                                        f"{suggest(name, [v for v in VARIANTS if v in TABLE_VARIANTS])}")  # fmt: skip
        self.run("baseline", 0)  # checks data set and preset

    def listed(self, field: str) -> list[str]:
        """The names in a field that has them with commas between; "none" for no name."""
        return [n.strip() for n in getattr(self, field, "none").split(",") if n.strip() not in ("", "none")]

    def run(self, variant: str, fold: int, labels: str = "categorical", **given) -> RunSettings:
        return RunSettings.from_parameters(dataset=self.dataset, name=self.name, preset=self.preset, variant=variant,
                                           fold=fold, labels=labels, **given)  # fmt: skip

    def grid(self, variants: Iterable[str], labels: str = "categorical") -> list[RunSettings]:
        """Every variant on every fold."""
        return [self.run(variant, fold, labels) for variant in variants for fold in range(self.folds)]

    @property
    def folder(self) -> Path:
        return files.outputs_root() / "tables" / (self.name or self.dataset) / self.preset

    @property
    def title(self) -> str:
        return f"{self.name or self.dataset}, preset {self.preset}"


@dataclass(frozen=True)
class Tables(TableSettings):
    """Notebook 05."""

    continuous: str = "baseline,insightr"  # rows of the table with continuous labels; "none" for no such table


@dataclass(frozen=True)
class Ablations(TableSettings):
    """Notebook 06."""

    shown: str = "insightr,no_cluster,no_min_k"  # columns of Figure 3
    fold: int = limits(0, 0)  # of Figure 3


@dataclass(frozen=True)
class Explore(Parameters, Checked):
    """Notebook 07."""

    run: str | None = None  # folder of the run to show first
    static: bool | None = None  # whether to show static figures; None: where no browser can be there
