"""Validation on real scans with manual masks, through the functions that inference runs.

What it finds is written down and drawn; it never chooses the weights.
"""

from dataclasses import dataclass

import numpy as np
import torch

from sctseg7t.cord.locator import from_labels, locate
from sctseg7t.cord.windows_model import check_spec, segment_fractions
from sctseg7t.errors import InputError
from sctseg7t.image.frame import frame_of
from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import load
from sctseg7t.image.windows import box_around
from sctseg7t.postprocess import apply, binary


@dataclass(frozen=True, eq=False)
class TorchSession:
    """A network in training that runs like a :class:`sctseg7t.runtime.Session`."""

    network: torch.nn.Module
    place: object

    def run(self, images):
        """(N, C, H, W) float32 images to (N, K, H, W) probabilities."""
        size = 4 if self.place.kind == "cpu" else 32
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), size):
                part = torch.from_numpy(np.ascontiguousarray(images[start : start + size], np.float32))
                part = part.to(self.place.device, memory_format=torch.channels_last)
                parts.append(torch.sigmoid(self.network(part)).cpu().numpy())
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Case:
    """A scan made ready: slices between the first and the last of the reference.

    Attributes
    ----------
    data : (X, Y, Z) float32
    affine : (4, 4) float64
        Canonical, mm.
    centres_vox : (Z, 2) float64
        Centre of mass of the reference, between its slices interpolated.
    references : dict of str to (X, Y, Z) bool
    marked : (Z,) bool
        Slices with a reference for the cord's place.
    """

    name: str
    data: np.ndarray
    affine: np.ndarray
    centres_vox: np.ndarray
    references: dict
    marked: np.ndarray


def prepare(scans, spec):
    """Load scans and masks, cut to what a model needs of them.

    Parameters
    ----------
    scans : list of LabelledScan
    spec : ModelSpec
        Of the model in training. A window model sees a box around the cord, a locator whole slices.

    Returns
    -------
    list of Case

    Raises
    ------
    InputError
        A file cannot be used, or a mask is empty.
    """
    return [_case(scan, spec) for scan in scans]


def _case(scan, spec):
    volume = load(scan.image, volumes="mean")
    references = {tissue: labels_on_scan(path, volume)[0] > 0 for tissue, path in scan.masks.items()}
    for tissue, mask in references.items():
        if not mask.any():
            raise InputError(f"{scan.masks[tissue]}: marks no voxel of {scan.image}; give the manual mask of this scan")
    lead = "SC" if "SC" in references else "GM"
    centres = from_labels(references[lead], volume.affine, volume, str(scan.masks[lead])).centres_vox
    slices = np.flatnonzero(references[lead].any((0, 1)))
    keep = slice(slices[0], slices[-1] + 1)
    data, affine, box = volume.data[..., 0], volume.affine.copy(), (slice(None), slice(None))
    affine[:3, 3] += affine[:3, 2] * keep.start
    centres = centres[keep]
    if spec.input.size is not None:
        reach_mm = max(spec.input.size) * max(spec.input.spacing_mm)
        box = box_around(centres, volume.frame, data.shape, reach_mm)
        affine[:3, 3] += affine[:3, :2] @ [part.start for part in box]
        centres = centres - [part.start for part in box]
    cut = (*box, keep)
    references = {tissue: mask[cut] for tissue, mask in references.items()}
    return Case(scan.name, np.asfortranarray(data[cut]), affine, centres, references, references[lead].any((0, 1)))


def evaluate(cases, network, spec, place):
    """Measure the averaged network on every case.

    Returns
    -------
    list of dict
        One a scan. Window model: ``dice_SC``, ``area_ratio_SC``, ``dice_GM``, ``area_ratio_GM`` of the final
        masks, in 3D over the slices where the reference has that tissue. Locator: ``median_mm``,
        ``within_3mm`` (share of slices). None where there is no reference, or nothing was found.
    """
    session = TorchSession(network, place)
    measure = _areas if spec.input.size is not None else _distances
    return [{"scan": case.name, **measure(case, session, spec)} for case in cases]


def mean_of(rows):
    """Mean of every number over the scans that have it."""
    found = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0] if name != "scan"}
    return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}


def _areas(case, session, spec):
    check_spec(spec)
    found = segment_fractions(case.data, frame_of(case.affine), case.centres_vox, session, spec)
    masks = {output.name: binary(found.maps[output.name], output) for output in spec.outputs}
    masks = apply(masks, spec.postprocess, float(abs(np.linalg.det(case.affine[:3, :3]))))
    row = {}
    for name in ("SC", "GM"):
        row[f"dice_{name}"] = row[f"area_ratio_{name}"] = None
        if name in case.references:
            shown = case.references[name].any((0, 1))
            mask, reference = masks[name][..., shown], case.references[name][..., shown]
            row[f"dice_{name}"] = round(2 * (mask & reference).sum() / (mask.sum() + reference.sum()), 4)
            row[f"area_ratio_{name}"] = round(mask.sum() / reference.sum(), 4)
    return row


def _distances(case, session, spec):
    path = locate(case.data, case.affine, session, spec)
    if path is None:
        return {"median_mm": None, "within_3mm": 0.0}
    away = frame_of(case.affine).mm_between(path.centres_vox, case.centres_vox)[case.marked]
    return {"median_mm": round(float(np.median(away)), 3), "within_3mm": round(float((away <= 3).mean()), 4)}
