"""The page of an explanation: readings, curves and pictures, in one HTML file, and the numbers as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sctseg7t.explain.dream import Dream, Explanation
from sctseg7t.explain.features import FEATURES, READINGS
from sctseg7t.files import write_csv
from sctseg7t.measure.columns import Column
from sctseg7t.report.html import page_environment, write_html
from sctseg7t.report.plotting import as_data_uri, new_figure

PAGE, TABLE = "index.html", "curves.csv"
CURVE_COLUMNS = (
    Column("step", description="of the ascent, from 0"),
    *(Column(f"{name}_z", description=f"{what}; median of the dreams, z") for name, (_, what) in FEATURES.items()),
    Column("probability", description="of the voxel, median over the dreams at the object's place"),
    Column("probability_elsewhere", description="the same where no object was"),
)
# Pictures of so many dreams.
_SHOWN = 3


def write_page(found: Explanation, folder: str | Path, *, title: str, told: Sequence[str]) -> list[Path]:
    """Write ``index.html`` and ``curves.csv``.

    Parameters
    ----------
    found : Explanation
    folder : path
        Made if need be.
    title : str
    told : sequence of str
        What was explained and how, a line each.

    Raises
    ------
    OutputError
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    curves, probability = found.curves, _median(found.dreams)
    beside = _median(found.elsewhere)
    rows = [
        {"step": k, **{f"{name}_z": _cell(curves[name][k]) for name in FEATURES}}
        | {"probability": probability[k], "probability_elsewhere": beside[k]}
        for k in range(len(probability))
    ]
    write_csv(folder / TABLE, CURVE_COLUMNS, rows)
    template = page_environment("sctseg7t.explain").get_template("page.html.j2")
    write_html(
        folder / PAGE,
        template,
        title=title,
        told=list(told),
        features=[
            (name, reading, READINGS.get(reading, "nothing was segmented"), *_ends(curves[name]), *FEATURES[name])
            for name, reading in found.readings.items()
        ],
        places=place_words(found),
        pictures=as_data_uri(_pictures(found.dreams[:_SHOWN]), "png"),
        curves=as_data_uri(_curves(found)),
    )
    return [folder / PAGE, folder / TABLE]


def place_words(found: Explanation) -> str:
    """What the place matters, in a sentence."""

    def told(dreams):
        steps = [dream.first for dream in dreams if dream.first is not None]
        return f"{len(steps)} of {len(dreams)}" + (f" (after {np.median(steps):.0f} steps)" if steps else "")

    return (
        f"The voxel became part of the object in {told(found.dreams)} dreams at the place of an object, "
        f"and in {told(found.elsewhere)} where none was."
    )


def _median(dreams: Sequence[Dream]) -> np.ndarray:
    return np.median([dream.probability for dream in dreams], axis=0)


def _cell(value):
    return float(value) if np.isfinite(value) else None


def _ends(curve):
    known = curve[np.isfinite(curve)]
    return (f"{known[0]:+.1f}", f"{known[-1]:+.1f}") if known.size else ("", "")


def _plane(array, voxel):
    """The window, whose rows go to anterior; of a volume (x, y, z) the slice that holds a voxel, drawn alike."""
    return array if array.ndim == 2 else array[..., voxel[2]].T


def _pictures(dreams):
    figure, axes = new_figure(len(dreams), 3, 2.4, 2.4)
    for line, dream in zip(axes, dreams):
        first, last, mask = (_plane(part, dream.voxel) for part in (dream.start, dream.end, dream.found))
        low, high = np.percentile(first, (1, 99))
        for axis, image, name in zip(line, (first, last, last), ("without the object", "dream", "segmented in it")):
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
            axis.set(xticks=[], yticks=[], title=name)
        if mask.any():
            line[2].contour(mask, [0.5], colors="#d55e00", linewidths=1)
        place = dream.voxel[::-1] if dream.start.ndim == 2 else dream.voxel[:2]
        line[0].plot(*place, "+", color="#d55e00")
    return figure


def _curves(found):
    figure, axes = new_figure(1, 2, 4.6, 3.2)
    left, right = axes[0]
    left.axhspan(-1, 1, color="0.9")
    for name, curve in found.curves.items():
        # What shoots out would flatten all else.
        left.plot(np.clip(curve, -6, 6), label=f"{name}: {found.readings[name] or 'none'}")
    left.set(xlabel="step", ylabel="z of real objects (cut at 6)", ylim=(-6.2, 6.2))
    left.legend(fontsize=7)
    right.plot(_median(found.dreams), label="at an object's place")
    right.plot(_median(found.elsewhere), label="elsewhere")
    right.set(xlabel="step", ylabel="probability of the voxel", ylim=(0, 1.02))
    right.legend(fontsize=7)
    return figure
