"""Geometry of a synthetic eye: where vessels and lesions lie, and which lesions a severity has."""

import numpy as np
import pytest

from insightr_nb.data import eye


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def length(points) -> np.ndarray:
    return np.hypot(points[..., 0], points[..., 1])


@pytest.fixture(scope="module")
def anatomy() -> eye.Anatomy:
    return eye.draw_anatomy(rng(1), rng(2), beading=0)


def test_ribbon_is_the_outline_of_a_line_with_its_width():
    line = np.array([[[0.0, 0], [1, 0], [3, 0]]])
    got = eye.ribbon(line, np.full((1, 3), 0.2))
    expect = [[0, 0.1], [1, 0.1], [3, 0.1], [3, -0.1], [1, -0.1], [0, -0.1]]
    assert got[0] == pytest.approx(np.array(expect))


def test_vessels_end_before_the_fovea_and_the_edge(anatomy):
    vessels = anatomy.vessels
    used = np.arange(eye.POINTS) < vessels.alive[:, None]
    assert used.sum() > 1000
    assert length(vessels.points - anatomy.fovea)[used].min() > 0.15
    assert length(vessels.points)[used].max() < 1.06


def test_the_eyes_of_a_patient_differ_less_than_two_patients():
    one, same, another = (eye.draw_anatomy(rng(patient), rng(e), 0) for patient, e in ((1, 2), (1, 3), (4, 2)))
    trunks = [anatomy.vessels.points[:10, 10] for anatomy in (one, same, another)]
    assert 0 < length(trunks[0] - trunks[1]).mean() < 0.6 * length(trunks[0] - trunks[2]).mean()
    assert (one.disc_radius, one.cup) == (same.disc_radius, same.cup) != (another.disc_radius, another.cup)


def test_beading_changes_the_calibre_of_veins_by_up_to_35_percent_and_no_artery():
    plain, beaded = (eye.draw_anatomy(rng(1), rng(2), beading).vessels for beading in (0, 1))
    ratio = beaded.widths[:10] / plain.widths[:10]
    assert (ratio[~plain.vein[:10]] == 1).all()
    assert ratio[plain.vein[:10]].max() == pytest.approx(1.35, abs=0.01)
    assert ratio[plain.vein[:10]].min() == pytest.approx(0.66, abs=0.01)


@pytest.mark.parametrize(
    ("severity", "kinds"),
    [
        (0.4, set()),
        (1.4, {"microaneurysm"}),
        (2.0, {"microaneurysm", "haemorrhage", "hard_exudate", "cotton_wool_spot"}),
        (3.9, set(eye.LESIONS)),
    ],
)
def test_lesions_of_a_severity(anatomy, severity, kinds):
    """In 30 eyes every kind that a severity can have is there, and no other."""
    eyes = [eye.draw_lesions(rng(seed), anatomy, severity, min(severity, 3.4)) for seed in range(30)]
    assert all(list(shapes) == list(eye.LESIONS) for shapes in eyes)
    assert {kind for shapes in eyes for kind, drawn in shapes.items() if drawn} == kinds


def test_severe_eyes_have_haemorrhages_evenly_in_all_four_quadrants(anatomy):
    for seed in range(10):
        drawn = eye.draw_lesions(rng(seed), anatomy, 3.0, 3.0)["haemorrhage"]
        centres = np.array([polygon.mean(axis=0) for polygon, _ in drawn])
        _, counts = np.unique(centres > 0, axis=0, return_counts=True)
        assert len(centres) >= 10
        assert len(counts) == 4
        assert np.ptp(counts) <= 2


def test_lesions_lie_off_the_optic_disc(anatomy):
    drawn = [p for seed in range(20) for p, _ in eye.draw_lesions(rng(seed), anatomy, 1.4, 1.4)["microaneurysm"]]
    centres = np.array([polygon.mean(axis=0) for polygon in drawn])
    assert length(centres - anatomy.disc).min() > 1.2 * anatomy.disc_radius
    assert length(centres).max() < 1


def test_distractors_are_no_lesions(anatomy):
    drawn = [eye.draw_distractors(rng(seed), anatomy) for seed in range(30)]
    assert all(list(shapes) == ["drusen", "dust"] for shapes in drawn)
    assert np.mean([len(shapes["drusen"]) for shapes in drawn]) == pytest.approx(1.5, abs=0.6)
    assert np.mean([len(shapes["dust"]) for shapes in drawn]) == pytest.approx(0.8, abs=0.5)
