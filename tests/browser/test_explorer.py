"""Notebook 07 in a real browser: every tab, at two sizes and in two themes, and the displayed numbers."""

import json
import os
import re
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from insightr_nb import files
from insightr_nb.analysis import metrics
from insightr_nb.runs import Run

pytestmark = pytest.mark.browser
SHOTS = Path(os.environ.get("INSIGHTR_SCREENSHOTS", "outputs/screenshots"))
KEYS = {"right": "ArrowRight", "left": "ArrowLeft"}
TABS = ("Explain an image", "Browse prototypes", "Compare", "What if", "Latent map")
VIEWER = ".insightr-viewer:visible"
SHOWN = "[...document.querySelectorAll('.insightr-viewer')].find(v => v.offsetParent)"
PICTURE = ".insightr-picture:visible"


@pytest.fixture
def explorer(page, server, run):
    """Notebook 07 with all cells run; from Run All to a usable explorer is timed."""
    page.goto(server("notebooks/07_explore.ipynb"))
    page.wait_for_selector(".jp-NotebookPanel-toolbar", timeout=60_000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)  # the kernel is there
    page.get_by_role("menuitem", name="Run", exact=True).click()
    begin = time.monotonic()
    page.locator("li.lm-Menu-item").filter(has_text=re.compile("^Run All Cells")).first.click()
    page.wait_for_selector(f"{VIEWER}[data-drawn]", timeout=60_000)
    print(f"\nfrom Run All to a usable explorer: {time.monotonic() - begin:.1f} s")
    quiet(page)
    return page


def quiet(page) -> None:
    """Wait until the kernel has answered all that was sent to it."""
    page.wait_for_function("() => ![...document.querySelectorAll('.insightr-viewer')].some(v => v.ariaBusy)")
    expect(page.locator(".insightr-busy")).to_have_count(0, timeout=20_000)


def drawn(page) -> int:
    """Number of scenes that the visible viewer has drawn, each with all its pictures loaded."""
    return int(page.locator(VIEWER).get_attribute("data-drawn") or 0)


def redrawn(page, act) -> None:
    """Do something, and wait until the viewer has drawn the scene that follows from it."""
    before = drawn(page)
    act()
    page.wait_for_function(f"n => Number({SHOWN}.dataset.drawn) > n", arg=before, timeout=20_000)
    quiet(page)


def move(page, name: str, key: str = "right") -> None:
    row = page.locator(".widget-hslider:visible", has=page.locator(f".widget-label:text-is('{name}')"))
    handle = row.locator(".noUi-handle")
    handle.focus()
    handle.press(KEYS[key])


def tab(page, name: str) -> None:
    page.locator(".lm-TabBar-tab", has_text=name).first.click()
    page.wait_for_selector(f"{VIEWER}[data-drawn]", timeout=20_000)
    quiet(page)


def button(page, name: str):
    return page.locator(".jupyter-button:visible", has_text=name)


def choose(page, name: str, option: str) -> None:
    page.locator(".widget-dropdown:visible", has_text=name).first.locator("select").select_option(option)


def field(page, name: str):
    return page.locator(".widget-text:visible", has_text=name).first.locator("input")


def shoot(page, name: str) -> None:
    """Keep a picture of the explorer, whole, also of what is below the window."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    page.set_viewport_size({"width": size["width"], "height": 2200})
    page.wait_for_timeout(300)
    page.locator(".insightr-explorer").screenshot(path=SHOTS / f"{name}.png")
    page.set_viewport_size(size)


def headline(page) -> str:
    return page.locator(".insightr-headline").inner_text()


def zoom(page) -> float:
    return float(page.locator(VIEWER).get_attribute("data-zoom") or 1)


# -- looks ------------------------------------------------------------------------------------------------------------

OVERFLOW = """() => {
  const explorer = document.querySelector('.insightr-explorer').getBoundingClientRect();
  const shown = [...document.querySelectorAll('.insightr-explorer *')]
    .filter(e => e.offsetParent && !e.closest('.iv-pane'));
  const wide = shown.filter(e => e.getBoundingClientRect().right > explorer.right + 1
    || (e.scrollWidth > e.clientWidth + 2 && getComputedStyle(e).overflowX !== 'visible' && e.clientWidth
        && e.tagName !== 'INPUT' && e.tagName !== 'SELECT'));
  return wide.map(e => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 60)}`);
}"""

TEXTS = """() => {
  const luminance = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2] };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/^rgba.*, 0\\)$|transparent/.test(c)) return c } return 'rgb(255, 255, 255)' };
  const walk = document.createTreeWalker(document.querySelector('.insightr-explorer'), NodeFilter.SHOW_TEXT);
  const found = [];
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!walk.currentNode.data.trim() || !box.width || e.closest('title, select, .iv-thumb.off, [disabled]')) continue;
    const colour = e.namespaceURI.includes('svg') ? style.fill : style.color;
    const [a, b] = [luminance(colour), luminance(ground(e))];
    const badge = e.closest('svg svg');  // a number on its own coloured square
    found.push([walk.currentNode.data.trim().slice(0, 40), parseFloat(style.fontSize),
      badge ? 21 : (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["Light", "Dark"], indirect=True)
@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)], indirect=True, ids=["1280", "1920"])
def test_every_tab_fits_and_can_be_read(explorer, size, theme):
    page = explorer
    top = page.locator(".insightr-explorer").bounding_box()["y"]
    assert 0 <= top < 250, "Run All ends with the explorer in view"
    assert page.locator(PICTURE).bounding_box()["y"] < size[1] - 150
    for n, name in enumerate(TABS):
        tab(page, name)
        shoot(page, f"{n + 1}_{name.split()[0].lower()}_{size[0]}_{theme.lower()}")
        assert page.evaluate(OVERFLOW) == [], name
        texts = page.evaluate(TEXTS)
        assert len(texts) > 10
        assert [t for t in texts if t[1] < 12] == [], name
        assert [t for t in texts if t[2] < 3] == [], name  # contrast of text to its ground
        unnamed = "[...document.querySelectorAll('.insightr-explorer img')].filter(i => !i.hasAttribute('alt')).length"
        assert page.evaluate(unnamed) == 0
        nameless = page.locator(".insightr-explorer button:visible").evaluate_all(
            "all => all.filter(b => !(b.textContent.trim() || b.title || b.ariaLabel)).length"
        )
        assert nameless == 0


TIMES = f"""() => {{
  window.spent = []; // ms from a key to the scene that follows from it, with its pictures decoded
  let pressed = 0;
  document.addEventListener('keydown', () => {{ pressed = performance.now() }}, true);
  new MutationObserver(() => spent.push(performance.now() - pressed))
    .observe({SHOWN}, {{ attributes: true, attributeFilter: ['data-drawn'] }});
}}"""


ZOOM_STEP = """async () => { // ms until the frame after a zoom step by key, and back
  const viewer = document.querySelector('.insightr-viewer');
  const press = key => viewer.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  const begin = performance.now();
  press('+');
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const spent = performance.now() - begin;
  press('-');
  return spent;
}"""


# -- explain ----------------------------------------------------------------------------------------------------------


def test_explain_an_image(explorer, run):
    page = explorer
    table = run.table("predictions.csv")
    prediction = page.locator(".insightr-prediction").first
    expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][0])
    assert float(prediction.inner_text()) == pytest.approx(table["prediction"][0], abs=0.0051)

    page.evaluate(TIMES)
    patches = run.table("prototypes.csv").set_index("prototype")[["image_id", "row", "col"]].apply(tuple, axis=1)
    weights = pd.DataFrame(run.array("weights.npy").astype(float))
    for n in range(1, 8):
        redrawn(page, lambda: move(page, "image"))
        expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][n])
        assert float(prediction.inner_text()) == pytest.approx(table["prediction"][n], abs=0.0051)
        captions = page.locator(".iv-pair:visible .iv-caption").all_inner_texts()
        shown = [int(re.search(r"prototypes? (\d+)", text)[1]) for text in captions]
        joined = weights.iloc[n].groupby(patches).sum().sort_values(ascending=False)  # twins count as one
        assert [patches[j] for j in shown] == joined.index[:3].tolist()
    spent = page.evaluate("spent")
    assert len(spent) == 7
    print(f"\nfrom moving the slider to the loaded pictures: median {statistics.median(spent):.0f} ms")

    redrawn(page, lambda: move(page, "matches"))
    expect(page.locator(".iv-pair:visible")).to_have_count(4)
    for number, place in enumerate(page.locator(".iv-pair .iv-caption .iv-number").all(), start=1):
        colours = [page.locator(f"{PICTURE} .iv-badge").nth(number - 1), place]
        assert [c.inner_text() for c in colours] == [str(number)] * 2
        assert len({c.evaluate("e => getComputedStyle(e).backgroundColor") for c in colours}) == 1
    assert page.locator(".iv-chart rect[stroke-width='3']").count() >= 4  # the numbered bars

    errors = (table["prediction"] - table["target"]).abs()
    redrawn(page, lambda: choose(page, "images", "largest error first"))
    expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][errors.idxmax()])
    choose(page, "label", "2")
    of_two = table[table["target"] == 2]
    expect(page.locator(".insightr-headline")).to_contain_text(of_two["image_id"][errors[of_two.index].idxmax()])
    for order in ("most uncertain first", "least familiar first"):
        choose(page, "images", order)
        quiet(page)
    contributions, labels = run.array("weights.npy"), run.table("prototypes.csv")["label"].to_numpy()
    most = metrics.uncertainty(contributions, labels)
    choose(page, "images", "most uncertain first")
    expect(page.locator(".insightr-headline")).to_contain_text(of_two["image_id"].iloc[most[of_two.index].argmax()])


def test_layers_are_switched(explorer):
    page = explorer
    visible = {"trace": ".iv-trace", "cells": ".iv-cells", "boxes": ".iv-box", "receptive field": ".iv-field"}
    visible["lesions"] = ".iv-outline"
    for name, selector in visible.items():
        pressed = "mod-active" in button(page, name).get_attribute("class")
        for _ in range(2):
            pressed = not pressed
            button(page, name).click()
            quiet(page)
            some = f"[...{SHOWN}.querySelectorAll('{selector}')].some(e => getComputedStyle(e).display !== 'none')"
            page.wait_for_function(f"pressed => ({some}) === pressed", arg=pressed)
    photograph = page.locator(f"{PICTURE} .iv-base")
    expect(photograph).to_have_attribute("alt", re.compile("^normalised"))
    button(page, "original colours").click()
    expect(photograph).to_have_attribute("alt", re.compile("^original"))
    expect(page.locator(f"{PICTURE} .iv-badge").first).to_be_visible()  # boxes are on either
    opacity = "getComputedStyle(document.querySelector('.iv-trace, .iv-cells')).opacity"
    first = page.evaluate(opacity)
    move(page, "opacity")
    page.wait_for_function(f"b => {opacity} !== b", arg=first)


def test_zoom_and_pan_in_step_down_to_the_pixels_of_the_source(explorer, run):
    page = explorer
    box = page.locator(PICTURE).bounding_box()
    x, y = box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"]
    page.mouse.move(x, y)
    widths = f"[...{SHOWN}.querySelectorAll('.iv-stage')].map(s => s.style.width)"
    spent = []
    for _ in range(8):
        before = zoom(page)
        page.mouse.wheel(0, -100)
        page.wait_for_function("b => Number(document.querySelector('.insightr-viewer').dataset.zoom) > b", arg=before)
        spent.append(page.evaluate(ZOOM_STEP))
    print(f"\na step of the zoom until it is painted: median {statistics.median(spent):.0f} ms")
    assert zoom(page) == pytest.approx(1.25**8, abs=0.01)
    assert len(set(page.evaluate(widths))) == 1  # photograph, matches and prototypes
    sharp = f"document.querySelector('{PICTURE.removesuffix(':visible')} .iv-base').naturalWidth > 512"
    page.wait_for_function(sharp, timeout=20_000)
    quiet(page)
    place = "document.querySelector('.insightr-picture .iv-stage').style.left"
    left = page.evaluate(place)
    page.mouse.down()
    page.mouse.move(x + 60, y + 20, steps=4)
    page.mouse.up()
    assert float(page.evaluate(place)[:-1]) == pytest.approx(float(left[:-1]) + 100 * 60 / box["width"], abs=1)
    shoot(page, "1_zoom")
    page.mouse.dblclick(x, y)
    assert zoom(page) == 1
    page.mouse.dblclick(x, y)
    assert zoom(page) == 4
    middle = page.locator(f"{PICTURE} .iv-box").first.bounding_box()  # the chosen match is in the middle
    assert middle["x"] + middle["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=3)
    page.keyboard.press("0")
    assert zoom(page) == 1
    page.mouse.wheel(0, 300)  # nothing to shrink: the notebook scrolls
    assert zoom(page) == 1


def test_keys_and_links(explorer, run):
    page = explorer
    table = run.table("predictions.csv")
    page.locator(VIEWER).focus()
    redrawn(page, lambda: page.keyboard.press("ArrowRight"))
    expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][1])
    redrawn(page, lambda: page.keyboard.press("ArrowLeft"))  # the focus has stayed
    expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][0])
    page.keyboard.press("2")
    expect(page.locator(".iv-pair").nth(1)).to_have_class(re.compile("chosen"))
    expect(page.locator(".jp-mod-selected .insightr-explorer")).to_have_count(1)  # no key has reached the notebook

    page.locator(".iv-caption .link:visible").first.click()
    expect(page.locator(".insightr-prototype:visible")).to_contain_text("prototype")
    quiet(page)
    nearest = page.locator(".iv-thumb:visible").nth(1)
    name = nearest.locator(".iv-caption").inner_text().splitlines()[0]
    nearest.click()
    expect(page.locator(".insightr-headline")).to_contain_text(name)
    source = page.locator(".iv-caption .link[data-go^='image']:visible").first
    name = source.inner_text()
    redrawn(page, source.click)
    expect(page.locator(".insightr-headline")).to_contain_text(f"image {name}")
    expect(page.locator(".insightr-headline")).to_contain_text("from the training set of this run")

    goto = field(page, "go to")
    goto.fill(table["image_id"][5])
    redrawn(page, lambda: goto.press("Enter"))
    expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][5])
    goto.fill("nobody")
    goto.press("Enter")
    expect(page.locator(".insightr-message")).to_contain_text("no image 'nobody'")


def test_save_what_is_seen(explorer, explored, run):
    page = explorer
    page.locator(VIEWER).focus()
    for _ in range(3):
        page.keyboard.press("+")
    page.wait_for_timeout(400)  # until the kernel has been told
    button(page, "save view").click()
    message = page.locator(".insightr-message")
    expect(message).to_contain_text("saved to", timeout=20_000)
    name = message.inner_text().split(" and ")[1].strip()
    saved = explored / "views" / name
    content = json.loads(saved.read_text())
    assert content["view"]["zoom"] == pytest.approx(1.25**3)
    assert content["image"] == run.table("predictions.csv")["image_id"][0]
    assert saved.with_suffix(".png").stat().st_size > 10_000
    for file in (saved, saved.with_suffix(".png")):
        file.unlink()


def test_own_images(explorer, photographs):
    page = explorer
    path = field(page, "your file")

    def give(file) -> None:
        path.fill(str(file))
        path.press("Enter")
        button(page, "explain it").click()

    give(photographs["eye"])
    expect(page.locator(".insightr-headline")).to_contain_text("eye.png", timeout=20_000)
    expect(page.locator(".insightr-message")).to_have_count(0)
    give(photographs["text"])
    expect(page.locator(".insightr-message")).to_contain_text("cannot be decoded as an image")
    give(photographs["wall"])
    expect(page.locator(".insightr-warnings")).to_contain_text("No clear fundus outline")
    shoot(page, "1_no_fundus")
    button(page, "back to the test set").click()
    expect(page.locator(".insightr-headline")).to_contain_text("label")
    assert photographs["large"].stat().st_size > 60e6  # Jupyter takes 10 MB unless it is told to
    for name in ("eye", "large"):
        with page.expect_file_chooser() as chooser:
            button(page, "upload").click()
        chooser.value.set_files(photographs[name])
        expect(page.locator(".insightr-headline")).to_contain_text(f"{name}.png", timeout=60_000)


# -- the other tabs ---------------------------------------------------------------------------------------------------


def test_browse_prototypes(explorer, run):
    page = explorer
    table = run.table("prototypes.csv").sort_values("label", kind="stable").reset_index(drop=True)
    tab(page, "Browse prototypes")
    for n in range(3):
        shown = page.locator(".insightr-prototype")
        expect(shown).to_contain_text(f"prototype {table['prototype'][n]}, label {table['label'][n]:.2f}")
        expect(shown).to_contain_text(table["image_id"][n])
        redrawn(page, lambda: move(page, "prototype"))


def test_compare_two_images(explorer, run):
    page = explorer
    table = run.table("predictions.csv")
    tab(page, "Compare")
    left = page.locator(".widget-dropdown:visible", has_text="left").locator("select")
    choose(page, "right", left.input_value())
    image = page.locator(".widget-text:visible", has_text="image").nth(1).locator("input")
    image.fill(table["image_id"][3])
    redrawn(page, lambda: image.press("Enter"))
    sides = page.locator(".insightr-side")
    expect(sides).to_have_count(2)
    for n, side in ((0, sides.first), (3, sides.last)):
        expect(side).to_contain_text(table["image_id"][n])
        expect(side).to_contain_text(f"prediction {table['prediction'][n]:.2f}")
    difference = abs(round(table["prediction"][0], 2) - round(table["prediction"][3], 2))
    expect(page.locator(".iv-text:visible")).to_contain_text(f"The predictions differ by {difference:.2f}")
    page.locator(VIEWER).focus()
    page.keyboard.press("+")
    assert zoom(page) == 1.25


def test_what_if(explorer, run, explored):
    page = explorer
    tab(page, "What if")
    whole = page.locator(".insightr-whatif")
    stored = run.metrics
    expect(whole).to_contain_text(f"{stored['mae']:.3f}")
    expect(whole).to_contain_text(f"{stored['kappa']:.3f}")
    weights, table = np.array(run.array("weights.npy"), float), run.table("predictions.csv")
    labels = np.array(run.table("prototypes.csv").sort_values("prototype")["label"])
    order = np.argsort(labels, kind="stable")

    for n in (0, 1):
        redrawn(page, page.locator(".iv-thumb:visible").nth(n).click)
    expect(page.locator(".iv-thumb.off:visible")).to_have_count(2)
    weights[:, order[:2]] = 0
    changed = (weights * labels).sum(1) / weights.sum(1)
    expect(whole).to_contain_text(f"{metrics.mean_absolute_error(changed, table['target']):.3f}")
    expect(whole).to_contain_text(f"{changed[0]:.2f}")
    shoot(page, "4_edited")

    page.locator(".widget-dropdown:visible", has_text="prototype").locator("select").select_option(index=4)
    box = field(page, "label")
    expect(box).to_have_value(f"{round(labels[order[4]], 2):g}")
    box.fill("4")
    box.press("Enter")
    page.wait_for_timeout(300)  # a click in the same moment overtakes the value
    redrawn(page, button(page, "set its label").click)
    labels[order[4]] = 4
    changed = (weights * labels).sum(1) / weights.sum(1)
    expect(whole).to_contain_text(f"{metrics.mean_absolute_error(changed, table['target']):.3f}")
    expect(page.locator(".insightr-changes")).to_contain_text("→ 4.00")
    box.fill("9")
    box.press("Enter")
    page.wait_for_timeout(300)
    button(page, "set its label").click()
    expect(page.locator(".insightr-message:visible")).to_contain_text("must be from")

    begin = time.monotonic()
    redrawn(page, button(page, "refit the last layer").click)
    print(f"\nrefit of the last layer: {time.monotonic() - begin:.1f} s")
    expect(page.locator(".insightr-changes")).to_contain_text("refitted")
    tag = f"browser{time.time_ns() % 10**9}"
    field(page, "save with tag").fill(tag)
    field(page, "save with tag").press("Enter")
    field(page, "by").fill("A. Reader")
    field(page, "by").press("Enter")
    button(page, "save as a run").click()
    expect(page.locator(".insightr-message:visible")).to_contain_text("saved as", timeout=20_000)
    saved = Run(run.path.with_name(f"{run.path.name.partition('-')[0]}-{tag}"))
    assert saved.state == "finished"
    assert saved.manifest["edited"]["by"] == "A. Reader"
    assert saved.manifest["edited"]["switched_off"] == sorted(int(j) for j in order[:2])
    shutil.rmtree(saved.path)

    redrawn(page, button(page, "all off").click)
    expect(page.locator(".insightr-message:visible")).to_contain_text("all prototypes are switched off")
    redrawn(page, button(page, "undo").click)
    expect(page.locator(".insightr-message:visible")).to_have_count(0)
    redrawn(page, button(page, "reset").click)
    expect(whole).to_contain_text(f"{stored['mae']:.3f}")
    cells = whole.locator("tr:nth-child(3) td").all_inner_texts()
    assert cells[1] == cells[2]


def test_latent_map_leads_to_a_prototype(explorer, run):
    page = explorer
    tab(page, "Latent map")
    table = run.table("prototypes.csv").sort_values("label", kind="stable").reset_index(drop=True)
    for _ in range(3):
        redrawn(page, lambda: move(page, "prototype"))
    about = page.locator(".iv-text:visible")
    expect(about).to_contain_text(f"prototype {table['prototype'][3]}, label {table['label'][3]:.2f} (ring)")
    box = page.locator(".insightr-map").bounding_box()
    before = about.inner_text()
    for share in np.linspace(0.1, 0.9, 30):  # a click on a circle or a star chooses it
        page.mouse.click(box["x"] + share * box["width"], box["y"] + share * box["height"])
        quiet(page)
        if about.inner_text() != before:
            break
    assert about.inner_text() != before
    about.locator(".link").first.click()
    expect(page.locator(".insightr-prototype:visible, .insightr-headline:visible").first).to_be_visible()


def test_the_image_stays_when_the_run_changes(explorer, run):
    page = explorer
    chooser = page.locator(".widget-dropdown:visible", has_text="run").first.locator("select")
    listed = chooser.locator("option").all_inner_texts()
    assert any(files.display_path(run.path).split("/")[-2] in text for text in listed)
    redrawn(page, lambda: move(page, "image"))
    name = re.search(r"image (\S+)", headline(page))[1]
    if len(listed) > 1:
        chooser.select_option(index=1)
        page.wait_for_timeout(500)
        quiet(page)
        expect(page.locator(".insightr-headline")).to_contain_text(name, timeout=20_000)
    button(page, "refresh list").click()
    expect(page.locator(".insightr-headline")).to_contain_text(name)


def test_outputs_open_beside_the_notebooks(page, server, explored):
    """`make demo` names notebooks under outputs/, which must open in `make lab`."""
    page.goto(server())
    page.wait_for_selector(".jp-NotebookPanel-toolbar", timeout=60_000)
    expect(page.locator(".lm-TabBar-tab", has_text="07_explore.ipynb").first).to_be_visible()
    expect(
        page.locator(".jp-DirListing-item", has_text="notebooks")
        .or_(page.locator(".jp-BreadCrumbs-item", has_text="notebooks"))
        .first
    ).to_be_visible()
    page.goto(server("outputs"))
    expect(page.locator(".jp-DirListing-item", has_text="runs")).to_be_visible(timeout=60_000)
