"""The examples in the docstrings of equations and metrics give the results that they show."""

import doctest

import pytest

from insightr_nb.analysis import metrics
from insightr_nb.model import losses, prototypes


@pytest.mark.parametrize("module", [prototypes, losses, metrics], ids=lambda module: module.__name__)
def test_the_examples_of_a_module_are_right(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
