"""The loop: replayable runs, the right weights kept, real scans that change nothing."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from train_helpers import RECIPE, Log, assert_same_runs, assert_same_weights, read_json, rows_of, save_scan, weights

from sctseg7t.errors import InputError
from sctseg7t.train import export, manifest_entry, validation
from sctseg7t.train.loop import batches_ahead, train
from sctseg7t.train.recipe import TrainRecipe, read_recipe
from sctseg7t.train.scans.labelled import find_scans
from sctseg7t.train.tasks.cord import CordTask


def test_writes_all_it_says(run):
    assert {p.name for p in run.iterdir()} >= {"recipe.json", "run.json", "curves.csv", "last.pt", "model.pt"}
    assert read_recipe(run / "recipe.json") == RECIPE
    rows = rows_of(run / "curves.csv")
    assert [int(row["step"]) for row in rows] == [3, 6]
    scores = ["dice_SC", "area_ratio_SC", "dice_GM", "area_ratio_GM"]
    assert list(rows[0]) == ["step", "seconds", "train_loss", "loss", *scores]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    saved = weights(run / "last.pt")
    assert any((v != saved["average"][n]).any() for n, v in saved["network"].items() if v.is_floating_point())


@pytest.mark.parametrize(("losses", "best"), [((3.0, 1.0, 2.0), 1), ((3.0, 2.0, 2.0), 2)])
def test_model_is_that_of_the_best_validation(tmp_path, monkeypatch, losses, best):
    seen, scripted = [], iter(losses)

    def validate(network, batches, task, place):
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return {"loss": next(scripted)}

    monkeypatch.setattr(validation, "validate", validate)
    train(replace(RECIPE, validate_every=2), {}, tmp_path, log=Log())
    assert_same_weights(weights(tmp_path / "model.pt"), seen[best])
    recipe, _ = export.load_trained(tmp_path)
    record = manifest_entry.training_record(tmp_path, recipe, 1234, 0.0)
    assert record["steps"] == 2 * (best + 1) and record["n"] == 2 * record["steps"]
    assert record["validation"]["loss"] == losses[best] and record["parameters"] == 1234


def test_locator_trains_too(tmp_path):
    own = {"steps": 2, "batch": 2, "validate_every": 2, "validation_images": 2, "network": RECIPE.network}
    train(TrainRecipe("mine", "locator", ["parametric"], **own), {}, tmp_path, log=Log())
    assert {"within_3mm", "confident_with_cord", "confident_without"} <= set(rows_of(tmp_path / "curves.csv")[0])


def test_many_workers_keep_the_order():
    """Slow and fast batches in turn: each step still gets its own."""

    def batch(count, seed):
        time.sleep(0.02 if seed % 3 == 0 else 0)
        return seed

    found = list(batches_ahead(SimpleNamespace(batch=batch), replace(RECIPE, steps=20), 4, workers=5, stream=100))
    assert found == [(step, 100 + step) for step in range(4, 20)]


def test_loss_that_is_no_number_ends_the_run_and_keeps_the_state(half, monkeypatch):
    before = (half / "last.pt").read_bytes()
    monkeypatch.setattr(CordTask, "loss", lambda self, logits, batch: logits.sum() * float("nan"))
    with pytest.raises(InputError, match="learning_rate below 0.0025"):
        train(RECIPE, {}, half, log=Log())
    assert (half / "last.pt").read_bytes() == before and len(rows_of(half / "curves.csv")) == 1


def test_real_scans_are_measured_and_change_nothing(run, tmp_path):
    save_scan(tmp_path / "scans")
    log = Log()
    scans = find_scans([str(tmp_path / "scans")])
    train(RECIPE, {}, tmp_path / "with", scans=scans, scans_every=3, log=log)
    (row,) = rows_of(tmp_path / "with/real.csv")
    # Of two validations not each third one, but the last as always.
    assert (row["step"], row["scan"], row["dice_GM"]) == ("6", "a", "") and float(row["dice_SC"]) >= 0
    assert "real scans (n = 1): dice_SC" in log.text
    assert read_json(tmp_path / "with/run.json")["sittings"][0]["real_scans"] == ["a"]
    assert_same_runs(tmp_path / "with", run)


def test_real_scans_are_for_tasks_that_measure_them(tmp_path):
    with pytest.raises(InputError, match="brain_lesion cannot be measured on real scans"):
        train(replace(RECIPE, task="brain_lesion"), {}, tmp_path / "run", scans=[object()], log=Log())
    assert not (tmp_path / "run").exists()
