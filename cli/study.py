"""sct7t_study: train a grid of networks on one data set, and tell what helped."""

import functools
import platform
import re
from pathlib import Path

from sctseg7t.errors import UsageError

from . import options as shared
from .parser import COUNT, Option, Parser, number
from .run import Command, Progress, make_folder, tell

EPILOG = """
examples:
  eight augmentations, small enough for two cores (a quarter of an hour):
    sct7t_study -config augmentation_2021-quick -scans bids -o out
  ... with scans of another site, which every network is measured on too:
    sct7t_study -config augmentation_2021-quick -scans bids -also site=other \\
        -o out
  how it stands, without training anything:
    sct7t_study -config augmentation_2021-quick -scans bids -o out -state
  what the networks will be shown, one contact sheet an augmentation:
    sct7t_study -config augmentation_2021-quick -scans bids -o out -sheets
  on a cluster, one worker a GPU:
    sct7t_study -config augmentation_2021 -scans bids -o out -device cuda \\
        -engine dask -scheduler tcp://10.0.0.1:8786

Run again with the same command, it goes on where it stopped: a training that
is done is not repeated, one that was interrupted goes on from its last step
that was saved, one that failed is tried again. Two studies are not at work in
one output folder. A training that fails is a row with its reason, and makes
the exit code 1.

The libraries that it needs come with pip install 'sctseg7t[train]'.
"""


def parser() -> Parser:
    """The arguments of the command."""
    return Parser(
        prog="sct7t_study",
        usage="%(prog)s -config STUDY -scans FOLDER ... -o FOLDER [options]",
        description="Train a grid of networks on one data set of labelled scans, measure each on people that it has "
        "not seen, and write tables, tests and figures of what helped.",
        epilog=EPILOG,
        groups={
            "study": (
                Option(
                    "-config STUDY",
                    "a JSON file, or a shipped study: augmentation_2021, transfer, each also as NAME-quick",
                    required=True,
                ),
                Option("-scans SCANS ...", "labelled scans: folders, lists, IMAGE:SC=MASK:GM=MASK, as sct7t_train has"),
                Option("-also NAME=SCANS ...", "scans of other people that every network is measured on too"),
                Option("-o --output FOLDER", "folder of the study", required=True),
                Option("-subject COLUMN|REGEX", "which labels are sessions of one person, as in sct7t_compare"),
                Option("-group COLUMN", "column of participants.tsv that splits are stratified by"),
                shared.DATA,
            ),
            "instead of training": (
                Option("-state", "tell how the study stands, and stop"),
                Option("-sheets", "draw a contact sheet of each augmentation, and stop"),
                Option("-tables-only", "only put together what is there already"),
            ),
            "results": (Option("-page FOLDER", "write the page and its figures there (default: into -o)"),),
            "machine": (
                Option("-device NAME", "cpu or cuda[:N] (default cpu)", default="cpu"),
                Option("-precision P", "float32, bfloat16 or auto (default)", default="auto"),
                Option("-threads N", "CPU threads of a training (default: all of the machine's)", type=COUNT),
                Option("-workers N", "trainings at a time (default 1)", type=COUNT, default=1),
                Option("-timeout SECONDS", "limit for a training (default: none)", type=number(above=0)),
                Option("-engine local|dask", "this machine (default) or a cluster", default="local"),
                Option("-scheduler ADDRESS", "of dask.distributed: tcp://host:port"),
            ),
            "other": (shared.VERBOSE, *shared.ANSWERS),
        },
    )


def _run(args):
    from sctseg7t.cohort.lock import alone_in

    _check(args)
    study, sources, works = _plan(args)
    if args.state:
        return _state(works)
    out = make_folder("-o", args.output)
    if args.sheets:
        from sctseg7t.study.training import draw_sheets

        for path in draw_sheets(works, out):
            print(path)
        return 0
    code = 0
    if not args.tables_only:
        with alone_in(out, "sct7t_study"):
            code = _train(args, sources, works)
    return max(code, _results(args, study, works))


def _check(args):
    """What can be told to be wrong from the arguments alone."""
    if not args.scans:
        raise UsageError("-scans is required: sct7t_study -config STUDY -scans FOLDER -o OUT")
    if (args.engine == "dask") != bool(args.scheduler):
        raise UsageError("-engine dask and -scheduler ADDRESS belong together")
    for told in args.also:
        name, equals, path = told.partition("=")
        if not (name and equals and path) or name == "test":
            raise UsageError(f"-also {told}: write NAME=FOLDER; the name test is taken")


def _plan(args):
    """The study, what its trainings start from, and its cells."""
    from sctseg7t.study.config import read_study
    from sctseg7t.study.plan import Machine, find, plan

    study = read_study(args.config)
    scans = find(study, args.scans, args.subject)
    others = {}
    for told in args.also:
        name, _, path = told.partition("=")
        others[name] = [*others.get(name, ()), *find(study, [path], args.subject)]
    groups = {}
    if args.group:
        groups = _groups(args)
    machine = Machine(args.device, args.precision, args.threads, args.timeout)
    return study, *plan(study, scans, others, args.output, groups=groups, machine=machine, data=args.data)


def _groups(args):
    from sctseg7t.cohort.participants import read_participants

    for folder in map(Path, args.scans):
        if (folder / "participants.tsv").is_file():
            found = read_participants(folder / "participants.tsv")
            if args.group in found.columns:
                return {name: row[args.group] for name, row in found.rows.items() if row.get(args.group)}
    raise UsageError(f"-group {args.group}: no participants.tsv in {', '.join(args.scans)} has such a column")


def _state(works):
    from sctseg7t.study.cell_run import FAILED, OK
    from sctseg7t.study.run import running

    counts = {}
    for work in works:
        state = work.state()
        if state != OK and running(work):
            state = "running"
        counts[state] = counts.get(state, 0) + 1
        print(f"{state:8} {work.name}" + (f": {work.recorded_reason()}" if state == FAILED else ""))
    print(f"{len(works)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    return 1 if counts.get(FAILED) else 0


def _train(args, sources, works):
    from sctseg7t.cohort.run import Interrupts
    from sctseg7t.study.cell_run import FAILED
    from sctseg7t.study.run import run_study

    with (
        Progress(len(works), shown=args.verbose > 0) as bar,
        Interrupts(bar.write, "trainings") as stop,
    ):
        counts = run_study(sources, works, _engine(args, stop, bar.write), functools.partial(_tell, bar, args.verbose))
    if stop.count:
        raise KeyboardInterrupt
    return 1 if counts[FAILED] else 0


def _engine(args, stop, say):
    if args.engine == "dask":
        from sctseg7t.cohort.engine_dask import run_dask

        return functools.partial(run_dask, address=args.scheduler, stop=stop, say=say)
    from sctseg7t.cohort.engine_local import run_local

    return functools.partial(run_local, workers=args.workers, stop=stop)


def _tell(bar, verbose, work, outcome, progress):
    """A line of each training that has ended."""
    bar.reach(progress.ended, progress.total)
    if verbose:
        parts = [outcome.error or outcome.status]
        if outcome.seconds:
            parts.append(f"{sum(outcome.seconds.values()):.0f} s")
        if progress.left():
            parts.append(progress.left())
        bar.write(f"[{progress.ended}/{progress.total}] {work.name}: {', '.join(parts)}")


def _results(args, study, works):
    """Tables and page of what is there; the exit code."""
    from sctseg7t.study.collect import collect, write
    from sctseg7t.study.page import write_page

    out = Path(args.output)
    collected = collect(works)
    files = write(collected, out)
    if len(collected.values):
        # A page is for others: it names files, not where they lie here.
        words = re.sub(r"[^\s=:]*/", "", " ".join(args.argv))
        files += write_page(
            collected,
            study,
            args.page or out,
            command=f"sct7t_study {words}",
            machine=f"{platform.machine()}, {args.device}",
            data=_told(works),
        )
    else:
        tell("warning: no cell has a result yet, so there is no page")
    if args.verbose:
        for path in files:
            print(path)
    return 1 if (collected.cells.status == "failed").any() else 0


def _told(works):
    """What the networks learned from, in words."""
    scans = {scan.name: scan for scan in works[0].scans}
    people = {scan.subject for scan in scans.values()}
    text = f"The data set has {len(scans)} scans of {len(people)} people."
    for name, others in works[0].others.items():
        text += f" {name}: {len(others)} scans of {len({scan.subject for scan in others})} other people."
    return text


main = Command(parser, _run, "interrupted; what is done stays. The same command goes on from here", extra="train")
command = main.process

if __name__ == "__main__":
    command()
