"""Networks that look at two scans: sizes, what the published layout has, what subtraction means; export."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from train_helpers import Log, rows_of

from sctseg7t.brain.boxes import Box, fill_boxes, find_boxes
from sctseg7t.simulate.brain import bank, pair_bank
from sctseg7t.simulate.brain.pair_bank import AT_BEFORE, AT_NOW, StoredPair
from sctseg7t.simulate.brain.pair_patches import PairSimulator
from sctseg7t.simulate.brain.patches import HELD_OUT_SEED
from sctseg7t.simulate.brain.template import Template
from sctseg7t.train import export
from sctseg7t.train.box_targets import box_maps, change_scores
from sctseg7t.train.loop import train
from sctseg7t.train.named_networks import count_parameters
from sctseg7t.train.networks import UNet3d
from sctseg7t.train.pair_networks import Subtracting
from sctseg7t.train.recipe import RECIPES, read_recipe
from sctseg7t.train.task import task_of
from sctseg7t.train.unext import UNeXt, _shifted
from sctseg7t.zoo.local_model import spec_from_onnx

MAPS = torch.zeros(5, 40, 40, 40)
ANATOMY = Template(MAPS, MAPS[:2], (0.0,) * 3)
PIECE = np.ones((4, 4, 3), bool)


def pair(where=((6, 12),), side=28):
    """A block of tissue with a lesion that is new at each of the places, and one of both times."""
    now, before = np.ones((2, side, side, side), np.float16)
    label = np.zeros((side,) * 3, np.uint8)
    old = (slice(18, 23),) * 3
    label[old] = AT_NOW | AT_BEFORE
    for low, high in where:
        label[low:high, low:high, low:high] = AT_NOW
    now[label > 0] = before[old] = 1.6
    places = np.argwhere(label == AT_NOW)
    return StoredPair(now, before, label, np.eye(3, 4), places, np.argwhere(label > 0))


@pytest.fixture
def small_banks(monkeypatch):
    monkeypatch.setattr("sctseg7t.simulate.brain.template.load_template", lambda: ANATOMY)
    monkeypatch.setattr(pair_bank, "fill", lambda *a, **k: [pair(), pair()])
    monkeypatch.setattr(bank, "fill", lambda *a, **k: [])
    monkeypatch.setattr(bank, "real_brains", lambda *a, **k: [])
    monkeypatch.setattr("sctseg7t.simulate.brain.pair_patches.label_maps", lambda *a: [])


# ---- networks ------------------------------------------------------------------


def test_unext_has_the_published_number_of_parameters():
    network = UNeXt()
    assert count_parameters(network) == 1_471_921
    assert network.eval()(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)


@pytest.mark.parametrize("axis", [2, 3])
def test_groups_of_channels_are_shifted_and_zeros_come_in(axis):
    x = torch.rand(1, 10, 6, 7)
    moved = _shifted(x, 5, axis)
    assert moved.shape == x.shape
    for group, step in enumerate(range(-2, 3)):
        own = slice(2 * group, 2 * group + 2)
        rolled = torch.roll(x[:, own], step, axis)
        rolled.narrow(axis, 0 if step > 0 else x.shape[axis] + step, abs(step)).zero_()
        assert torch.equal(moved[:, own], rolled)


def test_where_all_is_subtracted_equal_scans_say_what_nothing_says():
    network = Subtracting(UNet3d((16, 16), inputs=2, outputs=2), inputs=2).eval()
    for share in network.shares:
        share.data.fill_(1.0)
    scan, prior = torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 16, 16, 16)
    same = network(torch.cat([scan, scan, prior], 1))
    other = network(torch.cat([scan + 0.5, scan + 0.5, prior], 1))
    assert torch.allclose(same, other, atol=1e-6)
    assert not torch.allclose(same, network(torch.cat([scan, scan + 0.5, prior], 1)), atol=1e-3)


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("brain_new_lesion_*.json"))])
def test_shipped_recipes_build_network_and_simulator(name, small_banks):
    recipe = read_recipe(name)
    pytest.importorskip("monai") if recipe.network["kind"] == "nnunet" else None
    task = task_of(recipe)
    shape = task.input_shape(recipe)
    batch = task.simulator(recipe, {}, ".", Log()).batch(2, 1)
    assert batch.image.shape[:2] == (2, shape.channels)
    network = task.network(recipe)
    logits = network(batch.image)
    loss = task.loss(logits, batch)
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in network.parameters())
    maps = torch.sigmoid(network.eval()(batch.image)).detach()
    assert maps.shape == (2, task.outputs, *batch.target.shape[2:])
    assert set(task.scores(maps, batch.target)) >= {"new_found", "false_marks", "dice_LESION"}


@pytest.mark.parametrize("kind", ["unet3d", "box_unet3d", "nnunet", "unext"])
def test_a_training_becomes_a_model_of_the_zoo(kind, tmp_path, small_banks):
    small = {
        "unet3d": ({"widths": [16, 16], "fold": 2}, {"size": 16}),
        "box_unet3d": ({"widths": [16, 16], "fold": 2}, {"size": 16}),
        "nnunet": ({"widths": None, "fold": None, "strides": [1, 2, 2, 2], "filters": [4, 4, 4, 4]}, {"size": 16}),
        "unext": ({"scans": 3, "widths": [4, 4, 8, 10, 10]}, {"size": 32, "views": [-1, 0, 1]}),
    }
    pytest.importorskip("monai") if kind == "nnunet" else None
    network, patches = small[kind]
    network = {"kind": kind, "pair": "subtract"} | {k: v for k, v in network.items() if v is not None}
    channels = ["FLAIR", "baseline"] if kind == "unext" else ["FLAIR", "baseline", "prior_GM"]
    recipe = replace(
        read_recipe("brain_new_lesion_subtract"),
        **{"model": "my_pair", "steps": 2, "batch": 2, "validate_every": 2, "validation_images": 2, "network": network},
        simulation={"channels": channels, "patches": patches},
    )
    train(recipe, {}, tmp_path, log=Log())
    (row,) = rows_of(tmp_path / "curves.csv")
    assert 0 <= float(row["new_found"]) <= 1
    # The file is written only where ONNX Runtime agrees with torch.
    spec = spec_from_onnx(export.export(tmp_path))
    assert spec.training["onnx_parity"] < 1e-4
    assert [output.name for output in spec.outputs] == ["LESION", "BOXES" if kind == "box_unet3d" else "CHANGE"]
    assert spec.input.sampling.method == ("views" if kind == "unext" else "patches")


# ---- boxes ---------------------------------------------------------------------


def test_boxes_of_a_mask_are_found_again_in_its_maps():
    mask = np.zeros((32, 32, 32), bool)
    mask[4:10, 5:9, 20:24], mask[20:23, 18:28, 6:9] = True, True
    heat, sides = box_maps(mask)
    boxes = find_boxes(np.concatenate([heat[None], sides]), 0.5)
    assert sorted(box.slices for box in boxes) == [
        (slice(4, 10), slice(5, 9), slice(20, 24)),
        (slice(20, 23), slice(18, 28), slice(6, 9)),
    ]
    change = np.where(mask, 0.4, 0.0) + np.where(np.indices(mask.shape).sum(0) % 5 == 0, 0.1, 0)
    filled = fill_boxes(boxes, change, 0.05)
    assert np.array_equal(filled > 0, mask)


def test_of_two_boxes_of_one_thing_the_likelier_is_kept():
    assert Box((0, 0, 0), (2, 2, 2), 0.9).shared(Box((1, 0, 0), (3, 2, 2), 0.5)) == pytest.approx(1 / 3)
    maps = np.zeros((7, 20, 20, 20), np.float32)
    for x, chance in ((6, 0.6), (9, 0.9)):
        maps[0, x, 10, 10], maps[1:, x, 10, 10] = chance, 5 / 32
    (box,) = find_boxes(maps, 0.05)
    assert box.chance == pytest.approx(0.9) and box.low[0] == pytest.approx(4)


def test_scores_count_lesions_by_size_and_false_marks():
    target = torch.zeros(1, 2, 16, 16, 16)
    target[0, 1, 2:4, 2:4, 2:4], target[0, 1, 8:13, 8:13, 8:13] = 1, 1
    maps = torch.zeros(1, 2, 16, 16, 16)
    maps[0, 1, 9:11, 9:11, 9:11], maps[0, 1, 2:4, 12:14, 12:14] = 1, 1
    scores = change_scores(maps, target, boxes=False)
    assert scores["new_found"] == 0.5 and scores["new_found_small"] == 0 and scores["new_found_large"] == 1
    assert scores["false_marks"] == 1


# ---- simulated pairs -----------------------------------------------------------


@pytest.fixture(scope="module")
def simulator():
    return PairSimulator([pair()], [pair(())], ANATOMY, [], [PIECE], settings={"size": 20})


def test_batches_are_replayed_and_seeds_differ(simulator):
    first, again, other = (simulator.batch(3, seed) for seed in (5, 5, 6))
    assert torch.equal(first.image, again.image) and torch.equal(first.target, again.target)
    assert not torch.equal(first.image, other.image)


def test_what_is_called_new_is_a_lesion_and_brighter(simulator):
    plain = {name: False for name in ("carve", "brightness", "flow", "curve", "slices", "sharpness", "bias", "noise")}
    plain |= {"turn": False, "exchange": False, "cut": {"shift_mm": 0.0, "turn_deg": 0.0, "warp_mm": 0.0}}
    source = PairSimulator([pair()], [], ANATOMY, settings={"size": 20, "change_share": 1.0, **plain})
    batch = source.batch(6, 1)
    new = batch.target[:, 1] > 0
    assert new.any() and (batch.target[:, 0][new] == 1).all()
    assert (batch.image[:, 0] - batch.image[:, 1])[new].min() > 1
    assert (batch.image[:, 0] - batch.image[:, 1])[~new].abs().max() < 0.2


def test_nothing_is_new_in_pairs_held_out_where_nothing_changes():
    quiet = PairSimulator([pair()], [pair(())], ANATOMY, [], [PIECE], settings={"size": 20, "carve": False})
    assert not any(quiet.batch(4, HELD_OUT_SEED + k).target[:, 1].any() for k in range(4))


def test_shapes_of_real_lesions_are_put_in(simulator):
    only = {"carve": {"probability": 1.0, "old_p": 0.0, "grown_p": 0.0}, "single_share": 1.0, "size": 20}
    alone = PairSimulator([pair()], [], ANATOMY, [pair(())], [PIECE], settings=only)
    new = sum(float(alone.batch(2, seed).target[:, 1].sum()) for seed in range(4))
    assert new > 50


def test_slices_come_with_their_neighbours():
    channels = ("FLAIR", "baseline")
    source = PairSimulator([pair()], [], ANATOMY, channels=channels, settings={"size": 16, "views": (-2, 0, 2)})
    batch = source.batch(3, 2)
    assert batch.image.shape == (3, 6, 16, 16) and batch.target.shape == (3, 2, 16, 16)


def test_a_stored_pair_is_what_was_simulated(tmp_path):
    from sctseg7t.simulate.brain.pairs import SimulatedPair

    rng, shape = np.random.default_rng(0), (24, 24, 24)
    lesions = np.zeros(shape, np.int32)
    lesions[6:10, 6:10, 6:10], lesions[14:18, 14:18, 14:18] = 1, 2
    now = 1 + 0.02 * rng.normal(size=shape) + 0.5 * (lesions > 0)
    before = 0.7 * (1 + 0.02 * rng.normal(size=shape) + 0.5 * (lesions == 1))
    made = SimulatedPair(
        *(a.astype(np.float32) for a in (now, before)),
        lesions,
        lesions > 0,
        lesions == 1,
        ("stable", "new"),
        np.eye(3, 4),
    )
    pair_bank._store(tmp_path, "0000", made)
    stored = pair_bank.open_pair(tmp_path, "0000")
    assert np.median(stored.before[2:-2, 2:-2, 2:-2]) == pytest.approx(1, abs=0.05)
    assert (stored.label[15, 15, 15], stored.label[7, 7, 7]) == (AT_NOW, AT_NOW | AT_BEFORE)
    assert {int(lesions[tuple(at)]) for at in stored.changed} == {2}
