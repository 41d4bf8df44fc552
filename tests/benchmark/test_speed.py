"""The networks rebuilt to be timed, and the timing of whole processes."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmark"
sys.path[:0] = [str(BENCHMARK / "peers"), str(BENCHMARK / "speed")]

import process  # noqa: E402
import unet7t  # noqa: E402

# --- the 7 T model's shape -------------------------------------------------------


def unet_in_torch(arrays, image):
    """ivadomed's Unet, depth 3, applied to arrays listed in the order of use."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rest = iter([torch.from_numpy(array.copy()) for array in arrays])

    def block(x):
        for _ in range(2):
            x = F.conv2d(x, next(rest), next(rest), padding=1).relu()
            gamma, beta, mean, variance = (next(rest) for _ in range(4))
            x = F.batch_norm(x, mean, variance, gamma, beta, eps=1e-5)
        return x

    with torch.no_grad():
        x, skips = torch.from_numpy(image), []
        for _ in range(3):
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = block(x)
        for skip in reversed(skips):
            size = skip.shape[-2:]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
            x = block(torch.cat([x, skip], 1))
        return torch.sigmoid(F.conv2d(x, next(rest), next(rest), padding=1))[:, 1:].numpy()


@pytest.mark.train
def test_unet7t_has_the_layers_of_ivadomed(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("torch")
    path = tmp_path / "unet.onnx"
    parameters = unet7t.build_onnx(path, size=16)
    arrays = [onnx.numpy_helper.to_array(a) for a in onnx.load(path).graph.initializer]
    # The scales of the three Resize and the bounds of the Slice are no weights.
    weights = [a for a in arrays if a.dtype == np.float32 and a.size != 4]
    image = np.random.default_rng(0).normal(size=(3, 1, 16, 16)).astype(np.float32)
    statistics = 2 * sum(2 * width for width in (64, 128, 256, 256, 256, 128, 64))
    assert parameters == sum(a.size for a in weights) - statistics == 4_838_403
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": image})[0], unet_in_torch(weights, image), atol=1e-4)


# --- timing whole processes ------------------------------------------------------


def python(code):
    return [sys.executable, "-c", code]


def test_measure_sees_time_environment_and_the_memory_of_the_command_alone():
    ballast = np.ones(40_000_000)  # 320 MB, resident
    code = "import os, time; time.sleep(0.2); x = b'1' * int(os.environ['BYTES'])"
    got = process.measure(python(code), runs=2, env={"BYTES": "150000000"})
    assert got["exit_code"] == 0 and len(got["runs"]) == 2
    wall_s = got["wall_s"]
    assert 0.2 <= wall_s["min"] <= wall_s["median"] <= wall_s["max"]
    assert 150 < got["peak_mb"]["min"] and got["peak_mb"]["max"] < 250 < ballast.nbytes / 1e6


def test_a_failing_command_is_reported_not_timed_as_a_success():
    failing = python("import sys; sys.exit('no such scan')")
    got = process.measure(failing, runs=1)
    assert got["exit_code"] == 1 and got["stderr"] == "no such scan"
    with pytest.raises(RuntimeError, match="no such scan"):
        process.paired(python("pass"), failing, runs=1)
    with pytest.raises(RuntimeError, match="could not be started"):
        process.measure(["/no/such/program"], runs=1)


def test_paired_alternates_and_divides_a_by_b(tmp_path):
    log = tmp_path / "log"
    say = "open({!r}, 'a').write({!r})"
    a, b = (python(say.format(str(log), letter)) for letter in "AB")
    got = process.paired(a, b, runs=2, warmup=1)
    assert log.read_text() == "ABABAB"
    pairs = zip(got["a"]["runs"], got["b"]["runs"], strict=True)
    assert got["pair_ratios"] == [x / y for x, y in pairs] and len(got["pair_ratios"]) == 2
    assert got["ratio"] == got["a"]["wall_s"]["median"] / got["b"]["wall_s"]["median"]
