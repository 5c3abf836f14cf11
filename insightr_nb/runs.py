"""A run: its folder, its manifest, and its integrity checks.

This module handles paths and files only, not models or data sets.
"""

import contextlib
import platform
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from insightr_nb import files, manifests
from insightr_nb.errors import RunError
from insightr_nb.files import display_path, outputs_root, read_json, write_json
from insightr_nb.settings import RunSettings

if TYPE_CHECKING:
    import pandas


def run_directory(settings: RunSettings) -> Path:
    """Return outputs/runs/<dataset>/<preset>/<labels>/<variant>/fold<k>[-<tag>] for the given settings."""
    fold = f"fold{settings.fold}" + (f"-{settings.tag}" if settings.tag else "")
    return (
        outputs_root() / "runs" / settings.data.store_name / settings.preset / settings.labels / settings.variant / fold
    )


def current_column(name: str) -> str:
    """Return the current name of a column of history.csv; older versions wrote `rate_<part>` for `lr_<part>`."""
    return name.replace("rate_", "lr_", 1) if name.startswith("rate_") else name


@dataclass(frozen=True)
class Run:
    """The folder of a run. `run / name` is the path of one of its files, named as in docs/run_files.md."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def root(self) -> Path:
        """The outputs folder that contains the run; prepared stores are in its `data/`, beside `runs/`."""
        return self.path.resolve().parents[5]

    @property
    def manifest(self) -> dict[str, Any]:
        return read_json(self / "manifest.json")

    @property
    def state(self) -> str:
        """'finished', 'failed', 'running', 'interrupted' or 'missing'.

        A run recorded as running whose process no longer exists is 'interrupted'.
        Raises RunError if the manifest cannot be read.
        """
        if not (self / "manifest.json").exists():
            return "missing"
        manifest = self.manifest
        try:
            if manifest["state"] == "running":
                local = manifest["host"] == platform.node()
                running = manifests.is_alive(manifest) if local else files.is_locked(self.path)
                return "running" if running else "interrupted"
            return manifest["state"]
        except (KeyError, TypeError) as error:
            raise RunError(
                f"{display_path(self / 'manifest.json')} was written by another version: {error} is missing. "
                "Use overwrite=True to replace the run"
            ) from None

    @property
    def is_trained(self) -> bool:
        """Whether training is complete: the model is written and recorded before last.ckpt is removed."""
        if (self / "last.ckpt").exists() or not (self / "manifest.json").exists():
            return False
        return "model.safetensors" in (self.manifest.get("files") or {})

    @property
    def metrics(self) -> dict[str, Any]:
        return read_json(self / "metrics.json")

    @property
    def edited(self) -> dict[str, Any] | None:
        """How `analysis.editing.save` made the run from another; None for a trained run, or without a manifest."""
        return self.manifest.get("edited") if (self / "manifest.json").exists() else None

    def table(self, name: str) -> "pandas.DataFrame":
        """Read predictions.csv, prototypes.csv or history.csv as a DataFrame, with image ids as strings."""
        import pandas  # local: most uses of a run do not need it

        frame = pandas.read_csv(self / name, dtype={"image_id": str}, keep_default_na=False, na_values=[""])
        return frame.rename(columns=current_column)

    def array(self, name: str) -> np.ndarray:
        """Open weights.npy, distances.npy or another array of the run, memory-mapped."""
        return np.load(self / name, mmap_mode="r")

    def require_finished(self) -> "Run":
        """Return this run. Raises RunError with its state and the command to run if it is not finished."""
        if self.state != "finished":
            state = f"has failed: {self.manifest['error']}" if self.state == "failed" else f"is {self.state}"
            raise RunError(f"run {display_path(self.path)} {state}. {self.remedy('Create')}")
        return self

    def require_whole(self, *names: str) -> "Run":
        """Return this run. Raises RunError that names every damaged file, among `names` if given."""
        if problems := self.damage(names):
            raise RunError(
                f"run {display_path(self.path)} is damaged: {'; '.join(problems)}. "
                + self.remedy("Recreate", overwrite=True)
            )
        return self

    def damage(self, names: Iterable[str] = ()) -> list[str]:
        """Compare the files (`names`, or all) with the sizes and SHA-256 in the manifest.

        Returns one message per missing or changed file, or an empty list if all are intact.
        """
        recorded = self.manifest.get("files") or {}
        if not recorded:
            return ["manifest.json lists no files: the run did not finish, or an older version created it"]
        problems = []
        for name in names or recorded:
            path = self / name
            if name not in recorded:
                problems.append(f"{name} is not recorded in the manifest")
            elif not path.is_file():
                problems.append(f"{name} is missing")
            elif path.stat().st_size != recorded[name]["bytes"]:
                problems.append(f"{name} has {path.stat().st_size} bytes instead of {recorded[name]['bytes']}")
            elif files.digest(path) != recorded[name]:
                problems.append(f"{name} has changed since it was written")
        return problems

    def remedy(self, verb: str, overwrite: bool = False) -> str:
        """Return the sentence of an error that says how to create this run.

        Args:
            verb: First word of the sentence, e.g. "Recreate".
            overwrite: Replace the existing run.
        """
        with contextlib.suppress(RunError):  # the manifest itself can be damaged
            if self.edited:
                return f"{verb} it by {self.command()}" + ", after deleting this folder" * overwrite
        return f"{verb} it with: {self.command()}" + " -p overwrite True" * overwrite

    def command(self) -> str:
        """Return the papermill command that creates this run, derived from its folder, manifest and prepared stores.

        No command creates an edited run: for one, the words "editing <original run> and saving it with tag <tag>".
        """
        with contextlib.suppress(RunError):
            if self.edited:
                tag = self.path.name.partition("-")[2]
                return f"editing {self.edited['from']} and saving it with tag {tag!r} (docs/run_files.md)"
        manifest = None
        with contextlib.suppress(RunError):  # without a manifest, the folder and its tag have to do
            manifest = self.manifest
        return manifests.training_command(self.path, manifest)

    def folds(self) -> "list[Run]":
        """Return the finished runs that differ from this one only in the fold, including this one, sorted by folder.

        The folds of an edited run are the edited runs with its tag.
        """
        tag = self.path.name.partition("-")[2]
        evaluated = [Run(path.parent) for path in sorted(self.path.parent.glob("fold*/metrics.json"))]
        tagged = [run for run in evaluated if run.path.name.partition("-")[2] == tag and run.state == "finished"]
        return [run for run in tagged if bool(run.edited) == bool(self.edited)]

    def beside(self, variant: str) -> "Run":
        """Return the run of another variant with the same fold and tag; its folder may not exist."""
        return Run(self.path.parent.parent / variant / self.path.name)

    def sibling(self, variant: str) -> "Run | None":
        """Return the finished run of another variant with the same data, split and settings, or None.

        A run with this run's tag is preferred. An untagged one is used if the tag's overrides do not affect it.
        """
        tagged = self.beside(variant)
        plain = Run(tagged.path.with_name(tagged.path.name.partition("-")[0]))
        return next(
            (
                run
                for run in (tagged, plain)
                if run.state == "finished" and manifests.comparable(self.manifest, run.manifest)
            ),
            None,
        )

    # -- Manifest updates

    def start(self, settings: RunSettings, data: dict[str, str], hardware: dict[str, Any], resumed: bool) -> None:
        """Write the manifest with state 'running'.

        Warns if the epochs to resume from were trained on other hardware, by the last session that saved one.

        Args:
            settings: Settings of the run, recorded in full and as overrides of the preset.
            data: Fingerprints of the prepared store and the split.
            hardware: Description of the machine, recorded for this session.
            resumed: Keep the start time, the elapsed seconds and the sessions of the existing manifest.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        previous = self.manifest if resumed and (self / "manifest.json").exists() else {}
        sessions = manifests.sessions(previous)
        changes = []
        if (self / "last.ckpt").exists():
            saved = datetime.fromtimestamp((self / "last.ckpt").stat().st_mtime, UTC).isoformat(timespec="seconds")
            trained = [session for session in sessions if (session["started"] or "") <= saved]
            changes = manifests.hardware_changes(trained[-1]["hardware"], hardware) if trained else []
        if changes:
            warnings.warn(
                f"{display_path(self.path)} resumes on other hardware: {'; '.join(changes)}. Its results will differ "
                "in rounding from those of an uninterrupted run",
                stacklevel=2,
            )
        write_json(
            self / "manifest.json",
            {
                "state": "running",
                "settings": settings.as_dict(),
                "overrides": settings.changes(),
                "data": data,
                "versions": {name: version(name) for name in ("insightr_nb", "torch", "torchvision", "numpy")}
                | {"python": platform.python_version()},
                "hardware": hardware,
                "sessions": [*sessions, {"started": now, "hardware": hardware}],
                "git": manifests.git_state(),
                "started": previous.get("started") or now,
                "seconds": previous.get("seconds", 0.0),
                "error": None,
            }
            | manifests.this_process(),
        )

    def update(self, **values: Any) -> None:
        write_json(self / "manifest.json", self.manifest | values)

    def record(self) -> None:
        """Record the size and SHA-256 of every file except the manifest, last.ckpt and the figures."""
        written = sorted(p for p in self.path.iterdir() if p.is_file() and not p.name.startswith("."))
        self.update(files={p.name: files.digest(p) for p in written if p.name not in ("manifest.json", "last.ckpt")})

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Add the wall time of the block to the manifest.

        On an exception, records it with state 'failed' ('interrupted' for KeyboardInterrupt) and re-raises it.
        """
        begin = time.monotonic()
        seconds = self.manifest["seconds"]
        self.update(state="running", **manifests.this_process())
        try:
            yield
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            elapsed = round(seconds + time.monotonic() - begin, 1)
            try:
                self.update(state=state, error=f"{type(error).__name__}: {error}", seconds=elapsed)
            except RunError as second:  # e.g. the disk is full: still raise the first error
                error.add_note(f"The failure could not be recorded in manifest.json: {second}")
            raise
        self.update(seconds=round(seconds + time.monotonic() - begin, 1))


def check_same(run: Run, settings: dict[str, Any], data: dict[str, str]) -> None:
    """Check that a run was made with the requested settings and data.

    Args:
        run: The existing run.
        settings: Requested settings, as returned by `RunSettings.as_dict`.
        data: Requested fingerprints of the store and the split.

    Raises:
        RunError: If it was not; lists the first five differences. Also for an edited run, which no settings make.
    """
    if run.edited:
        raise RunError(
            f"run {display_path(run.path)} was made by editing {run.edited['from']}, not by training. Use another tag, "
            "or overwrite=True to replace the run"
        )
    if different := manifests.differences(run.manifest, settings, data):
        raise RunError(
            f"run {display_path(run.path)} was created with different settings: {'; '.join(different[:5])}. "
            "Use another tag, or overwrite=True to replace the run"
        )
