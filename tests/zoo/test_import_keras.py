"""Keras networks as ONNX: each layer against numbers known beforehand, whole networks against torch."""

import sys

import keras_files as files
import numpy as np
import pytest

from sctseg7t.errors import ModelError
from sctseg7t.runtime import open_session
from sctseg7t.zoo.keras import load_architecture, to_onnx
from sctseg7t.zoo.spec import Architecture

pytest.importorskip("h5py")
onnx = pytest.importorskip("onnx")


@pytest.fixture
def run(tmp_path):
    """Convert a description with its weights, and run it on an image (N, C, ...)."""

    def run_(described, weights, image, **options):
        hdf5 = files.write(tmp_path / "net.h5", described, weights)
        to_onnx(hdf5, tmp_path / "net.onnx", **options)
        return open_session(tmp_path / "net.onnx", "cpu", 1).run(np.asarray(image, np.float32))

    return run_


def row(*values):
    """An image of one row."""
    return np.array(values, np.float32)[None, None, None]


def ones(*shape, bias=1):
    return {"kernel": np.ones(shape), "bias": np.zeros(bias)}


# --- single layers -----------------------------------------------------------------


def test_same_padding_puts_the_odd_sample_behind(run):
    net = files.model([files.image(1, 4, 1), files.conv("c", "input_1", 1, kernel_size=[1, 2])])
    np.testing.assert_array_equal(run(net, {"c": ones(1, 2, 1, 1)}, row(1, 2, 4, 8)), row(3, 6, 12, 8))


@pytest.mark.parametrize(("values", "expected"), [((1, 2, 4, 8), (7, 12)), ((1, 2, 4, 8, 16), (3, 14, 24))])
def test_same_padding_with_strides_depends_on_the_size(run, values, expected):
    net = files.model(
        [files.image(1, len(values), 1), files.conv("c", "input_1", 1, kernel_size=[1, 3], strides=[1, 2])]
    )
    np.testing.assert_array_equal(run(net, {"c": ones(1, 3, 1, 1)}, row(*values)), row(*expected))


def test_valid_and_dilated_convolution(run):
    given = {"kernel_size": [1, 2], "dilation_rate": [1, 3], "padding": "valid"}
    net = files.model([files.image(1, 5, 1), files.conv("c", "input_1", 1, **given)])
    np.testing.assert_array_equal(run(net, {"c": ones(1, 2, 1, 1)}, row(1, 2, 4, 8, 16)), row(9, 18))


def test_kernel_is_not_mirrored_and_axes_keep_their_order(run):
    kernel = np.arange(9.0).reshape(3, 3, 1, 1)
    net = files.model([files.image(3, 3, 1), files.conv("c", "input_1", 1, padding="valid")])
    image = np.zeros((1, 1, 3, 3))
    image[0, 0, 0, 2] = 1
    assert run(net, {"c": {"kernel": kernel, "bias": [0.5]}}, image).item() == 2.5


@pytest.mark.parametrize(
    ("size", "stride", "padding", "expected"),
    [
        (2, 2, "valid", (1, 2, 10, 20)),
        (3, 2, "valid", (1, 2, 14, 20, 40)),
        (3, 2, "same", (1, 2, 14, 20)),
        (2, 3, "valid", (1, 2, 0, 10, 20, 0)),
        (2, 3, "same", (1, 2, 0, 10, 20, 0)),
        (3, 1, "same", (12, 24)),
    ],
)
def test_transposed_convolution(run, size, stride, padding, expected):
    given = {"kernel_size": [1, size], "strides": [1, stride], "padding": padding, "filters": 1}
    net = files.model([files.image(1, 2, 1), files.layer("Conv2DTranspose", "t", ["input_1"], **given)])
    kernel = np.array([1, 2, 4.0])[:size].reshape(1, size, 1, 1)
    out = run(net, {"t": {"kernel": kernel, "bias": [0]}}, row(1, 10))
    np.testing.assert_array_equal(out, row(*expected))


def test_pooling_up_sampling_and_concatenation(run):
    layers = [
        files.image(1, 4, 1),
        files.layer("MaxPooling2D", "p", ["input_1"], pool_size=[1, 2], strides=[1, 2], padding="valid"),
        files.layer("UpSampling2D", "u", ["p"], size=[1, 2]),
        files.layer("Concatenate", "j", ["u", "input_1"], axis=-1),
    ]
    out = run(files.model(layers), {}, row(1, 2, 8, 4))
    np.testing.assert_array_equal(out, [[[[2, 2, 8, 8]], [[1, 2, 8, 4]]]])


def test_mean_repeated_and_reshaped_fills_an_image(run):
    layers = [
        files.image(1, 4, 1),
        files.layer("GlobalAveragePooling2D", "g", ["input_1"]),
        files.layer("RepeatVector", "r", ["g"], n=4),
        files.layer("Reshape", "s", ["r"], target_shape=[1, 4, 1]),
    ]
    two = np.concatenate([row(1, 2, 8, 5), row(0, 0, 4, 0)])
    np.testing.assert_array_equal(run(files.model(layers), {}, two)[:, 0, 0], [[4] * 4, [1] * 4])


def test_batch_norm_without_scale_or_centre(run):
    norm = files.layer("BatchNormalization", "n", ["input_1"], axis=-1, epsilon=0.0, scale=False, center=False)
    out = run(files.model([files.image(1, 2, 1), norm]), {"n": {"moving_mean": [1], "moving_variance": [4]}}, row(1, 5))
    np.testing.assert_allclose(out, row(0, 2))


def test_code_in_a_file_is_not_run_but_said_in_the_entry(run, monkeypatch):
    import marshal

    monkeypatch.setattr(marshal, "loads", lambda *_: pytest.fail("code of the file was read"))
    code = ["c\x00\x00import os", None, [2.0]]
    net = files.model([files.image(1, 2, 1), files.layer("Lambda", "half", ["input_1"], function=code)])
    with pytest.raises(ModelError, match=r"holds code \(Lambda layer half\), which is never run"):
        run(net, {}, row(1, 2))
    np.testing.assert_array_equal(run(net, {}, row(1, 2), lambdas=[("half", 2.0)]), row(0.5, 1))
    np.testing.assert_array_equal(run(net, {}, row(1, 2), lambdas=[("lambda_*", 3.0), ("h*", 4.0)]), row(0.25, 0.5))


# --- what is refused -----------------------------------------------------------------

CONV = files.conv("c", "input_1", 1)
GOOD = {"c": ones(3, 3, 1, 1)}


@pytest.mark.parametrize(
    ("layers", "weights", "message"),
    [
        ([files.image(4, 4, 1), files.layer("LSTM", "x", ["input_1"])], {}, r"not understood: LSTM \(1\)"),
        ([files.image(4, 4, 1), CONV], {}, "layer c: the file has no kernel"),
        ([files.image(4, 4, 1), CONV], {"c": ones(5, 5, 1, 1)}, r"layer c: kernel is \(5, 5, 1, 1\)"),
        ([files.image(4, 4, 2), CONV], GOOD, "layer c: kernel is"),
        ([files.image(4, 4, 1), CONV], GOOD | {"d": ones(1, 1, 1, 1)}, "does not use: d"),
        ([files.image(4, 4, 1), {**CONV, "config": CONV["config"] | {"activation": "selu"}}], GOOD, "activation selu"),
        ([files.image(4, 4, 1), {**CONV, "config": CONV["config"] | {"padding": "causal"}}], GOOD, "padding causal"),
        ([files.image(4, 4, 1), files.layer("Concatenate", "j", ["input_1"], axis=1)], {}, "axis 1 is not that of"),
        ([files.image(4, 4, 1), files.layer("Dropout", "a", ["b"]), files.layer("Dropout", "b", ["a"])], {}, "circle"),
        ([files.image(4, 4, 1), files.layer("Dropout", "a", ["nowhere"])], {}, "make no network"),
        ([files.image(4, 4, 1), {**CONV, "inbound_nodes": CONV["inbound_nodes"] * 2}], GOOD, "c is used 2 times"),
        (
            [
                files.image(5, 4, 1),
                files.layer("MaxPooling2D", "p", ["input_1"], pool_size=[2, 2]),
                files.layer("UpSampling2D", "u", ["p"]),
                files.layer("Concatenate", "j", ["u", "input_1"]),
            ],
            {},
            "joins images of different sizes: 4x4, 5x4",
        ),
        (
            [files.image(4, 4, 1), CONV, files.conv("d", "c", 1, data_format="channels_first")],
            GOOD | {"d": ones(3, 3, 1, 1)},
            "several data formats",
        ),
        ([files.image(4, 4, 1), files.layer("Reshape", "s", ["input_1"], target_shape=[16])], {}, "reshapes something"),
    ],
)
def test_what_is_not_understood_is_named(run, layers, weights, message, tmp_path):
    with pytest.raises(ModelError, match=message) as caught:
        run(files.model(layers), weights, np.zeros((1, 1, 4, 4)))
    assert "net.h5" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "net.onnx").exists()


def test_weights_only_need_a_shipped_description(run):
    with pytest.raises(ModelError, match=r"net.h5: holds weights only; name its architecture"):
        run(None, GOOD, row(1))
    with pytest.raises(ModelError, match="no architecture is called 'x'; there are: .*deepseg_gm"):
        run(None, GOOD, row(1), architecture=Architecture("x"))
    with pytest.raises(ModelError, match="deepseg_gm has no parameter depth"):
        run(None, GOOD, row(1), architecture=Architecture("deepseg_gm", (("depth", 3),)))


def test_a_sequential_model_is_refused(run):
    with pytest.raises(ModelError, match="Sequential network"):
        run({"class_name": "Sequential", "config": []}, {}, row(1))


def test_not_an_hdf5_file(tmp_path):
    path = tmp_path / "page.h5"
    path.write_text("<html>sign in</html>")
    with pytest.raises(ModelError, match="page.h5: not an HDF5 file"):
        to_onnx(path, tmp_path / "net.onnx")


@pytest.mark.parametrize("package", ["h5py", "onnx"])
def test_missing_package_is_said_with_the_remedy(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"net.h5: .*needs {package}; pip install 'sctseg7t\[peers\]'"):
        to_onnx(tmp_path / "net.h5", tmp_path / "net.onnx")


# --- whole networks --------------------------------------------------------------------


def unet(data_format):
    """A small U-Net with every kind of layer: 2D channels last, or 3D channels first."""
    axes, last = (2, True) if data_format == "channels_last" else (3, False)
    axis = -1 if last else 1
    space = [8, 12] if last else [8, 12, 4]
    shared = {"axes": axes, "data_format": data_format}

    def block(name, source, width, **config):
        return [
            files.conv(f"{name}_conv", source, width, **shared, **config),
            files.layer("BatchNormalization", f"{name}_norm", [f"{name}_conv"], axis=axis, epsilon=1e-3),
            files.layer("Activation", f"{name}_relu", [f"{name}_norm"], activation="relu"),
            files.layer("Dropout", name, [f"{name}_relu"], rate=0.4),
        ]

    up = {"data_format": data_format, "filters": 3, "kernel_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    layers = [files.image(*space, 2) if last else files.image(2, *space)]
    layers += block("a", "input_1", 3) + [
        files.layer(f"MaxPooling{axes}D", "pool", ["a"], pool_size=[2] * axes, strides=[2] * axes, padding="valid")
    ]
    layers += block("b", "pool", 5, dilation_rate=[2] * axes)
    layers.append(
        files.layer("Conv2DTranspose", "up", ["b"], **up)
        if last
        else files.layer("UpSampling3D", "up", ["b"], size=[2] * 3)
    )
    layers.append(files.layer("Concatenate", "join", ["up", "a"], axis=axis))
    layers.append(files.conv("end", "join", 2, size=1, **shared))
    layers.append(files.layer("Activation", "sigmoid", ["end"], activation="sigmoid"))
    return files.model(layers) | ({} if last else {"first": True})


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_small_unet_equals_torch(run, tmp_path, data_format):
    pytest.importorskip("torch")
    from keras_torch import full_model

    net = unet(data_format)
    shape = (3, 2, 8, 12) if data_format == "channels_last" else (3, 2, 8, 12, 4)
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    got = run(net, files.random_weights(net), image)
    expected = full_model(tmp_path / "net.h5", image)
    assert expected.std() > 0.05 and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_graph_is_plain_onnx_with_an_open_batch(run, tmp_path):
    net = unet("channels_last")
    run(net, files.random_weights(net), np.zeros((1, 2, 8, 12)))
    graph = onnx.load(tmp_path / "net.onnx")
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 17)]
    (given,), (out,) = graph.graph.input, graph.graph.output
    sizes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (given, out)]
    assert sizes == [["batch", 2, 8, 12]] * 2


def test_shipped_description_of_deepseg_gm():
    described = load_architecture(Architecture("deepseg_gm", (("filters", 32), ("size", 40))))
    layers = {one["name"]: one["config"] for one in described["config"]["layers"]}
    assert layers["input_1"]["batch_input_shape"] == [None, 40, 40, 1]
    assert layers["repeat_vector_1"]["n"] == 1600
    assert layers["rate24_2"]["filters"] == 32 and layers["amort"]["filters"] == 64
    joined = next(one for one in described["config"]["layers"] if one["name"] == "concatenate_1")
    sources = [source[0] for source in joined["inbound_nodes"][0]]
    numbers = (6, 8, 10, 12, 14)
    norms = [f"batch_normalization_{n}" for n in numbers]
    assert sources == [*norms[:4], "reshape_1", norms[4]]
