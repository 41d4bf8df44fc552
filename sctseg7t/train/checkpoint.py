"""What a run folder holds between two sittings: its lock, its state, its weights."""

import contextlib
import io
from dataclasses import asdict
from pathlib import Path

import torch

from sctseg7t.errors import InputError, OutputError
from sctseg7t.files import write_bytes
from sctseg7t.zoo.cache import file_digest

STATE, WEIGHTS = "last.pt", "model.pt"
_PARTS = ("step", "best", "seconds", "recipe", "network", "average", "optimiser")


@contextlib.contextmanager
def claim(folder):
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


def save(value, path):
    """Write with torch: the whole file or none (OutputError)."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_bytes(path, buffer.getvalue())


def read(path, remedy):
    """Read what torch wrote; an InputError with the remedy if that is not what the file holds."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # noqa: BLE001
        # torch.load raises whatever its readers do: zip, pickle, end of file.
        reason = type(err).__name__ if isinstance(err, (RuntimeError, ValueError, EOFError)) else _one_line(err)
        raise InputError(f"{path}: is damaged or was not written by sct7t_train ({reason}); {remedy}") from err


def fit(network, weights, path, remedy):
    """Load weights into a network; an InputError naming the first that does not fit."""
    if not isinstance(weights, dict) or not all(isinstance(w, torch.Tensor) for w in weights.values()):
        raise InputError(f"{path}: holds no weights of a network; {remedy}")
    own = network.state_dict()
    for name in [*own, *weights]:
        here, there = (tuple(w[name].shape) if name in w else None for w in (own, weights))
        if here != there:
            shapes = f"{name} is {there or 'absent'} there and {here or 'absent'} in the recipe's network"
            raise InputError(f"{path}: its network is another one ({shapes}); {remedy}")
    network.load_state_dict(weights)


def resume(out, recipe, network, average, optimiser, start=None):
    """Load the state of an earlier sitting into network, average and optimiser.

    Returns
    -------
    dict
        step, best, seconds, running (smoothed loss or None), start (sha256 or None).

    Raises
    ------
    InputError
        The file is damaged, or the run is that of another recipe or of other starting weights.
    """
    path = out / STATE
    remedy = "delete it to train again from step 0, or choose another folder"
    saved = read(path, remedy)
    if not isinstance(saved, dict) or not set(_PARTS) <= set(saved):
        raise InputError(f"{path}: is not the state of a training; {remedy}")
    old, new = dict(saved["recipe"]), asdict(recipe)
    # Only the length may change, and only before the learning rate began to fall.
    lengths = ("steps", "decay")
    same = all(old.get(k) == new[k] for k in new if k not in lengths)
    fallen = saved["step"] > old.get("steps", 0) * (1 - old.get("decay", 0))
    if not same or (fallen and any(old.get(k) != new[k] for k in lengths)):
        raise InputError(f"{out}: holds a run of another recipe; choose another folder")
    if start and start != saved.get("start"):
        raise InputError(f"{out}: holds a run that did not start from these weights; choose another folder")
    fit(network, saved["network"], path, remedy)
    fit(average, saved["average"], path, remedy)
    try:
        optimiser.load_state_dict(saved["optimiser"])
    except (KeyError, ValueError, TypeError) as err:
        raise InputError(f"{path}: its optimiser state does not fit ({_one_line(err)}); {remedy}") from err
    return {k: saved[k] for k in ("step", "best", "seconds")} | {k: saved.get(k) for k in ("running", "start")}


def starting_weights(source):
    """Averaged weights to start from: those of a run folder, or of a ``.pt`` file of one.

    Returns
    -------
    weights : dict of str to tensor
    path : Path
    sha256 : str
        Of the file.
    """
    path = Path(source)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"-start {source}: no such run folder or weights ({path.name}); give one made by sct7t_train")
    weights = read(path, "give -start a run folder or the model.pt of one")
    if isinstance(weights, dict) and "average" in weights:
        weights = weights["average"]
    return weights, path, file_digest(path, "sha256")


def _one_line(err):
    return " ".join(str(err).split())[:120] or type(err).__name__
