"""Label maps of the cord to simulate from: templates, masks, or a cord drawn from morphometry.

A bank is a stack of axial SC and GM probability maps on one fine grid. Sources:

- ``AMU7T``: 7 T cervical template, 0.176 x 0.176 x 0.5 mm (Massire et al., 2021 study set).
- ``PAM50``: De Leener et al., NeuroImage 2018; 0.5 mm.
- ``masks``: manual SC and GM masks, a folder in the layout of the gm-challenge data set.
- ``parametric``: drawn from published morphometry; needs no file at all.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sctseg7t.errors import InputError, UsageError

SIZE = 192
SPACING_MM = 0.17578125
# What sct7t_download export calls the folder of each source.
_EXPORTED = {"AMU7T": "AMU7T", "PAM50": "PAM50", "masks": "gm-challenge"}


@dataclass(frozen=True)
class AnatomyBank:
    """Axial label maps, inferior to superior within each source.

    Attributes
    ----------
    maps : (N, 3, SIZE, SIZE) uint8
        SC probability, GM probability (x 255) and atlas region number (0 where none).
        Row index grows anteriorly, column index to the right.
    stack : (N,) int
        Slices of one stack are neighbours through plane.
    step_mm : (N,) float
        Distance to the next slice of the stack.
    source : (N,) str
    """

    maps: np.ndarray
    stack: np.ndarray
    step_mm: np.ndarray
    source: np.ndarray

    def __len__(self):
        return len(self.maps)


def load_bank(sources, folders=None, seed=0):
    """Collect a bank.

    Parameters
    ----------
    sources : sequence of str
        Any of ``AMU7T``, ``PAM50``, ``masks``, ``parametric``.
    folders : dict of str to path, optional
        Folder that holds each source's NIfTI files.
    seed : int
        Seed of the parametric cords.

    Raises
    ------
    InputError
        No source, an unknown one, or a source's files are not in its folder.
    """
    folders = folders or {}
    if not sources:
        raise InputError("no anatomy source given; use AMU7T, PAM50, masks or parametric")
    parts = []
    for name in sources:
        if name == "parametric":
            parts.append(("parametric", *_parametric(np.random.default_rng(seed))))
        elif name == "AMU7T":
            parts += [(name, *p) for p in _template(folders, name, "AMU7T_sc", "AMU7T_gm", "AMU7T_50_labels")]
        elif name == "PAM50":
            parts += [(name, *p) for p in _template(folders, name, "PAM50_cord", "PAM50_gm", None)]
        elif name == "masks":
            parts += [(name, *p) for p in _masks(folders)]
        else:
            raise InputError(f"anatomy source {name!r} is unknown; use AMU7T, PAM50, masks or parametric")
    maps = np.concatenate([p[1] for p in parts])
    stack = np.concatenate([np.full(len(p[1]), i) for i, p in enumerate(parts)])
    step = np.concatenate([np.full(len(p[1]), p[2], np.float32) for p in parts])
    source = np.concatenate([np.full(len(p[1]), p[0]) for p in parts])
    return AnatomyBank(maps, stack, step, source)


def slice_weights(bank, source_weights):
    """Sampling weight per bank slice (N,) so that each source gets its share (equal ones without shares)."""
    import torch

    weights = torch.zeros(len(bank))
    names = sorted(set(bank.source.tolist()))
    for name in names:
        member = torch.from_numpy(bank.source == name)
        share = (source_weights or {}).get(name, 1.0)
        weights[member] = share / member.sum()
    return weights


def anatomy_folders(items):
    """Folder of each source from what a command's ``-data`` was given.

    Parameters
    ----------
    items : sequence of str
        ``SOURCE=FOLDER``, or one folder as ``sct7t_download export`` makes it, which holds
        ``AMU7T``, ``PAM50`` and ``gm-challenge`` (the source ``masks``).

    Raises
    ------
    UsageError
        A folder holds none of these.
    """
    folders = {}
    for item in items:
        name, equals, path = str(item).partition("=")
        if equals:
            folders[name] = path
            continue
        inside = {source: Path(item) / sub for source, sub in _EXPORTED.items() if (Path(item) / sub).is_dir()}
        if not inside:
            raise UsageError(
                f"-data {item}: holds no {', '.join(_EXPORTED.values())}; give SOURCE=FOLDER or a folder of them"
            )
        folders |= inside
    return folders


def _remedy(source):
    return f"get it with 'sct7t_download export {_EXPORTED[source]} -o DATA' and give -data DATA"


def _read(folders, source, name):
    import nibabel as nib

    if source not in folders:
        raise InputError(f"anatomy source {source}: no folder given; {_remedy(source)}")
    found = sorted(Path(folders[source]).rglob(f"{name}.nii.gz"))
    if not found:
        raise InputError(f"{folders[source]}: {name}.nii.gz is not there; {_remedy(source)}")
    return nib.as_closest_canonical(nib.load(found[0]))


def _template(folders, source, sc_name, gm_name, atlas_name):
    sc_img = _read(folders, source, sc_name)
    gm = _read(folders, source, gm_name).get_fdata(dtype=np.float32)
    sc = sc_img.get_fdata(dtype=np.float32)
    atlas = _read(folders, source, atlas_name).get_fdata(dtype=np.float32) if atlas_name else None
    area = sc.sum((0, 1)) * np.prod(sc_img.header.get_zooms()[:2])
    # Below the cervical enlargement PAM50 has no reliable GM; keep the span with both tissues.
    keep = np.flatnonzero((area > 35) & (gm.sum((0, 1)) > 0))
    if source == "PAM50":
        keep = keep[keep >= keep.max() - 330]
    zooms = sc_img.header.get_zooms()
    maps = _regrid(sc, gm, atlas, keep, zooms)
    yield maps, float(zooms[2])


def _masks(folders):
    import nibabel as nib

    if "masks" not in folders:
        raise InputError(f"anatomy source masks: no folder given; {_remedy('masks')}")
    found = sorted(Path(folders["masks"]).rglob("*_seg-manual.nii.gz"))
    if not found:
        raise InputError(f"{folders['masks']}: no *_seg-manual.nii.gz is there; {_remedy('masks')}")
    for path in found:
        img = nib.as_closest_canonical(nib.load(path))
        gm_path = path.with_name(path.name.replace("_seg-manual", "_gmseg-manual"))
        if not gm_path.is_file():
            raise InputError(
                f"{path}: its gray matter mask {gm_path.name} is not beside it; install the data set again"
            )
        sc = (img.get_fdata(dtype=np.float32) > 0.5).astype(np.float32)
        gm = (nib.as_closest_canonical(nib.load(gm_path)).get_fdata(dtype=np.float32) > 0.5).astype(np.float32)
        keep = np.flatnonzero(sc.any((0, 1)) & gm.any((0, 1)))
        zooms = img.header.get_zooms()
        if zooms[0] > 0.4:
            # A coarse mask has no fine outline to learn from.
            continue
        yield _regrid(_soften(sc, zooms), _soften(gm, zooms), None, keep, zooms), float(zooms[2])


def _soften(mask, zooms):
    """Smooth a binary mask in plane so that its 0.5 level is a smooth outline."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(mask, (0.22 / zooms[0], 0.22 / zooms[1], 0))


def _regrid(sc, gm, atlas, keep, zooms):
    """Centre each slice on its cord and resample it in plane to the bank's grid."""
    from scipy.ndimage import map_coordinates

    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
    out = np.zeros((len(keep), 3, SIZE, SIZE), np.uint8)
    ii, jj = np.meshgrid(np.arange(sc.shape[0]), np.arange(sc.shape[1]), indexing="ij")
    for row, k in enumerate(keep):
        w = sc[:, :, k]
        ci, cj = (w * ii).sum() / w.sum(), (w * jj).sum() / w.sum()
        yy, xx = np.meshgrid(cj + axis / zooms[1], ci + axis / zooms[0], indexing="ij")
        where = np.stack([xx, yy])
        for channel, volume, order in ((0, sc, 1), (1, gm, 1), (2, atlas, 0)):
            if volume is None:
                continue
            plane = map_coordinates(volume[:, :, k], where, order=order, mode="constant")
            out[row, channel] = plane if channel == 2 else np.clip(np.rint(plane * 255), 0, 255)
    return out


def _parametric(rng, count=160):
    """Cord outlines and GM horns drawn from morphometry.

    Diameters follow Fradet et al. 2014 and Frostell et al. 2016 (cervical cord 6.5-8.5 mm AP,
    10-14.5 mm RL, largest at C4-C6); horns are capsules joined by a commissure, wide anteriorly.
    """
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
    y, x = np.meshgrid(axis, axis, indexing="ij")
    out = np.zeros((count, 3, SIZE, SIZE), np.uint8)
    for k in range(count):
        level = k / (count - 1)
        bulge = np.exp(-(((level - 0.45) / 0.25) ** 2))
        rl = (5.4 + 1.3 * bulge) * rng.normal(1, 0.03)
        ap = (3.9 + 0.15 * bulge) * rng.normal(1, 0.03)
        angle = np.arctan2(y / ap, x / rl)
        radius = np.hypot(x / rl, y / ap)
        notch = 0.05 * np.exp(-(((angle - np.pi / 2) / 0.12) ** 2))
        flat = 0.03 * np.cos(2 * angle) * rng.uniform(0, 1)
        sc = _logistic((1 - notch + flat - radius) * ap, 0.12)
        ax = np.abs(x)
        cy = rng.normal(0.25, 0.15)
        ventral = _capsule(ax, y, (0.9, cy + 0.3), (1.3 + 1.1 * bulge, cy + 1.5), 0.62 + 0.35 * bulge)
        dorsal = _capsule(ax, y, (1.0, cy), (2.1 + 0.7 * bulge, cy - 2.6), 0.33 + 0.08 * bulge)
        commissure = _capsule(ax, y, (0.0, cy + 0.1), (0.9, cy + 0.1), 0.38)
        gm = _logistic(np.maximum(np.maximum(ventral, dorsal), commissure), 0.08)
        gm = np.minimum(gm, sc)
        out[k, 0], out[k, 1] = np.rint(sc * 255), np.rint(gm * 255)
    return out, 0.8


def _capsule(x, y, start, stop, radius):
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return radius - np.hypot(x - start[0] - t * dx, y - start[1] - t * dy)


def _logistic(distance, softness):
    return 1 / (1 + np.exp(-np.clip(distance / softness, -30, 30)))
