"""Brain lesion networks: training from a bank, resume, export."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import train_helpers
from train_helpers import Log, rows_of

from sctseg7t.simulate.brain import bank
from sctseg7t.simulate.brain.template import Template
from sctseg7t.train import export
from sctseg7t.train.loop import train
from sctseg7t.train.recipe import RECIPES, read_recipe
from sctseg7t.train.task import task_of
from sctseg7t.zoo.local_model import spec_from_onnx

RECIPE = replace(
    train_helpers.RECIPE,
    model="my_lesion",
    task="brain_lesion",
    network={"kind": "unet3d", "widths": [16, 16], "fold": 2},
    simulation={"patches": {"size": 16}, "bank": {"count": 2, "held_out": 1, "seed": 0}},
)


@pytest.fixture(autouse=True)
def small_bank(monkeypatch, tmp_path):
    """Two blocks of tissue with a lesion each, in place of simulated brains."""
    folder = tmp_path / "stored"
    folder.mkdir()
    for k in range(2):
        image, label = np.ones((24, 24, 24)), np.zeros((24, 24, 24))
        label[8 + k : 13 + k, 8:13, 8:13] = 1
        bank.store(folder, f"{k:04}", image + 0.6 * label, label, np.eye(3, 4))
    maps = torch.zeros(5, 40, 40, 40)
    monkeypatch.setattr("sctseg7t.simulate.brain.template.load_template", lambda: Template(maps, maps[:2], (0.0,) * 3))
    monkeypatch.setattr(bank, "fill", lambda *a, **k: [bank.open_brain(folder, f"{i:04}") for i in range(2)])


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("brain_lesion_*unet*.json"))])
def test_shipped_recipes_build_network_and_simulator(name):
    recipe = read_recipe(name)
    task = task_of(recipe)
    batch = task.simulator(recipe, {}, ".", Log()).batch(1, 1)
    shape = task.input_shape(recipe)
    assert batch.image.shape == (1, shape.channels, *shape.size)
    assert task.network(recipe).eval()(batch.image).shape == batch.target.shape


def test_training_learns_the_bright_block(tmp_path):
    recipe = replace(RECIPE, steps=60, batch=4, learning_rate=0.01, validate_every=30, ema=0.9)
    train(recipe, {}, tmp_path, log=Log())
    first, last = rows_of(tmp_path / "curves.csv")
    assert float(last["loss"]) < float(first["loss"]) and float(last["dice_LESION"]) > 0.5


@pytest.mark.parametrize("network", [RECIPE.network, {"kind": "mpunetpp", "levels": 3}], ids=["unet3d", "mpunetpp"])
def test_export_writes_a_model_that_the_zoo_reads(tmp_path, network):
    train(replace(RECIPE, network=network, steps=1), {}, tmp_path, log=Log())
    path = export.export(tmp_path)
    spec = spec_from_onnx(path)
    assert spec.task == "brain_lesion" and spec.input.size == (16, 16, 16) and spec.input.axes == "xyz"
    assert spec.input.channels == ("FLAIR", "prior_GM", "prior_WM") and spec.input.sampling.method == "patches"
    assert [(o.suffix, o.threshold) for o in spec.outputs] == [("_lesionseg", 0.5)]
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["training"]["onnx_parity"] < export.PARITY
    assert told["test_input"]["shape"] == [1, 3, 16, 16, 16] and len(told["test_output"]["mean"]) == 1
    text = path.with_suffix(".md").read_text()
    assert "flair.nii.gz" in text and "simulated images only" in text and "people's images in training | none" in text
