"""Tab 5 of the explorer: clicks in the latent map."""

import numpy as np
import pytest
from explorer import shown

from insightr_nb.explorer import map_tab
from insightr_nb.explorer.map_tab import MapTab
from insightr_nb.explorer.subject import Subject


@pytest.fixture
def tab(explored, selection, went) -> MapTab:
    made = MapTab(explored, selection, went.append)
    made.show()
    return made


def click(tab, point) -> None:
    tab.viewer.handle({"event": "at", "x": point[0] / 900, "y": point[1] / 900})


def test_a_click_on_a_circle_chooses_the_prototype(tab, explored, went):
    circles = tab.places[0]
    for j in (7, 3, 3):
        click(tab, circles[j] + [4, -3])
        assert tab.chosen == j
        assert shown.text(tab.viewer).startswith(f"prototype {j}, label {explored.labels[j]:.2f} (ring)")
        assert shown.pane(tab.viewer)["reasons"][0]["anchor"] == pytest.approx(circles[j] / 900)
    tab.look.click()
    assert went == ["prototype:3"]
    row = tab.slider.value
    tab.viewer.handle({"event": "step", "by": -1})
    assert tab.slider.value == row - 1


def test_a_click_on_a_star_chooses_the_image_of_its_patch(tab, explored):
    circles, stars = tab.places
    free = [np.hypot(*(circles - star).T).min() for star in stars]
    free = [n for n in np.argsort(free)[::-1] if (stars == stars[n]).all(1).sum() == 1]
    for patch in free[:2]:
        row = explored.predictions.iloc[patch // 5]  # five patches an image
        click(tab, stars[patch])
        assert f"patch of {row['image_id']}, label {row['target']:g} (ring)" in shown.text(tab.viewer)
        assert f'data-go="image:{row["image_id"]}"' in shown.blocks(tab.viewer, "text")[0]["html"]
    before = shown.text(tab.viewer)
    corner = next(p for p in ([5, 5], [5, 895], [895, 5]) if np.hypot(*(np.concatenate(tab.places) - p).T).min() > 25)
    click(tab, corner)
    assert shown.text(tab.viewer) == before
    tab.slider.value = 3 if tab.slider.value != 3 else 2
    assert "prototype" in shown.text(tab.viewer).split("(ring)")[0]


def test_the_patches_of_the_explained_image_are_marked(tab, explored, selection, monkeypatch):
    drawn = []
    monkeypatch.setattr(map_tab.pictures, "scatter", lambda *a: drawn.append(a) or np.zeros((900, 900, 3), np.uint8))
    tab.show()
    *_, diamonds, _ = drawn.pop()
    assert np.array_equal(diamonds, tab.places[1][25:30])  # of test image 5
    selection.subject = Subject("eye.png", "eye.png")
    tab.show()
    circles, labels, stars, targets, low, high, _, diamonds, _ = drawn.pop()
    assert len(diamonds) == 0
    assert (len(circles), len(stars)) == (10, 200)
    assert np.array_equal(targets, np.repeat(explored.predictions["target"], 5))
    assert (low, high) == (explored.labels.min(), explored.labels.max())
    assert np.array_equal(labels, explored.labels)
