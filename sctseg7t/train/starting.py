"""Where a training starts: a run, its weights, an ONNX file of ours, or a model of the zoo."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from sctseg7t.errors import InputError, ModelError
from sctseg7t.train import checkpoint, onnx_weights
from sctseg7t.train.checkpoint import WEIGHTS
from sctseg7t.train.named_networks import build_network
from sctseg7t.train.recipe import read_recipe
from sctseg7t.zoo.local_model import model_at
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.spec import ModelSpec
from sctseg7t.zoo.weights import weights

# Tensors whose parts belong to labels or to images, by name, and the axis along which they lie.
_MAPS = {
    r"head\.(weight|bias)|heads\.\d+\.3\.weight|bias": 0,
    r"(output_block|deep_supervision_heads\.\d+)\.conv\.conv\.(weight|bias)|model\.2\.conv\.bias": 0,
    r"model\.2\.conv\.weight": 1,
}
_IMAGES = {
    r"down\.0\.0\.weight|nodes\.00\.mix\.0\.weight|model\.0\.conv\.weight|input_block\.conv1\.conv\.weight": 1,
    r"scale\.(weight|bias|running_mean|running_var)": 0,
}
_REMEDY = "start from a run folder or the model.pt of one"


@dataclass(frozen=True, eq=False)
class Start:
    """A trained network to start from.

    Attributes
    ----------
    path : Path
        File of its weights.
    network : dict
        As a recipe's.
    entry : dict
        Its zoo entry, or the one that its run would export from.
    labels, channels : tuple of str
        What its maps are, and its images.
    """

    path: Path
    network: dict[str, Any]
    entry: dict[str, Any]
    labels: tuple[str, ...]
    channels: tuple[str, ...]

    def trained(self) -> nn.Module:
        """The network with its weights (InputError where the file holds those of another)."""
        size = tuple(self.entry["input"].get("size") or [32] * len(self.entry["input"]["spacing_mm"]))
        recipe: Any = SimpleNamespace(model=str(self.path), network=self.network)
        network = build_network(recipe, len(self.channels), len(self.labels), len(size))
        if self.path.suffix == ".onnx":
            onnx_weights.fill(network, self.path, (len(self.channels), *size))
        else:
            checkpoint.fit(network, _averaged(self.path), self.path, _REMEDY)
        return network.eval()


def load_start(source: str | Path) -> Start:
    """What a training can start from.

    Parameters
    ----------
    source : path or str
        A run folder or a ``.pt`` file in one, an ``.onnx`` file with its entry beside it, or a model of the zoo
        (``cord_gm_sc`` or ``cord_gm_sc@1.1.0``).

    Raises
    ------
    InputError
        No such thing, or a network that is none of ours.
    """
    path = Path(source)
    if path.is_dir() or path.suffix == ".pt":
        return _of_run(path)
    if path.suffix == ".onnx":
        return _of_spec(model_at(path))
    try:
        return _of_spec(load_manifest().model(str(source)))
    except ModelError as err:
        raise InputError(
            f"start {source}: no such run folder, weights or model of the zoo ({err}); "
            "give a folder made by sct7t_train, or a name that sct7t_download lists"
        ) from err


def _of_run(path: Path) -> Start:
    from sctseg7t.train.manifest_entry import starting_entry
    from sctseg7t.train.run_folder import RECIPE

    folder, path = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    for needed in (path, folder / RECIPE):
        if not needed.is_file():
            raise InputError(f"{needed}: no such file; start from the folder of a run that sct7t_train made")
    recipe = read_recipe(folder / RECIPE)
    return _start(path, recipe.network, starting_entry(None, recipe))


def _of_spec(spec: ModelSpec) -> Start:
    if spec.is_foreign or spec.input.sampling.method == "slices":
        raise InputError(
            f"{spec.label}: its network is none of ours, which cannot be trained on; start from a model that "
            "sct7t_train made"
        )
    if spec.ensemble:
        raise InputError(
            f"{spec.label}: is {len(spec.networks)} networks in one; a training starts from one network: name the "
            f"file of one of them ({', '.join(file.name for file in spec.networks)})"
        )
    path = weights(spec)
    told = (spec.training or {}).get("network")
    return _start(path, told or onnx_weights.network_in(path, len(spec.input.channels)), spec.raw)


def _start(path: Path, network: dict[str, Any], entry: dict[str, Any]) -> Start:
    given = sorted(entry["outputs"], key=lambda output: output["channel"])
    channels = entry["input"].get("channels", ["any"])
    return Start(path, dict(network), entry, tuple(o["name"] for o in given), tuple(channels))


def _averaged(path: Path) -> Any:
    stored = checkpoint.read(path, _REMEDY)
    # The state of a run has both the weights and their average.
    return stored.get("average", stored) if isinstance(stored, dict) else stored


def begin(network: nn.Module, start: Start, labels: Sequence[str], channels: Sequence[str]) -> list[str]:
    """Load the weights of a start into a network of the same layers; what was made anew is told, a line each.

    A map of a label that the start does not make keeps its random weights; an image that it does not take begins
    with weights of 0: the first maps are the start's.

    Raises
    ------
    InputError
        It is another network.
    """
    theirs, ours = _tensors(start.trained()), _tensors(network)
    with torch.no_grad():
        for name, tensor in ours.items():
            given = theirs.get(name)
            axis, old, new, rest = _kinds_along(name, start, labels, channels)
            if given is not None and axis is not None and old != tuple(new):
                given = _rearranged(given, tensor, axis, old, new, rest)
            if given is None or given.shape != tensor.shape or set(ours) != set(theirs):
                raise InputError(
                    f"{start.path}: its network is another one ({name}); leave the network out of the recipe, "
                    'or take the strategy "scratch"'
                )
            tensor.copy_(given)
    anew = [name for name in labels if name not in start.labels]
    told = [f"maps that begin anew: {', '.join(anew)}"] if anew else []
    added = [name for name in channels if name not in start.channels]
    return told + ([f"images that begin with weights of 0: {', '.join(added)}"] if added else [])


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and statistics, each once."""
    return dict(network.named_parameters()) | dict(network.named_buffers())


def _kinds_along(
    name: str, start: Start, labels: Sequence[str], channels: Sequence[str]
) -> tuple[int | None, tuple[str, ...], Sequence[str], float | None]:
    """The axis of a tensor that runs over labels or images, these in the start and here, and what new ones begin at."""
    for pattern, axis in _MAPS.items():
        if re.fullmatch(pattern, name):
            return axis, start.labels, labels, None
    for pattern, axis in _IMAGES.items():
        if re.fullmatch(pattern, name):
            return axis, start.channels, channels, 0.0
    return None, (), (), None


def _rearranged(
    old: torch.Tensor, new: torch.Tensor, axis: int, before: Sequence[str], after: Sequence[str], rest: float | None
) -> torch.Tensor | None:
    """A tensor with its parts along an axis by their names; None where they are not of one size."""
    if old.shape[axis] % len(before) or new.shape[axis] * len(before) != old.shape[axis] * len(after):
        return None
    each = old.shape[axis] // len(before)
    parts = dict(zip(before, old.split(each, axis)))
    fresh = new.detach().clone().split(each, axis)
    return torch.cat(
        [
            parts[kind] if kind in parts else part if rest is None else torch.full_like(part, rest)
            for kind, part in zip(after, fresh)
        ],
        axis,
    )
