"""What a worker is given for one scan, and what an engine has to know of any piece of work."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from sctseg7t.cohort.find import Scan
from sctseg7t.cohort.sessions import in_order
from sctseg7t.errors import UsageError
from sctseg7t.inference.outputs import Plan, split_name, sweep
from sctseg7t.inference.scan_run import Outcome, ScanTask
from sctseg7t.inference.segmenter import Options


class Work(Protocol):
    """A piece of work that an engine gives to a worker: a scan of a batch, a training of a study.

    It is pickled on its way. The worker may be killed by it, or be stopped: then the engine speaks for it.
    """

    @property
    def run_id(self) -> str:
        """Tells this run's records from those of earlier ones."""
        ...

    @property
    def timeout(self) -> float | None:
        """Seconds that it may take."""
        ...

    @property
    def what(self) -> str:
        """What messages call it: the path of the scan."""
        ...

    @property
    def alone(self) -> str:
        """How to see more of it, if it kills its worker."""
        ...

    def run(self) -> Outcome:
        """Do it, in a worker; never raises."""
        ...

    def recorded(self) -> Outcome | None:
        """What this run has recorded of it; None if nothing."""
        ...

    def has_begun(self) -> bool:
        """Whether a worker of this run has ever begun with it."""
        ...

    def give_up(self, text: str, kind: str) -> Outcome:
        """Record from outside the worker that it failed."""
        ...

    def sweep(self) -> None:
        """Remove what a worker that was stopped has left half done."""
        ...

    def before(self, following: Self) -> Self:
        """The same work for a worker that will do ``following`` next."""
        ...


def time_out(work: Work) -> Outcome:
    """Give up what took too long."""
    return work.give_up(f"{work.what}: not done after {work.timeout:g} s; look at it, or allow more time", "timeout")


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

    @property
    def what(self) -> str:
        """Path of the scan."""
        return str(self.plan.source)

    @property
    def alone(self) -> str:
        """How to see more of a scan that kills its worker."""
        return "run it alone with sct7t_deepseg to see more"

    def run(self) -> Outcome:
        """Segment the scan: :func:`sctseg7t.cohort.worker.run_scan`."""
        from sctseg7t.cohort.worker import run_scan

        return run_scan(self)

    def recorded(self) -> Outcome | None:
        """What this run has recorded of the scan."""
        from sctseg7t.cohort.worker import outcome_of

        return outcome_of(self)

    def has_begun(self) -> bool:
        """Whether a worker of this run has ever begun with the scan, as its log says."""
        try:
            return f"run {self.run_id}" in self.log.read_text(encoding="utf-8")
        except OSError:
            return False

    def give_up(self, text: str, kind: str) -> Outcome:
        """Log and record the failure of the scan: :func:`sctseg7t.cohort.worker.give_up`."""
        from sctseg7t.cohort.worker import give_up

        return give_up(self, text, kind)

    def sweep(self) -> None:
        """Remove half-written outputs."""
        sweep(self.plan)

    def before(self, following: Self) -> Self:
        """The same scan; the following one is read meanwhile."""
        return replace(self, upcoming=following.plan.source)


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
    ordered = in_order(sessions)
    own = scan.entities.get("ses")
    return ordered[ordered.index(own) - 1] if own in ordered[1:] else ""
