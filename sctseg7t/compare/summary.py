"""The study's numbers from the rows: summaries, tests between methods, agreement of areas."""

from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np

from sctseg7t.compare.names import STRUCTURES
from sctseg7t.compare.records import AreaAgreement, SummaryRow, TestRow
from sctseg7t.compare.rows import pairs_of
from sctseg7t.measure.reliability import icc
from sctseg7t.measure.significance import holm, mann_whitney, wilcoxon_signed_rank
from sctseg7t.measure.statistics import bland_altman, subject_means, summary

# Unit of each metric; sizes are mm2 in slices and mm3 in 3D.
METRICS = {
    "dice": "",
    "jaccard": "",
    "sensitivity": "",
    "precision": "",
    "volumetric_similarity": "",
    "hausdorff_mm": "mm",
    "hausdorff95_mm": "mm",
    "assd_mm": "mm",
    "average_hausdorff_max_mm": "mm",
    "average_hausdorff_mean_mm": "mm",
    "normalised_surface_dice": "",
    "size_difference": "mm2",
    "size_difference_percent": "%",
    "HDRFDST": "voxel",
    "AVGDIST_max": "voxel",
    "AVGDIST_mean": "voxel",
    "VOLSMTY": "",
}
TESTED = ("dice", "hausdorff_mm", "average_hausdorff_max_mm", "volumetric_similarity", "size_difference")
# What two methods can be tested on where nothing is the reference.
AREA = "area_mm2"
_WHERE = ("slice", "level", "scan")


def value(row, metric):
    """A metric of a row, in the unit of ``METRICS``."""
    return row.voxels[metric] if metric in row.voxels else getattr(row.agreement, metric)


def summarise(rows, settings):
    """A :class:`SummaryRow` for every structure, method, kind of row and metric.

    Outliers are counted and left out. The interval is that of the (trimmed) mean.

    Parameters
    ----------
    rows : sequence of Row
    settings : Settings

    Returns
    -------
    tuple of SummaryRow
    """
    groups = defaultdict(list)
    for row in rows:
        groups[row.structure, row.method, row.against, row.where].append(row)
    order = {key: place for place, key in enumerate(groups)}
    found = []
    for key in sorted(groups, key=lambda k: (STRUCTURES.index(k[0]), _WHERE.index(k[3]), order[k])):
        structure, method, against, where = key
        kept = [row for row in groups[key] if not row.outlier]
        for metric, unit in METRICS.items():
            numbers = summary([value(row, metric) for row in kept], settings.trim, settings.confidence)
            found.append(
                SummaryRow(
                    structure,
                    method,
                    against,
                    where,
                    metric,
                    "mm3" if unit == "mm2" and where != "slice" else unit,
                    len(groups[key]),
                    len(groups[key]) - len(kept),
                    numbers.mean,
                    numbers.median,
                    numbers.sd,
                    numbers.trimmed_mean,
                    numbers.mean_low,
                    numbers.mean_high,
                )
            )
    return tuple(found)


def tests_between(rows, areas_mm2, cases, methods, reference):
    """Tests between each two methods that have a structure in common.

    With a reference, on slices that are outliers of neither method (of the method itself, for the unpaired
    Mann-Whitney test); without one, on the areas of slices that both methods have.

    Parameters
    ----------
    rows : sequence of Row
    areas_mm2 : dict of (case, method, structure) to (Z,) array
    cases : sequence of Case
    methods : sequence of str
    reference : str or None

    Returns
    -------
    tuple of TestRow
    """
    subjects = {case.name: case.subject or case.name for case in cases}
    tables = _areas_by_place(areas_mm2, methods) if reference is None else _values_by_place(rows)
    found = []
    for structure, metric in tables:
        known = tables[structure, metric]
        for first, second in combinations([method for method in methods if method in known], 2):
            found += _tests(structure, metric, first, second, known[first], known[second], subjects)
    return _corrected(found)


def _values_by_place(rows):
    """(structure, metric) → method → (case, slice) → value, of slices that are no outliers."""
    tables = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.where == "slice" and not row.outlier:
            for metric in TESTED:
                tables[row.structure, metric][row.method][row.case, row.index] = value(row, metric)
    return tables


def _areas_by_place(areas_mm2, methods):
    tables = defaultdict(lambda: defaultdict(dict))
    for (case, method, structure), areas in areas_mm2.items():
        if method in methods:
            for k in np.flatnonzero(np.isfinite(areas)):
                tables[structure, AREA][method][case, int(k)] = float(areas[k])
    return tables


def _tests(structure, metric, first, second, a, b, subjects):
    places = [place for place in a if place in b]
    paired = np.array([(a[place], b[place]) for place in places]).reshape(-1, 2)
    owners = [subjects[case] for case, _ in places]
    means = [list(subject_means(column, owners).values()) for column in paired.T]
    unpaired = mann_whitney(list(a.values()), list(b.values()))
    found = [
        TestRow(
            structure,
            metric,
            first,
            second,
            "mann-whitney",
            "slice",
            (unpaired.n_a, unpaired.n_b),
            unpaired.u,
            unpaired.effect,
            unpaired.p,
            float("nan"),
        )
    ]
    for unit, columns in (("slice", paired.T), ("subject", means)):
        test = wilcoxon_signed_rank(*columns)
        statistic = min(test.rank_plus, test.rank_minus)
        found.append(
            TestRow(
                structure,
                metric,
                first,
                second,
                "wilcoxon",
                unit,
                (test.n, test.n),
                statistic,
                test.effect,
                test.p,
                float("nan"),
            )
        )
    return found


def _corrected(tests):
    """The tests with Holm's p over all of one kind and unit."""
    families = defaultdict(list)
    for place, test in enumerate(tests):
        families[test.test, test.unit].append(place)
    p_holm = np.full(len(tests), np.nan)
    for places in families.values():
        p_holm[places] = holm([tests[place].p for place in places])
    return tuple(replace(test, p_holm=float(p)) for test, p in zip(tests, p_holm))


def area_agreement(areas_mm2, cases, methods, reference, confidence):
    """Bland-Altman and ICC of the CSA of slices in which both masks have the structure.

    Parameters
    ----------
    areas_mm2 : dict of (case, method, structure) to (Z,) array
    cases : sequence of Case
    methods, reference
        As for :func:`~sctseg7t.compare.rows.pairs_of`.
    confidence : float

    Returns
    -------
    tuple of AreaAgreement
    """
    pairs, owners = defaultdict(list), defaultdict(list)
    for case in cases:
        there = {key for key in case.masks if (case.name, *key) in areas_mm2}
        for key in pairs_of(there, methods, reference):
            structure, method, against = key
            both = np.stack([areas_mm2[case.name, who, structure] for who in (method, against)], 1)
            both = both[np.isfinite(both).all(1)]
            pairs[key].append(both)
            owners[key] += [case.name] * len(both)
    found = []
    for key in sorted(pairs, key=lambda k: STRUCTURES.index(k[0])):
        both = np.concatenate(pairs[key])
        correlation = icc(both, "A1", confidence)
        found.append(
            AreaAgreement(
                *key,
                bland_altman(*both.T),
                correlation.value,
                correlation.low,
                correlation.high,
                both,
                tuple(owners[key]),
            )
        )
    return tuple(found)
