"""Notebook 07 in a real browser: sliders, buttons, and the displayed numbers."""

import os
import re
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from insightr_nb import files
from insightr_nb.analysis import metrics

pytestmark = pytest.mark.browser
SHOTS = Path(os.environ.get("INSIGHTR_SCREENSHOTS", "outputs/screenshots"))
KEYS = {"right": "ArrowRight", "left": "ArrowLeft"}


@pytest.fixture
def explorer(page, server, run):
    """Notebook 07 with all cells run; from Run All to a usable explorer is timed."""
    page.goto(server("07_explore.ipynb"))
    page.wait_for_selector(".jp-NotebookPanel-toolbar", timeout=60_000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)  # the kernel is there
    page.get_by_role("menuitem", name="Run", exact=True).click()
    begin = time.monotonic()
    page.locator("li.lm-Menu-item").filter(has_text=re.compile("^Run All Cells")).first.click()
    page.wait_for_selector(".insightr-picture", timeout=60_000)
    loaded(page, ".insightr-picture")
    print(f"\nfrom Run All to a usable explorer: {time.monotonic() - begin:.1f} s")
    return page


def loaded(page, selector: str) -> str:
    """Waits until the picture is there and decoded; its source."""
    there = "s => { const i = document.querySelector(s); return i && i.complete && i.naturalWidth > 50 }"
    page.wait_for_function(there, arg=selector, timeout=20_000)
    return page.locator(selector).first.get_attribute("src")


def slider(page, name: str):
    row = page.locator(".widget-hslider:visible", has=page.locator(f".widget-label:text-is('{name}')"))
    return row.locator(".noUi-handle")


def move(page, name: str, key: str = "right") -> None:
    handle = slider(page, name)
    handle.focus()
    handle.press(KEYS[key])


def tab(page, name: str) -> None:
    page.locator(".lm-TabBar-tab", has_text=name).first.click()


def button(page, name: str):
    return page.locator(".jupyter-button:visible", has_text=name)


def shoot(page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.locator(".insightr-explorer").screenshot(path=SHOTS / f"{name}.png")


def number(page, selector: str) -> float:
    return float(page.locator(selector).first.inner_text())


def headline(page) -> str:
    return page.locator(".insightr-headline").inner_text()


def test_explain_an_image(explorer, run):
    page = explorer
    table = run.table("predictions.csv")
    expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][0])
    assert number(page, ".insightr-prediction") == pytest.approx(table["prediction"][0], abs=0.0051)
    shoot(page, "1_explain")

    seconds = []
    for n in range(1, 8):
        before = page.locator(".insightr-pair").first.get_attribute("src")
        begin = time.monotonic()
        move(page, "image")
        changed = "b => { const i = document.querySelector('.insightr-pair'); return i.src != b && i.complete }"
        page.wait_for_function(changed, arg=before)
        seconds.append(time.monotonic() - begin)
        expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][n])
        assert number(page, ".insightr-prediction") == pytest.approx(table["prediction"][n], abs=0.0051)
        top = [table[f"prototype_{k}"][n] for k in (1, 2, 3)]
        shown = re.findall(r"prototype (\d+), label", " ".join(page.locator(".widget-html:visible").all_inner_texts()))
        assert [int(j) for j in shown[:3]] == top
    median = statistics.median(seconds)
    print(f"\nfrom moving the slider to the loaded pictures: median {1000 * median:.0f} ms")

    move(page, "prototypes")
    expect(page.locator(".insightr-pair:visible")).to_have_count(4)
    move(page, "prototypes", "left")
    before = page.locator(".insightr-pair").first.get_attribute("src")
    move(page, "map")
    page.wait_for_function("b => document.querySelector('.insightr-pair').src != b", arg=before)
    before = page.locator(".insightr-picture").first.get_attribute("src")
    page.get_by_role("button", name="original").click()
    page.wait_for_function("b => document.querySelector('.insightr-picture').src != b", arg=before)
    loaded(page, ".insightr-picture")
    shoot(page, "1_explain_original")

    errors = (table["prediction"] - table["target"]).abs()
    page.locator(".widget-dropdown:visible", has_text="images").locator("select").select_option("largest error first")
    expect(page.locator(".insightr-headline")).to_contain_text(table["image_id"][errors.idxmax()])
    page.locator(".widget-dropdown:visible", has_text="label").locator("select").select_option("2")
    of_two = table[table["target"] == 2]
    expect(page.locator(".insightr-headline")).to_contain_text(of_two["image_id"][errors[of_two.index].idxmax()])


def test_own_images(explorer, tmp_path, photographs):
    page = explorer
    field = page.locator(".widget-text:visible", has_text="your file").locator("input")

    def give(path) -> None:
        field.fill(str(path))
        field.press("Enter")
        button(page, "explain it").click()

    give(photographs["eye"])
    expect(page.locator(".insightr-headline")).to_contain_text("eye.png")
    expect(page.locator(".insightr-message")).to_have_count(0)
    give(photographs["text"])
    expect(page.locator(".insightr-message")).to_contain_text("cannot be decoded as an image")
    give(photographs["wall"])
    expect(page.locator(".insightr-message")).to_contain_text("No clear fundus outline")
    shoot(page, "1_no_fundus")
    button(page, "back to the test set").click()
    expect(page.locator(".insightr-headline")).to_contain_text("label")
    assert photographs["large"].stat().st_size > 10 * 2**20  # more than Jupyter takes unless it is told to
    for name in ("eye", "large"):
        with page.expect_file_chooser() as chooser:
            button(page, "upload").click()
        chooser.value.set_files(photographs[name])
        expect(page.locator(".insightr-headline")).to_contain_text(f"{name}.png", timeout=20_000)


def test_browse_prototypes(explorer, run):
    page = explorer
    table = run.table("prototypes.csv").sort_values("label", kind="stable").reset_index(drop=True)
    tab(page, "Browse prototypes")
    for n in range(3):
        shown = page.locator(".insightr-prototype")
        expect(shown).to_contain_text(f"prototype {table['prototype'][n]}, label {table['label'][n]:.2f}")
        expect(shown).to_contain_text(table["image_id"][n])
        move(page, "prototype")
    shoot(page, "2_browse")


def test_what_if(explorer, run):
    page = explorer
    tab(page, "What if")
    whole = page.locator(".insightr-whatif")
    stored = run.metrics
    expect(whole).to_contain_text(f"{stored['mae']:.3f}")
    weights, table = np.array(run.array("weights.npy"), float), run.table("predictions.csv")
    labels = np.array(run.table("prototypes.csv").sort_values("prototype")["label"])
    order = np.argsort(labels, kind="stable")

    options = page.locator(".widget-select-multiple:visible select")
    options.select_option(index=[0, 1])
    weights[:, order[:2]] = 0
    changed = (weights * labels).sum(1) / weights.sum(1)
    expect(whole).to_contain_text(f"{metrics.mean_absolute_error(changed, table['target']):.3f}")
    expect(whole).to_contain_text(f"{changed[0]:.2f}")
    shoot(page, "3_what_if")

    page.locator(".widget-dropdown:visible", has_text="prototype").locator("select").select_option(index=4)
    box = page.locator(".widget-text:visible", has_text="label").locator("input")
    expect(box).to_have_value(f"{round(labels[order[4]], 2):g}")
    box.fill("4")
    box.press("Enter")
    button(page, "set its label").click()
    labels[order[4]] = 4
    changed = (weights * labels).sum(1) / weights.sum(1)
    expect(whole).to_contain_text(f"{metrics.mean_absolute_error(changed, table['target']):.3f}")
    box.fill("9")
    box.press("Enter")
    button(page, "set its label").click()
    expect(page.locator(".insightr-message:visible")).to_contain_text("label 9: must be from -0.90 to 4.90")

    button(page, "all off").click()
    expect(page.locator(".insightr-message:visible")).to_contain_text("all prototypes are switched off")
    button(page, "reset").click()
    expect(whole).to_contain_text(f"{stored['mae']:.3f}")
    cells = whole.locator("tr:nth-child(3) td").all_inner_texts()
    assert cells[1] == cells[2]


def test_latent_map_leads_to_a_prototype(explorer, run):
    page = explorer
    tab(page, "Latent map")
    before = loaded(page, ".insightr-map")
    table = run.table("prototypes.csv").sort_values("label", kind="stable").reset_index(drop=True)
    patch = table[["image_id", "row", "col"]]
    other = int((patch != patch.iloc[0]).any(axis=1).idxmax())  # two prototypes of one patch are at one place
    for _ in range(other):
        move(page, "prototype")
    expect(page.locator(".widget-html:visible", has_text="(ring)")).to_contain_text(
        f"prototype {table['prototype'][other]}, label {table['label'][other]:.2f}"
    )
    page.wait_for_function("b => document.querySelector('.insightr-map').src != b", arg=before)
    shoot(page, "4_latent_map")
    button(page, "browse it").click()
    expect(page.locator(".insightr-prototype:visible")).to_contain_text(f"prototype {table['prototype'][other]}, label")


def test_the_run_chooser(explorer, run):
    page = explorer
    chooser = page.locator(".widget-dropdown:visible", has_text="run").first.locator("select")
    listed = chooser.locator("option").all_inner_texts()
    assert any(files.display_path(run.path).split("/")[-2] in text for text in listed)
    button(page, "refresh list").click()
    expect(page.locator(".insightr-headline")).to_contain_text("prediction")
