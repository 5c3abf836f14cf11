"""Preparation: speed and fidelity against the published recipe, memory against the number of images."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from bench.measure import Row, compare, in_process, value
from insightr_nb.data import graham, photograph, synthetic
from insightr_nb.data.disc import Disc
from insightr_nb.data.images import read_image
from insightr_nb.settings import DataSettings

WIDTH, HEIGHT = 3888, 2592


def photographs(folder: Path, count: int = 16) -> list[Path]:
    """JPEG files of 3888 x 2592 px, about 1 MB, with a synthetic fundus whose top and bottom the frame cuts."""
    paths = []
    rng = np.random.default_rng(0)
    for index in range(count):
        disc = cv2.resize(synthetic.photograph(index, 0, 1424).image, (2848, 2848), interpolation=cv2.INTER_CUBIC)
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[:, 520:3368] = disc[128 : 128 + HEIGHT]
        image = np.clip(image + rng.normal(0, 2, image.shape[:2])[..., None], 0, 255).astype(np.uint8)  # sensor noise
        paths.append(folder / f"{index}.jpg")
        cv2.imwrite(str(paths[-1]), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def port(path: Path, size: int, out: Path) -> None:
    """The published recipe in full: decode, scale by the middle row, blur, blend, mask, crop, write."""
    cv2.setNumThreads(1)
    image = cv2.imread(str(path))
    row = image[image.shape[0] // 2].sum(axis=1)
    radius = 300 * size / 512
    scale = radius / ((row > row.mean() / 10).sum() / 2)
    scaled = cv2.resize(image, (0, 0), fx=scale, fy=scale)
    blended = cv2.addWeighted(scaled, 4, cv2.GaussianBlur(scaled, (0, 0), radius / 30), -4, 128)
    inside = np.zeros(blended.shape)
    height, width = blended.shape[:2]
    cv2.circle(inside, (width // 2, height // 2), int(0.9 * radius), (1, 1, 1), -1, 8, 0)
    masked = blended * inside + 128 * (1 - inside)
    y, x, half = height // 2, width // 2, size // 2
    cv2.imwrite(str(out / path.name), masked[max(y - half, 0) : y + half, max(x - half, 0) : x + half].astype(np.uint8))


def ours(path: Path, settings: DataSettings) -> np.ndarray:
    return photograph.prepare_one((str(path), settings)).image


def speed(paths: list[Path], out: Path) -> list[Row]:
    """Both with one process per core; ours includes returning the pixels to the main process and writing them."""
    rows = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for size in (512, 256):
            settings = DataSettings(dataset="csv", name="bench", size=size, preparation="graham", centre="disc")

            def run_ours(settings: DataSettings = settings) -> None:
                with open(out / "images.npy", "wb") as file:
                    for image in pool.map(partial(ours, settings=settings), paths, chunksize=2):
                        file.write(image.tobytes())

            def run_port(size: int = size) -> None:
                list(pool.map(partial(port, size=size, out=out), paths, chunksize=2))

            what = f"preparation to {size} px, images a second"
            rows.append(compare(what, "port of the published recipe", run_ours, run_port, len(paths)))
    return rows


def difference(image: np.ndarray, prepared: np.ndarray, disc: Disc, size: int, shrink: int) -> float:
    """Mean absolute difference in grey levels, inside the mask, to the published recipe with this interpolation,
    centre and radius."""
    radius = graham.FUNDUS_RADIUS * size / 512
    scale = radius / disc.radius
    small = cv2.resize(image, (0, 0), fx=scale, fy=scale, interpolation=shrink)
    blurred = cv2.GaussianBlur(small, (0, 0), radius / 30)
    full = cv2.addWeighted(small, 4, blurred, -4, graham.GROUND)
    x, y = round(disc.x * scale), round(disc.y * scale)
    full = cv2.copyMakeBorder(full, size, size, size, size, cv2.BORDER_CONSTANT, value=(graham.GROUND,) * 3)
    crop = full[y + size - size // 2 : y + size + size // 2, x + size - size // 2 : x + size + size // 2]
    covered = cv2.copyMakeBorder(np.ones(small.shape[:2], np.uint8), size, size, size, size, cv2.BORDER_CONSTANT)
    covered = covered[y + size - size // 2 : y + size + size // 2, x + size - size // 2 : x + size + size // 2]
    margin = graham.mask(size) & cv2.erode(covered, np.ones((3, 3))).astype(bool)
    return float(np.abs(prepared.astype(int) - crop)[margin].mean())


def fidelity(paths: list[Path], size: int, what: str) -> list[Row]:
    """Difference of the prepared images to the recipe with area and with bilinear resizing."""
    settings = DataSettings(dataset="csv", name="bench", size=size, preparation="graham", centre="disc")
    against = {"area": [], "bilinear": []}
    for path in paths:
        image = read_image(path)
        prepared = photograph.view(path, settings)
        small, disc = photograph.fundus(path, graham.FUNDUS_RADIUS * size / 512)
        factor = image.shape[0] / small.shape[0]
        disc = disc.scaled(factor)
        against["area"].append(difference(image, prepared, disc, size, cv2.INTER_AREA))
        against["bilinear"].append(difference(image, prepared, disc, size, cv2.INTER_LINEAR))
    return [
        value(f"grey levels off at {size} px, {what}", numbers, "levels", f"recipe with {name} resize", "same circle")
        for name, numbers in against.items()
    ]


_MEMORY = """
import json, sys, threading, time
from pathlib import Path
from insightr_nb.data import prepare
from insightr_nb.settings import DataSettings

def memory(*names):  # MB
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(l.split()[1]) for l in lines if l.startswith(names)) / 1024

def anonymous():  # what cannot be given back; pages of the mapped store can
    return memory("RssAnon", "RssShmem")

def watch(peaks):  # MB of the largest child process
    while True:
        for child in Path(f"/proc/self/task/{threading.main_thread().native_id}/children").read_text().split():
            try:
                lines = Path(f"/proc/{child}/status").read_text().splitlines()
            except OSError:  # it has just ended
                continue
            peaks.append(max((int(l.split()[1]) / 1024 for l in lines if l.startswith("VmHWM")), default=0))
        time.sleep(0.2)

if __name__ == "__main__":
    before, peaks = anonymous(), [0]
    threading.Thread(target=watch, args=(peaks,), daemon=True).start()
    settings = DataSettings(dataset="csv", name="many", folder=sys.argv[1], size=32, preparation="resize")
    store = prepare.prepare(settings)
    peak = memory("VmHWM")
    worker = max(peaks)
    opened = anonymous()
    total = 0
    for start in range(0, len(store.images), 30):
        total += int(store.images[start : start + 30].sum())
    print(json.dumps({"images": len(store.images), "peak": peak, "read": anonymous() - opened,
                      "start": before, "worker": worker}))
"""


def memory(counts: tuple[int, ...] = (2_000, 20_000, 100_000)) -> list[Row]:
    """Peak memory of a preparation in its main process and largest worker, and the increase by reading every image."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            raw.mkdir()
            table = ["image,label"]
            for i in range(count):
                image = np.full((32, 32, 3), (i % 251, i // 251 % 251, i // 63001), np.uint8)
                (raw / f"{i}.bmp").write_bytes(cv2.imencode(".bmp", image)[1])
                table.append(f"{i}.bmp,{i % 5}")
            (raw / "labels.csv").write_text("\n".join(table) + "\n")
            measured = in_process(_MEMORY.replace('preparation="resize"', 'preparation="resize", all_images=True'), raw)
            assert measured["images"] == count
            detail = (
                f"{measured['start']:.0f} MB after imports; the largest worker has {measured['worker']:.0f} MB; "
                f"reading every image adds {measured['read']:.1f} MB"
            )
            rows.append(value(f"peak memory of preparing {count} images", [measured["peak"]], "MB", detail=detail))
    return rows


def run(idrid: Path | None) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder))
        (out := Path(folder) / "out").mkdir()
        rows = speed(paths, out)
        rows += fidelity(paths[:8], 512, "synthetic 3888 x 2592")
    if idrid:
        rows += fidelity(sorted((idrid / "images").glob("*.jpg"))[::20], 256, "IDRiD 640 x 425")
    return rows + memory()
