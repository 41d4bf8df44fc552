"""Patches of stored pairs, changed anew at every draw: what a network that looks at two scans of a brain trains on.

An effect that draws for both scans draws apart for each: they are of two days, or of two scanners.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from scipy import ndimage

from sctseg7t.errors import InputError
from sctseg7t.runtime.session import usable_cpus
from sctseg7t.simulate.brain import bank, lesions, pair_bank, template
from sctseg7t.simulate.brain.bank import Crowd
from sctseg7t.simulate.brain.pair_bank import AT_BEFORE, AT_NOW, StoredPair
from sctseg7t.simulate.brain.patches import HELD_OUT_SEED, normalise
from sctseg7t.simulate.brain.people import label_maps
from sctseg7t.simulate.brain.template import Template
from sctseg7t.simulate.effect import effect, read_settings
from sctseg7t.simulate.fields import along, apply_affine, gaussian, rotation, sample
from sctseg7t.simulate.scene import Draw, Scene

CHANNELS = ("FLAIR", "baseline", "prior_GM", "prior_WM")
_SHARES = {"single_share": 0.6, "change_share": 0.45, "lesion_share": 0.3}
# Medians of the brain between which tissue takes up a lesion, and below which there is fluid.
_TISSUE, _FLUID = (0.85, 1.35), 0.6


@dataclass(frozen=True)
class PairBatch:
    """Images (N, C, ...); target (N, 2, ...): lesion at the follow-up, new there; inside (N, 1, ...): 0 where unknown.

    The rim of a lesion that has grown by less than a voxel is such a place: no one can draw it.
    """

    image: torch.Tensor
    target: torch.Tensor
    inside: torch.Tensor


class PairScene(Scene):
    """One patch of a stored pair, (A, B, C) as ``sides`` says."""

    organ = "pair"
    sides: tuple[int, int, int]
    at: torch.Tensor  # (3, A, B, C) the pair's voxel under each of the patch's
    images: torch.Tensor  # (2, A, B, C) follow-up, baseline
    lesions: torch.Tensor  # (2, A, B, C) bool
    inside: torch.Tensor  # bool, in the brain mask
    priors: torch.Tensor  # (2, A, B, C) GM and WM

    def __init__(
        self,
        brain: StoredPair,
        centre: np.ndarray,
        anatomy: Template,
        sides: tuple[int, int, int],
        pieces: Sequence[np.ndarray] = (),
    ) -> None:
        super().__init__(size=max(sides))
        # Tails of exponentials make numbers that processors compute with very slowly.
        torch.set_flush_denormal(True)
        self.brain, self.centre, self.anatomy, self.sides, self.pieces = brain, centre, anatomy, sides, pieces


class PairSimulator:
    """Draws batches of patches of pairs; ``batch(n, seed)`` is replayable.

    Parameters
    ----------
    pairs, held_out : list of StoredPair
    anatomy : Template
    single : list of StoredPair
        Scans that are their own baseline: what changes in them, effects put in.
    pieces : list of (X, Y, Z) bool
        Shapes of real lesions to put in.
    channels : sequence of str
        Those of ``CHANNELS`` that the network takes.
    settings : mapping, optional
        ``size``: voxels along each side; ``views``: where a slice and its neighbours lie (mm), of networks that look
        at slices: then a patch is a slab in one of three planes; ``single_share``: of patches from single scans in
        training; ``change_share``, ``lesion_share``: of patches near what has changed, and near any lesion; and by
        effect the settings that differ from its defaults, or False.

    Raises
    ------
    InputError
        An unknown channel, effect or setting.
    """

    def __init__(
        self,
        pairs: Sequence[StoredPair],
        held_out: Sequence[StoredPair],
        anatomy: Template,
        single: Sequence[StoredPair] = (),
        pieces: Sequence[np.ndarray] = (),
        channels: Sequence[str] = CHANNELS,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        unknown = set(channels) - set(CHANNELS)
        if unknown:
            raise InputError(f"simulation recipe: unknown channel {min(unknown)!r}; known: {', '.join(CHANNELS)}")
        self.pairs, self.held_out, self.single = list(pairs), list(held_out), list(single)
        self.anatomy, self.pieces, self.channels = anatomy, list(pieces), tuple(channels)
        told = {"size": 64, "views": (), **_SHARES, **(settings or {})}
        self.size, self.views = told.pop("size"), tuple(told.pop("views"))
        self.single_share, self.change_share, self.lesion_share = map(told.pop, _SHARES)
        self.settings = read_settings("pair", told)

    def batch(self, count: int, seed: int) -> PairBatch:
        """``count`` patches; seeds from ``HELD_OUT_SEED`` on draw from the pairs held out."""
        shown = [self._shown(self.scene(seed * 64 + k, seed >= HELD_OUT_SEED)) for k in range(count)]
        return PairBatch(*(torch.stack(parts) for parts in zip(*shown)))

    def scene(self, seed: int, held_out: bool = False) -> PairScene:
        """One patch with all that made it."""
        draw = Draw(seed, "choice")
        brain, centre = self._choose(draw, held_out)
        sides = [self.size] * 3
        if self.views:
            # One slice more on either side than the neighbours reach, for what is turned.
            sides[int(draw.rng.integers(3))] = 2 * int(max(map(abs, self.views))) + 1
        return PairScene(brain, centre, self.anatomy, tuple(sides), self.pieces).run(self.settings, seed)

    def _choose(self, draw: Draw, held_out: bool) -> tuple[StoredPair, np.ndarray]:
        """A pair and the middle of a patch in it: near a change, near any lesion, or anywhere in the brain."""
        rng = draw.rng
        single = bool(self.single) and not held_out and rng.random() < self.single_share
        pool = self.held_out if held_out else self.single if single else self.pairs
        brain, kind = pool[rng.integers(len(pool))], rng.random()
        for share, places in ((self.change_share, brain.changed), (self.lesion_share, brain.centres)):
            if kind < share and len(places):
                reach = 0.3 * self.size * (0.2 if self.views else 1.0)
                return brain, places[rng.integers(len(places))] + rng.uniform(-reach, reach, 3)
            kind -= share
        for _ in range(50):
            middle = rng.integers(0, brain.now.shape)
            if brain.now[tuple(middle)] > 0.2:
                break
        return brain, middle.astype(float)

    def _shown(self, scene: PairScene) -> tuple[torch.Tensor, ...]:
        """What a network gets of a scene: channels, target, and where the target is known."""
        now, before = scene.lesions
        near = torch.from_numpy(ndimage.binary_dilation(before.numpy()))
        fresh, rim = now & ~before, now & ~before & near
        # A lesion of its own is new to its rim; of one that has grown the first voxel is anyone's.
        target = torch.stack([now, fresh & ~rim]).float()
        known = (scene.inside & ~rim).float()[None]
        maps: dict[str, torch.Tensor] = dict(zip(CHANNELS, (*normalise(scene.images), *getattr(scene, "priors", ()))))
        shown = [maps[name] for name in self.channels]
        if not self.views:
            return torch.stack(shown), target, known
        axis = int(np.argmin(scene.sides))
        middle = scene.sides[axis] // 2
        layers = [image.select(axis, middle + int(offset)) for image in shown[:2] for offset in self.views]
        layers += [image.select(axis, middle) for image in shown[2:]]
        return torch.stack(layers), *(part.select(axis + 1, middle) for part in (target, known))


# ---- where both scans lie ------------------------------------------------------


@effect("patch", "pair", required=True)
def cut(scene: PairScene, draw: Draw, *, shift_mm=0.3, turn_deg=0.3, warp_mm=0.4, most_mm=1.0) -> None:
    """Both scans there, the baseline a little off: what registration and distortion leave, up to ``most_mm``."""
    turn = rotation([draw.normal(f"angle_{axis}", turn_deg) * np.pi / 180 for axis in "xyz"])
    shift = torch.tensor([draw.normal(f"shift_{axis}", shift_mm) for axis in "xyz"])
    middle = torch.tensor(scene.centre, dtype=torch.float32)
    # About a middle of the brain that is some way off: a turn moves far patches more.
    middle = middle + torch.tensor([draw.normal(f"from_{axis}", 40.0) for axis in "xyz"])
    off = apply_affine(torch.cat([turn, (middle - turn @ middle + shift)[:, None]], 1), scene.at) - scene.at
    if warp_mm:
        bend = torch.stack([draw.field(18, scene.sides) for _ in range(3)])
        off = off + draw.uniform("warp_mm", 0, warp_mm) * bend
    length = off.norm(dim=0, keepdim=True)
    off = off * (most_mm / length.clamp(min=most_mm))
    brain = scene.brain
    # The image is off, not the brain: lesions are told where the follow-up has them.
    now, *label = _sampled(scene.at, (brain.now, None), (brain.label, AT_NOW), (brain.label, AT_BEFORE))
    (before,) = _sampled(scene.at + off, (brain.before, None))
    scene.images, scene.inside = torch.stack([now, before]), (now > 0) & (before > 0)
    scene.lesions = torch.stack(label) > 0.5


def _sampled(at: torch.Tensor, *volumes: tuple[np.ndarray, int | None]) -> torch.Tensor:
    """Volumes, or a bit of them, at voxels (3, A, B, C) of theirs, (V, A, B, C) float32; zero outside."""
    shape = volumes[0][0].shape
    low = np.floor([float(axis.min()) for axis in at]).astype(int)
    high = np.ceil([float(axis.max()) for axis in at]).astype(int) + 1
    box = tuple(slice(max(a, 0), max(min(b, n), max(a, 0))) for a, b, n in zip(low, high, shape))
    whole = np.zeros((len(volumes), *(high - low)), np.float32)
    into = tuple(slice(a.start - o, a.stop - o) for a, o in zip(box, low))
    for k, (volume, bit) in enumerate(volumes):
        whole[(k, *into)] = volume[box] if bit is None else (volume[box] & bit) > 0
    if whole.shape[1:] == at.shape[1:]:
        # Voxels of their own: nothing to interpolate.
        return torch.from_numpy(whole)
    return sample(
        torch.from_numpy(whole), at - torch.tensor(low, dtype=torch.float32).view(3, 1, 1, 1), padding="zeros"
    )


# ---- what has changed ----------------------------------------------------------


@effect("patch", "pair", probability=0.6)
def carve(scene: PairScene, draw: Draw, *, most=3, gain=(0.12, 0.6), scale=(0.6, 1.3), old_p=0.2, grown_p=0.25) -> None:
    """Shapes of real lesions put into one of the scans, or into both, as large or larger in one.

    After CarveMix (Zhang et al., MICCAI 2021), which carves them with their image.
    """
    if not scene.pieces:
        return
    rng = draw.rng
    base = scene.images.min(0).values
    tissue = (base > _TISSUE[0]) & (scene.images.max(0).values < _TISSUE[1]) & scene.inside & ~scene.lesions.any(0)
    places = torch.nonzero(tissue)
    if not len(places):
        return
    gray = float(np.percentile(base[scene.inside].numpy()[::9], 75))
    scene.images, scene.lesions = scene.images.clone(), scene.lesions.clone()
    for _ in range(int(rng.integers(1, most + 1))):
        centre = places[rng.integers(len(places))].numpy()
        piece = scene.pieces[int(rng.integers(len(scene.pieces)))]
        size = float(np.exp(rng.uniform(*np.log(scale))))
        kind, time = rng.random(), int(rng.random() < 0.5)
        level = gray * (1 + float(np.exp(rng.uniform(*np.log(gain)))))
        frame = torch.tensor(np.linalg.qr(rng.normal(size=(3, 3)))[0], dtype=torch.float32)
        sizes = [0.0, 0.0]
        sizes[time] = size
        if kind < old_p + grown_p:
            sizes[1 - time] = size if kind < old_p else size * rng.uniform(0.5, 0.8)
        for k, own in enumerate(sizes):
            if own:
                _put(scene, k, piece, centre, frame / own, level)


def _put(scene, time, piece, centre, matrix, level):
    """A lesion in one of the scans."""
    reach = int(np.ceil(np.linalg.norm(piece.shape) / 2 / float(matrix.norm(dim=0).min()))) + 2
    box = tuple(slice(max(int(c) - reach, 0), min(int(c) + reach + 1, n)) for c, n in zip(centre, scene.sides))
    offsets = torch.stack(
        torch.meshgrid(*(torch.arange(b.start, b.stop) - float(c) for b, c in zip(box, centre)), indexing="ij")
    )
    middle = (torch.tensor(piece.shape).view(3, 1, 1, 1) - 1) / 2
    at = (matrix @ offsets.reshape(3, -1)).reshape(offsets.shape) + middle
    soft = gaussian(sample(torch.from_numpy(np.pad(piece, 1)).float()[None], at + 1, padding="zeros")[0], 0.45)
    image = scene.images[time][box]
    part = torch.sigmoid((soft - 0.4) / 0.1) * (soft > 0.05)
    part = part * torch.sigmoid((image - 0.75) / 0.05) * scene.inside[box]
    scene.images[time][box] = image + part * (level - image).clamp(min=0)
    scene.lesions[time][box] |= (part > 0.5) & (image < level)


@effect("patch", "pair", probability=0.35)
def brightness(scene: PairScene, draw: Draw, *, factor=(0.6, 1.5)) -> None:
    """Old lesions brighter or fainter at one time: that alone is no change of them."""
    both = gaussian((scene.lesions.all(0)).float(), 1.0)
    time = int(draw.chance("time", 0.5))
    images = scene.images.clone()
    above = (images[time] - 1.1).clamp(min=0)
    images[time] = images[time] + both * above * (draw.log_uniform("factor", *factor) - 1)
    scene.images = images


@effect("patch", "pair", probability=0.3)
def flow(scene: PairScene, draw: Draw, *, level=(0.7, 1.6)) -> None:
    """Fluid that is bright at one time only: pulsation in ventricles and cisterns, never a lesion."""
    time = int(draw.chance("time", 0.5))
    fluid = torch.sigmoid((_FLUID - gaussian(scene.images[time], 0.6)) / 0.06) * scene.inside
    gate = torch.sigmoid(
        (draw.field(draw.uniform("period_mm", 5, 14), scene.sides) - draw.uniform("gate", 0.3, 1.5)) / 0.2
    )
    images = scene.images.clone()
    images[time] = images[time] + fluid * gate * (draw.uniform("level", *level) - images[time]).clamp(min=0)
    scene.images = images


# ---- what the scanners make of it ----------------------------------------------


def _each(scene: PairScene, change: Any) -> None:
    """Change both images, each with a name for its numbers."""
    scene.images = torch.stack([change(image, name) for image, name in zip(scene.images, ("now", "before"))])


@effect("patch", "pair", probability=0.5)
def curve(scene: PairScene, draw: Draw, *, sd=0.03, bright=(0.7, 1.4)) -> None:
    """Another curve of intensities, of which matching leaves a little in tissue and more in what is bright."""
    knots = np.array([0.0, 0.4, 0.7, 0.9, 1.0, 1.15])

    def bent(image, name):
        moved = np.maximum.accumulate(knots + draw.rng.normal(0, sd, len(knots)) * (knots > 0))
        # The median is matched.
        moved = moved - (np.interp(1.0, knots, moved) - 1.0) * (knots > 0)
        inner = torch.from_numpy(np.interp(image.numpy(), knots, moved)).float()
        slope = draw.log_uniform(f"bright_{name}", *bright)
        return torch.where(image > knots[-1], float(moved[-1]) + slope * (image - knots[-1]), inner)

    _each(scene, bent)


@effect("patch", "pair", probability=0.35)
def slices(scene: PairScene, draw: Draw, *, thickness_mm=(1.5, 4.5), axial_p=0.7) -> None:
    """Thick slices of both scans along one axis, each with slices of its own, interpolated to the grid."""
    axis = 2 if draw.chance("axial", axial_p) else int(draw.uniform("axis", 0, 3))
    thickness = draw.log_uniform("thickness_mm", *thickness_mm)
    if scene.sides[axis] < 3 * thickness:
        return

    def thick(image, name):
        count, phase = image.shape[axis], draw.uniform(f"phase_{name}", 0, 1)
        at, middle = torch.arange(count, dtype=torch.float32), torch.arange(phase * thickness, count, thickness)
        profile = torch.sigmoid((thickness / 2 - (at[None] - middle[:, None]).abs()) / 0.2)
        profile = profile / profile.sum(1, keepdim=True)
        back = (1 - (at[:, None] - middle[None]).abs() / thickness).clamp(min=0)
        matrix = back / back.sum(1, keepdim=True).clamp(min=1e-3) @ profile
        return along(image, matrix, axis)

    _each(scene, thick)


@effect("patch", "pair", probability=0.5)
def sharpness(scene: PairScene, draw: Draw, *, both=(0.0, 0.5), own=(0.0, 0.45)) -> None:
    """Blur (SD in voxels): what both have, and what is left of a difference."""
    shared = draw.uniform("both", *both)
    _each(scene, lambda image, name: gaussian(image, float(np.hypot(shared, draw.uniform(name, *own)))))


@effect("patch", "pair", probability=0.5)
def bias(scene: PairScene, draw: Draw, *, strength=0.06, apart=0.03) -> None:
    """Drift of the coils: what both have, and what is left of a difference."""
    shared = strength * draw.field(40, scene.sides)
    _each(scene, lambda image, name: image * torch.exp(shared + apart * draw.field(30, scene.sides)))


@effect("patch", "pair", probability=0.7)
def noise(scene: PairScene, draw: Draw, *, sd=(0.005, 0.06), width_vox=(0.0, 0.8)) -> None:
    """Noise of each scan, a little correlated by interpolation."""

    def noisy(image, name):
        grain = gaussian(torch.randn(image.shape, generator=draw.gen), draw.uniform(f"width_{name}", *width_vox))
        return image + draw.log_uniform(f"sd_{name}", *sd) * grain / grain.std()

    _each(scene, noisy)


@effect("patch", "pair", required=True)
def level(scene: PairScene, draw: Draw, *, sd=0.03) -> None:
    """The median that both are relative to errs; nothing is left outside the brain mask."""
    scene.images = scene.images.clamp(min=0) * scene.inside * float(np.exp(draw.normal("level", sd)))


@effect("patch", "pair", probability=0.5)
def exchange(scene: PairScene, draw: Draw) -> None:
    """The scans change places: what was lost is new."""
    scene.images, scene.lesions = scene.images.flip(0), scene.lesions.flip(0)


@effect("patch", "pair", probability=0.5)
def flip(scene: PairScene, draw: Draw) -> None:
    """Left and right change places."""
    for name in ("images", "lesions", "priors"):
        if hasattr(scene, name):
            setattr(scene, name, getattr(scene, name).flip(1))
    scene.inside = scene.inside.flip(0)


def make_pair_simulator(
    simulation: Mapping[str, Any], folders: Mapping[str, str | Path], root: str | Path, log: TextIO
) -> PairSimulator:
    """The simulator of a training recipe; fills its banks first.

    Parameters
    ----------
    simulation : dict
        ``channels``; ``bank``: count, held_out, seed, people, each, people_effects of the pairs; ``single``: the same
        of scans that are their own baseline, none held out; ``real``, ``healthy``: real scans to do the same with, by
        name, see :func:`sctseg7t.simulate.brain.bank.real_brains`; ``effects``: settings by effect of the brain, of the
        pairs; ``patches``: as for :class:`PairSimulator`.
    folders : dict
        ``brain``: folder of the public data; ``heads``: of the label maps; if they are there.
    root : path
        Where banks lie.
    log : text stream
    """
    known = {"channels": CHANNELS, "bank": {}, "single": {}, "real": (), "healthy": (), "effects": {}, "patches": {}}
    if wrong := sorted(set(simulation) - set(known)):
        raise InputError(f"simulation recipe: unknown name {wrong[0]!r}; known: {', '.join(known)}")
    said = {**known, **simulation}
    shapes = Path(folders["brain"]) / "lesion_masks_mni" if "brain" in folders else None
    usual = {"people": (), "each": 4, "people_effects": {}}
    size = {"count": 8, "held_out": 2, "seed": 3000, **usual, **said["bank"]}
    pairs = pair_bank.fill(root, size["count"], size["seed"], said["effects"], shapes, log, _crowd(size, folders))
    single, alone = [], {"count": 0, "seed": 1000, **usual, **said["single"]}
    if alone["count"]:
        crowd = _crowd(alone, folders)
        single += bank.fill(root, alone["count"], alone["seed"], {}, shapes, usable_cpus(), log, crowd)
    for kind in ("real", "healthy"):
        single += bank.real_brains(said[kind], folders.get("brain"), root, healthy=kind == "healthy")
    apart = min(size["held_out"], len(pairs) - 1)
    kept, held_out = pairs[: len(pairs) - apart], pairs[len(pairs) - apart :]
    return PairSimulator(
        kept,
        held_out,
        template.load_template(),
        [pair_bank.own_baseline(brain) for brain in single],
        pair_bank.pieces(lesions.load_shapes(shapes) if shapes else None),
        said["channels"],
        said["patches"],
    )


def _crowd(size, folders):
    return Crowd(label_maps(folders.get("heads"), size["people"]), size["each"], size["people_effects"])
