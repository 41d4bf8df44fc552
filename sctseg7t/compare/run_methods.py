"""Running methods on scans: tasks and models of the zoo, each to masks in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sctseg7t.cohort.find import Scan
from sctseg7t.compare.matching import MaskFile
from sctseg7t.compare.types import REFERENCE, STRUCTURES, Problem
from sctseg7t.errors import UsageError
from sctseg7t.inference.mask_names import parse_name
from sctseg7t.inference.record import FAILED
from sctseg7t.zoo.spec import is_path


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


def read_runs(text: str) -> dict[str, str]:
    """Methods of ``-run``: ``NAME`` or ``TITLE=NAME``, separated by commas.

    Returns
    -------
    dict of str to str
        Name of a task, of a model, or path of an .onnx file or of an entry (.json), by method.

    Raises
    ------
    UsageError
        An empty or repeated name.
    """
    runs = {}
    for part in text.split(","):
        title, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals:
            name, title = title, Path(title).stem if is_path(title) else title
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
    runs: Mapping[str, str],
    scans: Sequence[Scan],
    root: str | Path,
    out: str | Path,
    *,
    templates: Mapping[str, str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
    tell: Callable[[], None] = lambda: None,
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
    templates : dict of str to str, optional
        Of further images by role, see :mod:`sctseg7t.inference.roles`; each method gets those that its network takes.
    device, threads, offline
        As for :func:`sctseg7t.inference.pipeline.open_segmenter`.
    tell : callable
        Called after each scan of each method.

    Returns
    -------
    Made

    Raises
    ------
    UserError
        A method's model cannot be found, read or run, or no method takes a role that is given.
    """
    from sctseg7t.cohort.lock import alone_in
    from sctseg7t.cohort.run import make_jobs, run_jobs, set_up
    from sctseg7t.cohort.worker import run_scan
    from sctseg7t.zoo.weights import all_weights

    templates = templates or {}
    chosen = {method: _chosen(name) for method, name in runs.items()}
    for role in templates:
        if not any(role in choice.spec.input.images for choice, _ in chosen.values()):
            raise UsageError(f"-{role}: no method that is run takes it; leave it out")
    planned, made = {}, Made()
    # All of them before any scan: a wrong name costs no time.
    for method, (choice, model) in chosen.items():
        for one in choice.specs:
            all_weights(one, offline=offline)
        own = {role: template for role, template in templates.items() if role in choice.spec.input.images}
        how = {"device": device, "threads": threads, "offline": offline, "templates": own}
        # A method is judged by its own masks.
        how |= {"corrections": "none", "overwrite": True}
        layout, settings = set_up(choice, root, Path(out) / method, model=model, **how)
        planned[method] = make_jobs(scans, layout, settings)
        first, *others = settings.models
        made.models[method] = {**first, "with": others} if others else first
    Path(out).mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        for method, (jobs, refused) in planned.items():
            engine = lambda waiting: ((job, run_scan(job)) for job in waiting)  # noqa: E731
            failures = run_jobs(jobs, refused, engine, lambda *_: tell()).failures
            for job, scan in zip(jobs, scans):
                outcome = failures.get(job.name)
                left_out = outcome is not None and outcome.status == FAILED
                # A map of numbered lesions is no mask.
                masks = {} if left_out else {s: path for s, path in job.plan.masks.items() if s in STRUCTURES}
                made.files.extend(mask_of(scan, method, structure, path) for structure, path in masks.items())
                if outcome is not None:
                    more = "" if left_out else "; it counts as empty masks, so as missing in every slice"
                    text, file = f"{method}: {outcome.error}{more}", str(job.plan.source)
                    made.problems.append(Problem("failed", text, left_out, job.name, method, file=file))
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
