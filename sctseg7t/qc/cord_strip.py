"""A sagittal picture through the middle of the cord: one line of voxels from each slice, where the cord is there."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sctseg7t.report.contours import outline
from sctseg7t.report.slice_images import gray_range, to_gray

# As far in front of the cord as behind it.
FIELD_MM = 60.0


def sagittal_strip(
    image: np.ndarray | None, masks: Mapping[str, np.ndarray], spacing_mm: Sequence[float]
) -> dict[str, Any] | None:
    """Cut a stack of cord slices along the cord's middle.

    Parameters
    ----------
    image : (X, Y, Z) array, or None
    masks : dict of str to (X, Y, Z) array
        Soft ones are outlined at 0.5. The middle is that of SC, or of all there is.
    spacing_mm : sequence of float

    Returns
    -------
    dict or None
        ``image`` (WebP in base64, or None), ``size`` (columns, rows), ``mm`` of a pixel's sides, ``paths`` by tissue;
        anterior is left, superior up, and row 0 the last slice. None without a cord.
    """
    inside = {name: data >= 0.5 for name, data in masks.items()}
    cord = inside["SC"] if "SC" in inside else np.any([*inside.values()], axis=0) if inside else None
    if cord is None or not cord.any():
        return None
    middle = np.rint([_along(cord.sum(axis=1 - axis, dtype=float)) for axis in (0, 1)]).astype(int)
    half = FIELD_MM / spacing_mm[1] / 2
    y = slice(max(0, int(middle[1].min() - half)), int(middle[1].max() + half) + 1)
    x, k = middle[0], np.arange(cord.shape[2])
    # Indexed by slice: (Z, Y); on the screen both are turned round.
    paths = {name: outline(data[x, :, k][::-1, y][:, ::-1]) for name, data in inside.items()}
    picture, shape = None, cord[x, :, k][:, y].shape
    if image is not None:
        plane = image[x, :, k][::-1, y][:, ::-1]
        picture = _webp(to_gray(plane, gray_range(plane)))
    return {
        "image": picture,
        "size": [shape[1], shape[0]],
        "mm": [round(spacing_mm[1], 4), round(spacing_mm[2], 4)],
        "paths": {name: path for name, path in paths.items() if path},
    }


def _along(profile):
    """Centre of a profile (N, Z) of each slice, interpolated where a slice is empty."""
    total = profile.sum(axis=0)
    known = np.flatnonzero(total)
    centre = (np.arange(len(profile)) @ profile)[known] / total[known]
    return np.interp(np.arange(len(total)), known, centre)


def _webp(plane):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(stream, "WEBP", quality=80, method=4)
    return base64.b64encode(stream.getvalue()).decode()
