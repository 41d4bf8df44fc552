"""The registry of effects: what an effect is, for which organ, in which stage, and how a recipe sets it.

An effect is a small named function ``name(scene, draw, *, setting=default, ...)``. It changes the scene and takes
its random numbers from ``draw``, a stream of its own that the seed and its name decide: leaving one
effect out, or adding one, changes no other's numbers. A recipe holds, by effect, the settings that
differ from the defaults, or ``false`` to leave the effect out.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sctseg7t.errors import InputError

# Stages by organ. Cord: labels; a noise-free image; the scanner's image; the window that a network sees.
STAGES: dict[str, tuple[str, ...]] = {
    "cord": ("anatomy", "contrast", "acquisition", "view"),
    "neck": ("place", "anatomy", "contrast", "acquisition", "view"),
    "brain": ("anatomy", "lesions", "contrast", "acquisition"),
    "patch": ("patch",),
    "pair": ("patch",),
    "slab": ("slab",),
    "head": ("place", "contrast", "acquisition", "view"),
}


@dataclass(frozen=True)
class Effect:
    """An entry of the registry: function, stage, default settings, whether it must be there, place in the order."""

    name: str
    apply: Callable
    stage: str
    defaults: dict[str, Any]
    required: bool
    place: tuple

    @property
    def summary(self) -> str:
        """First line of the effect's docstring."""
        return (inspect.getdoc(self.apply) or "").partition("\n")[0]


EFFECTS: dict[str, dict[str, Effect]] = {organ: {} for organ in STAGES}


def effect(
    stage: str, *organs: str, required: bool = False, probability: float | None = None, **own: dict[str, Any]
) -> Callable:
    """Register a function as an effect.

    Effects run stage by stage, and within a stage in the order in which they are written; those that come from
    another organ's module run first.

    Parameters
    ----------
    stage : str
        One of the organs' stages.
    *organs : str
        Keys of ``STAGES``: where the effect works; first the one in whose module it stands.
    required : bool
        An image cannot be made without it.
    probability : float, optional
        Default chance that an image has the effect, for organs that are simulated one image at a time; where a
        batch is, a function draws for each image whether it is on.
    **own : dict
        By organ: defaults that differ from those in the function's head.
    """

    def register(function: Callable) -> Callable:
        known = inspect.signature(function).parameters.values()
        defaults = {} if probability is None else {"probability": probability}
        defaults |= {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY}
        name, code = function.__name__, function.__code__
        for organ in organs:
            # Which module was imported first must not matter.
            place = STAGES[organ].index(stage), organ == organs[0], code.co_filename, code.co_firstlineno
            entry = Effect(name, function, stage, {**defaults, **own.get(organ, {})}, required, place)
            entries = [*EFFECTS[organ].values(), entry]
            EFFECTS[organ] = {e.name: e for e in sorted(entries, key=lambda e: e.place)}
        return function

    return register


def read_settings(organ: str, values: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Settings of every effect of an organ, from those that a recipe changes.

    Parameters
    ----------
    organ : str
        A key of ``STAGES``; the modules with its effects must have been imported.
    values : mapping, optional
        By effect: settings that differ from the defaults, or False to leave it out.

    Returns
    -------
    dict of str to dict
        Effects in order, each with all its settings; those left out are absent.

    Raises
    ------
    InputError
        Unknown effect or setting, or a required effect left out.
    """
    effects, values = EFFECTS[organ], values or {}
    unknown = sorted(set(values) - set(effects))
    if unknown:
        raise InputError(f"simulation recipe: unknown effect {unknown[0]!r}; known: {', '.join(effects)}")
    settings = {}
    for name, entry in effects.items():
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
