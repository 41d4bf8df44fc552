"""Sessions: devices, threads, batches, and what is said of a network that cannot be used."""

import os

import numpy as np
import pytest
from conv_network import write_network

from sctseg7t.errors import DeviceError, ModelError, UsageError
from sctseg7t.runtime import open_session, session

WEIGHT = np.random.default_rng(0).standard_normal((2, 1, 3, 3)).astype(np.float32)


def expected(images):
    padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    height, width = images.shape[2:]
    maps = sum(
        WEIGHT[None, :, 0, r, c, None, None] * padded[:, None, r : r + height, c : c + width]
        for r in range(3)
        for c in range(3)
    )
    return 1 / (1 + np.exp(-maps))


@pytest.fixture
def network(tmp_path):
    return write_network(tmp_path / "net.onnx", WEIGHT)


@pytest.fixture
def has_cuda():
    import onnxruntime as ort

    return session.cuda_problem(ort, 0) is None


def images(count, size=12):
    return np.random.default_rng(count).standard_normal((count, 1, size, size)).astype(np.float32)


class Recorder:
    """Stands between a Session and the runtime, and notes the batches."""

    def __init__(self, ort):
        self.ort, self.batches = ort, []

    def get_inputs(self):
        return self.ort.get_inputs()

    def run(self, names, feed):
        self.batches.append(len(next(iter(feed.values()))))
        return self.ort.run(names, feed)


def recorded(opened):
    recorder = Recorder(opened.ort)
    return session.Session(opened.path, opened.device, opened.threads, recorder), recorder.batches


def test_any_number_of_images_as_one_by_one_in_equal_bounded_batches(network):
    opened, seen = recorded(open_session(network, "cpu", 1))
    most = session.BATCH["cpu"]
    for count in (1, most - 1, most, most + 1, 2 * most + 1, 5 * most):
        stack = images(count)
        together = opened.run(stack)
        assert together.shape == (count, 2, 12, 12) and together.dtype == np.float32
        np.testing.assert_allclose(together, expected(stack), atol=1e-5)
        assert max(seen) <= most and len(set(seen)) == 1 and len(seen) == -(-count // most)
        seen.clear()
        alone = np.concatenate([opened.run(stack[k : k + 1]) for k in range(count)])
        np.testing.assert_allclose(together, alone, atol=1e-6)
        seen.clear()


@pytest.mark.parametrize("fixed", [1, 4])
def test_fixed_batch_is_padded_and_the_padding_dropped(tmp_path, fixed):
    opened, seen = recorded(open_session(write_network(tmp_path / "net.onnx", WEIGHT, batch=fixed), "cpu", 1))
    for count in (1, 4, 6):
        stack = images(count)
        np.testing.assert_allclose(opened.run(stack), expected(stack), atol=1e-5)
        assert seen == [fixed] * -(-count // fixed)
        seen.clear()


def test_other_types_and_strides_are_accepted(network):
    stack = images(3).astype(np.float64)
    got = open_session(network, "cpu", 1).run(stack[..., ::-1])
    np.testing.assert_allclose(got, expected(stack[..., ::-1]), atol=1e-5)


def test_damaged_file_and_unfit_input_are_model_errors_of_one_line(network, tmp_path):
    content = network.read_bytes()
    for damaged in (b"not a network", content[: len(content) // 2], b"", None):
        network.unlink() if damaged is None else network.write_bytes(damaged)
        with pytest.raises(ModelError, match="net.onnx") as caught:
            open_session(network, "cpu", 1)
        assert "\n" not in str(caught.value)
    opened = open_session(write_network(tmp_path / "net.onnx", WEIGHT, side=8), "cpu", 1)
    with pytest.raises(ModelError, match="net.onnx") as caught:
        opened.run(images(2, size=10))
    assert "\n" not in str(caught.value)


class TestDevices:
    def test_names(self, network):
        for name, index in {"cpu": None, "auto": 0, "cuda": 0, "cuda:0": 0, "cuda:3": 3}.items():
            assert session.cuda_index(name) == index
        for name in ("gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1.0", "cuda:²", "cpu:0", "", "CPU", None):
            with pytest.raises(UsageError, match="-device"):
                open_session(network, name)

    def test_without_a_gpu_auto_falls_back_to_the_cpu_and_cuda_is_a_device_error(self, network, has_cuda):
        if has_cuda:
            pytest.skip("this machine has a GPU")
        opened = open_session(network, "auto", 1)
        assert opened.device == "cpu"
        assert opened.run(images(1)).shape == (1, 2, 12, 12)
        for name in ("cuda", "cuda:1"):
            with pytest.raises(DeviceError, match="use -device cpu"):
                open_session(network, name)

    def test_cuda_that_does_not_start(self, network, monkeypatch):
        """The driver answers but the provider is not loaded: auto goes on, cuda says why."""
        real = session.create_ort_session
        monkeypatch.setattr(session, "cuda_problem", lambda ort, index: None)
        monkeypatch.setattr(
            session, "create_ort_session", lambda ort, path, threads, index: real(ort, path, threads, None)
        )
        assert open_session(network, "auto", 1).device == "cpu"
        with pytest.raises(DeviceError, match="could not start CUDA"):
            open_session(network, "cuda", 1)

    @pytest.mark.gpu
    def test_cuda_gives_the_results_of_the_cpu(self, network, has_cuda):
        if not has_cuda:
            pytest.skip("no GPU")
        opened = open_session(network, "auto")
        assert opened.device == "cuda:0"
        stack = images(40)
        np.testing.assert_allclose(opened.run(stack), open_session(network, "cpu").run(stack), atol=1e-3)


class TestThreads:
    FILES = {"v2": "cpu.max", "quota": "cpu/cpu.cfs_quota_us", "period": "cpu/cpu.cfs_period_us"}

    @pytest.mark.parametrize(
        ("files", "count"),
        [
            ({}, 8),
            ({"v2": "max 100000"}, 8),
            ({"v2": "200000 100000"}, 2),
            ({"v2": "150000 100000"}, 2),
            ({"v2": "50000 100000"}, 1),
            ({"v2": "1600000 100000"}, 8),
            ({"v2": "?"}, 8),
            ({"quota": "-1", "period": "100000"}, 8),
            ({"quota": "300000", "period": "100000"}, 3),
            ({"quota": "10000", "period": "100000"}, 1),
        ],
    )
    def test_affinity_and_quota_of_cgroups_count(self, monkeypatch, tmp_path, files, count):
        (tmp_path / "cpu").mkdir()
        for name, text in files.items():
            (tmp_path / self.FILES[name]).write_text(text + "\n")
        monkeypatch.setattr(session, "_CGROUP", tmp_path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
        assert session.usable_cpus() == count

    def test_system_without_affinity(self, monkeypatch, tmp_path):
        monkeypatch.setattr(session, "_CGROUP", tmp_path)
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert session.usable_cpus() == 1

    def test_default_is_what_is_usable_and_less_than_one_is_refused(self, network, monkeypatch):
        monkeypatch.setattr(session, "usable_cpus", lambda: 1)
        assert open_session(network, "cpu").threads == 1
        assert open_session(network, "cpu", 2).threads == 2
        for threads in (0, -1):
            with pytest.raises(UsageError, match="-threads"):
                open_session(network, "cpu", threads)
