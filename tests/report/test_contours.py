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


def test_outlines_are_short_and_follow_the_pixels_borders():
    mask = np.ones((3, 7), bool)
    assert outline(mask) == "M0 0h7v3h-7v-3z" and outline(mask & False) == ""
    mask[1, 3] = False
    assert outline(mask).count("M") == 2 and outline(np.eye(2, dtype=bool)).count("M") == 2
