"""Shell completion of all commands, written from their parsers: scripts for bash, zsh and fish."""

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from . import COMMANDS
from .parser import Parser


@dataclass(frozen=True)
class Option:
    """One option as a shell sees it."""

    names: tuple[str, ...]
    takes_value: bool
    choices: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Command:
    """One command as a shell sees it; ``first`` are the words that its first argument can be."""

    name: str
    first: tuple[str, ...]
    options: tuple[Option, ...]


def script(shell: str) -> str:
    """The script that makes ``shell`` (bash, zsh or fish) complete the options of all commands."""
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    head = ["(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"] if shell == "zsh" else []
    return "\n".join([*head, *(line for name in COMMANDS for line in lines(_command(name)))])


def _command(name: str) -> Command:
    parser: Parser = importlib.import_module(f".{name}", __package__).parser()
    verbs = parser.verbs.choices if parser.verbs else {}
    # The options of all verbs together: a shell offers some too many rather than none.
    actions = [action for each in (parser, *verbs.values()) for action in each.actions()]
    first = next((action.choices for action in actions if not action.option_strings and action.choices), ())
    options = {action.option_strings[0]: _option(action) for action in actions if action.option_strings}
    return Command(f"sct7t_{name}", tuple(first), tuple(options.values()))


def _option(action: argparse.Action) -> Option:
    # The first clause of the help.
    text = re.split(r"; | \(", (action.help or "").replace("%%", "%"))[0].strip()
    return Option(tuple(action.option_strings), action.nargs != 0, tuple(map(str, action.choices or ())), text)


def _bash(command: Command) -> Iterator[str]:
    # Where nothing is offered, bash completes file names.
    yield f"_{command.name}() {{"
    yield "  COMPREPLY=()"
    yield "  case $3 in"
    for option in command.options:
        if option.takes_value:
            words = f'COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$2")); ' if option.choices else ""
            yield f"    {'|'.join(option.names)}) {words}return ;;"
    yield "  esac"
    if command.first:
        yield f'  [[ $COMP_CWORD == 1 ]] && COMPREPLY=($(compgen -W "{" ".join(command.first)}" -- "$2"))'
    names = " ".join(name for option in command.options for name in option.names)
    yield f'  [[ $2 == -* ]] && COMPREPLY=($(compgen -W "{names}" -- "$2"))'
    yield "}"
    yield f"complete -o default -F _{command.name} {command.name}"


def _zsh(command: Command) -> Iterator[str]:
    yield f"_{command.name}() {{"
    yield "  _arguments \\"
    if command.first:
        yield f"    '1:first:({' '.join(command.first)})' \\"
    for option in command.options:
        text = re.sub(r"([\[\]:\\])", r"\\\1", option.text)
        values = f"({' '.join(option.choices)})" if option.choices else "_files"
        for name in option.names:
            yield f"    {shlex.quote(f'*{name}[{text}]' + f':value:{values}' * option.takes_value)} \\"
    yield "    '*:file:_files'"
    yield "}"
    yield f"compdef _{command.name} {command.name}"


def _fish(command: Command) -> Iterator[str]:
    if command.first:
        yield f"complete -c {command.name} -n __fish_is_first_arg -x -a '{' '.join(command.first)}'"
    for option in command.options:
        # Single letters are old-style words too (-o): otherwise -csa-format would be -c with a value.
        names = " ".join(f"{'-l' if name.startswith('--') else '-o'} {name.lstrip('-')}" for name in option.names)
        value = f" -x -a '{' '.join(option.choices)}'" if option.choices else " -r -F" if option.takes_value else ""
        yield f"complete -c {command.name} {names} -d {shlex.quote(option.text)}{value}"
