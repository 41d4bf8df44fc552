"""The report's plots as files for papers: PNG and SVG, drawn by matplotlib."""

import math
from pathlib import Path

import numpy as np

from sctseg7t.compare.plots import CSA, DOTS, LOAD, lines_of, samples, thinned
from sctseg7t.compare.sections import pair_colour, pair_name
from sctseg7t.compare.wording import BY_KEY, signed
from sctseg7t.errors import OutputError, UsageError

# Okabe and Ito's colours in the order of the page, told apart by all kinds of colour vision.
_OKABE_ITO = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
COLOURS = {f"m{place}": colour for place, colour in enumerate(_OKABE_ITO)} | {"pair": "#777777"}
DRAWN = ("dice", "hausdorff95_mm", "assd_mm", "size_difference", "HDRFDST", "AVGDIST_max", "VOLSMTY")


def write_figures(comparison, folder):
    """Draw ``violins_<measure>``, ``bland_altman_<structure>`` and ``bland_altman_lesion_load``, PNG and SVG.

    Parameters
    ----------
    comparison : Comparison
    folder : path
        Made if it does not exist.

    Returns
    -------
    list of Path

    Raises
    ------
    UsageError
        No matplotlib.
    OutputError
        The folder cannot be made or written.
    """
    try:
        import matplotlib
    except ImportError as err:
        raise UsageError("figures: need matplotlib; pip install 'sctseg7t[figures]'") from err
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be made ({err.strerror or err}); choose another folder") from err
    # Text stays text in SVG, and the same data make the same file.
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "sctseg7t",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    written = []
    with matplotlib.rc_context(settings):
        for name, figure in _figures(comparison):
            written += _save(figure, folder / name)
    return written


def _figures(comparison):
    for key in DRAWN:
        figure = _violins(comparison, BY_KEY[key])
        if figure:
            yield f"violins_{key.removesuffix('_mm')}", figure
    for structure in comparison.structures:
        areas = [a for a in comparison.areas if a.structure == structure and math.isfinite(a.bland_altman.sd)]
        if areas:
            yield f"bland_altman_{structure}", _bland_altman(comparison, areas)
    loads = [a for a in comparison.lesions.loads if math.isfinite(a.bland_altman.sd)] if comparison.lesions else []
    if loads:
        yield "bland_altman_lesion_load", _bland_altman(comparison, loads, LOAD)


def _violins(comparison, metric):
    found = {structure: samples(comparison, structure, metric) for structure in comparison.structures}
    found = {structure: some for structure, some in found.items() if any(len(s.values) for s in some)}
    if not found:
        return None
    widest = max(len(some) for some in found.values())
    figure, axes = _panels(1, len(found), 1.2 + 0.75 * widest, 3.3)
    for axis, (structure, some) in zip(axes[0], found.items()):
        for place, sample in enumerate(some):
            _violin(axis, place, sample)
        names = [f"{s.label}\nn {len(s.values)}, outliers {len(s.outliers)}" for s in some]
        axis.set_xticks(range(len(some)), names, rotation=30, ha="right", fontsize=7)
        axis.set_title(structure)
        axis.set_ylabel(metric.header)
        if metric.better == "zero":
            axis.axhline(0, color="0.5", linewidth=0.7, zorder=0)
    return figure


def _violin(axis, place, sample):
    values, colour = sample.values, COLOURS[sample.colour]
    if not len(values):
        return
    if len(values) > 4 and values[0] < values[-1]:
        for body in axis.violinplot([values], [place], widths=0.85, showextrema=False)["bodies"]:
            body.set(facecolor=colour, alpha=0.4)
    shown, _, places = thinned(values, sample.names, DOTS)
    # Spread sideways by rank, not by chance: the same data make the same picture.
    aside = [(((k + 1) * 0.618034) % 1 - 0.5) * 0.4 for k in places]
    axis.plot([place + x for x in aside], shown, ".", color=colour, markersize=2.5, alpha=0.8)
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
    )


def _bland_altman(comparison, areas, quantity=CSA):
    """In the quantity's unit and in percent; loads, which can be 0, without percent."""
    scales = (False, True) if quantity is CSA else (False,)
    figure, axes = _panels(len(scales), len(areas), 3.4, 2.7)
    for column, area in enumerate(areas):
        colour = COLOURS[pair_colour(comparison, area.method, area.against)]
        pairs = np.asarray(area.pairs, float)
        means, differences = pairs.mean(1), pairs[:, 0] - pairs[:, 1]
        for line, percent in enumerate(scales):
            axis = axes[line][column]
            shown = 100 * differences / means if percent else differences
            axis.plot(means, shown, ".", color=colour, markersize=4, alpha=0.7, rasterized=len(means) > 2000)
            for name, value, half in lines_of(area.bland_altman, percent):
                axis.axhline(value, color="black", linewidth=1, linestyle="-" if name == "bias" else "--")
                if half > 0:
                    axis.axhspan(value - half, value + half, color="0.5", alpha=0.15, linewidth=0)
                axis.annotate(
                    f"{name}: {signed(value, 1 if percent else 2)}",
                    (1, value),
                    (-2, 2),
                    fontsize=7,
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    ha="right",
                )
            axis.axhline(0, color="0.6", linewidth=0.7, zorder=0)
            axis.set_ylabel(f"{quantity.axis.removesuffix('s')} difference ({'%' if percent else quantity.unit})")
            axis.set_xlabel(f"mean of the two {quantity.axis} ({quantity.unit})")
        axes[0][column].set_title(f"{area.structure}: {pair_name(comparison, area.method, area.against)}", fontsize=8)
    return figure


def _panels(lines, columns, width, height):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    return figure, figure.subplots(lines, columns, squeeze=False)


def _save(figure, stem):
    import io

    from sctseg7t.files import write_bytes

    # Laid out once, not for every file.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")

    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
        yield write_bytes(stem.with_suffix(f".{kind}"), stream.getvalue())
