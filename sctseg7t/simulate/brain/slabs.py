"""Slices of stored brains with their neighbours, cut anew at every draw: what a network of views trains on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torch.nn.functional as F

from sctseg7t.brain.views import OWN_SLICES_MM, PLANES, neighbours, through_axis
from sctseg7t.errors import InputError
from sctseg7t.runtime.session import usable_cpus
from sctseg7t.simulate.brain import bank
from sctseg7t.simulate.brain.bank import Crowd, StoredBrain
from sctseg7t.simulate.brain.patches import HELD_OUT_SEED, draw_ribbons, normalise
from sctseg7t.simulate.brain.people import label_maps
from sctseg7t.simulate.effect import effect, read_settings
from sctseg7t.simulate.fields import box_around
from sctseg7t.simulate.scene import Batch, Draw, Scene


class SlabScene(Scene):
    """A slice of a stored brain and the slices around it, (N, A, B), the middle one in the middle.

    Attributes
    ----------
    image : (N, A, B) float32 tensor
        FLAIR over its median.
    label : (A, B) float32 tensor
        Lesions of the slice itself.
    weights : (channels, N) float32 tensor
        What channels are made of the slices.
    depth_mm : (N,) float array
        Where the slices lie, from the middle one.
    """

    organ = "slab"

    def __init__(self, brain: StoredBrain, axis: int | None, centre: np.ndarray, size: Sequence[int]):
        super().__init__(size=max(size))
        self.brain, self.axis, self.centre, self.sides = brain, axis, centre, tuple(size)
        self.step_mm = 1.0
        self.label = self.weights = torch.zeros(0)
        self.depth_mm = np.zeros(0)

    @property
    def channels(self) -> torch.Tensor:
        """What a network gets, (channels, A, B)."""
        return torch.tensordot(self.weights, normalise(self.image), 1)


class SlabSimulator:
    """Draws batches of slices; ``batch(n, seed)`` is replayable.

    Parameters
    ----------
    brains, held_out : list of StoredBrain
    settings : mapping, optional
        ``size``: pixels of 1 mm along both sides; ``lesion_share``: of slices through a lesion; ``real_share``: of
        slices of real scans in training; and by effect the settings that differ from its defaults, or False.
    real : list of StoredBrain
    """

    def __init__(
        self,
        brains: Sequence[StoredBrain],
        held_out: Sequence[StoredBrain],
        settings: Mapping[str, Any] | None = None,
        real: Sequence[StoredBrain] = (),
    ):
        self.brains, self.held_out, self.real = list(brains), list(held_out), list(real)
        settings = {"size": (160, 192), "lesion_share": 0.6, "real_share": 0.5, **(settings or {})}
        self.size, self.lesion_share, self.real_share = map(settings.pop, ("size", "lesion_share", "real_share"))
        self.settings = read_settings("slab", settings)

    def batch(self, count: int, seed: int) -> Batch:
        """``count`` slices, (N, C, A, B); seeds from ``HELD_OUT_SEED`` to twice that draw from the brains held out."""
        apart = HELD_OUT_SEED <= seed < 2 * HELD_OUT_SEED
        scenes = [self.scene(seed * 64 + k, apart) for k in range(count)]
        return Batch(torch.stack([s.channels for s in scenes]), torch.stack([s.label[None] for s in scenes]))

    def scene(self, seed: int, held_out: bool = False) -> SlabScene:
        """One slice with all that made it."""
        rng = Draw(seed, "choice").rng
        real = bool(self.real) and not held_out and rng.random() < self.real_share
        pool = self.held_out if held_out else self.real if real else self.brains
        diseased = [brain for brain in pool if len(brain.centres)]
        if diseased and rng.random() < self.lesion_share:
            brain = diseased[rng.integers(len(diseased))]
            centre = brain.centres[rng.integers(len(brain.centres))]
        else:
            brain = pool[rng.integers(len(pool))]
            centre = (rng.uniform(0.04, 0.96, 3) * brain.image.shape).astype(int)
        return SlabScene(brain, through_axis(brain.spacing_mm), centre, self.size).run(self.settings, seed)


# ---- what is cut -----------------------------------------------------------------


@effect("slab", "slab", required=True)
def cut(
    scene: SlabScene,
    draw: Draw,
    *,
    axial_p=0.6,
    thick_p=0.55,
    thickness_mm=(1.5, 8.0),
    gap=(1.0, 1.3),
    label_from=0.4,
) -> None:
    """The plane, and slices through it: of 1 mm or thick ones; a slice is the mean of what it holds.

    A voxel of a thick slice is called a lesion where ``label_from`` of its depth is. A real scan of thick slices is cut
    in those.
    """
    axis = 2 if draw.chance("axial", axial_p) else int(draw.uniform("axis", 0, 2))
    thick, depth = draw.chance("thick", thick_p), draw.log_uniform("thickness_mm", *thickness_mm)
    step = depth * draw.uniform("gap", *gap)
    spacing = scene.brain.spacing_mm
    if scene.axis is not None:
        axis, thick, depth, step = scene.axis, False, 1.0, float(spacing[scene.axis])
    elif not thick:
        depth = step = 1.0
    at, order = int(scene.centre[axis]), (axis, *PLANES[axis])
    steps, weights = neighbours(round(step, 3))
    # Positions that each slice is the mean of, in voxels of the stored brain.
    across = (np.arange(max(int(np.ceil(depth)), 1)) + 0.5) / max(int(np.ceil(depth)), 1) - 0.5
    places = at + (steps[:, None] * step + across[None] * depth) / spacing[axis]
    low, high = int(np.floor(places.min())), int(np.ceil(places.max())) + 1
    image, label = (_part(a.transpose(order), low, high) for a in (scene.brain.image, scene.brain.label))
    mix = np.maximum(1 - np.abs(places[..., None] - np.arange(low, high)), 0).mean(1).astype(np.float32)
    middle = int(np.flatnonzero(steps == 0)[0])
    scene.image = torch.from_numpy(np.tensordot(mix, image, 1))
    scene.label = (torch.from_numpy(np.tensordot(mix[middle], label, 1)) >= (label_from if thick else 0.5)).float()
    scene.weights, scene.step_mm, scene.depth_mm = torch.from_numpy(weights), step, steps * step


def _part(stack, low, high):
    """Slices low to high of a stack, zero beyond it, float32."""
    out = np.zeros((high - low, *stack.shape[1:]), np.float32)
    first, last = max(low, 0), min(high, len(stack))
    if first < last:
        out[first - low : last - low] = stack[first:last]
    return out


@effect("slab", "slab", required=True)
def place(
    scene: SlabScene,
    draw: Draw,
    *,
    degrees=10.0,
    zoom_sd=0.07,
    aspect_sd=0.04,
    shift_mm=10.0,
    bend_mm=(0.0, 3.0),
    flip_p=0.5,
) -> None:
    """Where the brain lies in the image, how it is turned and bent, its size."""
    turn = float(np.deg2rad(draw.normal("degrees", degrees)))
    zoom, aspect = (float(np.exp(draw.normal(name, sd))) for name, sd in (("zoom", zoom_sd), ("aspect", aspect_sd)))
    matrix = torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], dtype=torch.float32)
    matrix = matrix @ torch.diag(torch.tensor([zoom * aspect, zoom / aspect]))
    # Left and right change places where the plane shows both.
    if draw.chance("flip", flip_p):
        matrix[:, 0] = -matrix[:, 0]
    a, b = (torch.arange(n) - (n - 1) / 2 for n in scene.sides)
    at = torch.stack(torch.meshgrid(a, b, indexing="ij"))
    at = torch.tensordot(matrix, at, 1)
    bend = draw.uniform("bend_mm", *bend_mm)
    for k, name in enumerate("ab"):
        wave = draw.field(35, (1, *scene.sides))[0]
        at[k] += draw.uniform(f"shift_{name}", -shift_mm, shift_mm) + bend * wave
    half = [n / 2 for n in scene.image.shape[1:]]
    grid = torch.stack([at[1] / half[1], at[0] / half[0]], -1)[None]
    both = torch.cat([scene.image, scene.label[None]])[None]
    found = F.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    scene.image, scene.label = found[:-1], (found[-1] >= 0.5).float()


# ---- what it shows ---------------------------------------------------------------


@effect("slab", "slab", probability=0.3)
def fainter(scene: SlabScene, draw: Draw, *, factor=(0.6, 1.3)) -> None:
    """Lesions of the slice itself fainter, or brighter, than they are."""
    if not scene.label.any():
        return
    soft, tissue = _blurred(scene.label[None], 0.7), (scene.image > 0.5).float()
    around = _mean(scene.image * tissue) / _mean(tissue).clamp(min=0.2)
    excess = (scene.image - around).clamp(min=0)
    scene.image = scene.image + (draw.uniform("factor", *factor) - 1) * soft * excess


def _mean(stack):
    """Over 17 x 17 pixels; one axis after the other, which is six times as fast."""
    rows = F.avg_pool2d(stack[None], (17, 1), stride=1, padding=(8, 0))
    return F.avg_pool2d(rows, (1, 17), stride=1, padding=(0, 8))[0]


@effect("slab", "slab", probability=0.0)
def ribbons(scene: SlabScene, draw: Draw, *, width_mm=(2.0, 4.0), level=(1.04, 1.26)) -> None:
    """Folds of cortex that run through WM with no fluid to be seen: as bright as faint lesions, but sheets."""
    at = np.round(scene.depth_mm - scene.depth_mm.min()).astype(int)
    shape = (int(at.max()) + 1, *scene.sides)
    draw_ribbons(scene, draw, lambda size: draw.field(size, shape)[at], width_mm, level)


@effect("slab", "slab", probability=0.0)
def spots(scene: SlabScene, draw: Draw, *, most=8, radius_mm=(1.0, 3.4), gain=(0.09, 0.4)) -> None:
    """Small lesions anywhere in the tissue, in thin slices: also in cortex, and beside the slice itself."""
    if scene.step_mm > OWN_SLICES_MM:
        return
    image, rng, middle = scene.image, draw.rng, int(np.flatnonzero(scene.depth_mm == 0)[0])
    tissue = image > 0.85
    if not tissue.any():
        return
    gray = float(np.percentile(image[tissue].numpy()[::9], 75))
    scene.image, scene.label = image, label = image.clone(), scene.label.clone()
    for _ in range(int(rng.integers(1, most + 1))):
        centre = rng.integers(0, scene.sides)
        depth = rng.uniform(-3, 3)
        if not tissue[(middle, *centre)]:
            continue
        radius = np.exp(rng.uniform(*np.log(radius_mm))) * rng.uniform(0.75, 1.35, 3)
        box, at = box_around(centre, 6, scene.sides)
        at = at + rng.uniform(-0.5, 0.5, (2, 1, 1))
        across = (scene.depth_mm - depth)[:, None, None]
        away = np.sqrt((across / radius[0]) ** 2 + ((at / radius[1:, None, None]) ** 2).sum(0))
        away = away + rng.normal(0, 0.06, away.shape)
        where = (slice(None), *box)
        part = torch.sigmoid(torch.from_numpy((1 - away) * radius.min() / 0.4).float()) * tissue[where]
        level = gray * (1 + float(np.exp(rng.uniform(*np.log(gain)))))
        image[where] = image[where] + part * (level - image[where]).clamp(min=0)
        label[box] = torch.maximum(label[box], (part[middle] > 0.5).float())


@effect("slab", "slab")
def sharpness(scene: SlabScene, draw: Draw, *, blur_p=0.35, blur=(0.3, 1.0), sharpen_p=0.15) -> None:
    """Blurred in the plane (SD in mm), else sometimes sharpened."""
    sigma = draw.uniform("blur", *blur)
    if draw.chance("blurred", blur_p):
        scene.image = _blurred(scene.image, sigma)
    elif draw.chance("sharpened", sharpen_p):
        detail = scene.image - _blurred(scene.image, sigma)
        scene.image = (scene.image + draw.uniform("sharpen", 0.2, 0.7) * detail).clamp(min=0)


def _blurred(stack, sigma):
    """In the plane alone."""
    reach = int(np.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    for turned in (kernel, kernel.transpose(2, 3)):
        pad = (turned.shape[2] // 2, turned.shape[3] // 2)
        stack = F.conv2d(stack[:, None], turned, padding=pad)[:, 0]
    return stack


@effect("slab", "slab", probability=0.5)
def gamma(scene: SlabScene, draw: Draw, *, power=(0.75, 1.35)) -> None:
    """Another curve of intensities."""
    scene.image = scene.image.clamp(min=0) ** draw.log_uniform("power", *power)


@effect("slab", "slab", probability=0.5)
def bias(scene: SlabScene, draw: Draw, *, strength=(0.02, 0.15)) -> None:
    """Multiplicative field of the coils, and slices that are brighter than others."""
    strength = draw.uniform("strength", *strength)
    field = draw.field(70, (1, *scene.image.shape[1:]))
    each = 0.3 * torch.randn(len(scene.image), 1, 1, generator=draw.gen)
    scene.image = scene.image * torch.exp(strength * (field + each))


@effect("slab", "slab", probability=0.5)
def noise(scene: SlabScene, draw: Draw, *, sd=(0.005, 0.08), width=(0.0, 0.7)) -> None:
    """Noise of each slice, smoother where the scanner interpolated."""
    grain = torch.randn(scene.image.shape, generator=draw.gen)
    width = draw.uniform("width", *width)
    if width > 0.25:
        grain = _blurred(grain, width)
        grain = grain / grain.std()
    scene.image = scene.image + draw.log_uniform("sd", *sd) * grain * (scene.image > 0)


@effect("slab", "slab", required=True)
def level(scene: SlabScene, draw: Draw, *, sd=0.05) -> None:
    """The median that the image is relative to errs."""
    scene.image = scene.image.clamp(min=0) * float(np.exp(draw.normal("level", sd)))


def make_slab_simulator(
    simulation: Mapping[str, Any], folders: Mapping[str, str | Path], root: str | Path, log: TextIO
) -> SlabSimulator:
    """The simulator of a training recipe; fills its bank first.

    Parameters
    ----------
    simulation : dict
        ``bank``: count, held_out, seed, ``people``: numbers of their label maps, ``each``: brains of one of them,
        ``people_effects``; ``effects``: settings by effect of the brain; ``slabs``: as for :class:`SlabSimulator`;
        ``real``: patients to train on as well, see :func:`sctseg7t.simulate.brain.bank.real_brains`; ``healthy``:
        scans without lesions.
    folders : dict
        ``brain``: folder of the public data; ``heads``: of label maps of people.
    root : path
        Where banks lie.
    log : text stream
    """
    known = {"bank": {}, "effects": {}, "slabs": {}, "real": (), "healthy": ()}
    wrong = sorted(set(simulation) - set(known))
    if wrong:
        raise InputError(f"simulation recipe: unknown name {wrong[0]!r}; known: {', '.join(known)}")
    said = {**known, **simulation}
    size = {"count": 44, "held_out": 8, "seed": 1000, "people": (), "each": 4, "people_effects": {}, **said["bank"]}
    folder = folders.get("brain")
    crowd = Crowd(label_maps(folders.get("heads"), size["people"]), size["each"], size["people_effects"])
    shapes = Path(folder) / "lesion_masks_mni" if folder else None
    count, seed = size["count"], size["seed"]
    brains = bank.fill(root, count, seed, said["effects"], shapes, usable_cpus(), log, crowd)
    real = bank.real_brains(said["real"], folder, root, own_slices=True)
    real += bank.real_brains(said["healthy"], folder, root, own_slices=True, healthy=True)
    apart = min(size["held_out"], len(brains) - 1)
    return SlabSimulator(brains[: len(brains) - apart], brains[-apart:], said["slabs"], real)
