"""The study's numbers from the long table: summaries, tests between methods, agreement and repeatability of sizes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sctseg7t.compare.metrics import (
    BY_SIZE,
    COUNTS,
    ITEMS,
    LESIONS,
    TISSUE,
    Metric,
    metric_named,
    metrics_of,
    primary_of,
    size_strata,
)
from sctseg7t.compare.types import KEYS, LESION, STRUCTURES, Case, Settings
from sctseg7t.image.grid import Grid
from sctseg7t.measure.lesion_agreement import LOAD_LIMITS_ML, f1, load_stratum
from sctseg7t.measure.pairs import ratio
from sctseg7t.measure.reliability import icc
from sctseg7t.measure.significance import hodges_lehmann, holm, mann_whitney, wilcoxon_signed_rank
from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov, summary

# Of fewer subjects no two-sided p of the signed-rank test can be below 0.05.
LEAST_SUBJECTS = 6
# What a summary does with slices that failed.
KEPT, LEFT_OUT = "kept", "left out"
_LEVELS = ("slice", "level", "scan")
# Sizes of the method's mask and of the other one: areas of slices, loads of scans.
_SIZES = {False: ("size_method", "size_against"), True: ("load_method_ml", "load_against_ml")}
_STATISTICS = ("mean", "median", "sd", "low", "high")
# The metrics that a wide table has a column for, whatever was found.
_METRICS = {
    "tissue": [metric.key for metric in TISSUE],
    "lesion": [metric.key for metric in LESIONS] + [f"{name}_{part}" for _, part in size_strata() for name in BY_SIZE],
    "item": ["missed", *ITEMS, "centroid_x_vox", "centroid_y_vox"],
}


# --- the long table with a column a metric -------------------------------------------------


def wide(values: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows of the long table with a column for each metric, in their order.

    Parameters
    ----------
    values : DataFrame
        With the columns of the long table.
    kind : {"tissue", "lesion", "item"}
        Which metrics; those that have no value are columns of nan.
    """
    row = values.groupby(KEYS, sort=False, dropna=False).ngroup().to_numpy()
    keys = values[KEYS].iloc[np.unique(row, return_index=True)[1]].reset_index(drop=True)
    found = pd.DataFrame(index=keys.index, columns=_METRICS[kind], dtype=float)
    if len(values):
        pivot = pd.DataFrame({"row": row, "metric": values.metric.to_numpy(), "value": values.value.to_numpy()})
        found = pivot.pivot(index="row", columns="metric", values="value").reindex(columns=_METRICS[kind])
    return pd.concat([keys, found.rename_axis(None, axis=1).reset_index(drop=True)], axis=1)


# --- summaries -----------------------------------------------------------------------------


def summarise(
    rows: pd.DataFrame,
    pairs: Sequence[tuple[str, str, str]],
    settings: Settings,
    groups: Mapping[str, str | None] | None = None,
) -> pd.DataFrame:
    """Summary of tissues: a row for every structure, method, level, group, set of rows and metric.

    Parameters
    ----------
    rows : DataFrame
        As of :attr:`Comparison.rows`.
    pairs : sequence of (structure, method, against)
        In the order of the table.
    settings : Settings
    groups : dict of str to str, optional
        Group by case.

    Returns
    -------
    DataFrame
        structure, method, against, level, group ("" for all), failures (``kept``: missing structures count as a Dice
        and an area of 0; ``left out``: as in the 2021 study), metric, unit, n, subjects, outliers (failures there
        are, kept or not), undefined (values among the n that are not defined or infinite), mean (of those that are
        finite), median (infinite ones are the largest), sd, trimmed_mean, low, high (its interval, over subjects).
    """
    places = {pair: place for place, pair in enumerate(pairs)}
    of_case = rows.case.map(lambda case: (groups or {}).get(case) or "")
    found: list[dict[str, Any]] = []
    for group in ("", *sorted(set(of_case) - {""})):
        some = rows[of_case == group] if group else rows
        for key, own in some.groupby(["structure", "level", "method", "against"], sort=False):
            structure, level, method, against = map(str, key)
            who = {"structure": structure, "method": method, "against": against, "level": level, "group": group}
            outliers = int((own.outlier != "").sum())
            for failures, part in ((KEPT, own), (LEFT_OUT, own[own.outlier == ""])):
                counts = {"failures": failures, "n": len(part), "subjects": part.subject.nunique()}
                for metric in TISSUE:
                    if metric.summarised:
                        numbers = _described(part[metric.key], settings, part.subject, metric)
                        what = {"metric": metric.key, "unit": metric.unit_at(level), "outliers": outliers}
                        found.append({**who, **counts, **what, **numbers})

    def order(row):
        pair = row["structure"], row["method"], row["against"]
        return list(STRUCTURES).index(row["structure"]), _LEVELS.index(row["level"]), row["group"], places[pair]

    columns = ["structure", "method", "against", "level", "group", "failures", "metric", "unit", "n", "subjects"]
    columns += ["outliers", "undefined", "mean", "median", "sd", "trimmed_mean", "low", "high"]
    return pd.DataFrame(sorted(found, key=order), columns=columns)


def _described(values: pd.Series, settings: Settings, subjects: pd.Series, metric: Metric) -> dict[str, float]:
    """Fields of :class:`~sctseg7t.measure.statistics.Summary` but for the counts; no interval beyond what can be."""
    trim = settings.trim if metric in TISSUE else 0.0
    found = asdict(summary(values, trim, settings.confidence, subjects.to_numpy()))
    del found["n"], found["n_subjects"]
    least, most = metric.bounds
    return {**found, "low": max(found["low"], least), "high": min(found["high"], most)}


def summarise_lesions(rows: pd.DataFrame, pairs: Sequence[tuple[str, str, str]], settings: Settings) -> pd.DataFrame:
    """Summary of lesions: a row for all scans of each method, each stratum of load that has any, and each of size.

    Parameters
    ----------
    rows : DataFrame
        As of :attr:`Comparison.lesion_rows`.
    pairs : sequence of (structure, method, against)
    settings : Settings

    Returns
    -------
    DataFrame
        method, against, group (all, load or size), name (of the stratum), n_scans; the counts of ``COUNTS``;
        ``..._pooled`` of all lesions together and ``fp_per_scan``; of each averaged metric ``n_...`` (scans in which it
        is defined), ``..._mean``, ``..._median``, ``..._sd``, ``..._low`` and ``..._high`` (interval of the mean).
    """
    averaged = {metric.key: metric for metric in LESIONS if metric.summarised}
    found = []
    for structure, method, against in pairs:
        own = rows[(rows.method == method) & (rows.against == against)]
        if structure != LESION or not len(own):
            continue
        who = {"method": method, "against": against}
        strata = [("all", "all", own)] + [("load", name, own[own.load_stratum == name]) for name in load_names()]
        for group, name, some in strata:
            if len(some):
                row = {**who, "group": group, "name": name, **_pooled(some[list(COUNTS)].sum(), len(some))}
                for key, metric in averaged.items():
                    numbers = _described(some[key], settings, some.subject, metric)
                    row |= {f"n_{key}": int(np.isfinite(some[key]).sum())}
                    row |= {f"{key}_{one}": numbers[one] for one in _STATISTICS}
                found.append(row)
        for name, part in size_strata():
            counts = {key: own[f"{key}_{part}"].sum() for key in BY_SIZE}
            counts |= {"tp_method": counts["n_method"] - counts["fp"], "fn": counts["n_against"] - counts["tp_against"]}
            found.append({**who, "group": "size", "name": name, **_pooled(counts, len(own)), "f1_pooled": np.nan})
    means = [column for key in averaged for column in (f"n_{key}", *(f"{key}_{one}" for one in _STATISTICS))]
    pooled = ["sensitivity_pooled", "precision_pooled", "f1_pooled", "fp_per_scan"]
    columns = ["method", "against", "group", "name", "n_scans", *COUNTS, *pooled, *means]
    # Counts stay whole numbers where a stratum has none.
    whole = ["n_scans", *COUNTS, *(f"n_{key}" for key in averaged)]
    return pd.DataFrame(found, columns=columns).astype(dict.fromkeys(whole, "Int64"))


def _pooled(counts: Mapping[Any, float], scans: int) -> dict[str, float]:
    """Counts, and detection of all lesions together."""
    sensitivity = ratio(counts["tp_against"], counts["n_against"])
    precision = ratio(counts["tp_method"], counts["n_method"])
    return {
        **counts,
        "n_scans": scans,
        "sensitivity_pooled": sensitivity,
        "precision_pooled": precision,
        "f1_pooled": f1(sensitivity, precision),
        "fp_per_scan": counts["fp"] / scans,
    }


def load_names() -> list[str]:
    """Names of the strata of load, from none on."""
    low, high = LOAD_LIMITS_ML
    return [load_stratum(ml) for ml in (0, low / 2, low, 2 * high)]


# --- tests ---------------------------------------------------------------------------------


def tests_between(
    rows: pd.DataFrame,
    lesion_rows: pd.DataFrame,
    sizes: pd.DataFrame,
    methods: Sequence[str],
    reference: str | None,
    settings: Settings,
) -> pd.DataFrame:
    """Tests between each two methods that have a structure in common.

    Over subjects, whose value is the mean of all their slices, failures included; of distances the median, with those
    of failures as infinite. Tissues also over slices as in the 2021 study: unpaired, without the method's failures.
    Lesions: over subjects alone, none where fewer than ``LEAST_SUBJECTS`` subjects have both; scans in which both masks
    are empty count as 1, for finding nothing is right there. Without a reference, areas and loads are tested.

    Parameters
    ----------
    rows, lesion_rows : DataFrame
        As of :class:`Comparison`.
    sizes : DataFrame
        The long table's rows of one mask alone.
    methods : sequence of str
    reference : str or None
    settings : Settings
        The primary measure, and the confidence of intervals.

    Returns
    -------
    DataFrame
        structure, metric, unit, first, second, test (``wilcoxon``: paired, or ``mann-whitney``: unpaired), over
        (subject or slice), n_first, n_second, difference, difference_low, difference_high (Hodges-Lehmann estimate of
        first minus second over subjects, and its interval), statistic, rank_biserial (positive where `first` has the
        larger values), better (the method that has the better values), p, role (primary or exploratory), p_holm (of
        the primary measure: over its tests of tissues or of lesions, of one kind).
    """
    columns = ["structure", "metric", "unit", "first", "second", "test", "over", "n_first", "n_second", "difference"]
    columns += ["difference_low", "difference_high", "statistic", "rank_biserial", "better", "p", "role"]
    found = []
    for structure, metric, own in _tested(rows, lesion_rows, sizes, methods, reference, settings.primary):
        by_method = {method: some for method, some in own.groupby("method", sort=False)}
        primary = metric.key == primary_of(structure, settings.primary)
        role = {"role": "primary" if primary and reference else "exploratory"}
        for first, second in combinations([method for method in methods if method in by_method], 2):
            what = {"structure": structure, "metric": metric.key, "unit": metric.unit, "first": first, "second": second}
            for test in _tests(by_method[first], by_method[second], metric, structure == LESION, settings.confidence):
                side = test["rank_biserial"] * {"high": 1, "low": -1}.get(metric.better, 0)
                better = first if side > 0 else second if side < 0 else ""
                found.append({**what, **test, **role, "better": better})
    table = pd.DataFrame(found, columns=columns).assign(p_holm=np.nan)
    primary = table[table.role == "primary"]
    for _, family in primary.groupby([primary.structure == LESION, primary.test, primary.over]):
        table.loc[family.index, "p_holm"] = holm(family.p.to_numpy())
    return table


def _tested(rows, lesion_rows, sizes, methods, reference, primary) -> Iterator[tuple[str, Metric, pd.DataFrame]]:
    """What is tested: structure, metric, and the rows with their ``value``."""
    if reference is None:
        for structure, own in sizes[sizes.method.isin(list(methods))].groupby("structure", sort=False):
            yield str(structure), metric_named(str(structure), own.metric.iloc[0]), own.assign(outlier="")
        return
    empty = np.where(lesion_rows["empty"] == "both", 1.0, np.nan)
    for some in (rows[rows.level == "slice"], lesion_rows.assign(outlier="")):
        for structure, own in some.groupby("structure", sort=False):
            for metric in metrics_of(str(structure)):
                if metric.tested or metric.key == primary_of(str(structure), primary):
                    value = own[metric.key]
                    if structure == LESION and metric.bounds == (0.0, 1.0):
                        value = value.fillna(pd.Series(empty, lesion_rows.index))
                    yield str(structure), metric, own.assign(value=value)


def _tests(a: pd.DataFrame, b: pd.DataFrame, metric: Metric, lesions: bool, confidence: float) -> list[dict[str, Any]]:
    """Tests of two methods, of their values by subject and slice."""
    centre = "median" if metric.is_distance else "mean"
    means = pd.concat([some.groupby("subject", sort=False).value.agg(centre) for some in (a, b)], axis=1).dropna()
    over_subjects = {"test": "wilcoxon", "over": "subject"}
    if lesions and len(means) < LEAST_SUBJECTS:
        return []
    pair = means.iloc[:, 0], means.iloc[:, 1]
    shift = hodges_lehmann(*pair, confidence)
    over_subjects |= {"difference": shift.value, "difference_low": shift.low, "difference_high": shift.high}
    over_subjects |= asdict(wilcoxon_signed_rank(*pair))
    if lesions:
        return [over_subjects]
    kept = (some.value[some.outlier == ""] for some in (a, b))
    return [over_subjects, {"test": "mann-whitney", "over": "slice", **asdict(mann_whitney(*kept))}]


# --- areas and loads -----------------------------------------------------------------------


def size_pairs(comparison_rows: pd.DataFrame, structure: str, method: str, against: str) -> pd.DataFrame:
    """Areas (mm2, a slice) or loads (mL, a scan) of a pair of masks; that of a mask without the structure is 0.

    Parameters
    ----------
    comparison_rows : DataFrame
        :attr:`Comparison.rows`, of which slices are taken, or :attr:`Comparison.lesion_rows`.
    structure, method, against : str

    Returns
    -------
    DataFrame
        case, subject, index, first (the method's), second.
    """
    rows, (first, second) = comparison_rows, _SIZES[structure == LESION]
    own = rows[(rows.structure == structure) & (rows.method == method) & (rows.against == against)]
    own = own[own.level == ("scan" if structure == LESION else "slice")]
    own = own.rename(columns={first: "first", second: "second"})
    return own[["case", "subject", "index", "first", "second"]]


def size_agreement(
    rows: pd.DataFrame,
    lesion_rows: pd.DataFrame,
    sizes: pd.DataFrame,
    pairs: Sequence[tuple[str, str, str]],
    cases: Sequence[Case],
    grids: Mapping[str, Grid],
    confidence: float,
) -> pd.DataFrame:
    """Bland-Altman and ICC of areas and loads, and their repeatability where a session was scanned twice.

    Areas are of slices in which either mask has the structure: one that misses it has an area of 0.

    Parameters
    ----------
    rows, lesion_rows : DataFrame
        As of :class:`Comparison`.
    sizes : DataFrame
        The long table's rows of one mask alone.
    pairs : sequence of (structure, method, against)
    cases : sequence of Case
    grids : dict of str to Grid
        Of the tissues' masks, by case.
    confidence : float
        Of the ICC's interval.

    Returns
    -------
    DataFrame
        structure, method, against (of repeatability ``second run``), measure, unit, n, subjects, value. The measures
        are the fields of :class:`~sctseg7t.measure.statistics.BlandAltman`, for repeated measures of subjects, and
        ``icc_a1``, ``icc_a1_low``, ``icc_a1_high`` of the subjects' means, beginning with ``csa_`` (of areas, but for
        the ICC) or ``load_``; and those of scan and rescan.
    """
    found: list[dict[str, Any]] = []
    for lesions in (False, True):
        for structure, method, against in pairs:
            if (structure == LESION) == lesions:
                both = size_pairs(lesion_rows if lesions else rows, structure, method, against)
                who = {"structure": structure, "method": method, "against": against}
                counts = {"n": len(both), "subjects": both.subject.nunique()}
                for measure, unit, value in _agreement(both, lesions, confidence):
                    found.append({**who, "measure": measure, "unit": unit, **counts, "value": value})
        found += _repeatability(sizes[(sizes.structure == LESION) == lesions], cases, grids, lesions)
    columns = ["structure", "method", "against", "measure", "unit", "n", "subjects", "value"]
    return pd.DataFrame(found, columns=columns)


def _agreement(both, lesions, confidence):
    prefix, unit = ("load_", "mL") if lesions else ("csa_", "mm2")
    values = both[["first", "second"]].astype(float)
    for name, value in asdict(bland_altman(values["first"], values["second"], both.subject.to_numpy())).items():
        if name not in ("n", "n_subjects"):
            units = "%" if name.endswith("_percent") else "" if name in ("slope", "slope_p") else unit
            yield f"{prefix}{name}", units, value
    correlation = icc(values.groupby(both.subject, sort=False).mean().to_numpy(), confidence)
    prefix = "load_" if lesions else ""
    for name in ("value", "low", "high"):
        yield f"{prefix}icc_a1" + (f"_{name}" if name != "value" else ""), "", getattr(correlation, name)


def _repeatability(sizes, cases, grids, lesions):
    """Of every method with two runs of a session; of more than two runs the first two are used.

    Areas are compared in the slices at one height in which both runs have the structure.
    """
    sessions = defaultdict(list)
    for case in cases:
        if case.session_key is not None and (lesions or case.name in grids):
            sessions[case.session_key].append(case)
    pairs, lost, people = defaultdict(list), Counter(), {case.name: case.subject or case.name for case in cases}
    subjects = defaultdict(set)
    for runs in sessions.values():
        runs = sorted(runs, key=lambda case: case.run)
        for (structure, method), own in sizes.groupby(["structure", "method"], sort=False):
            having = set(own.case)
            two = [case.name for case in runs if case.name in having][:2]
            if len(two) == 2:
                both, alone = _at_one_height(own, two, None if lesions else [grids[name] for name in two])
                lost[structure, method] += alone
                if len(both):
                    pairs[structure, method].append(both)
                    subjects[structure, method].add(people[two[0]])
    order = sorted(pairs, key=lambda key: (list(STRUCTURES).index(key[0]), key if not lesions else ()))
    for structure, method in order:
        every = np.concatenate(pairs[structure, method])
        if lesions:
            # Sessions in which neither run has lesions are not in the coefficient of variation.
            some = every[every.mean(1) > 0]
            apart = float(np.abs(np.diff(every, axis=1)).mean())
            numbers = [("load_scan_rescan_cov", "%", len(some), scan_rescan_cov(*some.T))]
            numbers.append(("load_scan_rescan_absolute_difference", "mL", len(every), apart))
        else:
            means = np.array([pair.mean(0) for pair in pairs[structure, method]])
            parts = ("slice", every), ("scan", means)
            numbers = [(f"csa_scan_rescan_cov_{part}", "%", len(x), scan_rescan_cov(*x.T)) for part, x in parts]
            numbers.append(("csa_scan_rescan_in_one_run", "", len(every), lost[structure, method]))
        for measure, unit, n, value in numbers:
            row = {"structure": structure, "method": method, "against": "second run", "measure": measure}
            yield {**row, "unit": unit, "n": n, "subjects": len(subjects[structure, method]), "value": value}


def _at_one_height(own, two, grids):
    """Sizes (N, 2) of two runs, of the slices at one height or of the scans; and how many one run alone has."""
    runs = [own[own.case == name].set_index("index").value for name in two]
    if grids is not None:
        runs = [run.reindex(places) for run, places in zip(runs, match_slices(*grids).T)]
    both = np.stack([run.to_numpy(float) for run in runs], 1)
    known = np.isfinite(both)
    return both[known.all(1)], int((known.sum(1) == 1).sum())


def match_slices(first: Grid, second: Grid) -> np.ndarray:
    """Slices of two scans that lie at one height, to half a slice.

    Heights are those of the slices' centres in scanner coordinates, along the normal of the first scan's slices.

    Returns
    -------
    (N, 2) int array
        Indices of the slices.
    """
    affine = np.asarray(first.affine, float)
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    heights = []
    for grid in (first, second):
        x, y, count = grid.shape
        middle = np.array([[(x - 1) / 2, (y - 1) / 2, k, 1] for k in range(count)])
        heights.append((middle @ np.asarray(grid.affine, float).T)[:, :3] @ normal)
    apart = np.abs(heights[0][:, None] - heights[1])
    nearest = apart.argmin(1)
    step = abs(float(affine[:3, 2] @ normal))
    return np.array([(k, n) for k, n in enumerate(nearest) if apart[k, n] < step / 2], int).reshape(-1, 2)
