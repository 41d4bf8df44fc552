"""The argument parser of all commands: SCT-style words, help within the terminal, unknown options by name."""

import argparse
import difflib
import itertools
import math
import operator
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

EXIT_CODES = (
    "exit codes: 0 all well; 1 some input failed or was left out; 2 wrong usage, or no model or device to work with; "
    "130 interrupted"
)
_BOTH_FORMS = "Every word can be written with one dash or two: -help or --help."


def both_forms(names: Sequence[str]) -> list[str]:
    """Names of an option in all forms: ``-thr`` also as ``--thr``, ``--input`` also as ``-input``."""
    forms = list(names)
    for name in names:
        word = name.lstrip("-")
        if name.startswith("-") and len(word) > 1:
            forms += [form for form in (f"-{word}", f"--{word}") if form not in forms]
    return forms


class HelpFormatter(argparse.HelpFormatter):
    """Help that names each option once, refills paragraphs and leaves indented lines (examples) as they are."""

    def __init__(self, prog: str, **settings: Any) -> None:
        width = min(shutil.get_terminal_size().columns, 100) - 2
        super().__init__(prog, max_help_position=24, width=width, **settings)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        # One form of each word: the first one given.
        words = {name.lstrip("-"): name for name in reversed(action.option_strings)}
        names = ", ".join(name for name in action.option_strings if name in words.values())
        value = "" if action.nargs == 0 else self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{names} {value}".rstrip()

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for kept, group in itertools.groupby(text.splitlines(), key=lambda line: line[:1] in ("", " ")):
            some = list(group)
            lines += some if kept else textwrap.wrap(" ".join(some), width, break_on_hyphens=False)
        return "\n".join(indent + line for line in lines)


class Options(argparse._ActionsContainer):
    """What options are added to: a parser, or a titled group of its options."""

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Add an argument; ``-thr`` is enough, ``--thr`` comes by itself."""
        return super().add_argument(*both_forms(names), **settings)

    def option(self, declared: str, text: str, **settings: Any) -> argparse.Action:
        """Add an option, declared as its help shows it.

        ========================== =================================================
        ``-no-csa``                a switch
        ``-o --output FILE``       takes a value
        ``-agreement A B``         takes two
        ``-include NAME ...``      takes one or more, and can be repeated
        ``-names bids|sct``        takes one of these words
        ========================== =================================================
        """
        words = declared.split()
        names = [word for word in words if word.startswith("-")]
        values = words[len(names) :]
        if not values:
            settings.setdefault("action", "store_true")
        elif values[-1] == "...":
            settings |= {"nargs": "+", "action": "extend", "default": [], "metavar": values[0]}
        elif len(values) > 1:
            settings |= {"nargs": len(values), "metavar": tuple(values)}
        else:
            settings["metavar"] = values[0]
            if "|" in values[0] and values[0] == values[0].lower():
                kind = int if values[0].replace("|", "").isdigit() else str
                settings |= {"type": kind, "choices": [kind(word) for word in values[0].split("|")]}
        return self.add_argument(*names, help=text, **settings)


class Group(Options, argparse._ArgumentGroup):
    """A titled group of options."""


class Answer(argparse.Action):
    """An option that prints an answer and ends the command, such as ``-version``.

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


class Parser(Options, argparse.ArgumentParser):
    """An argument parser with words in SCT's manner.

    - Each option is declared once and understood with one dash and with two.
    - Nothing is abbreviated, and no value is glued to an option: a word that no option has is refused by name,
      with the nearest option.
    - The help names each option once, fits the terminal, and ends with the exit codes.

    Parameters
    ----------
    prog, usage, description : str
    epilog : str
        Examples and notes. Indented lines are printed as they are.
    renamed : dict, optional
        Options of earlier versions: name to what is written instead.
    """

    def __init__(
        self,
        prog: str | None = None,
        *,
        usage: str | None = None,
        description: str | None = None,
        epilog: str = "",
        renamed: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog="\n\n".join(part for part in (epilog.strip("\n"), EXIT_CODES, _BOTH_FORMS) if part),
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            add_help=False,
            **settings,
        )
        self.renamed = renamed or {}
        self.verbs: Any = None

    def add_argument_group(self, *titles: Any, **settings: Any) -> Group:
        """Add a titled group of options."""
        group = Group(self, *titles, **settings)
        self._action_groups.append(group)
        return group

    def add_subparsers(self, **settings: Any) -> Any:
        """Add verbs, such as ``list`` and ``install``."""
        self.verbs = super().add_subparsers(prog=self.prog, **settings)
        return self.verbs

    def actions(self) -> list[argparse.Action]:
        """All options and arguments of the command, but not those of its verbs."""
        return list(self._actions)

    def options(self) -> dict[str, argparse.Action]:
        """Every option by each of its names."""
        return dict(self._option_string_actions)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore
        """Parse arguments; an unknown option ends the command before anything else is looked at."""
        args = sys.argv[1:] if args is None else [str(arg) for arg in args]
        self._refuse_unknown(args)
        return super().parse_known_args(args, namespace)

    def _refuse_unknown(self, args: list[str]) -> None:
        options = self.options()
        for arg in args:
            if arg == "--" or (self.verbs and not arg.startswith("-")):
                # Values only, or a verb that knows its own options.
                return
            if not re.match(r"-[^\d.]", arg) or arg.partition("=")[0] in options:
                continue
            if " " in arg and arg[:2] not in options:
                # A sentence, such as a title that begins with a dash.
                continue
            self.error(f"unknown option {arg}; {self._instead_of(arg)}")

    def _instead_of(self, arg: str) -> str:
        """What may have been meant by an unknown option."""
        name = arg.partition("=")[0]
        if name in self.renamed:
            return f"write {self.renamed[name]}"
        options = self.options()
        glued = max((known for known in options if re.match(re.escape(known) + r"[\d.]", arg)), key=len, default="")
        if glued:
            return f"write {glued} {arg[len(glued) :]}"
        # An abbreviation, or a longer word for it.
        word = name.lstrip("-")
        kin = [known for known in options if word[:3] == known.lstrip("-")[:3] and len(word) > 2]
        kin = [known for known in kin if known.startswith(name) or name.startswith(known)]
        alike = difflib.get_close_matches(name, kin, 1, 0.0) or difflib.get_close_matches(name, options, 1)
        if alike:
            return f"did you mean {alike[0]}?"
        return f"see {self.prog} -help. A value that begins with a dash is written as in -o=-name"

    def error(self, message: str) -> NoReturn:
        """End the command with one line and exit code 2."""
        missing = re.match(r"the following arguments are required: (.*)", message)
        if missing:
            names = " and ".join(_first_form(option) for option in missing[1].split(", "))
            verb = "are" if " and " in names else "is"
            message = f"{names} {verb} required: {(self.usage or '%(prog)s') % {'prog': self.prog}}"
        of_option = re.match(r"argument ([^:]+): (.*)", message, re.DOTALL)
        if of_option:
            option, problem = of_option.groups()
            # A check of ours begins with the value: -thr 1.5: give ...
            colon = ":" if problem.startswith(("expected", "invalid", "ignored", "not allowed")) else ""
            message = f"{_first_form(option)}{colon} {problem}"
        self.exit(2, f"{self.prog}: error: {message}\n")


def _first_form(option: str) -> str:
    """The first of the forms of an option, which argparse lists as in -thr/--thr."""
    return option.partition("/")[0]


def whole_number(lowest: int = 1) -> Callable[[str], int]:
    """Type of an option: a whole number, ``lowest`` or more."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{text}: give a whole number, {lowest} or more")
        return value

    return read


def number(
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Callable[[str], float]:
    """Type of an option: a finite number within the limits that are given."""
    limits = [
        (f"{word} {limit:g}", limit, within)
        for word, limit, within in (
            ("above", above, operator.gt),
            ("at least", at_least, operator.ge),
            ("below", below, operator.lt),
            ("at most", at_most, operator.le),
        )
        if limit is not None
    ]

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and all(within(value, limit) for _, limit, within in limits)):
            wanted = " and ".join(words for words, _, _ in limits)
            raise argparse.ArgumentTypeError(f"{text}: give a number {wanted}".rstrip())
        return value

    return read
