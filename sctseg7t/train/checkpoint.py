"""Files that torch writes and reads in a run folder: state and weights."""

from pathlib import Path
from typing import Any

import torch

from sctseg7t.errors import InputError
from sctseg7t.files import writing
from sctseg7t.text import one_line

STATE, WEIGHTS = "last.pt", "model.pt"


def save(value: Any, path: Path) -> None:
    """Write with torch: the whole file or none (OutputError)."""
    with writing(path) as stream:
        torch.save(value, stream)


def read(path: Path, remedy: str) -> Any:
    """Read what torch wrote; an InputError with the remedy if that is not what the file holds."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # noqa: BLE001
        # torch.load raises whatever its readers do: zip, pickle, end of file.
        raise InputError(f"{path}: is damaged or was not written by sct7t_train; {remedy}") from err


def fit(network: torch.nn.Module, weights: Any, path: Path, remedy: str) -> None:
    """Load weights into a network; an InputError naming those that do not fit."""
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError) as err:
        raise InputError(f"{path}: its network is another one ({one_line(err, 300)}); {remedy}") from err


def start_from(network: torch.nn.Module, source: str | Path) -> Path:
    """Load averaged weights: those of a run folder, or of a ``.pt`` file of one. Returns the path of the file."""
    path = Path(source)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"start {source}: no such run folder or weights ({path.name}); give one made by sct7t_train")
    weights = read(path, "start from a run folder or the model.pt of one")
    # The state of a run has both the weights and their average.
    weights = weights.get("average", weights) if isinstance(weights, dict) else weights
    fit(network, weights, path, "give the recipe the network of those weights")
    return path
