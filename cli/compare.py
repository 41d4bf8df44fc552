"""sct7t_compare: compare masks of several methods with a reference, or with each other."""

import functools
import sys
from pathlib import Path

from . import options as shared
from .parser import Parser, number
from .run import Progress, exit_code, process

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

Masks of one scan are found by their BIDS entities (but for label, desc, space and the suffix), else by name without
_seg, _gmseg, _label-GM_mask, _7t_multiclass_gm, -manual and the like, which say the tissue. Nothing but -ref is taken
for the truth: without it, methods are compared with each other. Lesions (_lesionseg, _label-lesion_mask, lesions)
are compared lesion by lesion in the whole volume, on a grid of their own; -run brain_lesion makes them.

What was left out, and a method that failed on a scan, is in compare_problems.csv and makes the exit code 1.
"""
_SHOWN = 12


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_compare",
        usage="%(prog)s -method NAME=PATH ... [-ref PATH ...] -o FOLDER [options]",
        description="Compare masks of several methods with a reference, or with each other: agreement of every slice "
        "and scan, areas, tests, and a report. Research use only.",
        epilog=EPILOG,
        renamed={"-m": "-method NAME=PATH for masks of a method, or -run MODEL for a model to run"},
    )
    files = p.add_argument_group("input and output")
    files.option(
        "-method NAME=PATH",
        "file, folder or 'pattern' of a method's masks, once or more for each; NAME:GM=PATH says the tissue",
        action="append",
        default=[],
    )
    files.option(
        "-ref PATH ...",
        "the truth: a folder of masks, a file whose name says its tissue, or gm=FILE, sc=FILE, wm=FILE",
    )
    files.option("-i --input PATH", "scan or folder of scans: to run, and for the pictures")
    files.option("-pattern SUFFIX", "which scans of the folder, as for sct7t_batch")
    files.option("-o --output FOLDER", "output folder", required=True)
    files.option("-levels PATH", "file or folder of vertebral labels")
    files.option("-participants FILE", "participants.tsv, for the group")
    files.option("-group COLUMN", "its column with the group (default: group)", default="group")
    files.option("-structure NAME ...", "only these: SC, GM, WM, LESION (default: all)")
    files.option("-no-report", "tables and Markdown only")
    run = p.add_argument_group("running methods (with -i)")
    run.option(
        "-run NAMES", "tasks, models of the zoo or .onnx files, separated by commas; TITLE=NAME gives it a title"
    )
    run.option("-sct", "run sct_deepseg_sc and sct_deepseg_gm of the installation on PATH")
    run.option("-timeout SECONDS", "limit for SCT on a scan (default 600)", type=number(above=0), default=600)
    shared.add_device_options(run)
    how = p.add_argument_group("comparison")
    how.option(
        "-grids refuse|resample",
        "masks on another grid: refuse (default), or resample to the nearest voxel",
        default="refuse",
    )
    how.option("-thr T", "cut soft masks there (default: refuse them)", type=number(above=0, below=1))
    how.option(
        "-failure DICE", "outliers: Dice at or below it (default 0.7)", type=number(at_least=0, below=1), default=0.7
    )
    how.option(
        "-trim SHARE",
        "cut at each end for the trimmed mean (default 0)",
        type=number(at_least=0, below=0.5),
        default=0.0,
    )
    how.option("-confidence C", "of intervals (default 0.95)", type=number(above=0, below=1), default=0.95)
    how.option("-tolerance MM", "of the surface Dice (default 0.5 mm)", type=number(above=0), default=0.5)
    how.option(
        "-rule overlap|iou|msseg",
        "which lesions are counterparts: any shared voxel (default), one each by overlap, or as MSSEG detects",
        default="overlap",
    )
    how.option("-connectivity 6|18|26", "neighbours of a voxel in one lesion (default 26; 6 with -rule msseg)")
    shared.add_other_options(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    body = functools.partial(_run, given=given)
    return exit_code(parser(), body, argv, interrupted="interrupted; an earlier comparison is as it was")


def _run(args, given):
    _check(args)
    from sctseg7t.compare.compare import compare
    from sctseg7t.compare.matching import find_cases, read_method, read_reference
    from sctseg7t.compare.tables import write_comparison
    from sctseg7t.compare.types import REFERENCE

    settings = _settings(args)
    methods = [read_method(text) for text in args.method]
    reference = [read_reference(text) for text in args.ref]
    structures = _structures(args.structure)
    scans, root = _scans(args)
    made = _make(args, scans, root, {source.method for source in methods})
    cases, problems = find_cases(
        methods,
        reference,
        scans,
        made=made.files,
        structures=structures,
        levels=args.levels,
        groups=_groups(args),
        told=made.problems,
    )
    names = list(dict.fromkeys([*(source.method for source in methods), *made.models]))
    progress = Progress(len(cases), shown=args.verbose > 0)
    comparison = compare(
        cases,
        names,
        REFERENCE if reference else None,
        settings,
        problems=(*made.problems, *problems),
        provenance=_provenance(given, made.models),
        progress=progress.update,
    )
    progress.close()
    _check_rows(comparison)
    files, failed = write_comparison(comparison, args.output, report=not args.no_report)
    return _closing(args, comparison, files, failed)


def _check(args):
    """What can be told to be wrong from the arguments alone."""
    from sctseg7t.errors import UsageError

    if not (args.method or args.run or args.sct):
        raise UsageError("-method or -run is required: sct7t_compare -method ours=FOLDER -ref FOLDER -o OUT")
    if (args.run or args.sct) and not args.input:
        raise UsageError("-run and -sct need scans to run on; give -i SCAN or -i FOLDER")
    if args.input and Path(args.input).is_dir() and Path(args.input).resolve() == Path(args.output).resolve():
        raise UsageError(f"-o {args.output}: is the folder of the scans; choose another")


def _settings(args):
    from sctseg7t.compare.types import Settings

    return Settings(
        failure_dice=args.failure,
        trim=args.trim,
        confidence=args.confidence,
        tolerance_mm=args.tolerance,
        grids=args.grids,
        threshold=args.thr,
        lesion_rule=args.rule,
        connectivity=args.connectivity,
    )


def _structures(names):
    from sctseg7t.compare.matching import structure_named
    from sctseg7t.errors import UsageError

    found = {name: structure_named(name) for name in names or ()}
    for name, structure in found.items():
        if structure is None:
            raise UsageError(f"-structure {name}: choose of SC, GM, WM and LESION")
    return list(filter(None, found.values())) or None


def _scans(args):
    """Scans to run on or to show, and their folder."""
    from sctseg7t.cohort.find import find_scans
    from sctseg7t.compare.matching import scan_of
    from sctseg7t.compare.run_methods import bids_suffixes, read_runs
    from sctseg7t.errors import UsageError

    if not args.input:
        return [], None
    path = Path(args.input)
    if path.is_dir():
        suffixes = bids_suffixes(read_runs(args.run)) if args.run else set()
        if len(suffixes) > 1 and not args.pattern:
            raise UsageError(
                f"-run {args.run}: is for several contrasts ({', '.join(sorted(suffixes))}); give -pattern"
            )
        return find_scans(path, args.pattern, leave=args.output, suffix=next(iter(suffixes), "T2starw")), path
    if not path.exists():
        raise UsageError(f"-i {path}: does not exist; give a scan or a folder of scans")
    return [scan_of(path)], path.parent


def _make(args, scans, root, taken):
    """Masks of the methods that are to be run."""
    from sctseg7t.compare import run_methods, sct
    from sctseg7t.errors import UsageError

    runs = run_methods.read_runs(args.run) if args.run else {}
    if args.sct:
        # Before any scan is run by anything else.
        sct.find_programs()
    doubles = taken & {*runs, *([sct.METHOD] if args.sct else [])}
    if doubles:
        raise UsageError(f"{', '.join(sorted(doubles))}: the name of two methods; give one another name with NAME=")
    made = run_methods.Made()
    if not (runs or args.sct):
        return made
    masks = Path(args.output) / "masks"
    progress = Progress(len(scans) * (len(runs) + 2 * args.sct), shown=args.verbose > 0)
    if runs:
        where = run_methods.Where(args.device, args.threads, args.offline, progress.update)
        made = run_methods.run_methods(runs, scans, root, masks, where)
    if args.sct:
        more = sct.run_sct(scans, masks, timeout=args.timeout, tell=progress.update)
        made = run_methods.Made(made.files + more.files, made.problems + more.problems, {**made.models, **more.models})
    progress.close()
    return made


def _groups(args):
    """Group by subject, from participants.tsv."""
    from sctseg7t.cohort.participants import read_participants
    from sctseg7t.errors import UsageError

    path = args.participants
    if not path:
        own = Path(args.input or "") / "participants.tsv"
        if not (args.input and own.is_file()):
            return {}
        path = own
    found = read_participants(path)
    if args.group not in found.columns:
        if args.participants and args.group != "group":
            raise UsageError(f"-group {args.group}: no such column in {path}; it has {', '.join(found.columns)}")
        return {}
    return {subject: row.get(args.group) or None for subject, row in found.rows.items()}


def _provenance(given, models):
    import datetime
    import platform

    import numpy
    import scipy

    from sctseg7t.version import __version__

    return {
        "tool": {"name": "sctseg7t", "version": __version__},
        "command": " ".join(["sct7t_compare", *(str(arg) for arg in given)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "software": {"python": platform.python_version(), "numpy": numpy.__version__, "scipy": scipy.__version__},
        "models": models,
    }


def _check_rows(comparison):
    from sctseg7t.errors import InputError

    if not comparison.pairs:
        first = next((problem.message for problem in comparison.problems if problem.left_out), "all masks are empty")
        raise InputError(f"nothing could be compared: {first}")


def _closing(args, comparison, files, failed):
    """Say what was found and where it is; the exit code."""
    from sctseg7t.compare.report_tables import summary_lines

    left_out = [problem for problem in comparison.problems if problem.left_out]
    noted = [problem for problem in comparison.problems if not problem.left_out]
    shown = [("left out", left_out), *([("note", noted)] if args.verbose else [])]
    for word, problems in shown:
        for problem in problems[:_SHOWN]:
            print(f"{word}: {problem.message}", file=sys.stderr)
        if len(problems) > _SHOWN:
            print(f"{word}: {len(problems) - _SHOWN} more, in compare_problems.csv", file=sys.stderr)
    if failed:
        print(f"error: there is no report: {failed}", file=sys.stderr)
    if args.verbose:
        print("\n".join(summary_lines(comparison)))
        best = next((path for path in files if path.name == "report.html"), None)
        print(f"{len(files)} files -> {best or args.output}")
    return 1 if left_out or failed or any(problem.kind == "failed" for problem in noted) else 0


def command() -> None:
    """Run the command as a process of its own."""
    process(main)


if __name__ == "__main__":
    command()
