"""Windows around the cord of labelled scans, sampled as inference samples them. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sctseg7t.cord.locator import from_labels, image_centre, locate
from sctseg7t.cord.windows_model import zscore
from sctseg7t.errors import InputError
from sctseg7t.image.frame import Frame, frame_of
from sctseg7t.image.volume import load
from sctseg7t.image.windows import box_around, sample_windows
from sctseg7t.runtime import Session
from sctseg7t.train.scans.checks import ALWAYS_THERE, check_cord, lead_label, read_labels_of
from sctseg7t.train.scans.items import Item
from sctseg7t.train.scans.labelled import LabelFiles, LabelledScan
from sctseg7t.zoo.spec import ModelSpec

# Errors of the locator, SD in mm: windows are trained on as it would place them.
SHIFT_MM = 0.8


@dataclass(frozen=True, eq=False)
class CordScan:
    """A scan made ready for windows: the box around the cord, from its first to its last slice that was drawn.

    Attributes
    ----------
    scan : LabelledScan
    images : tuple of (X, Y, Z) float32
        One a channel; 0 is the least that the scan holds.
    affine : (4, 4) float64
        Canonical, mm.
    centres_vox : (Z, 2) float64
    masks : dict of str to (X, Y, Z) bool
    slices : tuple of int
        Those to learn from: where the label that leads was drawn; all where there is none.
    """

    scan: LabelledScan
    images: tuple[np.ndarray, ...]
    affine: np.ndarray
    centres_vox: np.ndarray
    masks: dict[str, np.ndarray]
    slices: tuple[int, ...]

    @property
    def frame(self) -> Frame:
        """Anatomical axes of the slices."""
        return frame_of(self.affine)


def prepare(
    scan: LabelledScan,
    labels: Mapping[str, LabelFiles],
    spec: ModelSpec,
    locator: tuple[Session, ModelSpec] | None = None,
) -> CordScan:
    """Load a scan and its masks, checked, cut to what windows need of them.

    Parameters
    ----------
    scan : LabelledScan
    labels : dict of str to LabelFiles
    spec : ModelSpec
        Of the model to be: its windows, and the images that it takes.
    locator : Session and ModelSpec, optional
        What finds the cord: places windows where no mask tells, and finds masks that are of something else.

    Raises
    ------
    InputError
        A file cannot be used, or a mask is not what it should be.
    """
    volume = load(scan.image, volumes="mean")
    others = [load(scan.files[role], volumes="mean") for role in spec.input.images[1:]]
    for other in others:
        if not other.grid.same_as(volume.grid):
            difference = other.grid.difference(volume.grid)
            raise InputError(f"{other.name}: is on another grid than {scan.image} ({difference}); resample it")
    masks = read_labels_of(scan, volume, labels)
    path = locate(volume.data[..., 0], volume.affine, *locator) if locator else None
    check_cord(scan, masks, volume, path.centres_vox if path else None)
    lead = lead_label(masks)
    if lead:
        path = from_labels(masks[lead], volume.affine, volume, str(scan.masks[lead]))
        slices = np.flatnonzero(masks[lead].any((0, 1)))
    else:
        slices = np.arange(volume.data.shape[2])
    if path is None and spec.centring["policy"] == "image":
        path = image_centre(volume.data.shape[:3])
    if path is None:
        raise InputError(f"{scan.image}: no cord is found, and no mask of it is given; give one of SC, or leave it out")
    keep = slice(int(slices[0]), int(slices[-1]) + 1)
    centres, size = path.centres_vox[keep], spec.input.size or (0,)
    # A window's width each way: room for shifts, turns and margins.
    box = (*box_around(centres, volume.frame, volume.data.shape[:3], max(size) * max(spec.input.spacing_mm)), keep)
    affine = volume.grid.crop(box).affine
    images = tuple(_from_zero(v.data[..., 0], box) for v in (volume, *others))
    masks = {name: np.asfortranarray(mask[box]) for name, mask in masks.items()}
    centres = centres - [part.start for part in box[:2]]
    return CordScan(scan, images, affine, centres, masks, tuple((slices - keep.start).tolist()))


def _from_zero(data: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    return np.asfortranarray(data[box] - data.min(), np.float32)


class WindowItems:
    """Windows of prepared scans; see :class:`~sctseg7t.train.scans.items.Items`.

    Parameters
    ----------
    scans : list of CordScan
    labels : sequence of str
        In the order of the network's maps.
    spec : ModelSpec
    shift_mm : float
        SD by which drawn windows are off the cord's centre, each way.
    """

    def __init__(
        self, scans: Sequence[CordScan], labels: Sequence[str], spec: ModelSpec, shift_mm: float = SHIFT_MM
    ) -> None:
        assert spec.input.size is not None
        self.scans, self.labels, self.spec, self.shift_mm = list(scans), tuple(labels), spec, shift_mm
        self.size = tuple(spec.input.size)
        self.places = [(scan, k) for scan in self.scans for k in scan.slices]

    def __len__(self) -> int:
        return len(self.places)

    def item(self, index: int, margin: int = 0) -> Item:
        """The window of a slice, centred on the cord."""
        return self._window(*self.places[index], np.zeros(2), margin)

    def draw(self, rng: np.random.Generator, margin: int = 0) -> Item:
        """A window of any slice, each as likely, as a locator would place it."""
        scan, k = self.places[rng.integers(len(self.places))]
        return self._window(scan, k, rng.normal(0, self.shift_mm, 2), margin)

    def finish(self, item: Item) -> Item:
        """The window that the network sees: z-scored as at inference, 0 beyond the scan."""
        item = item.cropped()
        images = [zscore(image[None], item.inside[None])[0] for image in item.image]
        item = replace(item, image=np.stack(images))
        if self.spec.input.axes == "xy":
            turned = {name: getattr(item, name).swapaxes(-1, -2) for name in ("image", "target", "inside", "priors")}
            item = replace(item, **turned)
        return item

    def _window(self, scan: CordScan, k: int, shift_mm: np.ndarray, margin: int) -> Item:
        frame, spacing = scan.frame, self.spec.input.spacing_mm[0]
        centre = scan.centres_vox[k] + frame.frame_to_voxel @ shift_mm
        size = self.size[0] + 2 * margin

        def window(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            values, inside = sample_windows(data[..., k : k + 1], frame, centre[None], size=size, spacing_mm=spacing)
            return values[0], inside[0]

        images, insides = zip(*(window(image) for image in scan.images))
        drawn = [name in scan.masks for name in self.labels]
        target = np.zeros((len(self.labels), size, size), np.float32)
        for channel, name in enumerate(self.labels):
            if drawn[channel]:
                target[channel] = window(scan.masks[name])[0]
                # A tissue that is always there and was not drawn on this slice is not known here.
                drawn[channel] = name not in ALWAYS_THERE or bool(scan.masks[name][..., k].any())
        return Item(
            image=np.stack(images),
            target=target,
            inside=insides[0],
            known=np.array(drawn),
            priors=np.zeros((0, size, size), np.float32),
            margin=margin,
            spacing_mm=spacing,
            scan=scan.scan.name,
            subject=scan.scan.subject,
            place=(float(k),),
        )
