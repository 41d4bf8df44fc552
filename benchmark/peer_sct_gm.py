"""sct_deepseg_gm, the gray matter baseline, rebuilt to be timed and compared.

Network: Perone, Calabrese and Cohen-Adad, "Spinal cord gray matter segmentation
using deep dilated convolutions", 2018. Recipe and resampling as in the Spinal Cord
Toolbox; its weights (repository sct-data/deepseg_gm_models) are read from a folder
of the user's and are not part of this project.

Build the network once, then segment; the second command is a process of its own::

    python benchmark/peer_sct_gm.py --build --weights FOLDER --onnx model.onnx
    python benchmark/peer_sct_gm.py -i scan.nii.gz -o gmseg.nii.gz --onnx model.onnx
"""

import argparse
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime as ort

SPACING_MM = 0.25
SIZE = 200
THRESHOLD = 0.999
EPSILON = 1e-3  # BatchNorm, the Keras default
# Git blob ids of the files at sct-data/deepseg_gm_models, commit 600b61c3.
BLOB_IDS = {
    "large_model.hdf5": "6f75010c2e20f36ac41472278848f42954d5b2a6",
    "challenge_model.hdf5": "fb3731ba97fee5d5262971c4d8d05d0e9db68f60",
}
# Concatenation order of the branches, with the dilation of each one's two convolutions.
BRANCHES = {"branch1x1": 1, "rate6": 6, "rate12": 12, "rate18": 18, "mean": None, "rate24": 24}
FIRST_NORM = {"branch1x1": 5, "rate6": 7, "rate12": 9, "rate18": 11, "rate24": 13}


# --- the network ---------------------------------------------------------------


def build_onnx(hdf5, out, size=SIZE):
    """Rebuild the Keras network of sct_deepseg_gm as an ONNX graph.

    Parameters
    ----------
    hdf5 : path
        ``large_model.hdf5`` (64 filters) or ``challenge_model.hdf5`` (32).
    out : path
        ONNX file to write. Input ``image`` and output ``GM`` (probability) are
        float32, (slices, 1, size, size).
    size : int
        Side of the square slice, pixels.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        The file's content is not the published one.
    """
    weights = read_weights(hdf5)
    graph = Graph()
    head = _conv_norm(graph, weights, "image", "conv2d_1", 1)
    second = _conv_norm(graph, weights, head, "conv2d_2", 2)
    trunk = _conv_norm(graph, weights, second, "rate2_1", 3, dilation=2)
    trunk = _conv_norm(graph, weights, trunk, "rate2_2", 4, dilation=2)

    parts = []
    for name, dilation in BRANCHES.items():
        if name == "mean":
            mean = graph.node("GlobalAveragePool", [second])
            parts.append(graph.node("Expand", [mean, graph.node("Shape", [second])]))
            continue
        norm = FIRST_NORM[name]
        part = _conv_norm(graph, weights, trunk, f"{name}_1", norm, dilation)
        parts.append(_conv_norm(graph, weights, part, f"{name}_2", norm + 1, dilation))

    joined = graph.node("Concat", parts, axis=1)
    joined = graph.norm(joined, *weights["batch_normalization_15"], epsilon=EPSILON)
    joined = _conv_norm(graph, weights, joined, "amort", 16)
    logit = graph.conv(joined, *weights["predictions"])
    graph.node("Sigmoid", [logit], output="GM")
    return graph.save(out, "sct_deepseg_gm", outputs={"GM": 1}, size=size)


def read_weights(hdf5):
    """Arrays of each layer: (kernel OIHW, bias), or (gamma, beta, mean, variance)."""
    import h5py

    path = Path(hdf5)
    if path.name in BLOB_IDS and _blob_id(path) != BLOB_IDS[path.name]:
        raise ValueError(f"{path}: not the published weights (git blob id differs)")
    weights = {}
    with h5py.File(path, "r") as file:
        for layer in file:
            arrays = file[layer].get(layer)
            if arrays is None:
                continue
            if "kernel:0" in arrays:
                kernel = np.transpose(arrays["kernel:0"][()], (3, 2, 0, 1))
                weights[layer] = (np.ascontiguousarray(kernel), arrays["bias:0"][()])
            else:
                names = ("gamma:0", "beta:0", "moving_mean:0", "moving_variance:0")
                weights[layer] = tuple(arrays[name][()] for name in names)
    return weights


def _blob_id(path):
    import hashlib

    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _conv_norm(graph, weights, source, layer, norm, dilation=1):
    # BatchNorm follows ReLU here, so it cannot be folded into its convolution.
    x = graph.conv(source, *weights[layer], dilation=dilation)
    x = graph.node("Relu", [x])
    return graph.norm(x, *weights[f"batch_normalization_{norm}"], epsilon=EPSILON)


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


# --- the recipe ----------------------------------------------------------------


def segment_gm(nifti_path, onnx_path, threads=2, batch=1, centred=True):
    """Segment GM the way sct_deepseg_gm does.

    Parameters
    ----------
    nifti_path : path
        3D image whose third array axis runs along the cord.
    onnx_path : path
        Network from :func:`build_onnx`.
    threads : int
        ONNX Runtime intra-op threads.
    batch : int
        Slices per call of the network; more cost memory and gain no time. (The
        toolbox passes the whole stack, which needs gigabytes.)
    centred : bool
        Resampling of the releases that made the public gm-challenge labels, which
        it reproduces voxel for voxel where nobody corrected them. False: that of
        newer releases, see :func:`resample_in_plane`; its Dice is lower.

    Returns
    -------
    nibabel.Nifti1Image
        Mask, uint8, on the grid of the input.

    Raises
    ------
    ValueError
        The image is not 3D.
    """
    image = nib.load(nifti_path)
    if image.ndim != 3:
        raise ValueError(f"{nifti_path}: {image.ndim}D image; sct_deepseg_gm takes 3D")
    native = np.asanyarray(image.dataobj)
    if native.dtype.kind in "biu":
        native = native.astype(np.float64)

    zooms = image.header.get_zooms()[:2]
    grid = [int(np.round(n * float(z) / SPACING_MM)) for n, z in zip(native.shape, zooms, strict=False)]
    fine = resample_in_plane(native, grid, centred)
    stack = fit_in_plane(fine, (SIZE, SIZE), "symmetric").transpose(2, 0, 1)
    stack = stack.astype(np.float32)[:, None]
    stack = (stack - stack.mean()) / stack.std()

    mask = _run(onnx_path, stack, threads, batch)[:, 0] > THRESHOLD
    mask = fit_in_plane(mask.transpose(1, 2, 0).astype(np.float64), grid, "constant")
    mask = resample_in_plane(mask, native.shape[:2], centred) > 0.5

    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    return nib.Nifti1Image(mask.astype(np.uint8), image.affine, header)


def resample_in_plane(data, shape, centred=True):
    """Linear resampling of the first two axes to `shape`, edges repeated.

    With ``step = old / new``, voxel i of the result lies at ``i * step + (step - 1) / 2``
    (same field of view) or, where not `centred`, at ``i * step`` (the first voxels
    share their centre, so the field of view moves by up to half a voxel).
    """
    from scipy import ndimage

    step = np.array([old / new for old, new in zip(data.shape, shape, strict=False)] + [1.0])
    offset = (step - 1) / 2 if centred else np.zeros(3)
    target = (*shape, data.shape[2])
    return ndimage.affine_transform(data, step, offset, target, order=1, mode="nearest")


def fit_in_plane(data, shape, pad_mode):
    """Centre crop or pad the first two axes to `shape`.

    The voxel at ``old // 2`` moves to ``new // 2``; `pad_mode` as in :func:`numpy.pad`.
    """
    for axis, new in enumerate(shape):
        old = data.shape[axis]
        before = new // 2 - old // 2
        if new > old:
            width = [(0, 0)] * data.ndim
            width[axis] = (before, new - old - before)
            data = np.pad(data, width, mode=pad_mode)
        else:
            window = [slice(None)] * data.ndim
            window[axis] = slice(-before, new - before)
            data = data[tuple(window)]
    return data


def _run(onnx_path, stack, threads, batch):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
    parts = [session.run(["GM"], {"image": stack[start : start + batch]})[0] for start in range(0, len(stack), batch)]
    return np.concatenate(parts)


# --- the command ---------------------------------------------------------------


def weights_folder(given=None):
    """Folder of the Keras files: the argument, or ``$SCT7T_DATA/peers``."""
    if given:
        return Path(given)
    if not os.environ.get("SCT7T_DATA"):
        raise ValueError("name the folder of the Keras weights: --weights, or SCT7T_DATA")
    return Path(os.environ["SCT7T_DATA"]) / "peers"


def _save(image, path):
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        nib.save(image, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main(argv=None):
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="sct_deepseg_gm, rebuilt for benchmarks.")
    parser.add_argument("-i", metavar="FILE", help="scan, 3D NIfTI, slices along the third axis")
    parser.add_argument("-o", metavar="FILE", help="GM mask to write")
    parser.add_argument("--onnx", metavar="FILE", required=True, help="network")
    parser.add_argument("--threads", type=int, default=2, help="threads of the network")
    parser.add_argument("--batch", type=int, default=1, help="slices per call of the network")
    parser.add_argument("--uncentred", action="store_true", help="resample as newer releases do (lower Dice)")
    parser.add_argument("--build", action="store_true", help="first write the network to --onnx")
    parser.add_argument("--weights", metavar="FOLDER", help="Keras files [$SCT7T_DATA/peers]")
    parser.add_argument("--model", choices=("large", "challenge"), default="large")
    args = parser.parse_args(argv)
    if bool(args.i) != bool(args.o) or not (args.build or args.i):
        parser.error("give -i and -o, or --build")
    try:
        if args.build:
            build_onnx(weights_folder(args.weights) / f"{args.model}_model.hdf5", args.onnx)
        if args.i:
            mask = segment_gm(args.i, args.onnx, args.threads, args.batch, not args.uncentred)
            _save(mask, args.o)
    except (OSError, ValueError) as error:
        print(f"peer_sct_gm: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
