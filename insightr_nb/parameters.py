"""Notebook parameters: one checked dataclass per notebook, with the fields of its parameters cell.

A notebook calls, for example, `Train.from_notebook(globals())` after its parameters cell.
"""

import ast
import dataclasses
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from insightr_nb import files
from insightr_nb.checked import Checked, limits, suggest
from insightr_nb.errors import SettingsError
from insightr_nb.presets import PRESETS, VARIANTS
from insightr_nb.settings import DataSettings, RunSettings, check_known, groups

# "As accurate as" and "similar" in the findings of notebook 06: a difference below a twentieth of a grade (MAE), of the
# images (accuracy), or of the prototypes (sparsity, diversity): one image in twenty is a grade further off, or 2.5 of
# the paper's 50 prototypes differ. The paper gives no margin: it calls differences of up to 0.8 prototypes equal, and
# changes most of 3.8 and more. Fixed here for every data set, so that it cannot follow the results.
MARGIN = 0.05

TABLE_VARIANTS = ("baseline", "log_similarity", "no_psd", "no_cluster", "no_cluster_no_psd", "no_min_k", "insightr")


class Parameters:
    """Base of the parameters of a notebook: a frozen dataclass that validates itself on construction."""

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """Read the parameters from a notebook's `globals()`, after checking those that papermill injected.

        papermill silently accepts a misspelt `-p fodl 2` and injects `fodl = 2` in a cell that begins with
        "# Parameters". Only that cell is checked, so re-running cells in JupyterLab, where other names exist, is
        always allowed.

        Raises SettingsError that names the unknown parameter or the invalid value.
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


@dataclass(frozen=True)
class Prepare(Parameters):
    """Parameters of notebook 01. A setting left None is taken from the preset or the existing store."""

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

    def __post_init__(self) -> None:
        self.settings, self.options  # noqa: B018  (evaluated for validation)

    @cached_property
    def settings(self) -> DataSettings:
        check_known("preset", self.preset, PRESETS)
        apart = {"preset", "data_folder", *(f.name for f in fields(PrepareOptions))}
        given = {name: getattr(self, name) for name in self.names() if name not in apart}
        given = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(groups(self.preset, {})["data"], folder=self.data_folder, **given)

    @cached_property
    def options(self) -> "PrepareOptions":
        return PrepareOptions(self.workers, self.max_rejected, self.overwrite)


@dataclass(frozen=True)
class PrepareOptions(Checked):
    """Options of a preparation that do not change the content of the store."""

    workers: int | None = limits(None, 1)  # number of processes; one per core by default
    max_rejected: float = limits(0.01, 0, 1)  # largest accepted share of unusable images
    overwrite: bool = False


class _OfRun(Parameters):
    """Base of the notebooks about one run."""

    def __post_init__(self) -> None:
        self.settings  # noqa: B018  (checks them)

    @cached_property
    def settings(self) -> RunSettings:
        """The run that the parameters identify; parameters that `RunSettings` does not know are left out."""
        known = inspect.signature(RunSettings.from_parameters).parameters
        return RunSettings.from_parameters(**{name: getattr(self, name) for name in self.names() if name in known})


@dataclass(frozen=True)
class Model(_OfRun):
    """Parameters of notebook 02."""

    preset: str = "demo"


@dataclass(frozen=True)
class Train(_OfRun):
    """Parameters of notebook 03: those of `RunSettings.from_parameters`."""

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


@dataclass(frozen=True)
class _Result(_OfRun, Checked):
    """Base of the notebooks that analyse one finished run: the parameters that identify it."""

    dataset: str = "synthetic"
    name: str | None = None
    preset: str = "demo"
    labels: str = "categorical"
    variant: str = "insightr"
    fold: int = 0
    tag: str | None = None

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        super().__post_init__()


@dataclass(frozen=True)
class Projection(_Result):
    """Parameters of notebook 04."""

    image: str | None = None  # image_id or path of an image to explain
    folder: str | None = None  # folder of images without labels to predict


@dataclass(frozen=True)
class Trust(_Result):
    """Parameters of notebook 08."""

    masks: str | None = None
    image: str | None = None
    images: int = limits(60, 2)  # number of test images to run the model on, and of those with lesions


@dataclass(frozen=True)
class TableSettings(Parameters, Checked):
    """The runs of a table: variants and folds of one data set and preset."""

    dataset: str = "synthetic"
    name: str | None = None
    preset: str = "demo"
    folds: int = limits(5, 1)
    variants: str = ",".join(TABLE_VARIANTS)  # comma-separated names

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("variants", "continuous", "shown"):
            names = self.listed(field)
            if len(set(names)) < len(names) or (field == "variants" and not names):
                raise SettingsError(
                    f"{field} = {getattr(self, field)!r}: must name each variant at most once"
                    + ", and at least one variant" * (field == "variants")
                )
            for name in names:
                if name not in TABLE_VARIANTS:
                    raise SettingsError(
                        f"{field} = {getattr(self, field)!r}: unknown variant {name!r}; "
                        f"{suggest(name, [v for v in VARIANTS if v in TABLE_VARIANTS])}"
                    )
        self.run("baseline", 0)  # validates data set and preset

    def listed(self, field: str) -> list[str]:
        """Return the names in a comma-separated field; "none" gives an empty list."""
        return [n.strip() for n in getattr(self, field, "none").split(",") if n.strip() not in ("", "none")]

    def run(self, variant: str, fold: int, labels: str = "categorical", **given: Any) -> RunSettings:
        """Return the settings of one run of the tables.

        Args:
            variant: Variant of the run.
            fold: Fold of the run.
            labels: "categorical" or "continuous".
            **given: Further parameters of `RunSettings.from_parameters`.
        """
        return RunSettings.from_parameters(
            dataset=self.dataset, name=self.name, preset=self.preset, variant=variant, fold=fold, labels=labels, **given
        )

    def grid(self, variants: Iterable[str], labels: str = "categorical") -> list[RunSettings]:
        """Return the settings of every variant on every fold."""
        return [self.run(variant, fold, labels) for variant in variants for fold in range(self.folds)]

    @property
    def folder(self) -> Path:
        return files.outputs_root() / "tables" / (self.name or self.dataset) / self.preset

    @property
    def title(self) -> str:
        return f"{self.name or self.dataset}, preset {self.preset}"


@dataclass(frozen=True)
class Tables(TableSettings):
    """Parameters of notebook 05."""

    continuous: str = "baseline,insightr"  # rows of the table for continuous labels; "none" omits the table


@dataclass(frozen=True)
class Ablations(TableSettings):
    """Parameters of notebook 06."""

    shown: str = "insightr,no_cluster,no_min_k"  # columns of Figure 3
    fold: int = limits(0, 0)  # fold shown in Figure 3


@dataclass(frozen=True)
class Explore(Parameters, Checked):
    """Parameters of notebook 07."""

    run: str | None = None  # folder of the first run to show
    masks: str | None = None  # folder of lesion masks
    static: bool | None = None  # show static figures; None: only where there cannot be a browser
