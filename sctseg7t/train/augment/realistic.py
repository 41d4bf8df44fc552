"""Realistic augmentation: the contrast of one person on the anatomy of another.

Each slice of the training scans is registered to a template: a deformation between real people, no drawn one. An image
goes through its own field to the template, and through somebody else's to their anatomy; its labels go with it.

What is registered are the labels, smoothed, not the intensities: so fields do not depend on contrast. The template is
the mean of the training slices' labels, made in two rounds; nothing of a test image is in it. The registration is
affine, then diffeomorphic demons (Vercauteren et al., NeuroImage 2009), by SimpleITK.
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
from scipy.ndimage import gaussian_filter

from sctseg7t.errors import InputError
from sctseg7t.files import write_bytes
from sctseg7t.train.augment.warping import grid, sample, warp
from sctseg7t.train.scans.items import Item, Items

# Every second sample is registered: fields are smooth, and scans coarser than the windows cut from them.
_STEP = 2
# Samples by which labels are smoothed before, and what is registered of the field in each iteration of the demons.
_SMOOTH, _FIELD_SMOOTH = 1.5, 1.0
_ITERATIONS, _ROUNDS = 60, 2
# Part of the name of a file of fields: another way to make them, another number.
_VERSION = 2


@dataclass(frozen=True, eq=False)
class Fields:
    """Deformation fields between slices and their template, on every second sample, in units of all samples.

    Attributes
    ----------
    out : (N, 2, ...) float16
        From a sample of the template to its place in the slice.
    back : (N, 2, ...) float16
        From a sample of the slice to its place in the template.
    """

    out: np.ndarray
    back: np.ndarray

    def places(self, source: int, target: int, shape: Sequence[int], margin: int = 0) -> np.ndarray:
        """Where in slice `source` each sample of the anatomy of slice `target` lies, (2, ...).

        Parameters
        ----------
        source, target : int
        shape : sequence of int
            Of the slices as they are given, with a margin; in it a field goes on as it is at its border.
        margin : int
        """
        start = grid(shape)
        middle = start + sample(self.back[target], (start - margin) / _STEP)
        return middle + sample(self.out[source], (middle - margin) / _STEP)


class Realistic:
    """Windows of the training scans on each other's anatomy.

    Parameters
    ----------
    items : Items
        Of the training scans.
    cache : path
        Folder that keeps the fields: they are computed once for a training set.

    Raises
    ------
    InputError
        The items are patches of volumes, or of one person.
    """

    def __init__(self, items: Items, cache: str | Path) -> None:
        if len(items.size) != 2:
            raise InputError("realistic augmentation is made for windows of slices; for volumes choose another one")
        # By hand, for a drawn one is off its place.
        found = [items.item(number) for number in range(len(items))]
        self._items = items
        self._people = np.array([one.subject for one in found])
        if len(set(self._people)) < 2:
            raise InputError("realistic augmentation puts images on other people's anatomy; train on two or more")
        self._number = {(one.scan, one.place): number for number, one in enumerate(found)}
        self.fields = cached_fields(found, Path(cache))

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        """The item's slice on the anatomy of somebody else, drawn among the slices of all other people."""
        number = self._number[item.scan, item.place]
        target = int(rng.choice(np.flatnonzero(self._people != item.subject)))
        own = self._items.item(number, item.margin)
        places = self.fields.places(number, target, own.inside.shape, item.margin)
        return warp(own, places + _offset(item, own))


def _offset(item: Item, own: Item) -> np.ndarray:
    """By how much an item is off its slice's own place, samples: it was drawn so, and stays so."""
    middles = []
    for one in (own, item):
        weight = one.target.sum(0)
        where = grid(weight.shape)
        middles.append([(axis * weight).sum() / max(weight.sum(), 1e-6) for axis in where])
    return (np.array(middles[0]) - middles[1]).astype(np.float32).reshape(-1, 1, 1)


def cached_fields(items: Sequence[Item], cache: Path) -> Fields:
    """The fields of slices: from the cache, or computed and kept there."""
    key = hashlib.sha256("".join([f"v{_VERSION}", *map(_digest, items)]).encode()).hexdigest()[:16]
    path = cache / f"fields-{key}.npz"
    try:
        with np.load(path) as found:
            return Fields(found["out"], found["back"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # Not there, or damaged: made again.
        pass
    fields = make_fields([item.target for item in items])
    stream = io.BytesIO()
    np.savez_compressed(stream, out=fields.out, back=fields.back)
    cache.mkdir(parents=True, exist_ok=True)
    write_bytes(path, stream.getvalue())
    return fields


def make_fields(targets: Sequence[np.ndarray]) -> Fields:
    """Register slices to the template that they make together.

    Parameters
    ----------
    targets : sequence of (K, ...) array
        Fractions of the labels of each slice.
    """
    shapes = [gaussian_filter(target.sum(0), _SMOOTH)[::_STEP, ::_STEP] for target in targets]
    template = np.mean(shapes, axis=0)
    start = grid(template.shape)
    for _ in range(_ROUNDS - 1):
        moves = [_register(template, shape) for shape in shapes]
        # The mean of the fields is taken out: the template stays in the middle.
        mean = np.mean(moves, axis=0)
        template = np.mean([sample(s[None], start + move - mean)[0] for s, move in zip(shapes, moves)], axis=0)
    out = [_register(template, shape) for shape in shapes]
    back = [_inverse(move) for move in out]
    return Fields(*(np.asarray(moves, np.float16) * np.float16(_STEP) for moves in (out, back)))


def _register(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Field (2, ...) in samples: ``moving`` at index + field looks like ``fixed`` at the index."""
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
        return sitk.AffineTransform(2)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.01, 60)
    method.SetOptimizerScalesFromPhysicalShift()
    how = sitk.CenteredTransformInitializerFilter.MOMENTS
    start = sitk.CenteredTransformInitializer(target, source, sitk.AffineTransform(2), how)
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(target, source)
    return start


def _inverse(move: np.ndarray) -> np.ndarray:
    """The inverse of a field, by fixed point (Chen et al., Med Phys 2008)."""
    start, back = grid(move.shape[1:]), -move
    for _ in range(15):
        back = -sample(move, start + back)
    return back


def _digest(item: Item) -> str:
    return hashlib.sha256(np.ascontiguousarray(item.target).tobytes()).hexdigest()
