"""What effects work with: a stream of random numbers (Draw), and the image on its way (Scene)."""

import contextlib
import functools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from sctseg7t.simulate.anatomy import AnatomyBank
from sctseg7t.simulate.effect import EFFECTS, read_settings
from sctseg7t.simulate.fields import pixel_grid_mm, smooth_field, smooth_noise


class Draw:
    """Random numbers of one effect; each is kept under its name in ``kept``.

    Parameters
    ----------
    seed : int
    name : str
        Of the effect: seed and name decide the numbers.
    count : int
        Images of a batch: a number is an (N, 1, 1, 1) tensor. 0: one image, a number is a float.
    size : int
        Pixels of :meth:`noise` along each side.
    along : tuple of float, optional
        Place along a stack, in lengths over which numbers become others, and how much of them changes (0 to 1):
        they move smoothly about those of the whole stack. What :attr:`gen` itself draws stays.
    """

    def __init__(self, seed: int, name: str, count: int = 0, size: int = 0, along: tuple[float, float] | None = None):
        self.count, self.size, self.kept = count, size, {}
        first = (int(seed) * 1_000_003 + zlib.crc32(name.encode())) % 2**63
        self.gen = torch.Generator().manual_seed(first)
        self._mixed: list[tuple[float, torch.Generator]] = []
        if along is not None:
            (node, part), change = divmod(along[0], 1), along[1]
            # Squares of the weights add up to one: the mixture of normal numbers is normal again.
            for weight, own in (
                (math.sqrt(1 - change**2), "stack"),
                (change * math.cos(part * math.pi / 2), int(node)),
                (change * math.sin(part * math.pi / 2), int(node) + 1),
            ):
                self._mixed.append((weight, torch.Generator().manual_seed(zlib.crc32(f"{first} {own}".encode()))))

    def keep(self, name: str, value: Any) -> Any:
        """Keep a value under a name; returns it."""
        if not self.count:
            self.kept[name] = round(float(value), 5)
            return float(value)
        self.kept[name] = value.flatten().tolist()
        return value

    def uniform(self, name: str, low: float, high: float) -> Any:
        """Uniform in [low, high)."""
        return self.keep(name, low + (high - low) * self._unit())

    def log_uniform(self, name: str, low: float, high: float) -> Any:
        """Uniform in the logarithm."""
        return self.keep(name, low * (high / low) ** self._unit())

    def normal(self, name: str, sd: float, mean: float = 0.0) -> Any:
        """Normal with a mean and a standard deviation."""
        return self.keep(
            name, mean + sd * self._normal(lambda gen: torch.randn(self.count or 1, 1, 1, 1, generator=gen))
        )

    def chance(self, name: str, probability: float) -> Any:
        """1.0 with the given probability, else 0.0."""
        return self.keep(name, (self._unit() < probability).float())

    def _unit(self) -> torch.Tensor:
        if self._mixed:
            return torch.special.ndtr(self._normal(lambda gen: torch.randn(self.count or 1, 1, 1, 1, generator=gen)))
        return torch.rand(self.count or 1, 1, 1, 1, generator=self.gen)

    def _normal(self, numbers: Callable[[torch.Generator], torch.Tensor]) -> torch.Tensor:
        """Normal numbers of unit SD; along a stack, those of the stack mixed with those of the two nearest nodes."""
        if not self._mixed:
            return numbers(self.gen)
        return torch.stack([weight * numbers(gen) for weight, gen in self._mixed]).sum(0)

    def noise(self, nodes: int) -> torch.Tensor:
        """Smooth noise of unit SD over the images, (N, 1, S, S); follows from the seed, so it is not kept."""
        return self._normal(lambda gen: smooth_noise(gen, self.count or 1, nodes, self.size))

    def field(self, period_mm: float, shape: Sequence[int]) -> torch.Tensor:
        """Smooth noise of unit SD over a volume at 1 mm, (X, Y, Z)."""
        return smooth_field(self.gen, period_mm, shape)

    @functools.cached_property
    def rng(self) -> np.random.Generator:
        """numpy's generator of this stream, for draws of varying number."""
        return np.random.default_rng(int(torch.randint(0, 2**62, (1,), generator=self.gen)))


class Scene:
    """An image on its way from anatomy to what a scanner stores. Each organ's scene declares its own arrays.

    ``count`` and ``size`` are those of the draws; ``drawn`` holds the numbers drawn, by effect and name.
    """

    organ: ClassVar[str]
    image: torch.Tensor

    def __init__(self, count: int = 0, size: int = 0):
        self.count, self.size = count, size
        self.drawn: dict[str, dict[str, Any]] = {}

    def run(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        seed: int,
        stages: Sequence[str] | None = None,
        reseed: Mapping[str, int] | None = None,
        along: Mapping[str, tuple[float, float]] | None = None,
    ) -> Self:
        """Apply effects in the order of the settings; returns the scene itself.

        Parameters
        ----------
        settings : mapping
            As :func:`sctseg7t.simulate.effect.read_settings` returns them.
        seed : int
        stages : sequence of str, optional
            Effects of other stages are passed over.
        reseed : mapping of str to int, optional
            Seeds of single effects.
        along : mapping of str to tuple of float, optional
            Of single effects: place along a stack and share that changes, as :class:`Draw` has them.
        """
        with torch.no_grad():
            for name, values in settings.items():
                entry, values = EFFECTS[self.organ][name], dict(values)
                if stages is not None and entry.stage not in stages:
                    continue
                draw = Draw((reseed or {}).get(name, seed), name, self.count, self.size, (along or {}).get(name))
                self.drawn[name] = draw.kept
                present = draw.chance("present", values.pop("probability")) if "probability" in values else 1.0
                if present:
                    entry.apply(self, draw, **values)
        return self


@dataclass(frozen=True)
class Batch:
    """Images, (N, C, ...), and what a network learns of them, (N, D, ...)."""

    image: torch.Tensor
    target: torch.Tensor


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch: sums over several depend on their number in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SliceScene(Scene):
    """A batch of axial slices that show a cord: what cord windows and whole necks share. Lengths in mm."""

    x: torch.Tensor  # (1, 1, S, S) pixel positions: right of the middle
    y: torch.Tensor  # anterior of the middle
    index: torch.Tensor  # (N,) slices of the anatomy bank
    scale: torch.Tensor  # size of the cord against the bank's
    # (x, y) positions in the frame of the canal and of the cord:
    canal: tuple[torch.Tensor, torch.Tensor]
    cord: tuple[torch.Tensor, torch.Tensor]
    sc: torch.Tensor  # SC and GM fractions that make the image
    gm: torch.Tensor
    white: torch.Tensor  # levels of WM and CSF
    fluid: torch.Tensor
    target: torch.Tensor  # (N, C, S, S) what a network learns

    def __init__(self, bank: AnatomyBank, count: int, size: int, spacing_mm: float):
        super().__init__(count, size)
        self.bank = bank
        self.x, self.y = pixel_grid_mm(size, spacing_mm)

    def maps_of(self, index: torch.Tensor) -> torch.Tensor:
        """Maps of slices of the bank, (N, 3, P, P) float."""
        return torch.from_numpy(self.bank.maps[index.numpy()]).float()

    def horn(self, index: torch.Tensor, name: str) -> torch.Tensor:
        """A measure of the horns of slices of the bank, (N, 1, 1, 1), mm."""
        return torch.from_numpy(self.bank.horns[name][index.numpy()]).view(-1, 1, 1, 1)

    def settings_of(self, k: int) -> dict[str, dict[str, float]]:
        """Numbers drawn for image ``k``: effect → name → value."""
        return {
            effect: {name: values[k] for name, values in kept.items() if len(values) == self.count}
            for effect, kept in self.drawn.items()
        }


class CordScene(SliceScene):
    """A batch of windows around the cord. (N, 1, S, S) or (N, 1, 1, 1) tensors."""

    organ = "cord"
    gray: tuple[torch.Tensor, torch.Tensor]  # positions in the frame of the gray matter
    gray_level: torch.Tensor  # probability at which a template's outline is taken
    gray_moved: torch.Tensor | None = None  # or by how many mm that of one half is moved outwards
    gray_depth: torch.Tensor | None = None  # mm inside the moved outline, in the middle of the slice
    gray_outset: float = 0.0  # by how many mm its label reaches further
    horns: dict[str, Any]  # how the horn effects change the gray matter
    regions: torch.Tensor  # atlas region
    inner: torch.Tensor  # the cord's image, the fluid's, and what lies beyond
    csf: torch.Tensor
    outside: torch.Tensor
    gray_contrast: torch.Tensor  # of GM to WM, and the noise's SD in the stored image
    noise_sd: torch.Tensor
    seen: torch.Tensor | float = 1.0  # 0 where GM has no contrast to WM
    wall: torch.Tensor  # signed distance inside the canal
    layer: torch.Tensor  # about 1 near the cord
    in_canal: torch.Tensor
    stored: torch.Tensor  # the scanner's image; its pixel size and the place of its grid, (N, 2)
    pixel: torch.Tensor
    phase: torch.Tensor
    smoothing: torch.Tensor  # acquired against stored pixel size
    noise_map: torch.Tensor
    inside: torch.Tensor  # 1 where the window shows the scan

    def __init__(
        self, bank: AnatomyBank, count: int, size: int, spacing_mm: float, drift_mm: tuple[float, float] = (0.0, 0.0)
    ):
        super().__init__(bank, count, size, spacing_mm)
        self.drift_mm = drift_mm
        self.horns = {}


class SliceSimulator:
    """Draws batches of simulated axial slices; the same seed gives the same batch.

    Parameters
    ----------
    bank : AnatomyBank
    recipe : mapping, optional
        By effect: the settings that differ from its defaults, or False to leave it out.
    size : int
        Pixels along each side.

    Raises
    ------
    InputError
        The recipe names an unknown effect, setting or anatomy source.
    """

    organ: ClassVar[str]

    def __init__(self, bank: AnatomyBank, recipe: Mapping[str, Any] | None = None, size: int = 128):
        self.settings = read_settings(self.organ, recipe)
        self.bank, self.size = bank, size
        bank.weights(self.settings["subject"]["source_weights"])
