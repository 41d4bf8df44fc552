"""Vertebral level of each slice, from labelled cords and from point labels."""

import numpy as np

from sctseg7t.measure.levels import slice_levels


def test_majority_inside_the_cord_wins():
    levels = np.zeros((10, 10, 3), int)
    levels[:, :6] = 5
    levels[2:4, 2:4, 1] = 4
    cord = np.zeros(levels.shape)
    cord[2:4, 2:5] = 1
    assert slice_levels(levels, cord, 3.0) == [5, 4, 5]
    assert slice_levels(levels, None, 3.0) == [5, 5, 5]


def test_labels_beside_the_cord_count_where_none_are_inside():
    levels = np.zeros((10, 10, 2), int)
    levels[6:, 6:] = 7
    cord = np.zeros(levels.shape)
    cord[:3, :3] = 1
    assert slice_levels(levels, cord, 3.0) == [7, 7]


def test_labelled_cord_does_not_spread_to_unlabelled_slices():
    levels = np.zeros((10, 10, 4), int)
    levels[2:8, 2:8, 1:3] = 3
    assert slice_levels(levels, None, 1.0) == [None, 3, 3, None]


def test_point_labels_reach_the_nearest_slices():
    levels = np.zeros((10, 10, 14), int)
    levels[5, 5, 4] = 4
    levels[5, 5, 9] = 3
    found = slice_levels(levels.astype(float), None, 3.0)
    assert found == [None] + [4] * 6 + [3] * 6 + [None]
    # A tie goes to the inferior one.
    levels[5, 5, 8] = 3
    assert slice_levels(levels, None, 3.0)[6] == 4
