"""Is a run what it claims to be? And taking it along: a finished run as a zip that explains without anything else."""

import dataclasses
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from insightr_nb import files
from insightr_nb.data.display import write_pictures
from insightr_nb.data.folds import fold_split
from insightr_nb.data.store import open_store, store_path
from insightr_nb.errors import InsightrError, RunError
from insightr_nb.files import outputs_root, read_json, shown, write_json
from insightr_nb.runs import Run, differences, settings_today
from insightr_nb.settings import RunSettings

_CONTENTS = "contents.json"


def verify(path: Run | Path | str) -> list[str]:
    """What is wrong with a run, in sentences: its state, its files, its settings, its data, its split. Empty: nothing.

    Every file is read and compared with the size and SHA-256 that the manifest recorded. Settings are compared with
    what preset, variant and the recorded overrides mean today; data and split with the prepared store as it is now.
    """
    run = path if isinstance(path, Run) else Run(Path(path))
    try:
        if run.state != "finished":
            return [f"the run is {run.state}"]
        manifest = run.manifest
        problems = run.damage()
        today = settings_today(manifest)
        problems += differences(run, today.as_dict(), {})
        store = open_store(store_path(today.data, run.root))
        store.check()
        about = {"store": store.fingerprint}
        if not store.partial:
            about["split"] = fold_split(store, today.data, today.fold).fingerprint
        problems += differences(run, {}, about)
    except (InsightrError, KeyError) as error:
        problems = [*locals().get("problems", []), str(error)]
    return problems


def export(path: Run | Path | str, archive: Path | str, test_images: int = 500) -> Path:
    """Write a finished run into a zip that `load` opens elsewhere: its files, and the images that exploring it needs.

    These are the source images of the prototypes and `test_images` of the test set, evenly spread over its predictions,
    as the network sees them and at display size.
    Raises RunError for a run that is not finished or not whole, and for data that were prepared anew since.
    """
    run = path if isinstance(path, Run) else Run(Path(path))
    run.require_finished().require_whole()
    settings = run.manifest["settings"]
    data = RunSettings.from_parameters(dataset=settings["data"]["dataset"], name=settings["data"]["name"],
                                       preset=settings["preset"]).data  # fmt: skip
    store = open_store(store_path(dataclasses.replace(data, size=settings["data"]["size"]), run.root))
    if changed := differences(run, {}, {"store": store.fingerprint}):
        raise RunError(f"run {shown(run.path)} was trained on other data than {shown(store.path)} holds: {changed[0]}")
    shown_images = run.table("predictions.csv").sort_values("prediction", kind="stable")["image_id"].to_numpy()
    chosen = set(shown_images[np.linspace(0, len(shown_images) - 1, min(test_images, len(shown_images))).astype(int)])
    if (run / "prototypes.csv").exists():
        chosen |= set(run.table("prototypes.csv")["image_id"])
    rows = np.flatnonzero(store.table["image_id"].isin(chosen))
    content = {f"{run.path.resolve().relative_to(run.root).as_posix()}/{name}": run / name
               for name in ("manifest.json", *run.manifest["files"])}  # fmt: skip
    archive = files.given_path(archive)
    with files.atomic(archive) as temporary, store.part(rows) as part:
        write_pictures(store, rows, part / "display")
        content |= {f"data/{store.path.name}/{file.relative_to(part).as_posix()}": file
                    for file in sorted(part.rglob("*")) if file.is_file()}  # fmt: skip
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle:
            about = {"run": next(iter(content)).removesuffix("/manifest.json"),
                     "files": {name: files.digest(file) for name, file in content.items()}}  # fmt: skip
            bundle.writestr(_CONTENTS, files.json_text(about))
            for name, file in content.items():
                bundle.write(file, name)
    return archive


def load(archive: Path | str, folder: Path | str | None = None) -> Run:
    """The run in a zip that `export` wrote, unpacked into `folder` (default: outputs/imported/<name of the zip>).

    Nothing is unpacked but the files that it lists, each compared with its size and SHA-256. Found again when it is
    there already. Raises RunError for another file, a damaged one, names that leave the folder, and a folder in use.
    """
    archive = files.given_path(archive)
    folder = files.given_path(folder) if folder else outputs_root() / "imported" / archive.stem
    try:
        with zipfile.ZipFile(archive) as bundle:
            about = files.parse_json(bundle.read(_CONTENTS), archive)
            _check_names(archive, about, bundle)
            if (folder / _CONTENTS).exists() and read_json(folder / _CONTENTS) == about:
                return Run(folder / about["run"])
            if folder.exists() and any(folder.iterdir()):
                raise RunError(f"{shown(folder)} holds something else; give another place: load(..., folder=...)")
            with files.whole_folder(folder) as temporary:
                for name, recorded in about["files"].items():
                    target = temporary / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with bundle.open(name) as source, open(target, "wb") as file:
                        shutil.copyfileobj(source, file)
                    if files.digest(target) != recorded:
                        raise RunError(f"{shown(archive)} is damaged: {name} has other content than was exported")
                write_json(temporary / _CONTENTS, about)
    except FileNotFoundError:
        raise RunError(f"{shown(archive)} is missing") from None
    except OSError as error:
        raise RunError(f"{shown(archive)} cannot be read or unpacked: {error.strerror or error}") from error
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error, RuntimeError) as error:  # the last: it is encrypted
        raise RunError(f"{shown(archive)} is no whole zip of a run: {error}") from error
    return Run(folder / about["run"])


def _check_names(archive: Path, about: Any, bundle: zipfile.ZipFile) -> None:
    """Raises RunError unless the zip holds exactly the files that it lists, with safe names and the sizes it says."""
    sizes = {entry.filename: entry.file_size for entry in bundle.infolist() if entry.filename != _CONTENTS}
    try:
        listed = {name: int(recorded["bytes"]) for name, recorded in about["files"].items()}
        names = [*listed, str(about["run"]) + "/manifest.json"]
        if len(names[-1].split("/")) != 7:
            raise ValueError(about["run"])
    except (TypeError, KeyError, AttributeError, ValueError):
        raise RunError(f"{shown(archive)} was not written by archive.export") from None
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if parts[0] not in ("runs", "data") or "\\" in name or ":" in name or {"", ".", ".."} & set(parts):
            raise RunError(f"{shown(archive)}: the name {name!r} would leave its folder; refused")
    if listed != sizes or names[-1] not in listed:
        other = sorted(listed.items() ^ sizes.items())[:3]
        raise RunError(f"{shown(archive)} does not hold what it lists: {other}")
