"""Simulated whole axial slices at 1 mm, to train the locator: where in this image is the cord?

The cord and its canal come from the anatomy bank; the neck around them is drawn: outline, fat,
vertebra, vessels, airways, muscles, air. Some images are windows cut close to the cord, some
hold no cord at all (plain tissue, a brain, noise): the locator must then stay silent.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from sctseg7t.simulate.anatomy import SPACING_MM, slice_weights
from sctseg7t.simulate.fields import (
    Recipe,
    chance,
    closed_contour,
    edge,
    lowpass,
    normal,
    pixel_grid_mm,
    rotate,
    sample_mm,
    smooth_noise,
    uniform,
)

_SHRINK = 3
BRAIN_SPACING_MM = 2.0


@dataclass(frozen=True)
class NeckRecipe(Recipe):
    """Ranges and probabilities. Lengths in mm, angles in degrees."""

    source_weights: dict = None
    heat_sd: float = 3.0
    scale: tuple = (0.8, 1.4)
    aspect: tuple = (0.8, 1.25)
    rotation: float = 25.0
    upside_down_p: float = 0.08
    canal_x: tuple = (7.5, 13.5)
    canal_y: tuple = (5.5, 10.0)
    window_p: float = 0.45
    empty_p: float = 0.33
    iso_csf_p: float = 0.15
    dark_csf_p: float = 0.15
    bias_sd: float = 0.6
    ghost_p: float = 0.3
    pixel: tuple = (0.9, 1.8)
    snr: tuple = (5.0, 60.0)
    gamma: tuple = (0.6, 1.6)


@dataclass(frozen=True)
class NeckBatch:
    """image (N, 1, S, S), percentile-scaled, zero outside the scan; target (N, 1, S, S) heat map."""

    image: torch.Tensor
    target: torch.Tensor


class NeckSimulator:
    """Draws batches of simulated whole slices of 1 mm pixels."""

    def __init__(self, bank, recipe=NeckRecipe(), size=128):
        self.recipe, self.size = recipe, size
        self.maps = torch.from_numpy(np.ascontiguousarray(bank.maps[:, :2]))
        self.weights = slice_weights(bank, recipe.source_weights)
        self.brain = torch.from_numpy(_brain_maps())
        self.x, self.y = pixel_grid_mm(size, 1.0)

    def batch(self, count, seed):
        """Simulate ``count`` slices; the same seed gives the same slices."""
        gen = torch.Generator().manual_seed(int(seed))
        with torch.no_grad():
            place = self._place(gen, count)
            image = self._tissue(gen, count, place)
            image = self._acquire(gen, count, image)
            inside = self._window(gen, count, place)
            heat = torch.exp(
                -((self.x - place["cx"]) ** 2 + (self.y - place["cy"]) ** 2) / (2 * self.recipe.heat_sd**2)
            )
            seen = self._cord_in_view(place, inside)
            image = _percentile_scale(image, inside)
        return NeckBatch(image, heat * (1 - place["empty"]) * seen)

    def _place(self, gen, n):
        r, half = self.recipe, self.size / 2
        cx, cy = (uniform(gen, -1, 1, n, 1, 1, 1) * (half - 6) for _ in range(2))
        angle = math.radians(r.rotation) * uniform(gen, -1, 1, n, 1, 1, 1)
        angle = angle + math.pi * chance(gen, r.upside_down_p, n)
        x, y = rotate(self.x - cx, self.y - cy, angle)
        x, y = (v + 0.8 * smooth_noise(gen, n, 9, self.size) for v in (x, y))
        return {"cx": cx, "cy": cy, "x": x, "y": y, "empty": chance(gen, r.empty_p, n)}

    def _tissue(self, gen, n, place):
        """Noise-free slice: neck, then vertebra, canal and cord drawn over it."""
        r, x, y = self.recipe, place["x"], place["y"]
        scale = uniform(gen, *r.scale, n, 1, 1, 1)
        aspect = uniform(gen, *r.aspect, n, 1, 1, 1).sqrt()
        white = uniform(gen, 0.2, 0.6, n, 1, 1, 1)
        fluid = white * uniform(gen, 1.15, 2.8, n, 1, 1, 1)
        fluid = torch.where(chance(gen, r.iso_csf_p, n) > 0, white * uniform(gen, 0.95, 1.3, n, 1, 1, 1), fluid)
        fluid = torch.where(chance(gen, r.dark_csf_p, n) > 0, white * uniform(gen, 0.1, 0.8, n, 1, 1, 1), fluid)
        index = torch.multinomial(self.weights, n, replacement=True, generator=gen)
        maps = F.avg_pool2d(self.maps[index].float() / 255, _SHRINK)
        labels = sample_mm(maps, x / scale / aspect, y / scale * aspect, SPACING_MM * _SHRINK)
        sc, gm = edge(labels[:, :1] - 0.5, 0.12), labels[:, 1:]

        image = self._neck(gen, n, x, y, fluid)
        image = self._without_cord(gen, n, place, image, fluid)
        lift = uniform(gen, 9, 17, n, 1, 1, 1)
        bone = closed_contour(gen, x, y - lift, *uniform(gen, 7, 13, 2, n, 1, 1, 1), 0.06)
        image = _paint(image, edge(bone, 0.6) * chance(gen, 0.8, n), fluid * uniform(gen, 0.05, 0.9, n, 1, 1, 1))
        room = scale.clamp(min=0.9)
        semi = [uniform(gen, *v, n, 1, 1, 1) * room for v in (r.canal_x, r.canal_y)]
        oy = uniform(gen, -1.2, 2.4, n, 1, 1, 1)
        canal = closed_contour(
            gen, x - normal(gen, 0.6, n, 1, 1, 1), y - oy, *semi, 0.05, uniform(gen, 0, 0.1, n, 1, 1, 1)
        )
        shown = 1 - place["empty"]
        ring = edge(canal + uniform(gen, 0.3, 3.0, n, 1, 1, 1), 0.4) * shown * chance(gen, 0.85, n)
        image = _paint(image, ring, fluid * uniform(gen, 0.02, 0.8, n, 1, 1, 1))
        image = _paint(image, edge(canal, 0.4) * shown, fluid)
        cord = white * (1 + uniform(gen, -0.1, 0.35, n, 1, 1, 1) * gm)
        return _paint(image, sc * shown, cord)

    def _neck(self, gen, n, x, y, fluid):
        """Outline, fat rim, muscles, vessels and airways; or a brain; or no neck at all."""
        size = self.size
        tissue = fluid * uniform(gen, 0.05, 0.9, n, 1, 1, 1).expand(n, 1, size, size)
        for nodes in (5, 8, 12, 18):
            part = edge(smooth_noise(gen, n, nodes, size) - uniform(gen, -0.5, 1.0, n, 1, 1, 1), 0.15)
            tissue = _paint(tissue, part * chance(gen, 0.8, n), fluid * uniform(gen, 0.0, 1.3, n, 1, 1, 1))
        for _ in range(6):
            px, py = uniform(gen, -50, 50, n, 1, 1, 1), uniform(gen, -50, 60, n, 1, 1, 1)
            disc = closed_contour(gen, x - px, y - py, *uniform(gen, 1.5, 10, 2, n, 1, 1, 1), 0.1)
            inner = edge(disc - uniform(gen, 0.5, 4, n, 1, 1, 1), 0.5) * chance(gen, 0.3, n)
            free = edge(torch.hypot(px, py) - 22, 1.0)
            tissue = _paint(
                tissue, edge(disc, 0.5) * free * chance(gen, 0.5, n), fluid * uniform(gen, 0.0, 1.6, n, 1, 1, 1)
            )
            tissue = _paint(tissue, inner * free, fluid * uniform(gen, 0.0, 1.3, n, 1, 1, 1))
        neck = closed_contour(
            gen,
            x - normal(gen, 8, n, 1, 1, 1),
            y - uniform(gen, -15, 25, n, 1, 1, 1),
            *uniform(gen, 42, 95, 2, n, 1, 1, 1),
            0.06,
        )
        fat = edge(-(neck - uniform(gen, 2, 14, n, 1, 1, 1)), 0.6) * chance(gen, 0.7, n)
        tissue = _paint(tissue, fat, fluid * uniform(gen, 0.1, 1.6, n, 1, 1, 1))
        outline = edge(neck, 0.5) + (1 - edge(neck, 0.5)) * chance(gen, 0.25, n)
        return tissue * outline

    def _without_cord(self, gen, n, place, image, fluid):
        """Of the slices that hold no cord, turn half into a brain and some into pure noise."""
        x, y, empty = place["x"], place["y"], place["empty"]
        brain = empty * chance(gen, 0.5, n)
        index = torch.randint(len(self.brain), (n,), generator=gen)
        grow = uniform(gen, 0.75, 1.15, n, 1, 1, 1)
        maps = sample_mm(self.brain[index].float() / 255, x / grow, y / grow, BRAIN_SPACING_MM)
        gm, wm, inside = maps.split(1, 1)
        drawn = inside * fluid * uniform(gen, 0.05, 1.3, n, 1, 1, 1)
        for tissue in (gm, wm):
            drawn = _paint(drawn, tissue, fluid * uniform(gen, 0.1, 1.1, n, 1, 1, 1))
        skull = closed_contour(gen, x, y, *uniform(gen, 70, 95, 2, n, 1, 1, 1), 0.02)
        scalp = (edge(skull, 0.5) - edge(skull - uniform(gen, 3, 9, n, 1, 1, 1), 0.5)) * chance(gen, 0.6, n)
        drawn = _paint(drawn, scalp * (1 - inside), fluid * uniform(gen, 0.2, 1.6, n, 1, 1, 1))
        image = image + brain * (drawn - image)
        return image * (1 - empty * (1 - brain) * chance(gen, 0.25, n))

    def _acquire(self, gen, n, image):
        r, size = self.recipe, self.size
        image = image * torch.exp(r.bias_sd * uniform(gen, 0, 1, n, 1, 1, 1) * smooth_noise(gen, n, 3, size))
        ghost = chance(gen, r.ghost_p, n) * uniform(gen, 0.02, 0.25, n, 1, 1, 1)
        step = int(uniform(gen, 20, 64, 1))
        along = chance(gen, 0.5, n)
        image = image + ghost * (along * torch.roll(image, step, 3) + (1 - along) * torch.roll(image, step, 2))
        low, high = (math.log(v) for v in r.pixel)
        image = lowpass(image, torch.exp(uniform(gen, low, high, n, 2)).clamp(min=1.0))
        low, high = (math.log(v) for v in r.snr)
        signal = image.flatten(1).quantile(0.6, dim=1).view(n, 1, 1, 1).clamp(min=0.05)
        sd = signal / torch.exp(uniform(gen, low, high, n, 1, 1, 1))
        noise = [torch.randn(image.shape, generator=gen) for _ in range(2)]
        image = torch.sqrt((image + sd * noise[0]) ** 2 + (sd * noise[1]) ** 2)
        image = image / image.flatten(1).amax(1).view(n, 1, 1, 1).clamp(min=1e-6)
        return image ** uniform(gen, *r.gamma, n, 1, 1, 1)

    def _window(self, gen, n, place):
        """Scans smaller than the frame: a rectangle around the cord, zero outside."""
        cut = chance(gen, self.recipe.window_p, n)
        dx, dy = (self.x - place["cx"], self.y - place["cy"])
        left, right, back, front = (7 + 50 * uniform(gen, 0, 1, n, 1, 1, 1) ** 2 for _ in range(4))
        inside = (dx > -left) & (dx < right) & (dy > -back) & (dy < front)
        return torch.where(cut > 0, inside.float(), torch.ones_like(dx))

    def _cord_in_view(self, place, inside):
        near = (torch.hypot(self.x - place["cx"], self.y - place["cy"]) < 2.5).float()
        return ((near * inside).sum((1, 2, 3)) / near.sum((1, 2, 3)).clamp(min=1) > 0.9).float().view(-1, 1, 1, 1)


def _brain_maps():
    """Axial brain slices (N, 3, S, S) uint8: GM, WM and brain, from the MNI152 maps that nilearn ships.

    Slices from the pons up (Fonov et al., NeuroImage 2011): lower ones show the cord's own beginning.
    """
    from nilearn import datasets

    gm, wm, mask = (
        getattr(datasets, f"load_mni152_{name}")(resolution=int(BRAIN_SPACING_MM))
        for name in ("gm_template", "wm_template", "brain_mask")
    )
    first = int(np.ceil(np.linalg.inv(mask.affine).dot([0, 0, -36, 1])[2]))
    stack = np.stack([np.clip(v.get_fdata(), 0, 1) for v in (gm, wm, mask)])[..., first:]
    stack = stack.transpose(3, 0, 2, 1)[np.any(stack[2], (0, 1))]
    size = 120
    out = np.zeros((len(stack), 3, size, size), np.uint8)
    top, left = (size - stack.shape[2]) // 2, (size - stack.shape[3]) // 2
    out[:, :, top : top + stack.shape[2], left : left + stack.shape[3]] = np.rint(stack * 255)
    return out


def _paint(image, cover, level):
    return image + cover * (level - image)


def _percentile_scale(image, inside, low=0.01, high=0.99):
    """Scale by percentiles of the scanned pixels, as the locator does at inference."""
    values = torch.where(inside > 0, image, torch.nan).flatten(1)
    p_low, p_high = (torch.nanquantile(values, q, dim=1).view(-1, 1, 1, 1) for q in (low, high))
    scaled = ((image - p_low) / (p_high - p_low).clamp(min=1e-6)).clamp(-0.5, 2.0)
    return scaled * inside
