"""The shipped weights do what their entries say."""

import numpy as np
import pytest

from sctseg7t.runtime import open_session
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.weights import weights

SHIPPED = ("cord_gm_sc", "cord_locator")


@pytest.mark.parametrize("name", SHIPPED)
def test_known_image_gives_the_recorded_output(name):
    spec = load_manifest().model(name)
    assert spec.test_input["name"] == "ripples"
    shape = spec.test_input["shape"]
    rows, columns = np.ogrid[: shape[2], : shape[3]]
    image = np.broadcast_to(np.cos(rows / 9) * np.cos(columns / 13), shape).astype(np.float32)
    maps = open_session(weights(spec), "cpu").run(image)[0]
    tolerance = spec.test_output["tolerance"]
    np.testing.assert_allclose(maps.mean((1, 2)), spec.test_output["mean"], atol=tolerance)
    np.testing.assert_allclose(maps.max((1, 2)), spec.test_output["max"], atol=tolerance)


@pytest.mark.parametrize("name", SHIPPED)
def test_card_lies_beside_the_weights_and_tells_the_essentials(name):
    spec = load_manifest().model(name)
    card = weights(spec).with_suffix(".md").read_text()
    for text in (
        str(spec.training["seed"]),
        str(spec.training["parameters"]),
        spec.training["config_sha256"],
        "## Limits",
    ):
        assert text in card


@pytest.mark.gpu
def test_cuda_gives_the_masks_of_the_cpu(example):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    from sctseg7t.errors import DeviceError
    from sctseg7t.pipeline import segment

    try:
        cuda = segment(example, device="cuda")
    except DeviceError as error:
        pytest.skip(f"no usable CUDA device: {error}")
    cpu = segment(example, device="cpu")
    for name, mask in cpu.masks.items():
        different = np.count_nonzero(np.asarray(mask.dataobj) != np.asarray(cuda.masks[name].dataobj))
        assert different <= 0.002 * np.count_nonzero(np.asarray(mask.dataobj))
