"""Keras networks as ONNX: the description and the weights that an HDF5 file holds, read as data.

A description is the JSON that Keras stores with a full model, or one that ships here (``architectures/``)
for files that hold weights only. It is interpreted, layer by layer; code that a file may carry (``Lambda``)
is never run. The graph is channels first, whatever the description.
"""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np

from sctseg7t.errors import ModelError
from sctseg7t.text import one_line
from sctseg7t.zoo.keras_layers import LAYERS, Graph, Layer
from sctseg7t.zoo.spec import AnyPath

OPSET = 17
# The first version of the file format that carries opset 17.
IR_VERSION = 8
ARCHITECTURES = Path(__file__).with_name("architectures")


def to_onnx(
    hdf5: AnyPath, out: AnyPath, architecture: str | None = None, lambdas: Mapping[str, float] | None = None
) -> None:
    """Write the network of a Keras HDF5 file as ONNX.

    Parameters
    ----------
    hdf5 : path
        Written by Keras 2: a full model, or weights only.
    out : path
        Input ``image`` (batch, channels, *space), output ``maps`` likewise, float32.
    architecture : str, optional
        Name of the shipped description; needed where the file has none, and then used in any case.
    lambdas : mapping of str to float, optional
        Layers of class ``Lambda`` (a name, or a pattern such as ``lambda_*``), and what each divides its input by.

    Raises
    ------
    ModelError
        The file cannot be read, or holds what is not understood; the message names it.
    """
    import h5py
    import onnx
    from onnx import checker, shape_inference

    try:
        with h5py.File(hdf5, "r") as file:
            description = file.attrs.get("model_config")
            weights = _read_weights(file.get("model_weights", file))
    except OSError as error:
        raise ModelError(f"{hdf5}: not an HDF5 file that can be read ({error}); fetch it again") from error
    if architecture:
        description = (ARCHITECTURES / f"{architecture}.json").read_text(encoding="utf-8")
    if description is None:
        raise ModelError(f"{hdf5}: holds weights only; name its architecture in the entry (files[].architecture)")
    try:
        model = _build(_parse(json.loads(description), weights, lambdas or {}))
        checker.check_model(model, full_check=True)
    except (
        ModelError,
        KeyError,
        TypeError,
        ValueError,
        checker.ValidationError,
        shape_inference.InferenceError,
    ) as error:
        raise ModelError(f"{hdf5}: no network can be made of it: {one_line(error, 200)}") from error
    onnx.save(model, out)


def _read_weights(root):
    """Arrays by layer and name: ``{"conv2d_1": {"kernel": ..., "bias": ...}}``."""
    found = {}

    def collect(path, item):
        # A group has no shape; a data set does.
        if hasattr(item, "shape"):
            layer, *_, name = path.split("/")
            found.setdefault(layer, {})[name.partition(":")[0]] = np.asarray(item[()], np.float32)

    root.visititems(collect)
    return found


def _parse(described, weights, lambdas) -> list[Layer]:
    """The layers in an order in which each follows its sources, the network's end last."""
    config = described["config"]
    if described["class_name"] not in ("Model", "Functional"):
        raise ModelError(f"a {described['class_name']} network; only functional models are understood")
    if len(config["input_layers"]) != 1 or len(config["output_layers"]) != 1:
        raise ModelError("a network with several inputs or outputs")
    raw = {one["config"]["name"]: one for one in config["layers"]}
    unknown = {one["class_name"] for one in raw.values()} - {"InputLayer", *LAYERS}
    if unknown:
        raise ModelError(f"layers that are not understood: {', '.join(sorted(unknown))}")
    unused = sorted(set(weights) - set(raw))
    if unused:
        raise ModelError(f"the file has weights that its description does not use: {', '.join(unused[:4])}")
    shared = [name for name, one in raw.items() if len(one["inbound_nodes"]) > 1]
    if shared:
        raise ModelError(f"layer {shared[0]} is used several times")
    sources = {name: [source[0] for node in one["inbound_nodes"] for source in node] for name, one in raw.items()}
    layers: dict[str, Layer] = {}
    for name in TopologicalSorter(sources).static_order():
        kind, before = raw[name]["class_name"], tuple(layers[source] for source in sources[name])
        divisor = next((value for pattern, value in lambdas.items() if fnmatchcase(name, pattern)), None)
        if kind == "Lambda" and divisor is None:
            raise ModelError(
                f"holds code (Lambda layer {name}), which is never run: say in the entry what it does (files[].lambdas)"
            )
        layers[name] = Layer(kind, name, raw[name]["config"], weights.get(name, {}), before, divisor)
    end = layers.pop(config["output_layers"][0][0])
    return [*layers.values(), end]


def _build(layers):
    from onnx import TensorProto, helper, shape_inference

    formats = {layer.config["data_format"] for layer in layers if "data_format" in layer.config}
    if len(formats) > 1:
        raise ModelError(f"layers of several data formats: {', '.join(sorted(formats))}")
    graph = Graph(formats != {"channels_first"})
    (start,) = (layer for layer in layers if layer.kind == "InputLayer")
    shape = start.config["batch_input_shape"][1:]
    if graph.channels_last:
        shape = [shape[-1], *shape[:-1]]
    made = {start.name: "image"}
    for layer in layers:
        if layer is not start:
            try:
                made[layer.name] = LAYERS[layer.kind](graph, layer, *(made[source.name] for source in layer.sources))
            except KeyError as error:
                raise ModelError(f"layer {layer.name}: {error} is missing or not understood") from error
            except ModelError as error:
                raise ModelError(f"layer {layer.name}: {error}") from error
    graph.nodes.append(helper.make_node("Identity", [made[layers[-1].name]], ["maps"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *shape])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, None)
    parts = helper.make_graph(graph.nodes, "keras", [image], [maps], graph.arrays)
    model = helper.make_model(parts, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    # Writes the size of the result into the graph.
    return shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
