"""Sentences of the notebooks: numbers with nouns, and wrapped lines."""

from insightr_nb.analysis.wording import counted, say


def test_a_noun_follows_its_number():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_sentences_are_wrapped_between_words(capsys):
    say("word " * 30, "one\ntwo")
    assert capsys.readouterr().out.splitlines() == [" ".join(["word"] * 20), " ".join(["word"] * 10), "one", "two"]
