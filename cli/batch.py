"""sct7t_batch: segment all scans of a data set, and put their measures together."""

import functools
import sys
from pathlib import Path

from . import options as shared
from .parser import Parser, number, whole_number
from .run import Progress, exit_code, make_folder, process

EPILOG = """
examples:
  sct7t_batch -i bids -o bids/derivatives/sctseg7t
  sct7t_batch -i bids -o out -exclude-qc qc_fail.yml -figures -group sex
  sct7t_batch -i bids -o out \\
      -levels 'derivatives/labels/{folder}/{stem}_levels.nii.gz'
  sct7t_batch -i bids -o out -engine dask -scheduler tcp://10.0.0.1:8786

Run again with the same command, it goes on where it stopped: what is up to date is left alone. Two batches are not
at work in one output folder: the second is refused with exit code 2.
"""


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_batch",
        usage="%(prog)s -i FOLDER -o FOLDER [-c TASK] [options]",
        description="Segment every scan of a BIDS data set or of plain folders, and write one table of all slices "
        "and one of all scans. Research use only.",
        epilog=EPILOG,
    )
    files = p.add_argument_group("input and output")
    files.option("-i --input FOLDER", "data set: BIDS, or folders with NIfTI files")
    files.option("-o --output FOLDER", "output folder, as BIDS derivatives", required=True)
    files.option(
        "-pattern SUFFIX",
        "BIDS suffix (default T2starw; for brains FLAIR), or a glob of file names, or of paths if it has a / "
        "(plain folders: default all but masks)",
    )
    files.option("-include NAME ...", "only these: names, subjects, globs, or a .txt")
    files.option("-exclude NAME ...", "all but these")
    files.option("-exclude-qc FILE", "all but what a qc_fail.yml lists, as the QC page and SCT's export it")
    files.option("-names bids|sct", "_label-SC_mask (default) or _seg", default="bids")
    shared.add_task_option(files)
    what = p.add_argument_group("tables and pages")
    what.option("-participants FILE", "joined to the tables (default: the data set's own)")
    what.option("-figures", "draw areas, or lesion loads, as PNG and SVG")
    what.option("-group COLUMN", "column of participants.tsv that parts the figures")
    what.option("-qc FOLDER", "write the QC page there")
    what.option("-tables-only", "only put together what is there already")
    run = p.add_argument_group("running")
    run.option("-workers N", "processes (default: CPUs this one may use)", type=whole_number())
    run.option("-timeout SECONDS", "limit for a scan (default: none)", type=number(above=0))
    run.option("-force", "run also what is up to date")
    run.option("-dry-run", "say what would be done, and stop")
    run.option("-engine local|dask", "this machine (default) or a cluster", default="local")
    run.option("-scheduler ADDRESS", "of dask.distributed: tcp://host:port")
    shared.add_model_options(p, threads="1 a worker")
    how = shared.add_segmentation_options(p)
    shared.add_file_options(
        how,
        "TEMPLATE",
        "; a path within the data set with {folder}, {stem}, {sub}, {ses}, {earlier} (session before) in it",
    )
    shared.add_other_options(p, list_tasks=True)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    interrupted = "interrupted; what is finished is complete. The same command goes on from here"
    return exit_code(parser(), _main, argv, interrupted=interrupted)


def _main(args):
    _check(args)
    return _tables(args) if args.tables_only else _run(args)


def _check(args):
    """What can be told to be wrong from the arguments alone."""
    from sctseg7t.errors import UsageError

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


def _scans(args, spec):
    """The scans that the arguments choose, of the model's contrast if they name none."""
    from sctseg7t.cohort.find import find_scans, select

    scans = find_scans(args.input, args.pattern, leave=args.output, suffix=spec.bids_suffix)
    kept, notes = select(scans, args.include, args.exclude, args.exclude_qc)
    _warn(notes, args)
    return kept


def _warn(notes, args):
    if args.verbose:
        for note in notes:
            print(f"warning: {note}", file=sys.stderr)


def _participants(args):
    """The participants.tsv to join, checked; None if there is none."""
    from sctseg7t.cohort.participants import read_participants
    from sctseg7t.errors import UsageError

    path = args.participants or (args.input and Path(args.input) / "participants.tsv")
    if not args.participants and not (path and path.is_file()):
        path = None
    columns = read_participants(path).columns if path else {}
    if args.group and args.group not in columns:
        known = f"; it has {', '.join(columns)}" if columns else ""
        raise UsageError(f"-group {args.group}: no such column in {path or 'any participants.tsv'}{known}")
    return path


def _jobs(args):
    """Everything that is to be done, and the models that do it."""
    from sctseg7t.cohort.run import make_jobs, set_up
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
    )
    scans = _scans(args, chosen.spec)
    jobs, refused = make_jobs(scans, layout, settings, force=args.force, timeout=args.timeout)
    return jobs, refused, (chosen.spec, chosen.locator_spec)


def _run(args):
    from sctseg7t.cohort.lock import alone_in
    from sctseg7t.cohort.output_names import write_description
    from sctseg7t.cohort.run import Interrupts, run_jobs
    from sctseg7t.runtime.session import cuda_index
    from sctseg7t.zoo.weights import weights

    cuda_index(args.device)
    participants = _participants(args)
    jobs, refused, specs = _jobs(args)
    if args.dry_run:
        return _dry_run(jobs, refused)
    out = make_folder("-o", args.output)
    if args.qc:
        make_folder("-qc", args.qc)
    with alone_in(out):
        for spec in filter(None, specs):
            # Once, before many workers want them.
            weights(spec, offline=args.offline)
        write_description(out, args.input, jobs[0].models)
        show = _Show(len(jobs), args.verbose)
        with Interrupts(show.say) as stop:
            totals = run_jobs(jobs, refused, _engine(args, len(jobs), stop, show), show.scan)
        show.close()
        if stop.count:
            raise KeyboardInterrupt
        code = _closing(totals, args)
        return max(code, _after(args, [job.plan.sidecar for job in jobs], participants))


def _engine(args, count, stop, show):
    if args.engine == "dask":
        from sctseg7t.cohort.engine_dask import run_dask

        return functools.partial(run_dask, address=args.scheduler, stop=stop, say=show.say)
    from sctseg7t.cohort.engine_local import default_workers, run_local

    workers = min(args.workers or default_workers(args.device, args.threads or 1), count)
    return functools.partial(run_local, workers=workers, stop=stop)


def _tables(args):
    """Only tables, figures and page, from the records that are there."""
    from sctseg7t.errors import UsageError

    if not Path(args.output).is_dir():
        raise UsageError(f"-o {args.output}: there is no such folder; give the folder of an earlier run")
    participants = _participants(args)
    paths = [job.plan.sidecar for job in _jobs(args)[0]] if args.input else None
    return _after(args, paths, participants)


def _after(args, paths, participants):
    """Tables, figures and page; the exit code."""
    from sctseg7t.cohort.tables import write_tables

    out = Path(args.output)
    files, notes = write_tables(out, paths=paths, participants=participants)
    if args.figures:
        from sctseg7t.cohort.figures import draw_cohort

        files += draw_cohort(out, group=args.group)
    if args.qc:
        from sctseg7t.inference.record import read_record, sidecars

        chosen = sidecars(out) if paths is None else [path for path in paths if path.is_file()]
        from sctseg7t.qc import write_page

        files.append(write_page([read_record(path) for path in chosen], args.qc))
    _warn(notes, args)
    if args.verbose:
        for path in files:
            print(f"  {path}")
    return 0


def _dry_run(jobs, refused):
    from sctseg7t.cohort.run import UNCHANGED, to_do

    count = 0
    for job, reason in to_do(jobs, refused):
        count += reason not in (UNCHANGED, "refused")
        print(f"{job.name}: {refused.get(job.name) or reason}")
        if reason not in (UNCHANGED, "refused"):
            for path in job.plan.files():
                print(f"  {path}")
    print(f"{count} of {len(jobs)} scans to run; nothing was written")
    return 0


def _closing(totals, args):
    counts = totals.counts
    if args.verbose:
        parts = [f"{counts['ok']} done", f"{counts['done']} up to date", f"{counts['failed']} failed"]
        if counts["nothing_found"]:
            parts.append(f"{counts['nothing_found']} with nothing found")
        print(f"{sum(counts.values())} scans: {', '.join(parts)}")
        _warn(totals.notes, args)
    if totals.failures:
        print("failed:", file=sys.stderr)
        for name, outcome in totals.failures.items():
            print(f"  {name}: {outcome.error}", file=sys.stderr)
    return 1 if totals.failures else 0


class _Show:
    """Progress for people: a bar on a terminal, a line a scan in a pipe, and both with ``-v 2``."""

    def __init__(self, total, verbose):
        self._verbose = verbose
        self._bar = Progress(total, shown=verbose > 0)
        self.say = self._bar.write
        self.close = self._bar.close

    def scan(self, job, outcome, progress):
        self._bar.reach(progress.ended, progress.total)
        if self._verbose > 1 or (self._verbose and not sys.stderr.isatty()):
            self.say(_line(job, outcome, progress))
        elif self._verbose and outcome.error:
            self.say(f"{job.name}: {outcome.error}")


def _line(job, outcome, progress):
    """What became of one scan, and how far the run is."""
    parts = [outcome.error or ("up to date" if outcome.status == "done" else outcome.status)]
    if outcome.seconds:
        parts.append(f"{sum(outcome.seconds.values()):.1f} s")
    if outcome.warnings:
        parts.append(f"{len(outcome.warnings)} warning{'s' * (len(outcome.warnings) > 1)}")
    if progress.left():
        parts.append(progress.left())
    return f"[{progress.ended}/{progress.total}] {job.name}: {', '.join(parts)}"


def command() -> None:
    """Run the command as a process of its own."""
    process(main)


if __name__ == "__main__":
    command()
