"""A whole simulated scan: a stack of coherent slices with its true tissue fractions."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from sctseg7t.errors import InputError, UsageError
from sctseg7t.simulate.acquisition import stored_grid
from sctseg7t.simulate.anatomy import SPACING_MM, AnatomyBank, load_bank
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.simulate.effect import EFFECTS, read_settings
from sctseg7t.simulate.fields import sample_mm
from sctseg7t.simulate.scene import one_thread

# A plan's scan is of ordinary contrast, wherever its recipe does not say otherwise.
_ORDINARY = {
    "place": {"shift": 0.0, "far_p": 0.0},
    "tissues": {"iso_csf_p": 0.0, "dark_csf_p": 0.0, "dark_gm_p": 0.0, "flat_gm_p": 0.0},
    "bones": {"p": 1.0},
    "flow_voids": {"p": 0.8},
    "resolution": {"interpolated_p": 0.0},
    # Its map is drawn with the noise, so anew per slice: a strong one would make slices of unlike SNR.
    "noise": {"uneven": 0.1},
}
# How far the same lesions reach along the cord, and the spread of a compression about its level.
_LESION_MM, _COMPRESSION_SD_MM = 9.0, 5.0
# Over how many mm of a stack what surrounds the cord becomes another, and how much of it: discs and vertebrae, roots,
# vessels, flow, shim.
_CHANGES = {
    "canal": (20.0, 0.5),
    "surroundings": (12.0, 0.5),
    "bones": (9.0, 0.6),
    "roots": (6.0, 1.0),
    "vessels": (8.0, 0.9),
    "flow_voids": (8.0, 0.9),
    "pial_vessels": (10.0, 0.7),
    "fissures": (25.0, 0.5),
    "dropout": (15.0, 0.6),
    "far_ghosts": (8.0, 0.5),
}
# Effects that records of version 0.1.0 do not know: their scans have none of them.
_NEW_EFFECTS = ("bones", "flow_voids", "far_ghosts")
# Settings that records of version 0.1.0 lack; their defaults change nothing.
_ADDED = {
    "gray_matter": {"moved_mm", "uneven_mm", "one_side_p", "outset_mm"},
    "tissues": {"uneven_gm", "dim_rim", "blind_p"},
    "canal": {"streaks"},
    "surroundings": {"dim_p", "dim"},
    "visibility": {"least"},
    "lesions": {"wedge_p"},
    "noise": {"coils"},
}
_STAGES = ("anatomy", "contrast", "acquisition")


@dataclass(frozen=True)
class ScanPlan:
    """Geometry and quality of one simulated scan. Lengths in mm (UsageError where they cannot be).

    ``changing``: what surrounds the cord changes along the stack; otherwise all slices share it.
    """

    seed: int = 0
    slices: int = 12
    pixel_mm: float = 0.35
    thickness_mm: float = 3.0
    field_of_view_mm: float = 72.0
    snr: float = 25.0
    off_centre_mm: tuple[float, float] = (6.0, -4.0)
    changing: bool = True

    def __post_init__(self):
        if self.slices < 1:
            raise UsageError(f"{self.slices} slices: a simulated scan has at least 1")
        if self.pixel_mm < SPACING_MM:
            raise UsageError(
                f"pixel {self.pixel_mm} mm: finer than the {SPACING_MM} mm of the anatomy; use a larger one"
            )
        if self.field_of_view_mm < 10 * self.pixel_mm:
            raise UsageError(f"field of view {self.field_of_view_mm} mm: smaller than 10 pixels; use a larger one")
        if not (self.thickness_mm > 0 and self.snr > 0):
            raise UsageError(f"thickness {self.thickness_mm} mm, SNR {self.snr}: both must be above 0")


def simulate_scan(
    bank: AnatomyBank, plan: ScanPlan = ScanPlan(), recipe: Mapping[str, Any] | None = None
) -> tuple[nib.Nifti1Image, dict[str, nib.Nifti1Image], dict[str, Any]]:
    """Simulate a scan.

    All slices share one draw of most effects, so what chance switches on is on for the whole scan; a probability
    of 1 or 0 decides it. What surrounds the cord (canal, bones, roots, vessels, flow, shim) changes smoothly along
    the stack, unless the plan is not ``changing``. Anatomy moves along the bank and the cord drifts a little through
    the stack. Noise is drawn anew per slice and lesions every 9 mm; compression has one level, from which it fades.

    Parameters
    ----------
    bank : AnatomyBank
    plan : ScanPlan
        Decides pixel size, slice thickness and SNR whatever the recipe has for them.
    recipe : dict, optional
        By effect: the settings that differ from an ordinary scan's, or False to leave it out.

    Returns
    -------
    image : nibabel.Nifti1Image
        int16, in LAS voxel order as scanners often store it.
    truth : dict of str to nibabel.Nifti1Image
        SC and GM fractions of each voxel, float32; the tissue's own, never with an inset.
    record : dict
        Every setting, and what was drawn from it for the scan (``drawn``: effect → name → number) or, where
        slices differ, for each (``drawn_by_slice``); with the bank's own, enough for :func:`scan_from_record`.

    Raises
    ------
    InputError
        The recipe names an unknown effect, setting or anatomy source.
    """
    settings = _plan_settings(plan, recipe or {})
    size = int(plan.field_of_view_mm / SPACING_MM) // 2 * 2
    simulator = CordSimulator(bank, settings, size)
    whole = simulator.settings
    indices = _walk(bank, plan, settings["subject"]["source_weights"])
    count = int(plan.field_of_view_mm / plan.pixel_mm) // 2 * 2
    slices, drawn = [], []
    # Of the effects that a slice does not share with the whole scan.
    own_seed = plan.seed * 1000 + 17
    with one_thread():
        for k, index in enumerate(indices):
            bend = k / max(plan.slices - 1, 1) - 0.5
            simulator.settings = _slice_settings(whole, plan, k)
            scene = simulator.scene(
                1,
                plan.seed,
                index=torch.tensor([index]),
                stages=_STAGES,
                drift_mm=(plan.off_centre_mm[0] + 1.0 * bend, plan.off_centre_mm[1] + 3.0 * bend),
                reseed={"noise": own_seed + k, "lesions": own_seed + int(k * plan.thickness_mm / _LESION_MM)},
                along={n: (k * plan.thickness_mm / mm, share) for n, (mm, share) in _CHANGES.items() if plan.changing},
            )
            maps = torch.cat([scene.stored, _native_fractions(scene)], 1)[0].numpy()
            start = (maps.shape[-1] - count) // 2
            slices.append(maps[:, start : start + count, start : start + count])
            drawn.append({name: kept for name, kept in scene.settings_of(0).items() if name != "subject"})
    pixel = scene.pixel[0].numpy()
    stack, *fractions = np.stack(slices, -1)
    stack = np.rint(stack / np.quantile(stack, 0.995) * 800).clip(0, 4000).astype(np.int16)
    truth = {name: _image(fraction, pixel, plan) for name, fraction in zip(("SC", "GM"), fractions)}
    differ = [name for name in drawn[0] if any(kept[name] != drawn[0][name] for kept in drawn)]
    record = {
        "plan": asdict(plan),
        "recipe": settings,
        "bank_slices": [int(i) for i in indices],
        "drawn": {name: kept for name, kept in drawn[0].items() if name not in differ},
        "drawn_by_slice": {name: [kept[name] for kept in drawn] for name in differ},
    }
    return _image(stack, pixel, plan), truth, record


def _plan_settings(plan, recipe):
    """All settings: the defaults, an ordinary scan's, the recipe's, then the plan's."""
    planned = {
        "slab": {"thickness": (plan.thickness_mm,) * 2, "inset_mm": 0.0},
        "noise": {"snr": (plan.snr,) * 2},
        "resolution": {"pixel": (plan.pixel_mm,) * 2},
    }
    merged: dict[str, Any] = dict.fromkeys(EFFECTS["cord"], False)
    for name, settings in read_settings("cord", recipe).items():
        given = recipe.get(name) or {}
        merged[name] = {**settings, **_ORDINARY.get(name, {}), **given, **planned.get(name, {})}
    return merged


def _slice_settings(settings, plan, k):
    """Settings of slice ``k``: those of the scan, its compression faded by the distance from its level."""
    if "compression" not in settings:
        return settings
    full = settings["compression"]
    level = np.random.default_rng((plan.seed, 1)).uniform(0.25, 0.75) * (plan.slices - 1)
    fade = math.exp(-0.5 * ((k - level) * plan.thickness_mm / _COMPRESSION_SD_MM) ** 2) if plan.slices > 1 else 1.0
    faded = {
        **full,
        "p": full["p"] if fade > 0.1 else 0.0,
        "depth": tuple(fade * v for v in full["depth"]),
        "flat": tuple(1 + fade * (v - 1) for v in full["flat"]),
    }
    return {**settings, "compression": faded}


def scan_from_record(
    record: Mapping[str, Any], folders: Mapping[str, str | Path] | None = None
) -> tuple[nib.Nifti1Image, dict[str, nib.Nifti1Image], dict[str, Any]]:
    """Make a scan again, bit for bit, from the record beside it, as ``sct7t_simulate`` writes it.

    Parameters
    ----------
    record : dict
        With ``anatomy`` (source of the bank, or a list), ``anatomy_seed`` (default 0), ``plan`` and ``recipe``.
    folders : dict of str to path, optional
        As for :func:`sctseg7t.simulate.anatomy.load_bank`.

    Returns
    -------
    As :func:`simulate_scan`.

    Raises
    ------
    InputError
        The record lacks a part, another version of the simulator wrote it, or the anatomy's files are not there.
    """
    try:
        # Version 0.1.0 had neither the one nor the other.
        plan, recipe = {"changing": False, **record["plan"]}, {**dict.fromkeys(_NEW_EFFECTS, False), **record["recipe"]}
        sources = record["anatomy"]
        plan = ScanPlan(**{**plan, "off_centre_mm": tuple(plan["off_centre_mm"])})
    except (KeyError, TypeError, ValueError) as err:
        raise InputError(
            f"record of a simulated scan: {err} is missing or unknown; use one that sct7t_simulate wrote"
        ) from err
    known = {name: set(entry.defaults) for name, entry in EFFECTS["cord"].items()}
    _same_version(
        name
        for name in {**known, **recipe}
        if recipe.get(name) is not False and set(recipe.get(name) or ()) | _ADDED.get(name, set()) != known.get(name)
    )
    bank = load_bank([sources] if isinstance(sources, str) else sources, folders, record.get("anatomy_seed", 0))
    made = simulate_scan(bank, plan, recipe)
    drawn = made[2]["drawn"]
    _same_version(
        name
        for name, kept in record.get("drawn", {}).items()
        if not np.allclose([*kept.values()], [drawn.get(name, {}).get(key, math.nan) for key in kept], 1e-5, 1e-6)
    )
    return made


def _same_version(differ: Iterable[str]) -> None:
    """InputError if effects differ between a record and this version."""
    names = ", ".join(differ)
    if names:
        raise InputError(
            f"record of a simulated scan: settings or numbers of {names} are not those of this version of sctseg7t; "
            "use the one that wrote it, or simulate anew"
        )


def _walk(bank, plan, shares=None):
    """Indices through one stack of the bank, spaced as the slices are; ``shares`` by source."""
    rng = np.random.default_rng(plan.seed)
    stacks, member = np.unique(bank.stack, return_inverse=True)
    weights = np.bincount(member, bank.weights(shares))
    stack = rng.choice(stacks, p=weights / weights.sum())
    members = np.flatnonzero(bank.stack == stack)
    step = plan.thickness_mm / float(bank.step_mm[members[0]])
    room = max(len(members) - 1 - step * (plan.slices - 1), 0)
    return members[np.clip(rng.uniform(0, 1) * room + step * np.arange(plan.slices), 0, len(members) - 1).astype(int)]


def _native_fractions(scene):
    """Mean of the fine fractions over each stored pixel."""
    x, y = stored_grid(scene)
    subs = (np.arange(4) + 0.5) / 4 - 0.5
    parts = (
        sample_mm(scene.target, x + float(fx * scene.pixel[0, 0]), y + float(fy * scene.pixel[0, 1]), SPACING_MM)
        for fx in subs
        for fy in subs
    )
    total = sum(parts, start=torch.zeros(()))
    return total / len(subs) ** 2


def _image(stack_yxz, pixel, plan):
    """NIfTI image of a (Y, X, Z) stack, stored right to left."""
    data = np.ascontiguousarray(stack_yxz.transpose(1, 0, 2)[::-1])
    affine = np.diag([-pixel[0], pixel[1], plan.thickness_mm, 1.0])
    affine[:3, 3] = [pixel[0] * (data.shape[0] - 1) / 2, -pixel[1] * (data.shape[1] - 1) / 2 - 60.0, -150.0]
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    return image
