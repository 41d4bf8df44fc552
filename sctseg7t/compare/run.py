"""Methods that are run here: tasks and models of the zoo over the scans, each to masks of its own folder."""

from dataclasses import dataclass, replace
from pathlib import Path

from sctseg7t.compare.names import STRUCTURES, parse_name
from sctseg7t.compare.records import Problem
from sctseg7t.compare.sources import REFERENCE, MaskFile
from sctseg7t.errors import UsageError

# What a scan's record says where nothing was found, rather than gone wrong.
_NO_CORD = "no cord found"


@dataclass(frozen=True)
class Made:
    """Masks that were made, or found up to date, and what kept others from being made.

    ``models``: identity of the network by method, with that of its locator.
    """

    files: list
    problems: list
    models: dict


@dataclass(frozen=True)
class Where:
    """Device and threads to run on; ``tell`` is called with (method, scan's name, outcome)."""

    device: str = "auto"
    threads: int | None = None
    offline: bool = False
    tell: object = None


def read_runs(text):
    """Methods of ``-run``: ``NAME`` or ``TITLE=NAME``, separated by commas.

    Returns
    -------
    dict of str to str
        Name of a task, of a model, or path of an .onnx file, by method.

    Raises
    ------
    UsageError
        An empty or repeated name.
    """
    runs = {}
    for part in text.split(","):
        title, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals:
            name, title = title, Path(title).stem if title.endswith(".onnx") else title
        if not name or not title or "/" in title or title.startswith(".") or title == REFERENCE:
            raise UsageError(f"-run {text}: give names of tasks or models, separated by commas (gm_sc,sct_gm_large)")
        if title in runs:
            raise UsageError(f"-run {text}: {title} is there twice; name one of them: TITLE={name}")
        runs[title] = name
    return runs


def task_and_model(name):
    """The task and the model that a name stands for.

    Returns
    -------
    task : str
    model : str or None
        None for a task, whose default model is meant.

    Raises
    ------
    ModelError
        Neither a task nor a model.
    """
    from sctseg7t.zoo.local_model import spec_from_onnx
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    tasks = manifest.tasks()
    if name in tasks and tasks[name]["outputs"]:
        return name, None
    if name.endswith(".onnx"):
        return spec_from_onnx(name).task, str(Path(name).absolute())
    return manifest.model(name).task, name


def run_methods(runs, scans, root, out, where=Where()):
    """Segment every scan by every method; a scan that fails is told and never ends the run.

    A method that finds no cord has empty masks of that scan: leaving it out would reward it. Masks whose scan, model
    and options are as they were are not made again.

    Parameters
    ----------
    runs : dict of str to str
        As :func:`read_runs` returns them.
    scans : sequence of :class:`sctseg7t.cohort.find.Scan`
    root : path
        Folder of the scans.
    out : path
        Masks go to a folder of the method's name in it.
    where : Where

    Returns
    -------
    Made

    Raises
    ------
    UserError
        A method's model cannot be found, read or run.
    """
    from sctseg7t.cohort.lock import alone_in

    # All of them before any scan: a wrong name costs no time.
    planned = {method: _plan(method, name, scans, root, out, where) for method, name in runs.items()}
    made = Made([], [], {})
    Path(out).mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        for method, (jobs, refused, models) in planned.items():
            made.models[method] = models
            failures = _run(method, jobs, refused, where)
            for job, scan in zip(jobs, scans):
                error = failures.get(job.name)
                masks = (
                    job.plan.masks
                    if error is None
                    else _masks_of_failure(scan, job, error, Path(out) / "empty" / method)
                )
                # A map of numbered lesions is no mask.
                masks = {structure: path for structure, path in masks.items() if structure in STRUCTURES}
                made.files.extend(mask_of(scan, method, structure, path) for structure, path in masks.items())
                if error is not None:
                    made.problems.append(_failed(method, job, error, left_out=not masks))
    return made


def mask_of(scan, method, structure, path):
    """A mask under the name of its scan."""
    folder = Path(scan.relative).parent.as_posix().removeprefix(".")
    return MaskFile(method, structure, Path(path), folder, replace(parse_name(scan.path), structure=structure))


def _plan(method, name, scans, root, out, where):
    from sctseg7t.cohort.job import Settings, models_of
    from sctseg7t.cohort.run import Layout, make_jobs
    from sctseg7t.flow import Options
    from sctseg7t.pipeline import choose_model, flow_of
    from sctseg7t.zoo.weights import weights

    task, model = task_and_model(name)
    spec, locator, tissues = choose_model(task, model)
    for one in filter(None, (spec, locator)):
        weights(one, offline=where.offline)
    models = models_of(spec, locator)
    settings = Settings(task, model, where.device, Options(), where.threads, where.offline, models)
    layout = Layout(
        Path(root).absolute(),
        Path(out).absolute() / method,
        spec.suffixes(tissues),
        tables=flow_of(spec).kinds_of_tables(),
    )
    first, *others = models
    return *make_jobs(scans, layout, settings), {**first, "with": others} if others else first


def _run(method, jobs, refused, where):
    """Reasons by name of the scans that failed."""
    from sctseg7t.cohort.run import run_jobs
    from sctseg7t.cohort.worker import run_scan

    def tell(job, outcome, progress):
        if where.tell:
            where.tell(method, job.name, outcome)

    totals = run_jobs(jobs, refused, lambda waiting: ((job, run_scan(job)) for job in waiting), tell)
    return dict(totals.failures)


def _masks_of_failure(scan, job, error, folder):
    """Empty masks where a method found no cord; none where it could not do its work."""
    if _NO_CORD not in error:
        return {}
    import nibabel as nib
    import numpy as np

    from sctseg7t.image.nifti import save
    from sctseg7t.image.volume import check_header

    grid = check_header(scan.path)
    empty = nib.Nifti1Image(np.zeros(grid.shape[:3], np.uint8), grid.affine)
    place = folder / Path(scan.relative).parent
    place.mkdir(parents=True, exist_ok=True)
    return {name: save(empty, place / path.name) for name, path in job.plan.masks.items()}


def _failed(method, job, error, left_out):
    text = f"{method}: {error}" + ("" if left_out else "; it counts as empty masks, so as missing in every slice")
    return Problem("failed", job.name, method, None, str(job.plan.source), text, left_out)
