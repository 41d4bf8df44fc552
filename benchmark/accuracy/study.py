"""The 2021 study's tables for the zoo's models, on simulated 7 T subjects and on the development scans.

    python benchmark/accuracy/study.py [-n 8] [-models cord_gm_sc,sct_gm_large] [-data ../shared/data] [-o DIR]

Subjects are simulated in three groups (HC, MS, ALS: recipes healthy, ms, als) at the in-plane resolutions of the
study, in its proportions, from an anatomy bank and from seeds that no training recipe uses. Every model runs on every
scan through ``sctseg7t.compare``, as ``sct7t_compare -run`` does. Printed in Markdown: for each structure and model
the slices, outliers (Dice at most 0.7, or missing), mean, median and SD of Dice (the study's table 5); HDRFDST,
AVGDIST and VOLSMTY (6); Mann-Whitney tests of Dice (7); Dice by group; and the published rows beside them.

What is simulated is what this project believes a 7 T scan to be, and its own models learned from the same simulator:
those rows say that a model does what it was taught, not that it is better than one taught on patients.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scans import compare_models, run_and_compare

from sctseg7t.report.results_page import name_models
from sctseg7t.report.results_page import run as run_with_page

# Group to recipe.
GROUPS = {"HC": "healthy", "MS": "ms", "ALS": "als"}
# In-plane pixel (mm) and the share of the study's subjects that had it.
PIXELS_MM = {0.17578125: 28 / 78, 0.195: 1 / 78, 0.267: 46 / 78, 0.401: 3 / 78}
# Training recipes have seeds of two digits and draw from their seed on, a number a step; banks have the recipe's.
FIRST_SEED, ANATOMY_SEED = 7_000_000, 7_000_000
THICKNESS_MM, SLICES = 3.0, 12
MODELS = "cord_gm_sc,sct_gm_large,sct_gm_challenge"
SOURCE = "master's study, CRMBM Marseille 2021: 7 T patients and controls, test set of its split 0, outliers left out"
CAVEAT = (
    "The data are others, so those rows are not to be compared with these digit by digit; their AVGDIST is the larger "
    "of the two directions, as that study's text has it. Development scans were looked at while the tool was made, and "
    "the GM masks of gm-challenge began as sct_deepseg_gm's own, which flatters its models."
)
# Structure, method, outliers, mean, median and SD of Dice; HDRFDST, AVGDIST and VOLSMTY in voxels of 0.176 mm.
PUBLISHED = (
    ("GM", "SCT (3 T networks)", 1, 0.857, 0.880, 0.065, 3.509, 0.170, 0.933),
    ("GM", "8 (released)", 2, 0.890, 0.906, 0.049, 2.138, 0.121, 0.964),
    ("SC", "SCT (3 T networks)", 7, 0.949, 0.951, 0.016, 4.197, 0.077, 0.969),
    ("SC", "4 Smart", 5, 0.971, 0.973, 0.010, None, None, None),
    ("SC", "8 (released)", 2, 0.969, 0.972, 0.011, 2.311, 0.035, 0.981),
)


def simulate(folder, per_group, first_seed=FIRST_SEED):
    """Write the simulated subjects, as ``sct7t_simulate`` does; those that are there already stay.

    Parameters
    ----------
    folder : path
    per_group : int
    first_seed : int
    """
    from sctseg7t.simulate.anatomy import load_bank
    from sctseg7t.simulate.dataset import plan_scan, read_recipe, write_participants, write_scan

    rows = []
    for k, (group, name) in enumerate(GROUPS.items()):
        recipe = read_recipe(name)
        bank = None
        for n in range(per_group):
            seed = first_seed + 1000 * k + n
            subject = f"sub-{recipe.stem}{seed:04d}"
            rows.append({"participant_id": subject, "group": group, "seed": str(seed)})
            if (Path(folder) / subject / "anat" / f"{subject}_T2starw.json").exists():
                continue
            bank = bank or load_bank(recipe.anatomy, {}, ANATOMY_SEED)
            plan = plan_scan(recipe, seed, slices=SLICES, pixel_mm=pixel_of(seed), thickness_mm=THICKNESS_MM)
            write_scan(folder, bank, recipe, plan, ANATOMY_SEED)
    write_participants(folder, rows)


def pixel_of(seed):
    """In-plane pixel of a subject, mm: the study's, in its proportions."""
    return float(np.random.default_rng((seed, 5)).choice(list(PIXELS_MM), p=list(PIXELS_MM.values())))


def compare_simulated(folder, models, out, where):
    """Comparison of the models over the simulated subjects; a voxel belongs to a tissue from half of it on."""
    from sctseg7t.cohort.find import find_scans
    from sctseg7t.cohort.participants import read_participants
    from sctseg7t.compare.matching import Source
    from sctseg7t.compare.types import REFERENCE

    people = read_participants(Path(folder) / "participants.tsv")
    groups = {subject: row["group"] for subject, row in people.rows.items()}
    truth = [Source(REFERENCE, Path(folder))]
    found = find_scans(folder)
    return run_and_compare(models, found, folder, out, where, reference=truth, groups=groups, threshold=0.5)


# --- tables ----------------------------------------------------------------------------


def tables(comparison, title):
    """The study's tables of a comparison, as lines of Markdown."""
    yield f"## {title}"
    yield ""
    slices = comparison.slices()[["case", "index"]].drop_duplicates()
    cases = slices.case.nunique()
    left_out = sum(problem.left_out for problem in comparison.problems)
    yield f"{cases} scans, {len(slices)} slices" + (f"; {left_out} masks or scans left out" if left_out else "") + "."
    yield ""
    yield from _dice_table(comparison.summary, "Dice per slice (table 5)", PUBLISHED)
    yield from _distance_table(comparison.summary)
    yield from _test_table(comparison)
    yield from _group_table(comparison)


def _dice_table(summary, title, published=()):
    yield from _head(title, ("class", "method", "slices", "outliers", "mean", "median", "SD"))
    own = _as_in_the_study(summary)
    for row in own[own.metric == "dice"].itertuples():
        numbers = (f"{v:.3f}" for v in (row.mean, row.median, row.sd))
        yield _line(row.structure, row.method, row.n + row.outliers, row.outliers, *numbers)
    for structure, method, outliers, mean, median, sd, *_ in published:
        yield _line(
            structure, f"*published: {method}*", "106 images", outliers, *(f"{v:.3f}" for v in (mean, median, sd))
        )
    yield ""


def _as_in_the_study(summary):
    """Rows of slices of all groups, without failures."""
    return summary[(summary.level == "slice") & (summary.failures == "left out") & (summary.group == "")]


def _distance_table(summary):
    names = ("HDRFDST", "AVGDIST_max", "AVGDIST_mean", "VOLSMTY")
    title = "Means per slice, outliers left out; distances in voxels of each scan's own size, and in mm (table 6)"
    columns = ("class", "method", *names, "Hausdorff, mm", "ASSD, mm", "area difference, mm2", "area difference, %")
    yield from _head(title, columns)
    means = {(r.structure, r.method, r.metric): r.mean for r in _as_in_the_study(summary).itertuples()}
    others = ("hausdorff_mm", "assd_mm", "size_difference", "size_difference_percent")
    for structure, method in dict.fromkeys((structure, method) for structure, method, _ in means):
        found = [means[structure, method, name] for name in names]
        more = [means[structure, method, name] for name in others]
        shown = (f"{more[0]:.2f}", f"{more[1]:.3f}", f"{more[2]:+.2f}", f"{more[3]:+.1f}")
        yield _line(structure, method, *(f"{v:.3f}" for v in found), *shown)
    for structure, method, *_, hausdorff, average, similarity in PUBLISHED:
        if hausdorff is not None:
            numbers = (f"{hausdorff:.3f}", f"{average:.3f}", "-", f"{similarity:.3f}")
            yield _line(structure, f"*published: {method}*", *numbers, *"----")
    yield ""


def _test_table(comparison):
    title = "Dice of each two methods: Mann-Whitney per slice (table 7), and paired by subject (Wilcoxon)"
    columns = ("class", "first", "second", "test", "n", "effect (rank-biserial)", "p", "p, Holm")
    rows = [test for test in comparison.tests.itertuples() if test.metric == "dice"]
    if not rows:
        return
    yield from _head(title, columns)
    for test in rows:
        counts = " / ".join(map(str, dict.fromkeys((test.n_first, test.n_second))))
        numbers = (f"{test.rank_biserial:+.2f}", f"{test.p:.2g}", f"{test.p_holm:.2g}")
        yield _line(test.structure, test.first, test.second, f"{test.test}, {test.over}", counts, *numbers)
    yield ""


def _group_table(comparison):
    from sctseg7t.compare.analysis import summarise

    owners = {case.name: case.group for case in comparison.cases}
    for group in GROUPS:
        rows = comparison.rows[comparison.rows.case.map(owners) == group]
        if len(rows):
            summary = summarise(rows, comparison.pairs, comparison.settings)
            yield from _dice_table(summary, f"Dice per slice, {group} only")


def _head(title, columns):
    yield f"**{title}**"
    yield ""
    yield _line(*columns)
    yield "|" + "---|" * len(columns)


def _line(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def report(parts):
    """All of it as one Markdown text; ``parts``: title to Comparison."""
    lines = ["# The tables of the 2021 study", ""]
    for title, comparison in parts.items():
        lines += tables(comparison, title)
    return "\n".join([*lines, f"Published rows: {SOURCE}. {CAVEAT}", ""])


# --- the command -----------------------------------------------------------------------


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-n", type=int, default=8, help="simulated subjects per group (default 8; 0: none)")
    p.add_argument("-models", default=MODELS, help=f"as sct7t_compare -run has them (default {MODELS})")
    p.add_argument("-data", help="folder of the development data (default: no development scans)")
    p.add_argument("-o", "--output", help="folder for scans, masks, tables and reports (default: a temporary one)")
    p.add_argument("-device", default="cpu", help="cpu (default) or cuda")
    p.add_argument("-threads", type=int, help="CPU threads (default: all)")
    p.add_argument("-seed", type=int, default=FIRST_SEED, help="of the first simulated subject")
    args = p.parse_args(argv)
    from sctseg7t.errors import UserError

    try:
        if args.output:
            return _run(args, Path(args.output))
        with tempfile.TemporaryDirectory() as folder:
            return _run(args, Path(folder))
    except (UserError, ValueError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 2


def _run(args, out):
    from sctseg7t.compare.run_methods import read_runs
    from sctseg7t.compare.tables import write_comparison
    from sctseg7t.files import write_bytes

    where, parts, models = {"device": args.device, "threads": args.threads}, {}, read_runs(args.models)
    if args.n:
        simulate(out / "subjects", args.n, args.seed)
        found = compare_simulated(out / "subjects", models, out / "simulated/masks", where)
        parts["Simulated 7 T subjects"] = _with_command(found, "simulated")
        write_comparison(parts["Simulated 7 T subjects"], out / "simulated", report=bool(args.output))
    if args.data:
        found = compare_models(args.data, models, out / "development/masks", where)
        parts["Development scans"] = _with_command(found, "development")
        write_comparison(parts["Development scans"], out / "development", report=bool(args.output))
    name_models(*models.values())
    text = report(parts)
    print(text)
    if args.output:
        write_bytes(out / "study.md", text.encode())
    for comparison in parts.values():
        for problem in comparison.problems:
            if problem.left_out or problem.kind == "failed":
                print(problem.message, file=sys.stderr)
    return 0


def _with_command(comparison, part):
    return replace(comparison, provenance={**comparison.provenance, "command": f"benchmark/accuracy/study.py ({part})"})


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "The tables of the 2021 study"))
