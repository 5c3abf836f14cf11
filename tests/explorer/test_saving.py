"""A view saved as PNG and JSON."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from insightr_nb.explorer import saving
from insightr_nb.explorer.scene import Scene, explained
from insightr_nb.explorer.viewer import viewer
from insightr_nb.explorer.widgets import Status


@pytest.fixture
def saved(explored, selection, tmp_path, monkeypatch):
    """Save the selected image at a view, and return PNG and JSON."""
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    made, scene = viewer(Status()), Scene("a")
    scene.blocks = explained(scene, explored, selection.subject, selection.explanation, selection.view)
    made.show(scene)

    def save(name: str, view: dict):
        selection.explanation = replace(selection.explanation, name=name)
        made.view = view
        text = saving.save(explored, selection, made)
        path = tmp_path / "views" / text.rpartition(" and ")[2]
        assert str(path.with_suffix(".png")).endswith(text.partition(" and ")[0].removeprefix("outputs/"))
        return cv2.imread(str(path.with_suffix(".png"))), json.loads(path.read_text())

    return save


def test_a_view_is_saved_with_its_numbers_and_a_second_one_under_another_name(saved, explored, selection, tmp_path):
    x = selection.explanation
    whole, content = saved("eye", {})
    assert content["prediction"] == pytest.approx(explored.predictions["prediction"][5])
    assert content["target"] == explored.predictions["target"][5]
    assert [p["prototype"] for p in content["prototypes"]] == x.top(3).tolist()
    assert content["view"] == {"layers": ["boxes"], "original": False, "opacity": 0.6}
    assert [m["prototypes"] for m in content["matches"]] == [list(js) for js in x.reasons(3)]
    zoomed, content = saved("eye", {"zoom": 3.0, "chosen": 1, "offset": [0.1, 0.2]})
    assert (content["view"]["zoom"], content["view"]["offset"]) == (3, [0.1, 0.2])
    assert min(whole.shape[:2]) > 500
    assert whole.shape != zoomed.shape or np.abs(whole.astype(int) - zoomed).mean() > 1
    assert sorted(p.name for p in (tmp_path / "views").iterdir()) == ["eye-2.json", "eye-2.png", "eye.json", "eye.png"]


def test_the_title_has_the_numbers_the_run_and_the_warnings(saved, selection, monkeypatch):
    titles = []

    def note(figure, path) -> None:
        titles.append(figure.get_suptitle())
        save(figure, path)

    save = saving.save_figure
    monkeypatch.setattr(saving, "save_figure", note)
    selection.explanation = replace(selection.explanation, warnings=("Do not trust it.",))
    saved("eye", {})
    assert titles[0].startswith(f"eye: prediction {selection.explanation.prediction:.2f}, label")
    assert titles[0].endswith("insightr/fold0\nDo not trust it.")


def test_the_name_of_the_image_becomes_a_file_name(saved, tmp_path):
    _, content = saved("left/020", {})
    assert content["image"] == "left/020"
    assert (tmp_path / "views/left%2F020.png").exists()
