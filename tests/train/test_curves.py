"""Curves: rows that survive a resume, and their picture."""

import sys

import pytest
from train_helpers import RECIPE, Log

from sctseg7t.train import curves
from sctseg7t.train.loop import train

DRAW = curves.draw


@pytest.fixture(autouse=True)
def drawing(quick, monkeypatch):
    monkeypatch.setattr(curves, "draw", DRAW)


def test_are_drawn_at_the_end_and_again_on_request(run):
    path = run / "curves.png"
    path.unlink(missing_ok=True)
    # A finished run draws what is missing and trains nothing.
    train(RECIPE, {}, run, log=Log())
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("simulated", "real"),
    [
        (("dice_SC", "area_ratio_SC"), ("dice_SC", "area_ratio_SC")),
        (("within_3mm", "confident_without"), ("median_mm", "within_3mm")),
        (("dice_LESION", "area_ratio_LESION", "false_share"), ()),
    ],
)
def test_with_and_without_real_scans(tmp_path, simulated, real):
    rows = [
        {"step": k, "seconds": k, "train_loss": 1 / k, "loss": 1 / k, **dict.fromkeys(simulated, 0.9)} for k in (1, 2)
    ]
    curves.append(tmp_path / "curves.csv", rows)
    plain = DRAW(tmp_path, RECIPE).read_bytes()
    for scan, value in (("a", 0.5), ("b", None)) if real else ():
        curves.append(tmp_path / "real.csv", [{"step": 2, "scan": scan, **dict.fromkeys(real, value)}])
    assert (DRAW(tmp_path, RECIPE).read_bytes() != plain) == bool(real)


def test_no_matplotlib_is_said_once_and_stops_nothing(tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    log = Log()
    train(RECIPE, {}, tmp_path, log=log)
    assert log.text.count("no curves.png is drawn") == 1 and "matplotlib" in log.text
    assert (tmp_path / "model.pt").is_file() and not (tmp_path / "curves.png").exists()


def test_nothing_to_draw_yet(tmp_path):
    assert DRAW(tmp_path, RECIPE) is None


def test_rows_after_the_state_go(tmp_path):
    path = tmp_path / "curves.csv"
    curves.append(path, [{"step": 1, "loss": 0.123456}, {"step": 2, "loss": 2}])
    curves.drop_after(path, 1)
    assert curves.read(path) == [{"step": "1", "loss": "0.123456"}]
    curves.append(path, [{"step": 2, "loss": 1}])
    assert [row["loss"] for row in curves.read(path)] == ["0.123456", "1"]
    curves.drop_after(path, 0)
    assert not path.exists()
