"""A network of one convolution and a sigmoid, and the entry beside it."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo_helpers import file_entry


def write_network(path, kernel, bias=0.0, *, batch="n", side=None):
    """Write a sigmoid of a convolution that keeps the image's size, in 2D or 3D; `side` fixes that size."""
    kernel = np.asarray(kernel, np.float32)
    arrays = {"kernel": kernel, "bias": np.broadcast_to(bias, len(kernel)).astype(np.float32)}
    sides = [side or axis for axis in "xyz"[: kernel.ndim - 2]]
    images, maps = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, channels, *sides])
        for name, channels in (("images", kernel.shape[1]), ("maps", len(kernel)))
    )
    pads = [size // 2 for size in kernel.shape[2:]] * 2
    nodes = [
        helper.make_node("Conv", ["images", *arrays], ["sum"], pads=pads),
        helper.make_node("Sigmoid", ["sum"], ["maps"]),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", [images], [maps], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_entry(path, task, name, *, input, output=None, **fields):
    """Write the entry of a network with one output beside it; the network's path, as a command takes it."""
    suffix = {"SC": "_seg", "GM": "_gmseg", "LESION": "_lesionseg"}[name]
    entry = {
        "id": path.stem,
        "version": "1.0.0",
        "task": task,
        "description": "One convolution.",
        "licence": None,
        "files": [file_entry(path.name, path.read_bytes(), format="onnx")],
        "input": {"orientation": "RAS", "interpolation": "linear", **input},
        "outputs": [
            {"name": name, "channel": 0, "threshold": 0.5, "meaning": name, "suffix": suffix, **(output or {})}
        ],
        "activation": "sigmoid",
        "centring": {"policy": "image"},
        **fields,
    }
    path.with_suffix(".json").write_text(json.dumps(entry))
    return str(path)
