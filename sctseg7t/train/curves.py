"""The curves of a run: rows in CSV files, and a picture of them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sctseg7t.files import write_csv
from sctseg7t.train.recipe import TrainRecipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIMULATED, REAL, PICTURE = "curves.csv", "real.csv", "curves.png"
_NOT_SCORES = ("step", "seconds", "train_loss", "loss")
_TISSUES = ("SC", "GM")


def read(path: str | Path) -> list[dict[str, str]]:
    """Rows of a CSV file as dicts of str; none if there is no file."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows (dicts with the same names) to a CSV file."""
    _write(path, [*read(path), *rows])


def drop_after(path: Path, step: int) -> None:
    """Remove the rows beyond a step: those that a run wrote after its last saved state."""
    rows = read(path)
    kept = [row for row in rows if row["step"] and int(row["step"]) <= step]
    if not kept:
        path.unlink(missing_ok=True)
    elif len(kept) < len(rows):
        _write(path, kept)


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_csv(path, list(rows[0]), rows, digits=9)


def draw(run: Path, recipe: TrainRecipe) -> Path | None:
    """Write ``curves.png`` of a run folder from its CSV files; None where there is nothing to draw yet.

    Raises
    ------
    ImportError
        There is no matplotlib.
    """
    rows, real = read(run / SIMULATED), read(run / REAL)
    if not rows:
        return None
    from sctseg7t.report.plotting import new_figure, save

    figure, ((loss, score), (other, speed)) = new_figure(2, 2, 5, 3.5, sharex=True)
    _draw_loss(loss, rows)
    scores = [name for name in rows[0] if name not in _NOT_SCORES]
    areas = [name for name in scores if name.startswith("area_ratio_")]
    _draw_scores(score, "Dice and shares", [name for name in scores if name not in areas], rows, real)
    if areas:
        other.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        _draw_scores(other, "area ratio", areas, rows, real)
    else:
        _draw_scores(other, "distance (mm)", [name for name in (real or [{}])[0] if name.endswith("_mm")], rows, real)
    last = int(rows[-1]["step"])
    reach = range(0, last + 1, max(1, last // 400))
    speed.plot(list(reach), [recipe.learning_rate_at(step) for step in reach], color="0.3")
    speed.set_title("learning rate", fontsize=10)
    for axis in (loss, score, other, speed):
        axis.grid(alpha=0.25)
    for axis in (other, speed):
        axis.set_xlabel("step")
    figure.suptitle(f"{recipe.model}: {run.name}", fontsize=11)
    return save(figure, run / PICTURE, dpi=100)[0]


def _draw_loss(axis: "Axes", rows: Sequence[dict[str, str]]) -> None:
    steps, values = [int(row["step"]) for row in rows], [float(row["loss"]) for row in rows]
    axis.plot(steps, [float(row["train_loss"]) for row in rows], color="0.6", label="training (smoothed)")
    axis.plot(steps, values, color="0.1", label="validation, averaged weights")
    # Of equal losses the last one, as the run keeps it.
    best = min(reversed(range(len(values))), key=values.__getitem__)
    axis.plot(steps[best], values[best], "o", color="0.1", label=f"best: step {steps[best]}")
    axis.set_title("loss on simulated images", fontsize=10)
    axis.legend()


def _draw_scores(
    axis: "Axes", title: str, names: Sequence[str], rows: Sequence[dict[str, str]], real: Sequence[dict[str, str]]
) -> None:
    """A line of each score on simulated images; of real scans the mean, from the least to the greatest of them."""
    from sctseg7t.report.plotting import PALETTE, curve

    others = iter(PALETTE[len(_TISSUES) :])
    for name in names:
        tissue = name.rpartition("_")[2]
        colour = PALETTE[_TISSUES.index(tissue)] if tissue in _TISSUES else next(others)
        label = name.removeprefix("area_ratio_").removeprefix("dice_").replace("_", " ")
        if name in rows[0]:
            steps = [int(row["step"]) for row in rows]
            # A dot as well: the first validation is no line yet.
            curve(axis, steps, [float(row[name]) for row in rows], colour=colour, label=label, marker=".")
        steps, values = _by_step(real, name)
        if steps:
            mean = [sum(v) / len(v) for v in values]
            reach = [[m - min(v) for m, v in zip(mean, values)], [max(v) - m for m, v in zip(mean, values)]]
            axis.errorbar(steps, mean, reach, fmt="o", markersize=4, elinewidth=0.8, alpha=0.8, color=colour)
    told = " (dots: real scans, mean and range)" if real else ""
    axis.set_title(title + (told if names else ": no real scans given"), fontsize=10)
    if axis.get_legend_handles_labels()[0]:
        axis.legend()


def _by_step(rows: Sequence[dict[str, str]], name: str) -> tuple[list[int], list[list[float]]]:
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.get(name):
            found.setdefault(int(row["step"]), []).append(float(row[name]))
    return list(found), list(found.values())
