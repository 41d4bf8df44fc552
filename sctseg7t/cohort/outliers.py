"""How unusual each scan of a cohort is, and why, in words.

Robust z scores (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993): the distance
to the cohort's median in units of 1.4826 times the median absolute deviation. Checks that need
no cohort always run, and are all that runs below five scans.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sctseg7t.cohort.features import Features
from sctseg7t.measure.checks import GM_SC_RATIO, JUMP_FRACTION, SC_AREA_MM2
from sctseg7t.text import ranges

MIN_COHORT = 5
Z_LIMIT = 3.5
# Beyond this a larger z says nothing more, and one number must not hide all others.
Z_MOST = 20.0
FAILED_SCORE = 100.0


@dataclass(frozen=True)
class Compared:
    """How a measure is compared with the cohort.

    Attributes
    ----------
    side : {"both", "high", "low"}
        Which side of the cohort is unusual.
    noise : float
        Least spread that the cohort is taken to have: what a healthy cohort varies anyway. Keeps a
        difference of no importance from a large z where scans are nearly alike.
    log_from : float or None
        Compared as log10(value + this), for what is skewed in any cohort; ``noise`` is then in decades.
    """

    side: str
    noise: float
    log_from: float | None = None


@dataclass(frozen=True)
class Limits:
    """What no scan may have, whatever the cohort.

    Attributes
    ----------
    low, high : float or None
        A value below or above is a reason; None: no limit on this side.
    severity : float
        On the scale of z.
    words : str
        What the reason says; the value goes in at ``{}``.
    """

    low: float | None
    high: float | None
    severity: float
    words: str


@dataclass(frozen=True)
class Measure:
    """One thing that can make a scan stand out.

    Attributes
    ----------
    name, label : str
    text : str
        How a value reads.
    compared : Compared or None
        None: not compared with the cohort.
    limits : Limits or None
        None: only compared.
    """

    name: str
    label: str
    text: str
    compared: Compared | None = None
    limits: Limits | None = None

    def scaled(self, value: float | None) -> float | None:
        """A value on the scale that it is compared on."""
        start = self.compared and self.compared.log_from
        return value if start is None or value is None else float(np.log10(value + start))

    def unscaled(self, value: float) -> float:
        """The inverse of :meth:`scaled`."""
        start = self.compared and self.compared.log_from
        return value if start is None else 10**value - start


MEASURES = (
    Measure(
        "sc_area_mm2",
        "SC area",
        "{:.1f} mm²",
        Compared("both", noise=3.0),
        Limits(*SC_AREA_MM2, severity=8, words="SC area of {} is not plausible"),
    ),
    Measure("gm_area_mm2", "GM area", "{:.1f} mm²", Compared("both", noise=0.8)),
    Measure(
        "gm_sc_ratio",
        "GM/SC ratio",
        "{:.3f}",
        Compared("both", noise=0.012),
        Limits(*GM_SC_RATIO, severity=7, words="GM/SC ratio of {} is not plausible"),
    ),
    Measure(
        "sc_jump",
        "slice-to-slice jump of SC",
        "{:.0%}",
        Compared("high", noise=0.03),
        Limits(None, JUMP_FRACTION, severity=6, words="SC area jumps by {} from its neighbours"),
    ),
    Measure(
        "sc_asymmetry",
        "left-right asymmetry of SC",
        "{:.3f}",
        Compared("high", noise=0.015),
        Limits(None, 0.25, severity=5, words="SC is asymmetric (1 - Dice with its mirror image {})"),
    ),
    Measure(
        "gm_asymmetry",
        "left-right asymmetry of GM",
        "{:.3f}",
        Compared("high", noise=0.04),
        Limits(None, 0.65, severity=5, words="GM is asymmetric (1 - Dice with its mirror image {})"),
    ),
    Measure(
        "sc_pieces",
        "pieces of SC in a slice",
        "{:.0f}",
        limits=Limits(None, 1, severity=6, words="SC lies in {} pieces"),
    ),
    Measure(
        "gm_pieces",
        "pieces of GM in a slice",
        "{:.0f}",
        Compared("high", noise=1.0),
        Limits(None, 4, severity=4, words="GM lies in {} pieces"),
    ),
    Measure(
        "edge_mm",
        "distance to the image's edge",
        "{:.1f} mm",
        limits=Limits(1.0, None, severity=5, words="SC is {} from the image's edge"),
    ),
    Measure(
        "window_edge",
        "slices at the window's edge",
        "{:.0f}",
        limits=Limits(None, 0, severity=6, words="SC touches the window's edge"),
    ),
    Measure(
        "unsure",
        "slices placed by their neighbours",
        "{:.0f}",
        limits=Limits(None, 0, severity=3.6, words="the cord's place is unsure"),
    ),
    Measure("sc_empty", "slices without SC", "{:.0f}", limits=Limits(None, 0, severity=7, words="no SC")),
    Measure(
        "gm_empty",
        "slices without GM",
        "{:.0f}",
        limits=Limits(None, 0, severity=5, words="no GM although there is SC"),
    ),
    # Loads of patients span decades and are no fault of a mask: only what is far from all others in decades, or
    # what no brain has.
    Measure(
        "load_ml",
        "lesion load",
        "{:.1f} mL",
        Compared("both", noise=0.5, log_from=0.1),
        Limits(None, 100.0, severity=6, words="lesion load of {} is not plausible"),
    ),
    Measure("lesions", "number of lesions", "{:.0f}", Compared("both", noise=0.4, log_from=1.0)),
    Measure(
        "lesion_pieces",
        "pieces of lesion",
        "{:.0f}",
        limits=Limits(None, 200, severity=6, words="the mask lies in {} pieces"),
    ),
    Measure(
        "lesions_at_edge",
        "lesions at the image's edge",
        "{:.0f}",
        limits=Limits(None, 0, severity=5, words="the image's edge cuts lesions ({})"),
    ),
    Measure(
        "brain_ml",
        "brain volume",
        "{:.0f} mL",
        Compared("both", noise=80.0),
        Limits(800.0, 2200.0, severity=8, words="brain of {} is not plausible"),
    ),
)


@dataclass(frozen=True)
class Reason:
    """Why a scan stands out: ``text`` for people; ``severity`` on the scale of z."""

    measure: str
    severity: float
    text: str
    slices: tuple[int, ...] = ()
    z: float | None = None


@dataclass(frozen=True)
class Score:
    """How unusual a scan is.

    Attributes
    ----------
    name : str
    score : float
        The largest severity plus a tenth of the others. Without a reason, the largest |z| (below 3.5).
    reasons : tuple of Reason
        Gravest first.
    z : dict of str to float
        Robust z of every measure compared; signed.
    """

    name: str
    score: float
    reasons: tuple[Reason, ...]
    z: dict[str, float]


def score_cohort(features: Iterable[Features]) -> list[Score]:
    """Score every scan against the cohort of all.

    Parameters
    ----------
    features : iterable of Features
        Of the scans that have masks; failed ones do not belong here.

    Returns
    -------
    list of Score
        In the order given. Fewer than five scans with a measure: no z for it.
    """
    features = list(features)
    scales = cohort_scales(features)
    return [_score(one, scales) for one in features]


def cohort_scales(features: Iterable[Features]) -> dict[str, tuple[float, float, int] | None]:
    """The :func:`cohort_scale` of every measure that is compared, by name, on the scale that it is compared on."""
    features = list(features)
    return {
        m.name: cohort_scale([m.scaled(f.values.get(m.name)) for f in features], m.compared.noise)
        for m in MEASURES
        if m.compared
    }


def cohort_scale(values: Iterable[float | None], noise: float = 0.0) -> tuple[float, float, int] | None:
    """Median and robust SD of a measure, or None below five known values.

    Parameters
    ----------
    values : iterable of float or None
    noise : float
        Least SD returned.

    Returns
    -------
    tuple of (median, sd, n) or None
    """
    known = np.array([v for v in values if v is not None and np.isfinite(v)], float)
    if len(known) < MIN_COHORT:
        return None
    median = float(np.median(known))
    sd = 1.4826 * float(np.median(np.abs(known - median)))
    return median, max(sd, noise, 1e-12), len(known)


def _score(one, scales):
    reasons, z, sizes = [], {}, []
    for measure in MEASURES:
        value = one.values.get(measure.name)
        if value is None:
            continue
        where = one.slices.get(measure.name, ())
        found = [_check(measure, value, where)]
        scale = scales.get(measure.name)
        if scale and measure.compared:
            z[measure.name] = (measure.scaled(value) - scale[0]) / scale[1]
            size = {"both": abs, "high": float, "low": lambda z: -z}[measure.compared.side](z[measure.name])
            sizes.append(size)
            found.append(_compare(measure, value, where, scale, size))
        if any(found):
            # One reason a measure: the graver.
            reasons.append(max(filter(None, found), key=lambda reason: reason.severity))
    reasons.sort(key=lambda reason: -reason.severity)
    others = 0.1 * sum(reason.severity for reason in reasons[1:])
    score = reasons[0].severity + others if reasons else max(sizes, default=0.0)
    return Score(one.name, round(score, 3), tuple(reasons), z)


def _check(measure, value, where):
    limits = measure.limits
    if limits is None:
        return None
    low, high = limits.low, limits.high
    if not ((low is not None and value < low) or (high is not None and value > high)):
        return None
    text = limits.words.format(measure.text.format(value)) + _on(where)
    return Reason(measure.name, limits.severity, text, where)


def _compare(measure, value, where, scale, size):
    if size < Z_LIMIT:
        return None
    median, sd, n = scale
    z = (measure.scaled(value) - median) / sd
    text = (
        f"{measure.label} {measure.text.format(value)} is {'high' if z > 0 else 'low'}: the median of {n} scans is "
        f"{measure.text.format(measure.unscaled(median))} (robust z {z:+.1f})"
    )
    return Reason(measure.name, min(size, Z_MOST), text + _on(where), where, z)


def _on(where):
    if not where:
        return ""
    return f", on slice {ranges(where)}" if len(where) == 1 else f", on slices {ranges(where)}"


def cohort_band(curves: Sequence[np.ndarray], points: int = 21) -> dict[str, list] | None:
    """Median and 5-95 % of a measure along the stack.

    Stacks differ in length and place, so slices are matched by their position between the first
    and the last slice of their own stack.

    Parameters
    ----------
    curves : sequence of (Z,) array
        One a scan, NaN where not measured.
    points : int

    Returns
    -------
    dict of str to list, or None below five curves
        ``at`` (0..1), ``median``, ``low``, ``high``; None where fewer than five scans reach.
    """
    curves = [np.asarray(c, float) for c in curves]
    curves = [c for c in curves if np.isfinite(c).any()]
    if len(curves) < MIN_COHORT:
        return None
    at = np.linspace(0, 1, points)
    stack = np.array([_at_positions(c, at) for c in curves])
    known = np.isfinite(stack).sum(axis=0) >= MIN_COHORT
    band = {"at": at.round(4).tolist()}
    for name, percent in (("low", 5), ("median", 50), ("high", 95)):
        band[name] = [
            round(float(np.nanpercentile(column, percent)), 2) if enough else None
            for column, enough in zip(stack.T, known)
        ]
    return band


def _at_positions(curve, at):
    where = np.flatnonzero(np.isfinite(curve))
    own = where / (len(curve) - 1) if len(curve) > 1 else np.array([0.5])
    # A single slice speaks for the middle of a stack only.
    reach = 0.5 / max(len(curve) - 1, 1)
    values = np.interp(at, own, curve[where])
    values[(at < own[0] - reach) | (at > own[-1] + reach)] = np.nan
    return values
