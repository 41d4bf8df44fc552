"""Measuring again what was corrected after a run, from the files on disk alone: no model is opened."""

from collections.abc import Sequence
from pathlib import Path

from sctseg7t.cohort.lock import alone_in
from sctseg7t.errors import InputError, UserError
from sctseg7t.files import read_csv
from sctseg7t.image.volume import load
from sctseg7t.inference import corrections
from sctseg7t.inference.record import BRAIN, Record
from sctseg7t.inference.scan_run import ScanTask, again, fail, write


def remeasure(out: str | Path, records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """Measure every scan again whose corrected masks are not those that its tables are of.

    Parameters
    ----------
    out : path
        Folder of the batch; what has to make way goes to ``replaced`` in it.
    records : sequence of Record

    Returns
    -------
    notes : list of str
        What was measured again, in words.
    problems : list of str
        Scans whose tables are not those of the masks that count, and why. If a corrected mask cannot be used, the
        scan is now recorded as failed.

    Raises
    ------
    UsageError
        A batch is at work in the folder.
    """
    out, todo, notes, problems = Path(out), [], [], []
    for record in records:
        try:
            if record.masks and not corrections.same(corrections.of_record(record), record.raw):
                todo.append(record)
        except InputError:
            todo.append(record)
    if not todo:
        return notes, problems
    with alone_in(out):
        for record in todo:
            try:
                notes += _one(record, _task(record, out), problems)
            except UserError as err:
                outcome = fail(_task(record, out), err, "input", clear=False)
                problems.append(f"{record.name}: {outcome.error}")
    return notes, problems


def _task(record: Record, out: Path) -> ScanTask:
    plan, raw = corrections.plan_of(record), record.raw
    rows = (row for path in plan.tables.values() if path.suffix == ".csv" for row in read_csv(path))
    label = next((row["filename"] for row in rows if row.get("filename")), record.name)
    about = {name: raw[name] for name in ("name", "entities", "run_id", "model") if name in raw}
    return ScanTask(plan, raw.get("options") or {}, label, about, archive=out / "replaced" / "corrected")


def _one(record: Record, task: ScanTask, problems: list[str]) -> list[str]:
    if record.table("followup"):
        problems.append(
            f"{record.name}: what is new follows from both scans; nothing was measured again: run the batch"
        )
        return []
    found = corrections.find(task.plan)
    options = record.raw.get("options") or {}
    how = {"volumes": options.get("volumes", "each"), "nan": options.get("nan", "zero")}
    volume = load(record.image, axial=record.kind != BRAIN, **how)
    for one in found.values():
        corrections.read(one, volume, soft=bool(options.get("soft")))
    derived = tuple(record.raw.get("derived", ("WM",)))
    raw, whole = record.raw, corrections.ours_on_disk(task.plan, found, derived)
    if not whole:
        # Only the batch can make again what an earlier correction took from our masks, and it will.
        raw = raw | {"key": ""}
        problems.append(f"{record.name}: a correction has changed what our own masks were cut to, or was taken back; ")
        if not corrections.ours_on_disk(task.plan, found, derived, cut=True):
            problems[-1] += "nothing was measured again: run the batch"
            return []
        problems[-1] += "GM may lack voxels until the batch is run"
    outcome = write(task, again(task, volume, found, raw), raw, found)
    return [f"{record.name}: measured again ({', '.join(sorted(found)) or 'no mask'} corrected)", *outcome.notes]
