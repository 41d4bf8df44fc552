"""A whole simulated scan: a stack of coherent slices with its true tissue fractions."""

from dataclasses import asdict, dataclass, replace

import nibabel as nib
import numpy as np
import torch

from sctseg7t.errors import InputError, UsageError
from sctseg7t.simulate.anatomy import SPACING_MM, load_bank
from sctseg7t.simulate.cord import CordRecipe, CordSimulator
from sctseg7t.simulate.fields import sample_mm


@dataclass(frozen=True)
class ScanPlan:
    """Geometry and quality of one simulated scan. Lengths in mm (UsageError where they cannot be)."""

    seed: int = 0
    slices: int = 12
    pixel_mm: float = 0.35
    thickness_mm: float = 3.0
    field_of_view_mm: float = 72.0
    snr: float = 25.0
    off_centre_mm: tuple = (6.0, -4.0)

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


def simulate_scan(bank, plan=ScanPlan(), recipe=CordRecipe()):
    """Simulate a scan.

    All slices share one draw of the effects; anatomy moves along the bank, the cord drifts
    a little through the stack, and noise is drawn anew per slice.

    Parameters
    ----------
    bank : AnatomyBank
    plan : ScanPlan
    recipe : CordRecipe

    Returns
    -------
    image : nibabel.Nifti1Image
        int16, in LAS voxel order as scanners often store it.
    truth : dict of str to nibabel.Nifti1Image
        SC and GM fractions of each voxel, float32.
    record : dict
        Every setting; with the bank's own, enough for :func:`scan_from_record`.
    """
    recipe = replace(
        recipe, pixel=(plan.pixel_mm, plan.pixel_mm), thickness=(plan.thickness_mm,) * 2, snr=(plan.snr,) * 2,
        far_shift_p=0.0, shift=0.0, interpolated_p=0.0, iso_csf_p=0.0, dark_csf_p=0.0, dark_gm_p=0.0, flat_gm_p=0.0,
    )  # fmt: skip
    size = int(plan.field_of_view_mm / SPACING_MM) // 2 * 2
    simulator = CordSimulator(bank, recipe, size)
    indices = _walk(bank, plan)
    count = int(plan.field_of_view_mm / plan.pixel_mm) // 2 * 2
    images, fractions = [], []
    with torch.no_grad():
        for k, index in enumerate(indices):
            gen = torch.Generator().manual_seed(plan.seed)
            noise = torch.Generator().manual_seed(plan.seed * 1000 + 17 + k)
            bend = k / max(plan.slices - 1, 1) - 0.5
            drift = (plan.off_centre_mm[0] + 1.0 * bend, plan.off_centre_mm[1] + 3.0 * bend)
            frame = simulator._place(gen, 1, drift)
            labels = simulator._labels(gen, 1, frame, torch.tensor([index]))
            fine = simulator._contrast(gen, 1, frame, labels)
            stored, pixel, phase = simulator._scan(gen, fine, frame, noise)
            images.append(_centre(stored, count)[0])
            fractions.append(_centre(_native_fractions(labels["target"], simulator, pixel, phase), count))
    pixel = pixel[0].numpy()
    stack = np.stack(images, -1)
    stack = np.rint(stack / np.quantile(stack, 0.995) * 800).clip(0, 4000).astype(np.int16)
    truth = {
        name: _image(np.stack([f[c] for f in fractions], -1).astype(np.float32), pixel, plan)
        for c, name in enumerate(("SC", "GM"))
    }
    record = {"plan": asdict(plan), "recipe": asdict(recipe), "bank_slices": [int(i) for i in indices]}
    return _image(stack, pixel, plan), truth, record


def scan_from_record(record, folders=None):
    """Make a scan again from the record beside it, as ``sct7t_simulate`` writes it.

    Parameters
    ----------
    record : dict
        With ``anatomy`` (source of the bank), ``anatomy_seed`` (default 0), ``plan`` and ``recipe``.
    folders : dict of str to path, optional
        As for :func:`sctseg7t.simulate.anatomy.load_bank`.

    Returns
    -------
    As :func:`simulate_scan`.

    Raises
    ------
    InputError
        The record lacks a part, or the anatomy's files are not there.
    """
    try:
        sources, plan = record["anatomy"], dict(record["plan"])
        recipe = CordRecipe.from_dict(record["recipe"])
        plan = ScanPlan(**{**plan, "off_centre_mm": tuple(plan["off_centre_mm"])})
    except (KeyError, TypeError) as err:
        raise InputError(
            f"record of a simulated scan: {err} is missing or unknown; use one that sct7t_simulate wrote"
        ) from err
    bank = load_bank([sources] if isinstance(sources, str) else sources, folders, record.get("anatomy_seed", 0))
    return simulate_scan(bank, plan, recipe)


def _walk(bank, plan):
    """Indices through one stack of the bank, spaced as the slices are."""
    rng = np.random.default_rng(plan.seed)
    stack = rng.choice(np.unique(bank.stack))
    members = np.flatnonzero(bank.stack == stack)
    step = plan.thickness_mm / float(bank.step_mm[members[0]])
    room = max(len(members) - 1 - step * (plan.slices - 1), 0)
    return members[np.clip(rng.uniform(0, 1) * room + step * np.arange(plan.slices), 0, len(members) - 1).astype(int)]


def _native_fractions(target, simulator, pixel, phase):
    """Mean of the fine fractions over each stored pixel."""
    x, y = simulator._stored_grid(pixel, phase)
    subs = (np.arange(4) + 0.5) / 4 - 0.5
    total = sum(
        sample_mm(target, x + float(fx * pixel[0, 0]), y + float(fy * pixel[0, 1]), SPACING_MM)
        for fx in subs
        for fy in subs
    )
    return total / len(subs) ** 2


def _centre(maps, count):
    """Central (C, count, count) of (1, C, P, P) maps."""
    start = (maps.shape[-1] - count) // 2
    return maps[0, :, start : start + count, start : start + count].numpy()


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
