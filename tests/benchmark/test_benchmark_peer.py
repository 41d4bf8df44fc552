"""The incumbents rebuilt for the benchmarks, and the timing helper."""

import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmark"))
DATA = Path(os.environ.get("SCT7T_DATA", ROOT.parent / "shared" / "data"))
PEERS = DATA / "peers"

pytest.importorskip("onnxruntime")
import onnxruntime as ort  # noqa: E402
import peer_sct_gm  # noqa: E402
import process  # noqa: E402


def run(model, image):
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


# --- sct_deepseg_gm: the network -------------------------------------------------


def keras_in_torch(hdf5, image):
    """The network again, layer by layer, with none of the code under test."""
    h5py, torch = pytest.importorskip("h5py"), pytest.importorskip("torch")
    file = h5py.File(hdf5)

    def array(layer, name):
        return torch.from_numpy(file[f"{layer}/{layer}/{name}:0"][()]).double()

    def conv(x, layer, dilation=1):
        kernel = array(layer, "kernel").permute(3, 2, 0, 1)
        margin = dilation * (kernel.shape[-1] - 1) // 2
        x = torch.nn.functional.pad(x, [margin] * 4)
        return torch.nn.functional.conv2d(x, kernel, array(layer, "bias"), dilation=dilation)

    def norm(x, number):
        gamma, beta, mean, variance = (
            array(f"batch_normalization_{number}", name)[:, None, None]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / torch.sqrt(variance + 1e-3) + beta

    def step(x, layer, number, dilation=1):
        return norm(conv(x, layer, dilation).clamp(min=0), number)

    with torch.no_grad(), file:
        x = step(torch.from_numpy(image).double(), "conv2d_1", 1)
        second = step(x, "conv2d_2", 2)
        r = step(step(second, "rate2_1", 3, 2), "rate2_2", 4, 2)
        one = step(step(r, "branch1x1_1", 5), "branch1x1_2", 6)
        six = step(step(r, "rate6_1", 7, 6), "rate6_2", 8, 6)
        twelve = step(step(r, "rate12_1", 9, 12), "rate12_2", 10, 12)
        eighteen = step(step(r, "rate18_1", 11, 18), "rate18_2", 12, 18)
        far = step(step(r, "rate24_1", 13, 24), "rate24_2", 14, 24)
        mean = second.mean(dim=(2, 3), keepdim=True).expand_as(r)
        joined = norm(torch.cat([one, six, twelve, eighteen, mean, far], 1), 15)
        return conv(step(joined, "amort", 16), "predictions").numpy()


def before_sigmoid(path):
    """The same graph, cut before its last operator: noise saturates the sigmoid."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    assert model.graph.node[-1].op_type == "Sigmoid"
    model.graph.output[0].name = model.graph.node.pop().input[0]
    onnx.save(model, path)
    return path


@pytest.mark.data
@pytest.mark.parametrize("name", ["large", "challenge"])
def test_graph_equals_the_keras_network_evaluated_step_by_step(name, tmp_path):
    hdf5 = PEERS / f"{name}_model.hdf5"
    if not hdf5.exists():
        pytest.skip(f"no weights {hdf5}")
    image = np.random.default_rng(1).normal(size=(2, 1, 56, 56)).astype(np.float32)
    expected = keras_in_torch(hdf5, image)
    model = peer_sct_gm.build_onnx(hdf5, tmp_path / "gm.onnx", size=56)
    got = run(before_sigmoid(model), image)
    assert expected.std() > 1  # a constant answer would prove nothing
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.data
def test_reproduces_a_public_label_that_was_made_with_the_tool(tmp_path):
    name = "sub-10062Ses1/anat/sub-10062Ses1_run-1_T2starw"
    scan = DATA / "cord/gm-challenge" / f"{name}.nii.gz"
    label = DATA / "cord/gm-challenge/derivatives/labels" / f"{name}_gmseg-manual.nii.gz"
    hdf5 = PEERS / "large_model.hdf5"
    if not all(path.exists() for path in (scan, label, hdf5)):
        pytest.skip(f"no gm-challenge scan or weights under {DATA}")
    got = peer_sct_gm.segment_gm(scan, peer_sct_gm.build_onnx(hdf5, tmp_path / "gm.onnx"))
    expected = np.asanyarray(nib.load(label).dataobj) > 0
    np.testing.assert_array_equal(np.asanyarray(got.dataobj) > 0, expected)


def test_weights_of_another_content_are_refused(tmp_path):
    pytest.importorskip("h5py")
    fake = tmp_path / "large_model.hdf5"
    fake.write_bytes(b"not the weights")
    with pytest.raises(ValueError, match="large_model.hdf5: not the published weights"):
        peer_sct_gm.read_weights(fake)


# --- sct_deepseg_gm: the recipe --------------------------------------------------


def bright_is_gm(path):
    """A stand-in network: GM where the normalised intensity is above 3 SD."""
    pytest.importorskip("onnx")
    graph = peer_sct_gm.Graph()
    kernel = np.full((1, 1, 1, 1), 100, np.float32)
    logit = graph.conv("image", kernel, np.array([-300], np.float32))
    graph.node("Sigmoid", [logit], output="GM")
    return graph.save(path, "bright", outputs={"GM": 1}, size=peer_sct_gm.SIZE)


@pytest.mark.parametrize("shape", [(60, 90, 3), (301, 260, 3)])  # padded, cropped
def test_mask_lies_where_the_bright_square_is_on_the_native_grid(shape, tmp_path):
    data = np.zeros(shape, np.int16)
    square = tuple(slice(n // 2 - 4, n // 2 + 5) for n in shape[:2])
    data[square] = 1000
    affine = np.diag([-0.4, 0.4, 5.0, 1.0])
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "scan.nii.gz")
    model = bright_is_gm(tmp_path / "net.onnx")

    exit_code = peer_sct_gm.main(
        ["-i", str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "gm.nii.gz")]
        + ["--onnx", str(model), "--batch", "2"]
    )

    mask = nib.load(tmp_path / "gm.nii.gz")
    assert exit_code == 0
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, affine, atol=1e-6)
    got = np.asanyarray(mask.dataobj)
    np.testing.assert_array_equal(got > 0, data > 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gm.nii.gz",
        "net.onnx",
        "scan.nii.gz",
    ]


def test_a_4d_scan_is_refused_in_one_line(tmp_path, capsys):
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 2, 2)), np.eye(4)), tmp_path / "4d.nii")
    options = ["-i", str(tmp_path / "4d.nii"), "-o", str(tmp_path / "gm.nii"), "--onnx", "none"]
    assert peer_sct_gm.main(options) == 2
    assert "4d.nii: 4D image" in capsys.readouterr().err


@pytest.mark.parametrize("new", [(20, 34), (7, 11)])
def test_resampling_keeps_the_place_of_a_ramp(new):
    x, y = np.meshgrid(np.arange(14.0), np.arange(22.0), indexing="ij")
    ramp = (3 * x - 2 * y)[..., None]
    step = np.array([14, 22]) / new
    got_x, got_y = np.meshgrid(*(np.arange(n) for n in new), indexing="ij")
    inside = (slice(1, -1), slice(1, -1))
    for centred, shift in ((True, (step - 1) / 2), (False, (0, 0))):
        got = peer_sct_gm.resample_in_plane(ramp, new, centred)[..., 0]
        expected = 3 * (got_x * step[0] + shift[0]) - 2 * (got_y * step[1] + shift[1])
        np.testing.assert_allclose(got[inside], expected[inside], atol=1e-9)


def test_fit_puts_the_middle_voxel_in_the_middle_and_comes_back():
    for old in (7, 8, 13, 14):
        line = np.arange(1.0, old + 1)[:, None, None]
        for new in (9, 10):
            fitted = peer_sct_gm.fit_in_plane(line, (new, 1), "symmetric")
            assert fitted.shape == (new, 1, 1)
            assert fitted[new // 2, 0, 0] == line[old // 2, 0, 0]
            assert fitted.min() >= 1  # mirrored, never zero
            back = peer_sct_gm.fit_in_plane(fitted, (old, 1), "constant")
            kept = back != 0
            assert kept.sum() == min(old, new)
            np.testing.assert_array_equal(back[kept], line[kept])


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
    import peer_unet7t

    path = tmp_path / "unet.onnx"
    parameters = peer_unet7t.build_onnx(path, size=16)
    arrays = [onnx.numpy_helper.to_array(a) for a in onnx.load(path).graph.initializer]
    # The scales of the three Resize and the bounds of the Slice are no weights.
    weights = [a for a in arrays if a.dtype == np.float32 and a.size != 4]
    image = np.random.default_rng(0).normal(size=(3, 1, 16, 16)).astype(np.float32)
    statistics = 2 * sum(2 * width for width in (64, 128, 256, 256, 256, 128, 64))
    assert parameters == sum(a.size for a in weights) - statistics == 4_838_403
    np.testing.assert_allclose(run(path, image), unet_in_torch(weights, image), atol=1e-4)


# --- timing whole processes ------------------------------------------------------


def python(code):
    return [sys.executable, "-c", code]


def test_measure_sees_time_memory_and_environment():
    code = "import os, time; time.sleep(0.2); x = b'1' * int(os.environ['BYTES'])"
    got = process.measure(python(code), runs=2, env={"BYTES": "150000000"})
    assert got["exit_code"] == 0 and len(got["runs"]) == 2
    wall_s = got["wall_s"]
    assert 0.2 <= wall_s["min"] <= wall_s["median"] <= wall_s["max"]
    assert got["peak_mb"]["min"] > 150


def test_memory_of_the_caller_is_not_counted():
    ballast = np.ones(40_000_000)  # 320 MB, resident
    got = process.measure(python("pass"), runs=1)
    assert ballast.nbytes > 300e6
    assert got["peak_mb"]["max"] < 100


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
