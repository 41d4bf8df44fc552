"""The centreline: steady where the data are few or noisy, faithful where the cord bends."""

import numpy as np
import pytest

from sctseg7t.image.frame import frame_of
from sctseg7t.measure.centreline import fit_centreline


def fit(height_mm, offset_mm, area=None):
    """Fit centroids (r, a) in mm at whole multiples of a slice step; gaps are empty slices."""
    step = np.gcd.reduce(np.round(np.diff(height_mm) * 100).astype(int)) / 100
    index = np.round((height_mm - height_mm[0]) / step).astype(int)
    centroid = np.full((index[-1] + 1, 2), np.nan)
    centroid[index] = offset_mm
    weights = np.full(len(centroid), 60.0)
    if area is not None:
        weights[index] = area
    line = fit_centreline(centroid, weights, frame_of(np.diag([1, 1, step, 1])))
    return line.slope[index], line


def angle_sd(n_slices, step, rng, runs=400):
    height = step * np.arange(n_slices)
    slopes = [fit(height, rng.normal(0, 0.2, (n_slices, 2)))[0] for _ in range(runs)]
    return np.degrees(np.arctan(slopes)).std(axis=0).max()


# An interpolating spline gives 11.6 degrees for four slices.
@pytest.mark.parametrize(("n_slices", "step"), [(4, 4), (5, 3), (20, 3), (40, 0.5)])
def test_jitter_is_not_turned_into_angle(n_slices, step):
    assert angle_sd(n_slices, step, np.random.default_rng(1), 200) < 2


def test_stated_sd_covers_the_simulated_one():
    height = 4.0 * np.arange(4)
    stated = np.degrees(fit(height, np.zeros((4, 2)))[1].slope_sd).max()
    assert angle_sd(4, 4, np.random.default_rng(2)) <= stated < 4


@pytest.mark.parametrize(("n_slices", "step"), [(8, 4), (15, 5), (20, 3), (100, 0.5), (150, 0.5)])
def test_arc_of_150_mm_is_followed(n_slices, step):
    height = step * np.arange(n_slices)
    from_middle = height - height.mean()
    arc = 150 - np.sqrt(150**2 - from_middle**2)
    slope, _ = fit(height, np.column_stack([np.zeros(n_slices), arc]))
    expected = np.degrees(np.arcsin(from_middle / 150))
    assert np.degrees(np.arctan(slope[:, 1])) == pytest.approx(expected, abs=1)
    assert slope[:, 0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "height", [*(4.0 * np.arange(n) for n in (2, 3, 4, 5, 30)), np.array([0, 3, 6, 24, 27, 42.0])], ids=len
)
def test_straight_tilt_is_exact_also_over_gaps(height):
    slope, line = fit(height, np.outer(height, np.tan(np.radians([20, -10]))))
    assert np.degrees(np.arctan(slope)) == pytest.approx(np.tile([20, -10], (len(height), 1)), abs=0.01)
    assert np.isfinite(line.slope).all() and np.isfinite(line.position_mm).all()


def test_one_stray_slice_or_a_sliver_hardly_matters():
    offset = np.zeros((12, 2))
    offset[5] = 3, 0
    slope, _ = fit(3.0 * np.arange(12), offset)
    assert np.degrees(np.arctan(np.abs(slope))).max() < 1
    offset = np.zeros((4, 2))
    offset[3] = 2, 0
    whole, sliver = (np.abs(fit(4.0 * np.arange(4), offset, a)[0]).max() for a in (None, np.array([60, 60, 60, 1.0])))
    assert sliver < 0.3 * whole


def test_uncertainty_grows_away_from_the_centroids():
    centroid = np.full((60, 2), np.nan)
    centroid[20:30] = 0
    line = fit_centreline(centroid, np.full(60, 60.0), frame_of(np.diag([1, 1, 3, 1])))
    sd = np.degrees(line.slope_sd)
    assert sd[25] < 1 < sd[31] < sd[40] < sd[59]
    assert sd[59] > 6
    assert line.position_mm[59] == pytest.approx([0, 0, 177])
