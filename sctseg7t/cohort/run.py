"""Running a data set: what has to be done, who does it, and what became of it."""

import contextlib
import secrets
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sctseg7t import outputs
from sctseg7t.cohort.job import Job, Outcome, label_file
from sctseg7t.cohort.output_names import plan_scan
from sctseg7t.cohort.resume import state
from sctseg7t.errors import ModelError

UNCHANGED = "up to date"
# What is done where a file that goes with a scan is not there.
_WITHOUT = {
    "levels": "levels are left empty",
    "centerline": "the locator was used",
    "brainmask": "the brain was found in the scan itself",
}


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
    labels : dict of str to str
        Templates of the files that go with the scans (levels, centerline, brainmask), see
        :func:`sctseg7t.cohort.job.label_file`.
    tables : tuple of str
        Kinds of tables of every scan; one with vertebral labels also gets that of its levels.
    """

    root: Path
    out: Path
    suffixes: dict
    names: str = "bids"
    labels: dict = field(default_factory=dict)
    tables: tuple = ("csa",)


@dataclass
class Totals:
    """What became of the scans of a run."""

    counts: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def add(self, job, outcome):
        """Count one; only what failed is kept by name."""
        self.counts[outcome.status] += 1
        if outcome.status == "failed":
            self.failures.append((job.name, outcome.error))
        self.notes += [f"{job.name}: {note}" for note in outcome.notes]


def make_jobs(scans, layout, settings, *, force=False, timeout=None):
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
    record = outputs.options_record(settings.options, settings.task, **layout.labels, names=layout.names)
    jobs = [_job(scan, layout, settings, record, run_id, force, timeout) for scan in scans]
    labels = [path for job in jobs for path in job.labels.values()]
    reasons = outputs.conflicts([job.plan for job in jobs], labels)
    return jobs, {job.name: reasons[job.plan.source] for job in jobs if job.plan.source in reasons}


def _job(scan, layout, settings, record, run_id, force, timeout):
    labels, notes = {}, []
    for role, template in layout.labels.items():
        path = label_file(template, scan, layout.root)
        if path.is_file():
            labels[role] = path
        else:
            notes.append(f"-{role}: there is no {path}; {_WITHOUT[role]}")
    plan = plan_scan(
        scan,
        layout.out,
        layout.suffixes,
        names=layout.names,
        soft=settings.options.soft,
        tables=(*layout.tables, *(("levels",) if "levels" in labels else ())),
    )
    return Job(
        scan.name,
        scan.relative,
        plan,
        scan.entities,
        settings,
        record,
        layout.out / "logs" / f"{scan.name.replace('/', '__')}.log",
        layout.out / "replaced",
        run_id,
        notes=tuple(notes),
        bids=layout.names == "bids" and bool(scan.entities),
        force=force,
        timeout=timeout,
        labels=labels,
    )


def to_do(jobs, refused):
    """Why each job has to run, without opening a scan: ``(job, reason)``, reason ``up to date`` where it has not."""
    for job in jobs:
        if job.name in refused:
            yield job, "refused"
        elif job.force:
            yield job, "forced"
        else:
            found = state(job, rehash=False)
            yield job, {"done": UNCHANGED, "unsure": "input touched"}.get(found, found)


def run_jobs(jobs, refused, engine, tell):
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
    for job, reason in to_do(jobs, refused):
        if reason == UNCHANGED:
            totals.add(job, Outcome("done"))
        elif reason == "refused":
            outcome = Outcome("failed", refused[job.name], "input")
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

    def left(self):
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
    """Counts Ctrl-C and SIGTERM while it is entered, in place of being ended by them."""

    def __init__(self, say):
        self.count, self._say, self._before = 0, say, {}

    def __enter__(self):
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
            self._say("stopping: the scans under way are finished; once more to abandon them")
