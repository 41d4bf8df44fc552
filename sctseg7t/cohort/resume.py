"""Exact resume: a scan is done if the same bytes, networks and options left files that are still as they were."""

import hashlib
import json
from pathlib import Path

from sctseg7t.files import write_json
from sctseg7t.outputs import hashes
from sctseg7t.version import __version__
from sctseg7t.zoo.cache import file_digest


def run_key(models, options, inputs):
    """SHA-256 over everything that the outputs of a scan depend on.

    Device and number of threads are left out: they may change the last bit of a fraction, not what was asked for.

    Parameters
    ----------
    models : list of dict
        Identity of the networks, with their hashes.
    options : dict
    inputs : dict of str to str
        SHA-256 of the scan (``scan``) and of label files read with it.
    """
    # The order of options says nothing; that of the inputs is by name.
    content = {"tool": __version__, "models": models, "options": options, "inputs": inputs}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stamp(path):
    """Size and modification time of a file."""
    status = Path(path).stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def fingerprint(path):
    """Size, modification time and SHA-256 of a file that a run reads."""
    return {**stamp(path), "sha256": file_digest(path, "sha256")}


def state(job, *, rehash):
    """Whether a job's outputs are up to date.

    A file that was read is taken as unchanged if size and modification time are those recorded. If they are not,
    its content decides: that needs ``rehash``.

    Parameters
    ----------
    job : Job
    rehash : bool
        Read changed files. If they turn out to be the same, their new time is recorded.

    Returns
    -------
    str
        ``done``; ``unsure`` (only without `rehash`); else why it must run: ``new``, ``failed before``,
        ``options or model changed``, ``input changed``, ``outputs changed``.
    """
    try:
        raw = json.loads(job.plan.sidecar.read_text(encoding="utf-8"))
        if raw.get("status") == "failed":
            return "failed before"
        read = raw["resume"]["read"]
        same = raw["resume"]["key"] == run_key(job.models, job.options, {k: v["sha256"] for k, v in read.items()})
        files = raw["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "new"
    paths = job.inputs()
    if not same or set(paths) != set(read):
        return "options or model changed"
    touched = [name for name, path in paths.items() if not _same_times(path, read[name])]
    if touched and not rehash:
        return "unsure"
    for name in touched:
        try:
            seen = fingerprint(paths[name])
        except OSError:
            return "input changed"
        if seen["sha256"] != read[name]["sha256"]:
            return "input changed"
        read[name] = seen
    if changed_outputs(job.plan, files):
        return "outputs changed"
    if touched:
        write_json(job.plan.sidecar, raw)
    return "done"


def changed_outputs(plan, files):
    """Recorded output files that are gone or no longer as they were written."""
    changed = []
    for name, recorded in files.items():
        path = plan.sidecar.with_name(Path(name).name)
        try:
            if path.stat().st_size != recorded["bytes"] or hashes([path])[path.name] != recorded:
                changed.append(path)
        except OSError:
            changed.append(path)
    return changed


def _same_times(path, recorded):
    try:
        return stamp(path) == {name: recorded[name] for name in ("bytes", "mtime_ns")}
    except OSError:
        return False
