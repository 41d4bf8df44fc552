"""Simulated brains: all effects in order, and what is kept of each."""

from dataclasses import dataclass

import numpy as np
import torch

from sctseg7t.simulate.brain import contrast, lesions, scanner, shape  # noqa: F401 - they register the effects
from sctseg7t.simulate.brain.scene import EFFECTS, STAGES, Draw, Scene, read_settings
from sctseg7t.simulate.brain.space import voxel_positions


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


def simulate(template, shapes, seed, recipe=None):
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
    scene = run_effects(template, shapes, seed, read_settings(recipe or {}))
    return Brain(
        scene.image.clamp(0, 60).numpy().astype(np.float16),
        scene.label.numpy().astype(np.uint8),
        _affine(scene.mni, scene.brain > 0.5),
        scene.drawn,
    )


def run_effects(template, shapes, seed, settings, stages=STAGES):
    """The scene after the effects of some stages; ``settings`` as :func:`read_settings` returns them."""
    # Tails of exponentials make numbers that processors compute with very slowly.
    torch.set_flush_denormal(True)
    with torch.no_grad():
        scene = Scene(template, shapes)
        for name, values in settings.items():
            if EFFECTS[name].stage in stages:
                draw = Draw(seed, name)
                EFFECTS[name].apply(scene, draw, **values)
                scene.drawn[name] = draw.kept
    return scene


def _affine(mni, brain):
    """Least-squares affine from voxel to MNI positions over the brain: the deformation's mean is part of it."""
    at = voxel_positions(tuple(brain.shape))[:, brain][:, ::199].double()
    known = torch.cat([at, torch.ones(1, at.shape[1], dtype=torch.float64)])
    return torch.linalg.lstsq(known.T, mni[:, brain][:, ::199].double().T).solution.T.numpy()
