"""What a worker is given for one scan."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sctseg7t.cohort.find import Scan
from sctseg7t.errors import UsageError
from sctseg7t.inference.outputs import Plan, split_name
from sctseg7t.inference.scan_run import ScanTask
from sctseg7t.inference.segmenter import Options


@dataclass(frozen=True)
class Settings:
    """How to open the model; the same for all scans of a run.

    Attributes
    ----------
    task, model, device, options, threads, offline
        As for :func:`sctseg7t.inference.pipeline.open_segmenter`.
    models : tuple of dict
        Identity of the networks that the run was planned with; a worker with others refuses.
    """

    task: str
    model: str | None
    device: str
    options: Options
    threads: int | None
    offline: bool
    models: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Job:
    """One scan to be segmented in a batch.

    Attributes
    ----------
    name : str
    task : ScanTask
        With absolute paths.
    settings : Settings
    log : Path
    run_id : str
        Tells this run's records from those of earlier ones.
    force : bool
        Run it even if it is up to date.
    timeout : float or None
        Seconds.
    upcoming : Path or None
        The scan to read meanwhile.
    after : callable or None
        Called with the sidecar's path when the scan's files are there. What it raises is logged, and costs nothing.
    """

    name: str
    task: ScanTask
    settings: Settings
    log: Path
    run_id: str
    force: bool = False
    timeout: float | None = None
    upcoming: Path | None = None
    after: Callable[[Path], None] | None = None

    @property
    def plan(self) -> Plan:
        """The scan's files."""
        return self.task.plan

    @property
    def models(self) -> list[dict[str, Any]]:
        """Identity of the networks."""
        return list(self.settings.models)


def file_beside(template: str, scan: Scan, root: str | Path) -> Path:
    """The file that a template names for a scan.

    Parameters
    ----------
    template : str
        A path within the data set with ``{folder}``, ``{stem}``, ``{sub}``, ``{ses}`` in it, such as
        ``derivatives/labels/{folder}/{stem}_levels.nii.gz``. ``{earlier}`` is the subject's session before this one:
        ``sub-{sub}/ses-{earlier}/anat/sub-{sub}_ses-{earlier}_FLAIR.nii.gz``.
    scan : Scan
    root : path
        Of the data set.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        Unknown field in the template.
    """
    relative, root = Path(scan.relative), Path(root).absolute()
    values = {
        "sub": "",
        "ses": "",
        **scan.entities,
        "folder": relative.parent.as_posix(),
        "stem": split_name(relative)[0],
        "earlier": _earlier_session(scan, root),
    }
    try:
        return root / template.format(**values)
    except (KeyError, IndexError, ValueError) as err:
        raise UsageError(
            f"{template}: in the name of a file beside a scan {{folder}}, {{stem}}, {{sub}}, {{ses}}, {{earlier}} are "
            f"known; got {err}"
        ) from err


def _earlier_session(scan: Scan, root: Path) -> str:
    """The subject's session before that of the scan, without ses-; "" if there is none."""
    sessions = {path.name.removeprefix("ses-") for path in root.glob(f"sub-{scan.entities.get('sub')}/ses-*")}
    # Session 10 comes after session 9.
    ordered = sorted(
        sessions, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    )
    own = scan.entities.get("ses")
    return ordered[ordered.index(own) - 1] if own in ordered[1:] else ""
