"""Device, number format and threads of a training."""

from dataclasses import dataclass, fields
from typing import Any

import torch

from sctseg7t.errors import DeviceError, UsageError
from sctseg7t.runtime.session import usable_cpus

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Place:
    """A device and the precision of the network's products on it.

    Attributes
    ----------
    device : str
    precision : str
        ``float32`` or ``bfloat16``. Weights, loss and averages are float32 in both.
    workers : int
        Threads that simulate ahead.
    """

    device: str
    precision: str
    workers: int

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""
        return torch.device(self.device).type

    def products(self) -> torch.autocast:
        """Context in which the network runs while it learns."""
        return torch.autocast(self.kind, torch.bfloat16, enabled=self.precision == "bfloat16")

    def network(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network on the device. Channels-last takes two thirds of the time on a CPU, and suits tensor cores."""
        # torch's own types know no memory format here.
        options: Any = {"memory_format": _layout(*network.parameters())}
        return network.to(self.device, **options)

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, ...) on the device."""
        return images.to(device=self.device, memory_format=_layout(images))

    def batch(self, batch: Any) -> Any:
        """A batch, a dataclass of tensors, on the device."""
        return type(batch)(*(self.images(getattr(batch, f.name)) for f in fields(batch)))


def choose_place(device: str = "cpu", precision: str = "auto", threads: int | None = None) -> Place:
    """Settle device, precision and threads.

    On the CPU ``threads`` are those of the arithmetic, and one thread simulates ahead. On a GPU they all
    simulate, one batch each: the GPU is the faster of the two.

    Raises
    ------
    DeviceError
        torch cannot use the device.
    UsageError
        An unknown precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision}: not a precision; use {', '.join(PRECISIONS)}")
    try:
        kind = torch.device(device).type
        if kind not in ("cpu", "cuda"):
            raise RuntimeError("it trains on cpu and cuda only")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        reason = str(err).strip().splitlines()[0]
        raise DeviceError(f"device {device}: torch cannot use it ({reason}); use the device cpu") from err
    if precision == "auto":
        # Tensor cores multiply bfloat16 from NVIDIA's Ampere on.
        fast = kind == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "bfloat16" if fast else "float32"
    if kind == "cuda":
        # Each simulating thread works alone: together they fill the cores.
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = True
        return Place(device, precision, threads or usable_cpus())
    if threads:
        torch.set_num_threads(threads)
    return Place(device, precision, 1)


def _layout(*tensors: torch.Tensor) -> torch.memory_format:
    return torch.channels_last_3d if max(t.dim() for t in tensors) == 5 else torch.channels_last
