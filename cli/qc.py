"""sct7t_qc: make the quality-control page of segmented scans, or compare two raters."""

import sys

from . import options as shared
from .parser import Parser, whole_number
from .run import Progress, exit_code, process

EPILOG = """
examples:
  sct7t_qc -i results -o results/qc
  sct7t_qc -i results/t2s_deepseg.json -o qc
  sct7t_qc -agreement qc_ratings_ann.json qc_ratings_bob.json

A record that cannot be read is on the page too, and makes the exit code 1.
"""


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_qc",
        usage="%(prog)s -i OUT [OUT ...] -o FOLDER [options]\n       %(prog)s -agreement A B [-json]",
        description="Make the quality-control page of segmented scans: every saved mask over its scan, the most "
        "unusual first, to be rated in a browser without a network. Research use only.",
        epilog=EPILOG,
    )
    page = p.add_argument_group("page")
    page.option("-i --input OUT ...", "folders of results, searched to their depth, or *_deepseg.json")
    page.option("-o --output FOLDER", "folder of the page; scans that it shows already stay on it")
    page.option("-title TEXT", "title of the page (default: that it has, or QC)")
    page.option(
        "-per-page N",
        "more scans than this make several pages and an index (default 200)",
        type=whole_number(),
        default=200,
    )
    page.option("-fresh", "leave out the scans that the page shows already")
    raters = p.add_argument_group("raters")
    raters.option(
        "-agreement A B",
        "compare two raters' exports (JSON or CSV) and stop: Cohen's kappa, and weighted kappa of the ratings 1-4",
    )
    raters.option("-json", "with -agreement: print JSON")
    shared.add_other_options(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return exit_code(parser(), _run, argv, interrupted="interrupted; an earlier page is as it was")


def _run(args):
    from sctseg7t.errors import UsageError

    if args.agreement:
        return _agreement(args)
    if not (args.input and args.output):
        raise UsageError("-i and -o are required: sct7t_qc -i results -o qc")
    return _page(args)


def _page(args):
    from sctseg7t.errors import InputError
    from sctseg7t.qc import write_page

    records = _records(args.input)
    if not records:
        raise InputError(f"{', '.join(args.input)}: no results here (*_deepseg.json); run sct7t_deepseg first")
    with Progress(len(records), shown=args.verbose > 0) as bar:
        page = write_page(
            records, args.output, title=args.title, per_page=args.per_page, fresh=args.fresh, progress=bar.reach
        )
    broken = [record for record in records if not record.raw.get("input")]
    for record in broken:
        print(f"error: {record.error}", file=sys.stderr)
    if args.verbose:
        failed = sum(record.status != "ok" for record in records)
        print(f"{len(records)} scans{f', {failed} of them failed' if failed else ''} -> {page}")
    return 1 if broken else 0


def _records(inputs):
    """Records of folders and sidecars, each once."""
    import os
    from pathlib import Path

    from sctseg7t.cohort import find_records, read_record
    from sctseg7t.errors import InputError

    found = {}
    for given in map(Path, inputs):
        if given.is_dir():
            some = find_records(given)
        elif given.is_file() and given.name.endswith(".json"):
            some = [read_record(given)]
        elif given.exists():
            raise InputError(f"{given}: is no folder and no sidecar; give a folder of results or a *_deepseg.json")
        else:
            raise InputError(f"{given}: does not exist; give a folder of results or a *_deepseg.json")
        found.update((os.path.realpath(record.path), record) for record in some)
    return list(found.values())


def _agreement(args):
    from sctseg7t.qc.ratings import compare_raters, describe, read_ratings

    found = compare_raters(*(read_ratings(path) for path in args.agreement))
    if args.json:
        import json

        print(json.dumps(found, indent=2))
    else:
        print(describe(found))
    return 0


def command() -> None:
    """Run the command as a process of its own."""
    process(main)


if __name__ == "__main__":
    command()
