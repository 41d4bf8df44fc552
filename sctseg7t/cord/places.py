"""What says where along the spine the slices of a scan lie, read from files: levels, discs, lists, the PMJ."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine

from sctseg7t.errors import InputError
from sctseg7t.image.masks import Readable, labels_on_scan, read_labels
from sctseg7t.image.volume import Volume
from sctseg7t.inference.mask_names import parse_name
from sctseg7t.measure.levels import DiscLevels, LabelledLevels, Levels, ListedLevels

# SCT numbers vertebrae and discs from 1, and further landmarks from 49: the pontomedullary groove and junction (50).
_HIGHEST_LEVEL = 60
_LANDMARKS, _PMJ = 49, 50
# A mark on a disc is a voxel or few.
_MOST_VOXELS = 27
_FIRST_OF = {"C": 0, "T": 7, "L": 19}
# Columns of lists of levels; the second names are those of tables of the Spinal Cord Toolbox.
_SLICE, _LEVEL = ("slice", "Slice (I->S)"), ("level", "VertLevel")
_SCAN = ("scan", "filename", "Filename")


def read_places(files: Mapping[str, Readable], volume: Volume, warnings: list[str]) -> dict[str, Any]:
    """Read the files that say where the slices of a scan lie.

    Parameters
    ----------
    files : dict of str to path or nibabel image
        By role. ``levels``: a labelled cord, points on the cord, or a list (.tsv, .csv) of slices and levels.
        ``discfile``: points on the discs. ``pmj``: a point on the pontomedullary junction; without it one of the
        value 50 in ``discfile`` is taken. Other roles are left alone.
    volume : Volume
        The scan.
    warnings : list of str
        What should be known is added to it.

    Returns
    -------
    dict
        ``levels`` and ``pmj_mm`` as :func:`sctseg7t.cord.measuring.measure_volume` takes them, ``file_slices`` too.

    Raises
    ------
    InputError
        A file cannot be used.
    """
    levels: Levels | None = None
    pmj_mm = None
    if "levels" in files:
        given = files["levels"]
        listed = isinstance(given, (str, Path)) and Path(given).suffix.lower() in (".tsv", ".csv")
        levels = _listed(Path(str(given)), volume) if listed else _labelled(given, volume)
        if levels == ListedLevels({}):
            warnings.append(f"{given}: lists no level of {volume.name}; levels are left empty")
    if "discfile" in files:
        points, name = _points(files["discfile"], volume)
        pmj_mm = points.get(_PMJ)
        discs = {number: place for number, place in points.items() if number < _LANDMARKS}
        if not discs:
            raise InputError(f"{name}: marks no disc (values below {_LANDMARKS}); give labels of discs (3 is C2/C3)")
        levels = DiscLevels(discs, name)
    if "pmj" in files:
        points, name = _points(files["pmj"], volume)
        if len(points) > 1 and _PMJ not in points:
            raise InputError(f"{name}: marks {len(points)} points; give the one of the pontomedullary junction")
        pmj_mm = points.get(_PMJ, next(iter(points.values())))
    return {"levels": levels, "pmj_mm": pmj_mm, "file_slices": volume.file_slices}


def _labelled(given: Readable, volume: Volume) -> LabelledLevels:
    found, name = labels_on_scan(given, volume)
    low, high = int(found.min()), int(found.max())
    if low < 0 or high > _HIGHEST_LEVEL:
        raise InputError(
            f"{name}: holds values from {low} to {high}, which are not vertebral levels (1 to {_HIGHEST_LEVEL}); "
            "give a labelled cord or labels of single voxels"
        )
    if not high:
        raise InputError(
            f"{name}: holds no vertebral label within {volume.name}; give a labelled cord or labels of single voxels"
        )
    return LabelledLevels(found, name)


def _points(given: Readable, volume: Volume) -> tuple[dict[int, np.ndarray], str]:
    """Place (3,) in the world of every labelled point, by value; they may be on another grid than the scan."""
    labels, grid = read_labels(given, volume)
    points = {}
    for value in np.unique(labels[labels != 0]):
        voxels = np.argwhere(labels == value)
        if value < 0 or len(voxels) > _MOST_VOXELS:
            what = f"{len(voxels)} voxels of the value {value}"
            raise InputError(f"{grid.name}: has {what}, so it marks no points; give labels of single voxels")
        points[int(value)] = apply_affine(grid.affine, voxels.mean(axis=0))
    if not points:
        raise InputError(f"{grid.name}: marks no point; give labels of single voxels")
    return points, grid.name


def _listed(path: Path, volume: Volume) -> ListedLevels:
    """Levels of a list: of all its rows, or of those that name the scan."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            rows, columns = list(table), set(table.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise InputError(f"{path}: cannot be read ({getattr(err, 'strerror', None) or err}); check the path") from err
    place = next((name for name in (*_SLICE, "file_slice") if name in columns), None)
    level = next((name for name in _LEVEL if name in columns), None)
    if not (place and level):
        raise InputError(
            f"{path}: has the columns {', '.join(sorted(columns))}; it needs slice (or file_slice) and level"
        )
    stored = {index: k for k, index in enumerate(volume.file_slices)}
    found: dict[int, int] = {}
    for row in (row for row in rows if _names(row, volume)):
        number = _level_number(row[level], path)
        if number is None:
            continue
        for given in _whole_numbers(row[place], path):
            k = stored.get(given, -1) if place == "file_slice" else given
            if k not in stored.values():
                raise InputError(f"{path}: slice {given}: {volume.name} has {len(stored)} slices, from 0; correct it")
            if found.setdefault(k, number) != number:
                raise InputError(f"{path}: slice {given} has the levels {found[k]} and {number}; correct it")
    return ListedLevels(found)


def _names(row: Mapping[str, str | None], volume: Volume) -> bool:
    """Whether a row is about a scan: one without names of scans or participants is about any."""
    if volume.path is None:
        return True
    # Of the scan, or of a mask of it.
    own = parse_name(volume.path)
    for column, entity in (("participant_id", "sub"), ("session_id", "ses"), ("run", "run")):
        said = (row.get(column) or "").strip()
        if said not in ("", "n/a") and said.removeprefix(f"{entity}-") != own.entities.get(entity):
            return False
    said = next((text for name in _SCAN if (text := (row.get(name) or "").strip())), "")
    return not said or (parse_name(said).key, parse_name(said).suffix) == (own.key, own.suffix)


def _whole_numbers(text: str | None, path: Path) -> list[int]:
    """Slices of a cell: ``4``, ``4:6``."""
    match = re.fullmatch(r"(\d+)(?:\.0*)?(?::(\d+))?", (text or "").strip())
    if not match:
        raise InputError(f"{path}: {text!r} is no slice; write a whole number from 0, or a range as in 4:6")
    return list(range(int(match[1]), int(match[2] or match[1]) + 1))


def _level_number(text: str | None, path: Path) -> int | None:
    """Level of a cell: ``3``, ``C3``, ``T1`` (8), ``L1`` (20); None where it is empty."""
    text = (text or "").strip()
    if text in ("", "n/a"):
        return None
    match = re.fullmatch(r"([CTL]?)(\d+)(?:\.0*)?", text.upper())
    number = int(match[2]) + _FIRST_OF.get(match[1], 0) if match else 0
    if not 0 < number <= _HIGHEST_LEVEL:
        raise InputError(f"{path}: {text!r} is no vertebral level; write 3 or C3, 8 or T1, 20 or L1")
    return number
