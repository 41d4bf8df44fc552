"""How unusual each scan of a cohort is, and why, in words.

Robust z scores (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993): the distance
to the cohort's median in units of 1.4826 times the median absolute deviation. Checks that need
no cohort always run, and are all that runs below five scans.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

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
class Measure:
    """One thing that can make a scan stand out: far from the cohort, or beyond what any scan may have.

    Attributes
    ----------
    name, label : str
    text : str
        How a value reads.
    side : {"", "both", "high"}
        Which side of the cohort is unusual; empty: not compared with the cohort.
    noise : float
        Least spread that the cohort is taken to have: what a healthy cohort varies anyway. Keeps a
        difference of no importance from a large z where scans are nearly alike.
    log_from : float or None
        Compared as log10(value + this), for what is skewed in any cohort; ``noise`` is then in decades.
    low, high : float
        A value below or above is a reason, whatever the cohort.
    severity : float
        Of that reason, on the scale of z.
    words : str
        What that reason says; the value goes in at ``{}``.
    """

    name: str
    label: str
    text: str
    side: str = ""
    noise: float = 0.0
    log_from: float | None = None
    low: float = -inf
    high: float = inf
    severity: float = 0.0
    words: str = ""

    @property
    def unit(self) -> str:
        """What follows a value as it reads; empty for what has none."""
        return self.text.partition("}")[2].strip()

    @property
    def compared(self) -> bool:
        """Whether it is compared with the cohort."""
        return bool(self.side)

    def scaled(self, value: float) -> float:
        """A value on the scale that it is compared on."""
        return value if self.log_from is None else float(np.log10(value + self.log_from))

    def unscaled(self, value: float) -> float:
        """The inverse of :meth:`scaled`."""
        return value if self.log_from is None else 10**value - self.log_from


MEASURES = (
    Measure(
        "sc_area_mm2",
        "SC area",
        "{:.1f} mm²",
        "both",
        noise=3.0,
        low=SC_AREA_MM2[0],
        high=SC_AREA_MM2[1],
        severity=8,
        words="SC area of {} is not plausible",
    ),
    Measure("gm_area_mm2", "GM area", "{:.1f} mm²", "both", noise=0.8),
    Measure(
        "gm_sc_ratio",
        "GM/SC ratio",
        "{:.3f}",
        "both",
        noise=0.012,
        low=GM_SC_RATIO[0],
        high=GM_SC_RATIO[1],
        severity=7,
        words="GM/SC ratio of {} is not plausible",
    ),
    Measure(
        "sc_jump",
        "slice-to-slice jump of SC",
        "{:.0%}",
        "high",
        noise=0.03,
        high=JUMP_FRACTION,
        severity=6,
        words="SC area jumps by {} from its neighbours",
    ),
    Measure(
        "sc_asymmetry",
        "left-right asymmetry of SC",
        "{:.3f}",
        "high",
        noise=0.015,
        high=0.25,
        severity=5,
        words="SC is asymmetric (1 - Dice with its mirror image {})",
    ),
    Measure(
        "gm_asymmetry",
        "left-right asymmetry of GM",
        "{:.3f}",
        "high",
        noise=0.04,
        high=0.65,
        severity=5,
        words="GM is asymmetric (1 - Dice with its mirror image {})",
    ),
    Measure("sc_pieces", "pieces of SC in a slice", "{:.0f}", high=1, severity=6, words="SC lies in {} pieces"),
    Measure(
        "gm_pieces",
        "pieces of GM in a slice",
        "{:.0f}",
        "high",
        noise=1.0,
        high=4,
        severity=4,
        words="GM lies in {} pieces",
    ),
    Measure(
        "edge_mm",
        "distance to the image's edge",
        "{:.1f} mm",
        low=1.0,
        severity=5,
        words="SC is {} from the image's edge",
    ),
    Measure(
        "window_edge",
        "slices at the window's edge",
        "{:.0f}",
        high=0,
        severity=6,
        words="SC touches the window's edge",
    ),
    Measure(
        "unsure",
        "slices placed by their neighbours",
        "{:.0f}",
        high=0,
        severity=3.6,
        words="the cord's place is unsure",
    ),
    Measure(
        "gm_unseen",
        "slices without visible GM",
        "{:.0f}",
        high=0,
        severity=3.7,
        words="GM cannot be told from WM in the image",
    ),
    Measure("past_end", "slices past the cord's end", "{:.0f}", high=0, severity=3.6, words="past the end of the cord"),
    Measure(
        "unlike",
        "slices of another contrast",
        "{:.0f}",
        high=0,
        severity=6,
        words="not the contrast that the model knows",
    ),
    Measure("sc_empty", "slices without SC", "{:.0f}", high=0, severity=7, words="no SC"),
    Measure("gm_empty", "slices without GM", "{:.0f}", high=0, severity=5, words="no GM although there is SC"),
    # Loads of patients span decades and are no fault of a mask: only what is far from all others in decades, or
    # what no brain has.
    Measure(
        "load_ml",
        "lesion load",
        "{:.1f} mL",
        "both",
        noise=0.5,
        log_from=0.1,
        high=100.0,
        severity=6,
        words="lesion load of {} is not plausible",
    ),
    Measure("lesions", "number of lesions", "{:.0f}", "both", noise=0.4, log_from=1.0),
    Measure("lesion_pieces", "pieces of lesion", "{:.0f}", high=200, severity=6, words="the mask lies in {} pieces"),
    Measure(
        "lesions_at_edge",
        "lesions at the image's edge",
        "{:.0f}",
        high=0,
        severity=5,
        words="the image's edge cuts lesions ({})",
    ),
    Measure(
        "brain_ml",
        "brain volume",
        "{:.0f} mL",
        "both",
        noise=80.0,
        low=800.0,
        high=2200.0,
        severity=8,
        words="brain of {} is not plausible",
    ),
)


@dataclass(frozen=True)
class Reason:
    """Why a scan stands out: ``text`` for people; ``severity`` on the scale of z."""

    measure: str
    severity: float
    text: str


@dataclass(frozen=True)
class Score:
    """How unusual a scan is.

    Attributes
    ----------
    score : float
        The largest severity plus a tenth of the others. Without a reason, the largest |z| (below 3.5).
    reasons : tuple of Reason
        Gravest first.
    z : dict of str to float
        Robust z of every measure compared; signed.
    """

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


def cohort_scales(features: Sequence[Features]) -> dict[str, tuple[float, float, int] | None]:
    """Median, robust SD and number of known values of every measure that is compared, by name.

    They are on the scale that the measure is compared on; None below five known values.
    """
    scales: dict[str, tuple[float, float, int] | None] = {}
    for measure in MEASURES:
        if measure.compared:
            found = (one.values.get(measure.name) for one in features)
            known = np.array([measure.scaled(value) for value in found if value is not None])
            scales[measure.name] = None
            if len(known) >= MIN_COHORT:
                median = float(np.median(known))
                sd = 1.4826 * float(np.median(np.abs(known - median)))
                scales[measure.name] = median, max(sd, measure.noise), len(known)
    return scales


def _score(one, scales):
    reasons, z, sizes = [], {}, []
    for measure in MEASURES:
        value = one.values.get(measure.name)
        if value is None:
            continue
        found, shown, where = [], measure.text.format(value), one.slices.get(measure.name, ())
        on = f", on slice{'s' * (len(where) > 1)} {ranges(where)}" if where else ""
        if not measure.low <= value <= measure.high:
            found.append(Reason(measure.name, measure.severity, measure.words.format(shown) + on))
        if scale := scales.get(measure.name):
            median, sd, n = scale
            distance = z[measure.name] = (measure.scaled(value) - median) / sd
            sizes.append(abs(distance) if measure.side == "both" else distance)
            if sizes[-1] >= Z_LIMIT:
                text = (
                    f"{measure.label} {shown} is {'high' if distance > 0 else 'low'}: the median of {n} scans is "
                    f"{measure.text.format(measure.unscaled(median))} (robust z {distance:+.1f})"
                )
                found.append(Reason(measure.name, min(sizes[-1], Z_MOST), text + on))
        if found:
            # One reason a measure: the graver.
            reasons.append(max(found, key=lambda reason: reason.severity))
    reasons.sort(key=lambda reason: -reason.severity)
    others = 0.1 * sum(reason.severity for reason in reasons[1:])
    score = reasons[0].severity + others if reasons else max(sizes, default=0.0)
    return Score(round(score, 3), tuple(reasons), z)


def cohort_band(curves: Sequence[np.ndarray]) -> dict[str, list] | None:
    """Median and 5-95 % of a measure along the stack, at 21 places.

    Stacks differ in length and place, so slices are matched by their position between the first
    and the last slice of their own stack.

    Parameters
    ----------
    curves : sequence of (Z,) array
        One a scan, NaN where not measured.

    Returns
    -------
    dict of str to list, or None below five curves
        ``at`` (0..1), ``median``, ``low``, ``high``; None where fewer than five scans reach.
    """
    at = np.linspace(0, 1, 21)
    stack = np.array([_at_positions(curve, at) for curve in curves if np.isfinite(curve).any()])
    if len(stack) < MIN_COHORT:
        return None
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
