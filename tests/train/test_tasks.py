"""Tasks: losses, scores, simulators and entries, and that a new one is one file."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from train_helpers import RECIPE, Log, rows_of

from sctseg7t.errors import InputError
from sctseg7t.simulate import anatomy
from sctseg7t.simulate.scene import Batch
from sctseg7t.train import export, task
from sctseg7t.train.loop import train
from sctseg7t.train.recipe import RECIPES, read_recipe
from sctseg7t.train.task import task_of
from sctseg7t.zoo.local_model import schema_problem, spec_from_onnx

CORD, LOCATOR, LESION = (task_of(replace(RECIPE, task=name)) for name in ("cord", "locator", "brain_lesion"))


# ---- losses and scores ---------------------------------------------------------


def cord_batch():
    target = torch.zeros(2, 2, 16, 16)
    target[:, 0, 4:12, 4:12], target[:, 1, 6:10, 6:10] = 1, 0.5
    return SimpleNamespace(target=target, inside=torch.ones(2, 1, 16, 16))


def heat_batch():
    return SimpleNamespace(target=torch.exp(-(torch.arange(16.0) - 8).square() / 18).expand(1, 1, 16, 16))


def lesion_batch():
    target = torch.zeros(2, 1, 8, 8, 8)
    target[0, 0, :6, :6, :6], target[1, 0, :2, :2, :2] = 1, 1
    return Batch(target, target)


@pytest.mark.parametrize(
    ("task", "batch"), [(CORD, cord_batch()), (LOCATOR, heat_batch()), (LESION, lesion_batch())], ids=["c", "l", "b"]
)
def test_loss_is_least_at_the_target(task, batch):
    best = task.loss(torch.logit(batch.target, eps=1e-5), batch)
    for other in (batch.target * 0.9, (batch.target + 0.1).clamp(max=1), batch.target.roll(3, -1)):
        assert task.loss(torch.logit(other, eps=1e-5), batch) > best


def test_cord_loss_does_not_look_outside():
    batch = cord_batch()
    batch.inside[..., :4] = 0
    logits = torch.logit(batch.target, eps=1e-5)
    wild = logits.clone()
    wild[..., :4] = 7
    assert torch.allclose(CORD.loss(wild, batch), CORD.loss(logits, batch))


def test_lesion_loss_counts_small_lesions():
    batch = lesion_batch()
    right = 16 * batch.target - 8
    missed = right.clone()
    missed[1] = -8
    nothing = torch.full_like(right, -8.0)
    assert LESION.loss(right, batch) < 0.05 < LESION.loss(missed, batch) < LESION.loss(nothing, batch)
    # Of a patch without lesions the loss grows with what is found.
    few, many = nothing[1:].clone(), nothing[1:].clone()
    few[..., :1, :1, :1], many[..., :4, :4, :4] = 9, 9
    empty = Batch(few * 0, few * 0)
    assert LESION.loss(few, empty) < LESION.loss(many, empty)


def test_cord_scores():
    target = cord_batch().target
    half = target.clone()
    half[1] = 0
    expected = {"dice_SC": 0.5, "area_ratio_SC": 0.5, "dice_GM": 0, "area_ratio_GM": 0.5}
    assert CORD.scores(half, target) == expected


def test_locator_scores():
    target = torch.zeros(4, 1, 16, 16)
    target[:3, 0, 5, 5] = 1
    found = target.roll(2, -1)
    found[2] = target[2].roll(5, -1) * 0.4
    found[3, 0, 1, 1] = 0.9
    scores = LOCATOR.scores(found, target)
    assert scores == {"within_3mm": 0.6667, "confident_with_cord": 0.6667, "confident_without": 1.0}


def test_lesion_scores_of_a_perfect_and_of_an_empty_answer():
    target = torch.zeros(2, 1, 6, 6, 6)
    target[0, 0, :3, :3, :3] = 1
    perfect = {"dice_LESION": 1, "area_ratio_LESION": 1, "patches_hit": 1, "false_share": 0}
    assert LESION.scores(target, target) == perfect
    assert set(LESION.scores(torch.zeros_like(target), target).values()) == {0}


# ---- simulators ----------------------------------------------------------------


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("cord*.json"))])
def test_shipped_cord_recipes_simulate(monkeypatch, name):
    """With cords that are two discs, and only bear the names of the recipe's sources."""
    shipped = read_recipe(name)
    at = (np.arange(anatomy.SIZE) - anatomy.SIZE / 2) * anatomy.SPACING_MM
    away = np.hypot(*np.meshgrid(at, at))
    maps = np.stack([255 * (away < 5), 255 * (away < 3), 0 * away]).astype(np.uint8)
    # A slice of each source, and one of each person held out.
    people = [*shipped.anatomy, *shipped.held_out]
    source = [name if name in shipped.anatomy else "masks" for name in people]
    n = len(people)
    bank = anatomy.AnatomyBank(
        maps[None].repeat(n, 0), np.arange(n), np.ones(n, np.float32), np.array(source), np.array(people)
    )
    monkeypatch.setattr(anatomy, "load_bank", lambda *args, **options: bank)
    task = task_of(shipped)
    source = task.simulator(shipped, {}, None, None)
    batch = source.batch(2, 1)
    unseen = task.unseen(shipped, {}, None, None)
    assert bool(unseen) == bool(shipped.held_out)
    if unseen and task_of(shipped).example_model == "cord_gm_sc":
        assert not set(unseen.bank.person) - {"parametric"} & set(source.bank.person)
    shape = task.input_shape(shipped)
    assert torch.isfinite(batch.image).all() and batch.image.shape[1] == shape.channels
    assert batch.target.shape[1] == task.outputs and (shape.free or batch.image.shape[2:] == shape.size)


# ---- entries -------------------------------------------------------------------


@pytest.mark.parametrize("task", [CORD, LOCATOR, LESION], ids=["cord", "locator", "brain_lesion"])
def test_entry_of_a_new_model_claims_nothing_of_the_example(task):
    entry = task.entry(replace(RECIPE, model="mine"))
    assert (entry["id"], entry["default"], entry["licence"], entry["files"]) == ("mine", False, None, [])
    assert entry["input"]["field_T"] == [] and entry["limitations"][0] == "Checked on no real scan yet."
    assert not {"changelog", "evaluation", "training", "test_output", "citation"} & set(entry)
    assert schema_problem({**entry, "files": [{"name": "a.onnx", "bytes": 1, "sha256": "0" * 64}]}, "model") is None


def test_entry_says_which_patients_were_trained_on():
    brain = replace(RECIPE, simulation={"real": ["07"], "patches": {"real_share": 0.25}})
    assert "25% of the images, real scans 07" in LESION.training_data(brain)
    assert LESION.training_data(RECIPE).startswith("simulated images only; anatomy from parametric")


# ---- a new task ----------------------------------------------------------------


class Blocks:
    def batch(self, count, seed):
        image = torch.randn(count, 2, 8, 8, 16, generator=torch.Generator().manual_seed(seed))
        return Batch(image, (image[:, :1] + image[:, 1:] > 1).float())


class NewLesions(task.Task):
    """A network in three dimensions with two images as input, a patch that is no cube."""

    example_model = "brain_lesion_unet"

    def data_folders(self, items):
        return {}

    def simulator(self, recipe, folders, root, log):
        return Blocks()

    def input_shape(self, recipe):
        return task.InputShape(2, (8, 8, 16))

    def loss(self, logits, batch):
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.target)

    def scores(self, probability, target):
        return {"false_share": round(float((probability > 0.5)[target == 0].float().mean()), 4)}


def test_a_new_task_is_one_file_with_its_object(tmp_path, monkeypatch):
    module = ModuleType("sctseg7t.train.tasks.new_lesions")
    module.TASK = NewLesions()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(task, "TASKS", ("cord", "new_lesions"))
    own = replace(RECIPE, model="mine", task="new_lesions", network={"widths": [16, 16]})
    with pytest.raises(InputError, match="use cord, new_lesions"):
        train(replace(own, task="nothing"), {}, tmp_path, log=Log())
    train(own, {}, tmp_path, log=Log())
    assert list(rows_of(tmp_path / "curves.csv")[0])[-2:] == ["loss", "false_share"]
    spec = spec_from_onnx(export.export(tmp_path))
    assert spec.input.size == (8, 8, 16) and spec.raw["test_input"]["shape"] == [1, 2, 8, 8, 16]
