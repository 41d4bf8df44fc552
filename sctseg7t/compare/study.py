"""A comparison from its cases to its numbers."""

from collections import Counter, defaultdict

from sctseg7t.compare.lesion_study import lesion_study
from sctseg7t.compare.lesions import case_lesions, loads_ml
from sctseg7t.compare.names import LESION, STRUCTURES
from sctseg7t.compare.read import read_case
from sctseg7t.compare.records import Comparison, Problem, Settings
from sctseg7t.compare.repeat import repeatability
from sctseg7t.compare.rows import case_areas, case_rows
from sctseg7t.compare.summary import area_agreement, summarise, tests_between

# Masks that were made apart are hardly ever the same to the voxel: from so many slices, and such a share, it is told.
_SAME_SLICES, _SAME_SHARE = 3, 0.1


def compare(cases, methods, reference=None, settings=Settings(), *, problems=(), provenance=None, progress=None):
    """Compare masks of several methods with a reference, or with each other.

    Every mask is read once, one scan after the other.

    Parameters
    ----------
    cases : sequence of Case
        As :func:`sctseg7t.compare.find.find_cases` returns them.
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

    Returns
    -------
    Comparison
    """
    rows, areas, grids, inputs, found = [], {}, {}, {}, list(problems)
    lesions, items, loads = [], [], {}
    for case in cases:
        read = read_case(case, settings, reference)
        found += read.problems
        rows += case_rows(case, read, methods, reference, settings)
        areas |= {(case.name, *key): value for key, value in case_areas(read).items()}
        for kept, more in zip((lesions, items), case_lesions(case, read, methods, reference, settings)):
            kept += more
        loads |= {(case.name, method): load for method, load in loads_ml(read).items()}
        inputs[case.name] = [_input(key, path, read) for key, path in case.masks.items()]
        if read.grid is not None:
            grids[case.name] = read.grid
        if progress:
            progress()
    found += [*_identical(rows, reference), *_identical_lesions(lesions, reference)]
    compared = {row.structure for row in rows} | ({LESION} if lesions else set())
    found += _copies(inputs)
    present = [*areas, *((case, method, LESION) for case, method in loads)]
    found += _alone({structure for _, _, structure in present} - compared, present, reference)
    return Comparison(
        settings=settings,
        methods=tuple(methods),
        reference=reference,
        structures=tuple(structure for structure in STRUCTURES if structure in compared - {LESION}),
        cases=tuple(cases),
        rows=tuple(rows),
        areas_mm2=areas,
        problems=tuple(found),
        summary=summarise(rows, settings),
        tests=tests_between(rows, areas, cases, methods, reference),
        areas=area_agreement(areas, cases, methods, reference, settings.confidence),
        repeatability=repeatability(cases, areas, grids),
        lesions=lesion_study(lesions, items, loads, cases, methods, reference, settings.confidence) if loads else None,
        provenance={**(provenance or {}), "inputs": inputs},
    )


def _input(key, path, read):
    mask = read.masks.get(key)
    return {
        "method": key[0],
        "structure": key[1],
        "file": str(path),
        "sha256": read.sha256.get(key),
        "empty": None if mask is None else bool(not mask.any()),
    }


def _copies(inputs):
    """A note on masks of a method that are the same file for two scans: one is a copy under another name."""
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
            yield Problem("duplicate", found[0][0], method, structure, found[0][1], text, False)


def _identical(rows, reference):
    """A note on masks that are the other's to the voxel in many slices: one was made from the other."""
    slices = [row for row in rows if row.where == "slice"]
    counts = Counter((row.structure, row.method, row.against) for row in slices)
    same = Counter((row.structure, row.method, row.against) for row in slices if row.agreement.dice == 1)
    for (structure, method, against), count in same.items():
        total = counts[structure, method, against]
        if count >= _SAME_SLICES and count / total >= _SAME_SHARE:
            text = f"{structure}: {method} and {against} are the same to the voxel in {count} of {total} slices; "
            text += (
                f"if the {against} was made from such masks, that flatters {method}"
                if against == reference
                else "if one was made from the other, they agree for that reason"
            )
            yield Problem("identical", None, method, structure, None, text, False)


def _identical_lesions(rows, reference):
    """As :func:`_identical`, of whole volumes of lesions."""
    counts = Counter((row.method, row.against) for row in rows if row.agreement.n_reference)
    same = Counter((row.method, row.against) for row in rows if row.agreement.dice == 1)
    for (method, against), count in same.items():
        text = f"{LESION}: {method} and {against} are the same to the voxel in {count} of "
        text += f"{counts[method, against]} scans; "
        text += f"that flatters {method}" if against == reference else "if one was made from the other, that is why"
        yield Problem("identical", None, method, LESION, None, text, False)


def _alone(structures, areas, reference):
    """A note on each structure that is in some masks but compared in none."""
    for structure in sorted(structures):
        having = Counter(method for _, method, tissue in areas if tissue == structure)
        lacking = f"{reference} has none" if reference else "no other method has it"
        known = "loads" if structure == LESION else "areas"
        text = f"{structure}: only {known}, for {lacking} (it is in the masks of {', '.join(having)})"
        yield Problem("missing", None, None, structure, None, text, False)
