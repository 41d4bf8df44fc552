"""Masks of the Spinal Cord Toolbox, by an installation found on PATH: its old programs and the tasks of sct_deepseg."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sctseg7t.cohort.find import Scan
from sctseg7t.compare.run_methods import Made, mask_of
from sctseg7t.compare.types import Problem
from sctseg7t.errors import OutputError, UsageError
from sctseg7t.files import write_json
from sctseg7t.inference.mask_names import parse_name
from sctseg7t.inference.outputs import split_name
from sctseg7t.zoo.cache import file_digest


@dataclass(frozen=True)
class Tool:
    """A way of the toolbox to masks of T2*-weighted scans.

    Attributes
    ----------
    program : str
    structures : tuple of str
        What it makes masks of.
    options : tuple of str
    task : str
        Of sct_deepseg: ``sct_deepseg TASK -i SCAN`` from version 7 on.
    old_task : str
        Its name before: ``sct_deepseg -task NAME -i SCAN``; "" where there was none.
    """

    program: str
    structures: tuple[str, ...]
    options: tuple[str, ...] = ()
    task: str = ""
    old_task: str = ""


DEEPSEG = "sct_deepseg"
# By method. The first two are run where none is named; the last one downloads its model when it is first run.
METHODS: dict[str, tuple[Tool, ...]] = {
    "sct": (Tool("sct_deepseg_sc", ("SC",), ("-c", "t2s")), Tool("sct_deepseg_gm", ("GM",))),
    "sct_deepseg": (
        Tool(DEEPSEG, ("SC",), task="spinalcord", old_task="seg_sc_contrast_agnostic"),
        Tool(DEEPSEG, ("GM",), task="graymatter"),
    ),
    "sct_deepseg_7t": (Tool(DEEPSEG, ("SC", "GM"), task="gm_sc_7t_t2star", old_task="seg_gm_sc_7t_t2star"),),
}
_UNNAMED = ("sct", "sct_deepseg")
# Suffixes of the masks that are kept, as the old programs give them.
_SUFFIX = {"SC": "_seg", "GM": "_gmseg"}


@dataclass(frozen=True)
class Command:
    """A tool as the installation has it: the words before ``-i``, and what it makes masks of."""

    words: tuple[str, ...]
    options: tuple[str, ...]
    structures: tuple[str, ...]

    @property
    def name(self) -> str:
        """What people type."""
        return " ".join([Path(self.words[0]).name, *self.words[1:]])


def find_commands(named: str = "") -> dict[str, list[Command]]:
    """The commands of the installation on PATH, by method.

    Parameters
    ----------
    named : str
        Methods, separated by commas; "": those of the old programs and of sct_deepseg that are installed.

    Raises
    ------
    UsageError
        A name that is none, or nothing of it is installed.
    """
    names = [name.strip() for name in named.split(",") if name.strip()]
    for name in names:
        if name not in METHODS:
            raise UsageError(f"-sct {named}: {name} is no method of the toolbox; choose of {', '.join(METHODS)}")
    told = _told_tasks()
    found = {method: [c for t in METHODS[method] if (c := _command(t, told))] for method in names or _UNNAMED}
    missing = [method for method in names if not found[method]]
    if missing or not any(found.values()):
        wanted = dict.fromkeys(tool.program for method in missing or _UNNAMED for tool in METHODS[method])
        task = "" if not missing or not told else f" with the tasks of {', '.join(missing)}"
        raise UsageError(
            f"-sct: {' or '.join(wanted)}{task} not found on PATH; activate the Spinal Cord Toolbox "
            "(its bin folder must be on PATH), or run its networks from the zoo: -run sct_gm_large"
        )
    return {method: commands for method, commands in found.items() if commands}


def _told_tasks() -> str:
    """What sct_deepseg says of its tasks; "" where it is not installed."""
    program = shutil.which(DEEPSEG)
    # From version 7 on the help lists the tasks, before that a list of its own.
    return "\n".join(_said([program, word]) for word in ("-h", "-list-tasks")) if program else ""


def _command(tool: Tool, told: str) -> Command | None:
    program = shutil.which(tool.program)
    if not program:
        return None
    words: tuple[str, ...] = ()
    if tool.task:
        for task, form in ((tool.task, ()), (tool.old_task, ("-task",))):
            if task and re.search(rf"(?<![\w-]){task}(?![\w-])", told):
                words = (*form, task)
                break
        else:
            return None
    return Command((program, *words), tool.options, tool.structures)


def run_sct(
    scans: Sequence[Scan],
    out: str | Path,
    *,
    commands: Mapping[str, Sequence[Command]] | None = None,
    timeout: float = 600.0,
    tell: Callable[[], None] = lambda: None,
) -> Made:
    """Segment every scan with the toolbox's commands; a scan that fails is told.

    A mask is not made again if its scan, the command and the toolbox's version are those that its record names.

    Parameters
    ----------
    scans : sequence of :class:`sctseg7t.cohort.find.Scan`
    out : path
        Masks go to a folder of the method's name in it.
    commands : dict of str to sequence of Command, optional
        As :func:`find_commands` returns them, which is asked by default.
    timeout : float
        Seconds that a command may take for a scan.
    tell : callable
        Called after each run of a command.

    Returns
    -------
    Made

    Raises
    ------
    UsageError
        The programs are not there.
    """
    commands = find_commands() if commands is None else commands
    version = _version(next(command.words[0] for some in commands.values() for command in some))
    made = Made()
    for method, some in commands.items():
        what = {"id": "Spinal Cord Toolbox", "version": version, "commands": [command.name for command in some]}
        made.models[method] = what
    for scan in scans:
        try:
            digest = file_digest(scan.path, "sha256")
        except OSError:
            # The program will say what is wrong with it.
            digest = None
        for method, command in ((method, command) for method, some in commands.items() for command in some):
            stem = Path(out) / method / Path(scan.relative).parent / split_name(scan.relative)[0]
            masks = {s: stem.with_name(f"{stem.name}{_SUFFIX[s]}.nii.gz") for s in command.structures}
            record = {"scan_sha256": digest, "toolbox": version, "program": command.name}
            if not all(_is_made(mask, record) for mask in masks.values()):
                error = _segment(scan, masks, command, timeout)
                for mask in masks.values() if error is None else ():
                    write_json(_note(mask), {**record, "mask_sha256": file_digest(mask, "sha256")})
                tell()
                if error is not None:
                    where = scan.name, method, " ".join(masks), str(scan.path)
                    made.problems.append(Problem("failed", error, True, *where))
                    continue
            made.files.extend(mask_of(scan, method, structure, mask) for structure, mask in masks.items())
    return made


def _note(mask: Path) -> Path:
    return mask.with_name(f"{split_name(mask)[0]}.json")


def _is_made(mask, record):
    try:
        before = json.loads(_note(mask).read_text(encoding="utf-8"))
        return before == {**record, "mask_sha256": file_digest(mask, "sha256")}
    except (OSError, ValueError):
        return False


def _segment(scan, masks, command, timeout):
    """Run a command for one scan; why it failed, or None."""
    name, first = command.name, next(iter(masks.values()))
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"{first.parent}: cannot be made ({err.strerror or err}); choose another output folder"
        ) from err
    # Whatever else it writes beside its masks goes with the folder.
    with tempfile.TemporaryDirectory(prefix=".sct7t-", dir=first.parent) as folder:
        result = Path(folder).absolute() / "mask.nii.gz"
        words = [*command.words, "-i", str(Path(scan.path).absolute()), *command.options, "-o", str(result)]
        try:
            ran = subprocess.run(
                words,
                cwd=folder,
                timeout=timeout,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{scan.path}: {name} was not done after {timeout:g} s; run it alone, or give a longer -timeout"
        except OSError as err:
            return f"{scan.path}: {name} cannot be run ({err.strerror or err}); check the toolbox's installation"
        last = next((line.strip() for line in reversed(ran.stdout.splitlines()) if line.strip()), "no message")
        if ran.returncode:
            return f"{scan.path}: {name} failed with code {ran.returncode} ({last[:200]}); run it alone to see more"
        found = _written(Path(folder), tuple(masks))
        if len(found) < len(masks):
            lacking = " and ".join(s for s in masks if s not in found)
            return (
                f"{scan.path}: {name} ended well but wrote no {lacking} mask ({last[:200]}); run it alone to see more"
            )
        for structure, mask in masks.items():
            os.replace(found[structure], mask)
    return None


def _written(folder: Path, structures: tuple[str, ...]) -> dict[str, Path]:
    """The masks that a command wrote: one under the name it was given, several with a suffix each."""
    files = [path for path in sorted(folder.iterdir()) if split_name(path)[1]]
    if len(structures) == 1:
        return {structures[0]: files[0]} if files else {}
    named = {parse_name(path.with_name(path.name.removeprefix("mask"))).structure: path for path in files}
    return {structure: named[structure] for structure in structures if structure in named}


def _version(program):
    """What the toolbox calls its version; "unknown" if it does not say."""
    said = _said([shutil.which("sct_version") or program, *([] if shutil.which("sct_version") else ["-h"])])
    return next((line.strip()[:80] for line in said.splitlines() if line.strip()), "unknown")


def _said(words):
    """What a command prints; "" where it fails."""
    try:
        ran = subprocess.run(
            words,
            timeout=120,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if ran.returncode else ran.stdout
