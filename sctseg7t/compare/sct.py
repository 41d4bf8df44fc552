"""Masks of the Spinal Cord Toolbox, by an installation found on PATH."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sctseg7t.cohort.find import Scan
from sctseg7t.compare.run_methods import Made, mask_of
from sctseg7t.compare.types import Problem
from sctseg7t.errors import OutputError, UsageError
from sctseg7t.files import write_json
from sctseg7t.inference.outputs import split_name
from sctseg7t.zoo.cache import file_digest

METHOD = "sct"
# Tissue to program, its options for T2*-weighted scans, and the suffix that it gives its masks.
PROGRAMS = {
    "SC": ("sct_deepseg_sc", ("-c", "t2s"), "_seg"),
    "GM": ("sct_deepseg_gm", (), "_gmseg"),
}


def find_programs() -> dict[str, str]:
    """Paths of the two programs, by tissue.

    Raises
    ------
    UsageError
        Either is not on PATH.
    """
    found = {structure: shutil.which(name) for structure, (name, *_) in PROGRAMS.items()}
    missing = [PROGRAMS[structure][0] for structure, path in found.items() if not path]
    if missing:
        raise UsageError(
            f"-sct: {' and '.join(missing)} not found on PATH; activate the Spinal Cord Toolbox "
            "(its bin folder must be on PATH), or run its networks from the zoo: -run sct_gm_large"
        )
    return found


def run_sct(
    scans: Sequence[Scan],
    out: str | Path,
    *,
    timeout: float = 600.0,
    tell: Callable[[], None] = lambda: None,
) -> Made:
    """Segment every scan with sct_deepseg_sc and sct_deepseg_gm; a scan that fails is told.

    A mask is not made again if its scan and the toolbox's version are those that its record names.

    Parameters
    ----------
    scans : sequence of :class:`sctseg7t.cohort.find.Scan`
    out : path
        Masks go to the folder ``sct`` in it.
    timeout : float
        Seconds that a program may take for a scan.
    tell : callable
        Called after each mask.

    Returns
    -------
    Made

    Raises
    ------
    UsageError
        The programs are not there.
    """
    programs = find_programs()
    version = _version(programs["GM"])
    made = Made(models={METHOD: {"id": "Spinal Cord Toolbox", "version": version}})
    for scan in scans:
        try:
            digest = file_digest(scan.path, "sha256")
        except OSError:
            # The program will say what is wrong with it.
            digest = None
        stem = Path(out) / METHOD / Path(scan.relative).parent / split_name(scan.relative)[0]
        for structure, program in programs.items():
            name, _, suffix = PROGRAMS[structure]
            mask, note = (stem.with_name(f"{stem.name}{suffix}{kind}") for kind in (".nii.gz", ".json"))
            record = {"scan_sha256": digest, "toolbox": version, "program": name}
            if not _is_made(mask, note, record):
                error = _segment(scan, mask, program, PROGRAMS[structure], timeout)
                if error is None:
                    write_json(note, {**record, "mask_sha256": file_digest(mask, "sha256")})
                tell()
                if error is not None:
                    made.problems.append(Problem("failed", error, True, scan.name, METHOD, structure, str(scan.path)))
                    continue
            made.files.append(mask_of(scan, METHOD, structure, mask))
    return made


def _is_made(mask, note, record):
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
        return before == {**record, "mask_sha256": file_digest(mask, "sha256")}
    except (OSError, ValueError):
        return False


def _segment(scan, mask, program, known, timeout):
    """Run a program for one scan; why it failed, or None."""
    name, options, _ = known
    try:
        mask.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"{mask.parent}: cannot be made ({err.strerror or err}); choose another output folder"
        ) from err
    # Whatever else it writes beside its mask goes with the folder.
    with tempfile.TemporaryDirectory(prefix=".sct7t-", dir=mask.parent) as folder:
        result = Path(folder).absolute() / mask.name
        command = [program, "-i", str(Path(scan.path).absolute()), *options, "-o", str(result)]
        try:
            ran = subprocess.run(
                command,
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
        if ran.returncode:
            last = next((line.strip() for line in reversed(ran.stdout.splitlines()) if line.strip()), "no message")
            return f"{scan.path}: {name} failed with code {ran.returncode} ({last[:200]}); run it alone to see more"
        if not result.is_file():
            return f"{scan.path}: {name} ended well but wrote no mask; run it alone to see more"
        os.replace(result, mask)
    return None


def _version(program):
    """What the toolbox calls its version; "unknown" if it does not say."""
    try:
        ran = subprocess.run(
            [shutil.which("sct_version") or program, *([] if shutil.which("sct_version") else ["-h"])],
            timeout=60,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
    return lines[0][:80] if lines and not ran.returncode else "unknown"
