"""Curves: rows that survive a resume, and their picture."""

import pytest
from train_helpers import RECIPE

from sctseg7t.train import curves

DRAW = curves.draw


@pytest.mark.parametrize(
    ("simulated", "real"), [(("dice_SC", "area_ratio_SC"), ()), (("within_3mm",), ("median_mm", "within_3mm"))]
)
def test_picture_with_and_without_real_scans(tmp_path, simulated, real):
    for k in (1, 2):
        row = {"step": k, "seconds": k, "train_loss": 1 / k, "loss": 1 / k, **dict.fromkeys(simulated, 0.9)}
        curves.append(tmp_path / "curves.csv", [row])
    if real:
        scans = [
            {"step": 2, "scan": name, **dict.fromkeys(real, value)} for name, value in (("007", 0.5), ("NA", None))
        ]
        curves.append(tmp_path / "real.csv", scans)
        assert list(curves.read(tmp_path / "real.csv")["scan"]) == ["007", "NA"]
    DRAW(tmp_path, RECIPE)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_a_step_replace_those_of_a_sitting_that_broke_off(tmp_path):
    path = tmp_path / "curves.csv"
    for step, loss in ((1, 0.123456), (2, 2), (3, 3), (2, 0.123456)):
        curves.append(path, [{"step": step, "loss": loss}])
    assert path.read_text() == "step,loss\n1,0.123456\n2,0.123456\n"
    assert curves.best(curves.read(path))["step"] == 2
