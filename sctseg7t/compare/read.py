"""Masks on one grid: every file read once, checked, and what cannot be used told."""

from dataclasses import dataclass, field

import nibabel as nib
import numpy as np

from sctseg7t.compare.names import LESION
from sctseg7t.compare.records import Problem
from sctseg7t.errors import InputError
from sctseg7t.image.geometry import geometry_of, is_oriented
from sctseg7t.image.nifti import READ_ERRORS, read_image

# Stored fractions of 0 and 1 may be off by the rounding of a scaled integer.
_ROUNDING = 1e-4
_EMPTY = "every slice in which another mask has something counts as missing"
_EMPTY_LESIONS = "it has no lesions: F1 and Dice are 0 where the other mask has some, and not defined where it has none"


@dataclass(frozen=True, eq=False)
class Grid:
    """A canonical RAS+ grid: shape (X, Y, Z), affine to world RAS in mm, and the file that it is of."""

    shape: tuple
    affine: np.ndarray
    name: str

    @property
    def spacing_mm(self):
        return tuple(float(size) for size in nib.affines.voxel_sizes(self.affine))

    @property
    def pixel_mm2(self):
        """Area of a voxel in its slice."""
        return float(np.linalg.norm(np.cross(self.affine[:3, 0], self.affine[:3, 1])))


@dataclass(frozen=True, eq=False)
class ReadCase:
    """The masks of one scan.

    Attributes
    ----------
    grid : Grid or None
        Of the cord's tissues; None where no mask of them could be read.
    masks : dict of (method, structure) to (X, Y, Z) bool
    levels : (X, Y, Z) int32 or None
    image_fits : bool
        Whether the scan, if there is one, is on the grid of the tissues' masks.
    sha256 : dict of (method, structure) to str
    problems : tuple of Problem
    lesion_grid : Grid or None
        Of the lesions: a brain's scan is another than the cord's.
    lesion_image_fits : bool
        As ``image_fits``, on the lesions' grid.
    """

    grid: Grid | None
    masks: dict
    levels: np.ndarray | None
    image_fits: bool
    sha256: dict
    problems: tuple = field(default=())
    lesion_grid: Grid | None = None
    lesion_image_fits: bool = False


def read_case(case, settings, reference=None):
    """Read the masks of a case onto one grid: the reference's, else the scan's, else the first method's.

    Lesions have a grid of their own, chosen so among their masks. The same grid stored in another order or direction
    of axes is the same grid.

    Parameters
    ----------
    case : Case
    settings : Settings
        ``grids`` and ``threshold``.
    reference : str, optional
        Which of the methods is the reference.

    Returns
    -------
    ReadCase
    """
    # A reference that is moved to another grid is none: the others go to its.
    order = sorted(case.masks, key=lambda key: key[0] != reference)
    read, problems, sha256 = {}, [], {}
    for key in order:
        try:
            mask, grid, sha256[key], note = _read_mask(case.masks[key], settings.threshold, key[1])
        except _Refused as refused:
            problems.append(_problem(refused.kind, case, key, str(refused)))
            continue
        read[key] = mask, grid
        if note:
            problems.append(_problem(note[0], case, key, note[1], left_out=False))
    image = _image_grid(case, problems)
    tissues, lesions = ({key: found for key, found in read.items() if (key[1] == LESION) is of} for of in (False, True))
    anchor = _anchor(tissues, image if tissues or not lesions else None, reference)
    lesion_anchor = _lesion_anchor(lesions, image, reference)
    masks = {}
    for key in case.masks:
        if key in read:
            onto = lesion_anchor if key[1] == LESION else anchor
            mask = _on_grid(case, key, *read[key], onto, settings.grids, problems)
            if mask is not None:
                masks[key] = mask
    fits, lesions_fit = (
        image is not None and grid is not None and not difference(image, grid) for grid in (anchor, lesion_anchor)
    )
    if image is not None and not (fits or lesions_fit) and (anchor or lesion_anchor):
        differs = difference(image, anchor or lesion_anchor)
        text = f"{case.image}: its grid is not that of the masks ({differs}); no picture is made of it"
        problems.append(Problem("grid", case.name, None, None, str(case.image), text, False))
    levels = _levels(case, anchor, problems) if anchor else None
    return ReadCase(anchor, masks, levels, fits, sha256, tuple(problems), lesion_anchor, lesions_fit)


def difference(grid, other):
    """How a grid differs from another, in words; "" where they are the same to a twentieth of a voxel."""
    if grid.shape != other.shape:
        sizes = (" x ".join(map(str, g.shape)) + " voxels of " + _mm(g.spacing_mm) for g in (grid, other))
        return " against ".join(sizes)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij")).reshape(3, -1)
    moved = ((grid.affine - other.affine)[:3] @ np.vstack([corners, np.ones(8)])).T
    farthest = float(np.linalg.norm(moved, axis=1).max())
    if farthest < 0.05 * min(other.spacing_mm):
        return ""
    if not np.allclose(grid.spacing_mm, other.spacing_mm, rtol=1e-3):
        return f"voxels of {_mm(grid.spacing_mm)} against {_mm(other.spacing_mm)}"
    shift = moved.mean(0)
    if np.linalg.norm(moved - shift, axis=1).max() < 0.05 * min(other.spacing_mm):
        return "moved by " + " / ".join(f"{v:+.2f}" for v in shift) + " mm to right / anterior / superior"
    return f"turned or moved: corners lie up to {farthest:.2f} mm apart"


def _mm(sizes):
    return " x ".join(f"{size:.4g}" for size in sizes) + " mm"


class _Refused(Exception):
    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


def _problem(kind, case, key, text, left_out=True):
    return Problem(kind, case.name, *key, str(case.masks[key]), text, left_out)


def _read_mask(path, threshold, structure):
    """Boolean canonical mask, its grid, hash, and what should be known of it (kind, text) or None."""
    try:
        image, digest = read_image(path)
        geometry = geometry_of(image.header, image.affine, image.shape, str(path), axial=False)
        if geometry.shape[3] != 1:
            raise _Refused("unreadable", f"{path}: has {geometry.shape[3]} volumes; give a mask of one volume")
        values = np.asanyarray(image.dataobj).reshape((*image.shape, 1, 1)[:3], order="F")
    except InputError as err:
        raise _Refused("unreadable", str(err)) from err
    except READ_ERRORS as err:
        reason = " ".join(str(err).split())
        raise _Refused("unreadable", f"{path}: its voxels cannot be read ({reason}); write the mask again") from err
    mask, note = _as_mask(values, path, threshold)
    if note is None and not mask.any():
        note = ("empty", f"{path}: is empty; {_EMPTY_LESIONS if structure == LESION else _EMPTY}")
    name = str(path) if is_oriented(image.header) else None
    return _canonical(mask, geometry), Grid(geometry.shape[:3], geometry.affine, name or ""), digest, note


def _canonical(values, geometry):
    orientation = geometry.source.orientation
    flips = [axis for axis in range(3) if orientation[axis, 1] < 0]
    return np.flip(values, flips).transpose(*np.argsort(orientation[:, 0]))


def _as_mask(values, path, threshold):
    """Boolean array of a mask's values, and a note (kind, text) or None; _Refused if they are no mask's."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise _Refused("nan", f"{path}: has {count} NaN or infinite voxels; replace them with 0")
    low, high = float(values.min()), float(values.max())
    mask = values > 0.5
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        if values.dtype.kind != "f" or np.abs(values - mask).max() <= _ROUNDING:
            return mask, None
        if threshold is None:
            raise _Refused("soft", f"{path}: holds fractions between 0 and 1; give -thr 0.5 to cut them there")
        return values >= threshold, ("soft", f"{path}: fractions, cut at {threshold:g}")
    found = np.unique(values)
    if found.tolist() == [0, 255]:
        return mask, ("values", f"{path}: holds 0 and 255; 255 is taken for the mask")
    some = ", ".join(f"{value:g}" for value in found[:5]) + (" ..." if len(found) > 5 else "")
    if len(found) > 20 or not np.array_equal(found, np.round(found)):
        raise _Refused("values", f"{path}: holds values from {low:g} to {high:g}, so it is no mask; give the mask")
    raise _Refused("values", f"{path}: holds the values {some}; write each tissue to a file of its own, 0 and 1")


def _image_grid(case, problems):
    from sctseg7t.image.volume import check_header

    if case.image is None:
        return None
    try:
        geometry = check_header(case.image, axial=False)
    except InputError as err:
        problems.append(Problem("unreadable", case.name, None, None, str(case.image), str(err), False))
        return None
    return Grid(geometry.shape[:3], geometry.affine, str(case.image))


def _anchor(read, image, reference):
    for key, (_, grid) in read.items():
        if key[0] == reference:
            return grid
    return image or next((grid for _, grid in read.values()), None)


def _lesion_anchor(read, image, reference):
    """As :func:`_anchor`; the scan's only where lesions were drawn in it, for it can be the cord's."""
    drawn = image is not None and any(not difference(grid, image) for _, grid in read.values())
    return _anchor(read, image if drawn else None, reference)


def _on_grid(case, key, mask, grid, anchor, policy, problems):
    """The mask on the anchor's grid; None, with a problem, where it is refused."""
    differs = difference(grid, anchor)
    if not differs:
        return mask
    path = case.masks[key]
    if not grid.name and grid.shape == anchor.shape:
        text = f"{path}: its header has no orientation; it is taken to lie on {anchor.name or 'the others'}"
        problems.append(_problem("grid", case, key, text, left_out=False))
        return mask
    if policy == "refuse":
        text = (
            f"{path}: its grid is not that of {anchor.name or 'the other masks'} ({differs}); "
            "bring it there, or give -grids resample"
        )
        problems.append(_problem("grid", case, key, text))
        return None
    moved = _resampled(mask, grid, anchor)
    if mask.any() and not moved.any():
        text = f"{path}: lies outside {anchor.name or 'the other masks'} ({differs}); give the mask of the same scan"
        problems.append(_problem("grid", case, key, text))
        return None
    text = f"{path}: resampled to {anchor.name or 'the other masks'} ({differs}), nearest neighbour"
    problems.append(_problem("resampled", case, key, text, left_out=False))
    return moved


def _resampled(mask, grid, anchor):
    """Nearest neighbour of a mask on another grid; False outside its field of view."""
    to_mask = np.linalg.inv(grid.affine) @ anchor.affine
    out = np.zeros(anchor.shape, bool)
    i, j = np.arange(anchor.shape[0])[:, None], np.arange(anchor.shape[1])[None, :]
    for k in range(anchor.shape[2]):
        # The small bias makes ties between two voxels fall the same way everywhere.
        index = [np.floor(a * i + b * j + c * k + d + 0.5 + 1e-6).astype(np.intp) for a, b, c, d in to_mask[:3]]
        inside = np.logical_and.reduce([(at >= 0) & (at < n) for at, n in zip(index, mask.shape)])
        out[..., k][inside] = mask[tuple(at[inside] for at in index)]
    return out


def _levels(case, anchor, problems):
    """Vertebral labels on the anchor's grid, or None."""
    if case.levels is None:
        return None
    try:
        image, _ = read_image(case.levels)
        geometry = geometry_of(image.header, image.affine, image.shape, str(case.levels), axial=False)
        values = np.rint(np.nan_to_num(np.asanyarray(image.dataobj).astype(np.float64)))
        labels = _canonical(values.reshape((*image.shape, 1, 1)[:3], order="F"), geometry).astype(np.int32)
    except (InputError, *READ_ERRORS) as err:
        text = f"{case.levels}: cannot be used ({' '.join(str(err).split())}); no level is compared"
        problems.append(Problem("unreadable", case.name, None, None, str(case.levels), text, False))
        return None
    grid = Grid(geometry.shape[:3], geometry.affine, str(case.levels))
    if labels.min() < 0 or (differs := difference(grid, anchor)):
        why = "it holds negative labels" if labels.min() < 0 else f"its grid is not that of the masks: {differs}"
        text = f"{case.levels}: no level is compared ({why}); give labels on the scan's grid"
        problems.append(Problem("grid", case.name, None, None, str(case.levels), text, False))
        return None
    return labels
