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
    """One option as a shell sees it; ``words`` are values to offer, ``only`` says that there are no others."""

    names: tuple[str, ...]
    takes_value: bool
    words: tuple[str, ...]
    only: bool
    text: str


@dataclass(frozen=True)
class Command:
    """One command as a shell sees it; ``first`` and ``later`` are words that its arguments can be."""

    name: str
    first: tuple[str, ...]
    later: tuple[str, ...]
    options: tuple[Option, ...]


def script(shell: str) -> str:
    """The script that makes ``shell`` (bash, zsh or fish) complete the options of all commands."""
    head, lines = {
        "bash": ([], _bash),
        "zsh": (["(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"], _zsh),
        "fish": ([], _fish),
    }[shell]
    known = _known()
    return "\n".join([*head, *(line for name in COMMANDS for line in lines(_command(name, known)))])


def _known() -> dict[str, tuple[str, ...]]:
    """What the zoo offers: values of arguments, by their names in the parsers."""
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    models = tuple(dict.fromkeys(spec.id for spec in manifest.models))
    names = (*models, *(spec.name for spec in manifest.datasets))
    tasks = tuple(name for name, entry in manifest.tasks().items() if entry["outputs"])
    return {"task": tasks, "model": models, "name": names, "names": names}


def _command(name: str, known: dict[str, tuple[str, ...]]) -> Command:
    parser: Parser = importlib.import_module(f".{name}", __package__).parser()
    verbs = parser.verbs.choices if parser.verbs else {}
    # The options of all verbs together: a shell offers some too many rather than none.
    actions = [action for each in (parser, *verbs.values()) for action in each.actions()]
    arguments = [action for action in actions if not action.option_strings]
    first = next((action.choices for action in arguments if action.choices), ())
    later = next((known[action.dest] for action in arguments if action.dest in known), ())
    options = {action.option_strings[0]: _option(action, known) for action in actions if action.option_strings}
    return Command(f"sct7t_{name}", tuple(first), later, tuple(options.values()))


def _option(action: argparse.Action, known: dict[str, tuple[str, ...]]) -> Option:
    # The first clause of the help.
    text = re.split(r"; | \(", (action.help or "").replace("%%", "%"))[0].strip()
    choices = tuple(map(str, action.choices or ()))
    words = choices or known.get(action.dest, ())
    return Option(tuple(action.option_strings), action.nargs != 0, words, bool(choices), text)


def _bash(command: Command) -> Iterator[str]:
    def offer(words):
        return f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$2"))'

    # Where nothing is offered, bash completes file names.
    yield f"_{command.name}() {{"
    yield "  COMPREPLY=()"
    yield "  case $3 in"
    for option in command.options:
        if option.takes_value:
            words = f"{offer(option.words)}; " if option.words else ""
            yield f"    {'|'.join(option.names)}) {words}return ;;"
    yield "  esac"
    yield f"  if [[ $2 == -* ]]; then {offer(name for option in command.options for name in option.names)}"
    if command.first:
        yield f"  elif [[ $COMP_CWORD == 1 ]]; then {offer(command.first)}"
    if command.later:
        yield f"  else {offer(command.later)}"
    yield "  fi"
    yield "}"
    yield f"complete -o default -F _{command.name} {command.name}"


def _zsh(command: Command) -> Iterator[str]:
    yield f"_{command.name}() {{"
    yield "  _arguments \\"
    if command.first:
        yield f"    '1:first:({' '.join(command.first)})' \\"
    for option in command.options:
        text = re.sub(r"([\[\]:\\])", r"\\\1", option.text)
        values = f"({' '.join(option.words)})" if option.words else "_files"
        if option.words and not option.only:
            values = f"{{compadd {' '.join(option.words)}; _files}}"
        for name in option.names:
            yield f"    {shlex.quote(f'*{name}[{text}]' + f':value:{values}' * option.takes_value)} \\"
    later = f"({' '.join(command.later)})" if command.later else "_files"
    yield f"    '*:name:{later}'"
    yield "}"
    yield f"compdef _{command.name} {command.name}"


def _fish(command: Command) -> Iterator[str]:
    if command.first:
        yield f"complete -c {command.name} -n __fish_is_first_arg -x -a '{' '.join(command.first)}'"
    if command.later:
        yield f"complete -c {command.name} -n 'not __fish_is_first_arg' -a '{' '.join(command.later)}'"
    for option in command.options:
        # Single letters are old-style words too (-o): otherwise -csa-format would be -c with a value.
        names = " ".join(f"{'-l' if name.startswith('--') else '-o'} {name.lstrip('-')}" for name in option.names)
        value = (" -x" if option.only else " -r -F") if option.takes_value else ""
        offered = f" -a '{' '.join(option.words)}'" if option.words else ""
        yield f"complete -c {command.name} {names} -d {shlex.quote(option.text)}{value}{offered}"
