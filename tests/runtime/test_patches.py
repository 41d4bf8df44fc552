"""Overlapping patches: equal to the whole for a pointwise network, smooth at seams, background left out."""

import numpy as np
import pytest

from sctseg7t.inference.segmenter import Clock
from sctseg7t.runtime.patches import gaussian_weight, patch_starts, sliding_patches


class Network:
    """A stand-in for a session: counts what it is given."""

    def __init__(self, call):
        self.call, self.shapes = call, []

    def run(self, images):
        self.shapes.append(images.shape)
        return np.stack([self.call(image) for image in images]).astype(np.float32)


def pointwise(image):
    return np.stack([image[0] ** 2, np.tanh(image[-1]), image.sum(0)])


@pytest.mark.parametrize("shape", [(40, 33, 50), (16, 16, 16), (9, 40, 16), (5, 4, 3)])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
def test_pointwise_network_equals_direct_evaluation(shape, overlap):
    volume = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    network = Network(pointwise)
    out = sliding_patches(volume, network.run, size=(16,) * 3, overlap=overlap)
    np.testing.assert_allclose(out, pointwise(volume), atol=1e-5)
    assert set(network.shapes) == {(network.shapes[0][0], 2, 16, 16, 16)}


def test_background_is_left_out():
    inside = np.zeros((96, 96, 96), bool)
    inside[4:20, 4:20, 4:20] = True
    inside[70:90, 70:90, 70:90] = True
    volume = np.ones((1, 96, 96, 96), np.float32)
    network = Network(lambda image: image + 1)
    out = sliding_patches(volume, network.run, size=(32,) * 3, inside=inside)
    assert (out[0][inside] == pytest.approx(2)) and not out[0][~inside].any()
    assert len(network.shapes) < len(patch_starts((96, 96, 96), (32, 32, 32), 0.5)) / 2


def test_every_voxel_inside_is_covered():
    inside = np.random.default_rng(2).random((50, 60, 70)) > 0.9995
    covered = np.zeros(inside.shape, bool)
    for start in patch_starts(inside, (24, 24, 24), 0.5):
        covered[tuple(slice(s, s + 24) for s in start)] = True
    assert inside.any() and covered[inside].all()


def test_seams_are_smooth():
    def biased(image):
        # Wrong near the patch's border, as networks with zero padding are.
        depth = np.minimum.reduce([np.minimum(i, 31 - i) for i in np.indices(image.shape[1:])])
        return image + 0.5 * (depth < 3)

    nothing = np.zeros((1, 96, 96, 96), np.float32)
    blended, plain = (
        sliding_patches(nothing, Network(biased).run, size=(32,) * 3, overlap=overlap)[0, 16:-16, 16:-16, 16:-16]
        for overlap in (0.5, 0)
    )
    assert blended.max() < 0.1 and np.abs(np.diff(blended, axis=0)).max() < 0.1
    assert plain.max() == pytest.approx(0.5)


def test_nothing_inside_asks_once_for_the_number_of_outputs():
    network, nowhere = Network(pointwise), np.zeros((20, 20, 20), bool)
    out = sliding_patches(np.ones((2, 20, 20, 20), np.float32), network.run, size=(16,) * 3, inside=nowhere)
    assert out.shape == (3, 20, 20, 20) and not out.any() and len(network.shapes) == 1


def test_weights_are_symmetric_and_positive():
    weight = gaussian_weight((16, 12, 8))
    assert weight.shape == (16, 12, 8) and weight.min() > 0 and weight.max() == 1
    np.testing.assert_allclose(weight, weight[::-1, ::-1, ::-1], rtol=1e-6)


def test_it_is_told_how_far_the_patches_are():
    told = []
    sliding_patches(np.ones((1, 40, 20, 20), np.float32), lambda patch: patch, size=(16,) * 3, told=told.append)
    assert told == sorted(told) and len(told) > 4 and told[-1] == 1


def test_a_clock_tells_the_step_under_way_and_what_is_done():
    told = []
    clock = Clock({"a": 1, "b": 3}, lambda step, part: told.append((step, part)))
    clock.lap("a")
    clock.tell(0.5)
    clock.lap("b")
    assert told == [("a", 0), ("b", 0.25), ("b", 0.625)] and list(clock.seconds) == ["a", "b"]
