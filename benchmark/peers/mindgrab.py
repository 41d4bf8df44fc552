"""MindGrab (Fani et al., 2025; MIT), a brain extraction network, from its TensorFlow.js files to the ONNX of the zoo.

    python benchmark/peers/mindgrab.py ../shared/data/peers/mindgrab mindgrab.onnx

The network: 25 convolutions 3 x 3 x 3 of 15 channels, dilated 16, 8, 4, 2, 1 in turn, each with an instance
normalisation without weights (layers named ``_gn``) and a GELU; then 1 x 1 x 1 to background and brain. The file
written gives one logit, brain less background, whose sigmoid is the softmax of the two.
"""

import json
import sys
from math import prod, sqrt
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

# PyTorch's of GroupNorm, with which it was trained.
EPSILON = 1e-5


def arrays_of(folder):
    """The weights by name."""
    (group,) = json.loads((folder / "model.json").read_text())["weightsManifest"]
    raw = np.concatenate([np.fromfile(folder / path, "<f4") for path in group["paths"]])
    found, at = {}, 0
    for one in group["weights"]:
        size = prod(one["shape"])
        found[one["name"]] = raw[at : at + size].reshape(one["shape"])
        at += size
    if at != raw.size:
        raise SystemExit(f"{folder}: {raw.size} weights, {at} described")
    return found


def build(folder):
    """The network as an ONNX model."""
    arrays = arrays_of(folder)
    layers = json.loads((folder / "model.json").read_text())["modelTopology"]["model_config"]["config"]["layers"]
    nodes, constants, image = [], [], "image"

    def constant(values):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), f"array_{len(constants)}"))
        return constants[-1].name

    def node(operator, *inputs, out=None, **attributes):
        nodes.append(helper.make_node(operator, inputs, [out or f"{operator.lower()}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    half, one, root = (constant(np.float32(value)) for value in (0.5, 1, sqrt(0.5)))
    for layer in layers:
        name, config = layer["config"]["name"], layer["config"]
        if layer["class_name"] == "Activation":
            error = node("Add", node("Erf", node("Mul", image, root)), one)
            image = node("Mul", node("Mul", image, error), half)
        elif layer["class_name"] == "Conv3D":
            kernel = np.moveaxis(arrays[f"{name}/kernel"], (-1, -2), (0, 1))
            dilations, size = config["dilation_rate"], config["kernel_size"]
            pads = [(k - 1) * d // 2 for k, d in zip(size, dilations)] * 2
            if name == "output":
                kernel, bias = kernel[1:] - kernel[:1], np.diff(arrays[f"{name}/bias"])
                node("Conv", image, constant(kernel), constant(bias), out="maps", dilations=dilations, pads=pads)
                break
            image = node("Conv", image, constant(kernel), dilations=dilations, pads=pads)
            if name.endswith("_gn"):
                scale, shift = constant(np.ones(len(kernel))), constant(np.zeros(len(kernel)))
                image = node("InstanceNormalization", image, scale, shift, epsilon=EPSILON)
    ends = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 1, "x", "y", "z"]) for n in ("image", "maps"))
    inputs, outputs = ([end] for end in ends)
    graph = helper.make_graph(nodes, "mindgrab", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    onnx.save(build(Path(sys.argv[1])), sys.argv[2])
