"""The anatomy bank: label maps of the cord to simulate from (templates, masks, or drawn from morphometry).

A bank is a stack of axial SC and GM probability maps on one fine grid. Sources:

- ``AMU7T``: 7 T cervical template, 0.176 x 0.176 x 0.5 mm (Massire et al., 2021 study set).
- ``PAM50``: De Leener et al., NeuroImage 2018; 0.5 mm.
- ``masks``: manual SC and GM masks, a folder in the layout of the gm-challenge data set.
- ``parametric``: necks drawn from published morphometry; needs no file at all. ``thoracolumbar``: what is below.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from sctseg7t.errors import InputError, UsageError

SIZE = 192
SPACING_MM = 0.17578125
# Position (mm) of a map's rows and columns.
_AXIS = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
# What sct7t_download export calls the folder of each source.
_EXPORTED = {"AMU7T": "AMU7T", "PAM50": "PAM50", "masks": "gm-challenge"}
# Files of cord, gray matter and, if there is one, atlas.
_TEMPLATES = {"AMU7T": ("AMU7T_sc", "AMU7T_gm", "AMU7T_50_labels"), "PAM50": ("PAM50_cord", "PAM50_gm")}
_HORNS = ("commissure_y", "ventral_x", "ventral_y") + tuple(
    f"{side}_{name}" for side in ("left", "right") for name in ("x", "y", "ux", "uy", "room")
)


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
    person : (N,) str
        Whose cord it is; of a template or of drawn cords, the source.
    """

    maps: np.ndarray
    stack: np.ndarray
    step_mm: np.ndarray
    source: np.ndarray
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.maps)

    def weights(self, shares: Mapping[str, float] | None = None) -> np.ndarray:
        """Sampling weight of each slice, (N,) float32, so that each source gets its share (equal ones without shares).

        Raises
        ------
        InputError
            A share is given to a source that the bank lacks.
        """
        names = sorted(set(self.source.tolist()))
        absent = sorted(set(shares or {}) - set(names))
        if absent:
            known = ", ".join(names)
            raise InputError(f"simulation recipe: source_weights name {absent[0]!r}; the anatomy has {known}")
        weights = np.zeros(len(self), np.float32)
        for name in names:
            member = self.source == name
            weights[member] = np.float32((shares or {}).get(name, 1.0)) / np.float32(member.sum())
        return weights

    def only(self, people: Sequence[str]) -> "AnatomyBank":
        """The slices of some people (InputError if the bank lacks one of them)."""
        absent = sorted(set(people) - set(self.person.tolist()))
        if absent:
            known = ", ".join(sorted(set(self.person.tolist())))
            raise InputError(f"the anatomy has nobody called {absent[0]!r}; it has {known}")
        return self._kept(np.isin(self.person, people))

    def without(self, people: Sequence[str]) -> "AnatomyBank":
        """All slices but those of some people (InputError if the bank lacks one of them)."""
        self.only(people)
        return self._kept(~np.isin(self.person, people))

    def _kept(self, which):
        parts = (self.maps, self.stack, self.step_mm, self.source, self.person)
        return AnatomyBank(*(part[which] for part in parts))

    @functools.cached_property
    def gray_mm(self) -> np.ndarray:
        """Distance of each pixel from the gray matter's outline at half its probability, mm, positive inside it.

        (N, 1, SIZE, SIZE) float16. Beyond 3 mm it is 3.
        """
        return np.stack([_signed_distance(gray > 127) for gray in self.maps[:, 1]])[:, None]

    @functools.cached_property
    def horns(self) -> dict[str, np.ndarray]:
        """What :func:`describe_horns` tells of each slice, (N,) float32."""
        return describe_horns(self.maps)

    def neighbours(self, index: np.ndarray, away_mm: np.ndarray) -> np.ndarray:
        """Slices (N,) that lie ``away_mm`` from others in their stack; themselves beyond its ends."""
        step = np.rint(away_mm / self.step_mm[index]).astype(int)
        near = (index + step).clip(0, len(self) - 1)
        return np.where(self.stack[near] == self.stack[index], near, index)


def load_bank(sources: Sequence[str], folders: Mapping[str, str | Path] | None = None, seed: int = 0) -> AnatomyBank:
    """Collect a bank.

    Parameters
    ----------
    sources : sequence of str
        Any of ``AMU7T``, ``PAM50``, ``masks``, ``parametric``, ``thoracolumbar``.
    folders : dict of str to path, optional
        Folder that holds each source's NIfTI files.
    seed : int
        Seed of the parametric cords.

    Raises
    ------
    InputError
        No source, an unknown one, or a source's files are not in its folder.
    """
    known = (*_EXPORTED, *_FORMS)
    wrong = [name for name in sources if name not in known]
    if wrong or not sources:
        what = f"anatomy source {wrong[0]!r} is unknown" if wrong else "no anatomy source given"
        raise InputError(f"{what}; use {', '.join(known[:-1])} or {known[-1]}")
    parts = [(name, *stack) for name in sources for stack in _stacks(name, folders or {}, seed)]
    lengths = [len(maps) for _, maps, *_ in parts]
    names, maps, steps, people = zip(*parts)
    step_mm = np.repeat(np.array(steps, np.float32), lengths)
    stack, source, person = (np.repeat(values, lengths) for values in (range(len(parts)), names, people))
    return AnatomyBank(np.concatenate(maps), stack, step_mm, source, person)


def _signed_distance(inside, reach_mm=3.0):
    from scipy.ndimage import distance_transform_edt

    # The outline runs half way between the pixels; a light blur takes out their steps.
    depth = distance_transform_edt(inside) - distance_transform_edt(~inside) if inside.any() else -np.ones(inside.shape)
    depth = gaussian_filter((depth - 0.5 * np.sign(depth)) * SPACING_MM, 0.7)
    return depth.clip(-reach_mm, reach_mm).astype(np.float16)


def describe_horns(maps: np.ndarray) -> dict[str, np.ndarray]:
    """Where each slice's gray matter ends and joins, from its outline at half its probability.

    Parameters
    ----------
    maps : (N, 3, SIZE, SIZE) uint8
        As in :class:`AnatomyBank`.

    Returns
    -------
    dict of str to (N,) float32
        In mm, right and anterior of the map's centre: ``commissure_y``; ``ventral_x`` (from the midline) and
        ``ventral_y``, the mean of the ventral horns' centres; for ``left`` and ``right``: the dorsal horn's tip
        ``_x``, ``_y``, its direction ``_ux``, ``_uy`` and ``_room``, the way from the tip to the cord's surface.
    """
    found = [_horns_of(cord, gray) for cord, gray in maps[:, :2]]
    return {name: np.array([horns.get(name, 0.0) for horns in found], np.float32) for name in _HORNS}


def _horns_of(cord, gray):
    rows, columns = np.nonzero(gray > 127)
    if not rows.size:
        return {}
    x, y = _AXIS[columns], _AXIS[rows]
    middle = y[np.abs(x) < 0.4]
    join = middle.mean() if middle.size else np.median(y)
    front = y > join
    out = {"commissure_y": join, "ventral_x": np.abs(x[front]).mean(), "ventral_y": y[front].mean()}
    for side, sign in (("left", -1), ("right", 1)):
        of_side = (sign * x > 0) & (y < join)
        if of_side.sum() >= 8:
            horn = _dorsal_horn(x[of_side], y[of_side], cord)
            out |= {f"{side}_{name}": value for name, value in horn.items()}
    return out


def _dorsal_horn(x, y, cord):
    """Tip, direction and room of one dorsal horn from its pixels (mm)."""
    low = y.min()
    end, above = y < low + 0.45, (y > low + 0.9) & (y < low + 1.8)
    tip = np.array([x[end].mean(), low + 0.15])
    if not above.any():
        return {"x": tip[0], "y": tip[1], "uy": -1.0}
    way = tip - (x[above].mean(), y[above].mean())
    way /= np.hypot(*way)
    steps = np.arange(0, 5, 0.05)
    at = np.rint((tip[None] + steps[:, None] * way) / SPACING_MM + (SIZE - 1) / 2).astype(int).clip(0, SIZE - 1)
    beyond = np.flatnonzero(cord[at[:, 1], at[:, 0]] < 128)
    return {"x": tip[0], "y": tip[1], "ux": way[0], "uy": way[1], "room": steps[beyond[0]] if beyond.size else 0.0}


def anatomy_folders(items: Sequence[str], exported: Mapping[str, str] = _EXPORTED) -> dict[str, str | Path]:
    """Folder of each source from the folders that a user gives.

    Parameters
    ----------
    items : sequence of str
        ``SOURCE=FOLDER``, or a folder that holds the ``exported`` ones, as ``sct7t_download export`` makes it.
    exported : dict of str to str
        By source: the name of its folder in such a folder.

    Raises
    ------
    UsageError
        A folder holds none of these.
    """
    folders = {}
    for item in items:
        name, equals, path = str(item).partition("=")
        places = {source: Path(item) / folder for source, folder in exported.items()}
        inside = {name: path} if equals else {source: place for source, place in places.items() if place.is_dir()}
        if not inside:
            raise UsageError(f"{item}: holds no {', '.join(exported.values())}; give SOURCE=FOLDER or a folder of them")
        folders |= inside
    return folders


def _stacks(source, folders, seed) -> Iterator[tuple[np.ndarray, float, str]]:
    """Maps, step (mm) and person of every stack of a source."""
    if source in _FORMS:
        yield _parametric(np.random.default_rng(seed), _FORMS[source]), 0.8, source
    elif source == "masks":
        for path in _files(source, folders, "*_seg-manual"):
            gm_path = path.with_name(path.name.replace("_seg-manual", "_gmseg-manual"))
            if not gm_path.is_file():
                raise InputError(
                    f"{path}: its gray matter mask {gm_path.name} is not there; install the data set again"
                )
            (sc, zooms), (gm, _) = _read(path), _read(gm_path)
            sc, gm = ((tissue > 0.5).astype(np.float32) for tissue in (sc, gm))
            # A coarse mask has no fine outline to learn from.
            if zooms[0] <= 0.4:
                keep = np.flatnonzero(sc.any((0, 1)) & gm.any((0, 1)))
                # A session of a person is named "sub-01Ses2" there.
                person = path.name.partition("_")[0].partition("Ses")[0]
                yield _regrid([_soften(sc, zooms), _soften(gm, zooms)], keep, zooms), float(zooms[2]), person
    else:
        (sc, zooms), *others = (_read(_files(source, folders, name)[0]) for name in _TEMPLATES[source])
        gm = others[0][0]
        # Below the cervical enlargement PAM50 has no reliable GM; keep the span with both tissues.
        keep = np.flatnonzero((sc.sum((0, 1)) * np.prod(zooms[:2]) > 35) & (gm.sum((0, 1)) > 0))
        if source == "PAM50":
            keep = keep[keep >= keep.max() - 330]
        if zooms[0] > 0.4:
            # Drawn on coarse voxels: without this its outline is a polygon.
            sc = _soften(sc, zooms, 0.3)
        yield _regrid([sc, *(volume for volume, _ in others)], keep, zooms), float(zooms[2]), source


def _files(source, folders, name):
    """Files of a source; InputError with the way to get them where there is none."""
    remedy = f"get it with 'sct7t_download export {_EXPORTED[source]} -o DATA' and give that folder"
    if source not in folders:
        raise InputError(f"anatomy source {source}: no folder given; {remedy}")
    found = sorted(Path(folders[source]).rglob(f"{name}.nii.gz"))
    if not found:
        raise InputError(f"{folders[source]}: {name}.nii.gz is not there; {remedy}")
    return found


def _read(path):
    image = nib.as_closest_canonical(nib.load(path))
    return image.get_fdata(dtype=np.float32), image.header.get_zooms()


def _soften(mask, zooms, sigma_mm=0.22):
    """Smooth a mask in plane so that its 0.5 level is a smooth outline."""
    return gaussian_filter(mask, (sigma_mm / zooms[0], sigma_mm / zooms[1], 0))


def _regrid(volumes, keep, zooms):
    """Centre each slice on its cord and resample it in plane to the bank's grid; cord, gray matter, maybe atlas."""
    out = np.zeros((len(keep), 3, SIZE, SIZE), np.uint8)
    ii, jj = np.indices(volumes[0].shape[:2])
    for row, k in enumerate(keep):
        cord = volumes[0][:, :, k]
        ci, cj = (cord * ii).sum() / cord.sum(), (cord * jj).sum() / cord.sum()
        yy, xx = np.meshgrid(cj + _AXIS / zooms[1], ci + _AXIS / zooms[0], indexing="ij")
        for channel, volume in enumerate(volumes):
            plane = map_coordinates(volume[:, :, k], [xx, yy], order=0 if channel == 2 else 1)
            out[row, channel] = plane if channel == 2 else np.clip(np.rint(plane * 255), 0, 255)
    return out


@dataclass(frozen=True)
class _Form:
    """Half widths (mm) of a part of the cord, more of them at its enlargement, and its horns."""

    rl: tuple[float, float]
    ap: tuple[float, float]
    # Place of the enlargement along the part, and its length.
    enlargement: tuple[float, float]
    # How far out the horns lie against those of the neck, and the ventral horn's radius.
    spread: float
    ventral: tuple[float, float]


# Diameters follow Fradet et al. 2014 and Frostell et al. 2016: cervical cord 6.5-8.5 mm AP, 10-14.5 mm RL, largest at
# C4-C6; thoracic 6-7 by 8-9 mm, slender horns; lumbar enlargement 8 by 9.5 mm, broad ones.
_FORMS = {
    "parametric": _Form((5.4, 1.3), (3.9, 0.15), (0.45, 0.25), 1.0, (0.62, 0.35)),
    "thoracolumbar": _Form((4.1, 0.65), (3.25, 0.75), (0.78, 0.13), 0.68, (0.36, 0.75)),
}


def _parametric(rng, form, count=160):
    """Cord outlines and GM horns drawn from morphometry.

    Each side has a ventral horn that is broad at the enlargement, a slender dorsal horn towards the dorsolateral
    surface, and its share of the commissure.
    """
    y, x = np.meshgrid(_AXIS, _AXIS, indexing="ij")
    out = np.zeros((count, 3, SIZE, SIZE), np.uint8)
    for k in range(count):
        level = k / (count - 1)
        bulge = np.exp(-(((level - form.enlargement[0]) / form.enlargement[1]) ** 2))
        rl = (form.rl[0] + form.rl[1] * bulge) * rng.normal(1, 0.03)
        ap = (form.ap[0] + form.ap[1] * bulge) * rng.normal(1, 0.03)
        angle = np.arctan2(y / ap, x / rl)
        radius = np.hypot(x / rl, y / ap)
        notch = 0.05 * np.exp(-(((angle - np.pi / 2) / 0.12) ** 2))
        flat = 0.03 * np.cos(2 * angle) * rng.uniform(0, 1)
        sc = _logistic((1 - notch + flat - radius) * ap, 0.12)
        cy = rng.normal(0.35, 0.15)
        # The commissure.
        reach = 0.9 * form.spread
        gm = _capsule(x, y, (-reach, cy), (reach, cy), rng.uniform(0.18, 0.4))
        for side in (-1, 1):
            gm = np.maximum(gm, _horns(rng, side * x, y, cy, rl, ap, bulge, form))
        gm = np.minimum(_logistic(gm, 0.08), sc)
        out[k, 0], out[k, 1] = np.rint(sc * 255), np.rint(gm * 255)
    return out


def _horns(rng, x, y, cy, rl, ap, bulge, form):
    """Signed distance (mm) inside the gray matter of one side; ``x`` grows outwards."""
    out_x = form.spread * (1.35 + 0.75 * bulge) * rng.normal(1, 0.07)
    thick = form.ventral[0] + form.ventral[1] * bulge
    ventral = _capsule(x, y, (form.spread, cy + 0.35), (out_x, cy + rng.normal(1.0, 0.15)), thick)
    apex = rng.uniform(0.8, 0.96)
    turn = np.radians(rng.normal(232, 5))
    tip = -apex * rl * np.cos(turn), apex * ap * np.sin(turn)
    neck = form.spread * (1.15 + 0.35 * bulge), cy - 1.0
    upper = _capsule(x, y, (form.spread, cy), neck, form.spread * rng.uniform(0.45, 0.62))
    return np.maximum(np.maximum(ventral, upper), _capsule(x, y, neck, tip, form.spread * rng.uniform(0.28, 0.48)))


def _capsule(x, y, start, stop, radius):
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return radius - np.hypot(x - start[0] - t * dx, y - start[1] - t * dy)


def _logistic(distance, softness):
    return 1 / (1 + np.exp(-np.clip(distance / softness, -30, 30)))
