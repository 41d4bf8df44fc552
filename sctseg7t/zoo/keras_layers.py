"""Keras layers as ONNX operators: one function a class of layer, chosen by :data:`LAYERS`.

The arrays say how wide a layer is; ONNX works out sizes from them and refuses what does not fit together.
"""

from dataclasses import dataclass, field

import numpy as np

from sctseg7t.errors import ModelError

_ACTIVATIONS = {"linear": None, "relu": "Relu", "sigmoid": "Sigmoid"}
# "same" puts the odd sample behind, as TensorFlow does.
_PADDING = {"same": "SAME_UPPER", "valid": "VALID"}


@dataclass(frozen=True)
class Layer:
    """One layer: its description, its arrays, the layers before it; ``divisor`` is what a ``Lambda`` divides by."""

    kind: str
    name: str
    config: dict
    arrays: dict
    sources: tuple["Layer", ...]
    divisor: float | None


@dataclass
class Graph:
    """The ONNX graph in the making; ``channels_last`` is the order of the Keras description."""

    channels_last: bool
    nodes: list = field(default_factory=list)
    arrays: list = field(default_factory=list)

    def node(self, operator: str, *inputs: str, **attributes) -> str:
        """Add an operator; returns the name of its result."""
        from onnx import helper

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        """Add an array; returns its name."""
        from onnx import numpy_helper

        name = f"array_{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def check_channel_axis(self, layer: Layer) -> None:
        """Refuse a layer that works along another axis than the channels."""
        axis = layer.config.get("axis", -1)
        if axis not in ((-1, 3, 4) if self.channels_last else (1,)):
            raise ModelError(f"axis {axis} is not that of the channels")


def _convolution(graph, layer, image):
    transposed, config = "Transpose" in layer.kind, layer.config
    dilation = config.get("dilation_rate") or [1] * len(config["kernel_size"])
    if transposed and (set(dilation) != {1} or config.get("output_padding")):
        raise ModelError("a dilated or output-padded transposed convolution")
    if transposed and any(k < s for k, s in zip(config["kernel_size"], config["strides"])):
        raise ModelError("a transposed convolution whose steps are longer than its kernel")
    padding = {"auto_pad": _PADDING[config["padding"]]}
    if config["padding"] == "same" and set(dilation) != {1}:
        # ONNX Runtime has no automatic padding of these; Keras allows them no steps, so that the size does not matter.
        reach = [(k - 1) * d for k, d in zip(config["kernel_size"], dilation)]
        padding = {"pads": [r // 2 for r in reach] + [r - r // 2 for r in reach]}
    # Keras: (*space, in, out), transposed (*space, out, in). ONNX: (out, in, *space), transposed (in, out, *space).
    arrays = [np.moveaxis(layer.arrays["kernel"], (-1, -2), (0, 1))]
    if config.get("use_bias", True):
        arrays.append(layer.arrays["bias"])
    result = graph.node(
        "ConvTranspose" if transposed else "Conv",
        image,
        *map(graph.constant, arrays),
        strides=config["strides"],
        dilations=dilation,
        **padding,
    )
    return _activated(graph, layer, result)


def _batch_norm(graph, layer, image):
    graph.check_channel_axis(layer)
    mean, variance = layer.arrays["moving_mean"], layer.arrays["moving_variance"]
    gamma = layer.arrays["gamma"] if layer.config.get("scale", True) else np.ones_like(mean)
    beta = layer.arrays["beta"] if layer.config.get("center", True) else np.zeros_like(mean)
    arrays = map(graph.constant, (gamma, beta, mean, variance))
    return graph.node("BatchNormalization", image, *arrays, epsilon=float(layer.config["epsilon"]))


def _activated(graph, layer, image):
    operator = _ACTIVATIONS[layer.config.get("activation", "linear")]
    return graph.node(operator, image) if operator else image


def _identity(graph, layer, image):
    return image


def _lambda(graph, layer, image):
    return image if layer.divisor == 1 else graph.node("Div", image, graph.constant(np.float32(layer.divisor)))


def _max_pool(graph, layer, image):
    config = layer.config
    steps, pad = config["strides"], _PADDING[config["padding"]]
    return graph.node("MaxPool", image, kernel_shape=config["pool_size"], strides=steps, auto_pad=pad)


def _up_sampling(graph, layer, image):
    if layer.config.get("interpolation", "nearest") != "nearest":
        raise ModelError(f"up-sampling by {layer.config['interpolation']} interpolation")
    scales = graph.constant(np.array((1, 1, *layer.config["size"]), np.float32))
    how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    return graph.node("Resize", image, "", scales, **how)


def _concatenate(graph, layer, *images):
    graph.check_channel_axis(layer)
    return graph.node("Concat", *images, axis=1)


def _mean(graph, layer, image):
    return graph.node("GlobalAveragePool", image)


def _reshape(graph, layer, mean):
    """A mean that was repeated becomes an image of that value; other reshaping is not understood."""
    if layer.sources[0].kind != "RepeatVector" or not graph.channels_last:
        raise ModelError("reshapes something else than a repeated mean")
    return graph.node("Expand", mean, graph.constant(np.array([1, 1, *layer.config["target_shape"][:-1]], np.int64)))


LAYERS = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "Conv2DTranspose": _convolution,
    "Conv3DTranspose": _convolution,
    "BatchNormalization": _batch_norm,
    "Activation": _activated,
    "Dropout": _identity,
    "SpatialDropout2D": _identity,
    "SpatialDropout3D": _identity,
    "Lambda": _lambda,
    "MaxPooling2D": _max_pool,
    "MaxPooling3D": _max_pool,
    "UpSampling2D": _up_sampling,
    "UpSampling3D": _up_sampling,
    "Concatenate": _concatenate,
    "GlobalAveragePooling2D": _mean,
    "GlobalAveragePooling3D": _mean,
    # A mean is one number a channel as it is; ``Reshape`` spreads it.
    "RepeatVector": _identity,
    "Reshape": _reshape,
}
