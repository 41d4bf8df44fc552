"""sct7t_qc: make the quality-control page of segmented scans, or compare two raters."""

import argparse
import sys

from sctseg7t.cli.options import add_version_option, exit_code

EPILOG = """examples:
  sct7t_qc -i results -o results/qc
  sct7t_qc -i results/t2s_deepseg.json -o qc
  sct7t_qc -agreement qc_ratings_ann.json qc_ratings_bob.json

exit codes: 0 all well; 1 some record cannot be read (the page is written and says which);
2 wrong usage, or nothing to show; 130 interrupted
"""


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_qc",
        description="Make the quality-control page of segmented scans: every saved mask over its scan, the most "
        "unusual first, to be rated in a browser without a network. Research use only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument(
        "-i", "--input", nargs="+", metavar="OUT", help="folders of results, searched to their depth, or *_deepseg.json"
    )
    p.add_argument(
        "-o", "--output", metavar="FOLDER", help="folder of the page; scans that it shows already stay on it"
    )
    p.add_argument("-title", "--title", metavar="TEXT", help="title of the page (default: that it has, or QC)")
    p.add_argument(
        "-per-page",
        "--per-page",
        type=int,
        default=200,
        metavar="N",
        help="more scans than this make several pages and an index (default 200)",
    )
    p.add_argument("-fresh", "--fresh", action="store_true", help="leave out the scans that the page shows already")
    p.add_argument(
        "-agreement",
        "--agreement",
        nargs=2,
        metavar=("A", "B"),
        help="compare two raters' exports (JSON or CSV) and stop: Cohen's kappa, and weighted kappa of the ratings 1-4",
    )
    p.add_argument("-json", "--json", action="store_true", help="with -agreement: print JSON")
    p.add_argument("-v", "--verbose", type=int, choices=(0, 1), default=1, help="0 errors only, 1 normal (default)")
    add_version_option(p)
    return p


def main(argv=None):
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_args(argv)
    return exit_code("sct7t_qc", lambda: _run(p, args), "interrupted; an earlier page is as it was")


def _run(p, args):
    if args.agreement:
        return _agreement(args)
    if not (args.input and args.output):
        p.error("-i and -o are required: sct7t_qc -i results -o qc")
    if args.per_page < 1:
        p.error(f"-per-page {args.per_page}: must be 1 or more")
    return _page(args)


def _page(args):
    from sctseg7t.errors import InputError
    from sctseg7t.qc import write_page

    records = _records(args.input)
    if not records:
        raise InputError(f"{', '.join(args.input)}: no results here (*_deepseg.json); run sct7t_deepseg first")
    page = write_page(
        records, args.output, title=args.title, per_page=args.per_page, fresh=args.fresh, progress=_progress(args)
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


def _progress(args):
    if not (args.verbose and sys.stderr.isatty()):
        return None
    from tqdm import tqdm

    bar = tqdm(unit="scan", file=sys.stderr)

    def show(done, total):
        bar.total = total
        bar.update(1)
        if done == total:
            bar.close()

    return show


def _agreement(args):
    from sctseg7t.qc.ratings import compare_raters, describe, read_ratings

    found = compare_raters(*(read_ratings(path) for path in args.agreement))
    if args.json:
        import json

        print(json.dumps(found, indent=2))
    else:
        print(describe(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
