"""Pieces of figures: violins, Bland-Altman plots, curves, mask outlines, and saving them.

Figures are :class:`matplotlib.figure.Figure` objects: no window, no state shared between two figures.
The same data make the same file, byte for byte.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sctseg7t.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

# Okabe and Ito's colours, told apart by all kinds of colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
# Text stays text in SVG.
_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "sctseg7t", "font.size": 9, "pdf.fonttype": 42}
# A date or a version in the file would change it from run to run.
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
# Share of an axis kept for outliers, and for the gap between them and the rest.
_STRIP = 0.12


def new_figure(lines: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of axes.

    Parameters
    ----------
    lines, columns : int
        Axes below and beside each other.
    width, height : float
        Of one of them, in inches.
    **options
        For :meth:`matplotlib.figure.Figure.subplots`, as ``sharex=True``.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : (lines, columns) array of matplotlib.axes.Axes
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, *paths: str | Path, dpi: int = 150) -> list[Path]:
    """Write a figure to files; each is written whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    *paths : path
        The suffix is the format: ``.png``, ``.svg`` or ``.pdf``.
    dpi : int
        Of a PNG.

    Returns
    -------
    list of Path

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    return [write_bytes(path, _encoded(figure, Path(path).suffix.lstrip(".").lower(), dpi)) for path in paths]


def as_data_uri(figure: Figure, kind: str = "svg") -> str:
    """A figure as a ``data:`` address, for the ``src`` of an ``<img>`` in a page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    kind : {"svg", "png"}
    """
    media = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{media};base64,{base64.b64encode(_encoded(figure, kind)).decode()}"


def _encoded(figure: Figure, kind: str, dpi: int = 150) -> bytes:
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        engine = figure.get_layout_engine()
        if engine is not None:
            # Laid out once, not for every file.
            engine.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(stream, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return stream.getvalue()


# --- distributions -----------------------------------------------------------------------


def violins(
    axis: Axes,
    groups: Sequence[ArrayLike],
    labels: Sequence[str] | None = None,
    *,
    colours: Sequence[str] = PALETTE,
    outliers: Sequence[ArrayLike] = (),
    outliers_above: bool = False,
    outliers_label: str = "outliers",
    within: tuple[float, float] = (-np.inf, np.inf),
    violin: bool = True,
    most: int = 180,
) -> None:
    """Draw a violin, a box and dots for each group of values, side by side.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    groups : sequence of (N,) array
        Finite values. A group may be empty. Fewer than five values have no violin and no box, only dots and a median.
    labels : sequence of str, optional
        Under the groups; default none.
    colours : sequence of str
        Of the groups, in turn.
    outliers : sequence of (M,) array, optional
        Of each group, drawn as crosses in a strip of their own: how many they are matters, not where they lie.
    outliers_above : bool
        Whether the strip is at the top of the axis, else at the bottom.
    outliers_label : str
        What they are, in the strip.
    within : (float, float)
        What values can be: no violin reaches beyond.
    violin : bool
        False: box and dots alone, for an axis on which a density would mislead (logarithmic).
    most : int
        Dots of a group; of more values the ends are shown whole, what is between thinned evenly.
    """
    for place, group in enumerate(groups):
        values, colour = np.sort(np.asarray(group, float)), colours[place % len(colours)]
        if not len(values):
            continue
        varied = len(values) > 4 and values[0] < values[-1]
        if varied and violin:
            bodies: Any = axis.violinplot([values], [place], widths=0.85, showextrema=False)["bodies"]
            for body in bodies:
                body.set(facecolor=colour, alpha=0.35)
                edge = body.get_paths()[0].vertices
                edge[:, 1] = np.clip(edge[:, 1], *within)
        shown, places = thinned(values, most)
        axis.plot(place + _aside(places, len(values)), shown, ".", color=colour, markersize=3, alpha=0.8)
        if varied:
            _box(axis, place, values)
        else:
            axis.plot([place - 0.12, place + 0.12], [np.median(values)] * 2, color="black", linewidth=1.4)
    crosses = [np.asarray(some, float) for some in outliers]
    if any(len(some) for some in crosses):
        _outlier_strip(axis, crosses, outliers_above, outliers_label, most)
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.set_xticks(range(len(groups)), labels or [""] * len(groups), fontsize=9)


def thinned(values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many of sorted values, and their places: both ends whole, what is between evenly."""
    count = len(values)
    places = np.arange(count)
    if count > most:
        ends = most // 8
        between = np.linspace(ends, count - 1 - ends, most - 2 * ends).round().astype(int)
        places = np.concatenate([places[:ends], between, places[count - ends :]])
    return values[places], places


def _aside(places: np.ndarray, count: int) -> np.ndarray:
    """Spread sideways by rank, not by chance: the same data make the same picture."""
    return np.zeros(1) if count == 1 else (((places + 1) * 0.618034) % 1 - 0.5) * 0.45


def _box(axis: Axes, place: float, values: np.ndarray) -> None:
    axis.boxplot(
        [values],
        positions=[place],
        widths=0.14,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": "white", "linewidth": 0.8},
        medianprops={"color": "black", "linewidth": 1.4},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0},
        zorder=4,
    )


def _outlier_strip(axis: Axes, outliers: Sequence[np.ndarray], above: bool, label: str, most: int) -> None:
    from matplotlib.patches import Rectangle

    low, high = axis.get_ylim()
    room = (high - low) * _STRIP / (1 - _STRIP)
    axis.set_ylim(low - room * (not above), high + room * above)
    start = 1 - _STRIP if above else 0.0
    across = axis.get_xaxis_transform()
    strip = Rectangle((0, start), 1, _STRIP, transform=axis.transAxes, color="0.93", linewidth=0, zorder=0)
    axis.add_patch(strip)
    axis.text(0.01, start + _STRIP / 2, label, transform=axis.transAxes, fontsize=9, color="0.4", va="center")
    for place, some in enumerate(outliers):
        _, places = thinned(some, most // 2)
        heights = start + _STRIP * (0.15 + 0.7 * (((places + 1) * 0.754878) % 1))
        axis.plot(place + _aside(places, len(some)), heights, "x", color="#a83200", markersize=4, transform=across)


# --- agreement ---------------------------------------------------------------------------


def bland_altman(
    axis: Axes,
    means: ArrayLike,
    differences: ArrayLike,
    *,
    lines: Sequence[tuple[str, float, float]],
    unit: str = "",
    groups: Sequence[str] | np.ndarray | None = None,
    looks: Mapping[str, Mapping[str, str]] | None = None,
    digits: int = 2,
    most: int = 1500,
) -> None:
    """Draw differences against means, with the bias and the limits of agreement.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    means, differences : (N,) array
        Of each pair of measurements.
    lines : sequence of (name, value, half of the confidence interval)
        The three lines, the bias named ``bias``.
    unit : str
        Of the differences.
    groups : (N,) sequence of str, optional
        What each pair belongs to, as its subject.
    looks : dict of str to dict, optional
        Of each group: ``color`` and ``marker``.
    digits : int
        Of the numbers beside the lines.
    most : int
        Dots; more are thinned by their difference.
    """
    means, differences = np.asarray(means, float), np.asarray(differences, float)
    order = np.argsort(differences, kind="stable")
    kept = np.sort(order[thinned(differences[order], most)[1]])
    axis.axhline(0, color="0.6", linewidth=0.7, zorder=0)
    names = np.full(len(means), "") if groups is None else np.asarray(groups)
    for name in dict.fromkeys(names[kept].tolist()):
        own = kept[names[kept] == name]
        look: dict[str, Any] = {"color": PALETTE[0], "marker": "o", **(looks or {}).get(name, {})}
        axis.plot(means[own], differences[own], linestyle="", markersize=3.5, alpha=0.75, label=name, **look)
    for name, value, half in lines:
        axis.axhline(value, color="black", linewidth=1, linestyle="-" if name == "bias" else "--")
        if half > 0:
            axis.axhspan(value - half, value + half, color="0.5", alpha=0.15, linewidth=0)
        axis.annotate(
            f"{name}: {value + 0.0:+.{digits}f}".replace("-", "−"),
            (1, value),
            (-2, 2),
            fontsize=9,
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
        )
    axis.set_ylabel(f"difference ({unit})" if unit else "difference")


# --- curves and slices -------------------------------------------------------------------


def curve(
    axis: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    spread: ArrayLike | None = None,
    colour: str = PALETTE[0],
    label: str | None = None,
    marker: str = "",
) -> None:
    """Draw a line of values with a band of its spread around it.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    x, y : (N,) array
    spread : (N,) array, optional
        Half of the band's height.
    colour, label, marker : str
        As for :meth:`matplotlib.axes.Axes.plot`.
    """
    axis.plot(x, y, color=colour, label=label, marker=marker, markersize=3, linewidth=1.2)
    if spread is not None:
        y, spread = np.asarray(y, float), np.asarray(spread, float)
        axis.fill_between(x, y - spread, y + spread, color=colour, alpha=0.2, linewidth=0)


def slice_with_outlines(
    axis: Axes,
    image: np.ndarray,
    masks: Sequence[tuple[np.ndarray, str, str]] = (),
    *,
    limits: tuple[float, float] | None = None,
    linewidth: float = 1.2,
) -> None:
    """Show a slice in gray, with the outlines of masks in it.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    image : (X, Y) array
        Shown with the first axis to the right and the second one up.
    masks : sequence of ((X, Y) array, colour, line style)
        Outlined at a value of one half, so fractions may be given; drawn in this order.
    limits : (float, float), optional
        Black and white; default the 1st and 99th percentile.
    linewidth : float
    """
    low, high = limits or np.percentile(image, (1, 99))
    axis.imshow(np.asarray(image).T, cmap="gray", origin="lower", vmin=low, vmax=high, interpolation="nearest")
    for mask, colour, style in masks:
        mask = np.asarray(mask, float)
        if mask.max(initial=0) > 0.5:
            axis.contour(mask.T, [0.5], colors=[colour], linewidths=linewidth, linestyles=style)
    axis.axis("off")
