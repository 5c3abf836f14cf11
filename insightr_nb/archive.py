"""Verify a run, export it as a self-contained zip, and load such a zip."""

import dataclasses
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from insightr_nb import files
from insightr_nb.data import splits
from insightr_nb.data.display import write_pictures
from insightr_nb.data.folds import fold_split
from insightr_nb.data.store import open_store, store_path
from insightr_nb.errors import InsightrError, RunError
from insightr_nb.files import display_path, outputs_root, read_json, write_json
from insightr_nb.manifests import differences, settings_today
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

_CONTENTS = "contents.json"


def verify(path: Run | Path | str) -> list[str]:
    """Check the state, files, settings, data and split of a run.

    Compares every file with the size and SHA-256 in the manifest, the settings with those that the current presets
    give for the recorded preset, variant and overrides, and data and split with the current prepared store.

    Returns one message per problem, or an empty list if the run is consistent.
    """
    run = path if isinstance(path, Run) else Run(Path(path))
    try:
        if run.state != "finished":
            return [f"the run is {run.state}"]
        manifest = run.manifest
        problems = run.damage()
        settings = settings_today(manifest)
        problems += differences(manifest, settings.as_dict(), {})
        store = open_store(store_path(settings.data, run.root))
        store.check()
        fingerprints = {"store": store.fingerprint}
        if not store.partial:
            fingerprints["split"] = fold_split(store, settings.data, settings.fold).fingerprint
        problems += differences(manifest, {}, fingerprints)
    except (InsightrError, KeyError) as error:
        problems = [*locals().get("problems", []), str(error)]
    return problems


def export(path: Run | Path | str, archive: Path | str, test_images: int = 500) -> Path:
    """Export a finished run as a zip that `load` can open on another machine.

    The zip holds the files of the run and the images needed to explore it, at the network's size and at display size:
    the source images of the prototypes and a sample of the test set.

    Args:
        path: The run or its folder.
        archive: Path of the zip file to write.
        test_images: Number of test images to include, evenly spaced over the sorted predictions.

    Returns:
        The path of the zip file.

    Raises:
        RunError: If the run is unfinished or damaged, or its data were prepared again after training.
    """
    run = path if isinstance(path, Run) else Run(Path(path))
    run.require_finished().require_whole()
    settings = run.manifest["settings"]
    data = RunSettings.from_parameters(
        dataset=settings["data"]["dataset"], name=settings["data"]["name"], preset=settings["preset"]
    ).data
    store = open_store(store_path(dataclasses.replace(data, size=settings["data"]["size"]), run.root))
    if changed := differences(run.manifest, {}, {"store": store.fingerprint}):
        raise RunError(
            f"run {display_path(run.path)} was trained on different data than {display_path(store.path)} contains: "
            f"{changed[0]}. {run.remedy('Retrain', overwrite=True)}"
        )
    shown_images = run.table("predictions.csv").sort_values("prediction", kind="stable")["image_id"].to_numpy()
    chosen = set(shown_images[splits.evenly_spaced(len(shown_images), test_images)])
    if (run / "prototypes.csv").exists():
        chosen |= set(run.table("prototypes.csv")["image_id"])
    rows = np.flatnonzero(store.table["image_id"].isin(chosen))
    content = {
        f"{run.path.resolve().relative_to(run.root).as_posix()}/{name}": run / name
        for name in ("manifest.json", *run.manifest["files"])
    }
    archive = files.given_path(archive)
    with files.atomic(archive) as temporary, store.part(rows) as part:
        write_pictures(store, rows, part / "display")
        content |= {
            f"data/{store.path.name}/{file.relative_to(part).as_posix()}": file
            for file in sorted(part.rglob("*"))
            if file.is_file()
        }
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle:
            contents = {
                "run": next(iter(content)).removesuffix("/manifest.json"),
                "files": {name: files.digest(file) for name, file in content.items()},
            }
            bundle.writestr(_CONTENTS, files.json_text(contents))
            for name, file in content.items():
                bundle.write(file, name)
    return archive


def load(archive: Path | str, folder: Path | str | None = None) -> Run:
    """Unpack a zip written by `export` into `folder` (default: outputs/imported/<name of the zip>) and return the run.

    Only files listed in the zip are unpacked, and each is checked against its size and SHA-256. If the same archive
    has already been unpacked there, that copy is returned. Raises RunError if the file was not written by `export`
    or is damaged, a name would leave the folder, or the folder holds other files.
    """
    archive = files.given_path(archive)
    folder = files.given_path(folder) if folder else outputs_root() / "imported" / archive.stem
    try:
        with zipfile.ZipFile(archive) as bundle:
            contents = files.parse_json(bundle.read(_CONTENTS), archive)
            _check_names(archive, contents, bundle)
            if (folder / _CONTENTS).exists() and read_json(folder / _CONTENTS) == contents:
                return Run(folder / contents["run"])
            if folder.exists() and any(folder.iterdir()):
                raise RunError(
                    f"{display_path(folder)} already contains other files; choose another: load(..., folder=...)"
                )
            with files.atomic_folder(folder) as temporary:
                for name, recorded in contents["files"].items():
                    target = temporary / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with bundle.open(name) as source, open(target, "wb") as file:
                        shutil.copyfileobj(source, file)
                    if files.digest(target) != recorded:
                        raise RunError(
                            f"{display_path(archive)} is damaged: {name} has changed since the export. Export again"
                        )
                write_json(temporary / _CONTENTS, contents)
    except RunError:
        raise
    except FileNotFoundError:
        raise RunError(f"{display_path(archive)} is missing") from None
    except OSError as error:
        raise RunError(f"{display_path(archive)} cannot be read or unpacked: {error.strerror or error}") from error
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error, RuntimeError) as error:  # RuntimeError: encrypted
        raise RunError(f"{display_path(archive)} is not a complete zip of a run: {error}") from error
    return Run(folder / contents["run"])


def _check_names(archive: Path, contents: Any, bundle: zipfile.ZipFile) -> None:
    """Raise RunError unless the zip holds exactly the files it lists, with safe names and the listed sizes."""
    sizes = {entry.filename: entry.file_size for entry in bundle.infolist() if entry.filename != _CONTENTS}
    try:
        listed = {name: int(recorded["bytes"]) for name, recorded in contents["files"].items()}
        names = [*listed, str(contents["run"]) + "/manifest.json"]
        if len(names[-1].split("/")) != 7:
            raise ValueError(contents["run"])
    except (TypeError, KeyError, AttributeError, ValueError):
        raise RunError(f"{display_path(archive)} was not written by archive.export") from None
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if parts[0] not in ("runs", "data") or "\\" in name or ":" in name or {"", ".", ".."} & set(parts):
            raise RunError(f"{display_path(archive)}: entry {name!r} lies outside the folder; nothing was unpacked")
    if listed != sizes or names[-1] not in listed:
        other = sorted(listed.items() ^ sizes.items())[:3]
        raise RunError(f"{display_path(archive)} does not contain the files that it lists: {other}")
