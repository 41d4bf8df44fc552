"""One scan in a worker: a model that stays open, a log of its own, and the next scan read ahead.

Engines call :func:`run_scan`; the work itself is :func:`sctseg7t.inference.scan_run.segment_to_files`.
"""

import contextlib
import faulthandler
import os
import platform
import threading
import time
import traceback
from dataclasses import replace

from sctseg7t.cohort.job import Job, Settings
from sctseg7t.cohort.resume import state
from sctseg7t.errors import UserError
from sctseg7t.inference.record import identities, now, read_record
from sctseg7t.inference.scan_run import Outcome, ReadAhead, fail, segment_to_files
from sctseg7t.inference.segmenter import Segmenter
from sctseg7t.version import __version__

# One scan at a time in a process: a model's threads and a log of crashes belong to one.
_BUSY = threading.Lock()
# Settings, and the segmenter that they opened.
_open = []
_ahead = {}


def run_scan(job: Job) -> Outcome:
    """Segment one scan and leave its files, its record and its log; never raises.

    Parameters
    ----------
    job : Job

    Returns
    -------
    Outcome
    """
    with _BUSY:
        started = time.perf_counter()
        try:
            segmenter = open_model(job.settings)
        except UserError as err:
            return Outcome("fatal", str(err))
        if not job.force and state(job, rehash=True) == "done":
            return Outcome("done")
        with _log(job, started) as log:
            outcome = segment_to_files(segmenter, job.task, ahead=lambda: _read_ahead(job, segmenter), say=log)
            seconds = time.perf_counter() - started
            log(f"{outcome.status} after {seconds:.2f} s" + (f": {outcome.error}" if outcome.error else ""))
            if job.after:
                try:
                    job.after(job.plan.sidecar)
                except Exception:  # noqa: BLE001
                    log(traceback.format_exc())
        return replace(outcome, seconds={"scan": seconds})


def open_model(settings: Settings) -> Segmenter:
    """The model of these settings, opened once in a process.

    Raises
    ------
    UserError
        It cannot be opened, or is another one than the run was planned with.
    """
    from sctseg7t.errors import ModelError
    from sctseg7t.inference.pipeline import open_segmenter

    if not _open or _open[0] != settings:
        segmenter = open_segmenter(
            settings.task,
            settings.model,
            settings.device,
            settings.options,
            threads=settings.threads,
            offline=settings.offline,
        )
        if identities(segmenter.model) != settings.models:
            raise ModelError(
                f"{platform.node()}: its networks are not those that the run was planned with; "
                "install the same version of sctseg7t and of the model there"
            )
        _open[:] = settings, segmenter
    return _open[1]


def _read_ahead(job, segmenter):
    """The scan, read while the one before was segmented if there was one; the next one is begun."""
    ahead = _ahead.pop(job.plan.source, None)
    _ahead.clear()
    if job.upcoming:
        _ahead[job.upcoming] = ReadAhead(job.upcoming, segmenter.model.options, segmenter.axial)
    return ahead.volume() if ahead else None


@contextlib.contextmanager
def _log(job, started):
    """A log of its own for each scan, that also gets what is known about a crash or a hang."""
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        # Each line at once: it may be the last.
        stream = open(job.log, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
    except OSError:
        # The scan's own folder may still be writable; a log is not worth losing it for.
        yield lambda text: None
        return

    def log(text):
        # A full disk is the outputs' to tell of.
        with contextlib.suppress(OSError):
            print(now(), text, file=stream)

    with contextlib.suppress(OSError), stream:
        log(f"{job.task.label} on {platform.node()}, process {os.getpid()}, sctseg7t {__version__}, run {job.run_id}")
        faulthandler.enable(stream)
        if job.timeout:
            # Just before the worker is stopped, and opening the model took of that time too: where it hangs.
            left = 0.9 * job.timeout - (time.perf_counter() - started)
            faulthandler.dump_traceback_later(max(left, 0.1), file=stream)
        try:
            yield log
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()


# --- of scans whose worker cannot speak for them ---------------------------------------


def give_up(job: Job, text: str, kind: str) -> Outcome:
    """Log and record the failure of a scan from outside its worker.

    A scan whose files this run has written is no failure: what came after them was lost.
    """
    with contextlib.suppress(OSError):
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "a", encoding="utf-8") as stream:
            print(now(), text, file=stream)
    return outcome_of(job) or fail(job.task, text, kind)


def outcome_of(job: Job) -> Outcome | None:
    """What this run has recorded of a scan already; None if nothing."""
    found = read_record(job.plan.sidecar)
    if found.raw.get("run_id") != job.run_id:
        return None
    return Outcome(found.status, found.error, found.error_kind)
