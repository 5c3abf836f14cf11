"""Pictures and charts of the explorer."""

import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pandas as pd
import pytest
from explorer import shown

from insightr_nb.explorer import pictures

GREY = np.full((64, 64, 3), 90, np.uint8)


def test_a_patch_has_its_box_in_the_middle_also_at_the_border():
    image = GREY.copy()
    image[0:8, 0:8] = 255
    picture = pictures.patch(image, (0, 0, 8, 8), 12, 96)
    assert picture.shape == (96, 96, 3)
    assert (picture[48, 48] == 255).all()
    assert (picture[10, 10] == 128).all()  # beyond the image


def test_encoded_pictures_can_be_decoded_with_their_colours():
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(shown.decoded(pictures.encode(red))[20, 20].astype(int) - (200, 0, 0)).max() < 12


def test_a_map_is_transparent_where_it_is_0_and_glows_where_it_is_1():
    got = shown.decoded(pictures.heat_png(np.array([[0, 0.5], [1, 2]])))
    assert got[..., 3].tolist() == [[0, 127], [255, 255]]
    assert got[1, 0, :3].tolist() == [0, 229, 255]  # cyan


def test_a_trace_is_drawn_by_its_square_root_up_to_its_highest_values():
    values = np.full((100, 100), 0.25)
    values[:10] = 1
    values[0, 0] = 50  # one pixel does not set the scale
    got = shown.decoded(pictures.trace_png(values))[..., 3]
    assert (got[5, 5], got[0, 0]) == (255, 255)
    assert got[50, 50] == pytest.approx(127, abs=1)
    assert not shown.decoded(pictures.trace_png(np.zeros((4, 4))))[..., 3].any()


def test_the_chart_of_contributions_has_a_bar_a_prototype_its_numbers_and_its_lines():
    labels, shares = np.array([-0.9, 1.0, 4.9]), np.array([0.1, 0.6, 0.3])
    lines = {"prediction <1>": (1.9, ""), "label 2": (2, "6 3")}
    svg = pictures.contributions(labels, shares, {1: 0, 2: 3}, lines)
    bars = [shown.bars(svg)[j] for j in range(3)]
    heights = [float(b.get("height")) for b in bars]
    assert np.allclose(np.array(heights) / max(heights), [1 / 6, 1, 0.5], atol=0.01)
    assert [b.get("stroke") for b in bars] == ["#555", pictures.COLOURS[0], pictures.COLOURS[3]]
    middles = [float(b.get("x")[:-1]) + float(b.get("width")[:-1]) / 2 for b in bars]
    assert np.isclose((middles[1] - middles[0]) / (middles[2] - middles[0]), 1.9 / 5.8, atol=0.01)
    badges = [(svg.get("x"), svg[0].get("fill"), svg[1].text) for svg in ET.fromstring(svg) if svg.tag.endswith("}svg")]
    assert badges == [(f"{middles[n]:.2f}%", pictures.COLOURS[k], str(k + 1)) for n, k in ((1, 0), (2, 3))]
    drawn = {e.get("stroke-dasharray"): e.get("x1") for e in ET.fromstring(svg) if e.tag.endswith("line")}
    assert (drawn[""], drawn["6 3"]) == (f"{5 + 90 * 2.8 / 5.8:.2f}%", f"{5 + 90 * 2.9 / 5.8:.2f}%")
    assert "prediction &lt;1&gt;" in svg


def test_the_chart_of_shares():
    root = ET.fromstring(pictures.shares_chart(pd.Series({"all": 0.5, 0.0: 1.0, 1.0: 0.0})))
    heights = [float(e.get("height")) for e in root if e.tag.endswith("rect")]
    assert np.isclose(heights[0], heights[1] / 2)
    assert heights[2] == 0


def test_points_of_the_latent_map_fill_the_picture_with_the_second_component_upwards():
    circles, stars = pictures.places(np.array([[0.0, 0], [2, 1]]), np.array([[1.0, 0.5]]), 240)
    assert circles.tolist() == [[20, 220], [220, 20]]
    assert stars.tolist() == [[120, 120]]


def test_the_latent_map_has_its_colours_a_ring_and_diamonds():
    circles, stars = np.array([[50, 150], [150, 50]]), np.array([[100, 100]])
    none = np.zeros((0, 2), int)
    about = circles, np.array([0, 4]), stars, np.array([2]), 0, 4
    first = pictures.scatter(*about, circles[0], none, 200)
    assert first[150, 50].tolist() == [49, 54, 149]  # the lowest label is blue
    assert first[50, 150].tolist() == [165, 0, 38]  # the highest red
    second = pictures.scatter(*about, circles[1], none, 200)
    changed = np.argwhere((first != second).any(axis=2))
    assert np.hypot(*(changed - [150, 50]).T).clip(max=np.hypot(*(changed - [50, 150]).T)).max() < 22
    assert len(changed) > 100
    diamond = pictures.scatter(*about, circles[0], stars, 200)
    changed = np.argwhere((first != diamond).any(axis=2))
    assert cv2.minEnclosingCircle(changed.astype(np.float32))[0] == pytest.approx((100, 100), abs=2)


def test_colours_of_labels_and_of_numbers_differ():
    svg = pictures.contributions(np.array([0.0, 4.0]), np.array([0.5, 0.5]), {}, {"prediction": (2, "black")})
    assert [shown.bars(svg)[j].get("fill") for j in (0, 1)] == ["#313695", "#a50026"]
    assert len(set(pictures.COLOURS)) == 8


def test_the_chart_of_equal_and_of_small_labels():
    for labels in (np.array([2.0, 2.0]), np.array([0.1, 0.9])):
        svg = pictures.contributions(labels, np.array([0.2, 0.8]), {}, {"prediction": (labels.mean(), "black")})
        assert "nan" not in svg
    assert ">0.5</text>" in svg
    tallest = next(iter(shown.bars(svg).values()))
    assert tallest.get("data-go") == "prototype:1"  # the lower bar is drawn later, in front
