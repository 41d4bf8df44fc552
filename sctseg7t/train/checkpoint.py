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
    """Load weights to start from; returns the path of the file.

    Parameters
    ----------
    network : Module
    source : path or str
        A run folder or a ``.pt`` file of one (averaged weights), an ``.onnx`` file, or a model of the zoo
        (``cord_gm_sc`` or ``cord_gm_sc@1.1.0``). What ONNX holds is convolutions with their normalisation
        folded in; only a network without batch normalisation can take them as they are.

    Raises
    ------
    InputError
        No such weights, or they are of another network.
    """
    path = Path(source)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.exists() and path.suffix not in (".pt", ".onnx"):
        path = _of_the_zoo(str(source)) or path
    if not path.is_file():
        raise InputError(
            f"start {source}: no such run folder, weights ({path.name}) or model of the zoo; "
            "give a folder made by sct7t_train, or a name that sct7t_download lists"
        )
    if path.suffix == ".onnx":
        _load_onnx(network, path)
        return path
    weights = read(path, "start from a run folder or the model.pt of one")
    # The state of a run has both the weights and their average.
    weights = weights.get("average", weights) if isinstance(weights, dict) else weights
    fit(network, weights, path, "give the recipe the network of those weights")
    return path


def _of_the_zoo(name: str) -> Path | None:
    """The ONNX file of an installed model; None where the zoo does not know it."""
    from sctseg7t.errors import UserError
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    try:
        return weights(load_manifest().model(name))
    except UserError:
        return None


def _load_onnx(network: torch.nn.Module, path: Path) -> None:
    """Copy the convolutions of an ONNX file into those of a network, in their order."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    given = [[torch.tensor(stored[name]) for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    own = [part for part in network.modules() if isinstance(part, (torch.nn.Conv2d, torch.nn.Conv3d))]
    wanted = [[p.shape for p in part.parameters()] for part in own]
    if [[p.shape for p in part] for part in given] != wanted:
        raise InputError(
            f"{path}: its network is another one; give the recipe a network of the same widths, "
            'with "norm": false (normalisation is folded into these weights)'
        )
    with torch.no_grad():
        for part, values in zip(own, given):
            for parameter, value in zip(part.parameters(), values):
                parameter.copy_(value)
