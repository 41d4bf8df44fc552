"""Patches of stored brains, changed anew at every draw: what a network of brain lesions trains on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sctseg7t.errors import InputError
from sctseg7t.simulate.brain.space import apply_affine, gaussian, rotation, sample, smooth_field, voxel_positions

CHANNELS = ("FLAIR", "prior_GM", "prior_WM")
# Seeds from here on draw from the brains held out of training.
HELD_OUT_SEED = 10_000_000
_DEFAULTS = {
    "size": 64,
    "lesion_share": 0.55,
    "flip_p": 0.5,
    "turn_p": 0.3,
    "turn_deg": 8.0,
    "zoom_sd": 0.06,
    "prior_shift_mm": 2.0,
    "prior_turn_deg": 2.0,
    "prior_zoom_sd": 0.02,
    "prior_warp_mm": 3.0,
    "ribbon_p": 0.5,
    "ribbon_mm": (2.0, 4.0),
    "ribbon": (1.04, 1.26),
    "spots_p": 0.0,
    "spots": 10,
    "spot_mm": (1.0, 3.4),
    "spot_gain": (0.09, 0.4),
    "level_sd": 0.04,
    "gamma_p": 0.4,
    "gamma": (0.85, 1.2),
    "bias_p": 0.4,
    "bias": 0.06,
    "noise_p": 0.4,
    "noise": 0.05,
    "blur_p": 0.2,
    "blur": 0.7,
    "sharpen_p": 0.15,
    "real_share": 0.5,
}


@dataclass(frozen=True)
class BrainBatch:
    """image (N, C, S, S, S), FLAIR and priors; target (N, 1, S, S, S), 1 in lesions."""

    image: torch.Tensor
    target: torch.Tensor


class BrainSimulator:
    """Draws batches of patches; ``batch(n, seed)`` is replayable.

    Parameters
    ----------
    brains, held_out : list of StoredBrain
    template : Template
    channels : sequence of str
        Those of ``CHANNELS`` that the network takes.
    settings : dict, optional
        Those that differ from the defaults.
    real : list of StoredBrain
        Real scans; ``real_share`` of the patches in training are theirs.

    Raises
    ------
    InputError
        An unknown channel or setting.
    """

    def __init__(self, brains, held_out, template, channels=CHANNELS, settings=None, real=()):
        wrong = sorted(set(settings or {}) - set(_DEFAULTS)) + [c for c in channels if c not in CHANNELS]
        if wrong:
            raise InputError(
                f"recipe of patches: unknown name {wrong[0]!r}; known: {', '.join((*_DEFAULTS, *CHANNELS))}"
            )
        self.brains, self.held_out, self.real = list(brains), list(held_out), list(real)
        self.template, self.channels = template, tuple(channels)
        self.settings = {**_DEFAULTS, **(settings or {})}

    def batch(self, count, seed):
        """``count`` patches; seeds from ``HELD_OUT_SEED`` on draw from the brains held out."""
        with torch.no_grad():
            parts = [self._patch(seed * 64 + k, seed >= HELD_OUT_SEED) for k in range(count)]
        images, targets = zip(*parts)
        return BrainBatch(torch.stack(images), torch.stack(targets))

    def _patch(self, seed, validating):
        rng, s = np.random.default_rng(seed), self.settings
        gen = torch.Generator().manual_seed(int(rng.integers(2**62)))
        real = bool(self.real) and not validating and rng.random() < s["real_share"]
        pool = self.held_out if validating else self.real if real else self.brains
        brain, centre = _centre(pool, rng, s["lesion_share"], s["size"])
        at, flip = self._positions(brain, centre, rng, gen)
        image, label = _sample_brain(brain, at)
        image = self._ribbons(image, label, rng, gen)
        image, label = self._spots(image, label, rng)
        image = self._vary(image, rng, gen)
        found = {"FLAIR": normalise(image)[None]}
        if len(self.channels) > 1:
            priors = sample(self.template.priors, self._prior_positions(brain, at, rng, gen), padding="zeros")
            found |= {"prior_GM": priors[:1], "prior_WM": priors[1:]}
        channels = torch.cat([found[name] for name in self.channels])
        return (channels.flip(1), label[None].flip(1)) if flip else (channels, label[None])

    def _positions(self, brain, centre, rng, gen):
        """Scan voxel under each of the patch's, (3, S, S, S), and whether left and right change places."""
        s = self.settings
        size = s["size"]
        at = voxel_positions((size,) * 3) - (size - 1) / 2
        if rng.random() < s["turn_p"]:
            turn = rotation(rng.normal(0, s["turn_deg"] * np.pi / 180, 3)).float()
            at = apply_affine(torch.cat([turn * float(np.exp(rng.normal(0, s["zoom_sd"]))), torch.zeros(3, 1)], 1), at)
            at = at + torch.tensor(centre, dtype=torch.float32).view(3, 1, 1, 1)
        else:
            first = np.round(centre - (size - 1) / 2)
            at = voxel_positions((size,) * 3) + torch.tensor(first, dtype=torch.float32).view(3, 1, 1, 1)
        return at, rng.random() < s["flip_p"]

    def _prior_positions(self, brain, at, rng, gen):
        """Template voxel under each of the patch's, by an affine registration: it errs, and knows no one's folds."""
        s = self.settings
        matrix = torch.tensor(brain.to_template, dtype=torch.float32)
        mni = apply_affine(matrix, at)
        turn = rotation(rng.normal(0, s["prior_turn_deg"] * np.pi / 180, 3)).float()
        turn = turn * torch.tensor(np.exp(rng.normal(0, s["prior_zoom_sd"], 3)), dtype=torch.float32)
        # About the brain's middle, so that turn and size do not move it.
        middle = torch.tensor([0.0, -20.0, 8.0])
        shift = torch.tensor(rng.normal(0, s["prior_shift_mm"], 3), dtype=torch.float32)
        wrong = torch.cat([turn, (middle - turn @ middle + shift)[:, None]], 1)
        if s["prior_warp_mm"]:
            bend = torch.stack([smooth_field(gen, 18, mni.shape[1:]) for _ in range(3)])
            mni = mni + float(rng.uniform(0, 1) * s["prior_warp_mm"]) * bend
        return apply_affine(wrong, mni) - torch.tensor(self.template.origin_mm).view(3, 1, 1, 1)

    def _ribbons(self, image, label, rng, gen):
        """Folds of cortex that run through WM with no fluid to be seen: as bright as faint lesions, but sheets."""
        s = self.settings
        if rng.random() >= s["ribbon_p"]:
            return image
        period = rng.uniform(9, 18)
        noise, gate = (smooth_field(gen, p, image.shape) for p in (period, 22))
        # Usual slope of this noise at its zeros.
        away = noise.abs() * period / 2.1
        part = torch.sigmoid((rng.uniform(*s["ribbon_mm"]) / 2 - away) / 0.35)
        part = part * torch.sigmoid((gate - rng.uniform(-0.3, 1.2)) / 0.2) * (image > 0.8) * (1 - label)
        return image + part * (float(rng.uniform(*s["ribbon"])) - image).clamp(min=0)

    def _spots(self, image, label, rng):
        """Small lesions anywhere in the tissue: also in cortex, and where the prior expects none."""
        s = self.settings
        tissue = image > 0.85
        if rng.random() >= s["spots_p"] or not tissue.any():
            return image, label
        image, label, gray = image.clone(), label.clone(), float(np.percentile(image[tissue].numpy()[::9], 75))
        for _ in range(int(rng.integers(1, s["spots"] + 1))):
            centre = rng.integers(0, image.shape)
            if not tissue[tuple(centre)]:
                continue
            radius = np.exp(rng.uniform(*np.log(s["spot_mm"]))) * rng.uniform(0.75, 1.35, 3)
            box = tuple(slice(max(c - 7, 0), c + 8) for c in centre)
            at = [np.arange(b.start, min(b.stop, n)) - c for b, n, c in zip(box, image.shape, centre)]
            at = np.meshgrid(*(a + rng.uniform(-0.5, 0.5) for a in at), indexing="ij")
            away = np.sqrt(sum((a / r) ** 2 for a, r in zip(at, radius))) + rng.normal(0, 0.06, at[0].shape)
            part = torch.sigmoid(torch.from_numpy((1 - away) * radius.min() / 0.4).float()) * tissue[box]
            level = gray * (1 + float(np.exp(rng.uniform(*np.log(s["spot_gain"])))))
            image[box] = image[box] + part * (level - image[box]).clamp(min=0)
            label[box] = torch.maximum(label[box], (part > 0.5).float())
        return image, label

    def _vary(self, image, rng, gen):
        s = self.settings
        inside = image > 0
        if rng.random() < s["blur_p"]:
            image = gaussian(image, rng.uniform(0.3, s["blur"]))
        elif rng.random() < s["sharpen_p"]:
            image = (image + rng.uniform(0.2, 0.8) * (image - gaussian(image, 0.8))).clamp(min=0)
        if rng.random() < s["gamma_p"]:
            image = image ** float(rng.uniform(*s["gamma"]))
        if rng.random() < s["bias_p"]:
            image = image * torch.exp(s["bias"] * smooth_field(gen, 40, image.shape))
        if rng.random() < s["noise_p"]:
            image = image + rng.uniform(0, s["noise"]) * torch.randn(image.shape, generator=gen)
        return image.clamp(min=0) * inside * float(np.exp(rng.normal(0, s["level_sd"])))


def make_brain_simulator(simulation, folders, root, log):
    """The simulator of a training recipe; fills its bank first.

    Parameters
    ----------
    simulation : dict
        ``channels``; ``bank``: count, held_out, seed; ``effects``: settings by effect; ``patches``: settings;
        ``real``: numbers of public patients to train on as well.
    folders : dict
        ``brain``: folder of the public data, if it is there.
    root : path
        Where banks lie.
    log : text stream
    """
    from sctseg7t.runtime.session import usable_cpus
    from sctseg7t.simulate.brain.bank import fill
    from sctseg7t.simulate.brain.real import real_brains
    from sctseg7t.simulate.brain.template import load_template

    wrong = sorted(set(simulation) - {"channels", "bank", "effects", "patches", "real"})
    if wrong:
        raise InputError(f"simulation recipe: unknown name {wrong[0]!r}; known: channels, bank, effects, patches, real")
    bank = {"count": 136, "held_out": 8, "seed": 1000, **simulation.get("bank", {})}
    folder = folders.get("brain")
    shapes = Path(folder) / "lesion_masks_mni" if folder else None
    brains = fill(root, bank["count"], bank["seed"], simulation.get("effects", {}), shapes, usable_cpus(), log)
    real = real_brains(simulation.get("real", ()), folder, root)
    apart = min(bank["held_out"], len(brains) - 1)
    channels, patches = simulation.get("channels", CHANNELS), simulation.get("patches")
    return BrainSimulator(brains[: len(brains) - apart], brains[-apart:], load_template(), channels, patches, real)


def normalise(relative):
    """FLAIR over the brain's median to what networks get: 3 (I - 1), I at most 3."""
    return 3 * (relative.clip(0, 3) - 1)


def _centre(pool, rng, lesion_share, size):
    """A scan and the middle of a patch in it: near a lesion, or anywhere in the brain."""
    diseased = [brain for brain in pool if len(brain.centres)]
    if diseased and rng.random() < lesion_share:
        brain = diseased[rng.integers(len(diseased))]
        middle = brain.centres[rng.integers(len(brain.centres))]
        return brain, middle + rng.uniform(-0.36, 0.36, 3) * size
    brain = pool[rng.integers(len(pool))]
    for _ in range(50):
        middle = rng.integers(0, brain.image.shape)
        if brain.image[tuple(middle)] > 0.2:
            break
    return brain, middle.astype(float)


def _sample_brain(brain, at):
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
