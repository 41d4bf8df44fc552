"""What an effect of the simulator is, and the scene that effects work on.

An effect is a small named function ``name(scene, draw, *, setting=default, ...)``. It changes the scene and takes
its random numbers from ``draw``, a stream of its own that the seed and its name decide: leaving one
effect out, or adding one, changes no other's numbers. A recipe file holds, by effect, the settings that
differ from the defaults, or ``false`` to leave the effect out.
"""

import inspect
import zlib
from dataclasses import dataclass

import torch

from sctseg7t.errors import InputError
from sctseg7t.simulate.fields import pixel_grid_mm, smooth_noise

# What the stages make: labels; a noise-free image; the scanner's image; the window that a network sees.
STAGES = ("anatomy", "contrast", "acquisition", "view")
EFFECTS = {}


@dataclass(frozen=True)
class Effect:
    """An entry of the registry: function, stage, default settings, whether it may be left out."""

    name: str
    apply: object
    stage: str
    defaults: dict
    required: bool

    @property
    def summary(self):
        """First line of the effect's docstring."""
        return inspect.getdoc(self.apply).splitlines()[0]


def effect(stage, required=False, registry=EFFECTS, stages=STAGES):
    """Register a function as an effect; those of a stage run in the order in which they are written."""

    def register(function):
        known = inspect.signature(function).parameters.values()
        defaults = {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY}
        registry[function.__name__] = Effect(function.__name__, function, stage, defaults, required)
        # By stage: which module was imported first must not matter.
        ordered = sorted(registry.items(), key=lambda item: stages.index(item[1].stage))
        registry.clear()
        registry.update(ordered)
        return function

    return register


def read_settings(values, registry=EFFECTS):
    """Settings of every effect of a registry from a recipe's ``simulation`` object.

    Returns
    -------
    dict of str to dict
        Effects in order, each with all its settings; those left out are absent.

    Raises
    ------
    InputError
        Unknown effect or setting, or a required effect left out.
    """
    unknown = sorted(set(values) - set(registry))
    if unknown:
        raise InputError(f"simulation recipe: unknown effect {unknown[0]!r}; known: {', '.join(registry)}")
    settings = {}
    for name, entry in registry.items():
        given = values.get(name, {})
        if given is False:
            if entry.required:
                raise InputError(f"simulation recipe: {name!r} cannot be left out")
            continue
        if not isinstance(given, dict):
            raise InputError(f"simulation recipe: {name!r} must be an object of settings, or false")
        wrong = sorted(set(given) - set(entry.defaults))
        if wrong:
            known = ", ".join(entry.defaults) or "none"
            raise InputError(f"simulation recipe: {name!r} has no setting {wrong[0]!r}; known: {known}")
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        settings[name] = {**entry.defaults, **given}
    return settings


class Draw:
    """Random numbers of one effect, one per image: (N, 1, 1, 1), each kept under its name in ``kept``."""

    def __init__(self, seed, name, count, size):
        self.count, self.size, self.kept = count, size, {}
        self.gen = torch.Generator().manual_seed((int(seed) * 1_000_003 + zlib.crc32(name.encode())) % 2**63)

    def keep(self, name, value):
        self.kept[name] = value.flatten().tolist()
        return value

    def uniform(self, name, low, high):
        """Uniform in [low, high)."""
        return self.keep(name, low + (high - low) * torch.rand(self.count, 1, 1, 1, generator=self.gen))

    def log_uniform(self, name, low, high):
        """Uniform in the logarithm."""
        spread = torch.rand(self.count, 1, 1, 1, generator=self.gen)
        return self.keep(name, low * (high / low) ** spread)

    def normal(self, name, sd, mean=0.0):
        """Normal with a mean and a standard deviation."""
        return self.keep(name, mean + sd * torch.randn(self.count, 1, 1, 1, generator=self.gen))

    def chance(self, name, probability):
        """1.0 with the given probability, else 0.0."""
        hit = torch.rand(self.count, 1, 1, 1, generator=self.gen) < probability
        return self.keep(name, hit.float())

    def noise(self, nodes, size=None):
        """Smooth noise of unit SD over the image; follows from the seed, so it is not kept."""
        return smooth_noise(self.gen, self.count, nodes, size or self.size)


class Scene:
    """A batch of slices on its way from label maps to images.

    Attributes that effects share, all (N, 1, S, S) or (N, 1, 1, 1) tensors, lengths in mm:

    - ``x``, ``y``: pixel positions, right and anterior of the window's centre.
    - ``index``: slice of the anatomy bank; ``scale``: size of the cord against the bank's.
    - ``canal``, ``cord``, ``gray``: (x, y) positions in the frame of the canal, the cord, its gray matter.
    - ``sc``, ``gm``: fractions that make the image; ``target`` (N, 2, S, S): the labels; ``regions``: atlas region.
    - ``white``, ``fluid``, ``gain``: levels of WM and CSF, and GM minus WM.
    - ``inner``, ``csf``, ``outside``, ``image``: the cord's image, the fluid's, what lies beyond, and all of it.
    - ``stored``, ``pixel``, ``phase``: the scanner's image, its pixel size (N, 2), place of its grid (N, 2).
    - ``inside``: 1 where the window shows the scan.
    - ``drawn``: the numbers drawn, by effect and name.
    """

    def __init__(self, bank, count, size, spacing_mm, drift_mm=(0.0, 0.0)):
        self.bank, self.count, self.size, self.drift_mm = bank, count, size, drift_mm
        self.x, self.y = pixel_grid_mm(size, spacing_mm)
        # Whoever sets these leaves them to later effects; the cord itself stands in for a gray frame not set.
        self.index = self.gray = None
        self.drawn, self.horns = {}, {}

    def settings_of(self, k):
        """Numbers drawn for image ``k``: effect → name → value."""
        n = self.count
        return {
            effect_name: {name: values[k] for name, values in kept.items() if len(values) == n}
            for effect_name, kept in self.drawn.items()
        }
