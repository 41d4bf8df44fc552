"""How a command runs: its exit code, its errors, its end, and its progress bar."""

import argparse
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sctseg7t.errors import OutputError, UserError

_COLOURS = {"error": "1;31", "warning": "1;33", "note": "1;36"}


@dataclass(frozen=True)
class Command:
    """A command: called with its arguments, it does its work and returns the exit code.

    An error of the user's is one line on stderr, without a traceback.

    Attributes
    ----------
    parser : function
        Makes the argument parser.
    body : function
        Does the work with the parsed arguments, and returns the exit code. ``args.argv`` is what was typed.
    interrupted : str
        What is said after Ctrl-C: what is left, and how to go on.
    partial : tuple of error classes
        Errors that are the input's and give exit code 1; all others give 2.
    extra : str
        Extra of the package that holds the libraries of this command.
    at_once : bool
        End the process without taking the interpreter apart. Only where all files are closed.
    """

    parser: Callable[[], argparse.ArgumentParser]
    body: Callable[[argparse.Namespace], int]
    interrupted: str
    partial: tuple[type[UserError], ...] = ()
    extra: str = ""
    at_once: bool = False

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run with these arguments (default: those of the process); returns the exit code."""
        start = time.monotonic()
        parser = self.parser()
        argv = sys.argv[1:] if argv is None else list(argv)
        try:
            args = parser.parse_args(argv, argparse.Namespace(argv=argv))
            code = self.body(args)
            if getattr(args, "verbose", 1) > 1:
                print(f"{parser.prog}: {time.monotonic() - start:.1f} s", file=sys.stderr)
            return code
        except SystemExit as end:
            # After wrong usage, or an answer such as -help.
            return int(end.code or 0)
        except UserError as err:
            tell(f"{parser.prog}: error: {err}")
            return 1 if isinstance(err, self.partial) else 2
        except ImportError as err:
            if not self.extra:
                raise
            tell(f"{parser.prog}: error: {err}; install it: pip install 'sctseg7t[{self.extra}]'")
            return 2
        except KeyboardInterrupt as err:
            # A terminal shows ^C on a line of its own.
            first = "\n" if sys.stderr.isatty() else ""
            print(f"{first}{parser.prog}: {err if err.args else self.interrupted}", file=sys.stderr)
            # Another signal than Ctrl-C carries its number.
            return 128 + getattr(err, "number", 2)

    def process(self) -> NoReturn:
        """Run as a process of its own, and end the process."""
        # A stream that was closed by the shell (>&-) is None.
        streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper):
                # A name that the terminal cannot show must not end the command.
                stream.reconfigure(errors="backslashreplace")
        try:
            code = self()
            for stream in streams:
                stream.flush()
        except BrokenPipeError:
            # The reader of the pipe (head, less) has seen enough. Ended as by the signal, and without a word.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in streams:
                os.dup2(nowhere, stream.fileno())
            code = 141
        if self.at_once:
            os._exit(code)
        sys.exit(code)


def tell(text: str) -> None:
    """Print a line on stderr; on a terminal the word that says its weight has a colour (https://no-color.org)."""
    print(_coloured(text), file=sys.stderr, flush=True)


def _coloured(text: str) -> str:
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return text
    return re.sub(
        r"^(\S+: )?(error|warning|note):",
        lambda found: f"{found[1] or ''}\033[{_COLOURS[found[2]]}m{found[2]}:\033[0m",
        text,
    )


def make_folder(option: str, path: str | Path) -> Path:
    """Make the folder that an option names, before any work is done for it (OutputError if it cannot be written)."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as err:
        reason = err.strerror or str(err)
        raise OutputError(f"{option} {folder}: cannot be made or written ({reason}); choose another folder") from err


class Progress:
    """A progress bar on a terminal; in a pipe nothing but what is written.

    Parameters
    ----------
    total : int
        Number of steps. The bar is shown for two or more.
    shown : bool
        False shows no bar on a terminal either.
    name : str
        Written before the bar.
    """

    def __init__(self, total: int, *, shown: bool = True, name: str = "") -> None:
        self._bar: Any = None
        self._shown = shown and sys.stderr.isatty()
        self._total, self._name, self._ended = total, name, 0
        if total > 1:
            self._show()

    def _show(self):
        if self._shown:
            from tqdm import tqdm

            # Of one scan the part that is done. The mean pace: the bar's own estimate forgets slow starts.
            how: dict[str, Any] = (
                {"unit": "scan"} if self._total > 1 else {"bar_format": "{desc}{percentage:3.0f}%|{bar}| {elapsed}"}
            )
            self._bar = tqdm(total=self._total, desc=self._name or None, file=sys.stderr, smoothing=0, **how)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self) -> None:
        """One step is done."""
        self._ended += 1
        if self._bar is not None:
            self._bar.update(self._ended - self._bar.n)

    def within(self, step: str, part: float) -> None:
        """How far the step under way is: what is being done, and the part (0 to 1) that is behind."""
        if self._bar is None:
            self._show()
        if self._bar is not None:
            self._bar.set_description(step, refresh=False)
            # A whole number of scans is shown as one.
            self._bar.n = round(self._ended + part, 2) if self._total == 1 else self._bar.n
            self._bar.refresh()

    def reach(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps are done."""
        if self._bar is not None and total:
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    def write(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        if self._bar is not None:
            self._bar.write(_coloured(text), file=sys.stderr)
        else:
            tell(text)
