"""The curves of a run: rows in CSV files, and a picture of them."""

import csv
import io
import json
from pathlib import Path

from sctseg7t.files import write_bytes

SIMULATED, REAL, PICTURE = "curves.csv", "real.csv", "curves.png"
# Okabe and Ito's colours, told apart by colour-blind readers too.
_COLOURS = {"SC": "#0072B2", "GM": "#D55E00"}
_OTHERS = ("#009E73", "#CC79A7", "#56B4E9")


def append(path, rows):
    """Add rows (dicts with the same names) to a CSV file."""
    new = not path.exists()
    with open(path, "a", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)


def read(path):
    """Rows of a CSV file as dicts of str; none if there is no file."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def drop_after(path, step):
    """Remove the rows beyond a step: those that a run wrote after its last saved state."""
    rows = read(path)
    kept = [row for row in rows if row["step"] and int(row["step"]) <= step]
    if len(kept) == len(rows):
        return
    if not kept:
        path.unlink()
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, kept[0])
    writer.writeheader()
    writer.writerows(kept)
    write_bytes(path, text.getvalue().encode())


def draw(run, rate):
    """Write ``curves.png`` of a run folder from its CSV files.

    Parameters
    ----------
    run : Path
    rate : function of step
        The learning rate.

    Returns
    -------
    Path or None
        None where there is nothing to draw yet.

    Raises
    ------
    ImportError
        There is no matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read(run / SIMULATED)
    if not rows:
        return None
    figure = Figure(figsize=(10, 7))
    FigureCanvasAgg(figure)
    # An automatic layout would take longer than the drawing.
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.07, top=0.91, hspace=0.16, wspace=0.18)
    loss, score, area, speed = figure.subplots(2, 2, sharex=True).flat
    steps = [int(row["step"]) for row in rows]
    names = list(rows[0])
    areas = [name for name in names if name.startswith("area_ratio_")]
    scores = [name for name in names if name not in ("step", "seconds", "train_loss", "loss", *areas)]
    _draw_loss(loss, rows, steps)
    real = read(run / REAL)
    for axis, shown, title in ((score, scores, "Dice" if areas else "share of slices"), (area, areas, "area ratio")):
        _draw_columns(axis, shown, rows, steps)
        _draw_real(axis, shown, real)
        axis.set_title(title + (" (line: simulated, dots: real scans, mean and range)" if real and shown else ""))
        if shown:
            axis.legend()
    if areas:
        area.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    else:
        _draw_errors(area, real)
    reach = range(0, steps[-1] + 1, max(1, steps[-1] // 400))
    speed.plot(list(reach), [rate(step) for step in reach], color="0.3")
    speed.set_title("learning rate")
    for axis in (loss, score, area, speed):
        axis.grid(alpha=0.25)
        axis.title.set_fontsize(10)
    for axis in (area, speed):
        axis.set_xlabel("step")
    figure.suptitle(f"{_model(run)}: {run.name}", fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return write_bytes(run / PICTURE, buffer.getvalue())


def _model(run):
    try:
        return json.loads((run / "recipe.json").read_text())["model"]
    except (OSError, ValueError, KeyError):
        return "run"


def _draw_loss(axis, rows, steps):
    values = [float(row["loss"]) for row in rows]
    axis.plot(steps, [float(row["train_loss"]) for row in rows], color="0.6", label="training (smoothed)")
    axis.plot(steps, values, color="0.1", label="validation, averaged weights")
    # Of equal losses the last one, as the run keeps it.
    best = min(reversed(range(len(values))), key=values.__getitem__)
    axis.plot(steps[best], values[best], "o", color="0.1", label=f"best: step {steps[best]}")
    axis.set_title("loss on simulated images")
    axis.legend()


def _draw_columns(axis, names, rows, steps):
    for k, name in enumerate(names):
        label = name.replace("area_ratio_", "").replace("dice_", "").replace("_", " ")
        axis.plot(steps, [float(row[name]) for row in rows], color=_colour(name, k), label=label)


def _draw_real(axis, names, real):
    """Mean of the scans, and from the least to the greatest of them."""
    for k, name in enumerate(names):
        steps, values = _by_step(real, name)
        if steps:
            mean = [sum(v) / len(v) for v in values]
            reach = [[m - min(v) for m, v in zip(mean, values)], [max(v) - m for m, v in zip(mean, values)]]
            style = {"fmt": "o", "markersize": 4, "elinewidth": 0.8, "alpha": 0.8}
            axis.errorbar(steps, mean, yerr=reach, color=_colour(name, k), **style)


def _draw_errors(axis, real):
    """The locator has no areas; its error on real scans takes their place."""
    _draw_real(axis, ["median_mm"], real)
    axis.set_title("locator error on real scans, median (mm)" if real else "no real scans given (-val)")


def _by_step(rows, name):
    found = {}
    for row in rows:
        if row.get(name):
            found.setdefault(int(row["step"]), []).append(float(row[name]))
    return list(found), list(found.values())


def _colour(name, k):
    return _COLOURS.get(name.rpartition("_")[2], _OTHERS[k % len(_OTHERS)])
