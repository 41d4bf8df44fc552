"""Acquisition: the physics between the tissue and the stored image, and the window cut from it.

Ghosts, motion and spikes are TorchIO's (Perez-Garcia et al., Comput Methods Programs Biomed 2021), given
the numbers drawn here, so that they replay.
"""

import math

import numpy as np
import torch

from sctseg7t.simulate.anatomy import SPACING_MM
from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import lowpass, sample_mm, smooth_noise
from sctseg7t.simulate.scene import CordScene, Draw, SliceScene


@effect("acquisition", "cord", "neck", neck={"sd": 0.6})
def bias(scene: SliceScene, draw: Draw, *, sd=0.28) -> None:
    """Uneven coil sensitivity and transmit field."""
    scene.image = scene.image * torch.exp(sd * draw.uniform("strength", 0, 1) * draw.noise(3))


@effect("acquisition", "cord")
def dropout(scene: CordScene, draw: Draw, *, p=0.2, loss=(0.2, 0.8)) -> None:
    """Signal loss by susceptibility near bone and air."""
    x, y = scene.canal
    angle, far = draw.uniform("angle", 0, 2 * math.pi), draw.uniform("far", 4.5, 10)
    spot = (x - far * torch.cos(angle)) ** 2 + (y - far * torch.sin(angle)) ** 2
    lost = torch.exp(-spot / draw.uniform("size", 2, 20)) * draw.uniform("loss", *loss)
    scene.image = scene.image * (1 - lost * draw.chance("on", p))


@effect("acquisition", "cord")
def ghosting(scene: CordScene, draw: Draw, *, p=0.25, ghosts=(2, 7), intensity=(0.1, 0.6)) -> None:
    """Displaced weak copies along the phase-encoding direction (TorchIO)."""
    on, along = draw.chance("on", p), draw.chance("axis", 0.5)
    number, strength = draw.uniform("ghosts", *ghosts), draw.uniform("intensity", *intensity)

    def apply(tio, k):
        return tio.Ghosting(int(number[k]), 1 + int(along[k]), float(strength[k]), restore=0.02)

    _torchio(scene, on, apply)


@effect("acquisition", "cord")
def far_ghosts(scene: CordScene, draw: Draw, *, p=0.15, strength=(0.03, 0.3)) -> None:
    """Ghosts of what lies outside the window: the skin's fat and the neck's vessels, in or out of phase."""
    along = draw.chance("along_x", 0.5) > 0
    x, y = (torch.where(along, a, b) for a, b in ((scene.x, scene.y), (scene.y, scene.x)))
    top = scene.image.flatten(1).amax(1).view(-1, 1, 1, 1)
    radius, middle = draw.uniform("radius_mm", 18, 70), draw.uniform("bow_mm", -11, 11)
    rim = x - draw.uniform("rim_mm", -11, 11) - radius + torch.sqrt((radius**2 - (y - middle) ** 2).clamp(min=0))
    ghost = torch.exp(-((rim / draw.uniform("width_mm", 0.4, 3.0)) ** 2))
    px, py = draw.uniform("vessel_x", -11, 11), draw.uniform("vessel_y", -11, 11)
    period = draw.uniform("period_mm", 4, 16)
    nearest = x - px - period * torch.round((x - px) / period)
    dots = torch.exp(-(nearest**2 + (y - py) ** 2) / draw.uniform("vessel_mm2", 0.5, 6.0))
    ghost = torch.maximum(ghost, draw.chance("vessel", 0.5) * dots)
    ghost = draw.chance("on", p) * draw.uniform("strength", *strength) * top * ghost
    phase = draw.uniform("phase", 0, math.pi)
    scene.image = torch.hypot(scene.image + ghost * torch.cos(phase), ghost * torch.sin(phase))


@effect("acquisition", "cord")
def motion(scene: CordScene, draw: Draw, *, p=0.2, shift_sd=0.6, rotation_sd=1.0, time=(0.55, 0.95)) -> None:
    """The cord moves while k-space is filled, after its centre, which keeps the labels in place (TorchIO)."""
    on, time = draw.chance("on", p), draw.uniform("time", *time)
    moves = [draw.normal(f"shift_{axis}_mm", shift_sd) / SPACING_MM for axis in "xy"]
    angle = draw.normal("angle", rotation_sd)

    def apply(tio, k):
        turn, shift = np.array([[float(angle[k]), 0.0, 0.0]]), np.array([[0.0] + [float(m[k]) for m in moves]])
        return tio.Motion(turn, shift, np.array([float(time[k])]), "linear")

    _torchio(scene, on, apply)


@effect("acquisition", "cord")
def blur(scene: CordScene, draw: Draw, *, p=0.3, sd_mm=(0.05, 0.45)) -> None:
    """Steady small motion and decay during the readout: a Gaussian blur, its width its own along each axis."""
    on = draw.chance("on", p)
    freq = torch.fft.fftfreq(scene.size, SPACING_MM).view(1, 1, 1, -1)
    fall_x, fall_y = (
        torch.exp(-2 * (math.pi * on * draw.uniform(f"sd_{axis}_mm", *sd_mm) * freq) ** 2) for axis in "xy"
    )
    spectrum = torch.fft.fft2(scene.image) * fall_x * fall_y.transpose(2, 3)
    scene.image = torch.fft.ifft2(spectrum).real.clamp(min=0)


@effect("acquisition", "cord")
def spikes(scene: CordScene, draw: Draw, *, p=0.03, intensity=(0.02, 0.12)) -> None:
    """Stripes from a spoiled point of k-space (TorchIO)."""
    on, strength = draw.chance("on", p), draw.uniform("intensity", *intensity)
    where = [draw.uniform(f"k{axis}", 0.3, 0.7) for axis in "xy"]

    def apply(tio, k):
        return tio.Spike(np.array([[0.5] + [float(w[k]) for w in where]]), float(strength[k]))

    _torchio(scene, on, apply)


def _torchio(scene, on, make):
    """Put the images that ``on`` marks through a TorchIO transform each."""
    hit = np.flatnonzero(on.flatten().numpy())
    if not hit.size:
        return
    import torchio

    image = scene.image.clone()
    for k in hit:
        # One slice with its plane in the last two axes: TorchIO fills k-space along the last.
        image[k] = make(torchio, k)(image[k, None])[0].clamp(min=0)
    scene.image = image


@effect("acquisition", "cord", required=True)
def resolution(
    scene: CordScene, draw: Draw, *, pixel=(0.17, 0.9), interpolated_p=0.35, zoom=(0.3, 1.0), anisotropy_sd=0.05
) -> None:
    """Finite pixels (mm), in a third of scans interpolated by the scanner from larger ones."""
    n = draw.count
    size = draw.log_uniform("pixel_mm", *pixel).view(n, 1)
    scene.pixel = torch.cat([size, size * torch.exp(draw.normal("anisotropy", anisotropy_sd).view(n, 1))], 1)
    larger = 1 + (draw.chance("interpolated", interpolated_p) * draw.uniform("zoom", *zoom)).view(n, 1)
    acquired = (scene.pixel * larger).clamp(max=max(0.95, pixel[1]))
    blurred = lowpass(scene.image, (acquired / SPACING_MM).clamp(min=1.0))
    scene.phase = torch.stack([draw.uniform(f"phase_{a}", -0.5, 0.5).view(n) for a in "xy"], 1) * scene.pixel
    scene.stored = _box_sample(blurred, *stored_grid(scene), scene.pixel)
    scene.smoothing = acquired / scene.pixel
    scene.noise_map = torch.ones(1, 1, 1, 1)


@effect("acquisition", "cord")
def parallel_imaging(scene: CordScene, draw: Draw, *, p=0.35, gain=(0.2, 1.5)) -> None:
    """Noise raised in bands, as unfolding an accelerated acquisition does (g-factor)."""
    size = scene.stored.shape[-1]
    along = torch.linspace(0, 1, size)
    rate, start = draw.uniform("bands", 1.0, 4.0), draw.uniform("phase", 0, 1)
    bands = torch.sin(math.pi * (rate * along.view(1, 1, 1, -1) + start)) ** 2
    bands = torch.where(draw.chance("along_y", 0.5) > 0, bands.transpose(2, 3), bands)
    scene.noise_map = 1 + draw.chance("on", p) * draw.uniform("gain", *gain) * bands


@effect("acquisition", "cord")
def noise(scene: CordScene, draw: Draw, *, snr=(10.0, 90.0), uneven=0.3, coils=1) -> None:
    """Rician noise (Gudbjartsson and Patz, MRM 1995) on the stored pixels; ``snr`` is against the median signal.

    With up to ``coils`` receivers that count as independent, summed by squares, it is noncentral chi (Constantinides
    et al., MRM 1997), which lifts dark tissue.
    """
    stored, n = scene.stored, draw.count
    signal = _median(stored.flatten(1)).view(n, 1, 1, 1)
    sd = signal / draw.log_uniform("snr", *snr)
    both = torch.randn(2 * n, *stored.shape[1:], generator=draw.gen)
    # What the scanner interpolated has smooth noise.
    both = lowpass(both, scene.smoothing.clamp(min=1.0).repeat(2, 1))
    both = both / both.std((1, 2, 3), keepdim=True)
    scene.noise_sd = sd
    local = scene.noise_map * (1 + uneven * smooth_noise(draw.gen, n, 3, stored.shape[-1]))
    power = (sd * local * both[n:]) ** 2
    if coils > 1:
        count = draw.uniform("coils", 0.5, coils + 0.5).round()
        for k in range(2, coils + 1):
            more = lowpass(torch.randn(both.shape, generator=draw.gen), scene.smoothing.clamp(min=1.0).repeat(2, 1))
            more = more / more.std((1, 2, 3), keepdim=True)
            power = power + (count >= k) * (sd * local) ** 2 * (more[:n] ** 2 + more[n:] ** 2)
    scene.stored = torch.sqrt((stored + sd * local * both[:n]) ** 2 + power)


def _median(values):
    """Median of each row, as ``quantile(0.5)`` has it in a fifth of its time."""
    middle = values.shape[1] // 2
    upper = values.kthvalue(middle + 1, 1).values
    return upper if values.shape[1] % 2 else torch.lerp(values.kthvalue(middle, 1).values, upper, 0.5)


@effect("acquisition", "cord")
def visibility(scene: CordScene, draw: Draw, *, least=0.0) -> None:
    """No GM is labelled that noise hides: its contrast to noise, over 10 mm2 of pixels, is below ``least``."""
    if not least:
        return
    pixels = 10.0 / scene.pixel.prod(1).view(-1, 1, 1, 1)
    shown = (scene.gray_contrast * pixels.sqrt() >= least * getattr(scene, "noise_sd", 0.0)).float()
    scene.target = torch.cat([scene.target[:, :1], scene.target[:, 1:] * shown], 1)


@effect("view", "cord", required=True)
def window(scene: CordScene, draw: Draw) -> None:
    """The stored image resampled to the network's grid, as inference does it."""
    n = draw.count
    back = [
        (axis - scene.phase[:, k].view(n, 1, 1, 1)) / scene.pixel[:, k].view(n, 1, 1, 1)
        for k, axis in enumerate((scene.x, scene.y))
    ]
    scene.image = sample_mm(scene.stored, *back, spacing_mm=1.0, padding="border")
    scene.inside = torch.ones(n, 1, scene.size, scene.size)


@effect("view", "cord", "neck", neck={"exponent": (0.6, 1.6)})
def gamma(scene: SliceScene, draw: Draw, *, exponent=(0.7, 1.4)) -> None:
    """Nonlinear intensities."""
    top = scene.image.flatten(1).amax(1).view(draw.count, 1, 1, 1).clamp(min=1e-6)
    scene.image = (scene.image / top).clamp(min=0) ** draw.uniform("exponent", *exponent)


@effect("view", "cord")
def field_of_view(scene: CordScene, draw: Draw, *, p=0.06, limit_mm=(5.5, 10.5)) -> None:
    """Sometimes the image ends inside the window."""
    quarter = torch.floor(draw.uniform("side", 0, 4)) * (math.pi / 2)
    beyond = scene.x * torch.cos(quarter) + scene.y * torch.sin(quarter) > draw.uniform("limit_mm", *limit_mm)
    scene.inside = scene.inside * (1 - draw.chance("on", p) * beyond.float())


def stored_grid(scene: CordScene) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (mm) of the stored pixels: a grid of whole pixels that covers the window."""
    n, count = scene.count, scene.size + 8
    px = torch.arange(count, dtype=torch.float32) - (count - 1) / 2
    sx = (px[None] * scene.pixel[:, :1] + scene.phase[:, :1]).view(n, 1, 1, -1)
    sy = (px[None] * scene.pixel[:, 1:] + scene.phase[:, 1:]).view(n, 1, -1, 1)
    shape = (n, 1, count, count)
    return sx.expand(shape), sy.expand(shape)


def _box_sample(image, x_mm, y_mm, pixel_xy):
    """Sample with a light box average (2 x 2 sub-points), the footprint of a stored pixel."""
    n, total = len(image), 0
    for fx in (-0.25, 0.25):
        for fy in (-0.25, 0.25):
            ox = (fx * pixel_xy[:, 0]).view(n, 1, 1, 1)
            oy = (fy * pixel_xy[:, 1]).view(n, 1, 1, 1)
            total = total + sample_mm(image, x_mm + ox, y_mm + oy, SPACING_MM, padding="reflection")
    return total / 4
