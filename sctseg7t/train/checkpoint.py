"""Files that torch writes and reads in a run folder: state and weights."""

import io
from pathlib import Path
from typing import Any

import torch

from sctseg7t.errors import InputError
from sctseg7t.files import write_bytes
from sctseg7t.zoo.cache import file_digest

STATE, WEIGHTS = "last.pt", "model.pt"


def save(value: Any, path: Path) -> None:
    """Write with torch: the whole file or none (OutputError)."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_bytes(path, buffer.getvalue())


def read(path: Path, remedy: str) -> Any:
    """Read what torch wrote; an InputError with the remedy if that is not what the file holds."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # noqa: BLE001
        # torch.load raises whatever its readers do: zip, pickle, end of file.
        reason = type(err).__name__ if isinstance(err, (RuntimeError, ValueError, EOFError)) else told(err)
        raise InputError(f"{path}: is damaged or was not written by sct7t_train ({reason}); {remedy}") from err


def fit(network: torch.nn.Module, weights: Any, path: Path, remedy: str) -> None:
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


def starting_weights(source: str | Path) -> tuple[Any, Path, str]:
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
        raise InputError(f"start {source}: no such run folder or weights ({path.name}); give one made by sct7t_train")
    weights = read(path, "start from a run folder or the model.pt of one")
    if isinstance(weights, dict) and "average" in weights:
        weights = weights["average"]
    return weights, path, file_digest(path, "sha256")


def told(err: Exception) -> str:
    """An error's first words on one line."""
    return " ".join(str(err).split())[:120] or type(err).__name__
