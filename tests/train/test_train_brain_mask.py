"""The network that finds brains: its task, training on a made-up head, and export to something that finds it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import train_helpers
from train_helpers import Log, rows_of

from sctseg7t.brain.find_brain import BrainFinder
from sctseg7t.runtime import open_session
from sctseg7t.simulate.brain import heads
from sctseg7t.train import export
from sctseg7t.train.loop import train
from sctseg7t.train.recipe import read_recipe
from sctseg7t.train.task import task_of
from sctseg7t.zoo.local_model import spec_from_onnx

RECIPE = replace(
    train_helpers.RECIPE,
    model="my_brain",
    task="brain_mask",
    anatomy=["heads"],
    steps=60,
    batch=2,
    learning_rate=0.01,
    validate_every=30,
    ema=0.9,
    network={"kind": "unet3d", "widths": [16, 16], "fold": 2},
    simulation={"size": [16, 16, 24], "spacing_mm": 10.0},
)
TASK = task_of(RECIPE)


@pytest.fixture(autouse=True)
def people(monkeypatch):
    """Balls of tissue in skin in place of people."""
    at = np.indices((90, 90, 90)) - 44.5
    away = np.sqrt((at**2).sum(0))
    first = np.select([away < 32, away < 40], [1, heads.CLASSES.index("skin")], 0).astype(np.uint8)
    maps = torch.from_numpy(np.stack([away < 32, away < 40]).astype(np.float32))
    head = heads.Head(first, first, np.ones(first.shape, np.float32), maps, np.array([44.5] * 3))
    made = heads.HeadSimulator([head], [head], RECIPE.simulation)
    monkeypatch.setattr(type(TASK), "simulator", lambda *args: made)
    return made


def test_shipped_recipe_fits_its_network_and_the_zoo():
    recipe = read_recipe("brain_mask")
    shape = task_of(recipe).input_shape(recipe)
    network = task_of(recipe).network(recipe).eval()
    assert network(torch.zeros(1, 1, *shape.size)).shape == (1, 1, *shape.size)
    # At most 3 MB.
    assert sum(p.numel() for p in network.parameters()) * 4 < 3e6


def test_loss_is_least_at_the_target_and_does_not_look_outside(people):
    batch = people.batch(2, 1)
    exact = torch.logit(batch.target, eps=1e-5)
    best = TASK.loss(exact, batch)
    for other in (batch.target * 0.8, batch.target.roll(2, -1)):
        assert TASK.loss(torch.logit(other, eps=1e-5), batch) > best
    wild = torch.where(batch.inside > 0, exact, torch.tensor(7.0))
    assert torch.allclose(TASK.loss(wild, batch), best)


def test_scores_part_scans_with_a_brain_from_those_without():
    target = torch.zeros(3, 1, 10, 10, 10)
    target[:2, :, :5] = 1
    found = target.clone()
    found[1] = 0
    found[2, :, :1] = 1
    assert TASK.scores(found, target) == {"dice": 0.5, "dice_p10": 0.1, "false_share": 0.1}


def test_it_learns_the_ball_and_ships(people, tmp_path):
    train(RECIPE, {}, tmp_path, log=Log())
    first, last = rows_of(tmp_path / "curves.csv")
    assert float(last["loss"]) < float(first["loss"]) and float(last["dice"]) > 0.6
    path = export.export(tmp_path)
    spec = spec_from_onnx(path)
    assert spec.organ == "brain" and spec.input.spacing_mm == (10, 10, 10) and spec.input.size_multiple == 16
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["training"]["onnx_parity"] < export.PARITY and "heads" in told["training"]["data"]
    finder = BrainFinder(open_session(path, "cpu", 1), spec)
    scores = []
    for seed in range(8):
        scene = people.scene(1000 + seed)
        truth = scene.brain.numpy() > 0.5
        found = finder(scene.image.numpy(), np.diag([10.0, 10, 10, 1]))
        scores.append(2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1))
    assert np.median(scores) > 0.6
