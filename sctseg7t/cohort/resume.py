"""Exact resume: a scan is done if the same bytes, networks and options left files that are still as they were."""

import json

from sctseg7t.cohort.job import Job
from sctseg7t.errors import InputError
from sctseg7t.files import write_json
from sctseg7t.inference import corrections
from sctseg7t.inference.record import FAILED, NOTHING_FOUND, changed_outputs, run_key, stamp
from sctseg7t.zoo.cache import file_digest

CORRECTED = "masks corrected"


def state(job: Job, *, rehash: bool) -> str:
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
        ``done``; ``unsure`` (only without `rehash`); else why it must run: ``new``, ``failed before``, ``nothing
        found before``, ``options or model changed``, ``input changed``, ``outputs changed``, ``masks corrected``.
    """
    try:
        raw = json.loads(job.plan.sidecar.read_text(encoding="utf-8"))
        if raw["status"] in (FAILED, NOTHING_FOUND):
            return f"{raw['status'].replace('_', ' ')} before"
        read = raw["inputs"]
        same = raw["key"] == run_key(job.models, job.task.options, {k: v["sha256"] for k, v in read.items()})
        files = raw["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "new"
    paths = job.plan.inputs
    if not same or set(paths) != set(read):
        return "options or model changed"
    touched = False
    for name, path in paths.items():
        try:
            seen = stamp(path)
            if seen.items() <= read[name].items():
                continue
            if not rehash:
                return "unsure"
            touched = True
            if file_digest(path, "sha256") != read[name]["sha256"]:
                return "input changed"
        except OSError:
            return "input changed" if rehash else "unsure"
        read[name] |= seen
    try:
        found = corrections.find(job.plan, edited=not job.task.overwrite)
    except InputError:
        return CORRECTED
    edited = {one.path for one in found.values() if one.origin == corrections.EDITED}
    if not corrections.same(found, raw):
        return CORRECTED
    changed = set(changed_outputs(job.plan.sidecar, files)) - edited
    if changed or not all(path.is_file() for path in job.task.metadata):
        return "outputs changed"
    if touched:
        write_json(job.plan.sidecar, raw)
    return "done"
