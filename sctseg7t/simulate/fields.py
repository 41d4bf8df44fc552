"""Random fields, grids and shapes in 2D that the effects of slices share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_noise(gen: torch.Generator, count: int, nodes: int, size: int) -> Tensor:
    """Smooth noise of about unit SD: a coarse grid of normal draws, bicubically enlarged.

    Returns (count, 1, size, size).
    """
    coarse = torch.randn(count, 1, nodes, nodes, generator=gen)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def pixel_grid_mm(size: int, spacing_mm: float) -> tuple[Tensor, Tensor]:
    """Centred pixel coordinates in mm: (x, y), each (1, 1, size, size); row index is y."""
    axis = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * spacing_mm
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x[None, None], y[None, None]


def sample_mm(
    images: Tensor, x_mm: Tensor, y_mm: Tensor, spacing_mm: float, mode: str = "bilinear", padding: str = "zeros"
) -> Tensor:
    """Sample (N, C, S, S) images of a spacing at positions in mm from their centre."""
    half = images.shape[-1] / 2 * spacing_mm
    grid = torch.cat([x_mm, y_mm], 1).permute(0, 2, 3, 1) / half
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def lowpass(images: Tensor, width_px: Tensor) -> Tensor:
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


def rotate(x: Tensor, y: Tensor, angle_rad: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate coordinates by (N, 1, 1, 1) angles."""
    c, s = torch.cos(angle_rad), torch.sin(angle_rad)
    return c * x + s * y, c * y - s * x


def closed_contour(
    gen: torch.Generator,
    x: Tensor,
    y: Tensor,
    semi_x: Tensor | float,
    semi_y: Tensor | float,
    roughness: float = 0.05,
    triangle: Tensor | float = 0.0,
) -> Tensor:
    """Signed distance (mm, positive inside, approximate) to a random closed contour.

    An ellipse whose radius is modulated by low-order harmonics; ``triangle`` adds the
    rounded-triangle shape that the vertebral canal has, apex posterior.
    """
    n = x.shape[0]
    radius = torch.sqrt((x / semi_x) ** 2 + (y / semi_y) ** 2 + 1e-6)
    theta = torch.atan2(y / semi_y, x / semi_x)
    wave = triangle * torch.cos(3 * (theta - math.pi / 2 + math.pi / 3))
    for k in (2, 3, 4):
        phase = 2 * math.pi * torch.rand(n, 1, 1, 1, generator=gen)
        depth = roughness / (k - 1) * torch.randn(n, 1, 1, 1, generator=gen)
        wave = wave + depth * torch.cos(k * theta + phase)
    scale = torch.sqrt(x**2 + y**2 + 1e-6) / radius
    return (1 + wave - radius) * scale


def edge(distance_mm: Tensor, softness_mm: float = 0.12) -> Tensor:
    """Fraction inside a border at distance zero."""
    return torch.sigmoid(distance_mm / softness_mm)


def rician(image: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """Magnitude of an image with noise in both channels (Gudbjartsson and Patz, MRM 1995)."""
    return torch.sqrt((image + real) ** 2 + imaginary**2)


def segment_distance(x: Tensor, y: Tensor, ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    """Distance of positions to the segment from a to b."""
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy).clamp(min=1e-8)).clamp(0, 1)
    return torch.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 + 1e-8)
