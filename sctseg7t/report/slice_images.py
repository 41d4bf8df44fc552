"""Pictures of slices: cut around cord or brain at the scan's own pixels, seen from below (right is left), as WebP."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sctseg7t.image.grid import bounding_box
from sctseg7t.report.contours import outline

# A cord is at most 16 mm wide; the rest shows what lies around it.
CORD_FIELD_MM = 30.0
_CORD_MARGIN_MM, _BRAIN_MARGIN_MM = 3.0, 4.0
# WebP qualities, tried from the best until the pictures of a scan are small enough.
_QUALITIES = (90, 80, 65, 45)
_BYTES_PER_SCAN = 110_000
_OVERVIEW_PIXELS = 200
# Part of the bright voxels' intensity (99th percentile) from which a voxel belongs to the head.
_HEAD = 0.15
# Part of the head's largest extent along a line from which it is there, and of its largest slice that has brain.
_PROFILE, _BRAIN = 0.04, 0.45


@dataclass(frozen=True, eq=False)
class Window:
    """The part of each slice that is shown.

    Attributes
    ----------
    start : (Z, 2) int array
        First voxel along x and y on each slice.
    size : tuple of 2 int
        Voxels along x and y, the same on each slice.
    """

    start: np.ndarray
    size: tuple[int, int]


def cord_window(
    masks: np.ndarray, shape: Sequence[int], spacing_mm: Sequence[float], field_mm: float = CORD_FIELD_MM
) -> Window:
    """Window around a cord: centred on the mask of each slice, large enough for all of every mask.

    Parameters
    ----------
    masks : (X, Y, Z) bool array
        Union of all tissues.
    shape : (X, Y, Z)
    spacing_mm : sequence of float
    field_mm : float
        Least size.
    """
    low, high = np.full((shape[2], 2), np.nan), np.full((shape[2], 2), np.nan)
    for k in np.flatnonzero(masks.any(axis=(0, 1))):
        box = bounding_box(masks[..., k]) or ()
        low[k], high[k] = [part.start for part in box], [part.stop - 1 for part in box]
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
        wanted = max(field_mm / spacing_mm[axis], extent + 2 * _CORD_MARGIN_MM / spacing_mm[axis])
        size.append(min(shape[axis], int(np.ceil(wanted))))
    start = np.rint(centre - (np.array(size) - 1) / 2).astype(int)
    return Window(np.clip(start, 0, np.array(shape[:2]) - size), (size[0], size[1]))


def brain_window(labels: np.ndarray, box: Sequence[Sequence[int]], spacing_mm: Sequence[float]) -> Window:
    """Window around a brain, the same on every slice: it holds a box and all labels, and a margin.

    Parameters
    ----------
    labels : (X, Y, Z) array
        0 outside.
    box : sequence of (first, end)
        Along each axis, see :func:`head_box`.
    spacing_mm : sequence of float
    """
    start, size = [], []
    for axis in (0, 1):
        margin = int(np.ceil(_BRAIN_MARGIN_MM / spacing_mm[axis]))
        held = np.flatnonzero(labels.any(axis=(1 - axis, 2)))
        low, high = box[axis]
        if len(held):
            low, high = min(low, int(held[0])), max(high, int(held[-1]) + 1)
        start.append(max(0, low - margin))
        size.append(min(labels.shape[axis], high + margin) - start[-1])
    return Window(np.broadcast_to(np.array(start), (labels.shape[2], 2)), (size[0], size[1]))


def head_box(image: np.ndarray | None, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Where the head is, found by its brightness: (first, end) along each axis, along the last without the neck.

    Parameters
    ----------
    image : (X, Y, Z) array, or None
        None, or an image without contrast: the whole grid.
    shape : (X, Y, Z)
    """
    whole = [(0, int(n)) for n in shape]
    if image is None:
        return whole
    few = image[::2, ::2, ::2]
    low, high = np.percentile(few, (1, 99))
    inside = few > low + _HEAD * (high - low)
    if not inside.any():
        return whole
    ends = []
    for axis, across in enumerate(((1, 2), (0, 2), (0, 1))):
        profile = inside.sum(axis=across)
        held = np.flatnonzero(profile >= (_BRAIN if axis == 2 else _PROFILE) * profile.max())
        ends.append((2 * int(held[0]), min(int(shape[axis]), 2 * int(held[-1]) + 2)))
    return ends


def cut(plane: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A window of an (X, Y) plane as rows and columns of a screen: anterior up, right on the left."""
    return on_screen(plane[start[0] : start[0] + size[0], start[1] : start[1] + size[1]])


def on_screen(plane: np.ndarray) -> np.ndarray:
    """An (X, Y) plane as rows and columns of a screen: both axes turned round."""
    return plane[::-1, ::-1].T


def mask_paths(
    masks: Mapping[str, np.ndarray], k: int, t: int, start: Sequence[int], size: Sequence[int]
) -> dict[str, str]:
    """SVG path of each tissue in the window of one slice; soft masks are outlined at 0.5.

    Parameters
    ----------
    masks : dict of str to (X, Y, Z, T) array
        One volume is that of all ``t``.
    k, t : int
        Slice and volume.
    start, size : sequence of 2 int
    """
    paths = {}
    for name, data in masks.items():
        path = outline(cut(data[..., k, min(t, data.shape[3] - 1)], start, size) >= 0.5)
        if path:
            paths[name] = path
    return paths


def gray_range(values: np.ndarray) -> tuple[float, float]:
    """Intensities shown as black and white."""
    low, high = np.percentile(values, (0.5, 99.7))
    return float(low), float(high if high > low else low + 1)


def to_gray(plane: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """A plane as uint8, with given intensities as black and white."""
    low, high = limits
    # In double precision: a range of 1e-40 overflows in single.
    return np.clip((plane.astype(float) - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def to_grays(planes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Slices of one stack as uint8; a slice darker than the others is brightened by half of that (geometrically)."""
    low, high = gray_range(np.stack(planes))
    return [
        to_gray(plane, (low, low + np.sqrt((high - low) * max(gray_range(plane)[1] - low, 0.05 * (high - low)))))
        for plane in planes
    ]


def encode_all(planes: Sequence[np.ndarray], budget: int = _BYTES_PER_SCAN) -> list[str]:
    """Encode the slices of one scan, at the best quality that keeps it under its share of the page.

    Parameters
    ----------
    planes : sequence of (rows, columns) uint8
    budget : int
        Bytes of all of them.

    Returns
    -------
    list of str
        WebP in base64.
    """
    packed = []
    for quality in _QUALITIES:
        packed = [_webp(plane, quality) for plane in planes]
        if sum(map(len, packed)) <= budget:
            break
    return [base64.b64encode(data).decode() for data in packed]


def overview(
    plane: np.ndarray,
    spacing_mm: Sequence[float],
    start: Sequence[int] | None = None,
    size: Sequence[int] | None = None,
) -> dict[str, Any]:
    """A whole slice, small, and where the window lies on it.

    Returns
    -------
    dict
        ``image`` (WebP in base64), ``width`` and ``height`` in pixels, ``box`` (x, y, width, height in 0..1) or None.
    """
    from PIL import Image

    extent = plane.shape[0] * spacing_mm[0], plane.shape[1] * spacing_mm[1]
    scale = _OVERVIEW_PIXELS / max(extent)
    width, height = (max(1, round(e * scale)) for e in extent)
    gray = to_gray(on_screen(plane), gray_range(plane))
    small = Image.fromarray(gray).resize((width, height), Image.Resampling.BILINEAR)
    box = None
    if start is not None and size is not None:
        x = 1 - (start[0] + size[0]) / plane.shape[0], 1 - (start[1] + size[1]) / plane.shape[1]
        box = [round(float(v), 4) for v in (*x, size[0] / plane.shape[0], size[1] / plane.shape[1])]
    image = base64.b64encode(_webp(np.asarray(small), 60)).decode()
    return {"image": image, "width": width, "height": height, "box": box}


def _webp(plane, quality):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()
