"""The one way from a scan to its files: for single runs, the workers of a batch, and comparisons."""

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sctseg7t.errors import InputError, OutputError, UserError
from sctseg7t.files import read_csv, read_json, write_json
from sctseg7t.image.masks import read_mask
from sctseg7t.image.volume import Volume, check_header
from sctseg7t.inference import corrections, outputs, record
from sctseg7t.inference.corrections import Correction
from sctseg7t.inference.outputs import Plan
from sctseg7t.inference.roles import SCAN
from sctseg7t.inference.segmenter import Options, Result, Segmenter, load_scan
from sctseg7t.text import one_line
from sctseg7t.zoo.cache import file_digest


@dataclass(frozen=True)
class Outcome:
    """What became of one scan, in few bytes.

    Attributes
    ----------
    status : str
        ``ok``, ``nothing_found`` (the masks are empty) or ``failed``. In a batch also ``done`` (was up to date) and
        ``fatal`` (the run itself cannot go on).
    error : str or None
        One line for people, unless all is well.
    kind : str or None
        Of a failure, see :attr:`sctseg7t.inference.record.Record.error_kind`.
    warnings : tuple of str
    seconds : dict of str to float
        Time of each step.
    notes : tuple of str
        What the user should be told at once.
    """

    status: str
    error: str | None = None
    kind: str | None = None
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScanTask:
    """One scan to be segmented, and how its files are to be kept.

    Attributes
    ----------
    plan : Plan
    options : dict
        All that was asked for, as plain values.
    label : str
        What tables call the scan.
    about : dict
        Further content of the record: its name and entities in the data set, the run.
    notes : tuple of str
        Warnings known before the scan is opened.
    metadata : dict of Path to dict
        JSON to write beside masks.
    archive : Path or None
        Of a batch, which owns its outputs: what somebody changed is moved there before it is written over, files of
        an earlier run that are no longer made are removed, and a failed scan has a record. None: only what is
        written is replaced, what somebody changed is moved to ``replaced`` beside it, a file that is none of ours is
        left alone and fails the scan, and a failed scan leaves everything as it was.
    overwrite : bool
        Write also over masks that somebody edited, and over files that are none of ours; a copy of them is kept.
    reuse : bool
        Leave the network out where its masks lie there as it would make them, and measure anew what was corrected.
    """

    plan: Plan
    options: dict[str, Any]
    label: str
    about: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metadata: dict[Path, dict] = field(default_factory=dict)
    archive: Path | None = None
    overwrite: bool = False
    reuse: bool = False


class ReadAhead(threading.Thread):
    """A scan that is read in the background, while a model is opened or another scan is segmented.

    What goes wrong is left for the reader in the foreground to say.

    Parameters
    ----------
    source : path
    options : Options
    axial : bool
        As of the segmenter that will run it.
    """

    def __init__(self, source: str | Path, options: Options, axial: bool) -> None:
        super().__init__(daemon=True)
        self._source, self._options, self._axial = source, options, axial
        self._seen, self._volume = None, None
        self.start()

    def run(self) -> None:
        with contextlib.suppress(Exception):
            self._seen = record.stamp(self._source)
            self._volume = load_scan(self._source, self._options, axial=self._axial)

    def volume(self) -> Volume | None:
        """The scan; None if it could not be read, or has changed since."""
        self.join()
        with contextlib.suppress(OSError):
            return self._volume if self._seen == record.stamp(self._source) else None
        return None


def segment_to_files(
    segmenter: Segmenter,
    task: ScanTask,
    *,
    ahead: Callable[[], Volume | None] = lambda: None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Segment one scan and write its masks, tables and record: all of them, or none.

    Never raises but for Ctrl-C: whatever goes wrong is the scan's outcome.

    Parameters
    ----------
    segmenter : Segmenter
    task : ScanTask
    ahead : callable
        Gives the scan if it has been read already; it is asked once the file's present state is noted.
    say : callable
        Is told, in lines, what a log should hold.
    """
    try:
        return _segment(segmenter, task, ahead, say)
    except Exception as err:  # noqa: BLE001
        text, kind = explain(err, task.plan)
        if not isinstance(err, UserError):
            say(traceback.format_exc())
        return fail(task, text, kind)


def explain(err: Exception, plan: Plan) -> tuple[str, str]:
    """What is told of an error in the work on a scan, in one line, and its kind.

    One that is nobody's wrong input is a fault of the tool's own: it must not cost the other scans.
    """
    if isinstance(err, UserError):
        return str(err), "output" if isinstance(err, OutputError) else "input"
    if isinstance(err, MemoryError):
        return f"{plan.source}: not enough memory; crop the scan or close other programs", "memory"
    if isinstance(err, OSError):
        place, why = err.filename or plan.sidecar.parent, err.strerror or err
        return f"{place}: cannot be read or written ({why}); check the disk and the folder, run again", "output"
    reason = one_line(f"{type(err).__name__}: {err}", 300)
    return f"{plan.source}: internal error ({reason}); please report it", "internal"


def fail(task: ScanTask, error: object, kind: str, *, clear: bool = True) -> Outcome:
    """The outcome of a scan that failed; a batch keeps a record of it, and nothing of an earlier run beside it.

    Masks that somebody corrected stay, and the record still tells that they are; without ``clear`` all files do.
    """
    content = {**record.failure(task.plan, error, kind), "options": task.options, **task.about}
    content["warnings"] = list(task.notes)
    if task.archive:
        with contextlib.suppress(OSError, UserError):
            task.plan.sidecar.parent.mkdir(parents=True, exist_ok=True)
            before, changed = _present(task.plan)
            raw = read_json(task.plan.sidecar)
            kept = {path.name for path in (changed if clear else (*changed, *before))}
            content["files"] = {name: entry for name, entry in (raw.get("files") or {}).items() if name in kept}
            content["corrections"] = raw.get("corrections") or {}
            write_json(task.plan.sidecar, content)
            if clear:
                outputs.remove(before)
        outputs.sweep(task.plan)
    return Outcome(record.FAILED, content["error"], kind, task.notes)


def _segment(
    segmenter: Segmenter, task: ScanTask, ahead: Callable[[], Volume | None], say: Callable[[str], None]
) -> Outcome:
    plan, model = task.plan, segmenter.model
    # First, so that no folder is made for an input that is not there.
    check_header(plan.source, axial=segmenter.axial)
    outputs.check_folder(plan)
    outputs.sweep(plan)
    found = corrections.find(plan, edited=not task.overwrite)
    _check_foreign(task)
    # Before they are read: a change while they are read is then seen the next time.
    read = _stamps(plan)
    scan, seconds = ahead() or plan.source, {}
    before = read_json(plan.sidecar) if task.reuse else {}
    if before.get("status") != record.OK or not corrections.ours_on_disk(plan, found, record.derived_names(model.spec)):
        before = {}
    if (before.get("brain") or {}).get("followup"):
        # What is new follows from both scans, not from the masks that lie there.
        before = {}
    if before:
        scan = load_scan(scan, model.options, axial=segmenter.axial)
    if isinstance(scan, Volume) and before.get("key") == _key(segmenter, task, read, scan):
        result, content = again(task, scan, found, before), before
    else:
        result = segmenter.run(scan, **plan.others)
        seconds = {**model.seconds, **result.seconds}
        content = record.success(result, plan, model, seconds)
        if found:
            result = _corrected(task, result, found, record.derived_names(model.spec))
    read[SCAN]["sha256"] = result.volume.sha256
    content |= {"options": task.options, **task.about}
    content["input"]["sha256"] = result.volume.sha256
    content["inputs"] = {role: {**place, **read[role]} for role, place in content["inputs"].items()}
    content["key"] = _key(segmenter, task, read, result.volume)
    return write(task, result, content, found, seconds, say)


def _key(segmenter: Segmenter, task: ScanTask, read: Mapping[str, Mapping[str, Any]], scan: Volume) -> str:
    hashes = {role: seen["sha256"] for role, seen in read.items() if role != SCAN}
    return record.run_key(record.identities(segmenter.model), task.options, {SCAN: scan.sha256 or "", **hashes})


def _stamps(plan: Plan) -> dict[str, dict[str, Any]]:
    """Size, time and hash of the files that are read, by role; the scan's hash comes when it is read."""
    read: dict[str, dict[str, Any]] = {SCAN: dict(record.stamp(plan.source))}
    for role, path in plan.others.items():
        try:
            read[role] = {**record.stamp(path), "sha256": file_digest(path, "sha256")}
        except OSError as err:
            raise InputError(f"{path}: the {role} file cannot be read ({err.strerror}); check the path") from err
    return read


# --- corrected masks -------------------------------------------------------------------


# By name: a cord never imports what a brain needs.
_REMEASURERS = {
    record.CORD: "sctseg7t.cord.corrected:remeasure",
    record.BRAIN: "sctseg7t.brain.corrected:remeasure",
}


def _corrected(task: ScanTask, ours: Result, found: Mapping[str, Correction], derived: tuple[str, ...]) -> Result:
    """What a network made, with the corrected masks in place of its own, measured again."""
    soft = bool(task.options.get("soft"))
    masks = {tissue: read_mask(image).data for tissue, image in ours.masks.items() if tissue != record.LABELS}
    rows = [(t, row) for t, table in enumerate(ours.tables) for row in getattr(table, "rows", ())]
    known = {
        "flags": {(t, row.slice): row.flags for t, row in rows},
        "spread": {(t, row.slice, row.tissue): row.spread for t, row in rows if row.spread is not None},
    }
    result = ours.corrected_by(_measured(task, ours.volume, masks, found, derived, known, ours.details, soft))
    return replace(result, uncertainty=ours.uncertainty)


def again(task: ScanTask, volume: Volume, found: Mapping[str, Correction], before: Mapping[str, Any]) -> Result:
    """A scan measured again from the masks that lie there, without the network.

    Parameters
    ----------
    task : ScanTask
    volume : Volume
        The scan.
    found : dict of str to Correction
    before : dict
        The record of the run that made the masks.

    Raises
    ------
    InputError
        A corrected mask cannot be used.
    """
    masks = {
        tissue: read_mask(path, volume).data
        for tissue, path in task.plan.masks.items()
        if tissue not in (*found, record.LABELS) and path.is_file()
    }
    soft = bool((before.get("options") or {}).get("soft"))
    derived = tuple(before.get("derived", ("WM",)))
    flags: dict[tuple[int, int], set[str]] = {}
    spread: dict[tuple[int, int, str], float] = {}
    for row in read_csv(task.plan.tables.get("csa")):
        place = int(row.get("volume") or 0), int(row["slice"])
        flags.setdefault(place, set()).update(filter(None, row["flags"].split(";")))
        if row.get("spread"):
            spread[*place, row["tissue"]] = float(row["spread"])
    return _measured(task, volume, masks, found, derived, {"flags": flags, "spread": spread}, before, soft)


def _measured(task, volume, masks, found, derived, known, details, soft):
    masks = {tissue: data if soft else data > 0.5 for tissue, data in masks.items()}
    masks |= {tissue: corrections.read(one, volume, soft=soft) for tissue, one in found.items()}
    ordered = {tissue: masks[tissue] for tissue in task.plan.masks if tissue in masks}
    how = {"derived": derived, "files": task.plan.others, **known, "details": details, "soft": soft}
    result = remeasurer(record.kind_of(ordered))(volume, ordered, tuple(found), **how)
    result.warnings[:0] = [*volume.notes, *(one.words() for one in found.values())]
    result.warnings.extend(
        f"corrected: {one.path}: is empty, and taken as it is" for one in found.values() if not masks[one.tissue].any()
    )
    return result


def remeasurer(kind: str) -> Callable[..., Result]:
    """What measures the masks of an organ again."""
    module, name = _REMEASURERS[kind].split(":")
    return getattr(import_module(module), name)


# --- writing ---------------------------------------------------------------------------


def write(
    task: ScanTask,
    result: Result,
    content: dict[str, Any],
    found: Mapping[str, Correction],
    seconds: Mapping[str, float] = MappingProxyType({}),
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Write what came of a scan: masks but those that were edited in place, tables, and the record.

    Parameters
    ----------
    task : ScanTask
    result : Result
    content : dict
        Of the record; what the result says replaces what it has.
    found : dict of str to Correction
    seconds : dict of str to float
    say : callable
    """
    plan = task.plan
    result.warnings[:0] = task.notes
    for text in result.warnings:
        say(f"warning: {text}")
    say(", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()) or "measured again, without the network")
    content = {**content, **record.outcome(result, plan)}
    content["corrections"] = corrections.entry(plan, found, result.cut)
    edited = {tissue for tissue, one in found.items() if one.origin == corrections.EDITED}
    stale, notes = _make_way(plan, task, {plan.masks[tissue] for tissue in edited})
    content.pop("left", None)
    if left := _left(task):
        content["left"] = left
        notes += (f"{', '.join(left)}: left from an earlier run, and not in the tables of this one",)

    def make(staged: Plan) -> None:
        result.write(staged, task.label, leave=edited)
        made = [*staged.masks.values(), *staged.tables.values()]
        kept = [plan.sidecar.with_name(path.name) for path in made if not path.exists()]
        there = [path for path in (*made, *kept) if path.is_file()]
        write_json(staged.sidecar, {**content, "files": record.file_hashes(there)})

    outputs.write(plan, make)
    # Other options can have other names: the masks of before are nobody's now.
    outputs.remove(stale)
    for path, metadata in task.metadata.items():
        # What somebody wrote beside a mask of theirs stays.
        if not (path.exists() and any(outputs.json_beside(plan.masks[tissue]) == path for tissue in edited)):
            write_json(path, metadata)
    return Outcome(content["status"], content.get("error"), None, tuple(result.warnings), dict(seconds), notes)


def _present(plan: Plan) -> tuple[set[Path], list[Path]]:
    """Files of the scan's present record: those that are as they were written, and those that somebody changed."""
    files = record.recorded_files(plan.sidecar)
    differ = record.changed_outputs(plan.sidecar, files)
    made = corrections.recorded(read_json(plan.sidecar)).values()
    edited = {one.get("file"): one.get("own_sha256") for one in made if one.get("origin") == corrections.EDITED}
    paths = sorted(plan.sidecar.with_name(Path(name).name) for name in files)
    changed = [
        path
        for path in paths
        # An edited mask is somebody's as it was recorded too, until they restore ours.
        if (not path.is_file() or file_digest(path) != edited[path.name] if path.name in edited else path in differ)
    ]
    return set(paths) - set(changed), changed


def _check_foreign(task: ScanTask) -> list[Path]:
    """Files in the way that no run of ours made; OutputError if they are not to be touched."""
    plan, (untouched, changed) = task.plan, _present(task.plan)
    known = {*untouched, *changed, plan.sidecar}
    foreign = [path for path in plan.files() if path.is_file() and path not in known]
    if foreign and not (task.archive or task.overwrite):
        raise OutputError(
            f"{foreign[0]}: is there already and is no output of this tool; choose another output folder, or ask to "
            "overwrite it (a copy is kept)"
        )
    return foreign


def _make_way(plan: Plan, task: ScanTask, keep: set[Path]) -> tuple[set[Path], tuple[str, ...]]:
    """Move what would be written over but no run left so out of the way.

    Returns the files of the present record that this run does not write again (of a batch), and notes of what was
    moved.
    """
    untouched, changed = _present(plan)
    foreign = _check_foreign(task)
    archive = task.archive or plan.sidecar.parent / "replaced" / record.now().replace(":", "")
    notes = []
    for path in (*(changed if task.archive else set(changed) & set(plan.files())), *foreign):
        if path.is_file() and path not in keep:
            archive.mkdir(parents=True, exist_ok=True)
            os.replace(path, archive / path.name)
            notes.append(f"{path.name} had been changed since it was written; now in {archive}")
    return untouched - set(plan.files()) if task.archive else set(), tuple(notes)


def _left(task: ScanTask) -> dict[str, Any]:
    """What the record says of masks that an earlier single run made and this one does not."""
    plan = task.plan
    written = {path.name for path in (*plan.files(), *plan.possible_tables())}
    return {
        name: entry
        for name, entry in record.recorded_files(plan.sidecar).items()
        if not task.archive and name not in written and plan.sidecar.with_name(name).is_file()
    }
