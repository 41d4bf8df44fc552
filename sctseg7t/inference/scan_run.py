"""The one way from a scan to its files: for single runs, the workers of a batch, and comparisons."""

import contextlib
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sctseg7t.errors import InputError, OutputError, UserError
from sctseg7t.files import write_json
from sctseg7t.image.volume import Volume, check_header
from sctseg7t.inference import outputs, record
from sctseg7t.inference.outputs import Plan
from sctseg7t.inference.roles import SCAN
from sctseg7t.inference.segmenter import Options, Segmenter, load_scan
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
        written is replaced, and a failed scan leaves everything as it was.
    """

    plan: Plan
    options: dict[str, Any]
    label: str
    about: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metadata: dict[Path, dict] = field(default_factory=dict)
    archive: Path | None = None


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
    except OutputError as err:
        return fail(task, err, "output")
    except UserError as err:
        return fail(task, err, "input")
    except MemoryError:
        say(traceback.format_exc())
        return fail(task, f"{task.plan.source}: not enough memory; crop the scan or close other programs", "memory")
    except Exception as err:  # noqa: BLE001
        # A fault of the tool's own: it must not cost the other scans.
        say(traceback.format_exc())
        reason = one_line(f"{type(err).__name__}: {err}", 300)
        return fail(
            task, f"{task.plan.source}: internal error ({reason}); please report it, with the traceback", "internal"
        )


def fail(task: ScanTask, error: object, kind: str) -> Outcome:
    """The outcome of a scan that failed; a batch keeps a record of it, and nothing of an earlier run beside it."""
    content = {**record.failure(task.plan, error, kind), "options": task.options, **task.about}
    content["warnings"] = list(task.notes)
    if task.archive:
        with contextlib.suppress(OSError, UserError):
            task.plan.sidecar.parent.mkdir(parents=True, exist_ok=True)
            before, _ = _present(task.plan)
            write_json(task.plan.sidecar, content)
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
    # Before they are read: a change while they are read is then seen the next time.
    read: dict[str, dict[str, Any]] = {SCAN: dict(record.stamp(plan.source))}
    for role, path in plan.others.items():
        try:
            read[role] = {**record.stamp(path), "sha256": file_digest(path, "sha256")}
        except OSError as err:
            raise InputError(f"{path}: the {role} file cannot be read ({err.strerror}); check the path") from err
    result = segmenter.run(ahead() or plan.source, **plan.others)
    read[SCAN]["sha256"] = result.volume.sha256
    result.warnings[:0] = task.notes
    seconds = {**model.seconds, **result.seconds}
    for text in result.warnings:
        say(f"warning: {text}")
    say(", ".join(f"{name} {value:.2f} s" for name, value in result.seconds.items()))

    content = {**record.success(result, plan, model, seconds), "options": task.options, **task.about}
    content["input"]["sha256"] = result.volume.sha256
    content["inputs"] = {role: {**place, **read[role]} for role, place in content["inputs"].items()}
    hashes = {role: seen["sha256"] for role, seen in read.items()}
    content["key"] = record.run_key(record.identities(model), task.options, hashes)

    stale, notes = _make_way(plan, task.archive) if task.archive else (set(), ())
    for path, metadata in task.metadata.items():
        write_json(path, metadata)

    def make(staged: Plan) -> None:
        result.write(staged, task.label)
        made = [path for path in staged.files() if path.exists()]
        write_json(staged.sidecar, {**content, "files": record.file_hashes(made)})

    outputs.write(plan, make)
    # Other options can have other names: the masks of before are nobody's now.
    outputs.remove(stale)
    return Outcome(content["status"], content.get("error"), None, tuple(result.warnings), seconds, notes)


def _present(plan: Plan) -> tuple[set[Path], list[Path]]:
    """Files of the scan's present record: those that are as they were written, and those that somebody changed."""
    recorded = record.recorded_files(plan.sidecar)
    changed = record.changed_outputs(plan.sidecar, recorded)
    return {plan.sidecar.with_name(Path(name).name) for name in recorded} - set(changed), changed


def _make_way(plan: Plan, archive: Path) -> tuple[set[Path], tuple[str, ...]]:
    """Move what would be written over but no run left so to the archive.

    Returns the files of the present record that this run does not write again, and notes of what was moved.
    """
    untouched, changed = _present(plan)
    foreign = [path for path in plan.files() if path != plan.sidecar and path not in untouched and path not in changed]
    notes = []
    for path in (*changed, *foreign):
        if path.is_file():
            archive.mkdir(parents=True, exist_ok=True)
            os.replace(path, archive / path.name)
            notes.append(f"{path.name} had been changed since it was written; now in {archive}")
    return untouched - set(plan.files()), tuple(notes)
