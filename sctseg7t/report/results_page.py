"""A results page: what a benchmark printed, below what printed it: command, date, version, models and machine.

A benchmark ends with ``sys.exit(run(main, __doc__, "Title"))``. Called with ``-page docs/results/NAME.md`` it also
writes that page. Nobody edits such a page: the next run replaces it whole.
"""

import contextlib
import datetime
import importlib.metadata
import io
import os
import platform
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sctseg7t.files import write_bytes
from sctseg7t.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPTION = "-page"
# The page that is being written: its path, and the models that were named.
_current: list[Path] = []
_models: dict[str, None] = {}


def run(main: Callable[[], int | None], doc: str, title: str) -> int:
    """Run a benchmark; with ``-page FILE.md`` among the arguments, write its page too.

    Parameters
    ----------
    main : function
        Reads ``sys.argv``, prints, and returns the exit code.
    doc : str
        The script's docstring. Its text below the first line, without the lines of code, is the page's introduction.
    title : str
        Of the page.

    Returns
    -------
    int
        The exit code. Only a benchmark that ends with 0 leaves a page.
    """
    argv = sys.argv[1:]
    if {"-h", "-help", "--help"} & set(argv):
        print(f"{OPTION} FILE.md: also write a page of what is printed, with date, version, models and machine\n")
    if OPTION not in argv:
        return main() or 0
    place = argv.index(OPTION)
    if place + 1 == len(argv) or not argv[place + 1].endswith(".md"):
        print(f"{OPTION}: name the page, as in {OPTION} docs/results/accuracy.md", file=sys.stderr)
        return 2
    path = Path(argv[place + 1])
    sys.argv[1:] = argv[:place] + argv[place + 2 :]
    command = shlex.join([_shown(word) for word in ("python", sys.argv[0], *argv)])
    _current[:], printed = [path], io.StringIO()
    _models.clear()
    try:
        with contextlib.redirect_stdout(_Tee(sys.stdout, printed)):
            code = main() or 0
    finally:
        _current.clear()
    if code == 0:
        origin = "\n".join(f"- {what}: {text}" for what, text in _origin(command))
        parts = [f"# {title}", _NOTE, origin, _introduction(doc)]
        write_bytes(path, ("\n\n".join([*parts, as_markdown(printed.getvalue())]) + "\n").encode())
        print(path, file=sys.stderr)
    return code


_NOTE = "<!-- Written by the command below. Do not edit: the next run replaces it. -->"


class _Tee(io.TextIOBase):
    """Two streams in one."""

    def __init__(self, *streams: Any) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


def name_models(*models: Any) -> None:
    """Say which models the figures are of: tasks, models of the zoo, .onnx files, or entries' specs."""
    from sctseg7t.inference.pipeline import choose_model
    from sctseg7t.zoo.manifest import load_manifest

    for model in models:
        if isinstance(model, str):
            task = model in load_manifest().tasks()
            model = choose_model(model if task else None, None if task else model).spec
        file = model.files[0]
        _models[f"{model.id} {model.version} ({file.algorithm} {file.digest[:12]})"] = None


def figure(drawn: "Figure", name: str, text: str, *, dpi: int = 150) -> None:
    """Put a figure beside the page, and on it. Without a page it is dropped.

    Parameters
    ----------
    drawn : matplotlib.figure.Figure
    name : str
        Of the file, without suffix.
    text : str
        What it shows: for those who cannot see it, and as the caption.
    """
    from sctseg7t.report import plotting

    for page in _current:
        plotting.save(drawn, page.with_name(f"{name}.png"), dpi=dpi)
        print(f"\n![{text}]({name}.png)\n\n*{text}*\n")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a Markdown table whose columns are aligned, to be read on a terminal too."""
    print(f"\n{markdown_table(head, rows)}\n", flush=True)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [cells[0], rule, *cells[1:]]
    padded = (
        [cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(zip(line, widths))]
        for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def as_markdown(printed: str) -> str:
    """What was printed, as Markdown: tables, headings, pictures and single sentences stay, all else is set as it is."""
    parts = []
    for block in re.split(r"\n\s*\n", printed.strip("\n")):
        lines = block.splitlines()
        plain = lines and (lines[0].startswith(("|", "#", "*", "![", "- ")) or (len(lines) == 1 and "  " not in block))
        parts.append(block if plain else f"```text\n{textwrap.dedent(block)}\n```")
    return "\n\n".join(parts).replace("```\n\n```text\n", "\n")


def _introduction(doc: str) -> str:
    """The docstring below its first line, without its lines of code."""
    blocks = re.split(r"\n\s*\n", doc.strip())[1:]
    kept = [textwrap.dedent(block).strip() for block in blocks if not block.startswith("    ")]
    return "\n\n".join(kept).replace("``", "`")


def _shown(word: str) -> str:
    """An argument without the folders of this machine."""
    path = Path(word)
    if not path.is_absolute():
        return word
    root = Path(__file__).resolve().parents[2]
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _origin(command: str) -> list[tuple[str, str]]:
    rows = [
        ("command", f"`{command}`"),
        ("date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("version", f"sctseg7t {__version__}{_commit()}"),
        ("models", ", ".join(_models)),
        ("machine", _machine()),
    ]
    return [row for row in rows if row[1]]


def _commit() -> str:
    """The commit of the checkout, and whether files of it have changed since; nothing where there is none."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        # Pages that other benchmarks have just written change nothing that is measured.
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)docs")
        return f", commit {git('rev-parse', '--short', 'HEAD')}" + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _machine() -> str:
    found = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [found[1] if found else platform.machine(), f"{cores} cores", platform.system()]
    parts.append(f"Python {platform.python_version()}")
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"ONNX Runtime {importlib.metadata.version(name)}")
            break
    load = f"load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return ", ".join(filter(None, [*parts, load]))


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""
