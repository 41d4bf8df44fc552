"""Running methods on scans: tasks and models of the zoo, each to masks in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sctseg7t.cohort.find import Scan
from sctseg7t.compare.matching import MaskFile, parse_name
from sctseg7t.compare.types import REFERENCE, STRUCTURES, Problem
from sctseg7t.errors import UsageError
from sctseg7t.inference.record import FAILED


@dataclass
class Made:
    """Masks that were made, or found up to date, and what kept others from being made.

    Attributes
    ----------
    files : list of MaskFile
    problems : list of Problem
    models : dict
        Identity of the network by method, with that of its locator.
    """

    files: list[MaskFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    models: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Where:
    """Where and how methods run.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int or None
    offline : bool
        Never download.
    tell : callable or None
        Called after each scan of each method.
    """

    device: str = "auto"
    threads: int | None = None
    offline: bool = False
    tell: Callable[[], None] | None = None


def read_runs(text: str) -> dict[str, str]:
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


def bids_suffixes(runs: Mapping[str, str]) -> set[str]:
    """BIDS suffixes of the scans that methods are for, e.g. ``{"T2starw"}``; empty where none says any."""
    specs = (_chosen(name)[0].spec for name in runs.values())
    return {spec.bids_suffix for spec in specs if spec.bids_suffix}


def run_methods(
    runs: Mapping[str, str], scans: Sequence[Scan], root: str | Path, out: str | Path, where: Where = Where()
) -> Made:
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
    made = Made()
    Path(out).mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        for method, (jobs, refused, models) in planned.items():
            made.models[method] = models
            failures = _run(jobs, refused, where)
            for job, scan in zip(jobs, scans):
                outcome = failures.get(job.name)
                left_out = outcome is not None and outcome.status == FAILED
                # A map of numbered lesions is no mask.
                masks = {} if left_out else {s: path for s, path in job.plan.masks.items() if s in STRUCTURES}
                made.files.extend(mask_of(scan, method, structure, path) for structure, path in masks.items())
                if outcome is not None:
                    made.problems.append(_problem(method, job, outcome, left_out))
    return made


def mask_of(scan: Scan, method: str, structure: str, path: str | Path) -> MaskFile:
    """A mask under the name of its scan."""
    folder = Path(scan.relative).parent.as_posix().removeprefix(".")
    return MaskFile(method, structure, Path(path), folder, replace(parse_name(scan.path), structure=structure))


def _chosen(name: str) -> tuple[Any, str | None]:
    """The choice of models that a name of a task or of a model stands for, and the model's name if it is one."""
    from sctseg7t.inference.pipeline import choose_model
    from sctseg7t.zoo.manifest import load_manifest

    task = load_manifest().tasks().get(name)
    model = None if task and task["outputs"] else name
    return choose_model(None if model else name, model), model


def _plan(method, name, scans, root, out, where):
    from sctseg7t.cohort.run import make_jobs, set_up
    from sctseg7t.zoo.weights import weights

    chosen, model = _chosen(name)
    for one in filter(None, (chosen.spec, chosen.locator_spec)):
        weights(one, offline=where.offline)
    layout, settings = set_up(
        chosen,
        root,
        Path(out) / method,
        model=model,
        device=where.device,
        threads=where.threads,
        offline=where.offline,
    )
    first, *others = settings.models
    jobs, refused = make_jobs(scans, layout, settings)
    return jobs, refused, {**first, "with": others} if others else first


def _run(jobs, refused, where):
    """Outcomes by name of the scans that failed or show nothing."""
    from sctseg7t.cohort.run import run_jobs
    from sctseg7t.cohort.worker import run_scan

    def tell(job, outcome, progress):
        if where.tell:
            where.tell()

    return run_jobs(jobs, refused, lambda waiting: ((job, run_scan(job)) for job in waiting), tell).failures


def _problem(method, job, outcome, left_out):
    text = f"{method}: {outcome.error}"
    if not left_out:
        text += "; it counts as empty masks, so as missing in every slice"
    return Problem("failed", text, left_out, job.name, method, file=str(job.plan.source))
