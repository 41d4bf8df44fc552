"""The viewer beside a QC page: NiiVue, and the volumes of the page's scans, each loaded when it is looked at."""

import base64
import gzip
import lzma
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from sctseg7t.files import write_bytes
from sctseg7t.image.grid import bounding_box
from sctseg7t.inference.record import BRAIN, FAILED, Record
from sctseg7t.qc.brain_card import lesions_of
from sctseg7t.qc.brain_stack import shown_range
from sctseg7t.qc.load_saved import load_saved
from sctseg7t.report.html import html_json
from sctseg7t.report.slice_images import gray_range, head_box, to_gray

FOLDER, VOLUMES = "viewer", "volumes"
# The program as its authors packed it, and as the page calls it.
_NIIVUE, _PROGRAM = "niivue-0.69.0.umd.js.xz", "niivue.js"
_PAGE = ("viewer.html", "viewer.css", "viewer.js", "LICENSE.niivue.txt")
# What lies around a cord or a brain.
_MARGIN_MM = {True: 4.0, False: 25.0}
_COLOURS = {"SC": (86, 180, 233), "GM": (230, 159, 0), "WM": (43, 182, 115), "LESION": (255, 84, 54)}


def has_viewer(folder: Path) -> bool:
    """Whether a page has a viewer beside it."""
    return (folder / FOLDER / _PAGE[0]).is_file()


def volume_path(folder: Path, key: str) -> Path:
    """Where a scan's volume lies, by the key of its card."""
    return folder / FOLDER / VOLUMES / f"{key}.js"


def write_program(folder: Path) -> None:
    """Write the viewer's page and program beside a QC page.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    assets = resources.files("sctseg7t.qc") / "viewer_assets"
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    write_bytes(place / _PROGRAM, lzma.decompress((assets / _NIIVUE).read_bytes()))
    for name in _PAGE:
        write_bytes(place / name, (assets / name).read_bytes())


def keep_only(folder: Path, keys: Iterable[str]) -> None:
    """Remove the volumes of scans that are no longer on the page."""
    wanted = {f"{key}.js" for key in keys}
    for path in (folder / FOLDER / VOLUMES).glob("*.js"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)


def write_volume(record: Record, card: dict[str, Any], path: Path) -> None:
    """Write a scan and its masks as a script that gives them to the viewer; nothing for a scan that cannot be shown.

    The image is cut around the organ and has 256 steps of gray; voxels keep their size and place in the world.

    Parameters
    ----------
    record : Record
    card : dict
        The scan's, see :func:`sctseg7t.qc.card.make_card`.
    path : Path
    """
    saved = load_saved(record) if record.status != FAILED else None
    if saved is None or saved.image is None or saved.grid is None:
        return
    grid, masks = saved.grid, {name: data[..., 0] >= 0.5 for name, data in saved.masks.items()}
    part = _part(saved.image[..., 0], masks, record, grid)
    affine = grid.affine.copy()
    affine[:3, 3] += grid.affine[:3, :3] @ [ends.start for ends in part]
    inside = saved.image[..., 0][part]
    layers = {name: data[part].astype(np.uint8) for name, data in masks.items()}
    limits, lesions = gray_range(inside), []
    if "lesions" in card:
        table = lesions_of(saved, grid, record)
        layers = {"LESION": table.labels[part]}
        limits = shown_range(inside, layers["LESION"])
        rows = (dict(zip(card["lesion_columns"], values)) for values in card["lesions"])
        lesions = [_lesion(row, table.labels, grid) for row in rows]
    content = {
        "name": record.name,
        "image": _nifti(to_gray(inside, limits), affine, limits),
        "range": limits,
        "masks": [
            {"name": name, "colour": _COLOURS.get(name, (204, 121, 167)), "data": _nifti(data, affine)}
            for name, data in layers.items()
        ],
        "lesions": lesions,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, f"sct7tVolume({html_json(content)});\n".encode())


def _part(image, masks, record, grid):
    """The voxels around the organ, along each axis; all slices of a cord."""
    brain = record.kind == BRAIN
    held = bounding_box(np.any([*masks.values()], axis=0)) if masks else None
    box = (record.raw.get("brain") or {}).get("box") if brain else None
    ends = box or (head_box(image, image.shape) if brain else [(part.start, part.stop) for part in held or ()])
    part = []
    for axis, count in enumerate(image.shape):
        low, high = ends[axis] if ends else (0, count)
        if held:
            low, high = min(low, held[axis].start), max(high, held[axis].stop)
        margin = int(np.ceil(_MARGIN_MM[brain] / grid.spacing_mm[axis]))
        whole = axis == 2 and not (brain and box)
        part.append(slice(0, count) if whole else slice(max(0, low - margin), min(count, high + margin)))
    return tuple(part)


def _nifti(data, affine, limits=(0.0, 255.0)):
    """A file in base64; 0 and 255 are the limits."""
    image = nib.Nifti1Image(np.asfortranarray(data.astype(np.uint8 if data.max() < 256 else np.int16)), affine)
    image.header.set_slope_inter((limits[1] - limits[0]) / 255, limits[0])
    return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()


def _lesion(row, labels, grid):
    """A row of the viewer's table: numbers, and the place in the world of the voxel nearest to the middle."""
    k = row["slice"]
    voxels = np.argwhere(labels[..., k] == row["id"])
    nearest = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    mm = grid.affine[:3, :3] @ [*nearest, k] + grid.affine[:3, 3]
    shown = {name: row[name] for name in ("id", "counted", "volume_mm3", "diameter_mm", "location")}
    return {**shown, "mm": [round(float(v), 2) for v in mm]}
