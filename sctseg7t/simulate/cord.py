"""Simulated axial T2*-weighted windows around the cord, with partial-volume labels.

A batch goes through four rooms, each a few named effects: anatomy (which labels,
how deformed), contrast (what each tissue looks like), acquisition (resolution,
ghosts, noise) and standardisation (as inference does it). Every number is drawn from one
seeded generator, so ``batch(n, seed)`` is replayable.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

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


@dataclass(frozen=True)
class CordRecipe(Recipe):
    """Ranges and probabilities of the effects. Lengths in mm, angles in degrees.

    Pairs are uniform ranges unless the name ends in ``_sd`` or ``_p`` (probability).
    """

    source_weights: dict = None
    scale: tuple = (0.86, 1.34)
    aspect: tuple = (0.84, 1.2)
    rotation_sd: float = 9.0
    shear_sd: float = 0.07
    shift: float = 2.0
    far_shift_p: float = 0.2
    far_shift: float = 4.5
    warp_coarse_sd: float = 0.45
    warp_fine_sd: float = 0.13
    gm_warp_sd: float = 0.13
    gm_scale_sd: float = 0.05
    gm_level: tuple = (0.38, 0.6)
    canal_x: tuple = (8.0, 13.5)
    canal_y: tuple = (6.0, 10.0)
    canal_shift: tuple = (-1.2, 2.6)
    iso_csf_p: float = 0.16
    dark_csf_p: float = 0.06
    gm_gain: tuple = (0.05, 0.34)
    dark_gm_p: float = 0.04
    flat_gm_p: float = 0.05
    tract_sd: float = 0.035
    lesion_p: float = 0.25
    pixel: tuple = (0.17, 0.9)
    thickness: tuple = (1.0, 7.0)
    tilt_sd: float = 6.0
    interpolated_p: float = 0.35
    bias_sd: float = 0.28
    ghost_p: float = 0.25
    motion_p: float = 0.2
    dropout_p: float = 0.2
    snr: tuple = (10.0, 90.0)
    gamma: tuple = (0.7, 1.4)
    fov_cut_p: float = 0.06


@dataclass(frozen=True)
class CordBatch:
    """image (N, 1, S, S) z-scored; target (N, 2, S, S) SC and GM fractions; inside (N, 1, S, S)."""

    image: torch.Tensor
    target: torch.Tensor
    inside: torch.Tensor


class CordSimulator:
    """Draws batches of simulated cord windows.

    Parameters
    ----------
    bank : AnatomyBank
    recipe : CordRecipe
    size : int
        Window size in pixels of 0.17578125 mm.
    """

    def __init__(self, bank, recipe=CordRecipe(), size=128):
        self.recipe, self.size = recipe, size
        self.maps = torch.from_numpy(bank.maps)
        self.stack = torch.from_numpy(np.asarray(bank.stack))
        self.step_mm = torch.from_numpy(np.asarray(bank.step_mm))
        self.weights = slice_weights(bank, recipe.source_weights)
        self.x, self.y = pixel_grid_mm(size, SPACING_MM)

    def batch(self, count, seed):
        """Simulate ``count`` windows; the same seed gives the same windows."""
        gen = torch.Generator().manual_seed(int(seed))
        with torch.no_grad():
            frame = self._place(gen, count)
            labels = self._labels(gen, count, frame)
            image = self._contrast(gen, count, frame, labels)
            image, inside = self._acquire(gen, image, frame)
        return CordBatch(_zscore(image, inside), labels["target"], inside)

    # ---- anatomy -------------------------------------------------------------

    def _place(self, gen, n, drift_mm=(0.0, 0.0)):
        """Cord coordinates (mm) of every pixel: shift, rotation, shear, scale, warps."""
        r = self.recipe
        far = chance(gen, r.far_shift_p, n)
        reach = r.shift + far * (r.far_shift - r.shift)
        cx, cy = (uniform(gen, -1, 1, n, 1, 1, 1) * reach + d for d in drift_mm)
        angle = normal(gen, math.radians(r.rotation_sd), n, 1, 1, 1)
        x, y = rotate(self.x - cx, self.y - cy, angle)
        x = x + normal(gen, r.shear_sd, n, 1, 1, 1) * y
        # The surroundings follow the cord's place and turn, not its own deformation.
        canal_xy = (x, y)
        scale = uniform(gen, *r.scale, n, 1, 1, 1)
        aspect = uniform(gen, *r.aspect, n, 1, 1, 1).sqrt()
        for nodes, sd in ((5, r.warp_coarse_sd), (10, r.warp_fine_sd)):
            x = x + sd * uniform(gen, 0, 1, n, 1, 1, 1) * smooth_noise(gen, n, nodes, self.size)
            y = y + sd * uniform(gen, 0, 1, n, 1, 1, 1) * smooth_noise(gen, n, nodes, self.size)
        return {"cord": (x / scale / aspect, y / scale * aspect), "canal": canal_xy, "scale": scale}

    def _labels(self, gen, n, frame, index=None):
        """Fine tissue fractions, averaged over the slice thickness (tilt and neighbours)."""
        r = self.recipe
        drawn = torch.multinomial(self.weights, n, replacement=True, generator=gen)
        index = drawn if index is None else index
        thickness = uniform(gen, *r.thickness, n)
        tilt = normal(gen, math.tan(math.radians(r.tilt_sd)), 2, n, 1, 1, 1)
        level = {"SC": 0.5, "GM": uniform(gen, *r.gm_level, n, 1, 1, 1)}
        x, y = frame["cord"]
        gm_scale = 1 + normal(gen, r.gm_scale_sd, 2, n, 1, 1, 1)
        gm_x = x * gm_scale[0] + r.gm_warp_sd * smooth_noise(gen, n, 9, self.size)
        gm_y = y * gm_scale[1] + r.gm_warp_sd * smooth_noise(gen, n, 9, self.size)
        sc = gm = 0
        depths = (-0.35, 0.0, 0.35)
        for depth in depths:
            away = depth * thickness
            near = self._neighbour(index, away)
            maps = self.maps[near].float()
            dx, dy = away.view(-1, 1, 1, 1) * tilt[0], away.view(-1, 1, 1, 1) * tilt[1]
            sc_k = _sharpen(sample_mm(maps[:, :1] / 255, x + dx, y + dy, SPACING_MM), level["SC"])
            gm_k = _sharpen(sample_mm(maps[:, 1:2] / 255, gm_x + dx, gm_y + dy, SPACING_MM), level["GM"])
            sc, gm = sc + sc_k / len(depths), gm + torch.minimum(gm_k, sc_k) / len(depths)
            if depth == 0.0:
                regions = sample_mm(maps[:, 2:3], x, y, SPACING_MM, mode="nearest").long()
        return {"SC": sc, "GM": gm, "target": torch.cat([sc, gm], 1), "regions": regions, "gm_y": gm_y}

    def _neighbour(self, index, away_mm):
        step = torch.round(away_mm / self.step_mm[index]).long()
        near = (index + step).clamp(0, len(self.maps) - 1)
        return torch.where(self.stack[near] == self.stack[index], near, index)

    # ---- contrast ------------------------------------------------------------

    def _contrast(self, gen, n, frame, labels):
        """Noise-free fine image of the slice."""
        r, sc, gm = self.recipe, labels["SC"], labels["GM"]
        white = uniform(gen, 0.2, 0.6, n, 1, 1, 1)
        gain = white * uniform(gen, *r.gm_gain, n, 1, 1, 1)
        gain = torch.where(chance(gen, r.dark_gm_p, n) > 0, -0.7 * gain, gain)
        gain = torch.where(chance(gen, r.flat_gm_p, n) > 0, 0.25 * gain, gain)
        fluid = self._fluid_level(gen, n, white)
        cord = white * (1 + self._tracts(gen, n, labels["regions"])) + gain * gm / sc.clamp(min=0.05)
        cord = self._cord_details(gen, n, frame, labels, cord, white, fluid)
        around = self._surroundings(gen, n, frame, sc, white, fluid)
        image = sc * cord + (1 - sc) * around
        texture = 1 + uniform(gen, 0, 0.05, n, 1, 1, 1) * smooth_noise(gen, n, 28, self.size)
        return (image * texture).clamp(min=0.0)

    def _fluid_level(self, gen, n, white):
        """CSF: mostly brighter than the cord; sometimes its equal, sometimes dark."""
        r = self.recipe
        fluid = white * uniform(gen, 1.1, 2.7, n, 1, 1, 1)
        iso = white * uniform(gen, 0.97, 1.3, n, 1, 1, 1)
        dark = white * uniform(gen, 0.15, 0.8, n, 1, 1, 1)
        fluid = torch.where(chance(gen, r.iso_csf_p, n) > 0, iso, fluid)
        return torch.where(chance(gen, r.dark_csf_p, n) > 0, dark, fluid)

    def _tracts(self, gen, n, regions):
        """Slight contrast between the white matter tracts, and a smooth drift."""
        table = normal(gen, self.recipe.tract_sd, n, 256)
        table[:, 0] = 0
        local = torch.gather(table, 1, regions.view(n, -1)).view(regions.shape)
        drift = uniform(gen, 0, 0.05, n, 1, 1, 1) * smooth_noise(gen, n, 4, self.size)
        return local + drift

    def _cord_details(self, gen, n, frame, labels, cord, white, fluid):
        """Pial rim, anterior fissure, posterior septum, central canal, MS lesions."""
        sc, gm, (x, y) = labels["SC"], labels["GM"], frame["cord"]
        rim = (4 * sc * (1 - sc)) * normal(gen, 0.12, n, 1, 1, 1)
        width = uniform(gen, 0.12, 0.3, n, 1, 1, 1)
        front = edge(y - uniform(gen, 0.6, 1.4, n, 1, 1, 1), 0.2)
        back = edge(-y - uniform(gen, 0.8, 1.8, n, 1, 1, 1), 0.2)
        fissure = torch.exp(-((x / width) ** 2)) * front
        toward = torch.where(chance(gen, 0.5, n) > 0, fluid - white, -0.4 * white)
        fissure = fissure * toward * uniform(gen, 0, 0.7, n, 1, 1, 1)
        septum = torch.exp(-((x / width) ** 2)) * back * white * normal(gen, 0.08, n, 1, 1, 1)
        middle = torch.exp(-((x**2 + (y - 0.2) ** 2) / uniform(gen, 0.05, 0.2, n, 1, 1, 1)))
        middle = middle * white * normal(gen, 0.15, n, 1, 1, 1)
        cord = cord + white * rim + fissure + septum + middle
        has = chance(gen, self.recipe.lesion_p, n)
        for _ in range(2):
            lx, ly = uniform(gen, -5.5, 5.5, n, 1, 1, 1), uniform(gen, -3.5, 3.5, n, 1, 1, 1)
            blob = closed_contour(gen, x - lx, y - ly, *uniform(gen, 0.6, 2.6, 2, n, 1, 1, 1), 0.15)
            lift = white * uniform(gen, 0.05, 0.45, n, 1, 1, 1)
            cord = cord + has * chance(gen, 0.6, n) * edge(blob, 0.25) * lift * (1 - 0.6 * gm)
        return cord

    def _surroundings(self, gen, n, frame, sc, white, fluid):
        """CSF with roots and vessels, dura, epidural tissue, vertebra and muscle."""
        r, (x, y) = self.recipe, frame["canal"]
        room = frame["scale"].clamp(min=0.9)
        semi_x, semi_y = (uniform(gen, *v, n, 1, 1, 1) * room for v in (r.canal_x, r.canal_y))
        oy = uniform(gen, *r.canal_shift, n, 1, 1, 1)
        ox = normal(gen, 0.6, n, 1, 1, 1)
        triangle = uniform(gen, 0, 0.1, n, 1, 1, 1)
        canal = closed_contour(gen, x - ox, y - oy, semi_x, semi_y, 0.05, triangle)
        # CSF always leaves a thin layer around the cord, as far as the cord reaches.
        layer = torch.nn.functional.avg_pool2d(sc, 9, 1, 4)
        in_canal = torch.maximum(edge(canal), edge((layer - uniform(gen, 0.03, 0.3, n, 1, 1, 1)) * 2, 0.1))

        csf = fluid * (1 + uniform(gen, 0, 0.12, n, 1, 1, 1) * smooth_noise(gen, n, 6, self.size))
        csf = self._roots(gen, n, frame, csf, white)
        outside = self._outside(gen, n, x, y, fluid)
        thick = uniform(gen, 0.15, 0.8, n, 1, 1, 1)
        ring = torch.exp(-((canal / thick) ** 2)) * chance(gen, 0.75, n)
        level = fluid * uniform(gen, 0.05, 0.7, n, 1, 1, 1)
        epidural = edge(canal + uniform(gen, 0.5, 3.5, n, 1, 1, 1)) * chance(gen, 0.5, n)
        outside = outside + epidural * (fluid * uniform(gen, 0.1, 1.3, n, 1, 1, 1) - outside)
        image = in_canal * csf + (1 - in_canal) * outside
        ring = ring * (1 - edge((layer - 0.02) * 3, 0.05))
        return image + ring * (level - image)

    def _roots(self, gen, n, frame, csf, white):
        """Nerve roots, ligaments (lines) and vessels (dots) in the CSF."""
        x, y = frame["cord"]
        for side in (-1, 1):
            for front in (-1, 1):
                ax, ay = side * uniform(gen, 2.5, 4.5, n, 1, 1, 1), front * uniform(gen, 1.8, 3.2, n, 1, 1, 1)
                bx = side * uniform(gen, 6.5, 11, n, 1, 1, 1)
                by = ay + uniform(gen, -3.5, 3.5, n, 1, 1, 1)
                near = _segment_distance(x, y, ax, ay, bx, by)
                line = torch.exp(-((near / uniform(gen, 0.15, 0.5, n, 1, 1, 1)) ** 2))
                level = white * uniform(gen, 0.5, 1.3, n, 1, 1, 1)
                line = line * uniform(gen, 0, 0.9, n, 1, 1, 1) * chance(gen, 0.6, n)
                csf = csf + line * (level - csf)
        for _ in range(4):
            angle = uniform(gen, 0, 2 * math.pi, n, 1, 1, 1)
            away = uniform(gen, 1.0, 1.4, n, 1, 1, 1)
            dx, dy = x - 6.0 * away * torch.cos(angle), y - 4.2 * away * torch.sin(angle)
            dot = torch.exp(-(dx**2 + dy**2) / uniform(gen, 0.04, 0.35, n, 1, 1, 1))
            csf = csf + dot * chance(gen, 0.5, n) * (white * uniform(gen, 0.0, 2.5, n, 1, 1, 1) - csf)
        return csf

    def _outside(self, gen, n, x, y, fluid):
        """Bone, discs, ligaments, fat and muscle: piecewise smooth random tissues."""
        tissue = fluid * uniform(gen, 0.05, 0.9, n, 1, 1, 1).expand(n, 1, self.size, self.size)
        for nodes in (4, 6, 9, 13):
            part = edge(smooth_noise(gen, n, nodes, self.size) - uniform(gen, -0.6, 1.0, n, 1, 1, 1), 0.12)
            level = fluid * uniform(gen, 0.0, 1.25, n, 1, 1, 1)
            tissue = tissue + part * chance(gen, 0.8, n) * (level - tissue)
        body = closed_contour(gen, x, y - uniform(gen, 13, 20, n, 1, 1, 1), 11.0, 8.0, 0.06)
        level = fluid * uniform(gen, 0.05, 1.0, n, 1, 1, 1)
        return tissue + edge(body, 0.3) * chance(gen, 0.5, n) * (level - tissue)

    # ---- acquisition ---------------------------------------------------------

    def _acquire(self, gen, image, frame):
        """What the network sees of the slice: scanned, then resampled as inference does."""
        n = len(image)
        stored, pixel_xy, phase = self._scan(gen, image, frame)
        back_x = (self.x - phase[:, 0].view(n, 1, 1, 1)) / pixel_xy[:, 0].view(n, 1, 1, 1)
        back_y = (self.y - phase[:, 1].view(n, 1, 1, 1)) / pixel_xy[:, 1].view(n, 1, 1, 1)
        image = sample_mm(stored, back_x, back_y, 1.0, padding="border")
        image = image / image.flatten(1).amax(1).view(n, 1, 1, 1).clamp(min=1e-6)
        image = image.clamp(min=0) ** uniform(gen, *self.recipe.gamma, n, 1, 1, 1)
        return image, self._field_of_view(gen, n)

    def _scan(self, gen, image, frame, noise_gen=None):
        """Bias, drop-out, motion, ghosts, finite pixels, Rician noise: the stored image.

        Returns the image (N, 1, P, P) on the scanner's own pixels, their size (N, 2) and the
        place of the grid's centre (N, 2), both in mm along (x, y).
        """
        r, n, size = self.recipe, len(image), self.size
        image = image * torch.exp(r.bias_sd * uniform(gen, 0, 1, n, 1, 1, 1) * smooth_noise(gen, n, 3, size))
        image = self._dropout(gen, n, frame, image)
        image = self._ghost(gen, n, image)
        image = self._motion(gen, n, image)

        low, high = (math.log(v) for v in r.pixel)
        pixel = torch.exp(uniform(gen, low, high, n))
        pixel_xy = torch.stack([pixel, pixel * torch.exp(normal(gen, 0.05, n))], 1)
        # Scanners often interpolate: acquired pixels are then larger than the stored ones.
        zoom = 1 + chance(gen, r.interpolated_p, n).view(n, 1) * uniform(gen, 0.3, 1.0, n, 1)
        acquired = (pixel_xy * zoom).clamp(max=max(0.95, r.pixel[1]))
        image = lowpass(image, (acquired / SPACING_MM).clamp(min=1.0))
        phase = uniform(gen, -0.5, 0.5, n, 2) * pixel_xy
        stored_x, stored_y = self._stored_grid(pixel_xy, phase)
        stored = _box_sample(image, stored_x, stored_y, pixel_xy)
        return self._noise(noise_gen or gen, n, stored, acquired / pixel_xy), pixel_xy, phase

    def _stored_grid(self, pixel_xy, phase):
        """Positions (mm) of the stored pixels: a grid of whole pixels that covers the window."""
        n = len(pixel_xy)
        px = torch.arange(self.size + 8, dtype=torch.float32) - (self.size + 7) / 2
        sx = (px[None] * pixel_xy[:, :1] + phase[:, :1]).view(n, 1, 1, -1)
        sy = (px[None] * pixel_xy[:, 1:] + phase[:, 1:]).view(n, 1, -1, 1)
        shape = (n, 1, self.size + 8, self.size + 8)
        return sx.expand(shape), sy.expand(shape)

    def _dropout(self, gen, n, frame, image):
        """Signal loss by susceptibility near bone and air."""
        x, y = frame["canal"]
        angle = uniform(gen, 0, 2 * math.pi, n, 1, 1, 1)
        far = uniform(gen, 4.5, 10, n, 1, 1, 1)
        spot = (x - far * torch.cos(angle)) ** 2 + (y - far * torch.sin(angle)) ** 2
        loss = torch.exp(-spot / uniform(gen, 2, 20, n, 1, 1, 1)) * uniform(gen, 0.2, 0.8, n, 1, 1, 1)
        return image * (1 - loss * chance(gen, self.recipe.dropout_p, n))

    def _ghost(self, gen, n, image):
        """Displaced weak copies along the phase-encoding direction."""
        has = chance(gen, self.recipe.ghost_p, n) * uniform(gen, 0.02, 0.2, n, 1, 1, 1)
        along_x = chance(gen, 0.5, n)
        step = int(uniform(gen, 12, 64, 1))
        copy = along_x * torch.roll(image, step, 3) + (1 - along_x) * torch.roll(image, step, 2)
        return image + has * copy

    def _motion(self, gen, n, image):
        """Cord motion during the acquisition: a blend with slightly shifted positions."""
        has = chance(gen, self.recipe.motion_p, n)
        dx, dy = (normal(gen, 0.35, n, 1, 1, 1) * has for _ in range(2))
        moved = sample_mm(image, self.x + dx, self.y + dy, SPACING_MM, padding="border")
        return 0.6 * image + 0.4 * moved

    def _noise(self, gen, n, stored, smoothing):
        """Rician noise on the stored grid, smoothed where the scanner interpolated."""
        signal = stored.flatten(1).quantile(0.5, dim=1).view(n, 1, 1, 1)
        low, high = (math.log(v) for v in self.recipe.snr)
        sd = signal / torch.exp(uniform(gen, low, high, n, 1, 1, 1))
        real = torch.randn(stored.shape, generator=gen)
        imag = torch.randn(stored.shape, generator=gen)
        both = lowpass(torch.cat([real, imag]), smoothing.clamp(min=1.0).repeat(2, 1))
        both = both / both.std((1, 2, 3), keepdim=True)
        real, imag = both[:n], both[n:]
        local = 1 + 0.3 * smooth_noise(gen, n, 3, stored.shape[-1])
        return torch.sqrt((stored + sd * local * real) ** 2 + (sd * local * imag) ** 2)

    def _field_of_view(self, gen, n):
        """Sometimes the image ends inside the window."""
        inside = torch.ones(n, 1, self.size, self.size)
        has = chance(gen, self.recipe.fov_cut_p, n)
        limit = uniform(gen, 5.5, 10.5, n, 1, 1, 1)
        angle = torch.floor(uniform(gen, 0, 4, n, 1, 1, 1)) * (math.pi / 2)
        beyond = (self.x * torch.cos(angle) + self.y * torch.sin(angle)) > limit
        return inside * (1 - has * beyond.float())


def _sharpen(probability, level, width=0.09):
    """A crisp fraction from a probability map, its outline at ``level``; 0 and 1 stay so."""
    level = torch.as_tensor(level)
    low, high = torch.sigmoid(-level / width), torch.sigmoid((1 - level) / width)
    return ((torch.sigmoid((probability - level) / width) - low) / (high - low)).clamp(0, 1)


def _segment_distance(x, y, ax, ay, bx, by):
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return torch.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 + 1e-8)


def _box_sample(image, x_mm, y_mm, pixel_xy):
    """Sample with a light box average (2 x 2 sub-points), the footprint of a stored pixel."""
    n, total = len(image), 0
    for fx in (-0.25, 0.25):
        for fy in (-0.25, 0.25):
            ox = (fx * pixel_xy[:, 0]).view(n, 1, 1, 1)
            oy = (fy * pixel_xy[:, 1]).view(n, 1, 1, 1)
            total = total + sample_mm(image, x_mm + ox, y_mm + oy, SPACING_MM, padding="reflection")
    return total / 4


def _zscore(image, inside):
    """Zero mean and unit SD over the pixels inside the image; zero outside."""
    count = inside.sum((1, 2, 3), keepdim=True)
    mean = (image * inside).sum((1, 2, 3), keepdim=True) / count
    var = (((image - mean) * inside) ** 2).sum((1, 2, 3), keepdim=True) / count
    return (image - mean) / torch.sqrt(var + 1e-8) * inside
