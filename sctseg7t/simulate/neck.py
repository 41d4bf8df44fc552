"""Simulated whole axial slices at 1 mm, to train the locator: where in this image is the cord?

The cord and its canal come from the anatomy bank; the neck around them is drawn: outline, fat,
vertebra, vessels, airways, muscles, air. Some images are windows cut close to the cord, some
hold no cord at all (plain tissue, a brain, noise): the locator must then stay silent.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sctseg7t.brain.atlas import stored_maps
from sctseg7t.simulate import acquisition, shape  # noqa: F401 - effects that cords and necks share
from sctseg7t.simulate.anatomy import SPACING_MM
from sctseg7t.simulate.contrast import thecal_sac
from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import closed_contour, edge, lowpass, rician, rotate, sample_mm
from sctseg7t.simulate.scene import Batch, Draw, SliceScene, SliceSimulator

_SHRINK = 3
_BRAIN_STEP = 2  # mm


class NeckScene(SliceScene):
    """A batch of whole axial slices. (N, 1, S, S) or (N, 1, 1, 1) tensors; a slice without a cord has no canal."""

    organ = "neck"
    centre: tuple[Tensor, Tensor]  # of the cord, mm
    shown: Tensor  # 1 where the slice holds a cord, else 0
    inside: Tensor  # 1 where the image shows the scan


class NeckSimulator(SliceSimulator):
    """Draws batches of simulated whole slices, of pixels of 1 mm."""

    organ = "neck"

    def batch(self, count: int, seed: int) -> Batch:
        """Simulate ``count`` slices, scaled as the locator does at inference and zero outside the scan; heat maps."""
        scene = self.scene(count, seed)
        values = torch.where(scene.inside > 0, scene.image, torch.nan).flatten(1)
        low, high = (torch.nanquantile(values, q, dim=1).view(-1, 1, 1, 1) for q in (0.01, 0.99))
        scaled = ((scene.image - low) / (high - low).clamp(min=1e-6)).clamp(-0.5, 2.0)
        return Batch(scaled * scene.inside, scene.target)

    def scene(self, count: int, seed: int) -> NeckScene:
        """The slices with all that made them."""
        return NeckScene(self.bank, count, self.size, 1.0).run(self.settings, seed)


# ---- where the cord lies, and what it looks like -------------------------------


@effect("place", "neck", required=True)
def place(scene: NeckScene, draw: Draw, *, rotation=25.0, upside_down_p=0.08, empty_p=0.33) -> None:
    """Cord anywhere in the image, turned (degrees) and bent a little; some images have none."""
    half = scene.size / 2 - 6
    scene.centre = (draw.uniform("x", -1, 1) * half, draw.uniform("y", -1, 1) * half)
    angle = math.radians(rotation) * draw.uniform("angle", -1, 1)
    angle = angle + math.pi * draw.chance("upside_down", upside_down_p)
    x, y = rotate(scene.x - scene.centre[0], scene.y - scene.centre[1], angle)
    scene.canal = scene.cord = (x + 0.8 * draw.noise(9), y + 0.8 * draw.noise(9))
    scene.shown = 1 - draw.chance("empty", empty_p)


@effect("contrast", "neck", required=True)
def tissues(
    scene: NeckScene,
    draw: Draw,
    *,
    white=(0.2, 0.6),
    fluid=(1.15, 2.8),
    iso_csf_p=0.15,
    dark_csf_p=0.15,
) -> None:
    """Levels of WM and CSF: CSF mostly brighter, sometimes WM's equal or darker."""
    scene.white = draw.uniform("white", *white)
    ratio = draw.uniform("fluid", *fluid)
    ratio = torch.where(draw.chance("iso_csf", iso_csf_p) > 0, draw.uniform("iso_ratio", 0.95, 1.3), ratio)
    ratio = torch.where(draw.chance("dark_csf", dark_csf_p) > 0, draw.uniform("dark_ratio", 0.1, 0.8), ratio)
    scene.fluid = scene.white * ratio


# ---- the neck around it --------------------------------------------------------


@effect("contrast", "neck", required=True)
def muscles(scene: NeckScene, draw: Draw) -> None:
    """Muscles and fat: piecewise smooth tissues all over the image."""
    scene.image = (scene.fluid * draw.uniform("level", 0.05, 0.9)).expand(draw.count, 1, draw.size, draw.size)
    for nodes in (5, 8, 12, 18):
        part = edge(draw.noise(nodes) - draw.uniform(f"share{nodes}", -0.5, 1.0), 0.15)
        _paint(scene, part * draw.chance(f"on{nodes}", 0.8), draw.uniform(f"level{nodes}", 0.0, 1.3))


@effect("contrast", "neck")
def tubes(scene: NeckScene, draw: Draw, *, count=6, p=0.5, wall_p=0.3) -> None:
    """Vessels and airways: discs away from the cord, some with a wall."""
    x, y = scene.canal
    for k in range(count):
        px, py = draw.uniform(f"x{k}", -50, 50), draw.uniform(f"y{k}", -50, 60)
        semi = [draw.uniform(f"semi_{axis}{k}", 1.5, 10) for axis in "xy"]
        disc = closed_contour(draw.gen, x - px, y - py, *semi, roughness=0.1)
        inner = edge(disc - draw.uniform(f"wall{k}", 0.5, 4), 0.5) * draw.chance(f"wall_on{k}", wall_p)
        free = edge(torch.hypot(px, py) - 22, 1.0)
        _paint(scene, edge(disc, 0.5) * free * draw.chance(f"on{k}", p), draw.uniform(f"level{k}", 0.0, 1.6))
        _paint(scene, inner * free, draw.uniform(f"inner{k}", 0.0, 1.3))


@effect("contrast", "neck")
def outline(scene: NeckScene, draw: Draw, *, fat_p=0.7, no_air_p=0.25) -> None:
    """The neck ends in a rim of fat, and air around it; some images show no air."""
    x, y = scene.canal
    ox, oy = draw.normal("x", 8), draw.uniform("y", -15, 25)
    semi = [draw.uniform(f"semi_{axis}", 42, 95) for axis in "xy"]
    neck = closed_contour(draw.gen, x - ox, y - oy, *semi, roughness=0.06)
    fat = edge(-(neck - draw.uniform("fat_mm", 2, 14)), 0.6) * draw.chance("fat", fat_p)
    _paint(scene, fat, draw.uniform("fat_level", 0.1, 1.6))
    scene.image = scene.image * torch.maximum(edge(neck, 0.5), draw.chance("no_air", no_air_p))


@effect("contrast", "neck")
def head(scene: NeckScene, draw: Draw, *, brain_p=0.5, nothing_p=0.25) -> None:
    """Half of the slices without a cord show a brain, and some of the rest noise alone."""
    (x, y), fluid = scene.canal, scene.fluid
    slices = _brain_slices()
    index = draw.keep("slice", torch.randint(len(slices), (draw.count,), generator=draw.gen))
    grow = draw.uniform("grow", 0.75, 1.15)
    maps = sample_mm(slices[index].float() / 255, x / grow, y / grow, _BRAIN_STEP)
    gm, wm, inside = maps.split(1, 1)
    drawn = inside * fluid * draw.uniform("csf", 0.05, 1.3)
    for name, tissue in (("gm", gm), ("wm", wm)):
        drawn = drawn + tissue * (fluid * draw.uniform(name, 0.1, 1.1) - drawn)
    skull = closed_contour(draw.gen, x, y, *(draw.uniform(f"semi_{axis}", 70, 95) for axis in "xy"), roughness=0.02)
    scalp = edge(skull, 0.5) - edge(skull - draw.uniform("scalp_mm", 3, 9), 0.5)
    scalp = scalp * draw.chance("scalp", 0.6) * (1 - inside)
    drawn = drawn + scalp * (fluid * draw.uniform("scalp_level", 0.2, 1.6) - drawn)
    brain = (1 - scene.shown) * draw.chance("brain", brain_p)
    nothing = (1 - scene.shown) * (1 - brain) * draw.chance("nothing", nothing_p)
    scene.image = (scene.image + brain * (drawn - scene.image)) * (1 - nothing)


@effect("contrast", "neck")
def vertebra(scene: NeckScene, draw: Draw, *, p=0.8) -> None:
    """The vertebra's body in front of the canal."""
    x, y = scene.canal
    semi = [draw.uniform(f"semi_{axis}", 7, 13) for axis in "xy"]
    body = closed_contour(draw.gen, x, y - draw.uniform("y", 9, 17), *semi, roughness=0.06)
    _paint(scene, edge(body, 0.6) * draw.chance("on", p), draw.uniform("level", 0.05, 0.9))


@effect("contrast", "neck", required=True)
def canal(scene: NeckScene, draw: Draw, *, semi_x=(7.5, 13.5), semi_y=(5.5, 10.0), ring_p=0.85) -> None:
    """The thecal sac with its fluid, and a ring of bone and ligaments around it."""
    wall = thecal_sac(scene, draw, semi_x, semi_y, (-1.2, 2.4))
    ring = edge(wall + draw.uniform("ring_mm", 0.3, 3.0), 0.4) * draw.chance("ring", ring_p)
    _paint(scene, ring * scene.shown, draw.uniform("ring_level", 0.02, 0.8))
    _paint(scene, edge(wall, 0.4) * scene.shown, 1.0)


@effect("contrast", "neck", required=True)
def cord(scene: NeckScene, draw: Draw, *, gm_gain=(-0.1, 0.35)) -> None:
    """The cord in its canal, its gray matter brighter or darker."""
    maps = F.avg_pool2d(scene.maps_of(scene.index)[:, :2] / 255, _SHRINK)
    labels = sample_mm(maps, *scene.cord, SPACING_MM * _SHRINK)
    scene.sc, scene.gm = edge(labels[:, :1] - 0.5, 0.12), labels[:, 1:]
    level = scene.white * (1 + draw.uniform("gm_gain", *gm_gain) * scene.gm)
    scene.image = scene.image + scene.sc * scene.shown * (level - scene.image)


def _paint(scene: NeckScene, cover: Tensor, level: Tensor | float) -> None:
    """Cover part of the image with tissue; its level is relative to the fluid's."""
    scene.image = scene.image + cover * (scene.fluid * level - scene.image)


@functools.cache
def _brain_slices() -> Tensor:
    """Axial brain slices (N, 3, S, S) uint8: GM, WM and brain of the MNI152 template at 2 mm.

    Slices from the pons up (Fonov et al., NeuroImage 2011): lower ones show the cord's own beginning.
    """
    maps, affine = stored_maps()
    step = slice(None, None, _BRAIN_STEP)
    stack = np.stack([maps["gm"], maps["wm"], 255 * (maps["t1"] > 51).astype(np.uint8)])[:, step, step, step]
    stack = stack[..., math.ceil((-36 - affine[2, 3]) / _BRAIN_STEP) :]
    stack = stack.transpose(3, 0, 2, 1)[stack[2].any((0, 1))]
    before = [(120 - n) // 2 for n in stack.shape[2:]]
    pad = [(b, 120 - n - b) for b, n in zip(before, stack.shape[2:])]
    return torch.from_numpy(np.pad(stack, [(0, 0), (0, 0), *pad]))


# ---- the scanner, and what the locator sees ------------------------------------


@effect("acquisition", "neck")
def ghosting(scene: NeckScene, draw: Draw, *, p=0.3, strength=(0.02, 0.25)) -> None:
    """A displaced weak copy along the phase-encoding direction."""
    on = draw.chance("on", p) * draw.uniform("strength", *strength)
    steps, along_x = draw.uniform("step", 20, 64).flatten().int().tolist(), draw.chance("along_x", 0.5).flatten()
    copies = [torch.roll(image, step, 2 if x else 1) for image, step, x in zip(scene.image, steps, along_x)]
    scene.image = scene.image + on * torch.stack(copies)


@effect("acquisition", "neck")
def resolution(scene: NeckScene, draw: Draw, *, pixel=(0.9, 1.8)) -> None:
    """Finite pixels (mm), their size its own along each axis."""
    width = torch.cat([draw.log_uniform(f"pixel_{axis}_mm", *pixel) for axis in "xy"], 1).view(-1, 2)
    scene.image = lowpass(scene.image, width.clamp(min=1.0))


@effect("acquisition", "neck")
def noise(scene: NeckScene, draw: Draw, *, snr=(5.0, 60.0)) -> None:
    """Rician noise; ``snr`` is against the signal that 40 % of the image exceeds."""
    signal = scene.image.flatten(1).quantile(0.6, dim=1).view(-1, 1, 1, 1).clamp(min=0.05)
    sd = signal / draw.log_uniform("snr", *snr)
    real, imaginary = (sd * torch.randn(scene.image.shape, generator=draw.gen) for _ in range(2))
    scene.image = rician(scene.image, real, imaginary)


@effect("view", "neck", required=True)
def window(scene: NeckScene, draw: Draw, *, p=0.45) -> None:
    """Scans smaller than the image: a rectangle around the cord, nothing outside."""
    dx, dy = scene.x - scene.centre[0], scene.y - scene.centre[1]
    left, right, back, front = (7 + 50 * draw.uniform(side, 0, 1) ** 2 for side in ("left", "right", "back", "front"))
    inside = (dx > -left) & (dx < right) & (dy > -back) & (dy < front)
    scene.inside = torch.where(draw.chance("on", p) > 0, inside.float(), torch.ones_like(dx))


@effect("view", "neck", required=True)
def heat(scene: NeckScene, draw: Draw, *, sd_mm=3.0) -> None:
    """What the locator learns: a Gaussian on the cord, nothing where none is in view."""
    away = torch.hypot(scene.x - scene.centre[0], scene.y - scene.centre[1])
    near = (away < 2.5).float()
    share = (near * scene.inside).sum((1, 2, 3)) / near.sum((1, 2, 3)).clamp(min=1)
    seen = (share > 0.9).float().view(-1, 1, 1, 1)
    scene.target = torch.exp(-(away**2) / (2 * sd_mm**2)) * scene.shown * seen
