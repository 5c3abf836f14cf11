"""Files that are whole or absent, one writer at a time, and errors that name the file."""

import contextlib
import csv
import hashlib
import json
import os
import platform
import shutil
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from insightr_nb.errors import RunError

WAIT = 20  # seconds: a kernel outlives a killed papermill by about one
_PROJECT = Path(__file__).resolve().parents[1]


def outputs_root() -> Path:
    """Where everything is written: $INSIGHTR_OUTPUTS, or `outputs/` of the project, or of the working folder."""
    if given := os.environ.get("INSIGHTR_OUTPUTS"):
        return given_path(given)
    return (_PROJECT if (_PROJECT / "notebooks").is_dir() else Path.cwd()) / "outputs"


def given_path(text: str | Path) -> Path:
    """A path as a user gives it: `~` is the home folder, also where no shell has seen it."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~name, and nobody is called so: a file that is
        return Path(text)


def shown(path: Path) -> str:
    """A path as a person wants to read it: relative to the working folder or the project where it can be."""
    for base in (Path.cwd(), outputs_root().resolve().parent):
        with contextlib.suppress(ValueError):
            return str(path.resolve().relative_to(base))
    return str(path)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed to the disk and takes the place of `path`.

    Raises RunError that names the file and the reason when it cannot be written; then `path` is as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{shown(path)} could not be written: {error.strerror or error}{_free(path)}. What was there "
                       "before is whole; mend it and give the same command again") from error  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _free(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f" ({shutil.disk_usage(path.parent).free / 1e9:.1f} GB free)"
    return ""


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time works on the folder `path`. Another waits for a moment, then gives up.

    Raises RunError that says which process holds the folder, or why nothing can be written there.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    holder = path.with_name(f".{path.name}.holder.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{shown(path)} is in use by another process; waiting {WAIT} s for its end", flush=True)
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            who = read_json(holder) if holder.exists() else {}
            raise RunError(
                f"{shown(path)} is in use by process {who.get('pid', '(unknown)')} on {who.get('host', '(unknown)')} "
                f"since {who.get('since', '(unknown)')}. When it has ended, the same command goes on or finds it done"
            ) from None
    except OSError as error:
        raise RunError(f"{path} cannot be written to: {error.strerror or error}. Mend it, or set "
                       "INSIGHTR_OUTPUTS to another folder") from error  # fmt: skip
    try:
        for left in (*path.glob(".*.tmp"), *path.parent.glob(f".{holder.name}.*.tmp")):  # of a writer that was killed
            left.unlink()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(holder, {"pid": os.getpid(), "host": platform.node(), "since": now})
        yield
        holder.unlink(missing_ok=True)
    finally:
        lock.release()


def held(path: Path) -> bool:
    """Whether some process works on the folder `path` (within `alone`), as far as can be told."""
    name = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(name, timeout=0) if name.exists() else contextlib.nullcontext():
            return False
    except (Timeout, OSError):
        return True


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `folder`, which takes its name on success and is removed on failure."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rmdir()  # only if empty
        temporary.rename(folder)
    except OSError as error:
        raise RunError(f"{shown(folder)} could not be written: {error.strerror or error}{_free(folder)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def json_text(content: Any, indent: int | None = 2) -> str:
    return json.dumps(content, indent=indent, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json_text(content, indent), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises RunError that names the file when it is missing, cannot be read, or is no JSON."""
    try:
        return parse_json(Path(path).read_bytes(), path)
    except FileNotFoundError:
        raise RunError(f"{shown(Path(path))} is missing") from None
    except OSError as error:
        raise RunError(f"{shown(Path(path))} cannot be read: {error.strerror}") from error


def parse_json(content: bytes, path: Path) -> Any:
    """Raises RunError that names the file that the content is of when it is no JSON."""
    try:
        return json.loads(content.decode("utf-8"))
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


def check_zip(path: Path) -> None:
    """Compare what a zip file holds with its checksums, which torch.load does not look at.

    Raises BadZipFile. A record without a checksum, as torch.save can be told to write it, is not looked at.
    """
    with zipfile.ZipFile(path) as content:
        for record in content.infolist():
            if record.CRC:
                with content.open(record) as file:
                    while file.read(2**20):
                        pass


def fingerprint(*parts: bytes | str) -> str:
    """First 16 hexadecimal digits of a SHA-256 over the parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def digest(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
