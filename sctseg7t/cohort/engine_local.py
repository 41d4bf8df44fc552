"""The engine of one machine: worker processes that each hold one open model."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sctseg7t.cohort.job import Job
from sctseg7t.cohort.worker import give_up, run_scan, time_out
from sctseg7t.inference.outputs import sweep
from sctseg7t.inference.scan_run import Outcome

if TYPE_CHECKING:
    from sctseg7t.cohort.run import Interrupts

# How often the parent looks up from waiting, seconds.
_TICK = 0.2
# Enough to read and write while another one is on the GPU; each holds a copy of the model there.
_ON_GPU = 4


def run_local(jobs: Iterable[Job], *, workers: int, stop: Interrupts | None = None) -> Generator[tuple[Job, Outcome]]:
    """Run jobs in worker processes; each job's fate is its own.

    A scan that hangs past its limit, or that kills its worker, becomes a failed record; a new worker takes
    the dead one's place. At most two jobs a worker are under way, so memory does not grow with their number.

    Parameters
    ----------
    jobs : iterable of Job
    workers : int
    stop : Interrupts, optional
        ``stop.count``: 0 go on, 1 begin nothing new, 2 abandon what is running.

    Yields
    ------
    (Job, Outcome)
        As they end. A job that was abandoned is not among them.
    """
    from pebble import ProcessPool

    waiting = iter(_with_upcoming(jobs) if workers == 1 else jobs)
    pool = ProcessPool(max_workers=workers, context=_context(), initializer=_end_with_parent)
    running = {}
    try:
        with _no_interrupts_for_children():
            _top_up(pool, running, waiting, 2 * workers)
        while running:
            if stop and stop.count > 1:
                break
            if stop and stop.count:
                for future in [future for future in running if not future.running() and not future.done()]:
                    future.cancel()
                    del running[future]
            done, _ = concurrent.futures.wait(running, timeout=_TICK, return_when="FIRST_COMPLETED")
            for future in done:
                job = running.pop(future)
                yield job, _outcome(job, future)
            if not (stop and stop.count):
                _top_up(pool, running, waiting, 2 * workers)
    finally:
        # Whoever still runs was abandoned, or the caller has given up: stopped, and swept up after.
        if running:
            pool.stop()
        else:
            pool.close()
        pool.join()
        for job in running.values():
            sweep(job.plan)


def default_workers(device: str = "auto", threads: int = 1) -> int:
    """Processes for this machine: its usable CPUs over the threads of each, few where they share a GPU."""
    from sctseg7t.runtime.session import usable_cpus

    count = max(1, usable_cpus() // threads)
    shared = device.startswith("cuda") or (device == "auto" and os.path.exists("/dev/nvidiactl"))
    return min(count, _ON_GPU) if shared else count


def _top_up(pool, running, waiting, most):
    while len(running) < most and (job := next(waiting, None)) is not None:
        running[pool.schedule(run_scan, args=(job,), timeout=job.timeout)] = job


def _with_upcoming(jobs):
    """Each job with the scan of the next: a lone worker reads it ahead."""
    before = None
    for job in jobs:
        if before:
            yield replace(before, upcoming=job.plan.source)
        before = job
    if before:
        yield before


def _outcome(job: Job, future: Any) -> Outcome:
    from pebble import ProcessExpired

    source = job.plan.source
    try:
        return future.result()
    except TimeoutError:
        return time_out(job)
    except ProcessExpired as err:
        text = f"{source}: killed its worker ({_how(err.exitcode)}); run it alone with sct7t_deepseg to see more"
    except Exception as err:  # noqa: BLE001
        text = f"{source}: lost with its worker ({type(err).__name__}: {err})"
    return give_up(job, text, "killed")


def _how(code):
    """How a process ended, in words."""
    if code is not None and code < 0:
        name = next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
        return f"{name}: out of memory?" if name == "SIGKILL" else name
    return f"exit code {code}"


def _end_with_parent():
    """In a worker: end as soon as the parent is gone, even if it was killed and even if the scan hangs."""

    def watch():
        parent = multiprocessing.parent_process()
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _context():
    methods = multiprocessing.get_all_start_methods()
    # Never fork: the runtime's threads do not survive it.
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


class _no_interrupts_for_children:
    """Children started within ignore Ctrl-C, which the terminal sends to all: only the parent decides."""

    def __enter__(self):
        self._mask = None
        if hasattr(signal, "pthread_sigmask") and threading.current_thread() is threading.main_thread():
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def __exit__(self, *_):
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
