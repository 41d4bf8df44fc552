"""Slices with their neighbours: the grid they lie on, their channels, and what comes back for every voxel."""

import numpy as np
import pytest

from sctseg7t.brain.views import OFFSETS_MM, neighbours, slice_channels, through_axis, view_grid, view_probability

MIDDLE = OFFSETS_MM.index(0.0)


def scan_of(spacing, shape=(40, 50, 12)):
    mask = np.zeros(shape, bool)
    mask[8:32, 10:40, 2:10] = True
    return mask, np.diag([*spacing, 1.0])


def test_thick_slices_stay_what_they_are():
    """The grid of thick slices has the scan's own, cut to the brain; the plane is sampled at 1 mm."""
    mask, affine = scan_of((0.5, 0.5, 6.0))
    grid = view_grid(mask, affine)
    assert np.allclose(grid.spacing_mm, (1, 1, 6)) and grid.shape[2] == 8
    assert np.isclose(grid.affine[2, 3], 12.0)
    assert grid.shape[0] == 12 + 8 and grid.shape[1] == 15 + 8


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_thick_axis_may_be_any(axis):
    spacing = [0.9, 0.9, 0.9]
    spacing[axis] = 5.0
    assert through_axis(spacing) == axis
    mask = np.ones((20, 20, 20), bool)
    grid = view_grid(mask, np.diag([*spacing, 1.0]))
    assert np.argmax(grid.spacing_mm) == axis and grid.shape[axis] == 20


def test_thin_slices_are_sampled_alike_along_all_axes():
    mask, affine = scan_of((0.6, 0.6, 1.5), (60, 70, 80))
    assert through_axis((0.6, 0.6, 1.5)) is None
    assert np.allclose(view_grid(mask, affine).spacing_mm, 1.0)


@pytest.mark.parametrize("step_mm", [1.0, 2.5, 6.7, 8.1])
def test_channels_are_linear_between_slices(step_mm):
    """A stack whose brightness is its height in mm gives channels that are their offsets."""
    stack = np.broadcast_to((np.arange(41) * step_mm).astype(np.float32)[:, None, None], (41, 3, 4))
    channels = slice_channels(stack, 20, step_mm, outside=-3)
    assert np.allclose(channels[:, 0, 0] - 20 * step_mm, OFFSETS_MM, atol=1e-3)


def test_a_slice_is_a_channel_as_it_is():
    for step_mm in (1.0, 3.3, 7.0):
        steps, weights = neighbours(step_mm)
        assert weights[MIDDLE][steps == 0] == 1 and weights[MIDDLE].sum() == 1


def test_beyond_the_stack_there_is_no_signal():
    stack = np.ones((3, 4, 5), np.float32)
    channels = slice_channels(stack, 0, 6.0, outside=-3)
    assert (channels[0] == -3).all() and (channels[MIDDLE] == 1).all()


def middle_slice(slices):
    """A network that gives back the slice itself."""
    assert slices.shape[1] == len(OFFSETS_MM) and not any(n % 16 for n in slices.shape[2:])
    return slices[:, [MIDDLE]]


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 6.5), (5, 1, 1), (1, 4, 1)])
def test_every_voxel_gets_its_own_value_from_every_plane(spacing):
    """With the slice itself as the network, the values come back inside the brain, and nothing outside it."""
    values = np.random.default_rng(1).random((22, 31, 19)).astype(np.float32)
    inside = np.zeros(values.shape, bool)
    inside[3:20, 4:30, 2:17] = True
    found = view_probability(values, inside, spacing, middle_slice)
    assert np.allclose(found[inside], values[inside], atol=1e-6) and not found[~inside].any()


def test_thick_slices_are_looked_at_in_one_plane():
    seen = []

    def count(slices):
        seen.append(len(slices))
        return slices[:, [MIDDLE]]

    inside = np.ones((20, 30, 9), bool)
    view_probability(inside.astype(np.float32), inside, (1, 1, 6), count)
    assert sum(seen) == 9
    seen.clear()
    view_probability(inside.astype(np.float32), inside, (1, 1, 1), count)
    assert sum(seen) == 20 + 30 + 9


def test_an_empty_brain_gives_nothing():
    empty = np.zeros((8, 8, 8), bool)
    assert not view_probability(np.ones(empty.shape, np.float32), empty, (1, 1, 1), middle_slice).any()
