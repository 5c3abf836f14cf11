"""Widgets shared by the tabs: messages are escaped, and the sign of being busy ends with the work."""

import pytest

from insightr_nb.explorer import widgets


def test_a_message_is_escaped_and_has_its_colour_and_its_lines():
    got = widgets.message("<b> & 'x'\nsecond", widgets.ERROR)
    assert "&lt;b&gt; &amp; &#x27;x&#x27;<br>second" in got
    assert "--jp-error-color1" in got
    assert "--jp-warn-color1" in widgets.message("x")
    assert widgets.message("") == ""


def test_small_text_keeps_its_markup_and_its_layout():
    made = widgets.small("a <b>c</b>", width="20px")
    assert "font-size:12px" in made.value
    assert "a <b>c</b>" in made.value
    assert made.layout.width == "20px"


def test_choice_counts_from_zero_and_acts_on_release():
    slider = widgets.choice(3, "image")
    assert (slider.min, slider.max, slider.description, slider.continuous_update) == (0, 2, "image", False)


def test_the_sign_of_being_busy_is_escaped_and_ends_also_after_an_error():
    status = widgets.Status()

    def work() -> None:
        with status.busy("<opening>"):
            assert "&lt;opening&gt;" in status.value
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        work()
    assert status.value == ""
