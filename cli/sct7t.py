"""sct7t: list the commands, and check the installation."""

import json
from importlib import import_module

from sctseg7t.errors import UserError

from . import COMMANDS
from . import options as shared
from .parser import Option, Parser
from .run import Command, tell


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t",
        usage="%(prog)s [VERB] [options]",
        description="List the commands of sctseg7t (without a verb), or check the installation.",
        epilog="\nexamples:\n  sct7t\n  sct7t doctor\n",
    )
    verbs = p.add_subparsers(title="verbs (VERB -help tells more)", dest="verb", metavar="VERB", prog=p.prog)
    p.verbs = verbs.choices
    for body, name, text, options in (
        (_doctor, "doctor", "check versions, devices, models and write access, and segment the example", _JSON),
    ):
        verb = verbs.add_parser(
            name,
            help=text,
            usage="%(prog)s [-json]",
            description=f"{text[0].upper()}{text[1:]}. Exit code 1 if something must be mended.",
            groups={"options": [*options, shared.HELP]},
        )
        verb.set_defaults(body=body)
    p.set_defaults(body=_list)
    p.add_options("other", shared.ANSWERS)
    return p


_JSON = [Option("-json", "print JSON")]


def _list(_):
    for name in COMMANDS:
        # The docstring begins with the command's name: "sct7t_qc: make a page ...".
        program, _, does = (import_module(f".{name}", __package__).__doc__ or "").splitlines()[0].partition(": ")
        print(f"{program:15} {does}")
    print("\nCOMMAND -help tells more; sct7t doctor checks the installation.")
    return 0


def _doctor(args):
    from sctseg7t.doctor import ERROR, findings

    found = []
    for each in findings():
        found.append(each)
        if not args.json:
            print(f"{each.state:5}  {each.what:20}  {each.text}", flush=True)
    bad = sum(each.state == ERROR for each in found)
    if args.json:
        print(json.dumps([vars(each) for each in found], indent=2))
    elif bad:
        tell(f"sct7t: error: {bad} of {len(found)} things must be mended: see the lines that begin with error")
    else:
        print("\nAll is well. A note is about something that only some need.")
    return 1 if bad else 0


main = Command(parser, lambda args: args.body(args), "interrupted", partial=(UserError,))
command = main.process

if __name__ == "__main__":
    command()
