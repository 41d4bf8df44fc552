"""Keras layers as ONNX operators: one function a class of layer, chosen by :data:`LAYERS`."""

import math
from dataclasses import dataclass, field

import numpy as np

from sctseg7t.errors import ModelError


@dataclass(frozen=True)
class Tensor:
    """A value in the graph; ``space`` is empty for one number a channel, ``repeat`` times."""

    name: str
    channels: int
    space: tuple[int | None, ...] = ()
    repeat: int = 1


@dataclass(frozen=True)
class Layer:
    """One layer: its description and its arrays; ``divisor`` is what a ``Lambda`` divides by."""

    kind: str
    name: str
    config: dict
    weights: dict
    divisor: float | None = None

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return one of the layer's arrays (ModelError where it is not of this shape)."""
        if name not in self.weights:
            raise ModelError(f"layer {self.name}: the file has no {name} for it")
        array = self.weights[name]
        if array.shape != tuple(shape):
            raise ModelError(f"layer {self.name}: {name} is {array.shape}, its description asks for {tuple(shape)}")
        return array

    def per_axis(self, name: str, axes: int, default: int | list[int] = 1) -> tuple[int, ...]:
        """Return a setting with one value per axis."""
        value = self.config.get(name) or default
        values = (value,) * axes if isinstance(value, int) else tuple(int(v) for v in value)
        if len(values) != axes:
            raise ModelError(f"layer {self.name}: {name} {value} does not fit an image of {axes} axes")
        return values


@dataclass
class Graph:
    """The ONNX graph in the making; ``channels_last`` is the order of the Keras description."""

    channels_last: bool
    nodes: list = field(default_factory=list)
    arrays: list = field(default_factory=list)

    def node(self, operator: str, inputs: list[str], **attributes) -> str:
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

    def check_channel_axis(self, layer: Layer, tensor: Tensor) -> None:
        """Refuse a layer that works along another axis than the channels."""
        last = len(tensor.space) + 1
        if layer.config.get("axis", -1) not in ((-1, last) if self.channels_last else (1,)):
            raise ModelError(f"layer {layer.name}: axis {layer.config['axis']} is not that of the channels")


def _input(graph, layer):
    shape = layer.config["batch_input_shape"][1:]
    *space, channels = shape if graph.channels_last else (*shape[1:], shape[0])
    return Tensor("image", channels, tuple(space))


def _conv(graph, layer, tensor):
    axes = len(tensor.space)
    kernel, stride, dilation = (layer.per_axis(n, axes) for n in ("kernel_size", "strides", "dilation_rate"))
    filters = layer.config["filters"]
    # Keras: (*space, in, out); ONNX: (out, in, *space).
    array = layer.array("kernel", (*kernel, tensor.channels, filters)).transpose(axes + 1, axes, *range(axes))
    pads, space = _padding(layer, tensor.space, kernel, stride, dilation)
    name = graph.node(
        "Conv",
        [tensor.name, graph.constant(array), *_bias(graph, layer, filters)],
        kernel_shape=kernel,
        strides=stride,
        dilations=dilation,
        pads=pads,
    )
    return _activated(graph, layer, Tensor(name, filters, space))


def _conv_transpose(graph, layer, tensor):
    axes = len(tensor.space)
    kernel, stride = (layer.per_axis(n, axes) for n in ("kernel_size", "strides"))
    if set(layer.per_axis("dilation_rate", axes)) != {1} or layer.config.get("output_padding"):
        raise ModelError(f"layer {layer.name}: a dilated or output-padded transposed convolution")
    filters = layer.config["filters"]
    # Keras: (*space, out, in); ONNX: (in, out, *space).
    array = layer.array("kernel", (*kernel, filters, tensor.channels)).transpose(axes + 1, axes, *range(axes))
    excess = [max(k - s, 0) for k, s in zip(kernel, stride)]
    same = _is_same(layer)
    cut = [e if same else 0 for e in excess]
    space = tuple(n and n * s + (0 if same else e) for n, s, e in zip(tensor.space, stride, excess))
    name = graph.node(
        "ConvTranspose",
        [tensor.name, graph.constant(array), *_bias(graph, layer, filters)],
        kernel_shape=kernel,
        strides=stride,
        pads=[c // 2 for c in cut] + [c - c // 2 for c in cut],
        output_padding=[max(s - k, 0) for k, s in zip(kernel, stride)],
    )
    return _activated(graph, layer, Tensor(name, filters, space))


def _batch_norm(graph, layer, tensor):
    graph.check_channel_axis(layer, tensor)
    shape = (tensor.channels,)
    gamma = layer.array("gamma", shape) if layer.config.get("scale", True) else np.ones(shape, np.float32)
    beta = layer.array("beta", shape) if layer.config.get("center", True) else np.zeros(shape, np.float32)
    arrays = (gamma, beta, layer.array("moving_mean", shape), layer.array("moving_variance", shape))
    name = graph.node(
        "BatchNormalization", [tensor.name, *map(graph.constant, arrays)], epsilon=float(layer.config["epsilon"])
    )
    return Tensor(name, tensor.channels, tensor.space)


def _activated(graph, layer, tensor):
    kind = layer.config.get("activation", "linear")
    if kind not in _ACTIVATIONS:
        raise ModelError(f"layer {layer.name}: activation {kind} is not understood")
    operator = _ACTIVATIONS[kind]
    return Tensor(graph.node(operator, [tensor.name]), tensor.channels, tensor.space) if operator else tensor


def _identity(graph, layer, tensor):
    return tensor


def _lambda(graph, layer, tensor):
    if layer.divisor == 1:
        return tensor
    name = graph.node("Div", [tensor.name, graph.constant(np.float32(layer.divisor))])
    return Tensor(name, tensor.channels, tensor.space)


def _max_pool(graph, layer, tensor):
    axes = len(tensor.space)
    size = layer.per_axis("pool_size", axes, 2)
    stride = layer.per_axis("strides", axes, list(size))
    pads, space = _padding(layer, tensor.space, size, stride, (1,) * axes)
    name = graph.node("MaxPool", [tensor.name], kernel_shape=size, strides=stride, pads=pads)
    return Tensor(name, tensor.channels, space)


def _up_sampling(graph, layer, tensor):
    if layer.config.get("interpolation", "nearest") != "nearest":
        raise ModelError(f"layer {layer.name}: up-sampling by {layer.config['interpolation']} interpolation")
    factors = layer.per_axis("size", len(tensor.space), 2)
    scales = graph.constant(np.array((1, 1, *factors), np.float32))
    name = graph.node(
        "Resize",
        [tensor.name, "", scales],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    return Tensor(name, tensor.channels, tuple(n and n * f for n, f in zip(tensor.space, factors)))


def _concatenate(graph, layer, *tensors):
    graph.check_channel_axis(layer, tensors[0])
    if len({tensor.space for tensor in tensors}) > 1:
        sizes = ", ".join("x".join(map(str, tensor.space)) for tensor in tensors)
        raise ModelError(f"layer {layer.name}: joins images of different sizes: {sizes}")
    name = graph.node("Concat", [tensor.name for tensor in tensors], axis=1)
    return Tensor(name, sum(tensor.channels for tensor in tensors), tensors[0].space)


def _mean(graph, layer, tensor):
    return Tensor(graph.node("GlobalAveragePool", [tensor.name]), tensor.channels)


def _repeat(graph, layer, tensor):
    if tensor.space:
        raise ModelError(f"layer {layer.name}: repeats an image")
    return Tensor(tensor.name, tensor.channels, (), layer.config["n"])


def _reshape(graph, layer, tensor):
    """A mean that was repeated becomes an image of that value; other reshaping is not understood."""
    *space, channels = layer.config["target_shape"]
    whole = not tensor.space and graph.channels_last and channels == tensor.channels
    if not whole or math.prod(space) != tensor.repeat:
        raise ModelError(f"layer {layer.name}: reshapes something else than a repeated mean")
    shape = graph.constant(np.array([1, 1, *space], np.int64))
    return Tensor(graph.node("Expand", [tensor.name, shape]), channels, tuple(space))


def _is_same(layer):
    padding = layer.config.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise ModelError(f"layer {layer.name}: padding {padding} is not understood")
    return padding == "same"


def _padding(layer, space, kernel, stride, dilation):
    """ONNX pads and the size of the result; "same" puts the odd sample behind, as TensorFlow does."""
    same, before, after, result = _is_same(layer), [], [], []
    for n, k, s, d in zip(space, kernel, stride, dilation):
        reach = (k - 1) * d + 1
        if n is not None:
            count = -(-n // s) if same else (n - reach) // s + 1
            total = max((count - 1) * s + reach - n, 0)
        elif s == 1:
            count, total = None, reach - 1
        else:
            raise ModelError(f"layer {layer.name}: strides on an image of open size")
        before.append(total // 2 if same else 0)
        after.append(total - total // 2 if same else 0)
        result.append(count)
    return before + after, tuple(result)


def _bias(graph, layer, filters):
    return [graph.constant(layer.array("bias", (filters,)))] if layer.config.get("use_bias", True) else []


_ACTIVATIONS = {"linear": None, "relu": "Relu", "sigmoid": "Sigmoid"}
LAYERS = {
    "InputLayer": _input,
    "Conv2D": _conv,
    "Conv3D": _conv,
    "Conv2DTranspose": _conv_transpose,
    "Conv3DTranspose": _conv_transpose,
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
    "RepeatVector": _repeat,
    "Reshape": _reshape,
}
