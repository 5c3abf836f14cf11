"""Sentences that the notebooks print."""

import pytest

from insightr_nb.analysis import wording


@pytest.mark.parametrize(("number", "expect"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_a_noun_is_in_the_plural_unless_there_is_one(number, expect):
    assert wording.counted(number, "image") == expect


def test_lines_are_wrapped_between_words_and_long_words_stay(capsys):
    words = " ".join(["prototype"] * 15)
    path = "runs/" + "x" * 120
    wording.say(words, f"see {path}", "one-two")
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[:2]) == words
    assert [len(line) for line in lines[:2]] == [99, 49]  # ten words, then five
    assert lines[2:] == ["see", path, "one-two"]
