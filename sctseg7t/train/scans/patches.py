"""Patches of labelled brain scans, made ready as inference makes them. Needs no torch."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.brain.isotropic_grid import to_grid
from sctseg7t.brain.segmenter import network_channels, only_volume
from sctseg7t.brain.segmenter import prepare as prepare_brain
from sctseg7t.files import writing
from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import load
from sctseg7t.train.scans.checks import check_brain, read_labels_of
from sctseg7t.train.scans.items import Item
from sctseg7t.train.scans.labelled import BRAIN_MASK, LabelFiles, LabelledScan
from sctseg7t.zoo.spec import ModelSpec

Finder = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Share of the patches around something that was drawn; the others lie anywhere in the brain.
LABEL_SHARE = 0.6
_CENTRES = 400


@dataclass(frozen=True, eq=False)
class BrainScan:
    """A scan on the working grid of its brain.

    Attributes
    ----------
    scan : LabelledScan
    images : (C, X, Y, Z) float16
        0 is no signal, in units of the entry's normalisation.
    floors : (C,) float32
        What the network gets for no signal.
    priors : (P, X, Y, Z) float16
    inside : (X, Y, Z) bool
        The brain.
    masks : (K, X, Y, Z) bool
    centres : (N, 3) int
        Voxels of labels, as many of a small component as of a large one.
    """

    scan: LabelledScan
    images: np.ndarray
    floors: np.ndarray
    priors: np.ndarray
    inside: np.ndarray
    masks: np.ndarray
    centres: np.ndarray


def prepare(
    scan: LabelledScan, labels: Mapping[str, LabelFiles], spec: ModelSpec, cache: Path, finder: Finder | None = None
) -> BrainScan:
    """Find the brain of a scan, register the template, bring all to the working grid; kept in a folder.

    Parameters
    ----------
    scan : LabelledScan
    labels : dict of str to LabelFiles
    spec : ModelSpec
        Of the model to be.
    cache : Path
        Registering takes most of a minute: what was made of the same files once is taken from here.
    finder : callable, optional
        The network that finds the brain.

    Raises
    ------
    InputError
        A file cannot be used, or a mask is not what it should be.
    """
    path = cache / f"{_digest(scan, labels, spec)}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made: dict[str, Any] = _made(scan, labels, spec, finder)
        with writing(path) as stream:
            np.savez(stream, **made)
    with np.load(path) as stored:
        return BrainScan(scan, **{name: stored[name] for name in stored})


def _digest(scan: LabelledScan, labels: Mapping[str, LabelFiles], spec: ModelSpec) -> str:
    values = {f"{name} values": list(rule.values) for name, rule in labels.items()}
    told = {**scan.digests(), **values, "input": spec.raw["input"]}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _made(
    scan: LabelledScan, labels: Mapping[str, LabelFiles], spec: ModelSpec, finder: Finder | None
) -> dict[str, np.ndarray]:
    volume = load(scan.image, volumes="mean", axial=False)
    data, affine = only_volume(volume), volume.affine
    masks = read_labels_of(scan, volume, labels)
    given = scan.files.get(BRAIN_MASK)
    brain = labels_on_scan(given, volume)[0] > 0 if given else None
    ready = prepare_brain(data, affine, name=volume.name, mask=brain, finder=finder)
    check_brain(scan, masks, ready.mask)
    grid, inside, channels = network_channels(ready, affine, spec)
    count = len(spec.input.images)
    floors = channels[:count].reshape(count, -1).min(1)
    shown = np.zeros((len(labels), *grid.shape), bool)
    for channel, name in enumerate(labels):
        if name in masks:
            shown[channel] = inside & (to_grid(masks[name].astype(np.float32), affine, grid) >= 0.5)
    return {
        "images": (channels[:count] - floors.reshape(-1, 1, 1, 1)).astype(np.float16),
        "floors": floors.astype(np.float32),
        "priors": channels[count:].astype(np.float16),
        "inside": inside,
        "masks": shown,
        "centres": _centres(np.any(shown, axis=0)),
    }


def _centres(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask; the share of a component grows with the cube root of its volume."""
    from sctseg7t.measure.lesions import label_lesions

    parts = label_lesions(mask)
    voxels = np.argwhere(parts)
    if not len(voxels):
        return np.zeros((0, 3), int)
    weight = np.bincount(parts.ravel())[parts[tuple(voxels.T)]] ** (-2 / 3)
    return voxels[np.random.default_rng(0).choice(len(voxels), _CENTRES, p=weight / weight.sum())]


class PatchItems:
    """Patches of prepared scans; see :class:`~sctseg7t.train.scans.items.Items`.

    Parameters
    ----------
    scans : list of BrainScan
    labels : sequence of str
        In the order of the network's maps.
    spec : ModelSpec
    label_share : float
        Of the drawn patches that lie around something marked.
    per_scan : int
        Patches of a scan at places of their own (:meth:`item`): around labels and elsewhere, always the same.
    """

    def __init__(
        self,
        scans: Sequence[BrainScan],
        labels: Sequence[str],
        spec: ModelSpec,
        label_share: float = LABEL_SHARE,
        per_scan: int = 8,
    ) -> None:
        assert spec.input.size is not None
        self.scans, self.labels, self.spec, self.label_share = list(scans), tuple(labels), spec, label_share
        self.size = tuple(spec.input.size)
        rng = np.random.default_rng(0)
        self.places = [(scan, self._middle(scan, rng)) for scan in self.scans for _ in range(per_scan)]

    def __len__(self) -> int:
        return len(self.places)

    def item(self, index: int, margin: int = 0) -> Item:
        """One of the patches that are always the same."""
        return self._patch(*self.places[index], margin)

    def draw(self, rng: np.random.Generator, margin: int = 0) -> Item:
        """A patch near a label, or anywhere in the brain."""
        scan = self.scans[rng.integers(len(self.scans))]
        return self._patch(scan, self._middle(scan, rng), margin)

    def at(self, scan: str, middle: Sequence[float], margin: int = 0) -> Item:
        """The patch of a scan, by its name, around a voxel of its working grid."""
        return self._patch(self._scan(scan), np.asarray(middle, float), margin)

    def corner(self, middle: Sequence[float] | np.ndarray, margin: int = 0) -> np.ndarray:
        """First voxel of a patch around a place."""
        return np.round(np.asarray(middle) - (np.array(self.size) + 2 * margin - 1) / 2).astype(int)

    def finish(self, item: Item) -> Item:
        """The patch that the network sees: no signal outside the brain, cut to what the entry allows."""
        item = item.cropped()
        floors = self._scan(item.scan).floors.reshape(-1, 1, 1, 1)
        image = np.where(item.inside, item.image, 0) + floors
        clip = self.spec.input.normalisation["parameters"].get("clip")
        return replace(item, image=(np.clip(image, *clip) if clip else image).astype(np.float32))

    def _scan(self, name: str) -> BrainScan:
        return next(scan for scan in self.scans if scan.scan.name == name)

    def _middle(self, scan: BrainScan, rng: np.random.Generator) -> np.ndarray:
        if len(scan.centres) and rng.random() < self.label_share:
            return scan.centres[rng.integers(len(scan.centres))] + rng.uniform(-0.36, 0.36, 3) * self.size
        for _ in range(50):
            middle = rng.integers(0, scan.inside.shape)
            if scan.inside[tuple(middle)]:
                break
        return middle.astype(float)

    def _patch(self, scan: BrainScan, middle: np.ndarray, margin: int) -> Item:
        sides, first = np.array(self.size) + 2 * margin, self.corner(middle, margin)
        low, high = np.maximum(first, 0), np.minimum(first + sides, scan.inside.shape)
        source = tuple(slice(a, max(a, b)) for a, b in zip(low, high))
        into = tuple(slice(a, max(a, b)) for a, b in zip(low - first, high - first))

        def cut(values: np.ndarray) -> np.ndarray:
            out = np.zeros((*values.shape[:-3], *sides), np.float32)
            out[(..., *into)] = values[(..., *source)]
            return out

        return Item(
            image=cut(scan.images),
            target=cut(scan.masks),
            inside=cut(scan.inside) > 0,
            known=np.array([name in scan.scan.masks for name in self.labels]),
            priors=cut(scan.priors),
            margin=margin,
            spacing_mm=self.spec.input.spacing_mm[0],
            scan=scan.scan.name,
            subject=scan.scan.subject,
            place=tuple(map(float, middle)),
        )
