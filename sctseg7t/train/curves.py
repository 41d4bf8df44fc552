"""The curves of a run: tables in CSV files, and a picture of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sctseg7t.files import write_csv
from sctseg7t.report.plotting import PALETTE, curve, new_figure, save
from sctseg7t.train.recipe import TrainRecipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIMULATED, REAL, PICTURE = "curves.csv", "real.csv", "curves.png"
_NOT_SCORES = ("step", "seconds", "train_loss", "loss")


def read(path: Path) -> pd.DataFrame:
    """Rows of a CSV file; empty without columns if there is no file."""
    if not path.is_file():
        return pd.DataFrame()
    # A scan may be called 007 or NA.
    options: Any = {"dtype": {"scan": str}, "keep_default_na": False, "na_values": [""]}
    return pd.read_csv(path, float_precision="round_trip", **options)


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add the rows of a step, in place of those that a sitting wrote at or beyond it after its last saved state."""
    known = [row for row in read(path).to_dict("records") if row["step"] < rows[0]["step"]]
    write_csv(path, list(rows[0]), [*known, *rows], digits=9)


def best(rows: pd.DataFrame) -> dict[str, Any]:
    """Row of the least loss; of equal ones the last, whose weights are those in ``model.pt``."""
    return rows[rows["loss"] == rows["loss"].min()].to_dict("records")[-1]


def draw(run: Path, recipe: TrainRecipe) -> None:
    """Write ``curves.png`` of a run folder from its CSV files."""
    rows, real = read(run / SIMULATED), read(run / REAL)
    figure, ((loss, score), (other, speed)) = new_figure(2, 2, 5, 3.5, sharex=True)
    kept = best(rows)
    loss.plot(rows["step"], rows["train_loss"], color="0.6", label="training (smoothed)")
    loss.plot(rows["step"], rows["loss"], color="0.1", label="validation, averaged weights")
    loss.plot(kept["step"], kept["loss"], "o", color="0.1", label=f"best: step {kept['step']}")
    loss.legend()
    loss.set_title("loss on simulated images", fontsize=10)
    areas = [name for name in rows if name.startswith("area_ratio_")]
    _draw_scores(score, "Dice and shares", [n for n in rows if n not in (*_NOT_SCORES, *areas)], rows, real)
    if areas:
        other.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        _draw_scores(other, "area ratio", areas, rows, real)
    else:
        _draw_scores(other, "distance (mm)", [name for name in real if name.endswith("_mm")], rows, real)
    last = int(rows["step"].max())
    reach = range(0, last + 1, max(1, last // 400))
    speed.plot(list(reach), [recipe.learning_rate_at(step) for step in reach], color="0.3")
    speed.set_title("learning rate", fontsize=10)
    for axis in (loss, score, other, speed):
        axis.grid(alpha=0.25)
        axis.set_xlabel("step")
    figure.suptitle(f"{recipe.model}: {run.name}", fontsize=11)
    save(figure, run / PICTURE, dpi=100)


def _draw_scores(axis: "Axes", title: str, names: Sequence[str], rows: pd.DataFrame, real: pd.DataFrame) -> None:
    """A line of each score on simulated images; of real scans the mean, from the least to the greatest of them."""
    for name, colour in zip(names, PALETTE):
        if name in rows:
            # A dot as well: the first validation is no line yet.
            curve(axis, rows["step"], rows[name], colour=colour, label=name.replace("_", " "), marker=".")
        if name in real:
            at = real.groupby("step")[name].agg(["mean", "min", "max"]).dropna()
            reach = [at["mean"] - at["min"], at["max"] - at["mean"]]
            label = None if name in rows else name.replace("_", " ")
            axis.errorbar(at.index, at["mean"], reach, fmt="o", markersize=4, elinewidth=0.8, color=colour, label=label)
    axis.set_title(title + (" (dots: real scans, mean and range)" if len(real) else ""), fontsize=10)
    if names:
        axis.legend()
