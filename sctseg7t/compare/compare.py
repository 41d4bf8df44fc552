"""A comparison from its cases to its numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sctseg7t.compare.agreement_rows import case_values, pairs_of
from sctseg7t.compare.corrected import corrected_masks
from sctseg7t.compare.load_masks import load_case
from sctseg7t.compare.subjects import one_person_perhaps
from sctseg7t.compare.types import COLUMNS, LESION, STRUCTURES, Case, Comparison, Problem, Settings

if TYPE_CHECKING:
    import pandas as pd

    from sctseg7t.image.grid import Grid

# Masks that were made apart are hardly ever the same to the voxel: from so many slices, and such a share, it is told.
_SAME_SLICES, _SAME_SHARE = 3, 0.1


def compare(
    cases: Sequence[Case],
    methods: Sequence[str],
    reference: str | None = None,
    settings: Settings = Settings(),
    *,
    problems: Sequence[Problem] = (),
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[], None] | None = None,
) -> Comparison:
    """Compare masks of several methods with a reference, or with each other.

    Every mask is read once, one scan after the other.

    Parameters
    ----------
    cases : sequence of Case
        As :func:`sctseg7t.compare.matching.find_cases` returns them.
    methods : sequence of str
        Without the reference, in the order of the tables.
    reference : str, optional
        The name in the cases' masks of what is the truth; None where nothing is.
    settings : Settings
    problems : sequence of Problem
        Known before.
    provenance : dict, optional
        To be kept with the results; the hashes of the masks are added as ``inputs``.
    progress : callable, optional
        Called after each scan.
    """
    import pandas as pd

    parts, grids, inputs, found = [], {}, {}, list(problems)
    having = defaultdict(list)
    for case in cases:
        loaded = load_case(case, settings, reference)
        found += loaded.problems
        parts.append(case_values(case, loaded, methods, reference, settings))
        for method, structure in loaded.masks:
            having[structure].append(method)
        inputs[case.name] = [
            {
                "method": key[0],
                "structure": key[1],
                "file": str(file),
                "sha256": loaded.sha256.get(key),
                "empty": not bool(loaded.masks[key].any()) if key in loaded.masks else None,
            }
            for key, file in case.masks.items()
        ]
        if loaded.grid is not None:
            grids[case.name] = loaded.grid
        if progress:
            progress()
    values = pd.concat([part for part in parts if len(part)] or [pd.DataFrame(columns=COLUMNS)], ignore_index=True)
    comparison = analyse(values, cases, methods, reference, settings, grids)
    found += [*_identical(comparison), *_copies(inputs), *_alone(having, comparison)]
    found += [*one_person_perhaps(cases), *corrected_masks(cases, inputs, reference)]
    return replace(comparison, problems=tuple(found), provenance={**(provenance or {}), "inputs": inputs})


def analyse(
    values: pd.DataFrame,
    cases: Sequence[Case],
    methods: Sequence[str],
    reference: str | None,
    settings: Settings,
    grids: Mapping[str, Grid] | None = None,
) -> Comparison:
    """Make a comparison of a long table: its summaries, tests and agreement.

    Parameters
    ----------
    values : DataFrame
        With the columns of the long table.
    cases, methods, reference, settings
        As for :func:`compare`.
    grids : dict of str to Grid
        Of the tissues' masks, by case: where areas are repeatable is known of these alone.
    """
    from sctseg7t.compare import analysis

    compared = set(values[["structure", "method", "against"]].drop_duplicates().itertuples(index=False, name=None))
    every = {(method, structure) for structure in STRUCTURES for method in (*methods, reference)}
    pairs = tuple(pair for pair in pairs_of(every, methods, reference) if pair in compared)
    bare = Comparison(
        settings=settings,
        methods=tuple(methods),
        reference=reference,
        cases=tuple(cases),
        pairs=pairs,
        values=values,
        problems=(),
        summary=values[:0],
        lesion_summary=values[:0],
        tests=values[:0],
        agreement=values[:0],
    )
    sizes, rows, lesions = values[values.against == ""], bare.rows, bare.lesion_rows
    groups = {case.name: case.group for case in cases}
    return replace(
        bare,
        summary=analysis.summarise(rows, pairs, settings, groups),
        lesion_summary=analysis.summarise_lesions(lesions, pairs, settings),
        tests=analysis.tests_between(rows, lesions, sizes, methods, reference, settings),
        agreement=analysis.size_agreement(rows, lesions, sizes, pairs, cases, grids or {}, settings.confidence),
    )


# --- what makes numbers doubtful -------------------------------------------------------------


def _identical(comparison: Comparison) -> Iterator[Problem]:
    """Notes on masks that are the other's to the voxel in many slices, or in a scan of lesions: one is a copy."""
    units = {True: ("scans", comparison.lesion_rows), False: ("slices", comparison.slices())}
    for structure, method, against in comparison.pairs:
        unit, rows = units[structure == LESION]
        own = rows[(rows.structure == structure) & (rows.method == method) & (rows.against == against)]
        same = int((own.dice == 1).sum())
        if structure == LESION:
            total, told = int((own.n_against > 0).sum()), same > 0
        else:
            total, told = len(own), same >= _SAME_SLICES and same / len(own) >= _SAME_SHARE
        if told:
            text = f"{structure}: {method} and {against} are the same to the voxel in {same} of {total} {unit}; "
            text += (
                f"if the {against} was made from such masks, that flatters {method}"
                if against == comparison.reference
                else "if one was made from the other, they agree for that reason"
            )
            yield Problem("identical", text, False, method=method, structure=structure)


def _copies(inputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Problem]:
    """Notes on masks of a method that are the same file for two scans: one is a copy under another name."""
    owners = defaultdict(list)
    for name, masks in inputs.items():
        for mask in masks:
            if mask["sha256"] and mask["empty"] is False:
                owners[mask["method"], mask["structure"], mask["sha256"]].append((name, mask["file"]))
    for (method, structure, _), found in owners.items():
        if len(found) > 1:
            names = " and ".join(name for name, _ in found)
            text = (
                f"{names}: {method} has the same {structure} mask of them; if one subject is there twice, leave one out"
            )
            yield Problem("duplicate", text, False, found[0][0], method, structure, found[0][1])


def _alone(having: Mapping[str, Sequence[str]], comparison: Comparison) -> Iterator[Problem]:
    """Notes on structures that are in some masks but compared in none."""
    for structure in sorted(set(having) - {structure for structure, _, _ in comparison.pairs}):
        lacking = f"{comparison.reference} has none" if comparison.reference else "no other method has it"
        known = "loads" if structure == LESION else "areas"
        methods = ", ".join(Counter(having[structure]))
        text = f"{structure}: only {known}, for {lacking} (it is in the masks of {methods})"
        yield Problem("missing", text, False, structure=structure)
