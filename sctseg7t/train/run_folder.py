"""The folder of a training run: its lock, the state that a run goes on from, the record of its sittings."""

import contextlib
import json
import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sctseg7t.errors import InputError, OutputError
from sctseg7t.files import write_bytes, write_json
from sctseg7t.train import checkpoint, curves
from sctseg7t.train.checkpoint import STATE, WEIGHTS
from sctseg7t.train.device import Place
from sctseg7t.train.labelled_scans import LabelledScan
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Task
from sctseg7t.version import __version__

RECIPE, SITTINGS = "recipe.json", "run.json"
_STATEFUL = ("network", "average", "optimiser")
_KEPT = ("step", "best", "seconds", "start")


@contextlib.contextmanager
def claim(folder: str | Path) -> Iterator[Path]:
    """Hold a run folder, made if absent, so that one training at a time writes to it (OutputError if held)."""
    import filelock

    folder = Path(folder)
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
        yield folder
    finally:
        lock.release()


@dataclass(eq=False)
class State:
    """Everything that a step changes, and the weights that the run started from.

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
    start : str or None
        SHA-256 of the file with the weights that the run started from.
    """

    network: torch.nn.Module
    average: torch.nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = math.inf
    seconds: float = 0.0
    running: torch.Tensor = field(default_factory=lambda: torch.tensor(math.nan))
    start: str | None = None

    def save(self, recipe: TrainRecipe, out: Path) -> None:
        """Write ``last.pt``."""
        parts = {name: getattr(self, name).state_dict() for name in _STATEFUL}
        kept = {name: getattr(self, name) for name in _KEPT}
        checkpoint.save({**kept, "running": self.running.item(), "recipe": asdict(recipe), **parts}, out / STATE)


def open_state(out: Path, recipe: TrainRecipe, task: Task, place: Place, start: str | Path | None = None) -> State:
    """The state that a run begins with, or goes on from.

    Parameters
    ----------
    out : Path
        Run folder.
    start : path, optional
        Run folder or ``.pt`` file with the weights to start from.

    Raises
    ------
    InputError
        The folder holds a run of another recipe, of other starting weights, or a damaged one; the starting weights
        are not there or do not fit.
    """
    torch.manual_seed(recipe.seed)
    network = place.network(task.network(recipe))
    average = place.network(task.network(recipe)).eval()
    weights, path, sha256 = checkpoint.starting_weights(start) if start else (None, None, None)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    state = State(network, average, optimiser, start=sha256)
    if (out / STATE).exists():
        _resume(state, out, recipe, place)
    else:
        _check_empty(out, recipe)
        if path:
            checkpoint.fit(network, weights, path, "give the recipe the network of those weights")
        average.load_state_dict(network.state_dict())
    # What was written after the last saved state will be written again.
    for name in (curves.SIMULATED, curves.REAL):
        curves.drop_after(out / name, state.step)
    return state


def _resume(state: State, out: Path, recipe: TrainRecipe, place: Place) -> None:
    """Load what an earlier sitting saved."""
    path = out / STATE
    remedy = "delete it to train again from step 0, or choose another folder"
    saved = checkpoint.read(path, remedy)
    if not isinstance(saved, dict) or not {"recipe", "running", *_KEPT, *_STATEFUL} <= set(saved):
        raise InputError(f"{path}: is not the state of a training; {remedy}")
    old, new = dict(saved["recipe"]), asdict(recipe)
    # Only the length may change, and only before the learning rate began to fall.
    lengths = ("steps", "decay")
    same = all(old.get(k) == new[k] for k in new if k not in lengths)
    fallen = saved["step"] > old.get("steps", 0) * (1 - old.get("decay", 0))
    if not same or (fallen and any(old.get(k) != new[k] for k in lengths)):
        raise InputError(f"{out}: holds a run of another recipe; choose another folder")
    if state.start and state.start != saved["start"]:
        raise InputError(f"{out}: holds a run that did not start from these weights; choose another folder")
    checkpoint.fit(state.network, saved["network"], path, remedy)
    checkpoint.fit(state.average, saved["average"], path, remedy)
    try:
        state.optimiser.load_state_dict(saved["optimiser"])
    except (KeyError, ValueError, TypeError) as err:
        raise InputError(f"{path}: its optimiser state does not fit ({checkpoint.told(err)}); {remedy}") from err
    for name in _KEPT:
        setattr(state, name, saved[name])
    state.running = torch.tensor(saved["running"], dtype=torch.float64, device=place.device)


def _check_empty(out: Path, recipe: TrainRecipe) -> None:
    """Refuse a folder with the weights of another recipe and no state to go on from."""
    if (out / WEIGHTS).exists() and (out / RECIPE).exists():
        if _read_json(out / RECIPE) != json.loads(json.dumps(asdict(recipe))):
            raise InputError(f"{out}: holds a run of another recipe; choose another folder")


def record_sitting(
    out: Path,
    recipe: TrainRecipe,
    place: Place,
    state: State,
    start: str | Path | None,
    scans: Sequence[LabelledScan],
) -> None:
    """Write the recipe, and a line of ``run.json`` on this sitting unless the run is finished."""
    write_bytes(out / RECIPE, json.dumps(asdict(recipe), indent=2).encode())
    told = {"start": None, "sittings": []}
    if state.step:
        told |= read_sittings(out)
    if start and not told["start"]:
        told["start"] = {"path": str(start), "sha256": state.start}
    if state.step >= recipe.steps:
        return
    told["sittings"].append(
        {
            "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "from_step": state.step,
            "device": str(place.device),
            "device_kind": place.kind,
            "precision": place.precision,
            "threads": torch.get_num_threads(),
            "simulating": place.workers,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "tool_version": __version__,
            "real_scans": [scan.name for scan in scans],
        }
    )
    write_json(out / SITTINGS, told)


def read_sittings(out: Path) -> dict[str, Any]:
    """What ``run.json`` says; empty where there is none, or it was damaged."""
    told = _read_json(out / SITTINGS)
    return told if isinstance(told, dict) else {}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
