"""Which sessions of pytest may use a GPU."""

import os
from collections.abc import Iterable

import pytest


def hide_cards(items: Iterable[pytest.Item]) -> None:
    """Hide the GPUs from this process, its kernels and subprocesses, unless a test that runs is marked `gpu`.

    CUDA reads the variable when it is first used, so that an import of torch may come before.
    """
    if not any(item.get_closest_marker("gpu") for item in items):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
