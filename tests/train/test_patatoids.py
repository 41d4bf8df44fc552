"""Striped patatoids: drawn pairs whose task needs a second image that is shifted (Couteaux, thesis, 2021)."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmark/accuracy"))

from patatoids import SMALL, asked, trained  # noqa: E402
from train_helpers import Log  # noqa: E402

from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.simulate.patatoids import MINUS, PLUS, UNKNOWN, PatatoidSimulator, read_off  # noqa: E402

STILL = {"size": 64, "shift": [4, 4], "noise": 0, "cut": 0, "radius": [6, 9], "blobs": [3, 4]}


def test_the_second_image_is_the_first_striped_and_moved():
    batch = PatatoidSimulator(STILL).batch(6, 1)
    # Blobs that lie across the border enter from beyond it.
    inner = (slice(6, -6),) * 2
    for image, state in zip(batch.image.numpy(), batch.state[:, 0].numpy()):
        inside, striped = state > 0, image[1] > 0.5
        # Half of every blob is a stripe; moved back by one step of 4 pixels, all stripes lie on blobs.
        assert 0.3 < striped.sum() / inside.sum() < 0.7
        shares = [
            inside[inner][np.roll(striped, (-dy, -dx), (0, 1))[inner]].mean()
            for dy in range(-4, 5)
            for dx in range(-4, 5)
            if 3 <= np.hypot(dy, dx) <= 5
        ]
        assert max(shares) > 0.97
    known = batch.state != UNKNOWN
    assert torch.equal((batch.target > 0)[known], (batch.state == PLUS)[known])


def test_stripes_run_both_ways():
    batch = PatatoidSimulator({**STILL, "shift": [0, 0]}).batch(8, 2)
    for kind, step in ((PLUS, (1, -1)), (MINUS, (1, 1))):
        along, across = [], []
        for image, state in zip(batch.image[:, 1].numpy(), batch.state[:, 0].numpy()):
            core = (state == kind) & (np.roll(state, step, (0, 1)) == kind)
            along.append(np.abs(image - np.roll(image, step, (0, 1)))[core].mean() if core.any() else np.nan)
            across.append(np.abs(image - np.roll(image, (1, -step[1]), (0, 1)))[core].mean() if core.any() else np.nan)
        assert np.nanmean(along) < 0.3 * np.nanmean(across)


def test_the_same_seed_is_the_same_batch_and_unknown_settings_are_refused():
    simulator = PatatoidSimulator({"size": 64, "cut": 1})
    first, again, other = (simulator.batch(3, seed) for seed in (5, 5, 6))
    assert torch.equal(first.image, again.image) and not torch.equal(first.image, other.image)
    many = simulator.batch(60, 0)
    unknown = many.state == UNKNOWN
    # Of what is cut away, about half are in the target.
    assert 0.3 < many.target[unknown].mean() < 0.7
    with pytest.raises(InputError, match="no setting is called 'sizes'"):
        PatatoidSimulator({"sizes": 3})


def test_what_is_read_off():
    state = np.zeros((1, 8, 8))
    state[0, :2, :2], state[0, 4:6, :2], state[0, 4:6, 6:] = PLUS, MINUS, UNKNOWN
    said = read_off(np.where(state == PLUS, 0.9, np.where(state == MINUS, 0.6, 0.5)), state)
    assert said["right"] == 0.5 and said["unknown"] == 0.5
    assert said["dice"] == pytest.approx(2 * 4 / (8 + 4))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What three small trainings, a minute of one core in all, say of new pairs."""
    found = {}
    for name, settings in SMALL.items():
        how = {"precision": "bfloat16", "threads": 1, "log": Log()}
        recipe, network = trained(settings, True, tmp_path_factory.mktemp("run"), **how)
        ways = {"own": {"cut": 0}, "cut": {"cut": 1}, "still": {"cut": 0, "shift": [0, 0]}}
        found[name] = {way: asked(recipe, network, **changes) for way, changes in ways.items()}
    return found


def test_a_network_learns_to_use_the_shifted_image(answers):
    assert answers["near"]["own"]["right"] > 0.95 and answers["near"]["own"]["dice"] > 0.9


def test_what_the_second_image_does_not_show_is_one_half(answers):
    assert answers["near"]["cut"]["unknown"] == pytest.approx(0.5, abs=0.1)
    assert answers["near"]["cut"]["unknown_sd"] < 0.15


def test_shifts_beyond_its_reach_are_not_learnt(answers):
    assert answers["far"]["own"]["right"] < 0.7 and answers["far"]["own"]["dice"] < 0.6


def test_shifts_below_those_of_the_training_are_not_learnt_with_them(answers):
    assert answers["never near"]["own"]["right"] > 0.85
    assert answers["never near"]["still"]["right"] < answers["never near"]["own"]["right"] - 0.1
