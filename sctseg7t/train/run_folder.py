"""The folder of a training run: its lock, the state that a run goes on from, the record of its sittings."""

import contextlib
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sctseg7t.errors import InputError, OutputError
from sctseg7t.files import write_bytes, write_json
from sctseg7t.train import checkpoint, curves
from sctseg7t.train.checkpoint import STATE, WEIGHTS
from sctseg7t.train.device import Place
from sctseg7t.train.optimisers import make_optimiser
from sctseg7t.train.recipe import STRATEGIES, TrainRecipe, read_recipe
from sctseg7t.train.scans.learning import Learning
from sctseg7t.train.starting import begin, load_start
from sctseg7t.train.strategies import freeze
from sctseg7t.train.task import Task
from sctseg7t.version import __version__
from sctseg7t.zoo.cache import file_digest

RECIPE, SITTINGS = "recipe.json", "run.json"
# An image of a labelled scan as the network gets it.
PROBE = "probe.npy"
# What tells that a run goes on with the scans and people that it began with.
_SAME_SCANS = ("splits_sha256", "files_sha256")
_STATEFUL = ("network", "average", "optimiser")
_KEPT = ("step", "best", "seconds", "running")
_REMEDY = "delete it to train again from step 0, or choose another folder"


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold a run folder, made if absent, so that one training at a time writes to it (OutputError if held)."""
    import filelock

    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Some network file systems know no locks; there the user has to see to it.
        with contextlib.suppress(NotImplementedError):
            lock.acquire(timeout=0)
    except filelock.Timeout as err:
        raise OutputError(
            f"{folder}: another training is at work in this folder; wait for it or choose another folder"
        ) from err
    except OSError as err:
        raise OutputError(f"{folder}: cannot be written to ({err.strerror or err}); choose another folder") from err
    try:
        yield
    finally:
        lock.release()


@dataclass(eq=False)
class State:
    """Everything that a step changes.

    Attributes
    ----------
    step : int
        Steps done.
    best : float
        Least loss of a validation.
    seconds : float
        Of all sittings.
    running : tensor
        Smoothed training loss, double precision, on the device; nan before the first step.
    stream : int
        :meth:`~sctseg7t.train.recipe.TrainRecipe.stream` of the run.
    told : list of str
        What a user should know of how it began.
    """

    network: torch.nn.Module
    average: torch.nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = math.inf
    seconds: float = 0.0
    running: torch.Tensor = field(default_factory=lambda: torch.tensor(math.nan))
    stream: int = 0
    told: list[str] = field(default_factory=list)

    def save(self, out: Path) -> None:
        """Write ``last.pt``."""
        parts = {name: getattr(self, name).state_dict() for name in _STATEFUL}
        checkpoint.save({**parts, **{name: getattr(self, name) for name in _KEPT}}, out / STATE)


def open_state(
    out: Path,
    recipe: TrainRecipe,
    task: Task,
    place: Place,
    start: str | Path | None,
    scans: list[str],
    learning: Learning | None = None,
) -> State:
    """The state that a run begins with, or goes on from; recipe and sitting are written down.

    Parameters
    ----------
    out : Path
        Run folder.
    start : path, optional
        Run folder or ``.pt`` file with the weights to start from.
    scans : list of str
        Names of the real scans, for the record.
    learning : Learning, optional
        Labelled scans to learn from, for the record: a run goes on with the same ones only.

    Raises
    ------
    InputError
        The folder holds a run of another recipe, of other starting weights, or a damaged one; the starting weights
        are not there or do not fit.
    """
    saved = _read_state(out / STATE) if (out / STATE).exists() else None
    _check_recipe(out, recipe, saved["step"] if saved else 0)
    torch.manual_seed(recipe.seed)
    network = place.network(task.network(recipe))
    average = place.network(task.network(recipe)).eval()
    state_of_start, path = [], None
    if start and recipe.labels:
        # Labelled scans: maps and images of the start are matched by their names.
        begun = load_start(start)
        path = begun.path
        if not recipe.strategy or STRATEGIES[recipe.strategy].starts:
            told_labels, shape = tuple(recipe.labels), recipe.entry["input"].get("channels", ["any"])
            state_of_start = begin(network, begun, told_labels, shape)
    elif start:
        path = checkpoint.start_from(network, start)
    if recipe.strategy:
        freeze(network, recipe.strategy)
    state = State(network, average, make_optimiser(recipe, network), told=state_of_start)
    started = {"path": str(start), "sha256": file_digest(path)} if path else None
    learned = learning.record() if learning else None
    if saved:
        told = json.loads((out / SITTINGS).read_text())
        if started and started["sha256"] != (told["start"] or {}).get("sha256"):
            raise InputError(f"{out}: holds a run that did not start from these weights; choose another folder")
        if learned and any(learned[name] != told.get("scans", {}).get(name) for name in _SAME_SCANS):
            raise InputError(f"{out}: holds a run on other scans, or of another split; choose another folder")
        _resume(state, saved, out / STATE, place)
    else:
        told: dict[str, Any] = {"start": started, **({"scans": learned} if learned else {}), "sittings": []}
        average.load_state_dict(network.state_dict())
        for name in (curves.SIMULATED, curves.REAL):
            (out / name).unlink(missing_ok=True)
    state.stream = recipe.stream((told["start"] or {}).get("sha256", ""))
    if state.step < recipe.steps:
        told["sittings"].append(_sitting(state, place, scans))
    write_json(out / SITTINGS, told)
    if learning:
        learning.write(out)
    write_bytes(out / RECIPE, recipe.told().encode())
    return state


def finished(out: Path, recipe: TrainRecipe) -> bool:
    """Whether a run has had all its steps, or the patience that its recipe has."""
    rows = curves.read(out / curves.SIMULATED)
    return bool(len(rows)) and (int(rows["step"].max()) >= recipe.steps or ended_early(out, recipe))


def ended_early(out: Path, recipe: TrainRecipe) -> bool:
    """Whether a run has had its recipe's ``patience`` of validations without a loss lower by ``least_gain``."""
    if not recipe.patience:
        return False
    losses = curves.read(out / curves.SIMULATED)
    best, since = math.inf, 0
    for loss in losses["loss"] if len(losses) else ():
        if loss < best - recipe.least_gain:
            best, since = loss, 0
        else:
            since += 1
    return since >= recipe.patience


def _read_state(path: Path) -> dict[str, Any]:
    saved = checkpoint.read(path, _REMEDY)
    if not isinstance(saved, dict) or not {*_KEPT, *_STATEFUL} <= set(saved):
        raise InputError(f"{path}: is not the state of a training; {_REMEDY}")
    return saved


def _check_recipe(out: Path, recipe: TrainRecipe, step: int) -> None:
    """Refuse a folder with the weights of another recipe."""
    if not (out / RECIPE).exists() or not (step or (out / WEIGHTS).exists()):
        return
    old, new = asdict(read_recipe(out / RECIPE)), json.loads(json.dumps(asdict(recipe)))
    changed = {name for name in new if old[name] != new[name]}
    # Only the length may change, and only before the learning rate began to fall.
    fallen = step > old["steps"] * (1 - old["decay"])
    if changed - {"steps", "decay"} or (changed and fallen):
        raise InputError(f"{out}: holds a run of another recipe; choose another folder")


def _resume(state: State, saved: dict[str, Any], path: Path, place: Place) -> None:
    """Load what an earlier sitting saved."""
    checkpoint.fit(state.network, saved["network"], path, _REMEDY)
    checkpoint.fit(state.average, saved["average"], path, _REMEDY)
    state.optimiser.load_state_dict(saved["optimiser"])
    state.step, state.best, state.seconds = saved["step"], saved["best"], saved["seconds"]
    state.running = torch.as_tensor(saved["running"], dtype=torch.float64, device=place.device)


def _sitting(state: State, place: Place, scans: list[str]) -> dict[str, Any]:
    return {
        "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "from_step": state.step,
        "device": place.device,
        "device_kind": place.kind,
        "precision": place.precision,
        "threads": torch.get_num_threads(),
        "simulating": place.workers,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "tool_version": __version__,
        "real_scans": scans,
    }
