"""How unusual each scan of a cohort is, and why, in words.

Robust z scores (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993): the distance
to the cohort's median in units of 1.4826 times the median absolute deviation. Checks that need
no cohort always run, and are all that runs below five scans.
"""

from dataclasses import dataclass

import numpy as np

from sctseg7t.measure.checks import GM_SC_RATIO, JUMP_FRACTION, SC_AREA_MM2
from sctseg7t.text import ranges

MIN_COHORT = 5
Z_LIMIT = 3.5
# Beyond this a larger z says nothing more, and one number must not hide all others.
Z_MOST = 20.0
FAILED_SCORE = 100.0


@dataclass(frozen=True)
class Measure:
    """One thing that is compared.

    Attributes
    ----------
    name, label : str
    direction : {"both", "high", "low", "none"}
        Which side of the cohort is unusual; ``none``: no comparison with the cohort.
    noise : float
        Least spread that the cohort is taken to have: what a healthy cohort varies anyway. Keeps a
        difference of no importance from a large z where scans are nearly alike.
    low, high : float or None
        Checked without a cohort.
    severity : float
        Of a check without a cohort, on the scale of z.
    text : str
        How a value reads.
    check : str
        What a failed check says; the value goes in at ``{}``.
    log_from : float or None
        Compared as log10(value + this), for what is skewed in any cohort; ``noise`` is then in decades.
    """

    name: str
    label: str
    direction: str
    noise: float = 0.0
    low: float | None = None
    high: float | None = None
    severity: float = 5.0
    text: str = "{:.1f}"
    check: str = ""
    log_from: float | None = None

    def scaled(self, value):
        """A value on the scale that it is compared on."""
        return value if self.log_from is None or value is None else float(np.log10(value + self.log_from))

    def unscaled(self, value):
        """The inverse of :meth:`scaled`."""
        return value if self.log_from is None else 10**value - self.log_from


_MIRROR = "(1 - Dice with its mirror image {})"
# fmt: off
MEASURES = (
    #       name             label                               side   noise  low    high  severity  text, check
    Measure("sc_area_mm2",   "SC area",                          "both", 3.0,   *SC_AREA_MM2,        8.0, "{:.1f} mm²",
            "SC area of {} is not plausible"),
    Measure("gm_area_mm2",   "GM area",                          "both", 0.8,   None, None,          0.0, "{:.1f} mm²"),
    Measure("gm_sc_ratio",   "GM/SC ratio",                      "both", 0.012, *GM_SC_RATIO,        7.0, "{:.3f}",
            "GM/SC ratio of {} is not plausible"),
    Measure("sc_jump",       "slice-to-slice jump of SC",        "high", 0.03,  None, JUMP_FRACTION, 6.0, "{:.0%}",
            "SC area jumps by {} from its neighbours"),
    Measure("sc_asymmetry",  "left-right asymmetry of SC",       "high", 0.015, None, 0.25,          5.0, "{:.3f}",
            f"SC is asymmetric {_MIRROR}"),
    Measure("gm_asymmetry",  "left-right asymmetry of GM",       "high", 0.04,  None, 0.65,          5.0, "{:.3f}",
            f"GM is asymmetric {_MIRROR}"),
    Measure("sc_pieces",     "pieces of SC in a slice",          "none", 0.0,   None, 1,             6.0, "{:.0f}",
            "SC lies in {} pieces"),
    Measure("gm_pieces",     "pieces of GM in a slice",          "high", 1.0,   None, 4,             4.0, "{:.0f}",
            "GM lies in {} pieces"),
    Measure("uncertainty",   "mean uncertainty",                 "high", 0.01,  None, None,          0.0, "{:.3f}"),
    Measure("edge_mm",       "distance to the image's edge",     "none", 0.0,   1.0,  None,          5.0, "{:.1f} mm",
            "SC is {} from the image's edge"),
    Measure("window_edge",   "slices at the window's edge",      "none", 0.0,   None, 0,             6.0, "{:.0f}",
            "SC touches the window's edge"),
    Measure("unsure",        "slices placed by their neighbours", "none", 0.0,  None, 0,             3.6, "{:.0f}",
            "the cord's place is unsure"),
    Measure("sc_empty",      "slices without SC",                "none", 0.0,   None, 0,             7.0, "{:.0f}",
            "no SC"),
    Measure("gm_empty",      "slices without GM",                "none", 0.0,   None, 0,             5.0, "{:.0f}",
            "no GM although there is SC"),
    # Loads of patients span decades and are no fault of a mask: only what is far from all others in decades, or
    # what no brain has.
    Measure("load_ml",       "lesion load",                      "both", 0.5,   None, 100.0,         6.0, "{:.1f} mL",
            "lesion load of {} is not plausible", log_from=0.1),
    Measure("lesions",       "number of lesions",                "both", 0.4,   None, None,          0.0, "{:.0f}",
            log_from=1.0),
    Measure("lesion_pieces", "pieces of lesion",                 "none", 0.0,   None, 200,           6.0, "{:.0f}",
            "the mask lies in {} pieces"),
    Measure("lesions_at_edge", "lesions at the image's edge",    "none", 0.0,   None, 0,             5.0, "{:.0f}",
            "the image's edge cuts lesions ({})"),
    Measure("brain_ml",      "brain volume",                     "both", 80.0,  800.0, 2200.0,       8.0, "{:.0f} mL",
            "brain of {} is not plausible"),
)
# fmt: on


@dataclass(frozen=True)
class Reason:
    """Why a scan stands out: ``text`` for people; ``severity`` on the scale of z."""

    measure: str
    severity: float
    text: str
    slices: tuple = ()
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
    reasons: tuple
    z: dict


def score_cohort(features):
    """Score every scan against the cohort of all.

    Parameters
    ----------
    features : sequence of Features
        Of the scans that have masks; failed ones do not belong here.

    Returns
    -------
    list of Score
        In the order given. Fewer than five scans with a measure: no z for it.
    """
    features = list(features)
    scales = cohort_scales(features)
    return [_score(one, scales) for one in features]


def cohort_scales(features):
    """Every measure's :func:`cohort_scale` by name, on the scale that it is compared on."""
    return {m.name: cohort_scale([m.scaled(f.values.get(m.name)) for f in features], m.noise) for m in MEASURES}


def cohort_scale(values, noise=0.0):
    """Median and robust SD of a measure, or None below five known values.

    Parameters
    ----------
    values : sequence of float or None
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
    reasons, z = [], {}
    for measure in MEASURES:
        value = one.values.get(measure.name)
        if value is None:
            continue
        where = one.slices.get(measure.name, ())
        found = _check(measure, value, where)
        scale = scales[measure.name] if measure.direction != "none" else None
        if scale:
            z[measure.name] = (measure.scaled(value) - scale[0]) / scale[1]
            compared = _compare(measure, value, where, scale)
            # One reason a measure: the graver.
            found = max((r for r in (found, compared) if r), key=lambda r: r.severity, default=None)
        if found:
            reasons.append(found)
    reasons.sort(key=lambda r: -r.severity)
    if reasons:
        score = reasons[0].severity + 0.1 * sum(r.severity for r in reasons[1:])
    else:
        score = max((_sided(m, z[m.name]) for m in MEASURES if m.name in z), default=0.0)
    return Score(one.name, round(score, 3), tuple(reasons), z)


def _check(measure, value, where):
    low, high = measure.low, measure.high
    if not ((low is not None and value < low) or (high is not None and value > high)):
        return None
    text = measure.check.format(measure.text.format(value)) + _on(where)
    return Reason(measure.name, measure.severity, text, where)


def _compare(measure, value, where, scale):
    median, sd, n = scale
    z = (measure.scaled(value) - median) / sd
    size = min(_sided(measure, z), Z_MOST)
    if size < Z_LIMIT:
        return None
    side = "high" if z > 0 else "low"
    text = (
        f"{measure.label} {measure.text.format(value)} is {side}: the median of {n} scans is "
        f"{measure.text.format(measure.unscaled(median))} (robust z {z:+.1f})"
    )
    return Reason(measure.name, size, text + _on(where), where, z)


def _sided(measure, z):
    return {"both": abs(z), "high": z, "low": -z}[measure.direction]


def _on(where):
    if not where:
        return ""
    return f", on slice {ranges(where)}" if len(where) == 1 else f", on slices {ranges(where)}"


def cohort_band(curves, points=21):
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
