"""Networks of ours read back from their ONNX files: what they are, and their weights.

The exporter folds batch normalisation into the convolutions before it, so what is read back is a network without
(``"norm": false``). It gives the same probabilities.
"""

import math
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sctseg7t.errors import InputError

# Largest difference of a probability between a network and the file that it was read from.
SAME = 1e-5
_OPS = {
    nn.Conv2d: "Conv",
    nn.Conv3d: "Conv",
    nn.ConvTranspose2d: "ConvTranspose",
    nn.ConvTranspose3d: "ConvTranspose",
    nn.PReLU: "PRelu",
    nn.BatchNorm2d: "BatchNormalization",
    nn.BatchNorm3d: "BatchNormalization",
    nn.InstanceNorm2d: "InstanceNormalization",
    nn.InstanceNorm3d: "InstanceNormalization",
}


def parameters_by_op(path: Path) -> dict[str, list[list[np.ndarray]]]:
    """The arrays of an ONNX file by operator, in the order in which they work (InputError if it is no ONNX file)."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path)).graph
    except Exception as err:  # noqa: BLE001
        # The reader raises whatever protobuf does.
        raise InputError(f"{path}: is no ONNX file that can be read; give another") from err
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    # An array may be passed on under another name.
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
    found = defaultdict(list)
    for node in graph.node:
        if arrays := [stored[name] for name in node.input if name in stored]:
            found[node.op_type].append(arrays)
    return found


def network_in(path: Path, channels: int) -> dict[str, Any]:
    """What a recipe calls the network of an ONNX file that ships, judged by its layers.

    Parameters
    ----------
    path : Path
    channels : int
        Of the image.

    Raises
    ------
    InputError
        It is none of ours.
    """
    ops = parameters_by_op(path)
    kernels = [arrays[0].shape for arrays in ops.get("Conv", ())]
    foreign = InputError(
        f"{path}: its network is none of ours, which cannot be trained on; start from a model that sct7t_train made"
    )
    if not kernels:
        raise foreign
    dimensions = len(kernels[0]) - 2
    fold = round((kernels[0][1] / channels) ** (1 / dimensions))
    if fold < 1 or kernels[0][1] != channels * fold**dimensions:
        raise foreign
    if "PRelu" in ops and "BatchNormalization" in ops:
        # Three convolutions a node and two a head; levels (levels + 1) / 2 nodes.
        levels = next((n for n in range(2, 8) if 3 * n * (n + 1) // 2 + 2 * (n - 1) == len(kernels)), 0)
        told = {"kind": "mpunetpp", "width": kernels[0][0], "levels": levels, "fold": fold, "norm": False}
    else:
        # Two convolutions a block, and a head; blocks on the way down are one more than on the way up.
        levels = (len(kernels) + 1) // 4
        widths = [kernels[2 * n][0] for n in range(levels)]
        told = {"kind": "unet" if dimensions == 2 else "unet3d", "widths": widths, "fold": fold, "norm": False}
    if not levels or set(ops) - {"Conv", "PRelu", "BatchNormalization", "Mul", "Add"}:
        raise foreign
    return told


def fill(network: nn.Module, path: Path, shape: tuple[int, ...]) -> None:
    """Put the weights of an ONNX file into a network of the same layers, and see that it gives the same.

    Parameters
    ----------
    network : Module
        Without batch normalisation after convolutions.
    path : Path
    shape : tuple of int
        Of an image (C, ...) that it can take.

    Raises
    ------
    InputError
        It is another network.
    """
    from sctseg7t.runtime import open_session

    wrong = InputError(
        f"{path}: its network is another one; give the recipe a network of the same widths, "
        'with "norm": false (normalisation is folded into these weights)'
    )
    ops = {kind: deque(arrays) for kind, arrays in parameters_by_op(path).items()}
    with torch.no_grad():
        for layer in _in_order(network, shape):
            own = [*layer.parameters(recurse=False), *_statistics(layer)]
            arrays = ops.get(_OPS[type(layer)], deque())
            if not own:
                continue
            given = arrays.popleft() if arrays else []
            if [tensor.numel() for tensor in own] != [array.size for array in given]:
                raise wrong
            for tensor, array in zip(own, given):
                tensor.copy_(torch.from_numpy(array.copy()).reshape(tensor.shape))
        for name, tensor in network.named_parameters(recurse=False):
            # Parameters of the whole network: the weights of its heads, then what is added to their sum.
            arrays = [a for a in ops.get("Mul" if name == "weights" else "Add", ())]
            given = np.concatenate([array.ravel() for one in arrays for array in one]) if arrays else np.zeros(0)
            if given.size != tensor.numel():
                raise wrong
            tensor.copy_(torch.from_numpy(given).reshape(tensor.shape))
    if any(ops.get(kind) for kind in set(_OPS.values())):
        raise wrong
    image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    with torch.no_grad():
        ours = torch.sigmoid(network.eval()(torch.from_numpy(image))).numpy()
    theirs = open_session(path, "cpu").run(image)
    if ours.shape != theirs.shape or not math.isfinite(difference := float(np.abs(ours - theirs).max())):
        raise wrong
    if difference > SAME:
        raise InputError(f"{path}: read back, its network differs from it by {difference:.1g}; start from its run")


def _in_order(network: nn.Module, shape: tuple[int, ...]) -> list[nn.Module]:
    """Layers with weights, in the order in which they work."""
    order: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, made: order.append(layer))
        for layer in network.modules()
        if type(layer) in _OPS
    ]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _statistics(layer: nn.Module) -> list[torch.Tensor]:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return [tensor for tensor in (layer.running_mean, layer.running_var) if tensor is not None]
    return []
