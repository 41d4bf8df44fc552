"""A U-Net of the public 7 T model's shape, untrained, to compare its speed.

Shape: ``Unet`` of ivadomed (2D, depth 3, 64 base filters, bilinear up-sampling,
convolution - ReLU - BatchNorm twice per level; three outputs of which the first,
the background, is dropped) as configured by ivadomed/model_seg_gm-wm_t2star_7t_
unet2d-multiclass. The weights are random: the masks mean nothing.

    python benchmark/peers/unet7t.py unet7t.onnx
"""

import os
import sys
from pathlib import Path

import numpy as np

SIZE = 128
BASE_FILTERS = 64
DEPTH = 3
EPSILON = 1e-5  # BatchNorm, the PyTorch default
CLASSES = 3  # background, SC, GM


def build_onnx(out, size=SIZE, seed=0):
    """Write the untrained network.

    Parameters
    ----------
    out : path
        ONNX file to write. Input ``image``, float32 (slices, 1, size, size);
        output ``SC_GM``, probabilities (slices, 2, size, size).
    size : int
        Side of the square slice, pixels, a multiple of 8.
    seed : int
        Of the random weights.

    Returns
    -------
    int
        Number of trainable parameters (weights, biases, BatchNorm gamma and beta).
    """
    if size % 2**DEPTH:
        raise ValueError(f"size must be a multiple of {2**DEPTH}, not {size}")
    graph, counter = Graph(), _Weights(seed)
    filters = [BASE_FILTERS * 2**level for level in range(DEPTH)]

    x, channels, skips = "image", 1, []
    for width in filters:
        x = _block(graph, counter, x, channels, width)
        skips.append(x)
        x = graph.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        channels = width
    x = _block(graph, counter, x, channels, channels)

    for width, skip in zip(reversed(filters), reversed(skips), strict=True):
        x = _double(graph, x)
        x = graph.node("Concat", [x, skip], axis=1)
        x = _block(graph, counter, x, channels + width, width)
        channels = width

    logits = graph.conv(x, *counter.conv(channels, CLASSES))
    probabilities = graph.node("Sigmoid", [logits])
    ends = [graph.constant(np.array([value], np.int64)) for value in (1, CLASSES, 1)]
    graph.node("Slice", [probabilities, *ends], output="SC_GM")
    graph.save(out, "unet_7t_untrained", outputs={"SC_GM": CLASSES - 1}, size=size)
    return counter.parameters


def _block(graph, weights, x, channels, width):
    for source_channels in (channels, width):
        x = graph.conv(x, *weights.conv(source_channels, width))
        x = graph.node("Relu", [x])
        x = graph.norm(x, *weights.norm(width), epsilon=EPSILON)
    return x


def _double(graph, x):
    # Scales rather than sizes: sizes would fix the number of slices.
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    return graph.node("Resize", [x, "", scales], mode="linear", coordinate_transformation_mode="align_corners")


class _Weights:
    """Random arrays of layers, and how many parameters they add up to."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)
        self.parameters = 0

    def conv(self, channels, width, side=3):
        """He-scaled kernel (width, channels, side, side) and zero bias."""
        scale = np.sqrt(2 / (channels * side**2))
        kernel = self._random.normal(0, scale, (width, channels, side, side))
        self.parameters += kernel.size + width
        return kernel.astype(np.float32), np.zeros(width, np.float32)

    def norm(self, width):
        """Gamma, beta, mean, variance near those of a trained layer."""
        self.parameters += 2 * width
        jitter = self._random.uniform(0.9, 1.1, (4, width)).astype(np.float32)
        return jitter[0], jitter[1] - 1, jitter[2] - 1, jitter[3]


class Graph:
    """A list of ONNX nodes that grows one operator at a time (opset 17)."""

    def __init__(self):
        self._nodes, self._arrays = [], []

    def node(self, operator, inputs, output=None, **attributes):
        """Append an operator; returns the name of its output."""
        from onnx import helper

        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, array):
        """Store an array; returns its name."""
        from onnx import numpy_helper

        name = f"array_{len(self._arrays)}"
        self._arrays.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def conv(self, source, kernel, bias, dilation=1):
        """Convolution with bias and "same" padding; kernel is (out, in, 3 or 1, same)."""
        side = kernel.shape[-1]
        return self.node(
            "Conv",
            [source, self.constant(kernel), self.constant(bias)],
            dilations=[dilation] * 2 if side > 1 else [1, 1],
            kernel_shape=[side, side],
            pads=[dilation * (side // 2)] * 4,
        )

    def norm(self, source, gamma, beta, mean, variance, epsilon):
        """Batch normalisation with stored statistics."""
        arrays = [self.constant(array) for array in (gamma, beta, mean, variance)]
        return self.node("BatchNormalization", [source, *arrays], epsilon=epsilon)

    def save(self, out, name, outputs, size):
        """Check and write the graph; `outputs` maps each name to its channels."""
        import onnx
        from onnx import TensorProto, helper

        def value(label, channels):
            shape = ["slices", channels, size, size]
            return helper.make_tensor_value_info(label, TensorProto.FLOAT, shape)

        results = [value(label, channels) for label, channels in outputs.items()]
        graph = helper.make_graph(self._nodes, name, [value("image", 1)], results, self._arrays)
        # IR version 8 is the first that carries opset 17.
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        out = Path(out)
        temporary = out.with_name(f".{os.getpid()}.{out.name}")
        onnx.save(model, temporary)
        os.replace(temporary, out)
        return out


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmark/peers/unet7t.py OUT.onnx")
    print(f"{sys.argv[1]}: {build_onnx(sys.argv[1]):,} parameters")
