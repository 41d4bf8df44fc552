"""sct7t_compare: compare masks of several methods with a reference, or with each other."""

import argparse
import sys
from pathlib import Path

from sctseg7t.cli.options import add_version_option, exit_code

EPILOG = """examples:
  sct7t_compare -m ours=results -m sct=sct_results -ref derivatives/labels -o comparison
  sct7t_compare -i t2s.nii.gz -m ours=t2s_gmseg.nii.gz -m sct:gm=other.nii.gz -ref gm=manual.nii.gz -o out
  sct7t_compare -i brains -m ours=results -ref lesion=truth -rule msseg -o out
  sct7t_compare -i bids -run gm_sc,sct_gm_large,sct_gm_challenge -ref bids/derivatives/labels -o out

Masks of one scan are found by their BIDS entities (but for label, desc, space and the suffix), else by name without
_seg, _gmseg, _label-GM_mask, _7t_multiclass_gm, -manual and the like, which say the tissue. Nothing but -ref is taken
for the truth: without it, methods are compared with each other. Lesions (_lesionseg, _label-lesion_mask, lesions)
are compared lesion by lesion in the whole volume, on a grid of their own; -run brain_lesion makes them.

exit codes: 0 all well; 1 something was left out or a method failed on a scan (compare_problems.csv says what);
2 wrong usage, or nothing to compare; 130 interrupted
"""
_SHOWN = 12


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_compare",
        description="Compare masks of several methods with a reference, or with each other: agreement of every slice "
        "and scan, areas, tests, and a report. Research use only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files = p.add_argument_group("input and output")
    files.add_argument(
        "-m",
        "--method",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="file, folder or 'pattern' of a method's masks, once or more for each; NAME:GM=PATH says the tissue",
    )
    files.add_argument(
        "-ref",
        "--ref",
        action="append",
        nargs="+",
        default=[],
        metavar="PATH",
        help="the truth: a folder of masks, a file whose name says its tissue, or gm=FILE, sc=FILE, wm=FILE",
    )
    files.add_argument("-i", "--input", metavar="PATH", help="scan or folder of scans: to run, and for the pictures")
    files.add_argument(
        "-pattern", "--pattern", metavar="SUFFIX", help="which scans of the folder, as for sct7t_batch (T2starw)"
    )
    files.add_argument("-o", "--output", metavar="FOLDER", help="output folder")
    files.add_argument("-levels", "--levels", metavar="PATH", help="file or folder of vertebral labels")
    files.add_argument("-participants", "--participants", metavar="FILE", help="participants.tsv, for the group")
    files.add_argument(
        "-group", "--group", default="group", metavar="COLUMN", help="its column with the group (default: group)"
    )
    files.add_argument(
        "-structure", "--structure", nargs="+", metavar="NAME", help="only these: SC, GM, WM, LESION (default: all)"
    )
    files.add_argument("-no-report", "--no-report", action="store_true", help="tables and Markdown only")
    run = p.add_argument_group("running methods (with -i)")
    run.add_argument(
        "-run",
        "--run",
        metavar="NAMES",
        help="tasks, models of the zoo or .onnx files, separated by commas; TITLE=NAME gives it a title",
    )
    run.add_argument(
        "-sct", "--sct", action="store_true", help="run sct_deepseg_sc and sct_deepseg_gm of the installation on PATH"
    )
    run.add_argument(
        "-timeout", "--timeout", type=float, default=600, metavar="SECONDS", help="limit for SCT on a scan (600)"
    )
    run.add_argument("-device", "--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    run.add_argument("-threads", "--threads", type=int, metavar="N", help="CPU threads (default: all)")
    run.add_argument("-offline", "--offline", action="store_true", help="never download")
    how = p.add_argument_group("comparison")
    how.add_argument(
        "-grids",
        "--grids",
        choices=("refuse", "resample"),
        default="refuse",
        help="masks on another grid: refuse (default), or resample to the nearest voxel",
    )
    how.add_argument("-thr", "--thr", type=float, metavar="T", help="cut soft masks there (default: refuse them)")
    how.add_argument(
        "-failure", "--failure", type=float, default=0.7, metavar="DICE", help="outliers: Dice at or below it (0.7)"
    )
    how.add_argument(
        "-trim", "--trim", type=float, default=0.0, metavar="SHARE", help="cut at each end for the trimmed mean (0)"
    )
    how.add_argument(
        "-confidence", "--confidence", type=float, default=0.95, metavar="C", help="of intervals (default 0.95)"
    )
    how.add_argument(
        "-tolerance", "--tolerance", type=float, default=0.5, metavar="MM", help="of the surface Dice (0.5 mm)"
    )
    how.add_argument(
        "-rule",
        "--rule",
        choices=("overlap", "iou", "msseg"),
        default="overlap",
        help="which lesions are counterparts: any shared voxel (default), one each by overlap, or as MSSEG detects",
    )
    how.add_argument(
        "-connectivity",
        "--connectivity",
        type=int,
        choices=(6, 18, 26),
        help="neighbours of a voxel in one lesion (default 26; 6 with -rule msseg)",
    )
    other = p.add_argument_group("other")
    other.add_argument("-v", "--verbose", type=int, choices=(0, 1), default=1, help="0 errors only, 1 normal (default)")
    add_version_option(other)
    return p


def main(argv=None):
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    return exit_code("sct7t_compare", lambda: _run(p, args, given), "interrupted; an earlier comparison is as it was")


def _run(p, args, given):
    if not args.output or not (args.method or args.run or args.sct):
        p.error("-o and -m (or -run) are required: sct7t_compare -m ours=FOLDER -m sct=FOLDER -ref FOLDER -o OUT")
    _check(args)
    from sctseg7t.compare.find import find_cases
    from sctseg7t.compare.sources import REFERENCE, read_method, read_reference
    from sctseg7t.compare.study import compare
    from sctseg7t.compare.tables import write_comparison

    settings = _settings(args)
    methods = [read_method(text) for text in args.method]
    reference = [read_reference(text) for texts in args.ref for text in texts]
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
    progress = _progress(len(cases), args.verbose)
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

    if (args.run or args.sct) and not args.input:
        raise UsageError("-run and -sct need scans to run on; give -i SCAN or -i FOLDER")
    for name, value, low, high in (
        ("-thr", args.thr, 0, 1),
        ("-confidence", args.confidence, 0, 1),
        ("-tolerance", args.tolerance, 0, float("inf")),
        ("-timeout", args.timeout, 0, float("inf")),
    ):
        if value is not None and not low < value < high:
            raise UsageError(f"{name} {value:g}: give a number above {low}" + (f" and below {high}" * (high == 1)))
    if not 0 <= args.failure < 1 or not 0 <= args.trim < 0.5:
        raise UsageError("-failure is a Dice of 0 or more and below 1, -trim a share of 0 or more and below 0.5")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"-threads {args.threads}: give a number of CPU threads, 1 or more")
    if args.input and Path(args.input).is_dir() and Path(args.input).resolve() == Path(args.output).resolve():
        raise UsageError(f"-o {args.output}: is the folder of the scans; choose another")


def _settings(args):
    from sctseg7t.compare.records import Settings

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
    from sctseg7t.compare.names import structure_named
    from sctseg7t.errors import UsageError

    found = [structure_named(name) for name in names or ()]
    if None in found:
        raise UsageError(f"-structure {names[found.index(None)]}: choose of SC, GM, WM and LESION")
    return found or None


def _scans(args):
    """Scans to run on or to show, and their folder."""
    from sctseg7t.cohort.find import find_scans
    from sctseg7t.compare.find import scan_of
    from sctseg7t.errors import UsageError

    if not args.input:
        return [], None
    path = Path(args.input)
    if path.is_dir():
        return find_scans(path, args.pattern, leave=args.output), path
    if not path.exists():
        raise UsageError(f"-i {path}: does not exist; give a scan or a folder of scans")
    return [scan_of(path)], path.parent


def _make(args, scans, root, taken):
    """Masks of the methods that are to be run."""
    from sctseg7t.compare import run, sct
    from sctseg7t.errors import UsageError

    runs = run.read_runs(args.run) if args.run else {}
    if args.sct:
        # Before any scan is run by anything else.
        sct.find_programs()
    doubles = taken & {*runs, *([sct.METHOD] if args.sct else [])}
    if doubles:
        raise UsageError(f"{', '.join(sorted(doubles))}: the name of two methods; give one another name with NAME=")
    made = run.Made([], [], {})
    if not (runs or args.sct):
        return made
    masks = Path(args.output) / "masks"
    progress = _progress(len(scans) * (len(runs) + 2 * args.sct), args.verbose)
    if runs:
        where = run.Where(args.device, args.threads, args.offline, lambda *_: progress.update())
        made = run.run_methods(runs, scans, root, masks, where)
    if args.sct:
        more = sct.run_sct(scans, masks, timeout=args.timeout, tell=lambda *_: progress.update())
        made = run.Made(made.files + more.files, made.problems + more.problems, {**made.models, **more.models})
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

    if not comparison.rows and not (comparison.lesions and comparison.lesions.rows):
        first = next((problem.message for problem in comparison.problems if problem.left_out), "all masks are empty")
        raise InputError(f"nothing could be compared: {first}")


def _closing(args, comparison, files, failed):
    """Say what was found and where it is; the exit code."""
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
        print("\n".join(_lines(comparison)))
        best = next((path for path in files if path.name == "report.html"), None)
        print(f"{len(files)} files -> {best or args.output}")
    return 1 if left_out or failed or any(problem.kind == "failed" for problem in noted) else 0


def _lines(comparison):
    """Dice per slice of each method, as in the study's table, and agreement of lesions."""
    counts = f"{len(comparison.cases)} scan{'s' * (len(comparison.cases) != 1)}"
    if comparison.reference is None:
        counts += "; no reference: methods are compared with each other, and none is the truth"
    yield counts
    for row in comparison.summary:
        if row.where == "slice" and row.metric == "dice":
            who = row.method if comparison.reference else f"{row.method} / {row.against}"
            yield (
                f"  {row.structure:3} {who:24} Dice {row.mean:.3f} +- {row.sd:.3f}, median {row.median:.3f} "
                f"({row.n} slices, {row.outliers} outliers left out)"
            )
    for row in comparison.lesions.summary if comparison.lesions else ():
        if row.group == "all":
            from sctseg7t.compare.wording import number

            who = row.method if comparison.reference else f"{row.method} / {row.against}"
            of = {name: number(row.numbers[f"{name}_mean"], 3) for name in ("f1", "sensitivity", "precision", "dice")}
            yield (
                f"  LESION {who:21} F1 {of['f1']}, sensitivity {of['sensitivity']}, precision {of['precision']}, "
                f"Dice {of['dice']}, {row.numbers['fp_per_scan']:.1f} false a scan ({row.numbers['n_scans']} scans)"
            )


class _Silent:
    """Stands in for the progress bar in a pipe."""

    def update(self):
        pass

    def close(self):
        pass


def _progress(count, verbose):
    if count < 2 or verbose == 0 or not sys.stderr.isatty():
        return _Silent()
    from tqdm import tqdm

    return tqdm(total=count, unit="scan", file=sys.stderr)


def command():
    """Run the command as a process of its own."""
    sys.exit(main())


if __name__ == "__main__":
    command()
