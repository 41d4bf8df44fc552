"""One scan in a worker: from its file to its outputs, its record and its log. Engines call exactly this."""

import contextlib
import datetime
import faulthandler
import json
import os
import platform
import shutil
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

from sctseg7t.cohort.job import Outcome, models_of
from sctseg7t.cohort.output_names import mask_metadata
from sctseg7t.cohort.resume import changed_outputs, fingerprint, run_key, stamp, state
from sctseg7t.errors import OutputError, UserError
from sctseg7t.files import write_json
from sctseg7t.outputs import input_record, split_name, staging_prefix
from sctseg7t.version import __version__

_NO_CORD = "no cord found (give its place with -centerline if there is one)"
# One scan at a time in a process: a model's threads and a log of crashes belong to one.
_BUSY = threading.Lock()
_open = {}
_ahead = {}


def run_scan(job):
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
            outcome = _attempt(job, segmenter, log)
            outcome = replace(outcome, seconds=time.perf_counter() - started)
            log(f"{outcome.status} after {outcome.seconds:.2f} s" + (f": {outcome.error}" if outcome.error else ""))
        return outcome


def open_model(settings):
    """The model of these settings, opened once in a process.

    Raises
    ------
    UserError
        It cannot be opened, or is another one than the run was planned with.
    """
    from sctseg7t.errors import ModelError
    from sctseg7t.pipeline import open_segmenter

    key = settings.cache_key()
    if key not in _open:
        segmenter = open_segmenter(
            settings.task,
            settings.model,
            settings.device,
            settings.options,
            threads=settings.threads,
            offline=settings.offline,
        )
        _open.clear()
        _open[key] = segmenter
    found = models_of(_open[key].spec, _open[key].locator_spec)
    if settings.models and found != tuple(settings.models):
        raise ModelError(
            f"{platform.node()}: its networks are not those that the run was planned with; "
            "install the same version of sctseg7t and of the model there"
        )
    return _open[key]


def write_failure(job, error, kind, **more):
    """Write the record of a scan that failed; nothing of an earlier run stays beside it.

    Returns
    -------
    Outcome
    """
    raw = {
        "status": "failed",
        "error": " ".join(str(error).split()),
        "error_kind": kind,
        "name": job.name,
        "entities": job.entities,
        "tool": {"name": "sctseg7t", "version": __version__},
        "models": job.models,
        "input": input_record(job.plan),
        "outputs": {},
        "options": job.options,
        "finished": _now(),
        "usable": False,
        "warnings": list(job.notes),
        "run_id": job.run_id,
        **more,
    }
    with contextlib.suppress(OSError, UserError):
        job.plan.sidecar.parent.mkdir(parents=True, exist_ok=True)
        before = _untouched(job)
        write_json(job.plan.sidecar, raw)
        _remove(before)
    sweep(job)
    return Outcome("failed", raw["error"], kind, len(raw["warnings"]))


def sweep(job):
    """Remove half-made files that a killed worker left."""
    with contextlib.suppress(OSError):
        for path in job.plan.sidecar.parent.iterdir():
            if path.name.startswith(staging_prefix(job.plan)):
                shutil.rmtree(path, ignore_errors=True)


def set_aside(job):
    """Move files that the outputs would overwrite but that no run left so: somebody's own, or changed by hand.

    Returns
    -------
    list of Path
        Where they are now.
    """
    recorded = _recorded(job)
    foreign = [path for path in job.plan.files() if path != job.plan.sidecar and path.name not in recorded]
    moved = []
    for path in (*changed_outputs(job.plan, recorded), *foreign):
        if path.is_file():
            place = job.replaced / job.run_id
            place.mkdir(parents=True, exist_ok=True)
            os.replace(path, place / path.name)
            moved.append(place / path.name)
    return moved


def _recorded(job):
    """Files with their hashes that the scan's present record lists."""
    try:
        return dict(json.loads(job.plan.sidecar.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _untouched(job):
    """Files of the scan's present record that are as they were written: what somebody changed is theirs."""
    recorded = _recorded(job)
    made = {job.plan.sidecar.with_name(Path(name).name) for name in recorded}
    return made - set(changed_outputs(job.plan, recorded))


def _remove(paths):
    """Remove outputs, with the metadata beside masks."""
    for path in paths:
        stem, extension = split_name(path)
        path.unlink(missing_ok=True)
        if extension:
            path.with_name(stem + ".json").unlink(missing_ok=True)


def _attempt(job, segmenter, log):
    """Run one scan; whatever it raises becomes a failed record."""
    try:
        return _segment(job, segmenter, log)
    except OutputError as err:
        return write_failure(job, err, "crash")
    except UserError as err:
        return write_failure(job, err, "input")
    except MemoryError:
        log(traceback.format_exc())
        return write_failure(job, f"{job.plan.source}: not enough memory; use fewer -workers or crop the scan", "crash")
    except Exception as err:  # noqa: BLE001
        log(traceback.format_exc())
        reason = " ".join(f"{type(err).__name__}: {err}".split())[:300]
        text = f"{job.plan.source}: internal error ({reason}); please report it with {job.log}"
        return write_failure(job, text, "crash")


def _segment(job, segmenter, log):
    from sctseg7t import outputs
    from sctseg7t.image.volume import check_header

    check_header(job.plan.source, axial=segmenter.AXIAL)
    outputs.check_folder(job.plan)
    sweep(job)
    # Before it is read: a change while it is read is then seen the next time.
    read = {role: stamp(path) if role == "scan" else fingerprint(path) for role, path in job.inputs().items()}
    result = segmenter.run(_volume(job, segmenter), **job.labels)
    read["scan"]["sha256"] = result.volume.sha256
    result.warnings[:0] = job.notes
    for text in result.warnings:
        log(f"warning: {text}")
    log(", ".join(f"{name} {value:.2f} s" for name, value in result.seconds.items()))
    seconds = {name: round(value, 4) for name, value in {**segmenter.seconds, **result.seconds}.items()}
    if not result.usable:
        source = {**input_record(job.plan), "sha256": result.volume.sha256}
        error = f"{job.plan.source}: {_NO_CORD}"
        return write_failure(job, error, "input", input=source, seconds=seconds, warnings=result.warnings)
    before = _untouched(job) - set(job.plan.files())
    notes = tuple(f"{path.name} had been changed since it was written; now in {path.parent}" for path in set_aside(job))
    sidecar = outputs.provenance(result, job.plan, segmenter, job.options, seconds)
    key = run_key(job.models, job.options, {role: seen["sha256"] for role, seen in read.items()})
    sidecar |= {"name": job.name, "entities": job.entities, "resume": {"key": key, "read": read}, "run_id": job.run_id}
    if job.bids:
        for path, content in mask_metadata(job.plan, job.label).items():
            write_json(path, content)
    outputs.write(result, job.plan, sidecar, filename=job.label)
    # Other options can have other names: the masks of before are nobody's now.
    _remove(before)
    return Outcome("ok", warnings=len(result.warnings), notes=notes)


def _volume(job, segmenter):
    """The scan, read while the one before was segmented if there was one; the next one is begun."""
    ahead = _ahead.pop(job.plan.source, None)
    _ahead.clear()
    if job.upcoming:
        _ahead[job.upcoming] = _Ahead(job.upcoming, segmenter.load)
    return (ahead and ahead.volume()) or job.plan.source


class _Ahead(threading.Thread):
    """Reads a scan in the background; what goes wrong is left for the reader in the foreground to say."""

    def __init__(self, source, load):
        super().__init__(daemon=True)
        self._source, self._load, self._volume = source, load, None
        self.start()

    def run(self):
        with contextlib.suppress(Exception):
            seen = stamp(self._source)
            self._volume = self._load(self._source), seen

    def volume(self):
        self.join()
        if self._volume:
            volume, seen = self._volume
            # A scan that changed since is read again.
            return volume if seen == stamp(self._source) else None
        return None


@contextlib.contextmanager
def _log(job, started):
    """A log of its own for each scan, that also gets what is known about a crash or a hang."""
    stream = None
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        stream = open(job.log, "w", encoding="utf-8")  # noqa: SIM115
    except OSError:
        # The scan's own folder may still be writable; a log is not worth losing it for.
        yield lambda text: None
        return

    def log(text):
        stream.write(f"{_now()} {text}\n")
        stream.flush()

    with stream:
        log(f"{job.label} on {platform.node()}, process {os.getpid()}, sctseg7t {__version__}, run {job.run_id}")
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


def has_begun(job):
    """Whether a worker of this run has ever begun with the scan, as its log says."""
    try:
        return f"run {job.run_id}" in job.log.read_text(encoding="utf-8")
    except OSError:
        return False


def append_log(job, text):
    """Add a line to a scan's log from outside its worker."""
    with contextlib.suppress(OSError):
        Path(job.log).parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "a", encoding="utf-8") as stream:
            stream.write(f"{_now()} {text}\n")


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
