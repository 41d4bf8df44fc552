"""sct7t_batch: segment all scans of a data set, and put their measures together."""

import functools
import sys
from dataclasses import replace
from pathlib import Path

from sctseg7t.errors import UsageError

from . import options as shared
from .parser import COUNT, Option, Parser, number
from .run import Command, Progress, make_folder, tell

EPILOG = """
examples:
  sct7t_batch -i bids -o bids/derivatives/sctseg7t
  sct7t_batch -i bids -o out -exclude-qc qc_fail.yml -figures -group sex
  sct7t_batch -i bids -o out \\
      -levels 'derivatives/labels/{folder}/{stem}_levels.nii.gz'
  sct7t_batch -i bids -o out -c brain_new_lesion -baseline previous
  sct7t_batch -i bids -o out -engine dask -scheduler tcp://10.0.0.1:8786

Run again with the same command, it goes on where it stopped: what is up to
date is left alone. Two batches are not at work in one output folder: the
second is refused with exit code 2.
"""


def parser() -> Parser:
    """The arguments of the command."""
    beside = "; a path within the data set with {folder}, {stem}, {sub}, {ses}, {earlier} (session before) in it"
    sessions = " (previous or first: of the participant's sessions, the one before or the first)"
    return Parser(
        prog="sct7t_batch",
        usage="%(prog)s -i FOLDER -o FOLDER [-c TASK] [options]",
        description="Segment every scan of a BIDS data set or of plain folders, and write one table of all slices "
        "and one of all scans. Research use only.",
        epilog=EPILOG,
        groups={
            "input and output": (
                Option("-i --input FOLDER", "data set: BIDS, or folders with NIfTI files"),
                Option("-o --output FOLDER", "output folder, as BIDS derivatives", required=True),
                Option(
                    "-pattern SUFFIX",
                    "BIDS suffix (default T2starw; for brains FLAIR), or a glob of file names, or of paths if it has "
                    "a / (plain folders: default all but masks)",
                ),
                Option("-include NAME ...", "only these: names, subjects, globs, or a .txt"),
                Option("-exclude NAME ...", "all but these"),
                Option("-exclude-qc FILE", "all but what a qc_fail.yml lists, as the QC page and SCT's export it"),
                Option("-names bids|sct", "SCAN_label-SC_mask (default) or SCAN_seg", default="bids"),
                shared.TASK,
            ),
            "tables and pages": (
                Option("-participants FILE", "joined to the tables (default: the data set's own)"),
                Option("-figures", "draw areas, or lesion loads, as PNG and SVG"),
                Option("-group COLUMN", "column of participants.tsv that parts the figures"),
                Option("-qc FOLDER", "write the QC page there"),
                shared.QC_VIEWER,
                Option(
                    "-ratings FILE ...", "exports of the QC page: verdict, grade and rater of each scan in the tables"
                ),
                Option("-tables-only", "only put together what is there already, corrected masks measured again"),
            ),
            "running": (
                Option("-workers N", "processes (default: CPUs this one may use)", type=COUNT),
                Option("-timeout SECONDS", "limit for a scan (default: none)", type=number(above=0)),
                Option("-force", "run also what is up to date"),
                Option("-dry-run", "say what would be done, and stop"),
                Option("-engine local|dask", "this machine (default) or a cluster", default="local"),
                Option("-scheduler ADDRESS", "of dask.distributed: tcp://host:port"),
            ),
            "model and device": (shared.MODEL, *shared.device(threads="1 a worker")),
            "segmentation": (*shared.SEGMENTATION, *shared.files("TEMPLATE", beside, baseline=sessions)),
            "corrected masks": shared.CORRECTED,
            "other": (shared.LIST_TASKS, shared.VERBOSE, *shared.ANSWERS),
        },
    )


def _run(args):
    from sctseg7t.runtime.session import cuda_index

    _check(args)
    cuda_index(args.device)
    if args.ratings:
        from sctseg7t.qc.ratings import read_ratings

        for path in args.ratings:
            # Told before any scan is segmented.
            read_ratings(path)
    participants, _ = shared.participants(args)
    if args.tables_only and not args.input:
        return max(_remeasure(args, None), _tables(args, None, participants))
    jobs, refused, specs = _jobs(args)
    paths = [job.plan.sidecar for job in jobs]
    if args.tables_only:
        return max(_remeasure(args, paths), _tables(args, paths, participants))
    if args.dry_run:
        return _dry_run(jobs, refused)
    out = make_folder("-o", args.output)
    if args.qc:
        make_folder("-qc", args.qc)
    from sctseg7t.cohort.lock import alone_in

    with alone_in(out):
        code = _segment(args, jobs, refused, specs)
        return max(code, _tables(args, paths, participants))


def _check(args):
    """What can be told to be wrong from the arguments alone."""
    if args.tables_only and not Path(args.output).is_dir():
        raise UsageError(f"-o {args.output}: there is no such folder; give the folder of an earlier run")
    if not args.input and not args.tables_only:
        raise UsageError("-i is required: sct7t_batch -i FOLDER -o OUT")
    if (args.engine == "dask") != bool(args.scheduler):
        raise UsageError("-engine dask and -scheduler ADDRESS belong together")
    if args.group and not args.figures:
        raise UsageError(f"-group {args.group}: parts the figures; give -figures too")
    if args.input and Path(args.input).resolve() == Path(args.output).resolve():
        raise UsageError(
            f"-o {args.output}: is the data set itself; use {Path(args.input) / 'derivatives' / 'sctseg7t'}"
        )


def _jobs(args):
    """Everything that is to be done, what cannot be, and the models that do it."""
    from sctseg7t.cohort.find import find_scans, select
    from sctseg7t.cohort.run import make_jobs, set_up
    from sctseg7t.cohort.sessions import BASELINES, pair_sessions
    from sctseg7t.inference.pipeline import choose_model

    chosen = choose_model(args.task, args.model)
    layout, settings = set_up(
        chosen,
        args.input,
        args.output,
        model=args.model,
        options=shared.pipeline_options(args),
        device=args.device,
        threads=args.threads or 1,
        offline=args.offline,
        names=args.names,
        templates=shared.given_files(args),
        corrections=args.corrections,
        overwrite=args.overwrite,
    )
    found: list[str] = []
    scans = find_scans(args.input, args.pattern, leave=args.output, suffix=chosen.spec.bids_suffix, notes=found)
    known = scans
    scans, notes = select(scans, args.include, args.exclude, args.exclude_qc)
    if args.baseline in BASELINES:
        scans, baselines, more = pair_sessions(scans, known, args.baseline)
        layout, notes = replace(layout, baselines=baselines), [*notes, *more]
    _warn([*found, *notes], args)
    jobs, refused = make_jobs(scans, layout, settings, force=args.force, timeout=args.timeout)
    return jobs, refused, list(chosen.specs)


def _warn(notes, args):
    if args.verbose:
        for note in notes:
            tell(f"warning: {note}")


def _dry_run(jobs, refused):
    from sctseg7t.cohort.run import UNCHANGED, to_do

    count = 0
    for job, reason in to_do(jobs, refused):
        print(f"{job.name}: {refused.get(job.name) or reason}")
        if reason not in (UNCHANGED, "refused"):
            count += 1
            for path in job.plan.files():
                print(f"  {path}")
    print(f"{count} of {len(jobs)} scans to run; nothing was written")
    return 1 if refused else 0


def _segment(args, jobs, refused, specs):
    """Run the jobs, and say what came of them; the exit code."""
    from sctseg7t.cohort.find import some
    from sctseg7t.cohort.output_names import write_description
    from sctseg7t.cohort.run import Interrupts, run_jobs
    from sctseg7t.zoo.weights import all_weights

    for spec in specs:
        # Once, before many workers want them.
        all_weights(spec, offline=args.offline)
    write_description(args.output, args.input, jobs[0].models)
    if args.qc:
        from sctseg7t.qc import keep_card

        # Each card by the worker that has just made the masks.
        after = functools.partial(keep_card, folder=Path(args.qc).absolute(), viewer=args.qc_viewer)
        jobs = [replace(job, after=after) for job in jobs]
    with Progress(len(jobs), shown=args.verbose > 0) as bar, Interrupts(bar.write) as stop:
        engine = _engine(args, len(jobs), stop, bar.write)
        totals = run_jobs(jobs, refused, engine, functools.partial(_tell, bar, args.verbose))
    if stop.count:
        raise KeyboardInterrupt
    counts = totals.counts
    if args.verbose:
        parts = [f"{counts['ok']} done", f"{counts['done']} up to date", f"{counts['failed']} failed"]
        if counts["nothing_found"]:
            parts.append(f"{counts['nothing_found']} with nothing found")
        print(f"{sum(counts.values())} scans: {', '.join(parts)}")
        for code, names in totals.warned.items():
            tell(f"warning: {code}: {some(names)}")
    _warn(totals.notes, args)
    if totals.failures:
        lines = (f"{name}: {outcome.error}" for name, outcome in totals.failures.items())
        print("failed:", *lines, sep="\n  ", file=sys.stderr)
    return 1 if totals.failures else 0


def _engine(args, count, stop, say):
    if args.engine == "dask":
        from sctseg7t.cohort.engine_dask import run_dask

        return functools.partial(run_dask, address=args.scheduler, stop=stop, say=say)
    from sctseg7t.cohort.engine_local import run_local

    return functools.partial(run_local, workers=_workers(args, count), stop=stop)


def _workers(args, count):
    from sctseg7t.cohort.engine_local import default_workers

    return min(args.workers or default_workers(args.device, args.threads or 1), count)


def _tell(bar, verbose, job, outcome, progress):
    """Say what became of one scan: a bar on a terminal, a line a scan in a pipe, and both with ``-v 2``."""
    bar.reach(progress.ended, progress.total)
    if verbose > 1 or (verbose and not sys.stderr.isatty()):
        parts = [outcome.error or outcome.status.replace("done", "up to date")]
        if outcome.seconds:
            parts.append(f"{sum(outcome.seconds.values()):.1f} s")
        if outcome.warnings:
            more = len(outcome.warnings) - 1
            parts.append(f"warning: {outcome.warnings[0]}" + (f" (and {more} more)" if more else ""))
        if progress.left():
            parts.append(progress.left())
        bar.write(f"[{progress.ended}/{progress.total}] {job.name}: {', '.join(parts)}")
    elif verbose and outcome.error:
        bar.write(f"{job.name}: {outcome.error}")


def _remeasure(args, paths):
    """Measure again what was corrected since the run that made it; the exit code."""
    from sctseg7t.cohort.remeasure import remeasure
    from sctseg7t.inference.record import find_records, read_record

    records = find_records(args.output) if paths is None else [read_record(path) for path in paths if path.is_file()]
    notes, problems = remeasure(args.output, records)
    if args.verbose:
        for note in notes:
            print(note)
    if problems:
        print("not as corrected:", *problems, sep="\n  ", file=sys.stderr)
    return 1 if problems else 0


def _tables(args, paths, participants):
    """Tables, figures and page of the records at these paths (None: of all that are there); the exit code."""
    from sctseg7t.cohort.tables import write_tables
    from sctseg7t.qc.ratings import read_ratings

    out = Path(args.output)
    root = args.input or (participants and Path(participants).parent)
    ratings = [row for path in args.ratings for row in read_ratings(path)]
    files, notes = write_tables(out, paths=paths, participants=participants, root=root, ratings=ratings)
    if args.figures:
        from sctseg7t.cohort.figures import draw_cohort

        files += draw_cohort(out, group=args.group)
    if args.qc:
        from sctseg7t.inference.record import find_records, read_record
        from sctseg7t.qc import write_page

        records = find_records(out) if paths is None else [read_record(path) for path in paths if path.is_file()]
        workers = _workers(args, len(records))
        with Progress(len(records), shown=args.verbose > 0, name="QC page") as bar:
            page = write_page(
                records,
                args.qc,
                participants=participants,
                workers=workers,
                viewer=args.qc_viewer,
                progress=bar.reach,
            )
            files.append(page)
    _warn(notes, args)
    if args.verbose:
        for path in files:
            print(f"  {path}")
    return 0


main = Command(parser, _run, "interrupted; what is finished is complete. The same command goes on from here")
command = main.process

if __name__ == "__main__":
    command()
