"""One cell of a study in a worker: trained, then measured on scans of people it has not seen."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TextIO

from sctseg7t.compare.types import COLUMNS
from sctseg7t.errors import InputError, UserError
from sctseg7t.files import read_csv, read_json, write_csv, write_json
from sctseg7t.inference.scan_run import Outcome
from sctseg7t.study.config import Cell
from sctseg7t.train.scans.labelled import LabelledScan
from sctseg7t.train.scans.splits import Split, write_splits
from sctseg7t.version import __version__

RECORD, VALUES, LOG, RUN = "cell.json", "values.csv", "log.txt", "run"
# Of scans of the test part; others have the name of their set.
TEST = "test"
OK, FAILED, STOPPED = "ok", "failed", "stopped"
METHOD = "cell"


@dataclass(frozen=True)
class CellWork:
    """A cell to be trained and measured; a :class:`sctseg7t.cohort.job.Work`.

    Attributes
    ----------
    cell : Cell
    folder : Path
        Of the cell.
    recipe : dict
        The whole training recipe; empty where a model of the zoo is measured as it is.
    models : tuple of str
        Those models.
    split : Split
        With the training people of this cell.
    scans : tuple of LabelledScan
        The data set.
    others : dict of str to tuple of LabelledScan
        Sets that are measured beside the test part, by name.
    start : str or None
        What the training starts from.
    key : str
        Of all that the numbers depend on: a cell with this key is not run again.
    device, precision, threads
        As for the training.
    run_id, timeout
        As of any work.
    reason : str
        Why it cannot be run at all; "" if it can.
    labels : tuple of str
        What is measured.
    rules : dict
        What masks are called, by label.
    tags : dict of str to str
        What tables call its values, and ``method``.
    measured : bool
        False of a source that others start from: it is trained only.
    data : tuple of str
        Folders of the simulator's anatomy, for recipes that simulate.
    """

    cell: Cell
    folder: Path
    recipe: dict[str, Any]
    split: Split
    scans: tuple[LabelledScan, ...]
    others: dict[str, tuple[LabelledScan, ...]]
    key: str
    run_id: str
    models: tuple[str, ...] = ()
    start: str | None = None
    device: str = "cpu"
    precision: str = "auto"
    threads: int | None = None
    timeout: float | None = None
    reason: str = ""
    labels: tuple[str, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    measured: bool = True
    data: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the cell."""
        return self.cell.name

    @property
    def what(self) -> str:
        """What messages call it."""
        return self.cell.name

    @property
    def alone(self) -> str:
        """How to see more."""
        return f"see {self.folder / LOG}"

    def before(self, following: Self) -> Self:
        """Nothing is read ahead."""
        return self

    def state(self) -> str:
        """``ok``, ``failed`` or ``to do``: what its folder holds for this key."""
        record = read_json(self.folder / RECORD)
        if record.get("key") != self.key:
            return "to do"
        return str(record.get("status"))

    def recorded_reason(self) -> str:
        """Why it failed; "" where it did not."""
        return str(read_json(self.folder / RECORD).get("reason", ""))

    def recorded(self) -> Outcome | None:
        """What this run has recorded of the cell."""
        record = read_json(self.folder / RECORD)
        if record.get("run_id") != self.run_id or record.get("key") != self.key:
            return None
        return Outcome(record["status"], record.get("reason"))

    def has_begun(self) -> bool:
        """Whether a worker of this run has begun with it."""
        with contextlib.suppress(OSError):
            return f"run {self.run_id}" in (self.folder / LOG).read_text(encoding="utf-8")
        return False

    def give_up(self, text: str, kind: str) -> Outcome:
        """Record that it failed."""
        return self.recorded() or self._failed(text, 0.0)

    def sweep(self) -> None:
        """What a training has saved stays: it goes on from there."""

    def run(self) -> Outcome:
        """Train and measure; whatever goes wrong is the cell's outcome, with its reason."""
        started, worked = time.perf_counter(), time.process_time()
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOG, "a", encoding="utf-8", buffering=1) as log:
            print(f"run {self.run_id} on {platform.node()}, process {os.getpid()}, sctseg7t {__version__}", file=log)
            try:
                made = self._done(log, started, worked)
            except UserError as err:
                return self._failed(str(err), time.perf_counter() - started)
            except KeyboardInterrupt as err:
                # Its state is saved: it is not done, and not failed.
                return Outcome(STOPPED, str(err) or "stopped")
            except Exception as err:  # noqa: BLE001
                traceback.print_exc(file=log)
                text = f"{type(err).__name__}: {err}; see {self.folder / LOG}"
                return self._failed(text, time.perf_counter() - started)
        return made

    def _done(self, log: TextIO, started: float, worked: float) -> Outcome:
        from sctseg7t.study.training import train_cell

        if self.reason:
            raise InputError(self.reason)
        write_splits(self.folder / "splits.json", [self.split])
        trained = train_cell(self, log) if self.recipe else {}
        networks = [trained.pop("onnx")] if self.recipe else list(self.models)
        seconds = time.perf_counter() - started
        if self.measured:
            write_csv(self.folder / VALUES, ["set", *COLUMNS], _measured(self, networks), digits=6)
        write_json(
            self.folder / RECORD,
            {
                **self._about(),
                "status": OK,
                "seconds_training": round(seconds, 1),
                "seconds": round(time.perf_counter() - started, 1),
                "cpu_seconds": round(time.process_time() - worked, 1),
                **trained,
            },
        )
        return Outcome(OK, seconds={"cell": time.perf_counter() - started})

    def _failed(self, text: str, seconds: float) -> Outcome:
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {**self._about(), "status": FAILED, "reason": text, "seconds": round(seconds, 1)}
        write_json(self.folder / RECORD, record)
        return Outcome(FAILED, text, "input")

    def _about(self) -> dict[str, Any]:
        return {
            "cell": self.name,
            "labels": dict(self.tags or self.cell.labels),
            "key": self.key,
            "run_id": self.run_id,
            "split": {"name": self.split.name, "digest": self.split.digest()},
            "people": {part: list(getattr(self.split, part)) for part in ("train", "validation", "test")},
            "recipe": self.recipe,
            "models": list(self.models),
            "start": self.start,
            "host": platform.node(),
            "tool_version": __version__,
        }


def key_of(parts: Mapping[str, Any]) -> str:
    """A digest of all that a cell's numbers depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def read_values(folder: Path) -> list[dict[str, str]]:
    """The rows that a cell has written."""
    return read_csv(folder / VALUES)


# --- measuring ------------------------------------------------------------------------------


def _measured(work: CellWork, networks: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Rows of the long table of every scan that the cell is measured on."""
    import pandas as pd

    from sctseg7t.train.final_test import TEST_ROWS, measure_scans
    from sctseg7t.train.scans.labelled import label_map

    rules = label_map({name: work.rules.get(name, []) for name in work.labels})
    sets = {TEST: work.split.scans("test", work.scans), **work.others}
    parts = []
    for network in networks:
        for of, scans in sets.items():
            own = [replace(scan, masks={k: v for k, v in scan.masks.items() if k in rules}) for scan in scans]
            # The export of a training has measured its test part.
            there = read_csv(work.folder / RUN / TEST_ROWS) if of == TEST and work.recipe else []
            table = pd.DataFrame(there) if there else measure_scans(network, own, rules, work.threads)
            parts.append(_with_name(table, of, networks))
    table = pd.concat(parts, ignore_index=True)
    if not len(table):
        raise InputError(f"{work.name}: nobody is in the test part of its split, so nothing can be measured")
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _with_name(table: Any, of: str, networks: Sequence[str | Path]) -> Any:
    """Rows of one set, the network called ``cell``; of several networks each counts for what it segments."""
    from sctseg7t.compare.types import REFERENCE

    named = table.assign(set=of, method=table.method.where(table.method == REFERENCE, METHOD))
    if len(networks) > 1 and len(table):
        seen = named[(named.method == METHOD) & (named.metric == "dice") & (named.level == "scan")]
        found = seen.groupby("structure").value.apply(lambda dice: (dice.astype(float) > 0).any())
        named = named[named.structure.isin(found[found].index)]
    return named[["set", *COLUMNS]]
