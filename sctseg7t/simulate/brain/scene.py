"""The brain on its way from template to image (BrainScene)."""

import functools
from typing import Any

import torch

from sctseg7t.simulate.brain.template import Template
from sctseg7t.simulate.fields import ball, enlarge
from sctseg7t.simulate.scene import Scene

# Regions are smooth: computed at every third voxel.
_STEP = 3


class BrainScene(Scene):
    """One brain. Volumes are (X, Y, Z) float32 tensors at 1 mm, lengths in mm.

    Parameters
    ----------
    template : Template
    shapes : LesionShapes or None
        Real lesion masks to place.
    """

    organ = "brain"
    spacing_mm = 1.0
    shape: tuple[int, ...]
    to_template: torch.Tensor  # (3, 4) scan voxel to MNI mm, without the smooth deformation
    mni: torch.Tensor  # (3, X, Y, Z) MNI position of every voxel
    gm: torch.Tensor  # fractions, zero outside the brain
    wm: torch.Tensor
    csf: torch.Tensor
    depth: torch.Tensor  # signed distances of the template's MAPS
    ventricle: torch.Tensor
    lateral: torch.Tensor
    brain: torch.Tensor  # fraction inside the surface
    burden: float  # amount of disease, 0 to 1
    usual_gain: float  # how bright this scan's lesions usually are above GM
    lesion: torch.Tensor  # opacity of lesions and of their haloes; brightness above GM of each voxel's lesion
    glow: torch.Tensor
    gain: torch.Tensor
    label: torch.Tensor  # bool, what is called a lesion
    gray: float  # levels of GM and CSF; WM is 1
    fluid: float

    def __init__(self, template: Template, shapes: Any = None):
        super().__init__()
        # Tails of exponentials make numbers that processors compute with very slowly.
        torch.set_flush_denormal(True)
        self.template, self.shapes = template, shapes

    def region(self, *parts: tuple) -> torch.Tensor:
        """Weighted sum of smooth bumps, (X, Y, Z).

        Parameters
        ----------
        parts : tuples (centre, reach) or (centre, reach, weight)
            MNI mm of the right one; the left is its mirror image.
        """
        mni = self.mni[:, ::_STEP, ::_STEP, ::_STEP]
        bumps = [ball(mni, part[0], part[1]).mul_(part[2] if len(part) > 2 else 1.0) for part in parts]
        return enlarge(sum(bumps[1:], bumps[0]), self.shape, _STEP)

    @functools.cached_property
    def fossa(self) -> torch.Tensor:
        """About 1 in brainstem and cerebellum, 0 above the tentorium; (X, Y, Z)."""
        x, y, z = self.mni[:, ::_STEP, ::_STEP, ::_STEP]
        roof = torch.where(y > -30, torch.full_like(y, -14.0), -12 + 0.27 * (y + 32))
        behind = (y < -10) & ((y < -36) | (x.abs() < 20))
        return enlarge(torch.sigmoid((roof - z) / 1.5) * behind, self.shape, _STEP)

    @functools.cached_property
    def nuclei(self) -> torch.Tensor:
        """About 1 in caudate, putamen, pallidum and thalamus; (X, Y, Z)."""
        parts = (((22, 3, 3), (12, 16, 11)), ((12, 12, 9), (6, 9, 10)), ((11, -19, 8), (9, 12, 9)))
        return self.region(*parts).clamp(max=1)

    def add_lesion(self, opacity: torch.Tensor, gain: torch.Tensor | float, where: tuple | None = None) -> None:
        """Put a lesion into the scene; where two meet, the stronger opacity decides."""
        part = (Ellipsis,) if where is None else where
        held = self.lesion[part]
        self.gain[part] = torch.where(opacity > held, torch.as_tensor(gain, dtype=torch.float32), self.gain[part])
        self.lesion[part] = torch.maximum(held, opacity)
