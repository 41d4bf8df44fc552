"""Pictures of slices: cut around the cord at the scan's own pixels, seen from below (right is left)."""

import base64
import io
from dataclasses import dataclass

import numpy as np

from sctseg7t.qc.contours import outline

# A cord is at most 16 mm wide; the rest shows what lies around it.
FIELD_MM = 30.0
MARGIN_MM = 3.0
_QUALITIES = (90, 80, 65, 45)
_BYTES_PER_SCAN = 110_000
_OVERVIEW_PIXELS = 200


@dataclass(frozen=True)
class Window:
    """The part of each slice that is shown: (Z, 2) first voxel, and size in voxels."""

    start: np.ndarray
    size: tuple


def window_of(masks, shape, spacing_mm, field_mm=FIELD_MM):
    """Choose the part to show: centred on the mask of each slice, holding all of every mask.

    Parameters
    ----------
    masks : (X, Y, Z) bool array
        Union of all tissues.
    shape : (X, Y, Z)
    spacing_mm : sequence of float

    Returns
    -------
    Window
    """
    low, high = np.full((shape[2], 2), np.nan), np.full((shape[2], 2), np.nan)
    for k in np.flatnonzero(masks.any(axis=(0, 1))):
        for axis in (0, 1):
            line = np.flatnonzero(masks[..., k].any(axis=1 - axis))
            low[k, axis], high[k, axis] = line[0], line[-1]
    known = np.isfinite(low[:, 0])
    centre = np.empty((shape[2], 2))
    size = []
    for axis in (0, 1):
        middle = (low[known, axis] + high[known, axis]) / 2
        if known.any():
            centre[:, axis] = np.interp(np.arange(shape[2]), np.flatnonzero(known), middle)
            extent = (high[known, axis] - low[known, axis] + 1).max()
        else:
            centre[:, axis], extent = (shape[axis] - 1) / 2, 0
        wanted = max(field_mm / spacing_mm[axis], extent + 2 * MARGIN_MM / spacing_mm[axis])
        size.append(min(shape[axis], int(np.ceil(wanted))))
    start = np.rint(centre - (np.array(size) - 1) / 2).astype(int)
    return Window(np.clip(start, 0, np.array(shape[:2]) - size), tuple(size))


def cut(plane, start, size):
    """A window of an (X, Y) plane as rows and columns of a screen: anterior up, right on the left."""
    part = plane[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
    return part[::-1, ::-1].T


def mask_paths(masks, k, t, start, size):
    """SVG path of each tissue in one slice; soft masks are outlined at 0.5."""
    paths = {}
    for name, data in masks.items():
        path = outline(cut(data[..., k, min(t, data.shape[3] - 1)], start, size) >= 0.5)
        if path:
            paths[name] = path
    return paths


def gray_range(values):
    """Intensities shown as black and white."""
    low, high = np.percentile(values, (0.5, 99.7))
    return float(low), float(high if high > low else low + 1)


def to_grays(planes):
    """Slices of one stack as uint8; a slice darker than the others is brightened by half of that (geometrically)."""
    low, high = gray_range(np.stack(planes))
    return [
        to_gray(plane, (low, low + np.sqrt((high - low) * max(gray_range(plane)[1] - low, 0.05 * (high - low)))))
        for plane in planes
    ]


def to_gray(plane, limits):
    low, high = limits
    return np.clip((plane - low) * (255 / (high - low)), 0, 255).astype(np.uint8)


def encode_all(planes, budget=_BYTES_PER_SCAN):
    """Encode the slices of one scan, at the best quality that keeps it under its share of the page.

    Parameters
    ----------
    planes : list of (rows, columns) uint8
    budget : int
        Bytes of all of them.

    Returns
    -------
    list of str
        Base64 WebP.
    """
    packed = []
    for quality in _QUALITIES:
        packed = [_webp(plane, quality) for plane in planes]
        if sum(map(len, packed)) <= budget:
            break
    return [base64.b64encode(data).decode() for data in packed]


def shrink(plane, most):
    """A picture of at most so many (columns, rows); smaller ones stay as they are."""
    from PIL import Image

    rows, columns = plane.shape
    factor = min(1.0, most[0] / columns, most[1] / rows)
    if factor == 1:
        return plane
    size = max(1, round(columns * factor)), max(1, round(rows * factor))
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BOX))


def overview(plane, spacing_mm, start=None, size=None):
    """A whole slice, small, and where the window lies on it.

    Returns
    -------
    dict
        ``image`` (base64 WebP), ``width`` and ``height`` in pixels, ``box`` (x, y, width, height in 0..1) or None.
    """
    from PIL import Image

    gray = to_gray(plane[::-1, ::-1].T, gray_range(plane))
    extent = plane.shape[0] * spacing_mm[0], plane.shape[1] * spacing_mm[1]
    scale = _OVERVIEW_PIXELS / max(extent)
    width, height = (max(1, round(e * scale)) for e in extent)
    small = Image.fromarray(gray).resize((width, height), Image.Resampling.BILINEAR)
    box = None
    if start is not None:
        x = 1 - (start[0] + size[0]) / plane.shape[0], 1 - (start[1] + size[1]) / plane.shape[1]
        box = [round(float(v), 4) for v in (*x, size[0] / plane.shape[0], size[1] / plane.shape[1])]
    return {
        "image": base64.b64encode(_webp(np.asarray(small), 60)).decode(),
        "width": width,
        "height": height,
        "box": box,
    }


def _webp(plane, quality):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()
