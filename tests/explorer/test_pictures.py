"""Pictures and charts of the explorer."""

import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pandas as pd

from insightr_nb.data import graham
from insightr_nb.explorer import pictures

GREY = np.full((64, 64, 3), 90, np.uint8)


def test_a_box_is_drawn_where_it_lies():
    picture = pictures.boxed(GREY, [(16, 8, 32, 24)], 128)
    coloured = np.argwhere((picture == pictures.CYAN).all(axis=2))
    (top, left), (bottom, right) = coloured.min(0), coloured.max(0)
    assert abs(left - 32) <= 1
    assert abs(right - 63) <= 1
    assert abs(top - 16) <= 1
    assert abs(bottom - 47) <= 1


def test_a_patch_has_its_box_in_the_middle_also_at_the_border():
    image = GREY.copy()
    image[0:8, 0:8] = 255
    picture = pictures.patch(image, (0, 0, 8, 8), 12, 96)
    assert picture.shape == (96, 96, 3)
    assert (picture[48, 48] == 255).all()
    assert (picture[10, 10] == 128).all()  # beyond the image


def test_wide_picture_is_padded_to_a_square():
    picture = graham.resize(np.full((30, 60, 3), 200, np.uint8), 100)
    assert (picture[50, 50] == 200).all()
    assert (picture[10, 50] == 128).all()


def test_encoded_pictures_can_be_decoded_with_their_colours():
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    got = cv2.imdecode(np.frombuffer(pictures.encode(red), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(got[20, 20].astype(int) - (0, 0, 200)).max() < 12


def test_row_of_pictures_has_gaps():
    assert pictures.row([GREY, GREY, GREY], gap=6).shape == (64, 3 * 64 + 12, 3)


def test_the_chart_of_contributions_has_a_bar_a_prototype_and_its_lines():
    labels, shares = np.array([-0.9, 1.0, 4.9]), np.array([0.1, 0.6, 0.3])
    svg = pictures.contributions(labels, shares, {1}, {"prediction <1>": (1.9, "black"), "label 2": (2, "green")})
    root = ET.fromstring(svg)
    bars = [e for e in root if e.tag.endswith("rect")]
    heights = [float(b.get("height")) for b in bars]
    assert np.allclose(np.array(heights) / max(heights), [1 / 6, 1, 0.5], atol=0.01)
    assert [b.get("stroke") for b in bars] == ["none", "black", "none"]
    middles = [float(b.get("x")) + float(b.get("width")) / 2 for b in bars]
    assert np.isclose((middles[1] - middles[0]) / (middles[2] - middles[0]), 1.9 / 5.8, atol=0.01)
    assert "prediction &lt;1&gt;" in svg


def test_the_chart_of_shares():
    root = ET.fromstring(pictures.shares_chart(pd.Series({"all": 0.5, 0.0: 1.0, 1.0: 0.0})))
    heights = [float(e.get("height")) for e in root if e.tag.endswith("rect")]
    assert np.isclose(heights[0], heights[1] / 2)
    assert heights[2] == 0


def test_the_latent_map_rings_the_chosen_prototype():
    points, stars = np.array([[0.0, 0], [1, 1]]), np.array([[0.5, 0.5]])
    first = pictures.scatter(points, [0, 4], stars, [2], 0, 4, 0, side=200)
    second = pictures.scatter(points, [0, 4], stars, [2], 0, 4, 1, side=200)
    changed = np.argwhere((first != second).any(axis=2))
    assert ((changed < 60) | (changed > 140)).all()
    assert len(changed) > 50
