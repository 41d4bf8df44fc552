"""The response benchmark: that what is painted has the area that it is said to have."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmark/accuracy"))

import painted  # noqa: E402
import response  # noqa: E402
from perturb import Case  # noqa: E402

MM = 0.5


@pytest.fixture(scope="module")
def case():
    """Two slices: a disc of GM (radius 4 mm) in a disc of cord (8 mm), WM 100, GM 120, around it 200, with noise."""
    x, y = np.indices((60, 50)) * MM
    away = np.hypot(x - 14.0, y - 12.0)[..., None].repeat(2, 2)
    sc, gm = away < 8, away < 4
    data = 200.0 - 100.0 * sc + 20.0 * gm + np.random.default_rng(0).normal(0, 1, sc.shape)
    return Case(data.astype(np.float32), np.diag([MM, MM, 4, 1]), sc, gm)


def disc(radius):
    return np.pi * radius**2


@pytest.mark.parametrize("moved", [-0.6, 0.0, 0.6])
def test_painted_area_is_that_of_the_moved_outline(case, moved):
    one = painted.paint(case, moved)
    assert one.gm_mm2 == pytest.approx(disc(4 + moved * MM), rel=0.055)
    # The image has that much of GM's contrast, and nothing else changes.
    inner = one.case.data[case.sc & (one.case.data < 160)]
    assert (inner - 100).sum() / 20 * MM**2 / 2 == pytest.approx(disc(4 + moved * MM), rel=0.06)
    np.testing.assert_array_equal(one.case.data[~case.sc], case.data[~case.sc])


def test_parts_that_do_not_move_stay(case):
    whole, half = (painted.paint(case, 0.6, painted.Paint(form)).gm_mm2[0] for form in ("whole", "one side"))
    still = painted.paint(case, 0.0).gm_mm2[0]
    assert half - still == pytest.approx((whole - still) / 2, rel=0.1)


def test_contrast_noise_and_erased(case):
    inner = case.gm & (np.hypot(*np.indices((60, 50)) * MM - np.array([14.0, 12.0])[:, None, None]) < 3)[..., None]
    dark = painted.paint(case, 0.0, painted.Paint(contrast=-1.0))
    assert dark.case.data[inner].mean() == pytest.approx(80, abs=1)
    rough = painted.paint(case, 0.0, painted.Paint(noise=0.1))
    assert rough.case.data[inner].std() == pytest.approx(10, rel=0.15)
    none = painted.paint(case, None)
    assert (none.gm_mm2 == 0).all() and none.case.data[inner].mean() == pytest.approx(100, abs=1)


@pytest.mark.parametrize("percent", [-10, 0, 10])
def test_cord_is_scaled_in_area_and_far_away_nothing_moves(case, percent):
    quiet = replace(case, data=np.where(case.sc, 100.0, 200.0).astype(np.float32))
    one = painted.scaled_cord(quiet, percent)
    found = ((200 - one.case.data) / 100).sum() * MM**2 / 2
    assert found == pytest.approx(disc(8) * (1 + percent / 100), rel=0.02)
    assert one.sc_mm2 == pytest.approx(case.sc.sum((0, 1)) * MM**2 * (1 + percent / 100))
    np.testing.assert_array_equal(one.case.data[-8:], quiet.data[-8:])


def test_line_of_an_answer_that_follows_by_half():
    true = np.array([[4.0, 8], [8, 12], [12, 16]])
    line = response.Line(true, 3 + 0.5 * true)
    assert tuple(line.fit) == pytest.approx((0.5, 3)) and line.slice_slopes == pytest.approx([0.5, 0.5])
    assert line.middle == pytest.approx(-20) and line.spread == pytest.approx((0, 0), abs=1e-9)


def test_smallest_change_grows_where_the_answer_follows_less():
    assert response.smallest_change(1.0, 0.5) == pytest.approx(1.96 * np.sqrt(2) * 2)
    assert response.smallest_change(1.0, 1.0, 20) == pytest.approx(2.8 * np.sqrt(2 / 20))
