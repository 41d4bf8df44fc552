"""Lesions over scans: summaries by method, load and size, tests over subjects, agreement and repeatability of loads."""

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sctseg7t.compare.find import rescan_key
from sctseg7t.compare.lesions import LesionStudy, size_names
from sctseg7t.compare.names import LESION
from sctseg7t.compare.records import AreaAgreement, TestRow
from sctseg7t.measure.lesion_agreement import LOAD_LIMITS_ML, load_stratum, summarise_lesions
from sctseg7t.measure.pairs import ratio
from sctseg7t.measure.reliability import icc
from sctseg7t.measure.significance import holm, wilcoxon_signed_rank
from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov, subject_means, summary

AVERAGED = (
    "sensitivity",
    "precision",
    "f1",
    "dice",
    "dice_matched",
    "volume_difference_ml",
    "volume_difference_percent",
)
TESTED, LOAD = ("f1", "dice"), "load_ml"
# Of fewer subjects no two-sided p of the signed-rank test can be below 0.05.
LEAST_SUBJECTS = 6
COUNTS = ("n_reference", "n_mask", "tp_reference", "tp_mask", "fn", "fp", "merged", "split")
POOLED = ("sensitivity_pooled", "precision_pooled", "f1_pooled", "fp_per_scan")


@dataclass(frozen=True)
class LesionSummary:
    """A method's scans: all, those of one stratum of load, or its lesions of one stratum of size.

    ``numbers`` of scans: counts, ``..._pooled`` of all lesions together, ``fp_per_scan``, and of each averaged measure
    ``_mean``, ``_median``, ``_sd``, ``_low``, ``_high`` (interval of the mean) over the ``n_`` scans in which it is
    defined. Of sizes: lesions of each mask, found and false, sensitivity and precision.
    """

    method: str
    against: str
    group: str
    name: str
    numbers: dict


@dataclass(frozen=True)
class LoadRepeatability:
    """Loads of two runs of a session: coefficient of variation, %, and mean absolute difference, mL.

    Sessions in which neither run has lesions are not in the coefficient: ``with_lesions`` says how many are.
    """

    method: str
    sessions: int
    with_lesions: int
    cov: float
    difference_ml: float


def lesion_study(rows, items, loads_ml, cases, methods, reference, confidence):
    """All numbers from the scans' rows.

    Parameters
    ----------
    rows : sequence of LesionRow
    items : sequence of LesionItem
    loads_ml : dict of (case, method) to float
    cases : sequence of Case
    methods : sequence of str
    reference : str or None
    confidence : float

    Returns
    -------
    LesionStudy
    """
    return LesionStudy(
        tuple(rows),
        tuple(items),
        loads_ml,
        summarise(rows, confidence),
        tests_between(rows, loads_ml, cases, methods, reference),
        load_agreement(rows, loads_ml, confidence),
        repeatability(loads_ml, cases),
    )


def by_pair(rows):
    """Rows by (method, against), in the order in which they came."""
    found = defaultdict(list)
    for row in rows:
        found[row.method, row.against].append(row)
    return found


def load_names():
    """Names of the strata of load, from none on."""
    low, high = LOAD_LIMITS_ML
    return [load_stratum(ml) for ml in (0, low / 2, low, 2 * high)]


def summarise(rows, confidence=0.95):
    """A :class:`LesionSummary` of all scans of each method, of each stratum of load that has any, and of each size."""
    found = []
    for (method, against), own in by_pair(rows).items():
        agreements = [row.agreement for row in own]
        found.append(LesionSummary(method, against, "all", "all", _numbers(agreements, confidence)))
        for name in load_names():
            some = [a for a in agreements if a.load_stratum == name]
            if some:
                found.append(LesionSummary(method, against, "load", name, _numbers(some, confidence)))
        for place, name in enumerate(size_names()):
            strata = [a.by_size[place] for a in agreements]
            found.append(LesionSummary(method, against, "size", name, _size_numbers(strata)))
    return tuple(found)


def _numbers(agreements, confidence):
    known = summarise_lesions(agreements)
    numbers = {"n_scans": len(agreements), **{name: known[name] for name in COUNTS}}
    numbers |= {name: _float(known[name]) for name in POOLED}
    for name in AVERAGED:
        some = summary([getattr(a, name) for a in agreements], confidence=confidence)
        numbers |= {
            f"n_{name}": some.n,
            f"{name}_mean": some.mean,
            f"{name}_median": some.median,
            f"{name}_sd": some.sd,
            f"{name}_low": some.mean_low,
            f"{name}_high": some.mean_high,
        }
    return numbers


def _size_numbers(strata):
    total = {name: sum(getattr(s, name) for s in strata) for name in ("n_reference", "found", "n_mask", "false")}
    true = total["n_mask"] - total["false"]
    return {
        "n_scans": len(strata),
        "n_reference": total["n_reference"],
        "n_mask": total["n_mask"],
        "tp_reference": total["found"],
        "tp_mask": true,
        "fn": total["n_reference"] - total["found"],
        "fp": total["false"],
        "sensitivity_pooled": ratio(total["found"], total["n_reference"]),
        "precision_pooled": ratio(true, total["n_mask"]),
        "fp_per_scan": total["false"] / len(strata),
    }


def _float(value):
    return float("nan") if value is None else float(value)


# --- tests -------------------------------------------------------------------------------


def tests_between(rows, loads_ml, cases, methods, reference):
    """Wilcoxon's signed-rank test of each two methods over subjects, corrected by Holm over all of them.

    With a reference, of F1 and Dice: each subject's mean over the scans in which both methods have a value. Without,
    of loads. None where fewer than ``LEAST_SUBJECTS`` subjects have both.

    Returns
    -------
    tuple of TestRow
    """
    subjects = {case.name: case.subject or case.name for case in cases}
    tables = defaultdict(lambda: defaultdict(dict))
    if reference is None:
        for (case, method), load in loads_ml.items():
            tables[LOAD][method][case] = load
    else:
        for row in rows:
            for metric in TESTED:
                tables[metric][row.method][row.case] = getattr(row.agreement, metric)
    found = []
    for metric, known in tables.items():
        for first, second in combinations([method for method in methods if method in known], 2):
            test = _test(metric, first, second, known[first], known[second], subjects)
            found += [test] if test else []
    corrected = holm([test.p for test in found])
    return tuple(replace(test, p_holm=float(p)) for test, p in zip(found, corrected))


def _test(metric, first, second, a, b, subjects):
    both = [case for case in a if case in b and np.isfinite(a[case]) and np.isfinite(b[case])]
    owners = [subjects[case] for case in both]
    columns = [list(subject_means([of[case] for case in both], owners).values()) for of in (a, b)]
    if len(columns[0]) < LEAST_SUBJECTS:
        return None
    test = wilcoxon_signed_rank(*columns)
    statistic = min(test.rank_plus, test.rank_minus)
    n = (test.n, test.n)
    return TestRow(
        LESION, metric, first, second, "wilcoxon", "subject", n, statistic, test.effect, test.p, float("nan")
    )


# --- loads -------------------------------------------------------------------------------


def load_agreement(rows, loads_ml, confidence=0.95):
    """Bland-Altman and ICC(A,1) of the loads, mL, of every two masks that are compared; scans without lesions too."""
    found = []
    for (method, against), own in by_pair(rows).items():
        names = tuple(row.case for row in own)
        both = np.array([[loads_ml[name, who] for who in (method, against)] for name in names])
        correlation = icc(both, "A1", confidence)
        numbers = correlation.value, correlation.low, correlation.high
        found.append(AreaAgreement(LESION, method, against, bland_altman(*both.T), *numbers, both, names))
    return tuple(found)


def repeatability(loads_ml, cases):
    """Of every method with two runs of a session; of more than two runs the first two are used.

    Returns
    -------
    tuple of LoadRepeatability
    """
    sessions = defaultdict(list)
    for case in cases:
        if rescan_key(case) is not None:
            sessions[rescan_key(case)].append(case)
    pairs = defaultdict(list)
    for runs in sessions.values():
        ordered = sorted(runs, key=lambda case: case.run)
        for method in dict.fromkeys(method for _, method in loads_ml):
            loads = [loads_ml[case.name, method] for case in ordered if (case.name, method) in loads_ml]
            if len(loads) > 1:
                pairs[method].append(loads[:2])
    return tuple(_repeatability(method, np.array(loads)) for method, loads in pairs.items())


def _repeatability(method, loads):
    some = loads[loads.mean(1) > 0]
    return LoadRepeatability(
        method, len(loads), len(some), scan_rescan_cov(*some.T), float(np.abs(np.diff(loads, axis=1)).mean())
    )
