"""Widgets shared by the tabs: messages are escaped, and widths are those that were given."""

import ipywidgets
import pytest

from insightr_nb.explorer import widgets


def test_a_message_is_escaped_and_has_its_colour():
    got = widgets.message("<b> & 'x'", widgets.ERROR)
    assert "&lt;b&gt; &amp; &#x27;x&#x27;" in got
    assert f"color:{widgets.ERROR}" in got
    assert f"color:{widgets.WARNING}" in widgets.message("x")


def test_no_message_is_no_element():
    assert widgets.message("") == ""


def test_small_text_keeps_its_markup_and_its_layout():
    made = widgets.small("a <b>c</b>", width="20px")
    assert made.value == "<small>a <b>c</b></small>"
    assert made.layout.width == "20px"


@pytest.mark.parametrize("made", [widgets.image(60), widgets.column(60, ipywidgets.HTML("a"))], ids=["image", "column"])
def test_widths_are_in_pixels_and_do_not_shrink(made):
    assert (made.layout.width, made.layout.flex) == ("60px", "0 0 auto")


def test_choice_counts_from_zero_and_acts_on_release():
    slider = widgets.choice(3, "image")
    assert (slider.min, slider.max, slider.description, slider.continuous_update) == (0, 2, "image", False)
