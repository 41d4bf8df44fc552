"""Mask operations, against those of scipy."""

import json

import numpy as np
import pytest
from scipy import ndimage

from sctseg7t.errors import ModelError
from sctseg7t.inference import postprocess
from sctseg7t.inference.postprocess import apply, area_matched, override


def sizes(plane):
    """For each pixel the size of its component, corners counted; 0 where the mask is not."""
    labels, _ = ndimage.label(plane, np.ones((3, 3)))
    return np.where(plane, np.bincount(labels.ravel())[labels], 0)


def random_mask(seed, density=0.4, shape=(17, 13, 6)):
    mask = np.random.default_rng(seed).random(shape) < density
    mask[..., 3] = False
    return mask


def one(op, mask, voxel_mm3=1.0, **params):
    return apply({"SC": mask}, [{"op": op, "params": {"label": "SC", **params}}], voxel_mm3)["SC"]


def by_slice(function, mask):
    return np.stack([function(mask[..., k]) for k in range(mask.shape[2])], -1)


@pytest.mark.parametrize("density", [0.15, 0.4, 0.7])
def test_operations_are_those_of_scipy(density):
    for seed in range(5):
        mask = random_mask(seed, density)
        of = by_slice(sizes, mask)
        largest = one("keep_largest", mask)
        # Between equally large components any may be kept: one of them, whole.
        assert np.array_equal(largest.sum((0, 1)), of.max((0, 1)))
        assert np.array_equal(by_slice(sizes, largest).max((0, 1)), of.max((0, 1))) and not (largest & ~mask).any()
        assert np.array_equal(one("fill_holes", mask), by_slice(ndimage.binary_fill_holes, mask))
        for limit in (1, 2, 5):
            expected = of >= limit
            assert np.array_equal(one("remove_small", mask, min_voxels=limit), expected)
            assert np.array_equal(one("remove_small", mask, 0.35, min_mm3=limit * 0.35), expected)


def test_largest_of_the_volume_joins_slices():
    mask = np.zeros((10, 10, 4), bool)
    mask[1:3, 1:3, :] = True  # 16 voxels through the stack
    mask[5:8, 5:8, 2] = True  # 9 in its slice
    volume = one("keep_largest", mask, scope="volume")
    assert volume[1, 1].all() and not volume[5:8, 5:8].any()
    by_slice_ = one("keep_largest", mask)
    assert by_slice_[5:8, 5:8, 2].all() and not by_slice_[1:3, 1:3, 2].any()
    assert by_slice_[1:3, 1:3, 1].all()


@pytest.mark.parametrize("voxel_mm3", [0.1, 0.3, float(np.float32(0.35)) ** 2 * 3, 0.17578125**2 * 5])
def test_component_of_exactly_the_limit_is_kept(voxel_mm3):
    """Also when the limit in mm3 comes out a rounding error above a whole number of voxels."""
    mask = np.zeros((30, 30, 1), bool)
    for count in range(1, 15):
        mask[2 * count, :count] = True
    for limit in range(1, 15):
        assert (one("remove_small", mask, voxel_mm3, min_mm3=limit * voxel_mm3).any(1)).sum() == 15 - limit
        assert (one("remove_small", mask, voxel_mm3, min_voxels=limit).any(1)).sum() == 15 - limit


def test_volume_limit_is_of_the_component_in_its_slice():
    mask = np.zeros((6, 6, 4), bool)
    mask[2:4, 2:4, :] = True  # 4 voxels a slice, 16 through the stack
    assert one("remove_small", mask, 0.5, min_mm3=2.0).all(where=mask)
    assert not one("remove_small", mask, 0.5, min_mm3=2.1).any()


def test_inside_cuts_by_the_other_mask():
    gm, sc = random_mask(1), random_mask(2)
    out = apply({"SC": sc, "GM": gm}, [{"op": "inside", "params": {"label": "GM", "of": "SC"}}], 1.0)
    assert np.array_equal(out["GM"], gm & sc)
    assert np.array_equal(out["SC"], sc)


def test_steps_act_in_the_order_given():
    mask = np.zeros((12, 12, 1), bool)
    mask[0:7, 0:7] = True
    mask[1:6, 1:6] = False  # a ring of 24 around a hole of 25
    mask[8:12, 0:7] = True  # a plate of 28
    fill, largest = ({"op": op, "params": {"label": "SC"}} for op in ("fill_holes", "keep_largest"))
    assert apply({"SC": mask}, [fill, largest], 1.0)["SC"].sum() == 49
    assert apply({"SC": mask}, [largest, fill], 1.0)["SC"].sum() == 28


def test_inside_sees_what_earlier_steps_made_of_the_other_mask():
    sc, gm = np.zeros((2, 9, 9, 1), bool)
    sc[1:4, 1:4] = sc[7, 7] = True
    gm[2, 2] = gm[7, 7] = True
    steps = [
        {"op": "keep_largest", "params": {"label": "SC"}},
        {"op": "inside", "params": {"label": "GM", "of": "SC"}},
    ]
    assert np.array_equal(np.argwhere(apply({"SC": sc, "GM": gm}, steps, 1.0)["GM"]), [[2, 2, 0]])
    assert apply({"SC": sc, "GM": gm}, steps[::-1], 1.0)["GM"].sum() == 2


def test_input_is_unchanged_and_empty_masks_stay_empty():
    masks = {"SC": random_mask(1), "GM": np.zeros((17, 13, 6), bool)}
    before = {name: mask.copy() for name, mask in masks.items()}
    # A step without a label acts on every mask.
    out = apply(masks, [{"op": "fill_holes"}], 1.0)
    for name, mask in before.items():
        assert np.array_equal(out[name], one("fill_holes", mask)) and np.array_equal(masks[name], mask)
    steps = [
        {"op": "keep_largest"},
        {"op": "keep_largest", "params": {"scope": "volume"}},
        {"op": "remove_small", "params": {"min_voxels": 3}},
        {"op": "inside", "params": {"label": "GM", "of": "SC"}},
    ]
    out = apply(masks, steps, 1.0)
    assert out["SC"].any() and not out["GM"].any() and out["GM"].dtype == bool
    assert all(np.array_equal(masks[name], before[name]) for name in masks)


@pytest.mark.parametrize(
    ("op", "params", "word"),
    [
        ("dilate", {}, "dilate"),
        ("fill_holes", {"label": "CSF"}, "CSF"),
        ("inside", {"label": "SC", "of": "CSF"}, "CSF"),
        ("inside", {"label": "SC"}, "of"),
        ("fill_holes", {"label": "SC", "size": 3}, "size"),
        ("keep_largest", {"label": "SC", "scope": "stack"}, "keep_largest"),
        ("remove_small", {"label": "SC"}, "remove_small"),
        ("remove_small", {"label": "SC", "min_voxels": 1, "min_mm3": 1}, "remove_small"),
    ],
)
def test_wrong_step_is_refused(op, params, word):
    with pytest.raises(ModelError, match=word) as caught:
        apply({"SC": np.ones((5, 5, 1), bool)}, [{"op": op, "params": params}], 1.0)
    assert "\n" not in str(caught.value)


MODEL = (
    {"op": "keep_largest", "params": {"label": "SC"}},
    {"op": "remove_small", "params": {"label": "GM", "min_voxels": 3}},
    {"op": "inside", "params": {"label": "GM", "of": "SC"}},
)


class TestOverride:
    BOTH = ("SC", "GM")

    @pytest.mark.parametrize(
        ("option", "without"),
        [({}, None), ({"fill": False}, None), ({"largest": False}, "keep_largest"), ({"small": {}}, "remove_small")],
    )
    def test_none_leaves_the_model_alone_and_zero_takes_out(self, option, without):
        assert override(MODEL, labels=self.BOTH, **option) == [step for step in MODEL if step["op"] != without]

    def test_what_is_put_in_replaces_the_models_own_and_comes_first_in_its_natural_order(self):
        before = json.dumps(MODEL)
        steps = override(MODEL, largest=True, fill=True, small={"min_mm3": 0.5}, labels=self.BOTH)
        assert json.dumps(MODEL) == before
        expected = [
            (op, {"label": label, **params})
            for op, params in (("keep_largest", {}), ("fill_holes", {}), ("remove_small", {"min_mm3": 0.5}))
            for label in self.BOTH
        ]
        assert [(step["op"], step["params"]) for step in steps] == [*expected, ("inside", MODEL[-1]["params"])]
        out = apply({"SC": random_mask(5), "GM": random_mask(6)}, steps, 1.0)
        assert not (out["GM"] & ~out["SC"]).any()


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("through_plane", [True, False])
def test_components_are_those_of_scipy(corners, through_plane):
    structure = ndimage.generate_binary_structure(3, 3 if corners else 1)
    if not through_plane:
        structure[..., (0, 2)] = False
    for seed, density in enumerate((0.1, 0.1, 0.3, 0.3, 0.6, 0.6)):
        mask = random_mask(seed, density)
        got = postprocess.components(mask, corners, through_plane)
        expected, count = ndimage.label(mask, structure)
        assert got.max() == count
        # The same partition, whatever the numbers: each label of one is one label of the other.
        assert len(np.unique(np.stack([got.ravel(), expected.ravel()]), axis=1).T) == count + (not mask.all())


def test_winding_component_is_one():
    mask = np.zeros((41, 41, 1), bool)
    mask[::2] = mask[1::4, -1] = mask[3::4, 0] = True
    assert postprocess.components(mask, corners=False).max() == 1
    assert np.array_equal(one("keep_largest", mask), mask)
    assert one("remove_small", mask, min_voxels=int(mask.sum())).any()
    assert not one("remove_small", mask, min_voxels=int(mask.sum()) + 1).any()


class TestAreaMatched:
    def test_area_is_that_of_the_fractions(self):
        fraction = np.random.default_rng(0).random((40, 30, 3)).astype(np.float32) ** 8
        mask = area_matched(fraction, lowest=0.0)
        for k in range(3):
            assert abs(mask[..., k].sum() - fraction[..., k].sum()) <= 0.5 + 1e-3
            assert fraction[..., k][mask[..., k]].min() > fraction[..., k][~mask[..., k]].max()

    def test_keeps_a_horn_thinner_than_a_voxel(self):
        """Two voxels share a line of fraction 0.8 in all; a threshold of 0.5 loses it."""
        fraction = np.zeros((10, 10, 1))
        fraction[4, :, 0], fraction[5, :, 0] = 0.45, 0.35
        assert not (fraction >= 0.5).any()
        assert area_matched(fraction)[..., 0].sum() == 10
        assert area_matched(fraction)[4, :, 0].all()

    def test_follows_a_flip_and_keeps_equals_together(self):
        fraction = np.random.default_rng(1).integers(0, 5, (30, 31, 2)) / 5
        mask = area_matched(fraction)
        for axis in (0, 1):
            assert np.array_equal(area_matched(np.flip(fraction, axis)), np.flip(mask, axis))

    def test_empty_and_doubtful_slices(self):
        assert not area_matched(np.zeros((4, 4, 2))).any()
        assert not area_matched(np.full((20, 20, 1), 0.2)).any()
