"""Simulated brains: all effects in order, and what is kept of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sctseg7t.simulate import acquisition  # noqa: F401 - effects of several organs
from sctseg7t.simulate.brain import contrast, lesions, scanner, shape  # noqa: F401 - they register the effects
from sctseg7t.simulate.brain.scene import BrainScene
from sctseg7t.simulate.brain.space import voxel_positions
from sctseg7t.simulate.brain.template import Template
from sctseg7t.simulate.effect import read_settings


@dataclass(frozen=True, eq=False)
class Brain:
    """A simulated scan at 1 mm, RAS.

    Attributes
    ----------
    image : (X, Y, Z) float16
        FLAIR over the median of the brain mask; 0 outside the mask.
    label : (X, Y, Z) uint8
        1 in lesions.
    to_template : (3, 4) float64
        Scan voxel to MNI mm by the best affine: what a registration would find.
    drawn : dict
        Numbers drawn, by effect and name.
    """

    image: np.ndarray
    label: np.ndarray
    to_template: np.ndarray
    drawn: dict


def simulate(
    template: Template, shapes: lesions.LesionShapes | None, seed: int, recipe: Mapping[str, Any] | None = None
) -> Brain:
    """Simulate one brain; the same seed gives the same brain.

    Parameters
    ----------
    template : Template
    shapes : LesionShapes or None
        None: drawn lesions only.
    seed : int
    recipe : dict, optional
        By effect: the settings that differ from its defaults, or False to leave it out.

    Returns
    -------
    Brain
    """
    scene = BrainScene(template, shapes).run(read_settings("brain", recipe), seed)
    return Brain(
        scene.image.clamp(0, 60).numpy().astype(np.float16),
        scene.label.numpy().astype(np.uint8),
        _affine(scene.mni, scene.brain > 0.5),
        scene.drawn,
    )


def _affine(mni: torch.Tensor, brain: torch.Tensor) -> np.ndarray:
    """Least-squares affine from voxel to MNI positions over the brain: the deformation's mean is part of it."""
    at = voxel_positions(tuple(brain.shape))[:, brain][:, ::199].double()
    known = torch.cat([at, torch.ones(1, at.shape[1], dtype=torch.float64)])
    return torch.linalg.lstsq(known.T, mni[:, brain][:, ::199].double().T).solution.T.numpy()
