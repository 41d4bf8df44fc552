"""The shipped weights do what their entries say."""

import numpy as np
import pytest

from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.self_test import check_network
from sctseg7t.zoo.weights import weights

SHIPPED = (
    "cord_gm_sc",
    "cord_locator",
    "brain_lesion_unet",
    "brain_lesion_mpunetpp",
    "brain_lesion_views",
    "brain_lesion_views_thin",
    "brain_mask",
    "mindgrab",
)


@pytest.mark.parametrize("name", SHIPPED)
def test_known_image_gives_the_recorded_output(name):
    spec = load_manifest().model(name)
    assert spec.test_input["name"] == "ripples" and spec.test_output
    check_network(weights(spec), spec)


@pytest.mark.gpu
def test_cuda_gives_the_masks_of_the_cpu(example):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    from sctseg7t.errors import DeviceError
    from sctseg7t.inference.pipeline import segment

    try:
        cuda = segment(example, device="cuda")
    except DeviceError as error:
        pytest.skip(f"no usable CUDA device: {error}")
    cpu = segment(example, device="cpu")
    for name, mask in cpu.masks.items():
        different = np.count_nonzero(np.asarray(mask.dataobj) != np.asarray(cuda.masks[name].dataobj))
        assert different <= 0.002 * np.count_nonzero(np.asarray(mask.dataobj))
