"""What a comparison says in sentences: which method is better, and what makes its numbers doubtful."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sctseg7t.compare.analysis import KEPT, LEAST_SUBJECTS, LEFT_OUT
from sctseg7t.compare.cells import count, listed, number
from sctseg7t.compare.metrics import Metric, metric_named, primary_of
from sctseg7t.compare.types import LESION, Comparison, Problem

if TYPE_CHECKING:
    import pandas as pd

# Left out, failures of more than this share of slices, or that change a mean Dice by more, are told.
_SHARE, _CHANGE = 0.05, 0.01


# --- what makes numbers doubtful -------------------------------------------------------------


def flattering(comparison: Comparison, lesions: bool = False) -> list[Problem]:
    """Problems that make a method look better than it is: masks that are the reference's to the voxel."""
    found = [problem for problem in comparison.problems if problem.kind == "identical"] if comparison.reference else []
    return [problem for problem in found if (problem.structure == LESION) is lesions]


def cautions(comparison: Comparison) -> list[str]:
    """Sentences to read before the tables of tissues."""
    doubts = [problem for problem in comparison.problems if problem.kind in ("subject", "corrected")]
    notes = [problem.message for problem in doubts if problem.structure != LESION]
    copies = [problem.message for problem in flattering(comparison)]
    if comparison.reference is None:
        return [*notes, *copies]
    return [*_failures_matter(comparison), *_other_scans(comparison), *_undrawn(comparison), *copies, *notes]


def lesion_cautions(comparison: Comparison) -> list[str]:
    """Sentences to read with the tables of lesions."""
    corrected = [p.message for p in comparison.problems if p.kind == "corrected" and p.structure == LESION]
    return [*(problem.message for problem in flattering(comparison, lesions=True)), *corrected]


def _failures_matter(comparison: Comparison) -> Iterator[str]:
    """Where the result would be another one without the failures, as the 2021 study leaves them out."""
    summary = comparison.summary
    dice = summary[(summary.level == "slice") & (summary.metric == "dice") & (summary.group == "")]
    for structure in comparison.structures:
        own = dice[dice.structure == structure].set_index("method")
        every, without = (own[own.failures == failures] for failures in (KEPT, LEFT_OUT))
        told = []
        for method, row in every.iterrows():
            rest = without["mean"].get(method, math.nan)
            if row.outliers > _SHARE * row.n or rest - row["mean"] > _CHANGE:
                part = f"{row.outliers} of {count(row.n, 'slice')}"
                told.append(
                    f"{method} fails in {part}: mean Dice {number(row['mean'], '.3f')}, and {number(rest, '.3f')} "
                    "without those"
                )
        if told:
            yield f"{structure}: {'; '.join(told)}. Cite the numbers over all slices."
        orders = [
            list(one["mean"].dropna().sort_values(ascending=False, kind="stable").index) for one in (every, without)
        ]
        orders[0] = [method for method in orders[0] if method in orders[1]]
        if orders[0] != orders[1]:
            yield (
                f"{structure}: leaving failures out changes the order of the methods by mean Dice, from "
                f"{', '.join(orders[0])} to {', '.join(orders[1])}. That rewards failing."
            )


def _other_scans(comparison: Comparison) -> Iterator[str]:
    """Methods that were not compared on the same scans."""
    for structure in comparison.structures:
        scans = {
            method: frozenset(own.case) for method, own in comparison.slices(structure).groupby("method", sort=False)
        }
        if len(set(scans.values())) > 1:
            told = listed(f"{method} on {len(cases)}" for method, cases in scans.items())
            yield f"{structure}: the methods were not compared on the same scans ({told}); see the problems above."


def _undrawn(comparison: Comparison) -> Iterator[str]:
    """Slices where every method finds what the reference has not: perhaps nobody drew it there."""
    for structure in comparison.structures:
        rows = comparison.slices(structure)
        extra = rows.assign(extra=rows.outlier == "extra").groupby(["case", "index"]).extra.agg(["all", "size"])
        methods = rows.method.nunique()
        n = int((extra["all"] & (extra["size"] == methods)).sum())
        if n:
            yield (
                f"{structure}: in {count(n, 'slice')} every method finds it and the reference is empty; they count as "
                "failures. If the reference was not drawn there, give -partial."
            )


# --- tests -----------------------------------------------------------------------------------


def best_of(comparison: Comparison, structure: str) -> tuple[str | None, str]:
    """The method that a test shows to be better than every other, and the sentence that says so.

    Cited is the paired test of the primary measure over subjects; where that is not to be had, none.
    """
    metric = metric_named(structure, primary_of(structure, comparison.settings.primary))
    summary = comparison.summary
    own = summary[(summary.structure == structure) & (summary.level == "slice") & (summary.group == "")]
    own = own[(own.metric == metric.key) & (own.failures == KEPT) & (own.against == comparison.reference)]
    centre = "median" if metric.is_distance else "mean"
    values = {row["method"]: row[centre] for row in own.to_dict("records") if not math.isnan(row[centre])}
    if comparison.reference is None or len(values) < 2:
        return None, ""
    every = comparison.tests[(comparison.tests.over == "subject") & (comparison.tests.role == "primary")]
    tests = every[(every.structure == structure) & (every.metric == metric.key)]
    if not len(tests):
        return None, f"{structure}: {metric.label} was not tested over subjects."
    subjects = int(tests.n_first.max())
    word = "lower" if metric.better == "low" else "higher"
    over = f"paired Wilcoxon test over {count(subjects, 'subject')}, all slices, corrected by Holm"
    won = _wins(comparison, tests)
    if not won:
        family = int(every[every.structure != LESION].p.notna().sum())
        # All signs alike is the rarest outcome; Holm multiplies the smallest p by the number of tests.
        least = min(1.0, 2 * 0.5**subjects * max(family, 1))
        told = f"{structure}: no difference in {metric.label} between methods is significant ({over}). "
        told += f"The {word} {centre} is no evidence by itself."
        if least >= 1 - comparison.settings.confidence:
            of = f"{count(subjects, 'subject')} and {count(family, 'test')}"
            told += f" With {of} no p can be below {least:.2g} after correction."
        return None, told
    sentences = []
    for method, beaten in won.items():
        shown = {name: number(values.get(name), f".{metric.digits}f") for name in (method, *beaten)}
        against = listed(f"{other} ({shown[other]}, p {_equals(p)})" for other, p in beaten.items())
        sentences.append(f"{method} ({shown[method]}) is {word} than {against}")
    best = next((method for method, beaten in won.items() if set(values) - {method} <= set(beaten)), None)
    return best, f"{structure}, {metric.label}: {'; '.join(sentences)} ({over})."


def _wins(comparison: Comparison, tests: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Methods that are significantly better, with those that they beat and the corrected p."""
    won: dict[str, dict[str, float]] = defaultdict(dict)
    for test in tests.itertuples():
        if test.p_holm < 1 - comparison.settings.confidence and test.better:
            loser = test.second if test.better == test.first else test.first
            won[test.better][loser] = test.p_holm
    return won


def _equals(p: float) -> str:
    text = number(p, "p")
    return text if text.startswith("<") else f"= {text}"


def lesion_tests_sentence(comparison: Comparison) -> str:
    """What the tests of lesions say, or why there are none."""
    rows = comparison.lesion_rows
    if len((set(rows.method) | set(rows.against)) - {comparison.reference}) < 2:
        return "Nothing to test: there is one method."
    tests = comparison.tests[comparison.tests.structure == LESION]
    if not len(tests):
        return (
            f"Not tested: of {count(rows.subject.nunique(), 'subject')} too few have a value of both methods; with "
            f"fewer than {LEAST_SUBJECTS} no p of the signed-rank test can be below 0.05. A difference of means is no "
            "evidence."
        )
    if comparison.reference is None:
        return "Loads are tested; without a reference none is better."
    metric: Metric = metric_named(LESION, primary_of(LESION, comparison.settings.primary))
    won = [
        f"{metric.label} of {method} is higher than that of {other} (p {number(p, 'p')})"
        for method, beaten in _wins(comparison, tests[tests.metric == metric.key]).items()
        for other, p in beaten.items()
    ]
    over = "paired Wilcoxon test over subjects, corrected by Holm"
    return f"{listed(won)}; {over}." if won else f"No difference in {metric.label} is significant ({over})."
