"""Effects that put lesions into a brain: real masks of other people, and drawn ones of every kind."""

import functools
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from sctseg7t.errors import InputError
from sctseg7t.measure.lesions import label_lesions
from sctseg7t.simulate.brain.scene import BrainScene
from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import box_around, gaussian, sample, smooth_field
from sctseg7t.simulate.scene import Draw

# Patients whose masks never enter a simulation: accuracy is measured on them.
JUDGED = ("07", "19")
# From the grid of the public masks (people's own size, turned onto MNI) to MNI mm: the usual scale of an adult brain.
_PEOPLE_TO_MNI = ((1.16, 1.16, 1.27), (0.0, 4.5, -8.0))


@dataclass(frozen=True, eq=False)
class LesionShapes:
    """Real lesion masks.

    Attributes
    ----------
    names : tuple of str
    masks : list of (X, Y, Z) uint8 arrays, RAS, 1 mm
    origin_mm : (3,) float array
        Position of voxel (0, 0, 0).
    """

    names: tuple[str, ...]
    masks: list[np.ndarray]
    origin_mm: np.ndarray


@functools.cache
def load_shapes(folder: str | Path) -> LesionShapes:
    """Lesion masks ``patientNN.nii.gz`` of a folder, without those of the judged patients.

    Raises
    ------
    InputError
        The folder holds no mask.
    """
    paths = [p for p in sorted(Path(folder).glob("patient*.nii*")) if not any(f"patient{n}." in p.name for n in JUDGED)]
    if not paths:
        raise InputError(f"{folder}: holds no lesion mask (patientNN.nii.gz)")
    images = [nib.as_closest_canonical(nib.load(path)) for path in paths]
    masks = [(np.asarray(image.dataobj) > 0).astype(np.uint8) for image in images]
    return LesionShapes(tuple(p.name.split(".")[0] for p in paths), masks, images[0].affine[:3, 3])


@effect("lesions", "brain", required=True)
def burden(scene: BrainScene, draw: Draw, *, shares=(0.2, 0.32, 0.28, 0.2)) -> None:
    """How much disease: none, light, moderate or heavy, with these shares of the scans."""
    level = int(np.searchsorted(np.cumsum(shares)[:-1], draw.uniform("level", 0, 1), side="right"))
    scene.burden = (0.0, 0.12, 0.45, 1.0)[level]
    draw.keep("burden", scene.burden)
    zero = torch.zeros(scene.shape)
    scene.lesion, scene.glow, scene.gain = zero, zero.clone(), zero.clone()
    # Of the scan as a whole; each lesion departs from it.
    scene.usual_gain = draw.log_uniform("gain", 0.11, 0.48)


@effect("lesions", "brain", probability=0.75)
def masks(scene: BrainScene, draw: Draw, *, people=(1, 2), shift_mm=3.0, keep=(0.3, 1.0)) -> None:
    """Masks of one or two real patients, moved, deformed, thinned or thickened, with some lesions left out."""
    if scene.shapes is None or scene.burden == 0:
        return
    rng = draw.rng
    volumes = np.array([m.sum() for m in scene.shapes.masks])
    # Light burden takes light patients, heavy burden heavy ones.
    liked = np.exp(-0.5 * ((np.log(volumes) - np.log(300 + 40_000 * scene.burden**1.7)) / 0.7) ** 2)
    count = int(rng.integers(people[0], people[1] + 1))
    picked = rng.choice(len(volumes), count, replace=False, p=liked / liked.sum())
    draw.kept["people"] = [scene.shapes.names[k] for k in picked]
    for k in picked:
        _place(scene, draw, rng, scene.shapes.masks[k], shift_mm, keep)


def _place(scene, draw, rng, mask, shift_mm, keep):
    scale, move = (torch.tensor(v) for v in _PEOPLE_TO_MNI)
    at = (scene.mni - move.view(3, 1, 1, 1)) / scale.view(3, 1, 1, 1)
    if rng.random() < 0.5:
        at = torch.stack([-at[0], at[1], at[2]])
    shift = torch.stack([draw.field(25, scene.shape) for _ in range(3)]) * rng.uniform(0.5, shift_mm)
    at = at + shift - torch.tensor(np.asarray(scene.shapes.origin_mm), dtype=torch.float32).view(3, 1, 1, 1)
    soft = sample(torch.from_numpy(mask).float()[None], at, padding="zeros")[0]
    soft = soft + 0.15 * draw.field(5, scene.shape) * (soft > 0.02)
    part = torch.sigmoid((soft - rng.uniform(0.3, 0.6)) / 0.12) * (soft > 0.02)
    left = draw.field(rng.uniform(8, 30), scene.shape)
    share = rng.uniform(*keep)
    part = part * torch.sigmoid((left - float(np.quantile(left.flatten()[::97].numpy(), 1 - share))) / 0.1)
    tissue = (1.15 * scene.wm + 0.55 * scene.gm).clamp(0, 1)
    scene.add_lesion(part * tissue * _fits(scene), _gain(scene, rng) + 0.06 * draw.field(9, scene.shape))


@effect("lesions", "brain")
def punctate(scene: BrainScene, draw: Draw, *, most=45, radius_mm=(0.9, 3.2)) -> None:
    """Small ellipsoids in the white matter, deep or juxtacortical."""
    weight = scene.wm * (1 + 2 * (gaussian(scene.gm, 1.5) > 0.25)) + 0.04 * scene.gm
    for centre in _places(scene, draw, weight * _fits(scene), most, 0.25):
        _blob(scene, draw.rng, centre, radius_mm)


@effect("lesions", "brain")
def juxtacortical(scene: BrainScene, draw: Draw, *, most=14, radius_mm=(2.0, 7.0)) -> None:
    """Lesions that follow the border of WM and cortex."""
    border = scene.wm * gaussian(scene.gm, 1.2) * (1 - scene.fossa)
    along = torch.sigmoid((gaussian(scene.gm, 1.5) - 0.12) / 0.04)
    for centre in _places(scene, draw, border * (scene.lateral > 6), most, 0.2):
        _blob(scene, draw.rng, centre, radius_mm, where=along)


@effect("lesions", "brain")
def periventricular(scene: BrainScene, draw: Draw, *, most=16, radius_mm=(1.2, 4.5)) -> None:
    """Ovoid lesions at the ventricles, their long axis leading away from them (Dawson's fingers)."""
    near = torch.exp(-((scene.lateral - 2.5) ** 2) / 8) * scene.wm * (scene.lateral > 0)
    for centre in _places(scene, draw, near, most, 0.2):
        here = tuple(slice(max(c - 1, 0), c + 2) for c in centre)
        slope = torch.stack([g.mean() for g in torch.gradient(scene.lateral[here])]).numpy()
        _blob(scene, draw.rng, centre, radius_mm, axis=slope)


@effect("lesions", "brain", probability=0.55)
def confluent(scene: BrainScene, draw: Draw, *, width_mm=(4.0, 12.0)) -> None:
    """Confluent lesions around the ventricles, of uneven width and patchy."""
    if scene.burden < 0.4:
        return
    rng = draw.rng
    width = draw.log_uniform("width_mm", *width_mm) * (0.35 + 0.65 * scene.burden)
    reach = width * torch.exp(0.8 * draw.field(rng.uniform(9, 22), scene.shape))
    gate = torch.sigmoid((draw.field(30, scene.shape) + draw.uniform("spread", -0.6, 1.2)) / 0.15)
    part = torch.sigmoid((reach - scene.lateral) / 0.5) * gate * (scene.lateral > -1)
    part = part * (1 - scene.nuclei) * (scene.wm + 0.15 * scene.gm).clamp(0, 1)
    scene.add_lesion(part * _fits(scene), _gain(scene, rng) + 0.06 * draw.field(9, scene.shape))


@effect("lesions", "brain", probability=0.45)
def deep(scene: BrainScene, draw: Draw, *, period_mm=(10.0, 22.0), level=(1.3, 2.3)) -> None:
    """Irregular confluent lesions in the deep white matter."""
    if scene.burden < 0.4:
        return
    rng = draw.rng
    noise = draw.field(draw.uniform("period_mm", *period_mm), scene.shape)
    part = torch.sigmoid((noise + 0.25 * draw.field(5, scene.shape) - draw.uniform("level", *level)) / 0.12)
    scene.add_lesion(part * scene.wm * _fits(scene), _gain(scene, rng) + 0.06 * draw.field(9, scene.shape))


@effect("lesions", "brain")
def posterior_fossa(scene: BrainScene, draw: Draw, *, most=8, radius_mm=(0.9, 4.5)) -> None:
    """Lesions of the brainstem, the cerebellar peduncles and the cerebellum."""
    weight = scene.fossa * (scene.wm + 0.3 * scene.gm * (scene.mni[0].abs() < 16))
    for centre in _places(scene, draw, weight, most, 0.3):
        _blob(scene, draw.rng, centre, radius_mm, free=True)


@effect("lesions", "brain", probability=0.25)
def cavities(scene: BrainScene, draw: Draw) -> None:
    """Dark cores in large lesions, still part of them."""
    if scene.burden < 0.4:
        return
    core = (gaussian(scene.lesion, 2.0) > 0.85) & (draw.field(6, scene.shape) > 1.2)
    scene.gain = torch.where(core, scene.gain - draw.uniform("loss", 0.1, 0.6), scene.gain)


@effect("lesions", "brain", probability=0.6)
def halo(scene: BrainScene, draw: Draw, *, width_mm=(1.5, 5.0), strength=(0.05, 0.4)) -> None:
    """Dirty-appearing white matter: a faint glow around lesions that is not called one."""
    if scene.burden == 0:
        return
    wide = gaussian(scene.lesion, draw.uniform("width_mm", *width_mm)) * scene.wm
    scene.glow = wide * draw.uniform("strength", *strength)


@effect("lesions", "brain", required=True)
def outline(scene: BrainScene, draw: Draw, *, level=(0.35, 0.6), softness_mm=(0.3, 0.9), least=3) -> None:
    """The label, and the softness of lesions in the image."""
    scene.label = scene.lesion > draw.uniform("level", *level)
    if least > 1:
        parts = label_lesions(scene.label.numpy())
        scene.label &= torch.from_numpy(np.bincount(parts.ravel())[parts] >= least)
    soft = gaussian(scene.lesion, draw.uniform("softness_mm", *softness_mm))
    around = gaussian((scene.lesion > 0.02).float(), 1.5)
    # The brightness of a lesion has to reach as far as its softened border.
    gain = gaussian(scene.gain * (scene.lesion > 0.02), 1.5) / around.clamp(min=1e-3)
    scene.gain = torch.where(scene.lesion > 0.3, scene.gain, gain * (around > 1e-3))
    scene.lesion = soft.clamp(0, 1)


def _fits(scene):
    """Where a lesion can be: not in fluid."""
    return (1 - 1.3 * scene.csf).clamp(0, 1) * scene.brain


def _gain(scene, rng):
    return max(0.03, scene.usual_gain * np.exp(rng.normal(0, 0.3)))


def _places(scene, draw, weight, most, least):
    """Voxels for the lesions of a kind, drawn with a weight: fewer with less disease, none without."""
    total = weight.clamp(min=0).double().flatten().cumsum(0).numpy()
    if scene.burden == 0 or total[-1] <= 0:
        return []
    count = draw.rng.integers(0, int(1 + most * min(1.0, least + scene.burden)))
    picked = np.searchsorted(total, draw.rng.random(count) * total[-1])
    return [tuple(int(v) for v in np.unravel_index(min(k, len(total) - 1), tuple(weight.shape))) for k in picked]


def _blob(scene, rng, centre, radius_mm, axis=None, where=None, free=False):
    """An uneven ellipsoid at a voxel, in the tissue where a lesion can be; drawn out along an axis, if one is given."""
    radius = np.exp(rng.uniform(*np.log(radius_mm)))
    long = 1.0 if axis is None else rng.uniform(1, 2.6)
    box, at = box_around(centre, int(np.ceil(radius * max(long, 1.4) * 1.6)) + 2, scene.shape)
    at = at + rng.uniform(-0.5, 0.5, (3, 1, 1, 1))
    frame = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if axis is not None and np.linalg.norm(axis) > 0.1:
        frame = np.linalg.qr(np.column_stack([axis, frame[:, 1:]]))[0]
    semi = radius * np.array([long, 1.0, 1.0]) * rng.uniform(0.7, 1.4, 3)
    away = np.sqrt(((frame.T @ at.reshape(3, -1)) ** 2 / (semi**2)[:, None]).sum(0)).reshape(at.shape[1:])
    gen = torch.Generator().manual_seed(int(rng.integers(2**62)))
    uneven = smooth_field(gen, max(2.5, radius), away.shape) * 0.18
    part = torch.sigmoid((1 - torch.from_numpy(away).float() + uneven) * radius / 0.45)
    part = part * (1 - 1.3 * scene.csf[box]).clamp(0, 1) * scene.brain[box]
    if where is not None:
        part = part * where[box]
    if not free:
        part = part * (scene.wm[box] + 0.35 * scene.gm[box]).clamp(0, 1)
    part = torch.where(part > 0.03, part, torch.zeros(()))
    # Punctate lesions are often fainter, by partial volume too.
    gain = _gain(scene, rng) * rng.uniform(0.7, 1.15)
    scene.add_lesion(part, torch.full_like(part, gain), box)
