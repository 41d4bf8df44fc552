"""sct7t_download: list, fetch, check and pack the models and data sets of the zoo."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from sctseg7t.errors import DownloadError, ModelError, OutputError

from . import options as shared
from .parser import Option, Parser
from .run import Command, make_folder

EPILOG = """
examples:
  sct7t_download list
  sct7t_download install sct_gm_large
  sct7t_download export cord_gm_sc -o usb
  sct7t_download example
  sct7t_download publish runs/mine -o zoo -licence CC-BY-4.0
  sct7t_download add https://lab.example.org/zoo

environment variables:
  SCT7T_CACHE      cache folder
  SCT7T_MIRROR     folder that is looked in first
  SCT7T_OFFLINE=1  no downloads
  SCT7T_MANIFEST   another models.json
  SCT7T_ZOOS       folder of added zoos (default ~/.sctseg7t/zoos)
"""


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_download",
        usage="%(prog)s VERB [NAME ...] [options]",
        description="List, fetch, check and pack the models and data sets of the zoo.",
        epilog=EPILOG,
    )
    title = "verbs (VERB -help tells more)"
    verbs = p.add_subparsers(title=title, dest="verb", metavar="VERB", required=True, prog=p.prog)
    p.verbs = verbs.choices
    as_json = Option("-json", "print JSON; of info: what an entry of your own starts from")
    offline = Option("-offline", "use only what is on this machine")
    output = Option("-o --output FOLDER", "folder to fill", required=True)
    licence = Option("-licence TEXT", "licence of models whose entry states none")
    called = Option("-as NAME", "what the zoo is called here (default: the last part of its address)", dest="called")
    dry_run = Option("-dry-run", "only say what would be removed")
    # What a verb does, its usage, its help, how many names it takes (None: none), and its options.
    for body, usage, text, names, options in (
        (_list, "list [-json]", "show the models and data sets", None, [as_json]),
        (_info, "info NAME [-json]", "show one entry in full", 1, [as_json]),
        (_install, "install NAME [NAME ...] [-offline]", "fetch models or data sets into the cache", "+", [offline]),
        (_verify, "verify [NAME]", "check the files on this machine, or those of NAME; fetches nothing", "?", []),
        (_prune, "prune [-dry-run]", "remove from the cache what no current version uses", None, [dry_run]),
        (
            _publish,
            "publish MODEL [MODEL ...] -o FOLDER [-licence TEXT]",
            "write exported models (.onnx, or folders of runs) into a folder that others can add as a zoo",
            "+",
            [output, licence],
        ),
        (_add, "add ZOO [-as NAME]", "know the models of a zoo: a folder, or an https address", 1, [called]),
        (_remove, "remove NAME", "forget a zoo that was added", 1, []),
        (
            _export,
            "export NAME [NAME ...] -o FOLDER [-offline]",
            "copy all that models need to a folder for offline use",
            "+",
            [output, offline],
        ),
        (
            _example,
            "example [-o FOLDER]",
            "copy the example scan, which comes with the package, with the masks it was simulated from",
            None,
            [Option("-o --output FOLDER", "folder to fill (default: example)", default="example")],
        ),
    ):
        verb = verbs.add_parser(
            usage.partition(" ")[0],
            help=text,
            usage=f"%(prog)s {usage.partition(' ')[2]}",
            description=f"{text[0].upper()}{text[1:]}.",
            groups={"options": [*options, shared.HELP]},
        )
        verb.set_defaults(body=body)
        if names:
            verb.add_argument("names", metavar="NAME", nargs=names, help="model, MODEL@VERSION or data set")
    p.add_options("other", shared.ANSWERS)
    return p


def _list(args):
    from sctseg7t.zoo.manage import verify
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    here = {row.file: row.status for row in verify("all", manifest)}
    rows = [
        _row("model", s.id, s.version, s.task, s, here, default=s.default, deprecated=s.deprecated)
        for s in manifest.models
    ]
    rows += [_row("dataset", s.name, s.commit[:10], "", s, here) for s in manifest.datasets]
    if args.json:
        return _print_json(rows)
    name, version, task = (max(len(row[key]) for row in rows) for key in ("name", "version", "task"))
    # A terminal shows a row a model; a pipe gets all of it.
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows:
        size = "size unknown" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f} MB"
        note = " (deprecated)" if row.get("deprecated") else ""
        line = (
            f"{row['name']:{name}}  {row['version']:{version}}  {row['task']:{task}}  {row['status']:9}"
            f"{size:>14}  {row['description']}{note}"
        )
        print(line[:limit])
    return 0


def _row(kind, name, version, task, spec, here, **more) -> dict[str, Any]:
    states = {here[file] for file in spec.files}
    sizes = [file.bytes for file in spec.files]
    status = "damaged" if "damaged" in states else "partial" if "ok" in states else "-"
    return {
        "kind": kind,
        "name": name,
        "version": version,
        "task": task,
        "status": "installed" if states == {"ok"} else status,
        "bytes": None if None in sizes else sum(sizes),
        "description": spec.description,
        **more,
    }


def _info(args):
    from sctseg7t.zoo.manage import entry, verify
    from sctseg7t.zoo.manifest import load_manifest

    manifest, (name,) = load_manifest(), args.names
    raw = entry(manifest, name).raw
    if args.json:
        # The entry and nothing else: it is what an entry of one's own starts from.
        return _print_json(raw)
    _print_tree({key: value for key, value in raw.items() if value not in (None, [], {})})
    print("\nfiles on this machine:")
    for row in verify(name, manifest):
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
        # A wrong name is told before anything is copied.
        files_of(manifest, name)
    code = _for_each(args.names, lambda name: export(name, args.output, manifest, offline=args.offline))
    if code == 0:
        print(f"at the other site: export SCT7T_MIRROR={args.output}")
    return code


def _publish(args):
    from sctseg7t.zoo.share import publish

    written = publish(args.names, args.output, licence=args.licence)
    print(*written, sep="\n")
    print(f"put the folder where others reach it; they add it: sct7t_download add {args.output}")
    return 0


def _add(args):
    from sctseg7t.zoo.share import add

    kept, models = add(args.names[0], args.called)
    print(*models, sep="\n")
    print(f"kept in {kept}; 'sct7t_download remove {kept.stem}' forgets it")
    return 0


def _remove(args):
    from sctseg7t.zoo.share import remove

    print(remove(args.names[0]))
    return 0


def _for_each(items, action):
    """Print the paths that ``action`` gives for each item; go on past what fails."""
    code = 0
    for item in items:
        try:
            print(*action(item), sep="\n")
        except (DownloadError, ModelError) as error:
            code = 1
            print(f"sct7t_download: error: {error}", file=sys.stderr)
    return code


def _verify(args):
    from sctseg7t.zoo.manage import verify, verify_converted

    name = args.names or "all"
    # Not every model has to be installed: absent ones are no fault.
    rows = [row for row in verify(name) if args.names or row.status != "missing"]
    made = verify_converted(name)
    for row in rows:
        print(_checked(row))
    for row in made:
        print(f"{row.status:9}{Path(str(row.path)).name} (from {row.file.name})  {row.path}")
    bad = [row for row in rows + made if row.status != "ok"]
    if bad:
        print(
            f"sct7t_download: error: {len(bad)} of {len(rows + made)} files are damaged or missing; "
            "'sct7t_download install NAME' fetches them again",
            file=sys.stderr,
        )
    elif not rows + made:
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


def _example(args):
    from sctseg7t.doctor import EXAMPLE
    from sctseg7t.files import write_bytes

    folder = make_folder("-o", args.output)
    sources = sorted(path for path in EXAMPLE.iterdir() if path.is_file() and path.suffix != ".py")
    for source in sources:
        target = folder / source.name
        if target.exists() and target.read_bytes() != source.read_bytes():
            raise OutputError(f"{target}: is there, and is another file; give another folder with -o")
    for source in sources:
        print(write_bytes(folder / source.name, source.read_bytes()))
    print(f"segment it: sct7t_deepseg -i {folder / 't2s.nii.gz'} -c gm_sc", file=sys.stderr)
    return 0


def _print_json(value):
    print(json.dumps(value, indent=2, ensure_ascii=False))
    return 0


def _print_tree(value, indent=0):
    """Print an entry: a line a key, what a key holds below it."""
    pad = " " * indent
    for key, item in value.items():
        items = item if isinstance(item, list) else [item]
        if isinstance(item, dict):
            print(f"{pad}{key}:")
            _print_tree(item, indent + 2)
        elif any(isinstance(part, dict) for part in items):
            print(f"{pad}{key}:")
            for part in items:
                print(f"{pad}  - " + ", ".join(f"{k}: {v}" for k, v in part.items()))
        else:
            print(f"{pad}{key}: {', '.join(map(str, items))}")


main = Command(
    parser,
    lambda args: args.body(args),
    "interrupted; run again: the files that are complete stay",
    partial=(DownloadError, OutputError),
)
command = main.process

if __name__ == "__main__":
    command()
