"""The page's own plots, as SVG that follows its colours: distributions and Bland-Altman.

Drawn without any package, in a size that a phone shows whole; every dot names its scan and slice.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from sctseg7t.compare.sections import pair_colour, pair_name, pairs
from sctseg7t.compare.wording import STRUCTURES, number, signed, value_of

DOTS = 180
_WIDTH, _LEFT, _RIGHT = 400, 10, 10
_ROW, _STRIP = 74, 46
_HEIGHT = 270


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of one method, those of outlier slices apart; ``names`` say of which scan and slice each is."""

    label: str
    colour: str
    values: np.ndarray
    names: list
    outliers: np.ndarray
    outlier_names: list = field(default_factory=list)


def samples(comparison, structure, metric):
    """A Sample for each method of a structure; nan left out, as are infinities (they are outliers' only)."""
    parts = {pair: ([], []) for pair in pairs(comparison, structure)}
    for row in comparison.rows:
        if row.where == "slice" and row.structure == structure:
            value = value_of(row, metric.key)
            if not math.isnan(value) and (row.outlier or math.isfinite(value)):
                parts[row.method, row.against][bool(row.outlier)].append((value, f"{row.case}, slice {row.index}"))
    found = []
    for pair, (kept, out) in parts.items():
        values, names = zip(*sorted(kept)) if kept else ((), ())
        worse, worse_names = zip(*sorted(out)) if out else ((), ())
        found.append(
            Sample(
                pair_name(comparison, *pair),
                pair_colour(comparison, *pair),
                np.array(values),
                list(names),
                np.array(worse),
                list(worse_names),
            )
        )
    return found


@dataclass(frozen=True)
class Quantity:
    """What a Bland-Altman plot is of: its unit, its name on the axis and in words, and what one dot is."""

    unit: str
    axis: str
    name: str
    dot: str


CSA = Quantity("mm²", "CSA", "area", "slice")
LOAD = Quantity("mL", "loads", "load", "scan")


# --- distributions -----------------------------------------------------------------------


def violins(comparison, structure, metric):
    """Violin, box and dots of each method; outliers in a strip of their own. None where there is no value."""
    return violins_of(samples(comparison, structure, metric), structure, metric)


def violins_of(found, structure, metric):
    """As :func:`violins`, of samples."""
    values = np.concatenate([sample.values for sample in found]) if found else np.array([])
    if not len(values):
        return None
    strip = _STRIP if any(len(sample.outliers) for sample in found) else 0
    strip_left = metric.better == "high"
    low, high = _range(values, metric)
    left, right = _LEFT + strip * strip_left, _WIDTH - _RIGHT - strip * (not strip_left)
    bottom = 22 + _ROW * len(found)
    axis = _Axis(low, high, left, right)
    parts = [_ticks_below(axis, 18, bottom), _text(_WIDTH / 2, bottom + 30, metric.header, "middle", "title")]
    if strip:
        x = _LEFT if strip_left else right + 6
        parts.append(f'<rect class="strip" x="{x}" y="18" width="{strip - 6}" height="{bottom - 18}"/>')
        parts.append(_text(x + strip / 2 - 3, 12, "outliers", "middle", "small"))
    if metric.better == "zero" and low < 0 < high:
        parts.append(f'<line class="zero" x1="{axis(0):.1f}" x2="{axis(0):.1f}" y1="18" y2="{bottom}"/>')
    for place, sample in enumerate(found):
        top = 20 + _ROW * place
        parts.append(_violin_row(sample, axis, top, metric, (_LEFT if strip_left else right + 6, strip - 6)))
    medians = "; ".join(
        f"{s.label}: median {number(float(np.median(s.values)), metric.digits)} of {len(s.values)}, "
        f"{len(s.outliers)} outliers"
        if len(s.values)
        else f"{s.label}: no value"
        for s in found
    )
    name = STRUCTURES.get(structure, structure)
    return _svg(parts, bottom + 36, f"{metric.header} of {structure} ({name}) by method. {medians}")


def _violin_row(sample, axis, top, metric, strip):
    middle, half = top + 44, 24
    tally = f"n {len(sample.values)}" + (f", outliers {len(sample.outliers)}" if len(sample.outliers) else "")
    parts = [f'<g class="{sample.colour}">', _text(axis.left + 2, top + 12, sample.label, "start", "label", 34)]
    parts.append(_text(axis.right - 2, top + 12, tally, "end", "small"))
    values = sample.values
    if len(values) >= 5 and values[0] < values[-1]:
        parts.append(f'<path class="violin" d="{_violin(values, axis, middle, half)}"/>')
    for value, name, place in zip(*thinned(values, sample.names, DOTS)):
        y = middle + (((place + 1) * 0.618034) % 1 - 0.5) * half * 1.1
        parts.append(_dot(axis(value), y, f"{name}: {number(value, metric.digits)}"))
    if len(values):
        parts.append(_box(values, axis, middle))
    for value, name, place in zip(*thinned(sample.outliers, sample.outlier_names, DOTS // 2)):
        x = strip[0] + strip[1] * (0.12 + 0.76 * (((place + 1) * 0.618034) % 1))
        y = middle + (((place + 1) * 0.754878) % 1 - 0.5) * half * 1.6
        parts.append(_cross(x, y, f"{name}: {number(value, metric.digits)}"))
    return "".join([*parts, "</g>"])


def _range(values, metric):
    low, high = float(values.min()), float(values.max())
    pad = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = low - pad, high + pad
    if metric.better == "high":
        high = max(min(high, 1.0), low + 1e-6)
    elif metric.better == "low":
        low = max(low, 0.0) if low > 0.3 * high else 0.0
    else:
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high


def density(values, count=48):
    """Gaussian kernel density of sorted values, within their range: (positions, heights of at most 1)."""
    spread = np.std(values, ddof=1)
    quartiles = np.percentile(values, (25, 75))
    width = 0.9 * min(spread, (quartiles[1] - quartiles[0]) / 1.34 or spread) * len(values) ** -0.2
    at = np.linspace(values[0], values[-1], count)
    # A few hundred values tell the shape; a thousand slices need not be summed at every place.
    some = values[np.linspace(0, len(values) - 1, min(len(values), 600)).astype(int)]
    heights = np.exp(-0.5 * ((at[:, None] - some) / max(width, 1e-9)) ** 2).sum(1)
    return at, heights / heights.max()


def _violin(values, axis, middle, half):
    at, heights = density(values)
    upper = [f"{axis(x):.1f} {middle - half * h:.1f}" for x, h in zip(at, heights)]
    lower = [f"{axis(x):.1f} {middle + half * h:.1f}" for x, h in zip(at[::-1], heights[::-1])]
    return "M" + "L".join([*upper, *lower]) + "z"


def _box(values, axis, middle):
    first, median, third = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (third - first)
    low, high = values[values >= first - reach].min(), values[values <= third + reach].max()
    x = {name: f"{axis(v):.1f}" for name, v in zip("lfmth", (low, first, median, third, high))}
    width = max(axis(third) - axis(first), 0.5)
    return (
        f'<path class="whisker" d="M{x["l"]} {middle}H{x["f"]}M{x["t"]} {middle}H{x["h"]}"/>'
        f'<rect class="box" x="{x["f"]}" y="{middle - 6}" width="{width:.1f}" height="12"/>'
        f'<path class="median" d="M{x["m"]} {middle - 8}v16"/>'
    )


def thinned(values, names, cap):
    """At most ``cap`` values with their names and places: both ends whole, what is between evenly."""
    count = len(values)
    if count <= cap:
        return values, names, range(count)
    ends = cap // 8
    between = np.linspace(ends, count - 1 - ends, cap - 2 * ends).round().astype(int)
    places = [*range(ends), *between.tolist(), *range(count - ends, count)]
    return values[places], [names[place] for place in places], places


# --- Bland-Altman ------------------------------------------------------------------------


def bland_altman(comparison, area, percent=False, reach=None, quantity=CSA):
    """Differences of a quantity against the pairs' means, with bias, limits of agreement and their intervals.

    Parameters
    ----------
    comparison : Comparison
    area : AreaAgreement
    percent : bool
        Differences in percent of each pair's mean.
    reach : (float, float), optional
        Differences that the axis is to hold; default: the plot's own, from :func:`reach_of`.
    quantity : Quantity

    Returns
    -------
    Markup or None
        None where fewer than two pairs are.
    """
    found = area.bland_altman
    if found.n < 2 or not math.isfinite(found.sd):
        return None
    levels = lines_of(found, percent)
    means, differences = differences_of(area, percent)
    unit, digits = ("%", 1) if percent else (quantity.unit, 2)
    left, right, top, bottom = 44, _WIDTH - 74, 10, _HEIGHT - 38
    x = _Axis(*_padded(means), left, right)
    y = _Axis(*_padded(reach or reach_of(area, percent)), bottom, top)
    parts = [_ticks_below(x, top, bottom), _ticks_left(y, left, right)]
    parts.append(f'<line class="zero" x1="{left}" x2="{right}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    parts.append(f'<g class="{pair_colour(comparison, area.method, area.against)}">')
    order = np.argsort(differences, kind="stable")
    names = [f"{area.cases[i]}: {signed(differences[i], digits)} {unit}" for i in order]
    values, names, places = thinned(differences[order], names, 2 * DOTS)
    parts += [_dot(x(means[order[i]]), y(value), name) for value, name, i in zip(values, names, places)]
    parts.append("</g>")
    for name, value, half in levels:
        kind = "bias" if name == "bias" else "limit"
        # A band that is wider than the plot would only colour all of it.
        if half > 0 and not (value - half < y.low and value + half > y.high):
            height = abs(y(value - half) - y(value + half))
            parts.append(
                f'<rect class="ci" x="{left}" width="{right - left}" y="{y(value + half):.1f}" height="{height:.1f}"/>'
            )
        parts.append(f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
    parts += _level_labels(levels, y, right, digits, bottom)
    parts.append(
        _text((left + right) / 2, _HEIGHT - 6, f"mean of the two {quantity.axis} ({quantity.unit})", "middle", "title")
    )
    parts.append(_text(12, (top + bottom) / 2, f"difference ({unit})", "middle", "title", rotate=True))
    label = pair_name(comparison, area.method, area.against)
    text = f"Bland-Altman plot of {area.structure} {quantity.name}, {label}, {found.n} {quantity.dot}s: " + ", ".join(
        f"{name} {signed(value, digits)} {unit}" for name, value, _ in levels
    )
    return _svg(parts, _HEIGHT, text)


def differences_of(area, percent=False):
    """Mean of each pair of areas, mm2, and their difference in mm2 or percent of it."""
    both = np.asarray(area.pairs, float)
    means, differences = both.mean(1), both[:, 0] - both[:, 1]
    return means, 100 * differences / means if percent else differences


def reach_of(area, percent=False, intervals=True):
    """Lowest and highest of what a Bland-Altman plot shows: dots, lines with or without their intervals, 0."""
    bounds = [v + side * half * intervals for _, v, half in lines_of(area.bland_altman, percent) for side in (-1, 1)]
    shown = [*differences_of(area, percent)[1], *bounds, 0.0]
    return min(shown), max(shown)


def lines_of(found, percent=False):
    """(name, value, half of its confidence interval) of a BlandAltman's three lines, in mm2 or percent."""
    values = (found.upper, found.bias, found.lower)
    halves = [
        (found.upper_high - found.upper_low) / 2,
        (found.bias_high - found.bias_low) / 2,
        (found.lower_high - found.lower_low) / 2,
    ]
    if percent:
        # The intervals are the same multiples of the SD.
        halves = [half * found.sd_percent / found.sd if found.sd else 0.0 for half in halves]
        values = (found.upper_percent, found.bias_percent, found.lower_percent)
    return list(zip(("+1.96 SD", "bias", "-1.96 SD"), values, halves))


def _level_labels(levels, y, right, digits, bottom):
    """Names and values of the lines, moved apart where lines are close."""
    at, last = [], -math.inf
    for name, value, _ in levels:
        last = max(y(value), last + 25)
        at.append((name, value, last))
    over = max(0.0, at[-1][2] - (bottom - 4))
    found = []
    for name, value, height in at:
        found.append(_text(right + 4, height - over - 1, name, "start", "small"))
        found.append(_text(right + 4, height - over + 11, signed(value, digits), "start", "label"))
    return found


# --- drawing -----------------------------------------------------------------------------


class _Axis:
    """Value to place; ``left`` and ``right`` are bottom and top of an upright axis."""

    def __init__(self, low, high, left, right):
        self.low, self.high, self.left, self.right = low, high, left, right

    def __call__(self, value):
        share = (value - self.low) / (self.high - self.low)
        return self.left + (self.right - self.left) * min(max(share, 0.0), 1.0)

    def ticks(self, wanted=5):
        rough = (self.high - self.low) / wanted
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (step / unit == 2.5 and unit < 10)
        first = math.ceil(self.low / step - 1e-9)
        return [(k * step, number(k * step, digits)) for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _padded(values):
    low, high = float(np.min(values)), float(np.max(values))
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad


def _ticks_below(axis, top, bottom):
    parts = []
    for value, text in axis.ticks():
        x = f"{axis(value):.1f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(axis(value), bottom + 14, text, "middle"))
    return "".join(parts)


def _ticks_left(axis, left, right):
    parts = []
    for value, text in axis.ticks():
        y = axis(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 5, y + 3.5, text, "end"))
    return "".join(parts)


def _text(x, y, text, anchor="start", kind="", longest=None, rotate=False):
    shown = text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"
    title = f"<title>{escape(text)}</title>" if shown != text else ""
    turn = f' transform="rotate(-90 {x:g} {y:g})"' if rotate else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{title}{escape(shown)}</text>'


def _dot(x, y, name):
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="1.7"><title>{escape(name)}</title></circle>'


def _cross(x, y, name):
    return f'<path class="cross" d="M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m0-5l-5 5"><title>{escape(name)}</title></path>'


def _svg(parts, height, label):
    opening = f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return Markup(f"{opening}{''.join(parts)}</svg>")
