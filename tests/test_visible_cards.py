"""`make test` leaves the GPU of a machine alone; `make test-gpu` uses it."""

import os
import subprocess
import sys

import pytest
import torch
from places import ROOT
from visible_cards import hide_cards

SEEN = "import os, torch; print(repr(os.environ.get('CUDA_VISIBLE_DEVICES')), torch.cuda.is_available())"


def test_tests_and_their_subprocesses_see_no_card():
    """On a machine with a card as well: kernels of notebooks are subprocesses."""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()
    done = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["''", "False"]


class Item:
    """A test with or without the mark `gpu`."""

    def __init__(self, *marks: str):
        self.get_closest_marker = lambda name: name in marks or None


@pytest.mark.parametrize(
    ("items", "expect"),
    [([Item()], ""), ([Item("faults"), Item()], ""), ([Item("gpu")], "3"), ([Item(), Item("gpu")], "3"), ([], "")],
)
def test_only_a_session_with_tests_marked_gpu_sees_the_cards(monkeypatch, items, expect):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    hide_cards(items)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expect


@pytest.mark.parametrize(("marks", "collected"), [([], False), (["-m", "gpu"], True)])
def test_tests_marked_gpu_run_on_request_only(marks, collected):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *marks, "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ("test_the_same_bits" in done.stdout) == collected, done.stdout
