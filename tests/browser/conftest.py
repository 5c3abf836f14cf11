"""A real `jupyter lab` server on loopback, and Debian's Chromium."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from places import ROOT

from insightr_nb.explorer.app import finished_runs
from insightr_nb.runs import Run

TOKEN = "explore"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def lab_options() -> list[str]:
    """What `make lab` gives to JupyterLab, which then has the folder it is started in as its root."""
    done = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True)
    return shlex.split(re.search(r"jupyter lab (.*)", done.stdout)[1])


@pytest.fixture(scope="session")
def settings_folder(tmp_path_factory) -> Path:
    """Folder of the user's settings of JupyterLab: no news, no check for updates."""
    folder = tmp_path_factory.mktemp("jupyter") / "config/lab/user-settings"
    news = folder / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    return folder


@pytest.fixture(scope="session")
def server(settings_folder, explored):
    """A JupyterLab server whose kernels see the runs of `explored`: a function from a notebook to its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = settings_folder.parents[2]
    work = home / "project"
    shutil.copytree(ROOT / "notebooks", work / "notebooks")
    (work / "outputs").symlink_to(explored.resolve())
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "INSIGHTR_OUTPUTS": str(explored.resolve()),
    }
    log = open(home / "log.txt", "w", encoding="utf-8")  # noqa: SIM115
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            f"--port={port}",
            f"--IdentityProvider.token={TOKEN}",
            "--ServerApp.ip=127.0.0.1",
            *lab_options(),
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
        cwd=work,
        env=environment,
        stdout=log,
        stderr=log,
    )
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=1).read()
            break
        except OSError:
            assert process.poll() is None, (home / "log.txt").read_text()[-2000:]
            time.sleep(0.2)
    yield lambda name="": f"{address}/{f'lab/tree/{name}' if name else ''}?token={TOKEN}&reset"
    process.terminate()
    process.wait(20)
    log.close()


@pytest.fixture(scope="session")
def browser():
    """Chromium of the system; the one that Playwright downloads is not used."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("no Chromium: make test-browser installs Debian's; elsewhere install chromium and try again")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def theme(request) -> str:
    """Theme of JupyterLab, "Light" unless a test is parametrised."""
    return getattr(request, "param", "Light")


@pytest.fixture
def size(request) -> tuple[int, int]:
    """Width and height of the window, 1280 x 800 unless a test is parametrised."""
    return getattr(request, "param", (1280, 800))


@pytest.fixture
def page(browser, server, settings_folder, theme, size):
    """A page; at the end no error may have appeared in it or in its console."""
    themes = settings_folder / "@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    themes.write_text(f'{{"theme": "JupyterLab {theme}"}}')
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    yield page
    failed = page.locator('[data-mime-type="application/vnd.jupyter.stderr"], [data-mime-type*="jupyter.error"]')
    tracebacks = failed.all_inner_texts()  # of cells and of callbacks of widgets
    page.close()
    assert tracebacks == []
    harmless = re.compile(r"favicon|ERR_INTERNET|ERR_NAME_NOT|Failed to load resource")  # no network, no news
    assert not [p for p in problems if not harmless.search(p)]


@pytest.fixture(scope="session")
def explored(request) -> Path:
    """The outputs whose first run is explored: those of INSIGHTR_EXPLORE (say, of preset demo), or of preset smoke."""
    if given := os.environ.get("INSIGHTR_EXPLORE"):
        return Path(given)
    request.getfixturevalue("smoke_run")
    return Path(os.environ["INSIGHTR_OUTPUTS"])


@pytest.fixture(scope="session")
def run(explored) -> Run:
    """The run that the explorer opens first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIGHTR_OUTPUTS", str(explored))
        return finished_runs()[0][0]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> dict[str, Path]:
    """A synthetic eye, a wall, a text, and an eye in 60 MB."""
    from insightr_nb.data import synthetic

    folder = tmp_path_factory.mktemp("own")
    eye = cv2.copyMakeBorder(synthetic.photograph(5, 9, 200).image, 10, 10, 30, 30, cv2.BORDER_CONSTANT)
    cv2.imwrite(str(folder / "eye.png"), eye[..., ::-1])
    wall = np.random.default_rng(0).integers(120, 220, (150, 200, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "wall.png"), wall)
    (folder / "note.png").write_text("no picture")
    large = cv2.resize(eye, (4900, 4200), interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(folder / "large.png"), large[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
    return {
        "eye": folder / "eye.png",
        "wall": folder / "wall.png",
        "text": folder / "note.png",
        "large": folder / "large.png",
    }
