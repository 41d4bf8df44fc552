"""Real scans with manual masks, read and cut to measure a network in training as inference would run it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sctseg7t.cord.locator import from_labels
from sctseg7t.errors import InputError
from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import load
from sctseg7t.image.windows import box_around
from sctseg7t.train.device import Place
from sctseg7t.train.labelled_scans import LabelledScan
from sctseg7t.zoo.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class TorchSession:
    """A network in training that runs like a :class:`sctseg7t.runtime.Session`."""

    network: torch.nn.Module
    place: Place

    def run(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 images to (N, K, H, W) probabilities."""
        size = 4 if self.place.kind == "cpu" else 32
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), size):
                part = torch.from_numpy(np.ascontiguousarray(images[start : start + size], np.float32))
                parts.append(torch.sigmoid(self.network(self.place.images(part))).cpu().numpy())
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
    references: dict[str, np.ndarray]
    marked: np.ndarray


@dataclass(frozen=True, eq=False)
class RealScans:
    """Scans made ready, the model's entry by which they are run, and at how many-th validations."""

    cases: list[Case]
    spec: ModelSpec
    every: int = 1


def prepare(scans: Sequence[LabelledScan], spec: ModelSpec, every: int = 1) -> RealScans:
    """Load scans and masks, cut to what a model needs of them.

    Parameters
    ----------
    scans : list of LabelledScan
    spec : ModelSpec
        Of the model in training. A window model sees a box around the cord, a locator whole slices.
    every : int
        Measure at every so many-th validation.

    Raises
    ------
    InputError
        A file cannot be used, or a mask is empty.
    """
    return RealScans([_case(scan, spec) for scan in scans], spec, every)


def _case(scan: LabelledScan, spec: ModelSpec) -> Case:
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
    marked = np.any(references[lead], (0, 1))
    return Case(scan.name, np.asfortranarray(data[cut]), affine, centres, references, marked)


def mean_of(rows: Sequence[dict]) -> dict[str, float]:
    """Mean of every number over the scans that have it."""
    found = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0] if name != "scan"}
    return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}
