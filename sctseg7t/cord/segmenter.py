"""The segmenter of the cord: masks and measures of one scan."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.cord import slices_model, windows_model
from sctseg7t.cord.locator import from_labels, image_centre, locate
from sctseg7t.cord.measuring import CONTRAST_UNUSUAL, measure_volume, warning_lines, with_spread, write_tables
from sctseg7t.cord.places import read_places
from sctseg7t.cord.windows_model import Fractions
from sctseg7t.image.grid import bounding_box, resample
from sctseg7t.image.masks import Readable, read_labels
from sctseg7t.image.volume import Volume, to_native
from sctseg7t.image.windows import box_around
from sctseg7t.inference.postprocess import apply, binary, override
from sctseg7t.inference.roles import LEVELS
from sctseg7t.inference.segmenter import Clock, OpenModel, Options, Result, Source, load_images, load_scan
from sctseg7t.measure.contrast import cord_contrast
from sctseg7t.zoo.spec import ModelSpec

# Soft values further than this from the mask belong to something else.
_SOFT_REACH_MM = 1.0
# What runs the networks of each kind of sampling.
_MODELS = {"windows": windows_model, "slices": slices_model}
# Contrasts with CSF as bright as the cord or brighter, and the contrast to it (in noise SDs) that tells another one.
_BRIGHT_CSF = frozenset({"T2star"})
_DARK_CSF = -2.0
NO_CORD = "no cord found; the masks are empty (give its place as a centerline file if there is one)"
NOTHING_LEFT = (
    "the masks are empty: the network found nothing where the cord was looked for, or what it found was removed"
)


@dataclass(frozen=True, eq=False, repr=False)
class CordResult(Result):
    """Masks of SC, GM and WM with their areas.

    Attributes
    ----------
    centres_vox : list of (Z, 2) array
        Window centres of each volume, canonical voxels; None where no cord was found.
    """

    centres_vox: list = field(default_factory=list)

    def write_tables(self, tables: Mapping[str, Path], *, masks: Mapping[str, Path], filename: str) -> None:
        measured = self.tables if self.volume.data.shape[3] > 1 else self.tables[0]
        write_tables(measured, tables, filename=filename, masks=masks, corrected=self.corrected)


class CordSegmenter:
    """Segmenter of spinal cord and gray matter on axial slices."""

    axial = True
    labels = ("centerline", *LEVELS, "pmj")
    unused = ("bias", "strip", "spaces")

    def __init__(self, model: OpenModel) -> None:
        self.model = model

    @staticmethod
    def check(spec: ModelSpec) -> None:
        """Refuse an entry that cannot be served (ModelError naming the field)."""
        _MODELS[spec.input.sampling.method].check_spec(spec)

    @staticmethod
    def tables(files: Mapping[str, Any], options: Options = Options()) -> tuple[str, ...]:
        """Kinds of tables that a scan with these files gets."""
        return ("csa", *["levels"] * bool(set(LEVELS) & set(files)), *["uncertainty"] * options.uncertainty)

    def run(self, scan: Source, **files: Readable) -> CordResult:
        """Segment one scan.

        Parameters
        ----------
        scan : path, nibabel image, or Volume loaded with the model's options
        **files
            ``centerline``: cord mask or point labels, used in place of the locator. ``levels`` or ``discfile``: what
            tells the vertebral levels, for measures per level; ``pmj``: the pontomedullary junction. Further images,
            where the model's entry lists them: on the scan's grid or another one.

        Raises
        ------
        InputError
            The scan or a file cannot be used.
        """
        clock, model = Clock(), self.model
        volume = load_scan(scan, model.options, axial=self.axial)
        warnings = list(volume.notes)
        others = [
            # Of the same session, perhaps on another grid: linear, 0 beyond it.
            image.data[..., 0]
            if image.grid.same_as(volume.grid)
            else resample(image.data[..., 0], np.linalg.inv(image.affine) @ volume.affine, volume.grid.shape)
            for image in load_images(files, model.spec)
        ]
        user_path = None
        if "centerline" in files:
            labels, grid = read_labels(files["centerline"], volume)
            user_path = from_labels(labels, grid.affine, volume, grid.name)
        places = read_places(files, volume, warnings)
        clock.lap("load")
        volumes = range(volume.data.shape[3])
        parts = [self._run_volume(volume, t, others, user_path, places, warnings, clock) for t in volumes]
        maps, tables, centres, spreads = zip(*parts)
        masks = {}
        for name in model.tissues:
            stacked = np.stack([each[name] for each in maps], 3)
            masks[name] = to_native(volume, stacked, np.float32 if model.options.soft else np.uint8)
        apart = to_native(volume, np.stack(spreads, 3), np.float32) if model.options.uncertainty else None
        clock.lap("restore")
        found = any(each[name].any() for each in maps for name in model.tissues)
        return CordResult(
            volume=volume,
            masks=masks,
            tables=list(tables),
            warnings=warnings,
            seconds=clock.seconds,
            nothing="" if found else NO_CORD if all(each is None for each in centres) else NOTHING_LEFT,
            locator=user_path.source if user_path else model.spec.centring["policy"],
            suffixes=model.suffixes,
            kinds=self.tables(files, model.options),
            uncertainty=apart,
            centres_vox=list(centres),
        )

    def _run_volume(self, volume, t, others, user_path, places, warnings, clock):
        """Maps by tissue, table, centres of the windows (None without a cord) and spread of one volume."""
        model, data = self.model, volume.data[..., t]
        tag = f"volume {t}: " if volume.data.shape[3] > 1 else ""
        path = None
        if t not in volume.blank_volumes or model.options.volumes == "mean":
            if user_path:
                path = user_path
            elif model.locator and model.locator_spec:
                path = locate(data, volume.affine, model.locator, model.locator_spec)
            else:
                path = image_centre(data.shape)
        clock.lap("locate")
        if path is None:
            warnings.append(f"{tag}{NO_CORD}")
            empty = np.zeros(data.shape, np.float32 if model.options.soft else bool)
            maps = {name: empty for name in model.tissues}
            # A table of empty rows: a 4D scan keeps one a volume, and none of an earlier run stays beside the masks.
            return maps, measure_volume(maps, volume.affine, **places), None, np.zeros(data.shape, np.float32)
        box, found = self._network([data, *others], volume, path)
        clock.lap("network")
        maps = self._finish(found.maps, volume)
        clock.lap("postprocess")
        flags = [
            ["locator_unsure"] * bool(unsure) + ["touches_window_edge"] * bool(edge) + ["voxels_missing"] * bool(gap)
            for unsure, edge, gap in zip(path.unsure, found.touches_edge, missing_voxels(maps, volume, box))
        ]
        here = volume.grid.crop(box).affine
        if self._unlike_its_scans(maps, data[box], here):
            flags = [[*own, CONTRAST_UNUSUAL] for own in flags]
        # Measured even if no table is wanted: the areas tell which slices to doubt.
        places = places | {"levels": places["levels"] and places["levels"].within(box)}
        table = measure_volume(maps, here, image=data[box], flags=flags, **places)
        table = with_spread(table, slice_spread(found))
        warnings += [tag + text for text in warning_lines(table)]
        clock.lap("measure")
        whole = {name: np.zeros(data.shape, maps[name].dtype, order="F") for name in self.model.tissues}
        for name, full in whole.items():
            full[box] = maps[name]
        apart = None
        if found.spread:
            apart = np.zeros(data.shape, np.float32, order="F")
            apart[box] = np.max(list(found.spread.values()), axis=0)
        return whole, table, found.centres_vox + [part.start for part in box], apart

    def _unlike_its_scans(self, maps, image, affine):
        """Whether the cord is brighter than what surrounds it, though the model was made for scans with bright CSF."""
        if "SC" not in maps or not _BRIGHT_CSF.intersection(self.model.spec.input.channels):
            return False
        contrast = cord_contrast(image, maps["SC"], affine)
        return contrast is not None and contrast < _DARK_CSF

    def _network(self, images, volume, path):
        """The part of the scan that was looked at, and the fractions in it."""
        spec, uncertainty = self.model.spec, self.model.options.uncertainty
        if spec.input.sampling.method == "slices":
            found = slices_model.slice_fractions(
                volume, images[0], path.centres_vox, self.model.session, spec, uncertainty=uncertainty
            )
            return tuple(slice(0, n) for n in volume.data.shape[:2]), found
        # A window's width each way: room for windows that are centred again, and none of them is cut.
        reach_mm = max(spec.input.size or ()) * max(spec.input.spacing_mm)
        box = box_around(path.centres_vox, volume.frame, volume.data.shape, reach_mm)
        centres = path.centres_vox - [part.start for part in box]
        cropped = [image[box] for image in images]
        return box, windows_model.segment_fractions(
            cropped, volume.frame, centres, self.model.session, spec, uncertainty=uncertainty
        )

    def _finish(self, fractions, volume):
        """Threshold, post-process, derive; fractions stay fractions if soft."""
        spec, options = self.model.spec, self.model.options
        masks = {o.name: binary(fractions[o.name], o, options.threshold) for o in spec.outputs}
        steps = override(
            spec.postprocess,
            largest=options.largest,
            fill=options.fill_holes,
            small=options.remove_small,
            labels=tuple(masks),
        )
        maps = apply(masks, steps, volume.grid.voxel_mm3)
        if options.soft:
            maps = {name: _soft(fractions[name], masks[name], maps[name], volume) for name in maps}
            if {"SC", "GM"} <= set(maps):
                maps["GM"] = np.minimum(maps["GM"], maps["SC"])
        for derived in spec.derived:
            whole, part = (maps[name] for name in derived.minus or ())
            maps[derived.name] = np.maximum(whole - part, 0) if options.soft else whole & ~part
        return maps


def slice_spread(found: Fractions) -> dict[tuple[int, str], float]:
    """Sum of the spread over that of the fractions, by slice and output; slices without a tissue are left out."""
    values = {}
    for name, apart in found.spread.items():
        total = found.maps[name].sum((0, 1), dtype=np.float64)
        for k in np.flatnonzero(total > 0):
            values[int(k), name] = float(apart[..., k].sum(dtype=np.float64) / total[k])
    return values


def missing_voxels(maps: Mapping[str, np.ndarray], volume: Volume, box: tuple[slice, ...]) -> list[bool]:
    """Whether each slice lacks voxels in the box around its tissues, one voxel wider."""
    count = volume.data.shape[2]
    if volume.missing is None:
        return [False] * count
    missing, tissue = volume.missing[box], np.any([each > 0 for each in maps.values()], axis=0)
    found = []
    for k in range(count):
        around = bounding_box(tissue[..., k], margin=1)
        found.append(around is not None and missing[(*around, k)].any())
    return found


def _soft(fraction, before, after, volume):
    """Fractions near the final mask; those of what post-processing removed are dropped."""
    kept = fraction * _near(after, volume)
    kept[before & ~after] = 0
    return np.maximum(kept, after & ~before).astype(np.float32)


def _near(mask, volume):
    """The mask grown in plane by about 1 mm."""
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, max(1, round(_SOFT_REACH_MM / volume.spacing_mm[axis])) + 1):
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[axis], high[axis] = slice(None, -step), slice(step, None)
            grown[tuple(low)] |= mask[tuple(high)]
            grown[tuple(high)] |= mask[tuple(low)]
        mask = grown
    return mask
