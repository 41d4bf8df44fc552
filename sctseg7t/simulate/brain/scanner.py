"""Effects of scanner and preparation: coils, slices, blur, motion, noise, the brain mask."""

import numpy as np
import torch

from sctseg7t.simulate.brain.scene import BrainScene
from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import along, gaussian, rician
from sctseg7t.simulate.scene import Draw

# What finds a brain must know the slices of clinical FLAIR.
_THICK = {"probability": 0.55, "thickness_mm": (2.5, 9.0), "axial_p": 0.6}


@effect("acquisition", "brain", probability=0.5)
def transmit(scene: BrainScene, draw: Draw, *, drop=(0.0, 0.45)) -> None:
    """Weak excitation in temporal lobes and posterior fossa, as at 7 T; what bias correction leaves of it."""
    low = scene.region(((48, -18, -22), (22, 30, 20))) + scene.fossa
    scene.image = scene.image * (1 - draw.uniform("drop", *drop) * gaussian(low.clamp(0, 1), 9.0))


@effect("acquisition", "brain", "head", head={"strength": (0.02, 0.35), "period_mm": (60.0, 200.0)})
def bias(scene: BrainScene, draw: Draw, *, strength=(0.02, 0.22), period_mm=(45.0, 110.0)) -> None:
    """Multiplicative field of the coils, as bias correction leaves it."""
    field = draw.field(draw.uniform("period_mm", *period_mm) / scene.spacing_mm, scene.shape)
    scene.image = scene.image * torch.exp(draw.log_uniform("strength", *strength) * field)


@effect("acquisition", "brain", "head", head={"sigma_mm": (0.3, 2.5)})
def blur(scene: BrainScene, draw: Draw, *, sigma_mm=(0.25, 0.75)) -> None:
    """Point spread of the acquisition, and of every resampling since."""
    scene.image = gaussian(scene.image, draw.uniform("sigma_mm", *sigma_mm) / scene.spacing_mm)


@effect("acquisition", "brain", "head", probability=0.35, head=_THICK)
def slices(scene: BrainScene, draw: Draw, *, thickness_mm=(1.2, 5.0), axial_p=0.0) -> None:
    """Thick slices along one axis (``axial_p``: more often the third), interpolated back to the grid."""
    axis = int(draw.uniform("axis", 0, 3))
    thickness = draw.log_uniform("thickness_mm", *thickness_mm) / scene.spacing_mm
    phase = draw.uniform("phase", 0, 1)
    if axial_p and draw.chance("axial", axial_p):
        axis = 2
    count = scene.shape[axis]
    at = torch.arange(count, dtype=torch.float32)
    middle = torch.arange(phase * thickness, count, thickness)
    profile = torch.sigmoid((thickness / 2 - (at[None] - middle[:, None]).abs()) / 0.2)
    profile = profile / profile.sum(1, keepdim=True)
    back = (1 - (at[:, None] - middle[None]).abs() / thickness).clamp(min=0)
    back = back / back.sum(1, keepdim=True).clamp(min=1e-3)
    scene.image = along(along(scene.image, profile, axis), back, axis)


@effect("acquisition", "brain", "head", probability=0.12, head={"probability": 0.06})
def motion(scene: BrainScene, draw: Draw) -> None:
    """Ghosts or motion between readouts (TorchIO, Perez-Garcia et al., 2021)."""
    from torchio.transforms import RandomGhosting, RandomMotion

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draw.uniform("seed", 0, 2**31)))
        if draw.chance("ghosts", 0.5):
            change = RandomGhosting(num_ghosts=(2, 6), intensity=(0.1, 0.5))
        else:
            change = RandomMotion(degrees=2.5, translation=2.5, num_transforms=1)
        scene.image = change(scene.image[None])[0].abs()


@effect("acquisition", "brain", "head", head={"sd": (0.005, 0.07), "width_vox": (0.0, 0.0)})
def noise(scene: BrainScene, draw: Draw, *, sd=(0.012, 0.065), width_vox=(0.0, 0.6)) -> None:
    """Noise of magnitude images, a little correlated by interpolation."""
    sd = draw.log_uniform("sd", *sd)
    width = draw.uniform("width_vox", *width_vox)
    parts = [gaussian(torch.randn(scene.shape, generator=draw.gen), width) for _ in range(2)]
    gain = sd / max(float(parts[0].std()), 1e-6)
    scene.image = rician(scene.image, gain * parts[0], gain * parts[1])


@effect("acquisition", "brain", "head")
def gamma(scene: BrainScene, draw: Draw, *, power=(0.75, 1.3)) -> None:
    """Another curve of intensities: other echo and inversion times."""
    scene.image = scene.image.clamp(min=0) ** draw.log_uniform("power", *power)


@effect("acquisition", "brain", required=True)
def stripping(scene: BrainScene, draw: Draw, *, outwards_mm=(-2.0, 2.0), uneven_mm=0.8) -> None:
    """The brain mask, too tight here and too wide there; nothing is left outside it."""
    border = draw.uniform("outwards_mm", *outwards_mm) + uneven_mm * draw.field(20, scene.shape)
    mask = scene.depth > -border
    scene.label, image = scene.label & mask, scene.image * mask
    scene.image = image / max(float(np.median(image[mask].numpy()[::7])), 1e-3)
