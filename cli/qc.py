"""sct7t_qc: make the quality-control page of segmented scans, or compare two raters."""

import json
import os
from pathlib import Path

from sctseg7t.errors import InputError, UsageError

from . import options as shared
from .parser import COUNT, Option, Parser
from .run import Command, Progress, tell

EPILOG = """
examples:
  sct7t_qc -i results -o results/qc
  sct7t_qc -i results/t2s_deepseg.json -o qc
  sct7t_qc -agreement qc_ratings_ann.json qc_ratings_bob.json

A record that cannot be read is on the page too, and makes the exit code 1.
"""


def parser() -> Parser:
    """The arguments of the command."""
    return Parser(
        prog="sct7t_qc",
        usage="%(prog)s -i OUT [OUT ...] -o FOLDER [options]\n       %(prog)s -agreement A B [-json]",
        description="Make the quality-control page of segmented scans: every saved mask over its scan, the most "
        "unusual first, to be rated in a browser without a network. Research use only.",
        epilog=EPILOG,
        groups={
            "page": (
                Option("-i --input OUT ...", "folders of results, searched to their depth, or *_deepseg.json"),
                Option("-o --output FOLDER", "folder of the page; scans that it shows already stay on it"),
                Option(
                    "-participants FILE", "participants.tsv: its columns part the scans (default: that of last time)"
                ),
                Option("-title TEXT", "title of the page (default: that it has, or QC)"),
                Option(
                    "-per-page N",
                    "more scans than this make several pages and an index (default 200)",
                    type=COUNT,
                    default=200,
                ),
                Option("-workers N", "processes (default: CPUs this one may use)", type=COUNT),
                shared.QC_VIEWER,
                Option("-fresh", "leave out the scans that the page shows already"),
            ),
            "raters": (
                Option(
                    "-agreement A B",
                    "compare two raters' exports (JSON or CSV) and stop: Cohen's kappa, weighted kappa of the "
                    "ratings 1-4, their 95 %% intervals, and the tables",
                ),
                Option("-json", "with -agreement: print JSON"),
            ),
            "other": (shared.VERBOSE, *shared.ANSWERS),
        },
    )


def _run(args):
    if args.agreement:
        return _agreement(args)
    if not (args.input and args.output):
        raise UsageError("-i and -o are required: sct7t_qc -i results -o qc")
    from sctseg7t.cohort import read_record
    from sctseg7t.cohort.engine_local import default_workers
    from sctseg7t.qc import write_page

    records = [read_record(path) for path in _sidecars(args.input)]
    with Progress(len(records), shown=args.verbose > 0) as bar:
        page = write_page(
            records,
            args.output,
            title=args.title,
            per_page=args.per_page,
            participants=args.participants,
            fresh=args.fresh,
            workers=args.workers or default_workers("cpu"),
            viewer=args.qc_viewer,
            progress=bar.reach,
        )
    broken = [record for record in records if not record.raw.get("input")]
    for record in broken:
        tell(f"error: {record.error}")
    if args.verbose:
        failed = sum(record.status != "ok" for record in records)
        print(f"{len(records)} scans{f', {failed} of them failed' if failed else ''} -> {page}")
    return 1 if broken else 0


def _sidecars(inputs):
    """Sidecars in folders, and those that are given, each once."""
    from sctseg7t.inference.record import sidecars

    found = {}
    for given in map(Path, inputs):
        if not (given.is_dir() or (given.is_file() and given.suffix == ".json")):
            problem = "is no folder and no sidecar" if given.exists() else "does not exist"
            raise InputError(f"{given}: {problem}; give a folder of results or a *_deepseg.json")
        found |= {os.path.realpath(path): path for path in (sidecars(given) if given.is_dir() else [given])}
    if not found:
        raise InputError(f"{', '.join(inputs)}: no results here (*_deepseg.json); run sct7t_deepseg first")
    return found.values()


def _agreement(args):
    from sctseg7t.qc.ratings import compare_raters, describe, read_ratings

    found = compare_raters(*(read_ratings(path) for path in args.agreement))
    print(json.dumps(found, indent=2) if args.json else describe(found))
    return 0


main = Command(parser, _run, "interrupted; an earlier page is as it was")
command = main.process

if __name__ == "__main__":
    command()
