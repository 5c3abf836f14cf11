"""The prepared store: its location, opening it, and checking it against the requested settings."""

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from insightr_nb import files
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings, LabelScale

_CHECKED: set[tuple] = set()  # stores verified by this process: path, mtime (ns), size


@dataclass(frozen=True)
class Store:
    """A prepared store, opened for reading; `images` is memory-mapped."""

    path: Path
    images: np.ndarray  # (N, size, size, 3) uint8 RGB
    table: pd.DataFrame  # image_id, patient_id, label, split, source, digest
    meta: dict

    @property
    def scale(self) -> LabelScale:
        return LabelScale(*self.meta["label_range"])

    @property
    def grades(self) -> bool:
        return self.meta["grades"]

    @property
    def fingerprint(self) -> str:
        return self.meta["fingerprint"]

    @property
    def settings(self) -> DataSettings:
        return DataSettings(**self.meta["settings"])

    @property
    def rejected(self) -> pd.DataFrame:
        """Rejected images: image_id, reason, source."""
        return pd.read_csv(self.path / "rejected.csv", dtype=str, keep_default_na=False)

    @property
    def doubtful(self) -> pd.DataFrame:
        """Prepared images that may be wrong, for example because of a doubtful disc: image_id, source, doubt."""
        path = self.path / "doubtful.csv"
        if not path.exists():  # prepared by an older version
            return pd.DataFrame(columns=["image_id", "source", "doubt"])
        return pd.read_csv(path, dtype=str, keep_default_na=False)

    @property
    def duplicates(self) -> pd.DataFrame:
        """Report of `duplicates.resolve`: group, image_id, patient_id, label, happened."""
        return pd.read_csv(
            self.path / "duplicates.csv", dtype={"image_id": str, "patient_id": str}, keep_default_na=False
        )

    @property
    def partial(self) -> bool:
        """Whether the store holds only some of its images because it was exported with a run (`archive.load`)."""
        return self.meta.get("partial", False)

    def patients(self, image_ids: pd.Series) -> np.ndarray:
        """Patient of each image: (N,) strings. An image that the store lacks counts as a patient of its own."""
        known = self.table.set_index("image_id")["patient_id"]
        return image_ids.map(known).fillna(image_ids).to_numpy(str)

    def image(self, row: int) -> np.ndarray:
        """Return one image, (size, size, 3) uint8. Raises DataError if its digest does not match the table."""
        pixels = np.array(self.images[row])
        if image_digest(pixels) != self.table["digest"].iloc[row]:
            path, image_id = self.path / "images.npy", self.table["image_id"].iloc[row]
            raise DataError(
                f"{files.display_path(path)} is damaged: image {image_id!r} has changed since it was prepared. Prepare "
                "the store again: notebook 01 with overwrite=True"
            )
        return pixels

    def check(self) -> None:
        """Compare every image with its digest in the table. Raises DataError that names the first mismatch."""
        status = (self.path / "images.npy").stat()
        version = (self.path, status.st_mtime_ns, status.st_size)
        if version not in _CHECKED:
            for row in range(len(self.images)):
                self.image(row)
            _CHECKED.add(version)

    @contextlib.contextmanager
    def part(self, rows: np.ndarray) -> Iterator[Path]:
        """Yield a temporary folder with a store of these rows only."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            shape = (len(rows), *self.images.shape[1:])
            images = np.lib.format.open_memmap(path / "images.npy", "w+", np.uint8, shape)
            for n, row in enumerate(rows):
                images[n] = self.image(row)
            images.flush()
            self.table.iloc[rows].to_csv(path / "table.csv", index=False)
            changed = {"images": len(rows), "partial": True, "table": files.digest(path / "table.csv")}
            files.write_json(path / "meta.json", self.meta | changed)
            yield path

    def row(self, image_id: str) -> int:
        """Return the row of an image. Raises DataError for an unknown id."""
        rows = np.flatnonzero(self.table["image_id"] == image_id)
        if not len(rows):
            example = self.table["image_id"].iloc[0]
            raise DataError(
                f"image {image_id!r} is not in {files.display_path(self.path)}; its ids look like {example!r}"
            )
        return int(rows[0])


def image_digest(pixels: np.ndarray) -> str:
    """Digest of a prepared image, as in the column `digest` of table.csv."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def store_path(settings: DataSettings, root: Path | None = None) -> Path:
    """Return the folder of the store for these settings, under `root` (default: the outputs folder)."""
    return (root or files.outputs_root()) / "data" / f"{settings.store_name}-{settings.size}"


def open_store(path: Path) -> Store:
    """Open a prepared store. Raises DataError or RunError that says what is missing or damaged."""
    meta = files.read_json(path / "meta.json")
    try:
        images = np.load(path / "images.npy", mmap_mode="r")
        texts = dict.fromkeys(("image_id", "patient_id", "source", "digest"), str)  # keep ids such as "NA" and "007"
        table = pd.read_csv(path / "table.csv", dtype=texts, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"prepared store {files.display_path(path)} is damaged: {error}; delete the folder and prepare it again"
        ) from error
    if not len(images) == len(table) == meta["images"]:
        raise DataError(
            f"prepared store {files.display_path(path)} is damaged: {len(images)} images, {len(table)} rows, "
            f"{meta['images']} in meta.json; delete the folder and prepare it again"
        )
    if files.digest(path / "table.csv") != meta["table"]:
        raise DataError(
            f"prepared store {files.display_path(path)} is damaged: table.csv has changed since it was written. To "
            "change labels, edit the raw table and prepare again: notebook 01 with overwrite=True"
        )
    return Store(path, images, table, meta)


def split_files(settings: DataSettings) -> dict[str, str]:
    """Return the digests of the split files in the settings. Raises DataError for an unreadable file."""
    digests = {}
    for name in ("split_file", "test_split_file"):
        if given := getattr(settings, name):
            try:
                digests[name] = files.fingerprint(files.given_path(given).read_bytes())
            except OSError as error:
                raise DataError(f"{name} = {given!r}: cannot be read ({error.strerror})") from None
    return digests


def check_same(settings: DataSettings, store: Store) -> None:
    """Raise DataError that names the first setting in which the store differs. Settings left None are ignored."""
    requested, recorded = dataclasses.asdict(settings), store.meta["settings"]
    ignored = {"folder", "folds", "split_file", "test_split_file"}
    if requested["table"] == store.meta.get("label_table"):  # the detected table, given by name
        ignored |= {"table"}
    ignored |= {"train_images", "test_images"} if settings.dataset != "synthetic" else set()
    different = [
        (name, value, recorded.get(name))
        for name, value in requested.items()
        if name not in ignored and value is not None and value != recorded.get(name)
    ]
    known = store.meta.get("split_files", {})
    different += [
        (name, requested[name], "different content" if name in known else None)
        for name, digest in split_files(settings).items()
        if digest != known.get(name)
    ]
    for name, value, previous in different:
        raise DataError(
            f"{name} = {value!r}: the store {files.display_path(store.path)} was prepared with {previous!r}. "
            "Use overwrite=True in notebook 01 to prepare it again, or choose another name"
        )
