"""How a command runs: its exit code, its errors, its end, and its progress bar."""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sctseg7t.errors import OutputError, UserError


def exit_code(
    parser: argparse.ArgumentParser,
    body: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
    *,
    interrupted: str,
    partial: tuple[type[UserError], ...] = (),
    extra: str = "",
) -> int:
    """Parse the arguments and run a command's body; returns the exit code.

    An error of the user's is one line on stderr, without a traceback.

    Parameters
    ----------
    body : function
        Does the work with the parsed arguments, and returns the exit code.
    argv : list of str, or None
        The arguments (default: those of the process).
    interrupted : str
        What is said after Ctrl-C: what is left, and how to go on.
    partial : tuple of error classes
        Errors that are the input's and give exit code 1; all others give 2.
    extra : str
        Extra of the package that holds the libraries of this command.
    """
    start = time.monotonic()
    try:
        try:
            args = parser.parse_args(argv)
        except SystemExit as end:
            # After wrong usage, or an answer such as -help.
            return int(end.code or 0)
        code = body(args)
        if getattr(args, "verbose", 1) > 1:
            print(f"{parser.prog}: {time.monotonic() - start:.1f} s", file=sys.stderr)
        return code
    except UserError as err:
        print(f"{parser.prog}: error: {err}", file=sys.stderr)
        return 1 if isinstance(err, partial) else 2
    except ImportError as err:
        if not extra:
            raise
        print(f"{parser.prog}: error: {err}; install it: pip install 'sctseg7t[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt as err:
        # A terminal shows ^C on a line of its own.
        first = "\n" if sys.stderr.isatty() else ""
        print(f"{first}{parser.prog}: {err if err.args else interrupted}", file=sys.stderr)
        # Another signal than Ctrl-C carries its number.
        return 128 + getattr(err, "number", 2)


def process(main: Callable[[], int], *, at_once: bool = False) -> NoReturn:
    """Run a command as a process of its own, and end the process.

    Parameters
    ----------
    main : function
        The command; returns the exit code.
    at_once : bool
        Do not take the interpreter apart. Use it only where all files are closed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show must not end the command.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        for stream in (sys.stdout, sys.stderr):
            # A stream that was closed by the shell (>&-) is None.
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        # The reader of the pipe (head, less) has seen enough. Ended as by the signal, and without a word.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            os.dup2(nowhere, stream.fileno())
        code = 141
    if at_once:
        os._exit(code)
    sys.exit(code)


def make_folder(option: str, path: str | Path) -> Path:
    """Make the folder that an option names, before any work is done for it (OutputError if it cannot be written)."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{option} {folder}: cannot be made ({err.strerror or err}); choose another folder") from err
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{option} {folder}: cannot be written; choose another folder")
    return folder


class Progress:
    """A progress bar on a terminal; in a pipe nothing but what is written.

    Parameters
    ----------
    total : int
        Number of steps. The bar is shown for two or more.
    shown : bool
        False shows no bar on a terminal either.
    """

    def __init__(self, total: int, *, shown: bool = True, unit: str = "scan") -> None:
        self._bar: Any = None
        if shown and total > 1 and sys.stderr.isatty():
            from tqdm import tqdm

            # The mean pace: the bar's own estimate forgets slow starts.
            self._bar = tqdm(total=total, unit=unit, file=sys.stderr, smoothing=0)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, *_: object) -> None:
        """One step is done. Arguments are ignored, so that it can be a callback."""
        if self._bar is not None:
            self._bar.update()

    def reach(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps are done."""
        if self._bar is not None and total:
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    def write(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is, and go to the next line."""
        if self._bar is not None:
            self._bar.close()
