"""Atomic file writes, folder locks, checksums, and JSON and CSV helpers whose errors name the file."""

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

WAIT = 20  # seconds to wait for a lock; a kernel outlives a killed papermill by about one second
PROJECT = Path(__file__).resolve().parents[1]


def outputs_root() -> Path:
    """Return the root of all outputs: $INSIGHTR_OUTPUTS, else `outputs/` in the project or the working folder."""
    if given := os.environ.get("INSIGHTR_OUTPUTS"):
        return given_path(given)
    return (PROJECT if (PROJECT / "notebooks").is_dir() else Path.cwd()) / "outputs"


def given_path(text: str | Path) -> Path:
    """Convert a user's path, expanding `~` to the home folder even if no shell has done so."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~name` without such a user: treat it as a literal file name
        return Path(text)


def display_path(path: Path) -> str:
    """Format a path for display, relative to the working folder or the project if it lies in one of them."""
    for base in (Path.cwd(), outputs_root().resolve().parent):
        with contextlib.suppress(ValueError):
            return str(path.resolve().relative_to(base))
    return str(path)


def listing(folder: Path, most: int = 20) -> str:
    """List the files under a folder with their sizes, one per line.

    A subfolder with more than `most` files is one line. Hidden files are left out.
    """
    lines = []
    for path in sorted(folder.iterdir()):
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        if path.name.startswith("."):
            continue
        if len(inside) > most:
            size = sum(p.stat().st_size for p in inside)
            lines.append(f"{size / 1e6:9.3f} MB  {display_path(path)}/ ({len(inside)} files)")
        else:
            lines += [f"{p.stat().st_size / 1e6:9.3f} MB  {display_path(p)}" for p in inside]
    return "\n".join(lines)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. On success, it is flushed to disk and replaces `path`.

    Raises RunError with the file and the reason if writing fails. `path` is then unchanged.
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
        raise RunError(
            f"{display_path(path)} could not be written: {error.strerror or error}{_free(path)}. The previous file, if "
            "any, is intact. Fix the problem and rerun the same command"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _free(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f" ({shutil.disk_usage(path.parent).free / 1e9:.1f} GB free)"
    return ""


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder `path`. A second process waits up to `WAIT` seconds.

    Raises RunError that names the process holding the lock, or the reason the folder is not writable.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    holder = path.with_name(f".{path.name}.holder.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{display_path(path)} is in use by another process; waiting up to {WAIT} s for it to finish", flush=True)
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            recorded = read_json(holder) if holder.exists() else {}
            pid, host, since = (recorded.get(name, "(unknown)") for name in ("pid", "host", "since"))
            raise RunError(
                f"{display_path(path)} is in use by process {pid} on {host} since {since}. Wait until it has finished, "
                "then rerun the same command, which resumes its work or reuses its result"
            ) from None
    except OSError as error:
        raise RunError(
            f"{path} cannot be written to: {error.strerror or error}. Fix the problem, or set INSIGHTR_OUTPUTS to "
            "another folder"
        ) from error
    try:
        for leftover in (*path.glob(".*.tmp"), *path.parent.glob(f".{holder.name}.*.tmp")):  # of a killed writer
            leftover.unlink()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(holder, {"pid": os.getpid(), "host": platform.node(), "since": now})
        yield
        holder.unlink(missing_ok=True)
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the `exclusive_lock` of the folder `path`; True if the lock cannot be tested."""
    name = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(name, timeout=0) if name.exists() else contextlib.nullcontext():
            return False
    except (Timeout, OSError):
        return True


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `folder` on success and removed on failure.

    Raises RunError if it cannot be written, or if `folder` already exists and is not empty.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rmdir()  # only if empty
        temporary.rename(folder)
    except OSError as error:
        raise RunError(
            f"{display_path(folder)} could not be written: {error.strerror or error}{_free(folder)}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def json_text(content: Any, indent: int | None = 2) -> str:
    """Format content as JSON text with a final newline."""
    return json.dumps(content, indent=indent, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write JSON atomically; the keys keep their order. `indent` None writes one line."""
    with atomic(path) as temporary:
        temporary.write_text(json_text(content, indent), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises RunError that names the file if it is missing, unreadable or invalid JSON."""
    try:
        return parse_json(Path(path).read_bytes(), path)
    except FileNotFoundError:
        raise RunError(f"{display_path(Path(path))} is missing") from None
    except OSError as error:
        raise RunError(f"{display_path(Path(path))} cannot be read: {error.strerror}") from error


def parse_json(content: bytes, path: Path) -> Any:
    """Parse UTF-8 JSON read from `path`. Raises RunError that names `path` if the content is invalid."""
    try:
        return json.loads(content.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{display_path(Path(path))} is damaged: {error}") from None


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_array(path: Path, array: np.ndarray) -> None:
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)


def check_zip(path: Path) -> None:
    """Verify the CRC checksums of a zip file, which torch.load ignores.

    Records without a checksum are skipped; torch.save can be configured to omit them. Raises BadZipFile.
    """
    with zipfile.ZipFile(path) as content:
        for record in content.infolist():
            if record.CRC:
                with content.open(record) as file:
                    while file.read(2**20):
                        pass


def stand_in(head: bytes) -> str:
    """End of an error message about a file that is a Git LFS pointer or a web page; empty if it is neither.

    head: the first bytes of the file.
    """
    head = head[:200].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "; it is a Git LFS pointer: fetch the file itself with git lfs pull"
    if head.startswith((b"<!doctype html", b"<html")):
        return "; it is a web page, such as a login page in place of the download"
    return ""


def fingerprint(*parts: bytes | str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the parts, each followed by a NUL byte."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def digest(path: Path) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file."""
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
