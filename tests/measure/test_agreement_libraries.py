"""Every agreement measure against SimpleITK and MONAI, on a thousand random pairs of masks."""

from collections import Counter

import numpy as np
import pytest
from agreement_helpers import KINDS, by_monai, by_simpleitk, random_pairs

from sctseg7t.measure.agreement import compare_in_voxels, compare_masks

pytest.importorskip("scipy")

PAIRS = 1000
TOLERANCE_MM = 0.8


def test_the_pairs_hold_every_case():
    seen, shapes = Counter(), Counter()
    for _, spacing, kinds in random_pairs(PAIRS):
        seen[kinds] += 1
        shapes[len(spacing), len(set(spacing)) == 1] += 1
    assert set(seen) == {(first, second) for first in KINDS for second in KINDS}
    assert min(seen.values()) >= 5
    assert min(shapes.values()) > 100
    assert len(shapes) == 4


@pytest.fixture
def one_thread():
    """SimpleITK's threads cost more than they save on masks of this size."""
    sitk = pytest.importorskip("SimpleITK")
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    yield
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def test_equal_to_simpleitk(one_thread):
    compared = 0
    for pair, spacing, _ in random_pairs(PAIRS):
        if not all(m.any() for m in pair):
            continue
        expected = by_simpleitk(*pair, spacing, TOLERANCE_MM)
        found = compare_masks(*pair, spacing, tolerance_mm=TOLERANCE_MM)
        assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)
        compared += 1
    assert compared > 700


def test_voxel_units_equal_simpleitk_without_spacing(one_thread):
    for pair, spacing, _ in random_pairs(150, seed=1):
        if not all(m.any() for m in pair):
            continue
        expected = by_simpleitk(*pair, (1.0,) * len(spacing), TOLERANCE_MM)
        names = ("hausdorff_all_mm", "average_hausdorff_max_mm", "average_hausdorff_mean_mm", "volumetric_similarity")
        found = list(compare_in_voxels(*pair).values())
        assert found == pytest.approx([expected[name] for name in names], rel=1e-5, abs=1e-6)


@pytest.fixture
def plain_tensors():
    """MONAI without its records of what was done to an array: a third faster."""
    data = pytest.importorskip("monai.data")
    before = data.get_track_meta()
    data.set_track_meta(False)
    yield
    data.set_track_meta(before)


@pytest.mark.filterwarnings("ignore")
def test_equal_to_monai(plain_tensors):
    empty = 0
    for pair, spacing, _ in random_pairs(PAIRS):
        expected = by_monai(*pair, spacing, TOLERANCE_MM)
        found = compare_masks(*pair, spacing, tolerance_mm=TOLERANCE_MM)
        got = [getattr(found, name) for name in expected]
        np.testing.assert_allclose(got, list(expected.values()), rtol=1e-5, atol=1e-6, err_msg=str(list(expected)))
        empty += not all(m.any() for m in pair)
    assert empty > 150
