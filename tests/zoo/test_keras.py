"""Keras networks as ONNX: each layer against numbers known beforehand, whole networks against torch."""

import json

import keras_files as files
import numpy as np
import pytest

from sctseg7t.errors import ModelError
from sctseg7t.runtime import open_session
from sctseg7t.zoo.keras import ARCHITECTURES, to_onnx


@pytest.fixture
def run(tmp_path):
    """Convert a description with its weights, and run it on an image (N, C, ...)."""

    def run_(described, weights, image, **options):
        to_onnx(files.write(tmp_path / "net.h5", described, weights), tmp_path / "net.onnx", **options)
        return open_session(tmp_path / "net.onnx", "cpu", 1).run(np.asarray(image, np.float32))

    return run_


def row(*values):
    """An image of one row."""
    return np.array(values, np.float32)[None, None, None]


def ones(*shape):
    return {"kernel": np.ones(shape), "bias": np.zeros(1)}


# "same" puts the odd sample behind, and with steps depends on the size.
@pytest.mark.parametrize(
    "given, values, expected",
    [
        ({"kernel_size": [1, 2]}, (1, 2, 4, 8), (3, 6, 12, 8)),
        ({"kernel_size": [1, 3], "strides": [1, 2]}, (1, 2, 4, 8), (7, 12)),
        ({"kernel_size": [1, 3], "strides": [1, 2]}, (1, 2, 4, 8, 16), (3, 14, 24)),
        ({"kernel_size": [1, 2], "dilation_rate": [1, 3], "padding": "valid"}, (1, 2, 4, 8, 16), (9, 18)),
        ({"kernel_size": [1, 2], "dilation_rate": [1, 3]}, (1, 2, 4, 8, 16), (4, 9, 18, 4, 8)),
    ],
)
def test_convolution(run, given, values, expected):
    net = files.model([files.image(1, len(values), 1), files.conv("c", "input_1", 1, **given)])
    np.testing.assert_array_equal(run(net, {"c": ones(*given["kernel_size"], 1, 1)}, row(*values)), row(*expected))


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
    np.testing.assert_array_equal(run(net, {}, row(1, 2), lambdas={"half": 2.0}), row(0.5, 1))
    np.testing.assert_array_equal(run(net, {}, row(1, 2), lambdas={"lambda_*": 3.0, "h*": 4.0}), row(0.25, 0.5))


IMAGE, CONV, GOOD = files.image(4, 4, 1), files.conv("c", "input_1", 1), {"c": ones(3, 3, 1, 1)}


def changed(**config):
    return {**CONV, "config": CONV["config"] | config}


@pytest.mark.parametrize(
    ("layers", "weights", "message"),
    [
        ([files.layer("LSTM", "x", ["input_1"])], {}, "not understood: LSTM"),
        ([CONV], {}, "layer c: 'kernel' is missing"),
        ([CONV], GOOD | {"d": ones(1, 1, 1, 1)}, "does not use: d"),
        ([changed(activation="selu")], GOOD, "layer c: 'selu' is .*not understood"),
        ([changed(padding="causal")], GOOD, "layer c: 'causal' is .*not understood"),
        ([files.layer("Concatenate", "j", ["input_1"], axis=1)], {}, "layer j: axis 1 is not that of"),
        ([files.layer("Dropout", "a", ["b"]), files.layer("Dropout", "b", ["a"])], {}, "cycle"),
        ([files.layer("Dropout", "a", ["nowhere"])], {}, "nowhere"),
        ([{**CONV, "inbound_nodes": CONV["inbound_nodes"] * 2}], GOOD, "c is used several times"),
        (
            [
                files.layer("UpSampling2D", "u", ["input_1"], size=[2, 2]),
                files.layer("Concatenate", "j", ["u", "input_1"]),
            ],
            {},
            "Can't merge shape info",
        ),
        (
            [CONV, files.conv("d", "c", 1, data_format="channels_first")],
            GOOD | {"d": ones(3, 3, 1, 1)},
            "several data formats",
        ),
        ([files.layer("Reshape", "s", ["input_1"], target_shape=[16])], {}, "layer s: reshapes something"),
    ],
)
def test_what_is_not_understood_is_named(run, layers, weights, message, tmp_path):
    with pytest.raises(ModelError, match=message) as caught:
        run(files.model([IMAGE, *layers]), weights, np.zeros((1, 1, 4, 4)))
    assert "net.h5" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "net.onnx").exists()


def test_other_files_are_refused(run, tmp_path):
    with pytest.raises(ModelError, match=r"net.h5: holds weights only; name its architecture"):
        run(None, GOOD, row(1))
    with pytest.raises(ModelError, match="Sequential network"):
        run({"class_name": "Sequential", "config": []}, {}, row(1))
    path = tmp_path / "page.h5"
    path.write_text("<html>sign in</html>")
    with pytest.raises(ModelError, match="page.h5: not an HDF5 file"):
        to_onnx(path, tmp_path / "net.onnx")


@pytest.mark.parametrize("space", [(8, 12), (8, 12, 4)], ids=["2D channels last", "3D channels first"])
def test_small_unet_equals_torch(run, tmp_path, space):
    pytest.importorskip("torch")
    from keras_torch import full_model

    net = files.unet(space)
    image = np.random.default_rng(1).normal(size=(3, 2, *space)).astype(np.float32)
    got = run(net, files.random_weights(net, 2), image, lambdas={"lambda_7": 1.0})
    expected = full_model(tmp_path / "net.h5", image)
    assert expected.std() > 0.05 and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_shipped_description_of_deepseg_gm_equals_torch(run, tmp_path):
    pytest.importorskip("torch")
    from keras_torch import gray_matter

    described = json.loads((ARCHITECTURES / "deepseg_gm.json").read_text())
    for one in described["config"]["layers"]:
        one["config"]["filters"] = 1 if one["name"] == "predictions" else 2
    image = np.random.default_rng(1).normal(size=(2, 1, 200, 200)).astype(np.float32)
    got = run(None, files.random_weights(described, 1), image, architecture="deepseg_gm")
    expected = 1 / (1 + np.exp(-gray_matter(tmp_path / "net.h5", image)))
    assert expected.std() > 0.003
    np.testing.assert_allclose(got, expected, atol=1e-6)
