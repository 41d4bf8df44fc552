"""A network that sees both scans of a pair: run either way round, in patches and in slices; its entries."""

import brain_helpers
import numpy as np
import pytest

from sctseg7t.brain.boxes import LARGEST_VOX
from sctseg7t.brain.pair import Scan, pair_up
from sctseg7t.brain.pair_segmenter import BOXES, PairSegmenter, view_maps
from sctseg7t.brain.register import Template
from sctseg7t.brain.segmenter import Prepared
from sctseg7t.errors import ModelError
from sctseg7t.inference.pipeline import open_segmenter

OLD, NEW = brain_helpers.LESIONS, ((-26, -20, 28), 4.0, "deep_white_matter")


@pytest.fixture(scope="module")
def made():
    """A pair on its halfway grid, and what the segmenter knows of the follow-up."""
    (now, _, affine), (before, _, _) = brain_helpers.flair(lesions=(*OLD, NEW)), brain_helpers.flair(seed=1)
    mask = now > 0
    pair = pair_up(*(Scan(image, affine, mask, name) for image, name in ((now, "now"), (before, "before"))))
    return pair, Prepared(now, mask, Template(np.eye(4), 1.0), {}, ())


@pytest.mark.parametrize("views", [False, True])
def test_what_is_new_one_way_round_is_gone_the_other(made, tmp_path, views):
    segmenter = open_segmenter(
        "brain_new_lesion", brain_helpers.together_network(tmp_path, views=views), "cpu", threads=1
    )
    assert type(segmenter) is PairSegmenter
    pair, ready = made
    now, before, new, gone = segmenter.opinions(pair, ready)
    at = tuple(np.round(np.linalg.inv(pair.grid.affine) @ np.linalg.inv(np.eye(4)) @ [*NEW[0], 1])[:3].astype(int))
    assert new[at] > 0.9 > 0.1 > gone[at] and now[at] > 0.9 > 0.1 > before[at]
    changes = segmenter.changes(pair, now, before, new, gone)
    assert [row.status for row in changes.table].count("new") == 1 and changes.new[at]
    assert {row.status for row in changes.table} == {"new", "stable"}
    back = segmenter.changes(pair, before, now, gone, new)
    assert not back.new.any()


def test_slices_of_three_planes_are_one_map():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 20, 24, 17)).astype(np.float32)
    inside = np.zeros(images.shape[1:], bool)
    inside[3:17, 4:22, 2:15] = True
    maps = view_maps(images, inside, lambda shown: shown[:, [1, 4]] - shown[:, [0, 3]] * 0, (-1, 0, 1), 16)
    np.testing.assert_allclose(maps, np.where(inside, images, 0), atol=1e-5)
    neighbour = view_maps(images, inside, lambda shown: shown[:, [2]], (-1, 0, 1), 16)[0]
    expected = (images[0, 9, 10, 8] + images[0, 8, 11, 8] + images[0, 8, 10, 9]) / 3
    assert neighbour[8, 10, 8] == pytest.approx(expected, abs=1e-5)


def test_boxes_are_filled_with_what_has_brightened(made, tmp_path):
    path = brain_helpers.together_network(tmp_path)
    segmenter = open_segmenter("brain_new_lesion", path, "cpu", threads=1)
    pair, _ = made
    at = tuple(np.round(np.linalg.inv(pair.grid.affine) @ [*NEW[0], 1])[:3].astype(int))
    maps = np.zeros((7, *pair.grid.shape), np.float32)
    maps[0][at], maps[(slice(1, None), *at)] = 0.9, 5 / LARGEST_VOX
    output = segmenter.model.spec.outputs[1]
    object.__setattr__(output, "name", BOXES)
    new = segmenter._new(maps, pair.difference, pair)
    assert new[at] == pytest.approx(0.9)
    assert (new > 0).sum() == pytest.approx(4 / 3 * np.pi * NEW[1] ** 3, rel=0.35)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"outputs": [{"name": "LESION", "channel": 0, "threshold": 0.5, "suffix": "_l", "meaning": "l"}]}, "CHANGE"),
        ({"input": {"axes": "xy"}}, "axes must be xyz"),
        ({"input": {"channels": ["FLAIR", "prior_WM", "baseline"]}}, "input.channels"),
        ({"comparison": {"peek": 1}}, "peek is unknown"),
    ],
)
def test_entries_that_cannot_be_served(tmp_path, changes, words):
    path = brain_helpers.together_network(tmp_path, **changes)
    with pytest.raises(ModelError, match=words):
        open_segmenter("brain_new_lesion", path, "cpu")
