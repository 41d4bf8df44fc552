"""The engine of one machine: worker processes that each hold one open model."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from sctseg7t.cohort.job import Work, time_out
from sctseg7t.inference.scan_run import Outcome

if TYPE_CHECKING:
    from sctseg7t.cohort.run import Interrupts

_Work = TypeVar("_Work", bound=Work)

# How often the parent looks up from waiting, seconds.
_TICK = 0.2
# Enough to read and write while another one is on the GPU; each holds a copy of the model there.
_ON_GPU = 4


def run_local(jobs: Sequence[_Work], *, workers: int, stop: Interrupts) -> Generator[tuple[_Work, Outcome]]:
    """Run jobs in worker processes; each job's fate is its own.

    A scan that hangs past its limit, or that kills its worker, becomes a failed record; a new worker takes
    the dead one's place. At most two jobs a worker are under way, so memory does not grow with their number.

    Parameters
    ----------
    jobs : sequence of Work
    workers : int
    stop : Interrupts
        ``stop.count``: 0 go on, 1 begin nothing new, 2 abandon what is running.

    Yields
    ------
    (Work, Outcome)
        As they end. A job that was abandoned is not among them.
    """
    from pebble import ProcessPool

    if workers == 1:
        # A lone worker reads the next scan ahead.
        jobs = [job.before(following) for job, following in pairwise(jobs)] + [*jobs[-1:]]
    methods = multiprocessing.get_all_start_methods()
    # Never fork: the runtime's threads do not survive it.
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    pool = ProcessPool(max_workers=workers, context=context, initializer=_end_with_parent)
    waiting, running = iter(jobs), {}

    def top_up():
        while len(running) < 2 * workers and (job := next(waiting, None)) is not None:
            running[pool.schedule(_run, args=(job,), timeout=job.timeout)] = job

    try:
        with _no_interrupts_for_children():
            top_up()
        while running and stop.count < 2:
            if stop.count:
                for future in [future for future in running if not future.running() and not future.done()]:
                    future.cancel()
                    del running[future]
            done, _ = concurrent.futures.wait(running, timeout=_TICK, return_when="FIRST_COMPLETED")
            for future in done:
                job = running.pop(future)
                yield job, _outcome(job, future)
            if not stop.count:
                top_up()
    finally:
        # Whoever still runs was abandoned, or the caller has given up: stopped, and swept up after.
        if running:
            pool.stop()
        else:
            pool.close()
        pool.join()
        for job in running.values():
            job.sweep()


def default_workers(device: str = "auto", threads: int = 1) -> int:
    """Processes for this machine: its usable CPUs over the threads of each, few where they share a GPU."""
    from sctseg7t.runtime.session import usable_cpus

    count = max(1, usable_cpus() // threads)
    shared = device.startswith("cuda") or (device == "auto" and os.path.exists("/dev/nvidiactl"))
    return min(count, _ON_GPU) if shared else count


def _run(job: Work) -> Outcome:
    return job.run()


def _outcome(job: Work, future: Any) -> Outcome:
    from pebble import ProcessExpired

    try:
        return future.result()
    except TimeoutError:
        return time_out(job)
    except ProcessExpired as err:
        # A negative code is the number of the signal that ended it.
        how = "SIGKILL: out of memory?" if err.exitcode == -9 else f"exit code {err.exitcode}"
        text = f"{job.what}: killed its worker ({how}); {job.alone}"
    except Exception as err:  # noqa: BLE001
        text = f"{job.what}: lost with its worker ({type(err).__name__}: {err})"
    return job.give_up(text, "killed")


def _end_with_parent():
    """In a worker: end as soon as the parent is gone, even if it was killed and even if the scan hangs."""

    def watch():
        parent = multiprocessing.parent_process()
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _no_interrupts_for_children() -> Iterator[None]:
    """Children started within ignore Ctrl-C, which the terminal sends to all: only the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
