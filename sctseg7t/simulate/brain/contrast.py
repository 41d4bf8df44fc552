"""Effects of the FLAIR's contrast: tissue levels, and all that is bright without being a lesion."""

import numpy as np
import torch

from sctseg7t.simulate.brain.scene import BrainScene
from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import box_around, gaussian
from sctseg7t.simulate.scene import Draw

# MNI mm: centre of the right one, and reach.
_LIMBIC = (
    ((28, -20, -14), (10, 18, 9)),
    ((22, -4, -20), (10, 9, 9)),
    ((38, 4, 2), (9, 22, 14)),
    ((5, 30, 22), (7, 18, 16)),
    ((5, -15, 38), (7, 30, 9)),
    ((14, 16, -14), (12, 12, 8)),
)
_MIDLINE = (
    ((0, -28, 3), (5, 5, 5)),
    ((0, -6, 0), (4, 14, 9)),
    ((0, -44, 6), (7, 7, 7)),
    ((0, -36, -32), (5, 10, 14)),
    ((0, 2, -8), (8, 8, 6)),
)
_CAPS = (((17, 36, 6), (6, 7, 9)), ((14, 24, 18), (6, 9, 7)), ((27, -58, 8), (8, 9, 9)), ((33, -40, -4), (7, 9, 8)))
_CHOROID = (
    ((22, -38, 8), (8, 7, 8)),
    ((30, -24, -10), (5, 12, 6)),
    ((8, -12, 16), (6, 14, 5)),
    ((0, -44, -32), (8, 6, 8)),
)
_TRACTS = (
    ((24, -16, 8), (4, 6, 12)),
    ((18, -28, 30), (6, 8, 12)),
    ((32, -62, 4), (7, 18, 10)),
    ((8, -40, 10), (8, 6, 8)),
)


@effect("contrast", "brain", required=True)
def levels(
    scene: BrainScene, draw: Draw, *, gm=(1.04, 1.26), csf=(0.05, 0.5), texture=(0.0, 0.03), dirt=(0.0, 0.05)
) -> None:
    """Levels of the tissues (WM 1), their texture, slow changes within the WM."""
    scene.gray, scene.fluid = draw.uniform("gm", *gm), draw.uniform("csf", *csf)
    fine = draw.uniform("texture", *texture) * draw.field(4, scene.shape)
    slow = draw.uniform("dirt", *dirt) * draw.field(28, scene.shape)
    cortex = scene.gray * (1 + 0.035 * draw.field(16, scene.shape))
    scene.image = (scene.wm * (1.0 + slow) + scene.gm * cortex + scene.csf * scene.fluid) * (1 + fine)


@effect("contrast", "brain")
def nuclei(scene: BrainScene, draw: Draw, *, level=(0.72, 1.05)) -> None:
    """Deep GM, darker by its iron, and most so in the pallidum."""
    where = scene.nuclei * (1 - scene.csf)
    pallidum = scene.region(((18, -3, -1), (7, 9, 6)))
    level = draw.uniform("level", *level)
    factor = 1 + where * (level - 1) * (0.5 + 0.5 * pallidum)
    scene.image = scene.image * factor * (1 - 0.12 * draw.uniform("iron", 0, 1) * pallidum)


@effect("contrast", "brain")
def limbic(scene: BrainScene, draw: Draw, *, strength=(0.0, 0.24)) -> None:
    """Hippocampus, amygdala, insula and cingulate: cortex brighter than elsewhere."""
    rng = draw.rng
    strength = draw.uniform("strength", *strength)
    where = scene.region(*((*part, rng.uniform(0.2, 1.1)) for part in _LIMBIC))
    scene.image = scene.image + where * scene.gm * strength


@effect("contrast", "brain")
def tracts(scene: BrainScene, draw: Draw, *, strength=(0.0, 0.2)) -> None:
    """Pyramidal tract, optic radiation and splenium: normal WM that is brighter."""
    rng = draw.rng
    strength = draw.uniform("strength", *strength)
    where = scene.region(*((*part, rng.uniform(0, 1)) for part in _TRACTS))
    scene.image = scene.image + where * torch.sigmoid(1.5 + draw.field(10, scene.shape)) * scene.wm * strength


@effect("contrast", "brain", probability=0.85)
def rims(scene: BrainScene, draw: Draw, *, width_mm=(0.6, 2.2), strength=(0.05, 0.55)) -> None:
    """Ependymal rims: a thin bright line around the ventricles, stronger here and weaker there."""
    width = draw.uniform("width_mm", *width_mm) * torch.exp(0.3 * draw.field(14, scene.shape))
    patchy = torch.sigmoid((draw.field(18, scene.shape) + draw.uniform("spread", -0.8, 1.5)) / 0.5)
    where = torch.sigmoid((width - scene.ventricle) / 0.3) * torch.sigmoid((scene.ventricle + 0.3) / 0.3)
    scene.image = scene.image + where * patchy * draw.uniform("strength", *strength) * scene.brain


@effect("contrast", "brain", probability=0.75)
def caps(scene: BrainScene, draw: Draw, *, width_mm=(1.5, 6.0), strength=(0.04, 0.34)) -> None:
    """Caps on the horns of the lateral ventricles, fading outwards, nearly alike on both sides."""
    rng = draw.rng
    strength = draw.uniform("strength", *strength)
    width = draw.log_uniform("width_mm", *width_mm) * torch.exp(0.3 * draw.field(25, scene.shape))
    where = scene.region(*((*part, rng.uniform(0.2, 1.2)) for part in _CAPS))
    fading = torch.exp(-scene.lateral.clamp(min=0) / width) * (scene.lateral > 0)
    scene.image = scene.image + where * fading * scene.wm * strength


@effect("contrast", "brain", probability=0.8)
def septum(scene: BrainScene, draw: Draw, *, strength=(0.0, 0.5)) -> None:
    """Septum pellucidum and fornix: a bright sheet between the lateral ventricles."""
    bent = scene.mni[0] + 0.8 * draw.field(20, scene.shape)
    region = scene.region(((0, 6, 12), (30, 20, 10))) * (scene.depth > 12)
    sheet = torch.exp(-((bent / draw.uniform("half_mm", 0.6, 1.6)) ** 2)) * region
    level = scene.gray + draw.uniform("strength", *strength) * (0.6 + 0.4 * draw.field(8, scene.shape))
    scene.image = scene.image + sheet * (level - scene.image).clamp(min=0)


@effect("contrast", "brain", probability=0.8)
def midline(scene: BrainScene, draw: Draw, *, strength=(0.0, 0.5)) -> None:
    """Pineal, walls of the third ventricle, splenium's cistern, area postrema, hypothalamus: bright midline spots."""
    rng = draw.rng
    strength = draw.uniform("strength", *strength)
    grain = draw.field(5, scene.shape)
    for part in _MIDLINE:
        where = scene.region(part) * torch.sigmoid((grain - rng.uniform(0, 1.5)) / 0.3)
        level = scene.gray + strength * rng.uniform(0, 1.2)
        scene.image = scene.image + where * (level - scene.image).clamp(min=0) * scene.brain


@effect("contrast", "brain", probability=0.85)
def choroid(scene: BrainScene, draw: Draw, *, level=(0.7, 1.9)) -> None:
    """Choroid plexus: granular bright tissue in the ventricles."""
    rng = draw.rng
    top = draw.uniform("level", *level)
    more = scene.region(*((*part, rng.uniform(-1.0, 0.6)) for part in _CHOROID))
    where = scene.region(*_CHOROID).clamp(max=1) * torch.sigmoid((draw.field(4, scene.shape) + more) / 0.25)
    where = where * torch.sigmoid(-(scene.ventricle - 0.5) / 0.4)
    scene.image = scene.image + where * (top * (1 + 0.15 * draw.field(8, scene.shape)) - scene.image)


@effect("contrast", "brain", probability=0.5)
def inflow(scene: BrainScene, draw: Draw, *, strength=(0.1, 0.9)) -> None:
    """Pulsating fluid that was not nulled: bright CSF in the ventricles and cisterns."""
    where = torch.sigmoid((draw.field(18, scene.shape) - draw.uniform("spread", 0.2, 1.5)) / 0.3)
    low = torch.sigmoid((-scene.mni[2] + 10) / 10)
    scene.image = scene.image + where * (0.3 + 0.7 * low) * scene.csf * draw.uniform("strength", *strength)


@effect("contrast", "brain")
def vessels(scene: BrainScene, draw: Draw, *, bright=(0.0, 1.0), dark=(0.0, 0.4), radius_mm=(0.4, 0.9)) -> None:
    """Arteries and veins as bright or dark tubes, mostly in the sulci; dark veins in the WM at 7 T.

    Two sheets of folded noise meet in curves.
    """
    for kind, strength in (("bright", bright), ("dark", dark)):
        strength = draw.uniform(kind, *strength)
        one, two = (draw.field(draw.uniform(f"{kind}_{k}_mm", 13, 24), scene.shape) for k in (1, 2))
        radius = draw.uniform(f"{kind}_radius_mm", *radius_mm)
        tube = torch.exp(-0.5 * ((one / _slope(one)).square() + (two / _slope(two)).square()) / radius**2)
        gate = torch.sigmoid((draw.field(22, scene.shape) - draw.uniform(f"{kind}_spread", 0.0, 1.6)) / 0.2)
        if kind == "bright":
            place = gaussian(scene.csf, 1.0).clamp(0, 0.5) * 2 * (scene.ventricle > 4)
            scene.image = scene.image + tube * gate * place * strength
        else:
            scene.image = scene.image * (1 - tube * gate * strength * (0.25 + 0.75 * scene.csf))


def _slope(noise):
    """Usual slope of smooth noise per mm, from a part of it."""
    gy, gz = torch.gradient(noise[::3, :40, :40], dim=(1, 2))
    return float(torch.sqrt((gy.square() + gz.square()).mean() * 1.5))


@effect("contrast", "brain")
def perivascular(scene: BrainScene, draw: Draw, *, most=40, radius_mm=(0.5, 1.4)) -> None:
    """Virchow-Robin spaces: dark dots in basal ganglia and WM, some with a bright wall."""
    rng = draw.rng
    count = rng.integers(0, most + 1)
    weight = scene.wm + 3 * scene.region(((20, 4, -6), (10, 12, 5))) * (scene.gm + scene.wm)
    total = weight.double().flatten().cumsum(0).numpy()
    for _ in range(count):
        centre = np.unravel_index(np.searchsorted(total, rng.random() * total[-1] * 0.999), scene.shape)
        box, at = box_around(centre, 5, scene.shape)
        away = np.sqrt(sum((a / s) ** 2 for a, s in zip(at, rng.uniform(0.8, 2.2, 3))))
        radius = rng.uniform(*radius_mm)
        dot = torch.from_numpy(1 / (1 + np.exp((away - radius) / 0.25))).float()
        wall = torch.from_numpy(np.exp(-0.5 * ((away - radius - 0.6) / 0.5) ** 2)).float()
        part = scene.image[box]
        part = part + dot * rng.uniform(0.3, 1) * (scene.fluid - part)
        scene.image[box] = part + wall * rng.uniform(0, 0.16) * (rng.random() < 0.4)


@effect("contrast", "brain", probability=0.45)
def small_vessel(scene: BrainScene, draw: Draw, *, strength=(0.03, 0.17)) -> None:
    """Look-alikes of small-vessel disease: faint, symmetric, smoothly bordered brightness of the deep WM and pons."""
    field = draw.field(16, scene.shape)
    field = (field + field.flip(0)) / 2**0.5 + 0.4 * draw.field(12, scene.shape)
    where = torch.sigmoid((field - draw.uniform("spread", 0.6, 1.8)) / 0.45)
    near = torch.exp(-((scene.lateral.clamp(min=0) / draw.uniform("reach_mm", 5, 14)) ** 2))
    pons = scene.region(((0, -26, -32), (12, 8, 10))) * 0.7
    scene.image = scene.image + where * (near + pons).clamp(0, 1) * scene.wm * draw.uniform("strength", *strength)


@effect("contrast", "brain", probability=0.7)
def fundi(scene: BrainScene, draw: Draw, *, strength=(0.05, 0.35)) -> None:
    """Bright spots and stretches of the cortex: sulcal fundi and partial volume of GM with no fluid near."""
    where = torch.sigmoid((draw.field(6, scene.shape) - draw.uniform("spread", 0.6, 1.6)) / 0.3)
    scene.image = scene.image + where * scene.gm * draw.uniform("strength", *strength)


@effect("contrast", "brain", probability=0.7)
def meninges(scene: BrainScene, draw: Draw, *, width_mm=(0.5, 2.5), level=(0.5, 2.0)) -> None:
    """Meninges and remains of stripping: a patchy bright shell at the surface."""
    where = torch.sigmoid((draw.uniform("width_mm", *width_mm) - scene.depth.abs()) / 0.4)
    patchy = torch.sigmoid((draw.field(15, scene.shape) - draw.uniform("spread", 0.2, 1.8)) / 0.25)
    grain = draw.uniform("level", *level) * (1 + 0.3 * draw.field(4, scene.shape))
    scene.image = scene.image + where * patchy * (grain - scene.image)


@effect("contrast", "brain", required=True)
def lesion_signal(scene: BrainScene, draw: Draw, *, fluid_floor=0.25) -> None:
    """Lesions and their haloes, brighter than GM whatever tissue they lie in."""
    scene.image = scene.image * (1 + scene.glow)
    bright = scene.gray + scene.gain
    # The posterior fossa shows its lesions less.
    bright = bright - 0.08 * scene.fossa * draw.uniform("loss", 0, 1)
    scene.image = scene.image + scene.lesion * (bright - scene.image).clamp(min=-fluid_floor)
