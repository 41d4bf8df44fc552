"""Random fields and grids that the simulators share. Every draw comes from one generator."""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from sctseg7t.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Base of the simulators' settings: named ranges and probabilities with defaults."""

    @classmethod
    def from_dict(cls, values):
        """Build from a recipe file's ``simulation`` object; InputError on an unknown name."""
        known = {f.name for f in fields(cls)}
        wrong = sorted(set(values) - known)
        if wrong:
            raise InputError(f"simulation recipe: unknown name {wrong[0]!r}; known: {', '.join(sorted(known))}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def uniform(gen, low, high, *shape):
    """Uniform draws in [low, high) of the given shape."""
    return low + (high - low) * torch.rand(*shape, generator=gen)


def normal(gen, sd, *shape):
    """Zero-mean normal draws with standard deviation ``sd``."""
    return sd * torch.randn(*shape, generator=gen)


def chance(gen, probability, count):
    """A (count, 1, 1, 1) float mask that is 1 with the given probability."""
    return (torch.rand(count, 1, 1, 1, generator=gen) < probability).float()


def smooth_noise(gen, count, nodes, size, channels=1):
    """Smooth noise of about unit SD: a coarse grid of normal draws, bicubically enlarged.

    Returns (count, channels, size, size).
    """
    coarse = torch.randn(count, channels, nodes, nodes, generator=gen)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def pixel_grid_mm(size, spacing_mm):
    """Centred pixel coordinates in mm: (x, y), each (1, 1, size, size); row index is y."""
    axis = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * spacing_mm
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x[None, None], y[None, None]


def sample_mm(images, x_mm, y_mm, spacing_mm, mode="bilinear", padding="zeros"):
    """Sample (N, C, S, S) images of a spacing at positions in mm from their centre."""
    half = images.shape[-1] / 2 * spacing_mm
    grid = torch.cat([x_mm, y_mm], 1).permute(0, 2, 3, 1) / half
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def lowpass(images, width_px):
    """Band-limit as an MRI acquisition of coarser pixels does (a cut in k-space).

    Parameters
    ----------
    images : (N, C, S, S) tensor
    width_px : (N, 2) tensor
        Acquired pixel size along (x, y) in units of the image's pixel, >= 1.

    Notes
    -----
    The cut has a slightly rounded edge (a Fermi window, as scanners apply), so the
    Gibbs ringing left at sharp borders has a realistic strength.
    """
    size = images.shape[-1]
    freq = torch.fft.fftfreq(size)
    cut_x, cut_y = (0.5 / width_px).unbind(1)
    fall = 0.02
    win_x = torch.sigmoid((cut_x[:, None] - freq.abs()[None]) / (fall * cut_x[:, None] * 4))
    win_y = torch.sigmoid((cut_y[:, None] - freq.abs()[None]) / (fall * cut_y[:, None] * 4))
    window = win_y[:, None, :, None] * win_x[:, None, None, :]
    return torch.fft.ifft2(torch.fft.fft2(images) * window).real


def rotate(x, y, angle_rad):
    """Rotate coordinates by (N, 1, 1, 1) angles."""
    c, s = torch.cos(angle_rad), torch.sin(angle_rad)
    return c * x + s * y, c * y - s * x


def closed_contour(gen, x, y, semi_x, semi_y, roughness=0.05, triangle=0.0, orders=(2, 3, 4)):
    """Signed distance (mm, positive inside, approximate) to a random closed contour.

    An ellipse whose radius is modulated by low-order harmonics; ``triangle`` adds the
    rounded-triangle shape that the vertebral canal has, apex posterior.
    """
    n = x.shape[0]
    radius = torch.sqrt((x / semi_x) ** 2 + (y / semi_y) ** 2 + 1e-6)
    theta = torch.atan2(y / semi_y, x / semi_x)
    wave = triangle * torch.cos(3 * (theta - math.pi / 2 + math.pi / 3))
    for k in orders:
        phase = uniform(gen, 0, 2 * math.pi, n, 1, 1, 1)
        wave = wave + normal(gen, roughness / (k - 1), n, 1, 1, 1) * torch.cos(k * theta + phase)
    scale = torch.sqrt(x**2 + y**2 + 1e-6) / radius
    return (1 + wave - radius) * scale


def edge(distance_mm, softness_mm=0.12):
    """Fraction inside a border at distance zero."""
    return torch.sigmoid(distance_mm / softness_mm)


def segment_distance(x, y, ax, ay, bx, by):
    """Distance of positions to the segment from a to b."""
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy).clamp(min=1e-8)).clamp(0, 1)
    return torch.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 + 1e-8)
