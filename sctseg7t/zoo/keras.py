"""Keras networks as ONNX: the description and the weights that an HDF5 file holds, read as data.

A description is the JSON that Keras stores with a full model, or one that ships here (``architectures/``)
for files that hold weights only. It is interpreted, layer by layer; code that a file may carry (``Lambda``)
is never run. The graph is channels first, whatever the description.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.errors import ModelError
from sctseg7t.zoo.keras_layers import LAYERS, Graph, Layer
from sctseg7t.zoo.spec import AnyPath, Architecture

OPSET = 17
# The first version of the file format that carries opset 17.
IR_VERSION = 8
ARCHITECTURES = Path(__file__).with_name("architectures")


def to_onnx(
    hdf5: AnyPath,
    out: AnyPath,
    architecture: Architecture | None = None,
    lambdas: Sequence[tuple[str, float]] = (),
) -> None:
    """Write the network of a Keras HDF5 file as ONNX.

    Parameters
    ----------
    hdf5 : path
        Written by Keras 2: a full model, or weights only.
    out : path
        Input ``image`` (batch, channels, *space), output ``maps`` likewise, float32.
    architecture : sctseg7t.zoo.spec.Architecture, optional
        The shipped description; needed where the file has none, and then used in any case.
    lambdas : sequence of (str, float)
        Layers of class ``Lambda`` (a name, or a pattern such as ``lambda_*``), and what each divides its input by.

    Raises
    ------
    ModelError
        The file cannot be read, or holds what is not understood; the message names it.
    """
    h5py, onnx = _packages(hdf5)
    try:
        with h5py.File(hdf5, "r") as file:
            described = load_architecture(architecture) if architecture else _own_description(file, hdf5)
            weights = _read_weights(file.get("model_weights", file))
    except OSError as error:
        raise ModelError(f"{hdf5}: not an HDF5 file that can be read ({error}); fetch it again") from error
    try:
        model = _build(described, weights, lambdas)
        onnx.checker.check_model(model, full_check=True)
    except ModelError as error:
        raise ModelError(f"{hdf5}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{hdf5}: its description and weights make no network: {_one_line(error)}") from error
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"{hdf5}: its layers do not fit together: {_one_line(error)}") from error
    onnx.save(model, out)


def load_architecture(architecture: Architecture) -> dict:
    """Return a shipped description with its parameters (``"$name"``) filled in.

    Raises
    ------
    ModelError
        There is none of that name, or it has no such parameter.
    """
    path = ARCHITECTURES / f"{architecture.name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in ARCHITECTURES.glob("*.json")))
        raise ModelError(f"no architecture is called '{architecture.name}'; there are: {known}")
    raw = json.loads(path.read_text(encoding="utf-8"))
    unknown = set(dict(architecture.parameters)) - set(raw["parameters"])
    if unknown:
        raise ModelError(f"architecture {architecture.name} has no parameter {', '.join(sorted(unknown))}")
    return _filled(raw["model"], raw["parameters"] | dict(architecture.parameters))


def _packages(hdf5):
    try:
        import h5py
        import onnx
        import onnx.checker
        import onnx.shape_inference
    except ImportError as error:
        raise ModelError(
            f"{Path(hdf5).name}: converting Keras weights needs {error.name}; pip install 'sctseg7t[peers]'"
        ) from error
    return h5py, onnx


def _filled(value, parameters) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, parameters) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, parameters) for item in value]
    if isinstance(value, str) and value.startswith("$"):
        return math.prod(parameters[name[1:]] for name in value.split("*"))
    return value


def _own_description(file, hdf5):
    text = file.attrs.get("model_config")
    if text is None:
        raise ModelError(f"{hdf5}: holds weights only; name its architecture in the entry (files[].architecture)")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelError(f"{hdf5}: its model_config is not JSON: {error}") from error


def _read_weights(root):
    """Arrays by layer and name: ``{"conv2d_1": {"kernel": ..., "bias": ...}}``."""
    found = {}
    for layer, group in root.items():
        arrays = {}

        def collect(path, item, arrays=arrays):
            # A group has no shape; a data set does.
            if hasattr(item, "shape"):
                arrays[path.rpartition("/")[2].partition(":")[0]] = np.asarray(item[()], np.float32)

        group.visititems(collect)
        if arrays:
            found[layer] = arrays
    return found


def _one_line(error):
    return " ".join(str(error).split())[:200]


def _build(described, weights, lambdas):
    from onnx import TensorProto, helper

    layers, sources, end = _parse(described, weights, lambdas)
    formats = {layer.config["data_format"] for layer in layers if "data_format" in layer.config}
    if not formats <= {"channels_last", "channels_first"} or len(formats) > 1:
        raise ModelError(f"layers of several data formats: {', '.join(sorted(formats))}")
    graph, made = Graph(formats != {"channels_first"}), {}
    for layer in layers:
        made[layer.name] = LAYERS[layer.kind](graph, layer, *(made[source] for source in sources[layer.name]))
    start, result = made[layers[0].name], made[end]
    graph.nodes.append(helper.make_node("Identity", [result.name], ["maps"]))

    def value(name, tensor):
        shape = ["batch", tensor.channels, *tensor.space]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    parts = helper.make_graph(graph.nodes, "keras", [value("image", start)], [value("maps", result)], graph.arrays)
    return helper.make_model(parts, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _parse(described, weights, lambdas):
    """The layers in an order in which each follows its sources, the sources of each, the last layer."""
    config = described["config"]
    if described.get("class_name") not in ("Model", "Functional") or not isinstance(config, dict):
        raise ModelError(f"a {described.get('class_name')} network; only functional models are understood")
    if len(config["input_layers"]) != 1 or len(config["output_layers"]) != 1:
        raise ModelError("a network with several inputs or outputs")
    raw = config["layers"]
    divisors = {name: _divisor(name, lambdas) for name in _names(raw, "Lambda")}
    _check_known(raw, divisors)
    layers = {
        name: Layer(one["class_name"], name, one["config"], weights.get(name, {}), divisors.get(name))
        for one in raw
        for name in [one["config"]["name"]]
    }
    unused = sorted(set(weights) - set(layers))
    if unused:
        raise ModelError(f"the file has weights that its description does not use: {', '.join(unused[:4])}")
    sources = {one["config"]["name"]: _sources(one) for one in raw}
    return [layers[name] for name in _ordered(sources)], sources, config["output_layers"][0][0]


def _ordered(sources):
    order, waiting = [], dict(sources)
    while waiting:
        ready = [name for name in waiting if not set(waiting[name]) & set(waiting)]
        if not ready:
            raise ModelError(f"layers in a circle: {', '.join(waiting)}")
        order += ready
        for name in ready:
            del waiting[name]
    return order


def _names(raw, kind):
    return [one["config"]["name"] for one in raw if one["class_name"] == kind]


def _divisor(name, lambdas):
    return next((divisor for pattern, divisor in lambdas if fnmatchcase(name, pattern)), None)


def _sources(raw):
    nodes = raw["inbound_nodes"]
    if len(nodes) > 1:
        raise ModelError(f"layer {raw['config']['name']} is used {len(nodes)} times")
    return [source[0] for source in nodes[0]] if nodes else []


def _check_known(raw, divisors):
    undeclared = [name for name, divisor in divisors.items() if divisor is None]
    if undeclared:
        raise ModelError(
            f"holds code (Lambda layer {', '.join(undeclared)}), which is never run: say in the entry what it does "
            "(files[].lambdas)"
        )
    unknown = Counter(one["class_name"] for one in raw if one["class_name"] not in LAYERS)
    if unknown:
        listed = ", ".join(f"{kind} ({count})" for kind, count in unknown.items())
        raise ModelError(f"layers that are not understood: {listed}")
    if len(_names(raw, "InputLayer")) != 1:
        raise ModelError("a network with several inputs")
