"""The study's numbers from the long table: summaries, tests between methods, agreement and repeatability of sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sctseg7t.compare.metrics import BY_SIZE, COUNTS, ITEMS, LESIONS, TISSUE, metrics_of, size_strata
from sctseg7t.compare.types import KEYS, LESION, STRUCTURES, Case, Settings
from sctseg7t.image.grid import Grid
from sctseg7t.measure.lesion_agreement import LOAD_LIMITS_ML, f1, load_stratum
from sctseg7t.measure.pairs import ratio
from sctseg7t.measure.reliability import icc
from sctseg7t.measure.significance import holm, mann_whitney, wilcoxon_signed_rank
from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov, summary

# Of fewer subjects no two-sided p of the signed-rank test can be below 0.05.
LEAST_SUBJECTS = 6
_LEVELS = ("slice", "level", "scan")
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


def summarise(rows: pd.DataFrame, pairs: Sequence[tuple[str, str, str]], settings: Settings) -> pd.DataFrame:
    """Summary of tissues: a row for every structure, method, level and metric.

    Outliers are counted and left out. The interval is that of the (trimmed) mean.

    Parameters
    ----------
    rows : DataFrame
        As of :attr:`Comparison.rows`.
    pairs : sequence of (structure, method, against)
        In the order of the table.
    settings : Settings

    Returns
    -------
    DataFrame
        structure, method, against, level, metric, unit, n, outliers, mean, median, sd, trimmed_mean, low, high.
    """
    places = {pair: place for place, pair in enumerate(pairs)}
    found: list[dict[str, Any]] = []
    for key, own in rows.groupby(["structure", "level", "method", "against"], sort=False):
        structure, level, method, against = map(str, key)
        kept = own[own.outlier == ""]
        who = {"structure": structure, "method": method, "against": against, "level": level}
        counts = {"n": len(own), "outliers": len(own) - len(kept)}
        for metric in TISSUE:
            if metric.summarised:
                numbers = _described(kept[metric.key], settings.trim, settings.confidence)
                found.append({**who, "metric": metric.key, "unit": metric.unit_at(level), **counts, **numbers})

    def order(row):
        pair = row["structure"], row["method"], row["against"]
        return list(STRUCTURES).index(row["structure"]), _LEVELS.index(row["level"]), places[pair]

    columns = ["structure", "method", "against", "level", "metric", "unit", "n", "outliers"]
    columns += ["mean", "median", "sd", "trimmed_mean", "low", "high"]
    return pd.DataFrame(sorted(found, key=order), columns=columns)


def _described(values: pd.Series, trim: float, confidence: float) -> dict[str, float]:
    found = asdict(summary(values, trim, confidence))
    del found["n"]
    return found


def summarise_lesions(rows: pd.DataFrame, pairs: Sequence[tuple[str, str, str]], confidence: float) -> pd.DataFrame:
    """Summary of lesions: a row for all scans of each method, each stratum of load that has any, and each of size.

    Parameters
    ----------
    rows : DataFrame
        As of :attr:`Comparison.lesion_rows`.
    pairs : sequence of (structure, method, against)
    confidence : float

    Returns
    -------
    DataFrame
        method, against, group (all, load or size), name (of the stratum), n_scans; the counts of ``COUNTS``;
        ``..._pooled`` of all lesions together and ``fp_per_scan``; of each averaged metric ``n_...`` (scans in which it
        is defined), ``..._mean``, ``..._median``, ``..._sd``, ``..._low`` and ``..._high`` (interval of the mean).
    """
    averaged = [metric.key for metric in LESIONS if metric.summarised]
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
                for key in averaged:
                    numbers = _described(some[key], 0.0, confidence)
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
    rows: pd.DataFrame, lesion_rows: pd.DataFrame, sizes: pd.DataFrame, methods: Sequence[str], reference: str | None
) -> pd.DataFrame:
    """Tests between each two methods that have a structure in common.

    Tissues: over slices that are outliers of neither method (of the method itself, for the unpaired Mann-Whitney test)
    and over subjects (the mean of each one's slices). Lesions: over subjects alone, none where fewer than
    ``LEAST_SUBJECTS`` subjects have both. Without a reference, areas and loads are tested.

    Parameters
    ----------
    rows, lesion_rows : DataFrame
        As of :class:`Comparison`.
    sizes : DataFrame
        The long table's rows of one mask alone.
    methods : sequence of str
    reference : str or None

    Returns
    -------
    DataFrame
        structure, metric, first, second, test (``mann-whitney``: unpaired, as in the 2021 study, or ``wilcoxon``:
        paired), unit (slice or subject), n_first, n_second, statistic, rank_biserial (positive where `first` has the
        larger values), p, p_holm (over all tests of tissues or lesions of the same kind and unit).
    """
    tested: dict[tuple[str, str], pd.DataFrame] = {}
    if reference is None:
        for structure, own in sizes[sizes.method.isin(list(methods))].groupby("structure", sort=False):
            tested[str(structure), own.metric.iloc[0]] = own
    else:
        for kept in (rows[(rows.level == "slice") & (rows.outlier == "")], lesion_rows):
            for structure, own in kept.groupby("structure", sort=False):
                for metric in metrics_of(str(structure)):
                    if metric.tested:
                        tested[str(structure), metric.key] = own.assign(value=own[metric.key])
    found = []
    for (structure, metric), own in tested.items():
        columns = ["case", "index", "subject", "value"]
        by_method = {method: some[columns] for method, some in own.groupby("method", sort=False)}
        for first, second in combinations([method for method in methods if method in by_method], 2):
            for test in _tests(by_method[first], by_method[second], structure == LESION):
                found.append({"structure": structure, "metric": metric, "first": first, "second": second, **test})
    columns = ["structure", "metric", "first", "second", "test", "unit", "n_first", "n_second", "statistic"]
    table = pd.DataFrame(found, columns=[*columns, "rank_biserial", "p"]).assign(p_holm=np.nan)
    for _, family in table.groupby([table.structure == LESION, table.test, table.unit]):
        table.loc[family.index, "p_holm"] = holm(family.p.to_numpy())
    return table


def _tests(a: pd.DataFrame, b: pd.DataFrame, lesions: bool) -> list[dict[str, Any]]:
    """Tests of two methods, whose values stand by case and slice."""
    # A missing index, that of a whole scan, is equal to another one.
    both = a.merge(b[["case", "index", "value"]], on=["case", "index"], suffixes=("", "_other"))
    if lesions:
        both = both[np.isfinite(both.value) & np.isfinite(both.value_other)]
    values = both[["value", "value_other"]]
    means = values.where(np.isfinite(values)).groupby(both.subject, sort=False).mean()
    over_subjects = {"test": "wilcoxon", "unit": "subject"}
    if lesions and len(means) < LEAST_SUBJECTS:
        return []
    over_subjects |= asdict(wilcoxon_signed_rank(means.value, means.value_other))
    if lesions:
        return [over_subjects]
    return [
        {"test": "mann-whitney", "unit": "slice", **asdict(mann_whitney(a.value, b.value))},
        {"test": "wilcoxon", "unit": "slice", **asdict(wilcoxon_signed_rank(both.value, both.value_other))},
        over_subjects,
    ]


# --- areas and loads -----------------------------------------------------------------------


def size_pairs(sizes: pd.DataFrame, structure: str, method: str, against: str) -> pd.DataFrame:
    """Areas (mm2, a slice) or loads (mL, a scan) that two masks both have.

    Parameters
    ----------
    sizes : DataFrame
        The long table's rows of one mask alone.
    structure, method, against : str

    Returns
    -------
    DataFrame
        case, index, first (the method's), second.
    """
    own = sizes[sizes.structure == structure]
    columns = {name: own[own.method == who][["case", "index", "value"]] for name, who in zip("ab", (method, against))}
    both = columns["a"].merge(columns["b"], on=["case", "index"], suffixes=("_a", "_b"))
    return both.rename(columns={"value_a": "first", "value_b": "second"})


def size_agreement(
    sizes: pd.DataFrame,
    pairs: Sequence[tuple[str, str, str]],
    cases: Sequence[Case],
    grids: Mapping[str, Grid],
    confidence: float,
) -> pd.DataFrame:
    """Bland-Altman and ICC of areas and loads, and their repeatability where a session was scanned twice.

    Areas are of slices in which both masks have the structure; loads of scans, with those without lesions.

    Parameters
    ----------
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
        structure, method, against (of repeatability ``second run``), measure, unit, n, value. The measures are the
        fields of :class:`~sctseg7t.measure.statistics.BlandAltman` and ``icc_a1``, ``icc_a1_low``, ``icc_a1_high``,
        beginning with ``csa_`` (of areas, but for the ICC) or ``load_``; and those of scan and rescan.
    """
    found: list[dict[str, Any]] = []
    for lesions in (False, True):
        for structure, method, against in pairs:
            if (structure == LESION) == lesions:
                both = size_pairs(sizes, structure, method, against)[["first", "second"]].to_numpy()
                for measure, unit, value in _agreement(both, lesions, confidence):
                    row = {"structure": structure, "method": method, "against": against, "measure": measure}
                    found.append({**row, "unit": unit, "n": len(both), "value": value})
        found += _repeatability(sizes[(sizes.structure == LESION) == lesions], cases, grids, lesions)
    return pd.DataFrame(found, columns=["structure", "method", "against", "measure", "unit", "n", "value"])


def _agreement(both, lesions, confidence):
    prefix, unit = ("load_", "mL") if lesions else ("csa_", "mm2")
    for name, value in asdict(bland_altman(*both.T)).items():
        if name != "n":
            units = "%" if name.endswith("_percent") else "" if name in ("slope", "slope_p") else unit
            yield f"{prefix}{name}", units, value
    correlation = icc(both, confidence)
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
    pairs = defaultdict(list)
    for runs in sessions.values():
        runs = sorted(runs, key=lambda case: case.run)
        for (structure, method), own in sizes.groupby(["structure", "method"], sort=False):
            having = set(own.case)
            two = [case.name for case in runs if case.name in having][:2]
            if len(two) == 2:
                both = _at_one_height(own, two, None if lesions else [grids[name] for name in two])
                if len(both):
                    pairs[structure, method].append(both)
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
        for measure, unit, n, value in numbers:
            row = {"structure": structure, "method": method, "against": "second run", "measure": measure}
            yield {**row, "unit": unit, "n": n, "value": value}


def _at_one_height(own, two, grids):
    """Sizes (N, 2) of two runs: of the slices at one height, or of the scans."""
    runs = [own[own.case == name].set_index("index").value for name in two]
    if grids is not None:
        runs = [run.reindex(places) for run, places in zip(runs, match_slices(*grids).T)]
    both = np.stack([run.to_numpy(float) for run in runs], 1)
    return both[np.isfinite(both).all(1)]


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
