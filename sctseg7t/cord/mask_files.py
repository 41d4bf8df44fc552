"""Measuring masks that exist already: files of anyone's, hard, soft or with several labels."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sctseg7t.cord.corrected import GM_OUTSIDE, fit
from sctseg7t.cord.measuring import measure_volume, warning_lines
from sctseg7t.cord.places import read_places
from sctseg7t.errors import InputError, UsageError
from sctseg7t.image.geometry import geometry_of
from sctseg7t.image.masks import Mask, Readable, read_mask
from sctseg7t.image.volume import Volume, from_order, load, open_image, stored_values
from sctseg7t.inference.roles import LEVELS
from sctseg7t.measure.columns import TISSUES
from sctseg7t.measure.csa import CsaTable
from sctseg7t.text import ranges

# Stored fractions of 0 and 1 may be off by the rounding of a scaled integer.
_ROUNDING = 1e-3
# Of the files that go with masks.
ROLES = (*LEVELS, "pmj")
# Share of a slice's GM outside SC from which it is told.
_OUTSIDE = 0.02


@dataclass(frozen=True, eq=False)
class MeasuredMasks:
    """What was measured of the masks of one scan.

    Attributes
    ----------
    tables : list of CsaTable
        One a volume.
    warnings : list of str
    sha256 : dict of str to str or None
        Of every mask's file, by tissue.
    cut : dict of str to int
        Voxels that a mask lost to a corrected one, by tissue.
    """

    tables: list[CsaTable]
    warnings: list[str] = field(default_factory=list)
    sha256: dict[str, str | None] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)


def measure_masks(
    masks: Mapping[str, Readable | tuple[Readable, Collection[int]]],
    *,
    image: Readable | None = None,
    corrected: Collection[str] = (),
    flags: Sequence[Sequence[Sequence[str]]] = (),
    **files: Readable,
) -> MeasuredMasks:
    """Measure masks of the cord as :func:`sctseg7t.segment` measures its own.

    Parameters
    ----------
    masks : dict of str to path or nibabel image
        By tissue: "SC", "GM", "WM". All on one grid, in any orientation. A hard mask, fractions in 0..1, or
        ``(file, labels)`` for the voxels of a label image that have one of these values.
    image : path or nibabel image, optional
        The scan, on the grid of the masks.
    corrected : collection of str
        Tissues that somebody corrected among masks of ours, which the others then follow: GM is kept within SC, and WM
        is SC - GM. Masks of anyone else's are measured as they are.
    flags : sequence of sequences of sequences of str
        Doubts known already, by volume and slice.
    **files
        By role: ``levels`` or ``discfile``, and ``pmj``; see :func:`sctseg7t.cord.places.read_places`.

    Returns
    -------
    MeasuredMasks

    Raises
    ------
    InputError
        A file cannot be used, or is not on the grid of the others; it is named.
    UsageError
        Unknown tissue or role.

    Examples
    --------
    >>> import sctseg7t
    >>> found = sctseg7t.measure_masks({"SC": "t2s_seg.nii.gz", "GM": "t2s_gmseg.nii.gz"})   # doctest: +SKIP
    >>> found.tables[0].column("GM", "area_mm2")                                       # doctest: +SKIP
    """
    if not masks or set(masks) - set(TISSUES):
        raise UsageError(f"masks: give some of {', '.join(TISSUES)}, not {', '.join(masks) or 'nothing'}")
    if unknown := set(files) - set(ROLES):
        raise UsageError(f"{', '.join(sorted(unknown))}: no role of a file here; known: {', '.join(ROLES)}")
    named = {tissue: given if isinstance(given, tuple) else (given, ()) for tissue, given in masks.items()}
    warnings: list[str] = []
    scan = load(image) if image is not None else None
    anchor = scan or _as_volume(next(iter(named.values()))[0])
    warnings += anchor.notes
    maps, sha256 = {}, {}
    for tissue, (source, labels) in named.items():
        mask = read_mask(source, anchor)
        if differs := mask.grid.difference(anchor.grid):
            where = f"its grid is not that of {anchor.name} ({differs})"
            raise InputError(f"{mask.grid.name}: {where}; give masks of one scan, on one grid")
        maps[tissue], sha256[tissue] = _fractions(mask, labels, warnings), mask.sha256
    maps, cut, _ = fit(maps, corrected) if corrected else (maps, {}, None)
    if "GM" in cut:
        warnings.append(f"GM lost {cut['GM']} voxels that are outside the corrected SC")
    counts = {tissue: values.shape[3] for tissue, values in maps.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{tissue} {count}" for tissue, count in counts.items())
        raise InputError(f"{anchor.name}: its masks have different numbers of volumes ({text}); give masks of one scan")
    places = read_places(files, anchor, warnings)
    tables = []
    count = next(iter(counts.values()))
    for t in range(count):
        volume = {tissue: values[..., t] for tissue, values in maps.items()}
        known = dict(enumerate(flags[t] if t < len(flags) else ()))
        own = [[*known.get(k, ()), *more] for k, more in enumerate(_outside(volume))]
        seen = None
        if scan is not None:
            # One mask of many volumes was drawn on their mean.
            seen = scan.data[..., t] if scan.data.shape[3] == count else scan.data.mean(axis=3)
        tables.append(measure_volume(volume, anchor.affine, image=seen, flags=own, **places))
        tag = f"volume {t}: " if count > 1 else ""
        warnings += [tag + text for text in warning_lines(tables[-1])]
    return MeasuredMasks(tables, warnings, sha256, cut)


def _as_volume(source: Readable) -> Volume:
    """A mask as the image that says the grid; unlike a scan it may be empty."""
    image, path, sha256 = open_image(source)
    name = str(path) if path else "mask in memory"
    geometry = geometry_of(image.header, image.affine, image.shape, name)
    data = from_order(stored_values(image, name, np.float32), geometry.source.orientation)
    # What is notable of a scan's resolution is that of a mask too; but nothing says a mask's orientation is lost.
    return Volume(data, geometry.affine, geometry.spacing_mm, path, sha256, geometry.notes, (), geometry.source)


def _fractions(mask: Mask, labels: Collection[int], warnings: list[str]) -> np.ndarray:
    """Fractions (X, Y, Z, T) of a mask's file; what it must be told about it is added to the warnings."""
    name, values = mask.grid.name, mask.data
    if values.dtype.kind == "f":
        missing = ~np.isfinite(values)
        if missing.any():
            slices = ranges(np.flatnonzero(missing.any(axis=(0, 1, 3))))
            warnings.append(f"{name}: {int(missing.sum())} NaN or infinite voxels taken as 0, on slice {slices}")
            values = np.where(missing, 0, values)
    if labels:
        found = np.isin(np.rint(values), list(labels))
        if not found.any():
            given = ", ".join(map(str, sorted(labels)))
            warnings.append(f"{name}: no voxel has the value {given}")
        return found
    low, high = float(values.min()), float(values.max())
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return np.clip(values, 0, 1)
    known = np.unique(values)
    if len(known) == 2 and known[0] == 0 and high > 0:
        warnings.append(f"{name}: holds 0 and {high:g}; {high:g} is taken for the mask")
        return values == high
    if len(known) <= 60 and low >= 0 and np.array_equal(known, np.rint(known)):
        some = ", ".join(f"{value:g}" for value in known[known > 0][:5]) + (" ..." if len(known) > 6 else "")
        raise InputError(f"{name}: holds the labels {some}; say which of them are the tissue, as in {name}:1")
    raise InputError(f"{name}: holds values from {low:g} to {high:g}, so it is no mask; give fractions from 0 to 1")


def _outside(maps: Mapping[str, np.ndarray]) -> list[list[str]]:
    """A flag for the slices where gray matter lies outside the cord."""
    if not {"SC", "GM"} <= set(maps):
        return [[]] * next(iter(maps.values())).shape[2]
    # In float: hard masks are unsigned, and True - True is no number.
    beyond = np.clip(maps["GM"].astype(np.float32) - maps["SC"], 0, None).sum(axis=(0, 1))
    return [[GM_OUTSIDE] * bool(out > _OUTSIDE * all_) for out, all_ in zip(beyond, maps["GM"].sum(axis=(0, 1)))]
