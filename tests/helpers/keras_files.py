"""Small Keras HDF5 files, written as Keras 2 writes them."""

import json

import numpy as np


def layer(kind, name, sources=(), **config):
    """One layer of a functional model."""
    nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def conv(name, source, filters, size=3, axes=2, data_format="channels_last", **config):
    """A convolution, "same" and linear unless told otherwise."""
    given = {"padding": "same", "strides": [1] * axes, "dilation_rate": [1] * axes, "activation": "linear"}
    given |= {"kernel_size": [size] * axes, "filters": filters, "use_bias": True, "data_format": data_format}
    return layer(f"Conv{axes}D", name, [source], **(given | config))


def image(*shape):
    """The input layer; ``shape`` without the batch."""
    return layer("InputLayer", "input_1", batch_input_shape=[None, *shape])


def model(layers):
    """The description of a model; the last layer is its output."""
    outputs = [[layers[-1]["name"], 0, 0]]
    config = {"name": "m", "layers": layers, "input_layers": [["input_1", 0, 0]], "output_layers": outputs}
    return {"class_name": "Model", "config": config}


def unet(space, channels=2, maps=2):
    """A small U-Net with every kind of layer that real ones have: 2D channels last, or 3D channels first."""
    axes, last = len(space), len(space) == 2
    shared = {"axes": axes, "data_format": "channels_last" if last else "channels_first"}
    axis = -1 if last else 1
    two = {"strides": [2] * axes, "padding": "valid", "data_format": shared["data_format"]}

    def block(name, source, width, **config):
        return [
            conv(f"{name}_conv", source, width, **shared, **config),
            layer("BatchNormalization", f"{name}_norm", [f"{name}_conv"], axis=axis, epsilon=1e-3),
            layer("Activation", f"{name}_relu", [f"{name}_norm"], activation="relu"),
            layer("Dropout", name, [f"{name}_relu"], rate=0.4),
        ]

    up = layer("Conv2DTranspose", "up", ["b"], filters=3, kernel_size=[2, 2], **two)
    return model(
        [
            image(*space, channels) if last else image(channels, *space),
            *block("a", "input_1", 3),
            layer(f"MaxPooling{axes}D", "pool", ["a"], pool_size=[2] * axes, **two),
            *block("b", "pool", 5, dilation_rate=[2] * axes),
            up if last else layer("UpSampling3D", "up", ["b"], size=[2] * 3),
            layer("Concatenate", "join", ["up", "a"], axis=axis),
            conv("end", "join", maps, size=1, **shared),
            layer("Lambda", "lambda_7", ["end"], function=["code", None, [1.0]]),
            layer("Activation", "sigmoid", ["lambda_7"], activation="sigmoid"),
        ]
    )


def write(path, described, weights):
    """Write a full model, or weights only where ``described`` is None."""
    import h5py

    with h5py.File(path, "w") as file:
        if described is not None:
            file.attrs["model_config"] = json.dumps(described).encode()
        root = file if described is None else file.create_group("model_weights")
        for name, arrays in weights.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in arrays]
            for key, value in arrays.items():
                group[f"{name}/{key}:0"] = np.asarray(value, np.float32)
    return path


def random_weights(described, channels):
    """Weights of every convolution and BatchNorm of a description, channels followed from layer to layer."""
    rng, widths, found = np.random.default_rng(0), {"input_1": channels}, {}
    for one in described["config"]["layers"][1:]:
        kind, name, config = one["class_name"], one["name"], one["config"]
        width = sum(widths[source[0]] for source in one["inbound_nodes"][0])
        if kind.startswith("Conv"):
            filters = config["filters"]
            ends = (filters, width) if "Transpose" in kind else (width, filters)
            kernel = rng.normal(0, 0.3, (*config["kernel_size"], *ends))
            found[name] = {"kernel": kernel, "bias": rng.normal(0, 0.3, filters)}
            width = filters
        elif kind == "BatchNormalization":
            low = {"gamma": 0.5, "beta": -0.5, "moving_mean": -0.5, "moving_variance": 0.5}
            found[name] = {key: rng.uniform(value, value + 1, width) for key, value in low.items()}
        widths[name] = width
    return found
