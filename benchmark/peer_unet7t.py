"""A U-Net of the public 7 T model's shape, untrained, to compare its speed.

Shape: ``Unet`` of ivadomed (2D, depth 3, 64 base filters, bilinear up-sampling,
convolution - ReLU - BatchNorm twice per level; three outputs of which the first,
the background, is dropped) as configured by ivadomed/model_seg_gm-wm_t2star_7t_
unet2d-multiclass. The weights are random: the masks mean nothing.

    python benchmark/peer_unet7t.py unet7t.onnx
"""

import sys

import numpy as np
from peer_sct_gm import Graph

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


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmark/peer_unet7t.py OUT.onnx")
    print(f"{sys.argv[1]}: {build_onnx(sys.argv[1]):,} parameters")
