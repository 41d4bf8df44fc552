"""sct7t_compare: compare masks of several methods with a reference, or with each other."""

import argparse
import datetime
import platform
import sys
from pathlib import Path

from sctseg7t.errors import InputError, UsageError
from sctseg7t.inference.roles import IMAGE, ROLES
from sctseg7t.version import __version__

from . import options as shared
from .parser import Option, Parser, number
from .run import Command, Progress, tell

EPILOG = """
examples:
  sct7t_compare -method ours=results -method sct=sct_results \\
      -ref derivatives/labels -o comparison
  sct7t_compare -i t2s.nii.gz -method ours=t2s_gmseg.nii.gz \\
      -method sct:gm=other.nii.gz -ref gm=manual.nii.gz -o out
  sct7t_compare -i brains -method ours=results -ref lesion=truth \\
      -rule msseg -o out
  sct7t_compare -i bids -run gm_sc,sct_gm_large,sct_gm_challenge \\
      -ref bids/derivatives/labels -o out

Masks of one scan are found by their BIDS entities (but for label, desc, space
and the suffix), else by name without _seg, _gmseg, _label-GM_mask,
_7t_multiclass_gm, -manual and the like, which say the tissue. Nothing but -ref
is taken for the truth: without it, methods are compared with each other.
A slice in which one mask is empty counts: as Dice 0 and area 0. Intervals are
over subjects: say with -subject which labels are sessions of one person.
Lesions (_lesionseg, _label-lesion_mask, lesions) are compared lesion by lesion
in the whole volume, on a grid of their own; -run brain_lesion makes them.

What was left out, and a method that failed on a scan, is in
compare_problems.csv and makes the exit code 1.
"""
_SHOWN = 12
# Further images that a method may take.
_IMAGES = tuple(role.name for role in ROLES.values() if role.kind == IMAGE)


def _structure(text):
    """Type of ``-structure``: a tissue as masks' names say it."""
    from sctseg7t.inference.mask_names import structure_named

    found = structure_named(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: choose of SC, GM, WM and LESION")
    return found


def _measure(text):
    """Type of ``-primary``: a measure by which one method can be better."""
    from sctseg7t.compare.metrics import tested_names
    from sctseg7t.compare.types import LESION

    known = list(dict.fromkeys([*tested_names("SC"), *tested_names(LESION)]))
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text}: choose of {', '.join(known)}")
    return text


def parser() -> Parser:
    """The arguments of the command."""
    return Parser(
        prog="sct7t_compare",
        usage="%(prog)s -method NAME=PATH ... [-ref PATH ...] -o FOLDER [options]",
        description="Compare masks of several methods with a reference, or with each other: agreement of every slice "
        "and scan, areas, tests, and a report. Research use only.",
        epilog=EPILOG,
        groups={
            "input and output": (
                Option(
                    "-method NAME=PATH",
                    "file, folder or 'pattern' of a method's masks, once or more for each; NAME:GM=PATH says the "
                    "tissue",
                    action="append",
                    default=[],
                ),
                Option(
                    "-ref PATH ...",
                    "the truth: a folder of masks, a file whose name says its tissue, or gm=FILE, sc=FILE, wm=FILE",
                ),
                Option("-i --input PATH", "scan or folder of scans: to run, and for the pictures"),
                Option("-pattern SUFFIX", "which scans of the folder, as for sct7t_batch"),
                Option("-o --output FOLDER", "output folder", required=True),
                Option("-levels PATH", "file or folder of vertebral labels"),
                Option("-participants FILE", "participants.tsv, for the group"),
                Option("-group COLUMN", "its column with the group (default: group)"),
                Option("-structure NAME ...", "only these: SC, GM, WM, LESION (default: all)", type=_structure),
                Option("-no-report", "tables and Markdown only"),
            ),
            "running methods (with -i)": (
                Option(
                    "-run NAMES",
                    "tasks, models of the zoo, .onnx files or entries (net.json: url and hash), separated by commas; "
                    "TITLE=NAME gives one a title",
                ),
                *(Option(f"-{name} TEMPLATE", f"{ROLES[name].help}; as for sct7t_batch") for name in _IMAGES),
                Option(
                    "-sct NAMES",
                    "run the Spinal Cord Toolbox on PATH: sct (sct_deepseg_sc, sct_deepseg_gm), sct_deepseg (its tasks "
                    "spinalcord, graymatter), sct_deepseg_7t; default: the first two, as installed",
                    nargs="?",
                    const="",
                ),
                Option("-timeout SECONDS", "limit for SCT on a scan (default 600)", type=number(above=0), default=600),
                *shared.device(),
            ),
            "comparison": (
                Option(
                    "-grids refuse|resample",
                    "masks on another grid: refuse (default), or resample to the nearest voxel",
                    default="refuse",
                ),
                Option("-thr T", "cut soft masks there (default: refuse them)", type=number(above=0, below=1)),
                Option(
                    "-subject COLUMN|REGEX",
                    "who is one subject: a column of participants.tsv, or a pattern in the label, as '(.+)Ses'",
                ),
                Option(
                    "-primary MEASURE",
                    "whose tests are corrected for each other (default dice); those of the others are exploratory",
                    type=_measure,
                    default="dice",
                ),
                Option("-partial", "the reference is drawn in some slices only: leave out those without it"),
                Option(
                    "-failure DICE",
                    "failures, which the second table leaves out: Dice at or below it (default 0.7)",
                    type=number(at_least=0, below=1),
                    default=0.7,
                ),
                Option(
                    "-trim SHARE",
                    "cut at each end for the trimmed mean (default 0)",
                    type=number(at_least=0, below=0.5),
                    default=0.0,
                ),
                Option("-confidence C", "of intervals (default 0.95)", type=number(above=0, below=1), default=0.95),
                Option("-tolerance MM", "of the surface Dice (default 0.5 mm)", type=number(above=0), default=0.5),
                Option(
                    "-rule overlap|iou|msseg",
                    "which lesions are counterparts: any shared voxel (default), one each by overlap, or as MSSEG "
                    "detects",
                    default="overlap",
                ),
                Option("-connectivity 6|18|26", "neighbours of a voxel in one lesion (default 26; 6 with -rule msseg)"),
            ),
            "other": (shared.VERBOSE, *shared.ANSWERS),
        },
    )


def _run(args):
    _check(args)
    from sctseg7t.compare.compare import compare
    from sctseg7t.compare.matching import find_cases, read_method, read_reference
    from sctseg7t.compare.subjects import persons
    from sctseg7t.compare.tables import write_comparison
    from sctseg7t.compare.types import REFERENCE, Settings

    settings = Settings(
        failure_dice=args.failure,
        trim=args.trim,
        confidence=args.confidence,
        tolerance_mm=args.tolerance,
        grids=args.grids,
        threshold=args.thr,
        lesion_rule=args.rule,
        connectivity=args.connectivity,
        primary=args.primary,
        partial=args.partial,
    )
    methods = [read_method(text) for text in args.method]
    reference = [read_reference(text) for text in args.ref]
    _, participants = shared.participants(args)
    scans, root = _scans(args)
    made = _make(args, scans, root, {source.method for source in methods})
    cases, problems = find_cases(
        methods,
        reference,
        scans,
        made=made.files,
        structures=args.structure,
        levels=args.levels,
        groups={subject: row.get(args.group or "group") or None for subject, row in participants.rows.items()},
        told=made.problems,
    )
    if args.subject:
        cases = persons(cases, args.subject, participants.rows)
    with Progress(len(cases), shown=args.verbose > 0) as progress:
        comparison = compare(
            cases,
            list(dict.fromkeys([*(source.method for source in methods), *made.models])),
            REFERENCE if reference else None,
            settings,
            problems=(*made.problems, *problems),
            provenance=_provenance(args.argv, made.models),
            progress=progress.update,
        )
    if not comparison.pairs:
        first = next((problem.message for problem in comparison.problems if problem.left_out), "all masks are empty")
        raise InputError(f"nothing could be compared: {first}")
    files, failed = write_comparison(comparison, args.output, report=not args.no_report)
    return _closing(args, comparison, files, failed)


def _templates(args):
    """Templates of further images by role, of those that were given."""
    return {name: template for name in _IMAGES if (template := getattr(args, name))}


def _check(args):
    """What can be told to be wrong from the arguments alone."""
    if not (args.method or args.run or args.sct is not None):
        raise UsageError("-method or -run is required: sct7t_compare -method ours=FOLDER -ref FOLDER -o OUT")
    if (args.run or args.sct is not None) and not args.input:
        raise UsageError("-run and -sct need scans to run on; give -i SCAN or -i FOLDER")
    if _templates(args) and not args.run:
        raise UsageError(f"-{next(iter(_templates(args)))}: is for methods that are run; give -run NAMES")
    if args.input and not Path(args.input).exists():
        raise UsageError(f"-i {args.input}: does not exist; give a scan or a folder of scans")
    if args.input and Path(args.input).is_dir() and Path(args.input).resolve() == Path(args.output).resolve():
        raise UsageError(f"-o {args.output}: is the folder of the scans; choose another")


def _scans(args):
    """Scans to run on or to show, and their folder."""
    from sctseg7t.cohort.find import find_scans
    from sctseg7t.compare.matching import scan_of
    from sctseg7t.compare.run_methods import bids_suffixes, read_runs

    if not args.input:
        return [], None
    path = Path(args.input)
    if not path.is_dir():
        return [scan_of(path)], path.parent
    suffixes = bids_suffixes(read_runs(args.run)) if args.run else set()
    if len(suffixes) > 1 and not args.pattern:
        raise UsageError(f"-run {args.run}: is for several contrasts ({', '.join(sorted(suffixes))}); give -pattern")
    return find_scans(path, args.pattern, leave=args.output, suffix=next(iter(suffixes), "T2starw")), path


def _make(args, scans, root, taken):
    """Masks of the methods that are to be run."""
    from sctseg7t.compare import run_methods, sct

    runs = run_methods.read_runs(args.run) if args.run else {}
    # Before any scan is run by anything else.
    toolbox = {} if args.sct is None else sct.find_commands(args.sct)
    doubles = (taken & {*runs, *toolbox}) | (set(runs) & set(toolbox))
    if doubles:
        raise UsageError(f"{', '.join(sorted(doubles))}: the name of two methods; give one another name with NAME=")
    made, masks = run_methods.Made(), Path(args.output) / "masks"
    with Progress(len(scans) * (len(runs) + sum(map(len, toolbox.values()))), shown=args.verbose > 0) as progress:
        if runs:
            made = run_methods.run_methods(
                runs,
                scans,
                root,
                masks,
                templates=_templates(args),
                device=args.device,
                threads=args.threads,
                offline=args.offline,
                tell=progress.update,
            )
        if toolbox:
            more = sct.run_sct(scans, masks, commands=toolbox, timeout=args.timeout, tell=progress.update)
            made.files += more.files
            made.problems += more.problems
            made.models |= more.models
    return made


def _provenance(argv, models):
    import numpy
    import scipy

    return {
        "tool": {"name": "sctseg7t", "version": __version__},
        "command": " ".join(["sct7t_compare", *map(str, argv)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "software": {"python": platform.python_version(), "numpy": numpy.__version__, "scipy": scipy.__version__},
        "models": models,
    }


def _closing(args, comparison, files, failed):
    """Say what was found and where it is; the exit code."""
    from sctseg7t.compare.findings import cautions, lesion_cautions
    from sctseg7t.compare.report_tables import summary_lines

    left_out = [problem for problem in comparison.problems if problem.left_out]
    doubts = [*cautions(comparison), *(lesion_cautions(comparison) if comparison.has_lesions else ())]
    noted = [problem for problem in comparison.problems if not problem.left_out and problem.message not in doubts]
    shown = [("left out", left_out), *([("note", noted)] if args.verbose else [])]
    for word, problems in shown:
        for problem in problems[:_SHOWN]:
            print(f"{word}: {problem.message}", file=sys.stderr)
        if len(problems) > _SHOWN:
            print(f"{word}: {len(problems) - _SHOWN} more, in compare_problems.csv", file=sys.stderr)
    for text in doubts:
        tell(f"warning: {text}")
    if failed:
        tell(f"error: there is no report: {failed}")
    if args.verbose:
        print("\n".join(summary_lines(comparison)))
        best = next((path for path in files if path.name == "report.html"), None)
        print(f"{len(files)} files -> {best or args.output}")
    return 1 if left_out or failed or any(problem.kind == "failed" for problem in comparison.problems) else 0


main = Command(parser, _run, "interrupted; an earlier comparison is as it was")
command = main.process

if __name__ == "__main__":
    command()
