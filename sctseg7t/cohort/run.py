"""Running a data set: what has to be done, who does it, and what became of it."""

import contextlib
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sctseg7t.cohort.find import Scan
from sctseg7t.cohort.job import Job, Settings, file_beside
from sctseg7t.cohort.output_names import mask_metadata, plan_scan, rename_old
from sctseg7t.cohort.resume import state
from sctseg7t.errors import ModelError
from sctseg7t.inference.corrections import folder_of
from sctseg7t.inference.outputs import conflicts
from sctseg7t.inference.pipeline import Choice
from sctseg7t.inference.record import FAILED, identities, options_record, other_scan
from sctseg7t.inference.roles import ROLES
from sctseg7t.inference.scan_run import Outcome, ScanTask
from sctseg7t.inference.segmenter import Options, check_asked, segmenter_for
from sctseg7t.zoo.spec import is_path

UNCHANGED = "up to date"


@dataclass(frozen=True)
class Layout:
    """Where things of a run are and how they are named.

    Attributes
    ----------
    root, out : Path
        Data set and output folder, absolute.
    suffixes : dict of str to str
        SCT-style suffix by tissue.
    names : str
        ``bids`` or ``sct``.
    templates : dict of str to str
        Of the files that go with the scans, by role; see :func:`sctseg7t.cohort.job.file_beside`.
    tables : callable
        Kinds of tables of a scan, given its files by role and the options; see :meth:`Segmenter.tables`.
    corrections : str or None
        Folder of corrected masks, ``none``, or None for that of the data set; see
        :func:`sctseg7t.inference.corrections.folder_of`.
    overwrite : bool
        Replace also masks that somebody edited.
    baselines : dict of str to Path or None
        Earlier scan by the name of a scan, where sessions were paired
        (:func:`sctseg7t.cohort.sessions.pair_sessions`) and no template names it.
    """

    root: Path
    out: Path
    suffixes: dict[str, str]
    names: str
    templates: dict[str, str]
    tables: Callable[[Mapping[str, Path], Options], tuple[str, ...]]
    corrections: str | None = None
    overwrite: bool = False
    baselines: Mapping[str, Path] | None = None


@dataclass
class Totals:
    """What became of the scans of a run."""

    counts: Counter = field(default_factory=Counter)
    failures: dict[str, Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warned: dict[str, list[str]] = field(default_factory=dict)

    def add(self, job: Job, outcome: Outcome) -> None:
        """Count one; only what has no masks, or empty ones, is kept by name."""
        self.counts[outcome.status] += 1
        if outcome.error:
            self.failures[job.name] = outcome
        self.notes += [f"{job.name}: {note}" for note in outcome.notes]
        for text in outcome.warnings:
            # Most begin with a code.
            code, colon, _ = text.partition(":")
            scans = self.warned.setdefault(code if colon and " " not in code else text, [])
            if job.name not in scans:
                scans.append(job.name)


def set_up(
    chosen: Choice,
    root: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    options: Options = Options(),
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
    names: str = "bids",
    templates: Mapping[str, str] | None = None,
    corrections: str | None = None,
    overwrite: bool = False,
) -> tuple[Layout, Settings]:
    """Put together how a data set is segmented by one model.

    Parameters
    ----------
    chosen : Choice
        The task and its model, see :func:`sctseg7t.inference.pipeline.choose_model`.
    root, out : path
        Data set and output folder.
    model : str, optional
        As `chosen` was chosen by.
    options, device, threads, offline
        As for :func:`sctseg7t.inference.pipeline.open_segmenter`.
    names : str
        ``bids`` or ``sct``.
    templates : dict of str to str, optional
        Of the files that go with the scans, by role.
    corrections, overwrite
        As of the :class:`Layout`.

    Raises
    ------
    UsageError
        The model has no use for a file or an option, or needs a file that is not given.
    """
    templates = dict(templates or {})
    check_asked(chosen.spec, templates, options)
    if model and is_path(model):
        # Workers may stand elsewhere.
        model = str(Path(model).absolute())
    layout = Layout(
        Path(root).absolute(),
        Path(out).absolute(),
        chosen.spec.suffixes(chosen.tissues),
        names,
        templates,
        segmenter_for(chosen.spec).tables,
        corrections,
        overwrite,
    )
    return layout, Settings(chosen.task, model, device, options, threads, offline, identities(chosen))


def make_jobs(
    scans: Sequence[Scan], layout: Layout, settings: Settings, *, force: bool = False, timeout: float | None = None
) -> tuple[list[Job], dict[str, str]]:
    """What is to be done with each scan.

    Parameters
    ----------
    scans : list of Scan
    layout : Layout
    settings : Settings
    force : bool
    timeout : float, optional
        Seconds a scan may take.

    Returns
    -------
    jobs : list of Job
    refused : dict of str to str
        Reason by name, of scans whose outputs would overwrite each other or an input.
    """
    run_id = secrets.token_hex(6)
    options = options_record(settings.options, settings.task, **layout.templates, names=layout.names)
    jobs, refused = [], {}
    for scan in scans:
        files, notes, missing = _files_beside(scan, layout)
        plan = plan_scan(
            scan,
            layout.out,
            layout.suffixes,
            names=layout.names,
            soft=settings.options.soft,
            tables=layout.tables(files, settings.options),
            others=files,
            corrections=folder_of(scan.path, layout.corrections, Path(scan.relative).parent),
        )
        bids = layout.names == "bids" and bool(scan.entities)
        task = ScanTask(
            plan,
            options,
            scan.relative,
            about={
                "name": scan.name,
                "entities": scan.entities,
                "run_id": run_id,
                "model": settings.models[0],
            },
            notes=notes,
            metadata=mask_metadata(plan, scan.relative) if bids else {},
            archive=layout.out / "replaced" / run_id,
            overwrite=layout.overwrite,
            reuse=not force,
        )
        log = layout.out / "logs" / f"{scan.name.replace('/', '__')}.log"
        jobs.append(Job(scan.name, task, settings, log, run_id, force, timeout))
        if missing:
            refused[scan.name] = missing
    reasons = conflicts([job.plan for job in jobs])
    if not layout.overwrite:
        reasons |= {job.plan.source: reason for job in jobs if (reason := other_scan(job.plan))}
    return jobs, refused | {job.name: reasons[job.plan.source] for job in jobs if job.plan.source in reasons}


def _files_beside(scan: Scan, layout: Layout) -> tuple[dict[str, Path], tuple[str, ...], str]:
    """The files that go with a scan, what is not there, and why the scan cannot be segmented without it."""
    files, notes, missing = {}, [], ""
    for role, template in layout.templates.items():
        paired = (layout.baselines or {}).get(scan.name) if role == "baseline" else None
        path = paired or file_beside(template, scan, layout.root)
        if path.is_file():
            files[role] = path
        elif ROLES[role].without:
            notes.append(f"{role}: there is no {path}; {ROLES[role].without}")
        else:
            missing = f"{scan.path}: its {role} image {path} is not there; the model needs it"
    return files, tuple(notes), missing


def to_do(jobs: Iterable[Job], refused: Mapping[str, str]) -> Iterator[tuple[Job, str]]:
    """Why each job has to run, without opening a scan: ``(job, reason)``, reason ``up to date`` where it has not."""
    for job in jobs:
        found = "refused" if job.name in refused else "forced" if job.force else state(job, rehash=False)
        yield job, {"done": UNCHANGED, "unsure": "input touched"}.get(found, found)


def run_jobs(
    jobs: Sequence[Job],
    refused: Mapping[str, str],
    engine: Callable[[list[Job]], Generator[tuple[Job, Outcome]]],
    tell: Callable[[Job, Outcome, "Progress"], None],
) -> Totals:
    """Do what has to be done.

    Parameters
    ----------
    jobs : list of Job
    refused : dict of str to str
    engine : callable
        Jobs to an iterator of (Job, Outcome): :func:`~sctseg7t.cohort.engine_local.run_local` or
        :func:`~sctseg7t.cohort.engine_dask.run_dask`, with its settings.
    tell : callable
        Called with (job, outcome, progress) for each scan; progress is a :class:`Progress`.

    Returns
    -------
    Totals

    Raises
    ------
    ModelError
        The model cannot be opened by the workers.
    """
    totals, waiting = Totals(), []
    renamed = sum(rename_old(job.plan, job.task.about["entities"]) for job in jobs if job.name not in refused)
    if renamed:
        totals.notes.append(
            f"the outputs of {renamed} scans had names without the scans' suffix (sub-01_label-SC_mask), as version "
            "0.1 gave them; they were renamed (sub-01_T2starw_label-SC_mask)"
        )
    for job, reason in to_do(jobs, refused):
        if reason == UNCHANGED:
            totals.add(job, Outcome("done"))
        elif reason == "refused":
            outcome = Outcome(FAILED, refused[job.name], "input")
            totals.add(job, outcome)
            tell(job, outcome, Progress(0, 0, 0))
        else:
            waiting.append(job)
    started, ended = time.monotonic(), 0
    if not waiting:
        return totals
    with contextlib.closing(engine(waiting)) as results:
        for job, outcome in results:
            if outcome.status == "fatal":
                raise ModelError(outcome.error)
            ended += 1
            totals.add(job, outcome)
            tell(job, outcome, Progress(ended, len(waiting), time.monotonic() - started))
    return totals


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    ended: int
    total: int
    seconds: float

    def left(self) -> str:
        """Time left in words, at the mean pace so far; "" if that cannot be said."""
        remaining = self.total - self.ended
        if not self.ended or not remaining:
            return ""
        seconds = self.seconds / self.ended * remaining
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
            if seconds >= 1.5 * size:
                return f"about {seconds / size:.0f} {unit} left"
        return f"about {max(seconds, 1):.0f} s left"


class Interrupts:
    """Counts Ctrl-C and SIGTERM while it is entered, in place of being ended by them.

    Parameters
    ----------
    say : callable
        Is told, once, what happens now.
    work : str
        What is under way.
    """

    def __init__(self, say: Callable[[str], None], work: str = "scans") -> None:
        self.count = 0
        self._say, self._work, self._before = say, work, {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, *_):
        self.count += 1
        if self.count == 1:
            self._say(f"stopping: the {self._work} under way are finished; once more to abandon them")
