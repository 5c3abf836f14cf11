"""The figures and sentences of notebook 01, by tables made by hand and on a small prepared store."""

import numpy as np
import pandas as pd
import pytest

from insightr_nb.analysis import data_report
from insightr_nb.analysis.figures import plt
from insightr_nb.analysis.wording import counted, say
from insightr_nb.data.prepare import prepare
from insightr_nb.settings import DataSettings

SETTINGS = DataSettings(size=64, train_images=40, test_images=10, folds=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIGHTR_OUTPUTS", str(tmp_path_factory.mktemp("report")))
        return prepare(SETTINGS)


def test_a_noun_agrees_with_its_number():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(np.int64(1), "run") == "1 run"


def test_long_sentences_are_wrapped_between_words(capsys):
    say("word " * 30, "b\nc")
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) for line in lines] == [99, 49, 1, 1]


def test_licence_and_citation():
    assert data_report.attribution("idrid").splitlines()[1].startswith("Licence: ")
    assert data_report.attribution("synthetic") == "synthetic: no licence or citation on record"


def test_outlines_are_drawn_in_the_colour_of_the_lesion():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    image = np.full((20, 20, 3), 100, np.uint8)
    drawn = data_report.outlined(image, {"new_vessel": mask})
    assert (drawn[0, 0] == 190).all()  # 150 + 0.4 * 100
    assert (drawn[10, 10] == 190).all()  # inside
    colour = [int(255 * c) for c in plt.get_cmap("tab10").colors[list(data_report._COLOURS).index("new_vessel")]]
    assert drawn[5, 10].tolist() == colour


def test_the_store_is_counted(store):
    assert data_report.describe_store(store).startswith("50 images of 64 x 64 px, 0 rejected; labels from 0 to 4; ")
    counts = data_report.counts(store)
    assert counts["train", "used"].sum() == 40
    assert counts["test", "in the data set"].sum() == 10
    assert counts.index.name == "grade"


def test_the_rarest_grade_is_named():
    table = pd.DataFrame({("train", "used"): [3, 1, 2]}, index=["0", "1", "2"])
    assert data_report.describe_counts(table) == (
        "In the training part, grade 1 is the rarest (1 image) and grade 0 the most frequent (3)."
    )


def test_examples_span_the_labels_and_are_shown_before_and_after(store):
    shown = data_report.examples(store)
    assert shown["label"].iloc[[0, -1]].tolist() == [store.table["label"].min(), store.table["label"].max()]
    raw = data_report.raw_photographs(shown)
    assert len(data_report.before_and_after(store, shown, raw).axes) == 10
    assert len(data_report.before_and_after(store, shown, None).axes) == 5
    assert data_report.raw_photographs(shown.assign(source="no/where.png")) is None


def test_brightness_before_and_after():
    def grey(level):
        return np.full((4, 4, 3), level, np.uint8)

    raw = [grey(100), grey(160)]
    raw[0][0] = 0  # the black surroundings do not count
    text = data_report.describe_brightness(raw, [grey(128), grey(130)])
    assert "by up to 60.0 of 255 grey levels before" in text
    assert "by up to 2.0 after" in text
    assert "no longer at their source" in data_report.describe_brightness(None, raw)


def test_folds_are_counted_and_compared(store):
    parts = data_report.fold_splits(store, SETTINGS)
    counts = data_report.fold_counts(store, parts)
    assert list(counts.columns) == ["fold 0", "fold 1", "test"]
    assert counts.drop(columns="test").to_numpy().sum() == 40
    assert data_report.describe_patients(store, parts) == "No patient is in more than one part of any split."
    counts = pd.DataFrame({"fold 0": [5, 5], "fold 1": [5, 8], "test": [9, 0]}, index=pd.Index([0, 1], name="grade"))
    assert data_report.describe_folds(counts) == "The folds differ most in grade 1: from 5 to 8 validation images."
    assert [t.get_text() for t in data_report.fold_figure(counts).axes[0].texts] == ["5", "5", "9", "5", "8", "0"]
    plt.close("all")
