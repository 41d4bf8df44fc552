"""Sittings of one run: stopping, going on, starting weights, other recipes, damage."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from train_helpers import RECIPE, Log, assert_same_runs, read_json, rows_of, weights

from sctseg7t.errors import InputError, OutputError
from sctseg7t.train import checkpoint, export, progress
from sctseg7t.train.loop import train
from sctseg7t.train.run_folder import claim
from sctseg7t.train.tasks.cord import CordTask
from sctseg7t.zoo.cache import file_digest
from sctseg7t.zoo.local_model import spec_from_onnx

# ---- going on ------------------------------------------------------------------


def test_resumed_run_is_the_unbroken_one_to_the_bit(run, half):
    assert weights(half / "last.pt")["step"] == 3
    log = Log()
    train(RECIPE, {}, half, log=log)
    assert "from step 3 of 6" in log.text
    assert_same_runs(half, run)


# Of the losses that are computed the fourth is that of the first validation.
@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 1), (signal.SIGINT, 4), (signal.SIGTERM, 5)])
def test_stopped_run_goes_on_to_the_bit(run, tmp_path, monkeypatch, number, at):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    real_loss, count = CordTask.loss, []

    def loss(*args):
        count.append(1)
        if len(count) == at:
            os.kill(os.getpid(), number)
        return real_loss(*args)

    monkeypatch.setattr(CordTask, "loss", loss)
    with pytest.raises(progress.Stopped, match="same command goes on") as caught:
        train(RECIPE, {}, tmp_path, log=Log())
    assert caught.value.number == number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert weights(tmp_path / "last.pt")["step"] == {1: 1, 4: 4, 5: 4}[at]
    train(RECIPE, {}, tmp_path, log=Log())
    assert_same_runs(tmp_path, run)


@pytest.mark.parametrize("lost", ["model.pt", "last.pt"])
def test_killed_while_writing_leaves_no_doubled_rows(run, tmp_path, monkeypatch, lost):
    """Power fails at the second validation, between the row and the file."""
    real_save, count = checkpoint.save, []

    def save(value, path):
        count.append(path.name)
        if count.count(lost) == 2:
            raise KeyboardInterrupt
        real_save(value, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, {}, tmp_path, log=Log())
    assert len(rows_of(tmp_path / "curves.csv")) == 2 and weights(tmp_path / "last.pt")["step"] == 3
    train(RECIPE, {}, tmp_path, log=Log())
    assert_same_runs(tmp_path, run)


# ---- whose folder it is --------------------------------------------------------


@pytest.mark.parametrize("change", [{"seed": 4}, {"network": {"widths": [16, 24], "fold": 4}}, {"steps": 9}])
def test_another_recipe_in_the_folder_is_refused(run, change):
    before = (run / "recipe.json").read_bytes()
    with pytest.raises(InputError, match="another recipe"):
        train(replace(RECIPE, **change), {}, run, log=Log())
    assert (run / "recipe.json").read_bytes() == before


def test_weights_without_state_are_not_overwritten_by_another_recipe(half):
    (half / "last.pt").unlink()
    with pytest.raises(InputError, match="another recipe"):
        train(replace(RECIPE, seed=4), {}, half, log=Log())


def test_run_may_be_shortened_before_the_rate_falls(tmp_path):
    long = replace(RECIPE, steps=12, validate_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(long, {}, tmp_path, log=Log(stop_at="step 2: "))
    log = Log()
    train(replace(long, steps=4), {}, tmp_path, log=log)
    assert "from step 2 of 4" in log.text
    assert [row["step"] for row in rows_of(tmp_path / "curves.csv")] == ["2", "4"]


def test_one_training_at_a_time(tmp_path):
    with claim(tmp_path), pytest.raises(OutputError, match="another training") as caught:
        train(RECIPE, {}, tmp_path, log=Log())
    assert str(tmp_path) in str(caught.value)
    with claim(tmp_path):
        pass


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        train(RECIPE, {}, tmp_path / "file/run", log=Log())


# ---- damage --------------------------------------------------------------------

DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "foreign": lambda path: path.write_text("not torch"),
    "other": lambda path: torch.save([1, 2], path),
    "weights": lambda path: torch.save({**weights(path), "network": {"a": torch.zeros(2)}}, path),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_state_and_weights(half, how):
    for name in ("last.pt", "model.pt"):
        DAMAGE[how](half / name)
    with pytest.raises(InputError, match="delete it to train again from step 0") as caught:
        train(RECIPE, {}, half, log=Log())
    assert str(half / "last.pt") in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="model.pt") as caught:
        export.export(half)
    assert "\n" not in str(caught.value) and not list(half.glob("*.onnx"))
    (half / "last.pt").unlink()
    train(RECIPE, {}, half, log=Log())
    assert [row["step"] for row in rows_of(half / "curves.csv")] == ["3", "6"]


# ---- starting weights ----------------------------------------------------------


@pytest.mark.parametrize("what", ["", "last.pt"])
def test_starts_from_the_averaged_weights(run, tmp_path, what):
    # So slow that the weights stay where they started.
    still = replace(RECIPE, seed=9, learning_rate=1e-12, weight_decay=0.0)
    train(still, {}, tmp_path, start=run / what, log=Log())
    path = run / (what or "model.pt")
    expected = weights(path)
    expected = expected.get("average", expected)
    for name, value in weights(tmp_path / "last.pt")["network"].items():
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(value, expected[name], atol=1e-6), name
    sha256 = file_digest(path)
    assert read_json(tmp_path / "run.json")["start"]["sha256"] == sha256
    exported = export.export(tmp_path)
    assert spec_from_onnx(exported).training["start"] == sha256
    assert sha256 in exported.with_suffix(".md").read_text()


def test_goes_on_with_or_without_naming_the_start_again(run, tmp_path):
    recipe = replace(RECIPE, seed=9, validate_every=2)
    for option, step in ((run, 2), (None, 4)):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, {}, tmp_path, start=option, log=Log(stop_at=f"step {step}: "))
    log = Log()
    train(recipe, {}, tmp_path, start=run, log=log)
    assert "from step 4 of 6" in log.text
    told = read_json(tmp_path / "run.json")
    assert told["start"]["sha256"] == file_digest(run / "model.pt") and len(told["sittings"]) == 3


def test_other_start_in_the_folder_is_refused(run, half):
    with pytest.raises(InputError, match="did not start from these weights"):
        train(RECIPE, {}, half, start=run, log=Log())


def test_another_network_is_refused_by_name(run, tmp_path):
    other = replace(RECIPE, network={"widths": [16, 24], "fold": 4})
    with pytest.raises(InputError, match=r"size mismatch for down.1.0.weight") as caught:
        train(other, {}, tmp_path, start=run, log=Log())
    assert str(run / "model.pt") in str(caught.value)
    assert not (tmp_path / "recipe.json").exists()
