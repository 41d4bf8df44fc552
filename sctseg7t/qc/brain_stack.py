"""All slices of a brain in one picture, with one window of intensities, and its lesions as runs of voxels."""

import base64
import io
import math
import zlib
from typing import Any

import numpy as np

from sctseg7t.report.slice_images import Window, cut, to_gray

# Share of the page of a brain's slices, before base64 makes it a third more: 0.5 MB in the page with all the rest.
BYTES = 345_000
# What browsers of phones can draw at once.
_PIXELS = 16_000_000
# Part of the size in the plane, and quality of WebP: tried in this order until the share is met.
_TRIES = ((1, 80), (1, 70), (1, 55), (0.8, 65), (0.65, 65), (0.5, 65), (0.5, 40), (0.35, 40), (0.25, 30))


def shown_range(image: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Intensities shown as black and white on all slices: lesions, which are the brightest, keep their texture.

    Parameters
    ----------
    image : (X, Y, Z) array
        What is shown of the scan.
    labels : (X, Y, Z) array
        0 outside lesions.
    """
    low, high = (float(v) for v in np.percentile(image, (0.5, 99.9)))
    inside = image[labels > 0]
    if inside.size:
        # A spoilt voxel does not make all others black.
        high = max(high, min(float(inside.max()), low + 3 * (high - low)))
    return low, high if high > low else low + 1


def encode_stack(
    image: np.ndarray,
    labels: np.ndarray,
    window: Window,
    stack: tuple[int, int],
    *,
    limits: tuple[float, float] | None = None,
    share: int = BYTES,
) -> dict[str, Any]:
    """Encode the slices of a stack side by side in one WebP, as well as their share of the page allows.

    Parameters
    ----------
    image, labels : (X, Y, Z) array
    window : Window
        The same on every slice.
    stack : (first, end)
        Slices.
    limits : (low, high), optional
        Intensities at black and white; default :func:`shown_range`.
    share : int
        Bytes that it may have.

    Returns
    -------
    dict
        ``image`` (WebP in base64), ``columns`` (slices in a row), ``width`` and ``height`` of a slice in pixels,
        ``first`` and ``count`` of the slices, ``range`` (intensities at 0 and 255).
    """
    (x, y), (nx, ny) = window.start[0], window.size
    part = np.s_[x : x + nx, y : y + ny, stack[0] : stack[1]]
    limits = limits or shown_range(image[part], labels[part])
    planes = [to_gray(cut(image[..., k], window.start[k], window.size), limits) for k in range(*stack)]
    count = len(planes)
    payload, size, columns = b"", (0, 0), 1
    for scale, quality in _TRIES:
        scale = min(scale, math.sqrt(_PIXELS / (count * nx * ny)))
        size = max(1, int(nx * scale)), max(1, int(ny * scale))
        # Every eighth tells well enough how large all become.
        some = planes[count % 8 // 2 :: 8]
        if count > 16 and len(_encode(some, size, quality)[0]) * count / len(some) > 1.1 * share:
            continue
        payload, columns = _encode(planes, size, quality)
        if len(payload) <= share:
            break
    return {
        "image": base64.b64encode(payload).decode(),
        "columns": columns,
        "width": size[0],
        "height": size[1],
        "first": stack[0],
        "count": count,
        "range": [float(f"{v:.5g}") for v in limits],
    }


def _encode(planes, size, quality):
    from PIL import Image

    columns = math.ceil(math.sqrt(len(planes) * size[1] / size[0]))
    rows = math.ceil(len(planes) / columns)
    sheet = np.zeros((rows * size[1], columns * size[0]), np.uint8)
    for n, plane in enumerate(planes):
        top, left = n // columns * size[1], n % columns * size[0]
        small = Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BOX)
        sheet[top : top + size[1], left : left + size[0]] = np.asarray(small)
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue(), columns


def lesion_runs(labels: np.ndarray, window: Window, most: int) -> str:
    """Voxels of the lesions as the screen has them, as runs along its rows.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        Ids from 1, 0 outside.
    window : Window
        The same on every slice; holds all lesions.
    most : int
        Ids beyond it are left out.

    Returns
    -------
    str
        Base64 of zlib of five rows of little-endian int32: slice, row, first column, length, id.
    """
    (x, y), (nx, ny) = window.start[0], window.size
    screen = labels[x : x + nx, y : y + ny][::-1, ::-1].transpose(2, 1, 0)
    padded = np.pad(np.where(screen <= most, screen, 0), ((0, 0), (0, 0), (1, 1)))
    k, row, column = np.nonzero(padded[..., 1:] != padded[..., :-1])
    # Each run ends where the next step of its row is.
    value = padded[k, row, column + 1]
    begins = np.flatnonzero(value)
    runs = np.array([k[begins], row[begins], column[begins], column[begins + 1] - column[begins], value[begins]], "<i4")
    return base64.b64encode(zlib.compress(runs.reshape(5, -1).tobytes(), 9)).decode()
