"""Dreams: gradient ascent on one output voxel of a network, from an image without the object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sctseg7t.errors import InputError
from sctseg7t.explain.features import FEATURES, features_of, reading, z_scores
from sctseg7t.train.task import BatchSource

# Objects of fewer voxels have no shape.
LEAST_VOXELS = 12
# From here on the network calls a voxel part of the object.
YES = 0.5


@dataclass(frozen=True)
class DreamSettings:
    """How a network is made to dream.

    Attributes
    ----------
    dreams : int
        Images that it begins from.
    steps : int
    rate : float
        Root mean square of a step's change, in units of the image.
    smooth : float
        SD in pixels of the blur of the gradient: without it the finest pattern that any convolution answers to wins.
    seed : int
    """

    dreams: int = 6
    steps: int = 50
    rate: float = 0.02
    smooth: float = 1.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Dream:
    """One dream: the image it begins and ends with (channel 0), what is segmented at the end, and its course.

    ``probability``: (steps + 1,) of the voxel; ``values``: (steps + 1,) of each feature, NaN while nothing is
    segmented; ``first`` is the step at which the voxel is first called part of the object, None if never.
    """

    voxel: tuple[int, ...]
    start: np.ndarray
    end: np.ndarray
    found: np.ndarray
    probability: np.ndarray
    values: dict[str, np.ndarray]

    @property
    def first(self) -> int | None:
        """Step at which the voxel is first called part of the object; None: never."""
        reached = np.flatnonzero(self.probability >= YES)
        return int(reached[0]) if reached.size else None


@dataclass(frozen=True, eq=False)
class Explanation:
    """What came of all dreams.

    Attributes
    ----------
    objects : dict of str to (N,) array
        Features of real objects.
    dreams, elsewhere : list of Dream
        At the place of an object that was taken out of the image; at a place where none was.
    """

    objects: dict[str, np.ndarray]
    dreams: list[Dream]
    elsewhere: list[Dream]

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """Median over the dreams of each feature at each step, z-scored by the real objects."""
        found = {}
        for name in FEATURES:
            every = np.stack([dream.values[name] for dream in self.dreams])
            some = np.isfinite(every).any(0)
            found[name] = np.full(every.shape[1], np.nan)
            found[name][some] = np.nanmedian(every[:, some], axis=0)
        return z_scores(found, self.objects)

    @property
    def readings(self) -> dict[str, str]:
        """How each feature reads."""
        return {name: reading(curve) for name, curve in self.curves.items()}


def explain(
    network: nn.Module,
    source: BatchSource,
    output: int,
    spacing_mm: Sequence[float],
    settings: DreamSettings = DreamSettings(),
    *,
    images: int = 1,
    objects: int = 48,
) -> Explanation:
    """Let a network dream, and compare what it dreams of with real objects.

    Parameters
    ----------
    network : Module
        Gives logits (N, K, ...).
    source : BatchSource
        Gives images with targets, as the network was trained on.
    output : int
        Which map.
    spacing_mm : sequence of float
    settings : DreamSettings
    images : int
        Channels that are images, the first ones; the others (maps of tissues) stay as they are.
    objects : int
        Images of which the objects are measured.

    Raises
    ------
    InputError
        The images show no object, or too few.
    """
    network = network.eval()
    rng = np.random.default_rng(settings.seed)
    known: dict[str, list[float]] = {name: [] for name in FEATURES}
    begins = []
    for k in range(-(-objects // 8)):
        batch = source.batch(8, settings.seed + k)
        for image, target in zip(batch.image.numpy(), batch.target[:, output].numpy()):
            for part in _objects(target):
                for name, value in features_of(image[0], part, spacing_mm).items():
                    known[name].append(value)
            if (target >= YES).any() and len(begins) < settings.dreams:
                begins.append((image, target))
    if len(known["intensity"]) < 3 or not begins:
        raise InputError(f"only {len(known['intensity'])} objects in {objects} images; give other images, or more")
    dreams, elsewhere = [], []
    for image, target in begins:
        centre = _deepest(max(_objects(target), key=np.sum, default=target >= YES))
        empty = erased(image, target >= YES / 5, rng, images)
        dreams.append(_dream(network, empty, output, centre, spacing_mm, settings, images))
        other = _elsewhere(image[0], target, rng)
        elsewhere.append(_dream(network, empty, output, other, spacing_mm, settings, images))
    return Explanation({name: np.array(values) for name, values in known.items()}, dreams, elsewhere)


def erased(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, images: int = 1) -> np.ndarray:
    """An image (C, ...) without an object: what lies around it goes on through it, with its noise.

    The inside becomes the mean of what lies near, the nearer the more, plus noise of the same SD.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter

    hole = binary_dilation(mask, iterations=2)
    made = image.copy()
    for channel in range(images):
        own = image[channel]
        total, weight = np.zeros_like(own), np.zeros_like(own)
        for sigma in (2.0, 5.0, 12.0):
            share = gaussian_filter((~hole).astype(np.float32), sigma)
            fresh = (weight == 0) & (share > 0.05)
            total[fresh] = (gaussian_filter(np.where(hole, 0, own), sigma) / np.maximum(share, 1e-6))[fresh]
            weight[fresh] = 1
        rim = binary_dilation(hole, iterations=4) & ~hole
        fine = (own - gaussian_filter(own, 1.0))[rim]
        # Robust: edges of what lies near are no noise.
        spread = 1.4826 * np.median(np.abs(fine - np.median(fine))) if fine.size else 0.0
        noise = rng.normal(0, spread, own.shape)
        made[channel] = np.where(hole, np.where(weight > 0, total, own[~hole].mean()) + noise, own)
    return made.astype(np.float32)


def ascent(
    network: nn.Module, image: np.ndarray, output: int, voxel: Sequence[int], settings: DreamSettings, images: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image (C, ...) and the output's probability map at each step, the first as it was given."""
    x = torch.from_numpy(image[None].copy())
    for step in range(settings.steps + 1):
        x.requires_grad_(True)
        logits = network(x)[0, output]
        yield x.detach()[0].numpy().copy(), torch.sigmoid(logits).detach().numpy()
        if step == settings.steps:
            return
        (gradient,) = torch.autograd.grad(logits[tuple(voxel)], x)
        change = _smoothed(gradient[:, :images], settings.smooth)
        change = settings.rate * change / change.square().mean().sqrt().clamp(min=1e-12)
        x = x.detach()
        x[:, :images] += change


def _smoothed(gradient: Tensor, sigma: float) -> Tensor:
    from scipy.ndimage import gaussian_filter

    if not sigma:
        return gradient
    axes = (0, 0, *[sigma] * (gradient.dim() - 2))
    return torch.from_numpy(gaussian_filter(gradient.numpy(), axes))


def _dream(network, image, output, voxel, spacing_mm, settings, images) -> Dream:
    values: dict[str, list[float]] = {name: [] for name in FEATURES}
    shown, probability, found = image, [], np.zeros(image.shape[1:], bool)
    for shown, maps in ascent(network, image, output, voxel, settings, images):
        probability.append(float(maps[voxel]))
        found = _piece(maps >= YES, voxel)
        now = features_of(shown[0], found, spacing_mm) if found.sum() >= LEAST_VOXELS else {}
        for name, series in values.items():
            series.append(now.get(name, np.nan))
    course = {name: np.array(series) for name, series in values.items()}
    return Dream(voxel, image[0], shown[0], found, np.array(probability), course)


def _piece(mask, voxel):
    """The connected piece of a mask that holds a voxel; empty if none does."""
    from scipy.ndimage import label

    parts, _ = label(mask, np.ones([3] * mask.ndim))
    return parts == parts[voxel] if parts[voxel] else np.zeros(mask.shape, bool)


def _objects(target):
    """Connected pieces of a target, those that are too small left out."""
    from scipy.ndimage import label

    parts, count = label(target >= YES, np.ones([3] * target.ndim))
    pieces = (parts == k for k in range(1, count + 1))
    return [piece for piece in pieces if piece.sum() >= LEAST_VOXELS]


def _deepest(mask):
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim]
    return tuple(int(n) for n in np.unravel_index(int(np.argmax(depth)), mask.shape))


def _elsewhere(image, target, rng):
    """A voxel of the image's inner half that is no object and shows something."""
    inner = np.zeros(image.shape, bool)
    inner[tuple(slice(n // 4, n - n // 4) for n in image.shape)] = True
    allowed = np.argwhere(inner & (target < 0.05) & (image > np.median(image) - 2 * image.std()))
    if not len(allowed):
        allowed = np.argwhere(inner)
    return tuple(int(n) for n in allowed[rng.integers(len(allowed))])
