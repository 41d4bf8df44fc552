"""Whole heads from label maps, of any contrast and resolution: what a network that finds the brain trains on.

The way of SynthSeg and SynthStrip (Billot et al., Med Image Anal 2023; Hoopes et al., NeuroImage 2022): each tissue
of a person's label map gets a level by chance, so the network learns shapes and not a contrast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage as ndi

from sctseg7t.brain.normalise import saturate
from sctseg7t.errors import InputError
from sctseg7t.image.grid import bounding_box
from sctseg7t.simulate.brain import scanner  # noqa: F401 - effects that brains and heads share
from sctseg7t.simulate.effect import effect, read_settings
from sctseg7t.simulate.fields import apply_affine, gaussian, rotation, sample, voxel_positions
from sctseg7t.simulate.scene import Batch, Draw, Scene

# Where the label maps lie in a folder of development data.
EXPORTED = {"heads": "brain/anatomies"}
# Seeds from here on draw from the people held out of training.
HELD_OUT_SEED = 10_000_000

# Classes of tissue, by the numbers of the label maps: FreeSurfer's, and SynthSeg's from 500 on.
_LABELS: dict[str, Sequence[int]] = {
    "air": (0,),
    "white": (2, 41),
    "cortex": (3, 42),
    "ventricles": (4, 5, 14, 15, 43, 44, 72),
    "csf": (24,),
    "cerebellum_white": (7, 46),
    "cerebellum_gray": (8, 47),
    "thalamus": (10, 49),
    "striatum": (11, 12, 26, 50, 51, 58),
    "pallidum": (13, 52),
    "stem": (16, 28, 60),
    "limbic": (17, 18, 53, 54),
    "artery": (502,),
    "eye": (506,),
    "muscle": (507,),
    "orbit": (508,),
    "mucosa": (509, 530),
    "skin": (511,),
    "cord": (512,),
    "vein": (514,),
    "bone": (515,),
    "marrow": (516,),
    # Parts of the soft tissue that the label maps do not tell apart.
    "fat": (),
    "gland": (),
    "strand": (),
}
CLASSES = tuple(_LABELS)
_NUMBER = {name: k for k, name in enumerate(CLASSES)}
_BRAIN = [_NUMBER[name] for name in CLASSES[1:12] if name != "csf"]
# A gap this wide between two gyri belongs to the brain.
_CLOSE_MM = 7.0
_FAT_MM = 5.0
# Of a label map as it is kept.
_LABELS_MM = 2.0

# Levels (low, high) where white matter is 1. GM and fluid tell the contrasts apart, the rest is alike in all.
_KINDS = {
    "FLAIR": ((1.0, 1.35), (0.03, 0.6)),
    "T1": ((0.5, 0.95), (0.05, 0.5)),
    "T2": ((1.05, 1.9), (1.4, 4.5)),
}
_OUTER = {
    "artery": (0.02, 2.0),
    "eye": (0.05, 3.0),
    "muscle": (0.25, 1.3),
    "orbit": (0.3, 1.6),
    "mucosa": (0.5, 3.5),
    "skin": (0.4, 6.0),
    "cord": (0.7, 1.2),
    "vein": (0.02, 2.0),
    "bone": (0.01, 0.3),
    "marrow": (0.1, 5.0),
    "fat": (0.5, 9.0),
    "gland": (0.3, 3.0),
    "strand": (0.1, 6.0),
}


@dataclass(frozen=True, eq=False)
class Head:
    """A person's label map, RAS at 2 mm, as the two commonest classes of each voxel.

    Attributes
    ----------
    first, second : (X, Y, Z) uint8
        Index into `CLASSES`.
    share : (X, Y, Z) float32
        Part of the voxel that is of the first class, the rest being of the second.
    maps : (2, X, Y, Z) float32 tensor
        Fraction of brain (ventricles and sulci included), and of anything but air.
    centre : (3,) float64
        Middle of the brain, in voxels.
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray
    maps: torch.Tensor
    centre: np.ndarray

    def painted(self, level: np.ndarray) -> torch.Tensor:
        """The image in which each class has its level, (X, Y, Z)."""
        return torch.from_numpy(level[self.second] + self.share * (level[self.first] - level[self.second]))


def read_head(path: str | Path) -> Head:
    """Read a label map with skull and tissues outside the brain, at 1 mm (InputError if it is none)."""
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(image.dataobj)
    if labels.ndim != 3 or labels.max() < 500:
        raise InputError(f"{path}: no label map of a whole head (FreeSurfer's labels, and SynthSeg's from 500 on)")
    if not np.allclose(image.header.get_zooms()[:3], 1, atol=0.02):
        raise InputError(f"{path}: voxels of {image.header.get_zooms()[:3]} mm; a label map at 1 mm is needed")
    labels = labels.astype(np.int16)
    labels = labels[bounding_box(labels > 0, 2) or ()]
    labels = np.pad(labels, [(0, n % 2) for n in labels.shape])
    # Of a brain's small parts that are not listed none has a look of its own.
    number = np.full(int(labels.max()) + 1, _NUMBER["limbic"], np.uint8)
    number[500:] = _NUMBER["muscle"]
    for name, values in _LABELS.items():
        number[[value for value in values if value < len(number)]] = _NUMBER[name]
    classes = number[labels]
    counts = _counts(_parted(classes))
    brain = _whole_brain(counts)
    if not brain.any():
        raise InputError(f"{path}: marks no brain; give label maps of whole heads")
    best, share = np.zeros((2, *brain.shape), np.uint8), np.zeros((2, *brain.shape), np.float32)
    for k, count in enumerate(counts):
        for place in (0, 1):
            more = count > share[place]
            if place == 0:
                best[1][more], share[1][more] = best[0][more], share[0][more]
            else:
                more &= best[0] != k
            best[place][more], share[place][more] = k, count[more]
    maps = torch.from_numpy(np.stack([brain, 1 - counts[0]]).astype(np.float32))
    return Head(best[0], best[1], share[0] / share.sum(0), maps, np.array(ndi.center_of_mass(brain)))


def _counts(classes):
    """Fraction of each class in blocks of 2 x 2 x 2 voxels, (K, X / 2, Y / 2, Z / 2)."""
    x, y, z = (n // 2 for n in classes.shape)
    blocks = classes.reshape(x, 2, y, 2, z, 2)
    out = np.zeros((len(CLASSES), x, y, z), np.float32)
    for i, j, k in np.ndindex(2, 2, 2):
        np.put_along_axis(
            out,
            (index := blocks[:, i, :, j, :, k][None].astype(np.intp)),
            np.take_along_axis(out, index, 0) + np.float32(0.125),
            0,
        )
    return out


def _whole_brain(counts):
    """The brain with ventricles and sulci, (X, Y, Z) fraction at 2 mm: closed, of what is brain, fluid or vein."""
    tissue = counts[_BRAIN].sum(0)
    inner = tissue + counts[_NUMBER["csf"]] + counts[_NUMBER["vein"]]
    labels, _ = ndi.label(tissue > 0.5)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    solid = (labels == sizes.argmax()) & (sizes.max() > 0)
    closed = ndi.distance_transform_edt(~solid) * 2 <= _CLOSE_MM
    closed = ndi.distance_transform_edt(closed) * 2 > _CLOSE_MM
    whole = ndi.binary_fill_holes(solid | closed & (inner > 0.3))
    return np.where(whole, np.maximum(inner, 0.5), tissue * ndi.binary_dilation(solid))


def _parted(classes):
    """The soft tissue in parts: fat under the skin, and glands and strands in between, as folded noise has them."""
    coarse = classes[::2, ::2, ::2]
    rng = np.random.default_rng(coarse.size)
    noise = [ndi.gaussian_filter(rng.standard_normal(coarse.shape).astype(np.float32), sd) for sd in (3, 5)]
    folds = [values / values.std() for values in noise]
    under = ndi.distance_transform_edt((coarse != _NUMBER["skin"]) & (coarse > 0)) * 2
    part = np.where(folds[0] > 0.7, _NUMBER["strand"], _NUMBER["muscle"])
    part = np.where(folds[1] > 1.2, _NUMBER["gland"], part)
    part = np.where(under < _FAT_MM * np.exp(0.5 * folds[1]), _NUMBER["fat"], part).astype(np.uint8)
    fine = part.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return np.where(classes == _NUMBER["muscle"], fine, classes)


@dataclass(frozen=True)
class HeadBatch(Batch):
    """image, target and inside, (N, 1, X, Y, Z); inside is 0 beyond the scan."""

    inside: torch.Tensor


class HeadScene(Scene):
    """One head on the network's grid. Volumes are (X, Y, Z) tensors."""

    organ = "head"
    shape: tuple[int, ...]
    at: torch.Tensor  # (3, X, Y, Z) voxel of the label map under each of the grid's
    absent: float  # 1 where the brain has been taken out
    brain: torch.Tensor  # fractions
    body: torch.Tensor
    inside: torch.Tensor  # 1 where the scan looks

    def __init__(self, head: Head, shape: Sequence[int], spacing_mm: float):
        super().__init__()
        self.head, self.shape, self.spacing_mm = head, tuple(shape), spacing_mm


class HeadSimulator:
    """Draws batches of heads; ``batch(n, seed)`` is replayable.

    Parameters
    ----------
    heads, held_out : list of Head
    settings : mapping, optional
        ``size``: voxels per axis; ``spacing_mm``; and by effect the settings that differ from its defaults, or False
        to leave it out.
    """

    def __init__(self, heads: Sequence[Head], held_out: Sequence[Head], settings: Mapping[str, Any] | None = None):
        self.heads, self.held_out = list(heads), list(held_out)
        settings = {"size": (48, 64, 48), "spacing_mm": 3.5, **(settings or {})}
        self.size, self.spacing_mm = tuple(settings.pop("size")), float(settings.pop("spacing_mm"))
        self.settings = read_settings("head", settings)

    def batch(self, count: int, seed: int) -> HeadBatch:
        """``count`` heads; seeds from ``HELD_OUT_SEED`` on draw from the people held out."""
        scenes = [self.scene(seed * 64 + k, seed >= HELD_OUT_SEED) for k in range(count)]
        images = [torch.from_numpy(saturate(s.image.numpy(), s.inside.numpy() > 0)) for s in scenes]
        target = [s.brain * s.inside for s in scenes]
        return HeadBatch(*(torch.stack(v)[:, None] for v in (images, target, [s.inside for s in scenes])))

    def scene(self, seed: int, held_out: bool = False) -> HeadScene:
        """One head with all that made it."""
        pool = self.held_out if held_out else self.heads
        head = pool[Draw(seed, "choice").rng.integers(len(pool))]
        return HeadScene(head, self.size, self.spacing_mm).run(self.settings, seed)


def make_head_simulator(simulation: Mapping[str, Any], folders: Mapping[str, str | Path], log: TextIO) -> HeadSimulator:
    """The simulator of a training recipe.

    Parameters
    ----------
    simulation : dict
        ``held_out``: people, the last ones by file name, that only validate (3); and as for `HeadSimulator`.
    folders : dict
        ``heads``: folder of the label maps.
    log : text stream

    Raises
    ------
    InputError
        The folder holds no two label maps.
    """
    said = dict(simulation)
    apart = said.pop("held_out", 3)
    paths = sorted(Path(folders.get("heads", "")).glob("*.nii*")) if "heads" in folders else []
    if len(paths) < 2:
        raise InputError(
            "anatomy source heads: give heads=FOLDER with label maps of whole heads, of two people or more"
        )
    log.write(f"reading {len(paths)} label maps of heads\n")
    heads = [read_head(path) for path in paths]
    apart = max(1, min(apart, len(heads) - 1))
    return HeadSimulator(heads[:-apart], heads[-apart:], said)


# ---- where the head lies ---------------------------------------------------------


@effect("place", "head", required=True)
def pose(
    scene: HeadScene,
    draw: Draw,
    *,
    rotation_deg=12.0,
    turned_p=0.1,
    turned_deg=35.0,
    size_sd=0.08,
    aspect_sd=0.04,
    shift_mm=(10.0, 12.0, 16.0),
    mirror_p=0.5,
) -> None:
    """Place, size and turn of the head; the grid is centred near the brain."""
    sd = turned_deg if draw.chance("turned", turned_p) else rotation_deg
    angles = [draw.normal(f"angle_{axis}", sd) * np.pi / 180 for axis in "xyz"]
    size = np.exp(draw.normal("size", size_sd))
    scale = torch.tensor([size * np.exp(draw.normal(f"aspect_{axis}", aspect_sd)) for axis in "xyz"])
    scale[0] = -scale[0] if draw.chance("mirror", mirror_p) else scale[0]
    matrix = (rotation(angles) / scale.float()[:, None]) * (scene.spacing_mm / _LABELS_MM)
    middle = (torch.tensor(scene.shape, dtype=torch.float32) - 1) / 2
    shift = torch.tensor([draw.normal(f"shift_{axis}", mm) / _LABELS_MM for axis, mm in zip("xyz", shift_mm)])
    centre = torch.tensor(scene.head.centre, dtype=torch.float32) + shift
    scene.at = apply_affine(torch.cat([matrix, (centre - matrix @ middle)[:, None]], 1), voxel_positions(scene.shape))


@effect("place", "head")
def warp(scene: HeadScene, draw: Draw, *, broad_mm=4.0, narrow_mm=1.5) -> None:
    """Smooth deformation, of the head (60 mm) and of its parts (24 mm)."""
    for period, size in ((60, draw.uniform("broad", 0, broad_mm)), (24, draw.uniform("narrow", 0, narrow_mm))):
        bend = [draw.field(period / scene.spacing_mm, scene.shape) for _ in range(3)]
        scene.at = scene.at + size / _LABELS_MM * torch.stack(bend)


# ---- what it looks like ----------------------------------------------------------


@effect("contrast", "head", required=True)
def levels(scene: HeadScene, draw: Draw, *, any_p=0.15, absent_p=0.04) -> None:
    """A level for each tissue: those of a FLAIR, T1 or T2, or any at all; now and then a head without its brain."""
    rng = draw.rng
    level = np.zeros(len(CLASSES), np.float32)
    if draw.chance("any", any_p):
        level[:] = rng.uniform(0.02, 1, len(level))
        level[12:] *= np.exp(rng.uniform(-0.7, 1.6))
        level[0] = rng.uniform(0, 0.06) if rng.random() < 0.9 else level[0]
    else:
        gray, fluid = (rng.uniform(*ends) for ends in list(_KINDS.values())[rng.choice(3, p=(0.6, 0.2, 0.2))])
        for name in CLASSES[1:12]:
            level[_NUMBER[name]] = 1 + (gray - 1) * rng.uniform(0, 1.1)
        level[_NUMBER["white"]], level[_NUMBER["cortex"]] = 1, gray
        level[_NUMBER["csf"]], level[_NUMBER["ventricles"]] = fluid, fluid * rng.uniform(0.7, 1.1)
        for name, (low, high) in _OUTER.items():
            level[_NUMBER[name]] = np.exp(rng.uniform(np.log(low), np.log(high)))
        level[0] = rng.uniform(0, 0.05)
    scene.absent = draw.chance("absent", absent_p)
    if scene.absent:
        level[_BRAIN] = rng.choice([0.0, level[_NUMBER["csf"]], rng.uniform(0, 1)])
    found = sample(torch.cat([scene.head.painted(level)[None], scene.head.maps]), scene.at, padding="zeros")
    scene.image, scene.brain, scene.body = found[0], found[1] * (1 - scene.absent), found[2]
    scene.inside = torch.ones(scene.shape)


@effect("contrast", "head", probability=0.5)
def patches(scene: HeadScene, draw: Draw, *, gain=(-0.6, 1.2)) -> None:
    """Lesions, oedema and scars: blobs of other brightness in the brain."""
    blob = torch.sigmoid((draw.field(15 / scene.spacing_mm, scene.shape) - draw.uniform("spread", 1.2, 2.6)) / 0.2)
    scene.image = scene.image * (1 + draw.uniform("gain", *gain) * blob * scene.brain)


@effect("contrast", "head")
def grain(scene: HeadScene, draw: Draw, *, strength=(0.0, 0.12)) -> None:
    """Tissues are not even."""
    field = draw.field(8 / scene.spacing_mm, scene.shape)
    scene.image = scene.image * (1 + draw.uniform("strength", *strength) * field).clamp(min=0)


@effect("contrast", "head", probability=0.06)
def things(scene: HeadScene, draw: Draw) -> None:
    """No head at all: limbs, bellies, phantoms, noise, as blobs of folded noise in an ellipsoid."""
    rng = draw.rng
    at = (voxel_positions(scene.shape) * scene.spacing_mm).movedim(0, -1)
    middle = torch.tensor([(n - 1) / 2 * scene.spacing_mm for n in scene.shape])
    radii = torch.from_numpy(np.exp(rng.uniform(np.log(30), np.log(160), 3))).float()
    offset = torch.from_numpy(rng.normal(0, 25, 3)).float()
    bumps = 0.2 * draw.field(50 / scene.spacing_mm, scene.shape)
    body = torch.sigmoid((1 + bumps - ((at - middle - offset) / radii).square().sum(-1).sqrt()) / 0.04)
    image = torch.full(scene.shape, float(rng.uniform(0, 1)))
    for period in (90, 50, 30, 16):
        part = torch.sigmoid((draw.field(period / scene.spacing_mm, scene.shape) - rng.uniform(-0.5, 1.2)) / 0.1)
        image = image + part * (float(rng.uniform(0, 1.5)) - image)
    scene.image, scene.brain, scene.body = image * body, torch.zeros(scene.shape), body


# ---- what is left of it in the file ----------------------------------------------


@effect("view", "head", probability=0.15)
def stripped(scene: HeadScene, draw: Draw, *, level=(0.1, 0.7)) -> None:
    """A brain that was stripped, too tightly or too widely; zero around it."""
    near = gaussian(scene.brain, draw.uniform("reach_mm", 1, 5) / scene.spacing_mm)
    scene.image = scene.image * (near > draw.uniform("level", *level))


@effect("view", "head", probability=0.35)
def zeroed(scene: HeadScene, draw: Draw) -> None:
    """Air set to zero, as after defacing or anonymising."""
    near = gaussian(scene.body, draw.uniform("reach_mm", 1, 6) / scene.spacing_mm)
    scene.image = scene.image * (near > draw.uniform("level", 0.1, 0.6))


@effect("view", "head", probability=0.6)
def window(scene: HeadScene, draw: Draw, *, side_p=0.25, deepest=0.42) -> None:
    """A field of view that ends before the head does, on any side."""
    for axis, count in enumerate(scene.shape):
        for side in ("low", "high"):
            if draw.chance(f"{side}_{axis}", side_p):
                cut = int(count * deepest * draw.uniform(f"{side}_{axis}_share", 0, 1) ** 1.5)
                part = scene.inside.narrow(axis, 0 if side == "low" else count - cut, cut)
                part.zero_()
    scene.image = scene.image * scene.inside
