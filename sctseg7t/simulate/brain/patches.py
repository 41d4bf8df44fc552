"""Patches of stored brains, changed anew at every draw: what a network of brain lesions trains on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from sctseg7t.errors import InputError
from sctseg7t.runtime.session import usable_cpus
from sctseg7t.simulate.brain import bank, template
from sctseg7t.simulate.brain.bank import StoredBrain
from sctseg7t.simulate.brain.template import Template
from sctseg7t.simulate.effect import effect, read_settings
from sctseg7t.simulate.fields import apply_affine, box_around, gaussian, rotation, sample, voxel_positions
from sctseg7t.simulate.scene import Batch, Draw, Scene

CHANNELS = ("FLAIR", "prior_GM", "prior_WM")
# Seeds from here on draw from the brains held out of training.
HELD_OUT_SEED = 10_000_000


class PatchScene(Scene):
    """One patch of a stored brain, (S, S, S)."""

    organ = "patch"
    sides: tuple[int, int, int]
    at: torch.Tensor  # (3, S, S, S) the scan's voxel under each of the patch's
    label: torch.Tensor
    inside: torch.Tensor  # bool, in the brain mask
    priors: torch.Tensor  # (2, S, S, S) GM and WM

    def __init__(self, brain: StoredBrain, centre: np.ndarray, anatomy: Template, size: int):
        super().__init__(size=size)
        self.brain, self.centre, self.anatomy, self.sides = brain, centre, anatomy, (size, size, size)


class BrainSimulator:
    """Draws batches of patches; ``batch(n, seed)`` is replayable.

    Parameters
    ----------
    brains, held_out : list of StoredBrain
    anatomy : Template
    channels : sequence of str
        Those of ``CHANNELS`` that the network takes.
    settings : mapping, optional
        ``size``: voxels along each side; ``lesion_share``: of patches near a lesion; ``real_share``: of patches from
        real scans in training; and by effect the settings that differ from its defaults, or False to leave it out.
    real : list of StoredBrain
        Real scans; ``real_share`` of the patches in training are theirs.

    Raises
    ------
    InputError
        An unknown channel, effect or setting.
    """

    def __init__(
        self,
        brains: Sequence[StoredBrain],
        held_out: Sequence[StoredBrain],
        anatomy: Template,
        channels: Sequence[str] = CHANNELS,
        settings: Mapping[str, Any] | None = None,
        real: Sequence[StoredBrain] = (),
    ):
        unknown = set(channels) - set(CHANNELS)
        if unknown:
            raise InputError(f"simulation recipe: unknown channel {min(unknown)!r}; known: {', '.join(CHANNELS)}")
        self.brains, self.held_out, self.real = list(brains), list(held_out), list(real)
        self.anatomy, self.channels = anatomy, tuple(channels)
        settings = {"size": 64, "lesion_share": 0.55, "real_share": 0.5, **(settings or {})}
        self.size, self.lesion_share, self.real_share = map(settings.pop, ("size", "lesion_share", "real_share"))
        self.settings = read_settings("patch", settings)
        if len(self.channels) == 1:
            self.settings.pop("registration")

    def batch(self, count: int, seed: int) -> Batch:
        """``count`` patches, (N, C, S, S, S); seeds from ``HELD_OUT_SEED`` on draw from the brains held out."""
        images, labels = [], []
        for k in range(count):
            scene = self.scene(seed * 64 + k, seed >= HELD_OUT_SEED)
            shown: dict[str, torch.Tensor] = dict(
                zip(CHANNELS, (normalise(scene.image), *getattr(scene, "priors", ())))
            )
            images.append(torch.stack([shown[name] for name in self.channels]))
            labels.append(scene.label[None])
        return Batch(torch.stack(images), torch.stack(labels))

    def scene(self, seed: int, held_out: bool = False) -> PatchScene:
        """One patch with all that made it."""
        brain, centre = self._choose(Draw(seed, "choice"), held_out)
        return PatchScene(brain, centre, self.anatomy, self.size).run(self.settings, seed)

    def _choose(self, draw: Draw, held_out: bool) -> tuple[StoredBrain, np.ndarray]:
        """A scan and the middle of a patch in it: near a lesion, or anywhere in the brain."""
        rng = draw.rng
        real = bool(self.real) and not held_out and rng.random() < self.real_share
        pool = self.held_out if held_out else self.real if real else self.brains
        diseased = [brain for brain in pool if len(brain.centres)]
        if diseased and rng.random() < self.lesion_share:
            brain = diseased[rng.integers(len(diseased))]
            return brain, brain.centres[rng.integers(len(brain.centres))] + rng.uniform(-0.36, 0.36, 3) * self.size
        brain = pool[rng.integers(len(pool))]
        for _ in range(50):
            middle = rng.integers(0, brain.image.shape)
            if brain.image[tuple(middle)] > 0.2:
                break
        return brain, middle.astype(float)


# ---- where the patch lies ------------------------------------------------------


@effect("patch", "patch", "pair", required=True)
def grid(scene: PatchScene, draw: Draw) -> None:
    """The scan's own voxels around the middle."""
    sides = scene.sides
    first = np.round(scene.centre - (np.array(sides) - 1) / 2)
    scene.at = voxel_positions(sides) + torch.tensor(first, dtype=torch.float32).view(3, 1, 1, 1)


@effect("patch", "patch", "pair", probability=0.3)
def turn(scene: PatchScene, draw: Draw, *, degrees=8.0, zoom_sd=0.06) -> None:
    """A turned patch of another size."""
    angles = [draw.normal(f"angle_{axis}", degrees) * np.pi / 180 for axis in "xyz"]
    matrix = rotation(angles) * float(np.exp(draw.normal("zoom", zoom_sd)))
    middle = torch.tensor(scene.centre, dtype=torch.float32)[:, None]
    offsets = voxel_positions(scene.sides) - (torch.tensor(scene.sides).view(3, 1, 1, 1) - 1) / 2
    scene.at = apply_affine(torch.cat([matrix, middle], 1), offsets)


@effect("patch", "patch", required=True)
def cut(scene: PatchScene, draw: Draw) -> None:
    """Image and label of the scan there; zero outside the scan."""
    scene.image, scene.label = _sample_brain(scene.brain, scene.at)
    scene.inside = scene.image > 0


@effect("patch", "patch", "pair", required=True)
def registration(scene: PatchScene, draw: Draw, *, shift_mm=2.0, turn_deg=2.0, zoom_sd=0.02, warp_mm=3.0) -> None:
    """Priors as an affine registration places them: it errs, and knows no one's folds."""
    matrix = torch.tensor(scene.brain.to_template, dtype=torch.float32)
    mni = apply_affine(matrix, scene.at)
    wrong = rotation([draw.normal(f"angle_{axis}", turn_deg) * np.pi / 180 for axis in "xyz"])
    wrong = wrong * torch.tensor([np.exp(draw.normal(f"zoom_{axis}", zoom_sd)) for axis in "xyz"], dtype=torch.float32)
    shift = torch.tensor([draw.normal(f"shift_{axis}", shift_mm) for axis in "xyz"])
    # About the brain's middle, so that turn and size do not move it.
    middle = torch.tensor([0.0, -20.0, 8.0])
    if warp_mm:
        bend = torch.stack([draw.field(18, mni.shape[1:]) for _ in range(3)])
        mni = mni + draw.uniform("warp_mm", 0, warp_mm) * bend
    mni = apply_affine(torch.cat([wrong, (middle - wrong @ middle + shift)[:, None]], 1), mni)
    origin = torch.tensor(scene.anatomy.origin_mm).view(3, 1, 1, 1)
    scene.priors = sample(scene.anatomy.priors, mni - origin, padding="zeros")


# ---- what it shows -------------------------------------------------------------


@effect("patch", "patch", probability=0.5)
def ribbons(scene: PatchScene, draw: Draw, *, width_mm=(2.0, 4.0), level=(1.04, 1.26)) -> None:
    """Folds of cortex that run through WM with no fluid to be seen: as bright as faint lesions, but sheets."""
    draw_ribbons(scene, draw, lambda size: draw.field(size, scene.image.shape), width_mm, level)


def draw_ribbons(
    scene: Any,
    draw: Draw,
    field: Callable[[float], torch.Tensor],
    width_mm: tuple[float, float],
    level: tuple[float, float],
) -> None:
    """Ribbons on a scene's image; ``field`` gives smooth noise of a length in mm where the image is."""
    period = draw.uniform("period_mm", 9, 18)
    noise, gate = (field(size) for size in (period, 22))
    # Usual slope of this noise at its zeros.
    away = noise.abs() * period / 2.1
    part = torch.sigmoid((draw.uniform("width_mm", *width_mm) / 2 - away) / 0.35)
    part = part * torch.sigmoid((gate - draw.uniform("gate", -0.3, 1.2)) / 0.2)
    part = part * (scene.image > 0.8) * (1 - scene.label)
    scene.image = scene.image + part * (draw.uniform("level", *level) - scene.image).clamp(min=0)


@effect("patch", "patch", probability=0.0)
def spots(scene: PatchScene, draw: Draw, *, most=10, radius_mm=(1.0, 3.4), gain=(0.09, 0.4)) -> None:
    """Small lesions anywhere in the tissue: also in cortex, and where the prior expects none."""
    image, label = scene.image, scene.label
    tissue = image > 0.85
    if not tissue.any():
        return
    rng, gray = draw.rng, float(np.percentile(image[tissue].numpy()[::9], 75))
    scene.image, scene.label = image, label = image.clone(), label.clone()
    for _ in range(int(rng.integers(1, most + 1))):
        centre = rng.integers(0, image.shape)
        if not tissue[tuple(centre)]:
            continue
        radius = np.exp(rng.uniform(*np.log(radius_mm))) * rng.uniform(0.75, 1.35, 3)
        box, at = box_around(centre, 7, image.shape)
        at = at + rng.uniform(-0.5, 0.5, (3, 1, 1, 1))
        away = np.sqrt(sum((a / r) ** 2 for a, r in zip(at, radius))) + rng.normal(0, 0.06, at[0].shape)
        part = torch.sigmoid(torch.from_numpy((1 - away) * radius.min() / 0.4).float()) * tissue[box]
        level = gray * (1 + float(np.exp(rng.uniform(*np.log(gain)))))
        image[box] = image[box] + part * (level - image[box]).clamp(min=0)
        label[box] = torch.maximum(label[box], (part > 0.5).float())


@effect("patch", "patch")
def sharpness(
    scene: PatchScene, draw: Draw, *, blur_p=0.2, blur=(0.3, 0.7), sharpen_p=0.15, sharpen=(0.2, 0.8)
) -> None:
    """A blurred image (SD in voxels), else sometimes a sharpened one."""
    if draw.chance("blurred", blur_p):
        scene.image = gaussian(scene.image, draw.uniform("blur", *blur))
    elif draw.chance("sharpened", sharpen_p):
        detail = scene.image - gaussian(scene.image, 0.8)
        scene.image = (scene.image + draw.uniform("sharpen", *sharpen) * detail).clamp(min=0)


@effect("patch", "patch", probability=0.4)
def gamma(scene: PatchScene, draw: Draw, *, power=(0.85, 1.2)) -> None:
    """Another curve of intensities."""
    scene.image = scene.image ** draw.uniform("power", *power)


@effect("patch", "patch", probability=0.4)
def bias(scene: PatchScene, draw: Draw, *, strength=0.06) -> None:
    """Multiplicative field of the coils, as bias correction leaves it."""
    scene.image = scene.image * torch.exp(strength * draw.field(40, scene.image.shape))


@effect("patch", "patch", probability=0.4)
def noise(scene: PatchScene, draw: Draw, *, sd=0.05) -> None:
    """Gaussian noise of up to ``sd``."""
    scene.image = scene.image + draw.uniform("sd", 0, sd) * torch.randn(scene.image.shape, generator=draw.gen)


@effect("patch", "patch", required=True)
def level(scene: PatchScene, draw: Draw, *, sd=0.04) -> None:
    """The median that the image is relative to errs; nothing is left outside the brain mask."""
    scene.image = scene.image.clamp(min=0) * scene.inside * float(np.exp(draw.normal("level", sd)))


@effect("patch", "patch", probability=0.5)
def flip(scene: PatchScene, draw: Draw) -> None:
    """Left and right change places."""
    scene.image, scene.label = scene.image.flip(0), scene.label.flip(0)
    if hasattr(scene, "priors"):
        scene.priors = scene.priors.flip(1)


def normalise(relative: Any) -> Any:
    """FLAIR over the brain's median (tensor or array) to what networks get: 3 (I - 1), I at most 3."""
    return 3 * (relative.clip(0, 3) - 1)


def _sample_brain(brain: StoredBrain, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and label at scan voxels (3, S, S, S); zero outside the scan."""
    low = np.floor([float(a.min()) for a in at]).astype(int)
    high = np.ceil([float(a.max()) for a in at]).astype(int) + 1
    first, last = np.maximum(low, 0), np.minimum(high, brain.image.shape)
    box = tuple(slice(a, max(b, a)) for a, b in zip(first, last))
    whole = np.zeros((2, *(high - low)), np.float32)
    into = tuple(slice(a - o, b.stop - b.start + a - o) for a, b, o in zip(first, box, low))
    whole[(0, *into)], whole[(1, *into)] = brain.image[box], brain.label[box]
    whole = torch.from_numpy(whole)
    if tuple(whole.shape[1:]) == tuple(at.shape[1:]):
        return whole[0], whole[1]
    found = sample(whole, at - torch.tensor(low, dtype=torch.float32).view(3, 1, 1, 1), padding="zeros")
    return found[0], (found[1] > 0.5).float()


def make_brain_simulator(
    simulation: Mapping[str, Any], folders: Mapping[str, str | Path], root: str | Path, log: TextIO
) -> BrainSimulator:
    """The simulator of a training recipe; fills its bank first.

    Parameters
    ----------
    simulation : dict
        ``channels``; ``bank``: count, held_out, seed; ``effects``: settings by effect of the brain; ``patches``:
        as for :class:`BrainSimulator`; ``real``: numbers of public patients to train on as well.
    folders : dict
        ``brain``: folder of the public data, if it is there.
    root : path
        Where banks lie.
    log : text stream
    """
    known = {"channels": CHANNELS, "bank": {}, "effects": {}, "patches": {}, "real": ()}
    wrong = sorted(set(simulation) - set(known))
    if wrong:
        raise InputError(f"simulation recipe: unknown name {wrong[0]!r}; known: {', '.join(known)}")
    said = {**known, **simulation}
    size = {"count": 136, "held_out": 8, "seed": 1000, **said["bank"]}
    folder = folders.get("brain")
    shapes = Path(folder) / "lesion_masks_mni" if folder else None
    brains = bank.fill(root, size["count"], size["seed"], said["effects"], shapes, usable_cpus(), log)
    real = bank.real_brains(said["real"], folder, root)
    apart = min(size["held_out"], len(brains) - 1)
    kept, held_out = brains[: len(brains) - apart], brains[-apart:]
    return BrainSimulator(kept, held_out, template.load_template(), said["channels"], said["patches"], real)
