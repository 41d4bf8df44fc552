"""Outlines hold exactly the pixels of their mask."""

import numpy as np
import pytest
from qc_helpers import rasterise

from sctseg7t.report.contours import outline


@pytest.mark.parametrize("seed", range(12))
def test_filled_outline_is_the_mask(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 25, 2)) < rng.uniform(0.1, 0.9)
    assert np.array_equal(rasterise(outline(mask), mask.shape), mask)


def test_empty_mask_has_no_outline():
    assert outline(np.zeros((4, 5), bool)) == ""


def test_one_pixel_runs_along_its_four_borders():
    mask = np.zeros((4, 5), bool)
    mask[2, 3] = True
    assert outline(mask) == "M3 2h1v1h-1v-1z"


def test_straight_borders_are_one_step():
    assert outline(np.ones((3, 7), bool)) == "M0 0h7v3h-7v-3z"


def test_hole_is_a_path_of_its_own():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    path = outline(mask)
    assert path.count("M") == 2 and not rasterise(path, mask.shape)[2, 2]


def test_pixels_that_share_a_corner_stay_apart():
    assert outline(np.eye(2, dtype=bool)).count("M") == 2
