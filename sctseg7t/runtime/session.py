"""One ONNX Runtime session per model: device choice, threads, batching."""

import ctypes
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.errors import DeviceError, ModelError, UsageError
from sctseg7t.text import one_line

# Images per forward pass, and at most so many pixels on a CPU. There small batches stay in its caches and touch little
# fresh memory: a cold run with 4 took a sixth less time and half the memory of one with 32. A GPU wants to be filled.
BATCH = {"cpu": 4, "cuda": 32}
CPU_PIXELS = 4 * 128 * 128
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, eq=False)
class Session:
    """A loaded network.

    Attributes
    ----------
    device : str
        ``cpu`` or ``cuda:N``: what the runtime really uses, not what was asked for.
    """

    path: Path
    device: str
    threads: int
    ort: Any

    def run(self, images: np.ndarray) -> np.ndarray:
        """Run a stack of images through the network in equal batches.

        Parameters
        ----------
        images : (N, C, H, W) or (N, C, X, Y, Z) float32

        Returns
        -------
        (N, K, ...) float32
        """
        node = self.ort.get_inputs()[0]
        size = node.shape[0]
        if not isinstance(size, int):
            limit = BATCH[self.device.partition(":")[0]]
            if self.device == "cpu":
                limit = max(1, min(limit, CPU_PIXELS // math.prod(images.shape[2:])))
            # So that the last batch is nearly full too: 5 go as 3 and 2, not as 4 and 1.
            size = -(-len(images) // -(-len(images) // limit))
        parts = []
        for start in range(0, len(images), size):
            batch = np.ascontiguousarray(images[start : start + size], dtype=np.float32)
            short = size - len(batch)
            # The last batch is padded: one shape, one set of kernels and buffers.
            padded = np.concatenate([batch, np.zeros((short, *batch.shape[1:]), np.float32)]) if short else batch
            try:
                (out,) = self.ort.run(None, {node.name: padded})[:1]
            except Exception as err:
                raise ModelError(
                    f"{self.path}: the network failed on input {padded.shape}: {one_line(err, 200)}"
                ) from err
            parts.append(out[: len(batch)])
        return np.concatenate(parts)


def open_session(path: str | Path, device: str = "auto", threads: int | None = None) -> Session:
    """Load a network.

    Parameters
    ----------
    path : path
        ONNX file.
    device : str
        ``auto`` (a CUDA device where one works, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int, optional
        CPU threads; default: the CPUs that this process may use.

    Raises
    ------
    UsageError
        A malformed device, or a number of threads below 1.
    DeviceError
        A CUDA device was asked for and cannot be used.
    ModelError
        The file is not a network that the runtime can load.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    index = cuda_index(device)
    threads = usable_cpus() if threads is None else threads
    if threads < 1:
        raise UsageError(f"-threads {threads}: give a number of CPU threads, 1 or more")
    if index is not None:
        problem = cuda_problem(ort, index)
        if problem is None:
            session = create_ort_session(ort, path, threads, index)
            if session.get_providers()[0] == "CUDAExecutionProvider":
                return Session(Path(path), f"cuda:{index}", threads, session)
            problem = "ONNX Runtime could not start CUDA (are the CUDA and cuDNN libraries of its version installed?)"
        if device != "auto":
            raise DeviceError(f"-device {device}: {problem}; use -device cpu or -device auto")
    return Session(Path(path), "cpu", threads, create_ort_session(ort, path, threads, None))


def cuda_index(device: str) -> int | None:
    """CUDA device number that a device name allows, None for the CPU (UsageError if malformed)."""
    if device == "cpu":
        return None
    if device in ("auto", "cuda"):
        return 0
    kind, _, number = str(device).partition(":")
    if kind == "cuda" and number.isdecimal():
        return int(number)
    raise UsageError(f"-device {device}: not a device; use auto, cpu, cuda or cuda:N")


def usable_cpus() -> int:
    """CPUs that this process may use: affinity, then the cgroup's quota (version 2 or 1)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((_CGROUP / name).read_text() for name in names).split()
            # "max" in version 2 and -1 in version 1 mean no limit.
            if quota != "max" and int(quota) > 0:
                count = min(count, math.ceil(int(quota) / int(period)))
        except (OSError, ValueError):
            continue
    return count


def cuda_problem(ort: Any, index: int) -> str | None:
    """Why CUDA cannot be used, or None. Asks the driver, which is far cheaper than a failed session."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this ONNX Runtime was built without CUDA (pip install onnxruntime-gpu)"
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return "no NVIDIA driver on this machine"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "no CUDA device on this machine"
    if index >= count.value:
        return f"there is no device {index}; this machine has {count.value}"
    return None


def create_ort_session(ort: Any, path: str | Path, threads: int, index: int | None) -> Any:
    """Load a network into ONNX Runtime, on a CUDA device or the CPU (ModelError if it cannot be loaded)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin slow down the Python between two runs, and every other process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    providers: list[Any] = ["CPUExecutionProvider"]
    if index is not None:
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        # HEURISTIC skips the exhaustive kernel search that makes a first run take seconds.
        cuda = {"device_id": index, "cudnn_conv_algo_search": "HEURISTIC"}
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as err:
        raise ModelError(
            f"{path}: not a network that ONNX Runtime can load ({one_line(err, 200)}); install it again"
        ) from err
