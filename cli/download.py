"""sct7t_download: list, fetch, check and pack the models and data sets of the zoo."""

import sys

from sctseg7t.errors import DownloadError, OutputError

from . import options as shared
from .parser import Parser
from .run import exit_code, process

EPILOG = """
examples:
  sct7t_download list
  sct7t_download install sct_gm_large
  sct7t_download export cord_gm_sc -o usb

environment variables:
  SCT7T_CACHE      cache folder
  SCT7T_MIRROR     folder that is looked in first
  SCT7T_OFFLINE=1  no downloads
  SCT7T_MANIFEST   another models.json
"""


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_download",
        usage="%(prog)s VERB [NAME ...] [options]",
        description="List, fetch, check and pack the models and data sets of the zoo.",
        epilog=EPILOG,
    )
    verbs = p.add_subparsers(title="verbs (VERB -help tells more)", dest="verb", metavar="VERB", required=True)
    verb = _verb(verbs, _list, "list [-json]", "show the models and data sets")
    verb.option("-json", "print JSON")
    verb = _verb(verbs, _info, "info NAME [-json]", "show one entry in full")
    _add_names(verb)
    verb.option("-json", "print JSON: what an entry of your own starts from")
    verb = _verb(verbs, _install, "install NAME [NAME ...] [-offline]", "fetch models or data sets into the cache")
    _add_names(verb, "+")
    verb.option("-offline", "use only what is on this machine")
    verb = _verb(verbs, _verify, "verify [NAME]", "check the files on this machine; fetches nothing")
    _add_names(verb, "?", "model, MODEL@VERSION or data set (default: whatever is installed)")
    verb = _verb(verbs, _prune, "prune [-dry-run]", "remove from the cache what no current version uses")
    verb.option("-dry-run", "only say what would be removed")
    usage = "export NAME [NAME ...] -o FOLDER [-offline]"
    verb = _verb(verbs, _export, usage, "copy all that models need to a folder for offline use")
    _add_names(verb, "+")
    verb.option("-o --output FOLDER", "folder to fill", required=True)
    verb.option("-offline", "use only what is on this machine")
    shared.add_other_options(p, verbose=False)
    return p


def _verb(verbs, run, usage, text):
    """Add a verb, which is the first word of its usage."""
    name = usage.partition(" ")[0]
    description = text[0].upper() + text[1:] + "."
    verb = verbs.add_parser(name, help=text, usage=f"sct7t_download {usage}", description=description)
    verb.set_defaults(run=run)
    verb.add_argument("-h", "--help", action="help", help="print this help, and stop")
    return verb


def _add_names(verb, nargs=None, text="model, MODEL@VERSION or data set"):
    verb.add_argument("names" if nargs == "+" else "name", metavar="NAME", nargs=nargs, help=text)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return exit_code(
        parser(),
        lambda args: args.run(args),
        argv,
        interrupted="interrupted; run again: the files that are complete stay",
        partial=(DownloadError, OutputError),
    )


def _list(args):
    from sctseg7t.zoo.manage import verify
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    here = {row.file: row.status for row in verify("all", manifest)}
    rows = [_row("model", s.id, s.version, s.task, s, here) for s in manifest.models]
    rows += [_row("dataset", s.name, s.commit[:10], "", s, here) for s in manifest.datasets]
    for row, spec in zip(rows, manifest.models):
        row |= {"default": spec.default, "deprecated": spec.deprecated}
    if args.json:
        return _print_json(rows)
    name, version, task = (max(len(row[key]) for row in rows) for key in ("name", "version", "task"))
    for row in rows:
        size = "size unknown" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f} MB"
        note = " (deprecated)" if row.get("deprecated") else ""
        print(
            f"{row['name']:{name}}  {row['version']:{version}}  {row['task']:{task}}  {row['status']:9}"
            f"{size:>14}  {row['description']}{note}"
        )
    return 0


def _row(kind, name, version, task, spec, here):
    states = {here[file] for file in spec.files}
    sizes = [file.bytes for file in spec.files]
    status = "-"
    if states == {"ok"}:
        status = "installed"
    elif "damaged" in states:
        status = "damaged"
    elif "ok" in states:
        status = "partial"
    return {
        "kind": kind,
        "name": name,
        "version": version,
        "task": task,
        "status": status,
        "bytes": None if None in sizes else sum(sizes),
        "description": spec.description,
    }


def _info(args):
    from sctseg7t.zoo.manage import entry, verify
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    raw = entry(manifest, args.name).raw
    if args.json:
        # The entry and nothing else: it is what an entry of one's own starts from.
        return _print_json(raw)
    rows = verify(args.name, manifest)
    _print_tree({key: value for key, value in raw.items() if value not in (None, [], {})})
    print("\nfiles on this machine:")
    for row in rows:
        print(f"  {_checked(row)}")
    return 0


def _checked(row):
    """A checked file on one line: its status, its name, and where it lies."""
    return f"{row.status:9}{row.file.path}  {row.path or ''}".rstrip()


def _install(args):
    from sctseg7t.zoo.manage import bring, parts_of
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    owners = {file: spec for name in args.names for spec in parts_of(manifest, name) for file in spec.files}
    return _for_each(owners.items(), lambda item: bring(item[1], item[0], offline=args.offline))


def _export(args):
    from sctseg7t.zoo.manage import export, files_of
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    for name in args.names:
        files_of(manifest, name)
    code = _for_each(args.names, lambda name: export(name, args.output, manifest, offline=args.offline))
    if code == 0:
        print(f"at the other site: export SCT7T_MIRROR={args.output}")
    return code


def _for_each(items, action):
    """Print the paths that ``action`` gives for each item; go on past what fails."""
    from sctseg7t.errors import ModelError

    failed = 0
    for item in items:
        try:
            for path in action(item):
                print(path)
        except (DownloadError, ModelError) as error:
            failed += 1
            print(f"sct7t_download: error: {error}", file=sys.stderr)
    return 1 if failed else 0


def _verify(args):
    from pathlib import Path

    from sctseg7t.zoo.manage import verify, verify_converted

    rows = verify(args.name or "all")
    if args.name is None:
        # Not every model has to be installed: absent ones are no fault.
        rows = [row for row in rows if row.status != "missing"]
    for row in rows:
        print(_checked(row))
    made = verify_converted(args.name or "all")
    for row in made:
        print(f"{row.status:9}{Path(str(row.path)).name} (from {row.file.name})  {row.path}")
    rows += made
    bad = [row for row in rows if row.status != "ok"]
    if bad:
        print(
            f"sct7t_download: error: {len(bad)} of {len(rows)} files are damaged or missing; "
            "'sct7t_download install NAME' fetches them again",
            file=sys.stderr,
        )
    elif not rows:
        print("nothing is installed")
    return 1 if bad else 0


def _prune(args):
    from sctseg7t.zoo.manage import prune

    removed = prune(dry_run=args.dry_run)
    for row in removed:
        print(row.path)
    word = "would be freed" if args.dry_run else "freed"
    print(f"{sum(row.bytes for row in removed) / 1e6:.1f} MB {word}")
    return 0


def _print_json(value):
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
    return 0


def _print_tree(value, indent=0):
    pad = " " * indent
    for key, item in value.items():
        if isinstance(item, dict):
            print(f"{pad}{key}:")
            _print_tree(item, indent + 2)
        elif isinstance(item, list) and any(isinstance(part, dict) for part in item):
            print(f"{pad}{key}:")
            for part in item:
                print(f"{pad}  - " + ", ".join(f"{k}: {v}" for k, v in part.items()))
        elif isinstance(item, list):
            print(f"{pad}{key}: {', '.join(map(str, item))}")
        else:
            print(f"{pad}{key}: {item}")


def command() -> None:
    """Run the command as a process of its own."""
    process(main)


if __name__ == "__main__":
    command()
