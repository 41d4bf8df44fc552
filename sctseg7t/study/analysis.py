"""What the numbers of a study say: methods side by side, their differences against chance, the learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sctseg7t.compare.types import LESION, STRUCTURES, Comparison
from sctseg7t.measure.significance import holm
from sctseg7t.study.collect import Collected, comparison, rows_of
from sctseg7t.study.config import Study

SINGLE, MULTI = "single-class", "multi-class"


@dataclass(frozen=True, eq=False)
class Findings:
    """The tables of a study's page.

    Attributes
    ----------
    methods : DataFrame
        A row a set, structure and method: ``trainings``, ``units`` (slices, or scans of lesions), ``people``,
        ``outliers`` (Dice up to 0.7, or the structure missing), ``mean``, ``median``, ``sd`` of the Dice without
        outliers, ``mean_kept`` with them (a missing structure is 0), ``seed_sd`` (:func:`spread`), ``area``
        (area, or load, over that of the reference, all together).
    tests : DataFrame
        Of each two methods, see :func:`sctseg7t.compare.analysis.tests_between`, with ``set`` and ``p_corrected``
        (Holm, over the tests of one kind, set and structure).
    curve : DataFrame
        A row a set, structure, method and number of patients: ``mean_kept``, ``seed_sd``, ``trainings``.
    empty : DataFrame
        A row a set and structure: slices that a single-class network left empty and the multi-class one of the same
        split and seed did not (``empty``), and of these those in which that one's Dice is above 0.7 (``usable``).
    comparisons : dict of str to Comparison
        By set.
    """

    methods: pd.DataFrame
    tests: pd.DataFrame
    curve: pd.DataFrame
    empty: pd.DataFrame
    comparisons: dict[str, Comparison]


def analyse(collected: Collected, study: Study) -> Findings:
    """Put the numbers of a study side by side."""
    comparisons = {of: comparison(collected, of, study) for of in collected.sets}
    methods, tests, empty = [], [], []
    for of, compared in comparisons.items():
        for structure in _structures(compared):
            rows = rows_of(compared, structure)
            methods += [
                {"set": of, "structure": structure, "method": name, **_described(rows[rows.method == name])}
                for name in compared.methods
                if (rows.method == name).any()
            ]
            empty += _left_empty(of, structure, rows)
        tests.append(_tests(of, compared))
    curve = []
    for patients in collected.patients():
        for of in collected.sets:
            compared = comparison(collected, of, study, patients)
            for structure in _structures(compared):
                rows = rows_of(compared, structure)
                curve += [
                    {"set": of, "structure": structure, "method": name, "patients": patients}
                    | _described(rows[rows.method == name])
                    for name in compared.methods
                    if (rows.method == name).any()
                ]
    return Findings(
        pd.DataFrame(methods),
        pd.concat(tests, ignore_index=True) if tests else pd.DataFrame(),
        pd.DataFrame(curve),
        pd.DataFrame(empty),
        comparisons,
    )


def spread(rows: pd.DataFrame) -> float:
    """SD over seeds of the mean Dice of one training, pooled over splits; nan where no split has two seeds."""
    means = rows.groupby(["split", "seed"]).dice.mean()
    variances = means.groupby("split").var(ddof=1).dropna()
    return float(np.sqrt(variances.mean())) if len(variances) else float("nan")


def difference(findings: Findings, of: str, structure: str, first: str, second: str) -> dict[str, Any]:
    """By how much the mean Dice (failures as 0) of a method is above another's, and whether chance can make that.

    Both are averaged by person, then over people: a person with many slices counts as one.

    Returns
    -------
    dict
        ``difference``, ``spread`` (SD over seeds of one training, of both methods pooled; nan where no seed was
        repeated), ``within`` (it is not larger than that, or that is not known), ``p`` (Wilcoxon by person, corrected)
        and ``people``.
    """
    rows = rows_of(findings.comparisons[of], structure)
    own = [rows[rows.method == name] for name in (first, second)]
    means = [some.groupby("subject").dice.mean() for some in own]
    both = pd.concat(means, axis=1, keys=["a", "b"]).dropna()
    apart = float((both.a - both.b).mean())
    chance = (
        float(np.sqrt(np.nanmean([spread(some) ** 2 for some in own])))
        if any(np.isfinite(spread(some)) for some in own)
        else float("nan")
    )
    tests = findings.tests
    found = tests[
        (tests["set"] == of)
        & (tests.structure == structure)
        & (tests.test == "wilcoxon")
        & (tests.metric == "dice")
        & (
            ((tests["first"] == first) & (tests.second == second))
            | ((tests["first"] == second) & (tests.second == first))
        )
    ]
    return {
        "difference": apart,
        "spread": chance,
        "within": not abs(apart) > chance,
        "p": float(found.p_corrected.iloc[0]) if len(found) else float("nan"),
        "people": len(both),
    }


def pairs_of_methods(methods: Sequence[str], baselines: Sequence[str]) -> list[tuple[str, str]]:
    """Each method with the baseline whose name is most like its own, baselines with the first of them.

    Where none of the baselines is there, every two methods.
    """
    known = [name for name in baselines if name in methods]
    if not known:
        return list(combinations(methods, 2))
    pairs = []
    for name in methods:
        others = known[:1] if name in known else known
        if others != [name]:
            pairs.append((name, max(others, key=lambda other: _alike(name, other))))
    return pairs


def _alike(name: str, other: str) -> int:
    """How many of the parts of two names are the same."""
    return sum(a == b for a, b in zip(name.split(", "), other.split(", "))) + (
        name.split(", ")[-1] == other.split(", ")[-1]
    )


def _structures(compared: Comparison) -> list[str]:
    found = {structure for structure, _, _ in compared.pairs}
    return [name for name in STRUCTURES if name in found]


def _described(rows: pd.DataFrame) -> dict[str, Any]:
    kept = rows[rows.outlier == ""].dice
    return {
        "trainings": rows.groupby(["split", "seed"]).ngroups,
        "units": len(rows),
        "people": rows.subject.nunique(),
        "outliers": int((rows.outlier != "").sum()),
        "mean": float(kept.mean()),
        "median": float(kept.median()),
        "sd": float(kept.std(ddof=1)),
        "mean_kept": float(rows.dice.mean()),
        "seed_sd": spread(rows),
        "area": float(rows.size_method.sum() / rows.size_against.sum()) if rows.size_against.sum() else float("nan"),
    }


def _tests(of: str, compared: Comparison) -> pd.DataFrame:
    found = compared.tests[compared.tests.metric == "dice"].assign(set=of, p_corrected=np.nan)
    for _, family in found.groupby(["structure", "test"]):
        found.loc[family.index, "p_corrected"] = holm(family.p.to_numpy())
    return found


def _left_empty(of: str, structure: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Slices that single-class networks left empty and multi-class ones of the same training set did not."""
    if structure == LESION:
        return []
    found = []
    for name in rows.method.unique():
        if not str(name).endswith(MULTI):
            continue
        other = f"{str(name).removesuffix(MULTI)}{SINGLE}"
        keys = ["case", "index"]
        pairs = rows[rows.method == name].merge(rows[rows.method == other], on=keys, suffixes=("_multi", "_single"))
        if not len(pairs):
            continue
        empty = (pairs.outlier_single == "missing") & (pairs.outlier_multi != "missing")
        back = (pairs.outlier_multi == "missing") & (pairs.outlier_single != "missing")
        found.append(
            {
                "set": of,
                "structure": structure,
                "method": str(name).removesuffix(f", {MULTI}"),
                "slices": len(pairs),
                "empty": int(empty.sum()),
                "usable": int((empty & (pairs.outlier_multi == "")).sum()),
                "other_way": int(back.sum()),
            }
        )
    return found
