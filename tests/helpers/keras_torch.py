"""Keras networks evaluated step by step in torch, double precision, with none of the converter's code."""

import json

import numpy as np


def full_model(hdf5, image):
    """Output of a full Keras model for an image (N, C, ...), as float64."""
    import h5py
    import torch

    with h5py.File(hdf5) as file, torch.no_grad():
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        root = file["model_weights"]
        values = {}
        for layer in layers:
            name, config = layer["name"], layer["config"]
            sources = [values[source[0]] for source in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
            if layer["class_name"] == "InputLayer":
                values[name] = torch.from_numpy(np.asarray(image, np.float64))
            else:
                names = map(_text, root[name].attrs["weight_names"]) if name in root else ()
                arrays = {key.split("/")[-1][:-2]: root[name][key][()] for key in names}
                values[name] = _step(torch, layer["class_name"], config, arrays, sources)
        return values[name].numpy()


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def _step(torch, kind, config, arrays, sources):
    functional = torch.nn.functional
    arrays = {key: torch.from_numpy(value).double() for key, value in arrays.items()}
    x = sources[0]
    if kind in ("Conv2D", "Conv3D"):
        assert config["strides"] == [1] * len(config["strides"]) and config["activation"] == "linear"
        margins = []
        for size, dilation in zip(reversed(config["kernel_size"]), reversed(config["dilation_rate"])):
            reach = (size - 1) * dilation if config["padding"] == "same" else 0
            margins += [reach // 2, reach - reach // 2]
        kernel = torch.movedim(arrays["kernel"], (-1, -2), (0, 1))
        run = functional.conv2d if kind == "Conv2D" else functional.conv3d
        return run(functional.pad(x, margins), kernel, arrays["bias"], dilation=tuple(config["dilation_rate"]))
    if kind == "Conv2DTranspose":
        # Blocks of 2 x 2 that do not overlap: each input pixel times the kernel.
        assert config["strides"] == config["kernel_size"] == [2, 2]
        out = torch.einsum("nchw,ijoc->nohiwj", x, arrays["kernel"])
        n, o, h, i, w, j = out.shape
        return out.reshape(n, o, h * i, w * j) + arrays["bias"][:, None, None]
    if kind == "BatchNormalization":
        shape = (-1,) + (1,) * (x.ndim - 2)
        gamma, beta, mean, variance = (
            arrays[key].reshape(shape) for key in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / torch.sqrt(variance + config["epsilon"]) + beta
    if kind == "Activation":
        return {"relu": lambda v: v.clamp(min=0), "sigmoid": torch.sigmoid}[config["activation"]](x)
    if kind.startswith("MaxPooling"):
        pool = functional.max_pool2d if kind.endswith("2D") else functional.max_pool3d
        return pool(x, config["pool_size"])
    if kind == "UpSampling3D":
        for axis, factor in enumerate(config["size"], 2):
            x = x.repeat_interleave(factor, axis)
        return x
    if kind == "Concatenate":
        return torch.cat(sources, 1)
    assert kind in ("Dropout", "Lambda"), kind
    # The one Lambda there is divides by a temperature of 1.
    return x


def gray_matter(hdf5, image):
    """Output of the network of sct_deepseg_gm for images (N, 1, H, W), as float64, before the sigmoid."""
    import h5py
    import torch

    file = h5py.File(hdf5)

    def array(layer, name):
        return torch.from_numpy(file[f"{layer}/{layer}/{name}:0"][()]).double()

    def conv(x, layer, dilation=1):
        kernel = array(layer, "kernel").permute(3, 2, 0, 1)
        margin = dilation * (kernel.shape[-1] - 1) // 2
        padded = torch.nn.functional.pad(x, [margin] * 4)
        return torch.nn.functional.conv2d(padded, kernel, array(layer, "bias"), dilation=dilation)

    def step(x, layer, number, dilation=1):
        return norm(conv(x, layer, dilation).clamp(min=0), number)

    def norm(x, number):
        gamma, beta, mean, variance = (
            array(f"batch_normalization_{number}", name)[:, None, None]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / torch.sqrt(variance + 1e-3) + beta

    with file, torch.no_grad():
        second = step(step(torch.from_numpy(np.asarray(image, np.float64)), "conv2d_1", 1), "conv2d_2", 2)
        r = step(step(second, "rate2_1", 3, 2), "rate2_2", 4, 2)
        ends = [step(step(r, "branch1x1_1", 5), "branch1x1_2", 6)]
        ends += [step(step(r, f"rate{d}_1", n, d), f"rate{d}_2", n + 1, d) for d, n in ((6, 7), (12, 9), (18, 11))]
        ends.append(second.mean((2, 3), keepdim=True).expand_as(r))
        ends.append(step(step(r, "rate24_1", 13, 24), "rate24_2", 14, 24))
        joined = step(norm(torch.cat(ends, 1), 15), "amort", 16)
        return conv(joined, "predictions").numpy()
