"""Deformation fields between anatomies, through a template that is their mean.

The template is made in two rounds. The registration is affine, then diffeomorphic demons (Vercauteren et al.,
NeuroImage 2009), by SimpleITK. Slices and volumes alike.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.files import write_bytes
from sctseg7t.train.augment.warping import grid, sample

# Samples by which what is registered of the field is smoothed in each iteration of the demons.
_FIELD_SMOOTH = 1.0
_ITERATIONS, _ROUNDS = 60, 2
# Part of the name of a file of fields: another way to make them, another number.
_VERSION = 3


@dataclass(frozen=True, eq=False)
class Fields:
    """Deformation fields between anatomies and their template, on every so many-th sample, in units of all samples.

    Attributes
    ----------
    out : (N, dimensions, ...) float16
        From a sample of the template to its place in the anatomy.
    back : (N, dimensions, ...) float16
        From a sample of the anatomy to its place in the template.
    step : int
    """

    out: np.ndarray
    back: np.ndarray
    step: int

    def places(self, source: int, target: int, shape: Sequence[int], corner: np.ndarray) -> np.ndarray:
        """Where in anatomy `source` each sample of a box of anatomy `target` lies, (dimensions, ...).

        Parameters
        ----------
        source, target : int
        shape : sequence of int
            Of the box; beyond the anatomy a field goes on as it is at its border.
        corner : (dimensions,) array
            Its first sample, in the anatomy.
        """
        start = grid(shape) + corner.astype(np.float32).reshape(-1, *[1] * len(shape))
        middle = start + sample(self.back[target], start / self.step)
        return middle + sample(self.out[source], middle / self.step)


def cached_fields(shapes: Sequence[np.ndarray], step: int, cache: Path) -> Fields:
    """The fields of anatomies, of which every ``step``-th sample is given: from the cache, or computed and kept."""
    key = hashlib.sha256("".join([f"v{_VERSION} {step}", *map(_digest, shapes)]).encode()).hexdigest()[:16]
    path = cache / f"fields-{key}.npz"
    try:
        with np.load(path) as found:
            return Fields(found["out"], found["back"], step)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # Not there, or damaged: made again.
        pass
    fields = make_fields(shapes, step)
    stream = io.BytesIO()
    np.savez_compressed(stream, out=fields.out, back=fields.back)
    cache.mkdir(parents=True, exist_ok=True)
    write_bytes(path, stream.getvalue())
    return fields


def make_fields(shapes: Sequence[np.ndarray], step: int) -> Fields:
    """Register anatomies, arrays of one size, to the template that they make together."""
    template = np.mean(shapes, axis=0)
    start = grid(template.shape)
    for _ in range(_ROUNDS - 1):
        moves = [_register(template, shape) for shape in shapes]
        # The mean of the fields is taken out: the template stays in the middle.
        mean = np.mean(moves, axis=0)
        template = np.mean([sample(s[None], start + move - mean)[0] for s, move in zip(shapes, moves)], axis=0)
    out = [_register(template, shape) for shape in shapes]
    back = [_inverse(move) for move in out]
    forth, home = (np.asarray(moves, np.float16) * np.float16(step) for moves in (out, back))
    return Fields(forth, home, step)


def _register(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Field (dimensions, ...) in samples: ``moving`` at index + field looks like ``fixed`` at the index."""
    import SimpleITK as sitk

    target, source = (sitk.GetImageFromArray(one.astype(np.float32)) for one in (fixed, moving))
    start = _affine(sitk, target, source)
    moved = sitk.Resample(source, target, start, sitk.sitkLinear, 0.0)
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    # The same bits whatever the machine.
    demons.SetNumberOfThreads(1)
    demons.SetNumberOfIterations(_ITERATIONS)
    demons.SetStandardDeviations(_FIELD_SMOOTH)
    kind = sitk.sitkVectorFloat64
    field = sitk.Cast(demons.Execute(target, moved), kind)
    both = sitk.CompositeTransform([start, sitk.DisplacementFieldTransform(field)])
    total = sitk.GetArrayFromImage(sitk.TransformToDisplacementField(both, kind, target.GetSize()))
    # ITK has x first, and arrays of it last.
    return np.moveaxis(total, -1, 0)[::-1].astype(np.float32)


def _affine(sitk: Any, target: Any, source: Any) -> Any:
    if min(sitk.GetArrayViewFromImage(one).sum() for one in (target, source)) <= 0:
        # Without a label there is nothing to lay on anything.
        return sitk.AffineTransform(target.GetDimension())
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.01, 60)
    method.SetOptimizerScalesFromPhysicalShift()
    how = sitk.CenteredTransformInitializerFilter.MOMENTS
    start = sitk.CenteredTransformInitializer(target, source, sitk.AffineTransform(target.GetDimension()), how)
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(target, source)
    return start


def _inverse(move: np.ndarray) -> np.ndarray:
    """The inverse of a field, by fixed point (Chen et al., Med Phys 2008)."""
    start, back = grid(move.shape[1:]), -move
    for _ in range(15):
        back = -sample(move, start + back)
    return back


def _digest(shape: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(shape).tobytes()).hexdigest()
