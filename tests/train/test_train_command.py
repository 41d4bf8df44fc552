"""The command sct7t_train: training, export, resume, wrong use in one line."""

import json
import os
import signal

import pytest
from sctseg7t.cli.train import main
from train_helpers import RECIPE, read_json, rows_of, save_scan

from sctseg7t.train import curves
from sctseg7t.train.tasks.cord import CordTask
from sctseg7t.zoo.manifest import load_manifest

VERSION = load_manifest().versions("cord_gm_sc")[-1].version


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**vars(RECIPE), "steps": 4, "validate_every": 1}))
    return str(path)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["-config", "cord_gm_sc", "-data", "AMU7T"], "SOURCE=FOLDER"),
        (["-config", "brain_lesion_unet", "-data", "."], "brain/lesjak-cross"),
        (["-config", "cord_gm_sc", "-val-every", "0"], "-val-every 0"),
        (["-config", "cord_gm_sc", "-val", "nothing"], "IMAGE:SC=MASK:GM=MASK"),
        (["-config", "cord_gm_sc", "-precision", "double"], "bfloat16"),
        (["-config", "cord_gm_sc", "-start", "nothing"], "start nothing"),
        (["-config", "cord_gm_sc", "-manifest", "models.json"], "add -export"),
        (["-config", "cord_gm_sc", "-blend", "cord_gm_sc:0.2"], "add -export"),
        (["-export", "-blend", "cord_gm_sc"], "cord_gm_sc@1.1.0:0.25"),
        (["-export", "-model-version", "two"], "-model-version two"),
        (["-config", "cord_gm_sc"], "sct7t_download export AMU7T "),
        (["-export"], "model.pt"),
        ([], "-config"),
    ],
)
def test_wrong_use_is_one_line_and_2(tmp_path, call, options, word):
    code, _, error = call(main, ["-o", str(tmp_path / "run"), *options])
    assert code == 2 and word in error and error.count("\n") == 1


def test_trains_to_the_end_and_exports_in_one_go(tmp_path, config, call, monkeypatch):
    out = tmp_path / "run"
    args = ["-config", config, "-steps", "2", "-o", str(out), "-export", "-model-version", "2.0.1", "-threads", "1"]
    expected = [str(out / "model.pt"), str(out / "cord_gm_sc-2.0.1.onnx")]
    code, printed, _ = call(main, args)
    assert code == 0 and printed.split() == expected and len(rows_of(out / "curves.csv")) == 2
    # Again: nothing to train, and so no anatomy to load.
    monkeypatch.setattr(CordTask, "simulator", None)
    code, printed, _ = call(main, args)
    assert code == 0 and printed.split() == expected and len(rows_of(out / "curves.csv")) == 2


def test_real_scans_and_start(run, tmp_path, config, call):
    image, mask = save_scan(tmp_path / "scans")
    args = ["-config", config, "-o", str(tmp_path / "run"), "-start", str(run), "-threads", "1"]
    values = ["-val", str(tmp_path / "scans"), f"{image}:SC={mask}", "-val-every", "2"]
    assert call(main, [*args, *values, "-precision", "float32"])[0] == 0
    assert [row["step"] for row in rows_of(tmp_path / "run/real.csv")] == ["2", "4"]
    assert read_json(tmp_path / "run/run.json")["start"]["path"] == str(run)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(tmp_path, config, call, monkeypatch, number, code):
    args = ["-config", config, "-o", str(tmp_path / "run"), "-threads", "1"]
    with monkeypatch.context() as patch:
        # Once: a second request would break off.
        patch.setattr(
            curves, "draw", lambda run, _: len(rows_of(run / "curves.csv")) == 1 and os.kill(os.getpid(), number)
        )
        found, _, error = call(main, args)
    assert found == code and "the same command goes on from there" in error
    assert call(main, args)[0] == 0
    assert [row["step"] for row in rows_of(tmp_path / "run/curves.csv")] == ["1", "2", "3", "4"]
