"""Running what a study still has to do, and telling how it stands."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

from sctseg7t.cohort.run import Progress
from sctseg7t.inference.scan_run import Outcome
from sctseg7t.study.cell_run import FAILED, OK, CellWork

Engine = Callable[[list[CellWork]], Generator[tuple[CellWork, Outcome]]]
Tell = Callable[[CellWork, Outcome, Progress], None]


def run_study(sources: Sequence[CellWork], cells: Sequence[CellWork], engine: Engine, tell: Tell) -> Counter[str]:
    """Train and measure what is not done: first what others start from, then the cells.

    A cell whose source has failed is a cell that failed, with that reason.

    Parameters
    ----------
    sources, cells : sequence of CellWork
    engine : callable
        Of :mod:`sctseg7t.cohort.engine_local` or :mod:`sctseg7t.cohort.engine_dask`, with its settings.
    tell : callable
        Called with (work, outcome, progress) as each ends.

    Returns
    -------
    Counter
        How many are ok (or were before), failed, or stopped.
    """
    counts = _run([work for work in sources if work.state() != OK], engine, tell)
    broken = {str(work.folder): work for work in sources if work.state() == FAILED}
    waiting = [work for work in cells if work.state() != OK]
    counts["done before"] = len(cells) - len(waiting)
    waiting = [_without(work, broken[str(work.start)]) if str(work.start) in broken else work for work in waiting]
    return counts + _run(waiting, engine, tell)


def _without(work: CellWork, source: CellWork) -> CellWork:
    return replace(work, reason=f"what it starts from could not be trained: {source.recorded_reason()}")


def _run(waiting: list[CellWork], engine: Engine, tell: Tell) -> Counter[str]:
    counts: Counter[str] = Counter()
    if not waiting:
        return counts
    started = time.monotonic()
    with contextlib.closing(engine(waiting)) as results:
        for work, outcome in results:
            counts[outcome.status] += 1
            tell(work, outcome, Progress(counts.total(), len(waiting), time.monotonic() - started))
    return counts


def running(work: CellWork, seconds: float = 600) -> bool:
    """Whether something of a cell that is not done was written in the last minutes."""
    newest = 0.0
    for path in (work.folder / "log.txt", *Path(work.folder / "run").glob("*")):
        with contextlib.suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    return time.time() - newest < seconds
