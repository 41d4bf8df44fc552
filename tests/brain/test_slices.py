"""What is said of thick slices, and of those that were resampled to thin ones."""

import numpy as np
import pytest
from scipy import ndimage

from sctseg7t.brain.slices import resampled_slices


@pytest.fixture(scope="module")
def brain():
    """An image with structure of about 2 mm at 1 mm, and where it is looked at."""
    rng = np.random.default_rng(0)
    image = 1 + ndimage.gaussian_filter(rng.normal(0, 1, (72, 72, 72)), 1.5)
    mask = np.zeros(image.shape, bool)
    mask[8:-8, 8:-8, 8:-8] = True
    return image, mask


def thick(image, axis, factor):
    """The mean over so many slices, brought back to thin ones."""
    slices = ndimage.zoom(
        ndimage.uniform_filter1d(image, factor, axis=axis), np.where(np.arange(3) == axis, 1 / factor, 1)
    )
    return ndimage.zoom(slices, np.array(image.shape) / slices.shape, order=1)


@pytest.mark.parametrize("axis", range(3))
def test_thick_slices_made_thin_are_told(brain, axis):
    image, mask = brain
    found = resampled_slices(thick(image, axis, 6), mask, np.eye(4))
    assert len(found) == 1 and found[0].startswith("resampled_slices: ")


def test_slices_as_they_were_acquired_are_not(brain):
    image, mask = brain
    assert resampled_slices(image, mask, np.eye(4)) == ()
    # Of another voxel size along one axis.
    assert resampled_slices(image[:, :, ::2], mask[:, :, ::2], np.diag([1, 1, 2, 1])) == ()


def test_thick_voxels_and_an_empty_mask_are_no_question(brain):
    image, mask = brain
    assert resampled_slices(image, mask, np.diag([1, 1, 6, 1])) == ()
    assert resampled_slices(image, np.zeros_like(mask), np.eye(4)) == ()
    assert resampled_slices(np.ones_like(image), mask, np.eye(4)) == ()
