"""The brain on its way from template to image, and the registry of the effects that work on it."""

import functools

import numpy as np
import torch

from sctseg7t.simulate import effect as base
from sctseg7t.simulate.brain.space import ball, enlarge, smooth_field

# Regions are smooth: computed at every third voxel.
_STEP = 3

STAGES = ("anatomy", "lesions", "contrast", "acquisition")
EFFECTS = {}

#: Register an effect of the brain: ``effect(stage, required=False)``.
effect = functools.partial(base.effect, registry=EFFECTS, stages=STAGES)


def read_settings(values):
    """Settings of every effect of the brain; see :func:`sctseg7t.simulate.effect.read_settings`."""
    return base.read_settings(values, EFFECTS)


class Draw(base.Draw):
    """Random numbers of one effect for one brain, as plain floats."""

    def __init__(self, seed, name):
        super().__init__(seed, name, 1, None)

    def keep(self, name, value):
        self.kept[name] = round(float(value), 5)
        return float(value)

    @functools.cached_property
    def rng(self):
        """numpy's generator of this stream, for draws of varying number."""
        return np.random.default_rng(torch.randint(0, 2**62, (1,), generator=self.gen).item())

    def field(self, period_mm, shape):
        """Smooth noise of unit SD, (X, Y, Z)."""
        return smooth_field(self.gen, period_mm, shape)


class Scene:
    """One brain. Volumes are (X, Y, Z) float32 tensors at 1 mm, lengths in mm.

    Attributes
    ----------
    template : Template
    shapes : LesionShapes or None
        Real lesion masks to place.
    shape : tuple of int
    to_template : (3, 4) tensor
        Scan voxel to MNI mm, without the smooth deformation.
    mni : (3, X, Y, Z)
        MNI position of every voxel.
    gm, wm, csf : fractions, zero outside the brain
    depth, ventricle, lateral : signed distances of the template's ``MAPS``
    brain : fraction inside the surface
    lesion : opacity of lesions; ``glow`` that of their haloes; ``gain`` brightness above GM of each voxel's lesion
    burden, usual_gain : floats
        Amount of disease, 0 to 1, and how bright this scan's lesions usually are above GM.
    label : bool, what is called a lesion
    image : the FLAIR, WM about 1
    mask : bool, the brain mask that the image comes with
    drawn : numbers drawn, by effect and name
    """

    def __init__(self, template, shapes=None):
        self.template, self.shapes = template, shapes
        self.lesion = self.glow = self.gain = self.label = None
        self.burden = self.usual_gain = 0.0
        self.drawn = {}

    def region(self, *parts):
        """Weighted sum of smooth bumps, (X, Y, Z).

        Parameters
        ----------
        parts : tuples (centre, reach) or (centre, reach, weight)
            MNI mm of the right one; the left is its mirror image.
        """
        mni = self.mni[:, ::_STEP, ::_STEP, ::_STEP]
        total = sum(ball(mni, part[0], part[1]).mul_(part[2] if len(part) > 2 else 1.0) for part in parts)
        return enlarge(total, self.shape, _STEP)

    @functools.cached_property
    def fossa(self):
        """About 1 in brainstem and cerebellum, 0 above the tentorium; (X, Y, Z)."""
        x, y, z = self.mni[:, ::_STEP, ::_STEP, ::_STEP]
        roof = torch.where(y > -30, torch.full_like(y, -14.0), -12 + 0.27 * (y + 32))
        behind = (y < -10) & ((y < -36) | (x.abs() < 20))
        return enlarge(torch.sigmoid((roof - z) / 1.5) * behind, self.shape, _STEP)

    @functools.cached_property
    def nuclei(self):
        """About 1 in caudate, putamen, pallidum and thalamus; (X, Y, Z)."""
        parts = (((22, 3, 3), (12, 16, 11)), ((12, 12, 9), (6, 9, 10)), ((11, -19, 8), (9, 12, 9)))
        return self.region(*parts).clamp(max=1)

    def add_lesion(self, opacity, gain, where=None):
        """Put a lesion into the scene; where two meet, the stronger opacity decides."""
        part = (Ellipsis,) if where is None else where
        held = self.lesion[part]
        self.gain[part] = torch.where(opacity > held, torch.as_tensor(gain, dtype=torch.float32), self.gain[part])
        self.lesion[part] = torch.maximum(held, opacity)
