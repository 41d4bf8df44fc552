"""Normalisation by the brain's intensities."""

import numpy as np
import pytest

from sctseg7t.brain.normalise import normalise
from sctseg7t.errors import ModelError


@pytest.fixture
def brain():
    rng = np.random.default_rng(3)
    data = rng.normal(200, 40, (20, 20, 20)).clip(1).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[4:16, 4:16, 4:16] = True
    data[0] = 5000
    return data, mask


def test_median_is_zero_and_no_signal_is_minus_the_slope(brain):
    data, mask = brain
    out = normalise(data, mask, "median")
    assert np.median(out[mask]) == pytest.approx(0, abs=1e-3) and (out[~mask] == -3).all()
    value = 3 * (data[8, 8, 8] / np.median(data[mask]) - 1)
    assert out[8, 8, 8] == pytest.approx(value, rel=1e-4)


def test_percentile_is_min_max_inside_the_mask(brain):
    data, mask = brain
    out = normalise(data, mask, "percentile", {"low": 0, "high": 100, "scope": "mask"})
    assert out[mask].min() == 0 and out[mask].max() == 1 and not out[~mask].any()
    robust = normalise(data, mask, "percentile", {"low": 5, "high": 95})
    assert (robust[mask] == 1).mean() == pytest.approx(0.05, abs=0.01)


def test_scale_offset_and_clip(brain):
    data, mask = brain
    for name, factor, offset, same in (
        ("median", 7.0, 0, True),
        ("median", 1, 50, False),
        ("percentile", 7.0, -30, True),
        ("zscore", 0.1, 400, True),
    ):
        before, after = normalise(data, mask, name), normalise(data * factor + offset, mask, name)
        assert np.allclose(before[mask], after[mask], atol=1e-3) is same
    out = normalise(data, mask, "median", {"slope": 3, "clip": [-1, 1]})
    assert out.min() == -1 and out.max() == 1 and out.dtype == np.float32


@pytest.mark.parametrize(
    "name,parameters", [("maximum", {}), ("median", {"hight": 3}), ("percentile", {"scope": "slice"})]
)
def test_unknown_names_are_the_entry_s_fault(brain, name, parameters):
    with pytest.raises(ModelError, match="normalisation"):
        normalise(*brain, name, parameters)


def test_empty_or_flat_brains(brain):
    data, mask = brain
    with pytest.raises(ValueError, match="empty"):
        normalise(data, mask & False, "median")
    for name in ("percentile", "zscore"):
        with pytest.raises(ValueError, match="one intensity"):
            normalise(np.ones_like(data), mask, name)
    with pytest.raises(ValueError, match="positive"):
        normalise(np.zeros_like(data), mask, "median")
