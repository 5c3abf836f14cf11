"""Choice of typical images. tests/training tests the explanations of the smoke run."""

import pandas as pd
import pytest

from insightr_nb.analysis.explanation import typical


@pytest.mark.parametrize(
    ("targets", "predictions", "expect"),
    [
        ([0], [1], ["0"]),
        ([1, 0], [1, 1], ["1", "0"]),
        ([4, 0, 0, 2, 2, 0, 4, 2, 4], [3, 0, 1, 2, 4, 3, 4, 3, 2], ["2", "7", "0"]),
    ],
)
def test_typical_selects_the_median_error_in_each_third_of_the_labels(targets, predictions, expect):
    names = [str(n) for n in range(len(targets))]
    table = pd.DataFrame({"image_id": names, "target": targets, "prediction": predictions})
    assert typical(table) == expect
