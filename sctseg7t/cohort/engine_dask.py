"""The engine of many machines: the same work on the workers of a dask.distributed scheduler.

Scheduler and workers see the data set and the outputs under the same paths (a shared file system), and have the same
version of sctseg7t. Workers are best started with one thread, and with their nanny (the default), which replaces a
worker that dies::

    dask scheduler --port 8786
    dask worker tcp://HOST:8786 --nworkers 16 --nthreads 1
    sct7t_batch -i bids -o derivatives/sctseg7t -engine dask -scheduler tcp://HOST:8786

On a SLURM cluster dask-jobqueue starts the workers as jobs of the queue::

    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(cores=8, processes=8, memory="8GB", walltime="02:00:00", queue="normal")
    cluster.scale(jobs=40)
    print(cluster.scheduler_address)  # for -scheduler; keep this Python open until the batch is done

A worker that is lost in mid-run costs nothing but time: the scheduler gives its scan to another. A scan that was on
four workers when they died becomes a failed record (dask's setting ``distributed.scheduler.allowed-failures``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from sctseg7t.cohort.job import Work, time_out
from sctseg7t.errors import UsageError
from sctseg7t.inference.scan_run import Outcome
from sctseg7t.text import one_line

if TYPE_CHECKING:
    from sctseg7t.cohort.run import Interrupts

_Work = TypeVar("_Work", bound=Work)

_TICK = 0.5
_CONNECT = 20


def run_dask(
    jobs: Iterable[_Work], address: str, *, stop: Interrupts, say: Callable[[str], None] = print
) -> Generator[tuple[_Work, Outcome]]:
    """Run jobs on a cluster; see :func:`sctseg7t.cohort.engine_local.run_local` for what is yielded.

    Parameters
    ----------
    jobs : iterable of Work
    address : str
        Of the scheduler.
    stop : Interrupts
    say : callable
        Is told, in one line, what the user is waiting for.

    Raises
    ------
    UsageError
        No scheduler there, or it is lost.
    """
    client = _connect(address)
    waiting, running, number = iter(jobs), {}, 0
    bystanders = []
    try:
        lonely = False
        while stop.count < 2:
            room = sum(client.nthreads().values())
            if not room and not lonely:
                say(f"{address}: has no workers yet; waiting for some")
            lonely = not room
            if stop.count:
                # Scans not begun are withdrawn, those under way are waited for.
                begun = {key for keys in client.processing().values() for key in keys}
                idle = [future for future in running if future.key not in begun and not future.done()]
                client.cancel(idle)
                for future in idle:
                    del running[future]
            while len(running) < room and not stop.count:
                job = bystanders.pop() if bystanders else next(waiting, None)
                if job is None:
                    break
                number += 1
                key = f"sct7t-{job.run_id}-{number}"
                running[client.submit(run_in_worker, job, key=key, pure=False)] = job
            if not running and (room or stop.count):
                break
            for future in _finished(client, running):
                job = running.pop(future)
                if _killed(future) and not job.has_begun():
                    # It stood in line at workers that another scan killed.
                    bystanders.append(job)
                else:
                    yield job, _outcome(job, future)
    except (Exception, asyncio.CancelledError) as err:
        if isinstance(err, (OSError, asyncio.CancelledError)) or type(err).__module__.startswith("distributed"):
            raise UsageError(
                f"{address}: the scheduler was lost ({type(err).__name__}); start it, and the same again"
            ) from err
        raise
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(running))
        client.close(timeout=5)


def run_in_worker(job: Work) -> Outcome:
    """Do the work where nobody stands by to stop it: the worker ends itself when the time is up.

    The scheduler then gives the scan to another worker, which finds the record of it and hands that on.
    """
    before = job.recorded()
    if before:
        return before
    watch = threading.Timer(job.timeout or threading.TIMEOUT_MAX, _expire, (job,))
    watch.daemon = True
    watch.start()
    try:
        return job.run()
    finally:
        watch.cancel()


def _expire(job):
    time_out(job)
    # A thread cannot be stopped; the process can, and its nanny starts another.
    os._exit(1)


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as err:
        raise UsageError("the dask engine needs dask.distributed; pip install 'sctseg7t[dask]'") from err
    try:
        return Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as err:
        raise UsageError(f"{address}: no scheduler answers there ({_line(err)}); start one") from err


def _finished(client, running):
    """Futures that have ended, after waiting a little for one (CancelledError if the scheduler is gone)."""
    from distributed import wait

    if not running:
        time.sleep(_TICK)
        return []
    with contextlib.suppress(TimeoutError), client.as_current():
        wait(list(running), timeout=_TICK, return_when="FIRST_COMPLETED")
    ended = [future for future in running if future.done()]
    if any(future.cancelled() for future in ended):
        raise asyncio.CancelledError("the scheduler forgot a scan")
    return ended


def _outcome(job: Work, future: Any) -> Outcome:
    if future.status == "finished":
        return future.result()
    if _killed(future):
        text = f"{job.what}: every worker that had it died; {job.alone}"
    else:
        text = f"{job.what}: lost with its worker ({_line(future.exception())})"
    return job.give_up(text, "killed")


def _killed(future):
    return future.status == "error" and type(future.exception()).__name__ == "KilledWorker"


def _line(err: BaseException) -> str:
    return one_line(f"{type(err).__name__}: {err}", 200)
