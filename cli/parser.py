"""The argument parser of all commands: SCT-style words, help of 80 columns, unknown options refused by name."""

import argparse
import difflib
import math
import operator
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

_CLOSING = """
exit codes: 0 all well; 1 some input failed or was left out; 2 wrong usage, or
no model or device to work with; 130 interrupted

Every word can be written with one dash or two: -help or --help.
"""


class Option:
    """An option, declared as its help shows it.

    ========================== =================================================
    ``-no-csa``                a switch
    ``-o --output FILE``       takes a value
    ``-agreement A B``         takes two
    ``-include NAME ...``      takes one or more, and can be repeated
    ``-names bids|sct``        takes one of these words
    ========================== =================================================

    Parameters
    ----------
    declared, text : str
        The option and its help.
    **settings
        Further ones of :meth:`argparse.ArgumentParser.add_argument`.
    """

    def __init__(self, declared: str, text: str, **settings: Any) -> None:
        words = declared.split()
        self.names = [word for word in words if word.startswith("-")]
        values = words[len(self.names) :]
        self.settings: dict[str, Any] = {"help": text}
        if not values:
            self.settings["action"] = "store_true"
        elif values[-1] == "...":
            self.settings |= {"nargs": "+", "action": "extend", "default": [], "metavar": values[0]}
        elif len(values) > 1:
            self.settings |= {"nargs": len(values), "metavar": tuple(values)}
        else:
            self.settings["metavar"] = values[0]
            if "|" in values[0] and values[0] == values[0].lower():
                kind = int if values[0].replace("|", "").isdigit() else str
                self.settings |= {"type": kind, "choices": [kind(word) for word in values[0].split("|")]}
        self.settings |= settings


class Answer(argparse.Action):
    """Action of an option that prints a text and ends the command.

    ``answer`` is called with the option's value, and gives the text.
    """

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, answer: Callable[[Any], str], nargs: Any = 0, **settings: Any
    ) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=nargs, **settings)
        self.answer = answer

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, option: Any = None) -> None:
        print(self.answer(values))
        parser.exit()


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that names the value of an option once: ``-o, --output FILE``."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action)
        *names, last = text.split(", ")
        return ", ".join([*(name.partition(" ")[0] for name in names), last]) if action.option_strings else text


class Parser(argparse.ArgumentParser):
    """An argument parser with words in SCT's manner.

    - Each option is declared once and understood with one dash and with two.
    - Nothing is abbreviated, and no value is glued to an option: a word that no option has is refused by name,
      with the nearest option.
    - The help ends with the exit codes.

    Parameters
    ----------
    prog, usage, description : str
    epilog : str
        Examples and notes, in lines of at most 80 characters: they are printed as they are.
    groups : dict of str to iterable of Option
        The options, by the title that they stand under in the help.
    """

    def __init__(
        self,
        prog: str,
        *,
        usage: str,
        description: str,
        epilog: str = "",
        groups: Mapping[str, Iterable[Option]] = {},
        **settings: Any,
    ) -> None:
        super().__init__(
            prog,
            usage,
            textwrap.fill(description, 79),
            epilog.lstrip("\n") + _CLOSING,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            add_help=False,
            **settings,
        )
        self.verbs: Mapping[str, Parser] = {}
        for title, options in groups.items():
            self.add_options(title, options)

    def add_options(self, title: str, options: Iterable[Option]) -> None:
        """Add a titled group of options."""
        group = self.add_argument_group(title)
        for option in options:
            action = group.add_argument(*option.names, **option.settings)
            for word in (name.lstrip("-") for name in option.names if len(name) > 2):
                self.words.update({f"-{word}": action, f"--{word}": action})

    @property
    def words(self) -> dict[str, argparse.Action]:
        """Every option by each of its names, with one dash and with two."""
        return self._option_string_actions

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore
        """Parse arguments; an unknown option ends the command before anything else is looked at."""
        args = sys.argv[1:] if args is None else list(args)
        for arg in args:
            if arg == "--" or (self.verbs and not arg.startswith("-")):
                # Values only, or a verb that knows its own options.
                break
            # A number, or a sentence such as a title that begins with a dash, is a value.
            value = not re.match(r"-[^\d.]", arg) or (" " in arg and arg[:2] not in self.words)
            if not value and arg.partition("=")[0] not in self.words:
                self.error(f"unknown option {arg}; {self._instead_of(arg.partition('=')[0])}")
        return super().parse_known_args(args, namespace)

    def _instead_of(self, name: str) -> str:
        """What may have been meant by an unknown option."""
        # An abbreviation, a longer word for it, or a value glued to it.
        kin = [known for known in self.words if known.startswith(name) or name.startswith(known)]
        kin = [known for known in kin if len(known) > 2]
        alike = difflib.get_close_matches(name, kin, 1, 0.0) or difflib.get_close_matches(name, self.words, 1)
        if alike:
            return f"did you mean {alike[0]}?"
        return f"see {self.prog} -help. A value that begins with a dash is written as in -o=-name"

    def error(self, message: str) -> NoReturn:
        """End the command with one line and exit code 2."""
        # The option first, by its first name: -thr 1.5: give ...
        message = re.sub(r"^argument ([^/:]+)[^:]*: ", r"\1 ", message)
        self.exit(2, f"{self.prog}: error: {message}\n")


def number(
    kind: type[int] | type[float] = float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Callable[[str], Any]:
    """Type of an option: a finite number, or a whole one (``int``), within the limits that are given."""
    limits = (
        ("above", operator.gt, above),
        ("at least", operator.ge, at_least),
        ("below", operator.lt, below),
        ("at most", operator.le, at_most),
    )
    given = [(f"{words} {limit:g}", within, limit) for words, within, limit in limits if limit is not None]

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and all(within(value, limit) for _, within, limit in given)):
            wanted = f"give a {'whole ' if kind is int else ''}number {' and '.join(words for words, *_ in given)}"
            raise argparse.ArgumentTypeError(f"{text}: {wanted.rstrip()}")
        return value

    return read


COUNT = number(int, at_least=1)
