"""Where files live, how they are written, and the manifest of a run. Knows paths and files, not models or data sets."""

import contextlib
import csv
import hashlib
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from insightr_nb.errors import RunError
from insightr_nb.settings import CATALOGUED

_PROJECT = Path(__file__).resolve().parents[1]


def outputs_root() -> Path:
    """Where everything is written: $INSIGHTR_OUTPUTS, or `outputs/` of the project, or of the working folder."""
    if given := os.environ.get("INSIGHTR_OUTPUTS"):
        return Path(given)
    return (_PROJECT if (_PROJECT / "notebooks").is_dir() else Path.cwd()) / "outputs"


def shown(path: Path) -> str:
    """A path as a person wants to read it: relative to the working folder or the project where it can be."""
    for base in (Path.cwd(), outputs_root().resolve().parent):
        with contextlib.suppress(ValueError):
            return str(path.resolve().relative_to(base))
    return str(path)


def run_directory(settings) -> Path:
    """outputs/runs/<dataset>/<preset>/<labels>/<variant>/fold<k>[-<tag>] of a RunSettings."""
    fold = f"fold{settings.fold}" + (f"-{settings.tag}" if settings.tag else "")
    return (
        outputs_root() / "runs" / settings.data.store_name / settings.preset / settings.labels / settings.variant / fold
    )


# -- files that are whole or absent -----------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic(path: Path):
    """Yields a temporary path beside `path`; on success it is flushed to the disk and takes the place of `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises RunError that names the file when it is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{shown(Path(path))} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{shown(Path(path))} is damaged: {error}") from None


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_array(path: Path, array: np.ndarray) -> None:
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)


def fingerprint(*parts: bytes | str) -> str:
    """First 16 hexadecimal digits of a SHA-256 over the parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


# -- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run's folder, and its files by the names of design and README."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def manifest(self) -> dict[str, Any]:
        return read_json(self / "manifest.json")

    @property
    def state(self) -> str:
        """'finished', 'failed', 'running', 'interrupted' (says running, but its process is gone) or 'missing'."""
        if not (self / "manifest.json").exists():
            return "missing"
        manifest = self.manifest
        if manifest["state"] == "running" and manifest["host"] == platform.node() and not _alive(manifest["pid"]):
            return "interrupted"
        return manifest["state"]

    @property
    def metrics(self) -> dict[str, Any]:
        return read_json(self / "metrics.json")

    def table(self, name: str):
        """predictions.csv, prototypes.csv or history.csv as a DataFrame; ids stay text."""
        import pandas

        return pandas.read_csv(self / name, dtype={"image_id": str}, keep_default_na=False, na_values=[""])

    def array(self, name: str) -> np.ndarray:
        """weights.npy, distances.npy, ... memory-mapped."""
        return np.load(self / name, mmap_mode="r")

    def require_finished(self) -> "Run":
        """This run, or a RunError that says in which state it is and which command finishes it."""
        if self.state != "finished":
            detail = f": {self.manifest['error']}" if self.state == "failed" else ""
            raise RunError(f"run {shown(self.path)} is {self.state}{detail}. Make it with: {self.command()}")
        return self

    def command(self) -> str:
        """The papermill command that makes this run, as far as its folder and the prepared stores tell."""
        dataset, preset, labels, variant, fold = self.path.parts[-5:]
        number, _, tag = fold.removeprefix("fold").partition("-")
        given = {"dataset": dataset, "preset": preset, "labels": labels, "variant": variant, "fold": number, "tag": tag}
        usual = {"dataset": "synthetic", "preset": "demo", "labels": "categorical", "variant": "insightr", "tag": ""}
        stores = sorted(outputs_root().glob(f"data/{dataset}-*/meta.json"))  # they know which data set the name means
        catalogued = dataset in ("synthetic", *CATALOGUED)
        kind = read_json(stores[0])["settings"]["dataset"] if stores else dataset if catalogued else "csv"
        if kind != dataset:
            given = {"dataset": kind, "name": dataset} | {k: v for k, v in given.items() if k != "dataset"}
        options = " ".join(f"-p {k} {v}" for k, v in given.items() if usual.get(k) != v)
        return f"papermill notebooks/03_train.ipynb out.ipynb {options}"

    # -- writing the manifest

    def start(self, settings: dict, data: dict[str, str], hardware: dict[str, Any], resumed: bool) -> None:
        """Write the manifest with state 'running'; a resumed run keeps the time it already took."""
        before = self.manifest if resumed and (self / "manifest.json").exists() else {}
        write_json(
            self / "manifest.json",
            {
                "state": "running",
                "settings": settings,
                "data": data,
                "versions": {name: version(name) for name in ("insightr_nb", "torch", "torchvision", "numpy")}
                | {"python": platform.python_version()},
                "hardware": hardware,
                "git": _git(),
                "host": platform.node(),
                "pid": os.getpid(),
                "started": before.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": before.get("seconds", 0.0),
                "error": None,
            },
        )

    def update(self, **values: Any) -> None:
        write_json(self / "manifest.json", self.manifest | values)

    @contextlib.contextmanager
    def working(self):
        """Adds the wall time to the manifest; an exception is written into it as state 'failed' and goes on up."""
        begin = time.monotonic()
        seconds = self.manifest["seconds"]
        try:
            yield
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            took = round(seconds + time.monotonic() - begin, 1)
            self.update(state=state, error=f"{type(error).__name__}: {error}", seconds=took)
            raise
        self.update(seconds=round(seconds + time.monotonic() - begin, 1))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _git() -> dict[str, Any]:
    def ask(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(_PROJECT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit = ask("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(ask("status", "--porcelain")) if commit else None}
    except FileNotFoundError:  # no git on this machine
        return {"commit": None, "changed": None}
