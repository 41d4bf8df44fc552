"""The main job: one scan in, masks and measures out. The command line calls exactly this."""

import time
from dataclasses import dataclass, field

import numpy as np

from sctseg7t.cord.locate import from_labels, image_centre, locate
from sctseg7t.cord.segment import check_spec, segment_fractions
from sctseg7t.errors import InputError, ModelError, UsageError
from sctseg7t.flags import slice_flags, warning_lines
from sctseg7t.image.grid import box_around
from sctseg7t.image.volume import Volume, load, load_labels, resample_nearest_to, to_native
from sctseg7t.measure import measure_csa
from sctseg7t.postprocess import apply, binary, override

# Soft values further than this from the mask belong to something else.
_SOFT_REACH_MM = 1.0
# SCT numbers vertebrae and discs from 1, and the pontomedullary landmarks up to 60.
_HIGHEST_LEVEL = 60


@dataclass(frozen=True)
class Options:
    """What a user may change of a model's own way of working; None keeps the model's.

    Attributes
    ----------
    threshold : float or None
        Fraction from which a voxel belongs to the mask, 0..1.
    soft : bool
        Return partial-volume fractions instead of binary masks.
    volumes : str
        4D images: ``each`` volume on its own, or their ``mean``.
    largest, fill_holes : bool or None
    remove_small : dict or None
        ``{"min_voxels": n}`` or ``{"min_mm3": v}``; ``{}`` switches it off.
    """

    threshold: float | None = None
    soft: bool = False
    volumes: str = "each"
    largest: bool | None = None
    fill_holes: bool | None = None
    remove_small: dict | None = None

    def __post_init__(self):
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"-thr {self.threshold}: the threshold is a fraction between 0 and 1")
        if self.volumes not in ("each", "mean"):
            raise UsageError(f"volumes {self.volumes!r}: use each or mean")


@dataclass(frozen=True, eq=False)
class Result:
    """What came of one scan.

    Attributes
    ----------
    masks : dict of str to nibabel image
        By tissue (SC, GM, WM), on the input's grid: uint8, or float32 fractions if soft.
    suffixes : dict of str to str
        File suffix of each mask.
    tables : list of CsaTable
        One a volume.
    warnings : list of str
    seconds : dict of str to float
        Time of each step.
    usable : bool
        Whether any cord was found.
    centres_vox : list of (Z, 2) array
        Window centres of each volume, canonical voxels; None where no cord was found.
    """

    volume: Volume
    masks: dict
    suffixes: dict
    tables: list
    warnings: list
    seconds: dict
    usable: bool
    centres_vox: list
    locator: str


@dataclass(eq=False)
class Segmenter:
    """A model with its sessions open, for one scan or many.

    Build it with :func:`open_segmenter`.
    """

    spec: object
    session: object
    locator_spec: object
    locator: object
    tissues: tuple
    options: Options
    seconds: dict = field(default_factory=dict)

    def run(self, source, *, centerline=None, levels=None):
        """Segment one scan.

        Parameters
        ----------
        source : path, nibabel image, or Volume loaded with these options
        centerline : path or nibabel image, optional
            Cord mask or point labels, used in place of the locator.
        levels : path or nibabel image, optional
            Vertebral labels, for measures per level.

        Returns
        -------
        Result

        Raises
        ------
        InputError
            The scan or a label file cannot be used.
        """
        clock = _Clock()
        volume = source if isinstance(source, Volume) else load(source, volumes=self.options.volumes)
        warnings = list(volume.notes)
        user_path = _user_path(centerline, volume) if centerline is not None else None
        level_map = _level_map(levels, volume) if levels is not None else None
        clock.lap("load")
        parts = [
            self._run_volume(volume, t, user_path, level_map, warnings, clock) for t in range(volume.data.shape[3])
        ]
        masks = {}
        for name in self.tissues:
            stacked = np.stack([part.maps[name] for part in parts], 3)
            masks[name] = to_native(volume, stacked, np.float32 if self.options.soft else np.uint8)
        clock.lap("restore")
        usable = any(part.centres is not None for part in parts) and any(
            part.maps[name].any() for part in parts for name in self.tissues
        )
        return Result(
            volume, masks, self.suffixes(), [part.table for part in parts],
            warnings, clock.seconds, usable, [part.centres for part in parts],
            user_path.source if user_path else self.spec.centring["policy"],
        )  # fmt: skip

    def suffixes(self):
        """File suffix of every tissue this segmenter returns."""
        return suffixes_of(self.spec, self.tissues)

    def _run_volume(self, volume, t, user_path, level_map, warnings, clock):
        data = volume.data[..., t]
        tag = f"volume {t}: " if volume.data.shape[3] > 1 else ""
        path = None
        if t not in volume.blank_volumes or self.options.volumes == "mean":
            path = user_path or self._find(data, volume)
        clock.lap("locate")
        if path is None:
            warnings.append(f"{tag}no cord found; masks are empty (give its place with -centerline if there is one)")
            empty = np.zeros(data.shape, np.float32 if self.options.soft else bool)
            maps = {name: empty for name in self.suffixes()}
            # A table of empty rows: a 4D scan keeps one a volume, and none of an earlier run stays beside the masks.
            return _Part(maps, self._measure(maps, volume.affine, level_map, None), None)
        # A window's width each way: room for windows that are centred again, and none of them is cut.
        reach_mm = max(self.spec.input.size) * max(self.spec.input.spacing_mm)
        box, affine = box_around(path.centres_vox, volume.affine, data.shape, reach_mm)
        corner = [part.start for part in box]
        found = segment_fractions(data[box], affine, path.centres_vox - corner, self.session, self.spec)
        clock.lap("network")
        maps = self._finish(found.maps, volume)
        clock.lap("postprocess")
        flags = slice_flags(path, found)
        # Measured even if no table is wanted: the areas tell which slices to doubt.
        table = self._measure(maps, affine, None if level_map is None else level_map[box], flags)
        warnings += [tag + text for text in warning_lines(flags, table)]
        clock.lap("measure")
        whole = {name: np.zeros(data.shape, maps[name].dtype, order="F") for name in self.tissues}
        for name, full in whole.items():
            full[box] = maps[name]
        return _Part(whole, table, found.centres_vox + corner)

    def _find(self, data, volume):
        if self.spec.centring["policy"] == "image":
            return image_centre(data.shape)
        return locate(data, volume.affine, self.locator, self.locator_spec)

    def _finish(self, fractions, volume):
        """Threshold, post-process, derive; fractions stay fractions if soft."""
        spec, options = self.spec, self.options
        masks = {o.name: binary(fractions[o.name], o, options.threshold) for o in spec.outputs}
        steps = override(
            spec.postprocess, largest=options.largest, fill=options.fill_holes, small=options.remove_small,
            labels=tuple(masks),
        )  # fmt: skip
        voxel_mm3 = float(abs(np.linalg.det(volume.affine[:3, :3])))
        maps = apply(masks, steps, voxel_mm3)
        if options.soft:
            maps = {name: _soft(fractions[name], masks[name], maps[name], volume) for name in maps}
            if {"SC", "GM"} <= set(maps):
                maps["GM"] = np.minimum(maps["GM"], maps["SC"])
        for derived in spec.derived:
            whole, part = (maps[name] for name in derived.minus)
            maps[derived.name] = np.maximum(whole - part, 0) if options.soft else whole & ~part
        return maps

    def _measure(self, maps, affine, level_map, flags):
        known = {name: maps[name] for name in ("SC", "GM", "WM") if name in maps}
        return measure_csa(known, affine, levels=level_map, flags=flags)


def open_segmenter(task="gm_sc", model=None, device="auto", options=Options(), *, threads=None, offline=False):
    """Find, verify and load the networks of a task.

    Parameters
    ----------
    task : str
        ``gm_sc``, ``gm`` or ``sc``; see the manifest's tasks.
    model : str, optional
        ``MODEL`` or ``MODEL@VERSION`` of the zoo, or the path of an .onnx file with its entry beside it.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    options : Options
    threads : int, optional

    Raises
    ------
    ModelError, DeviceError, DownloadError, UsageError
    """
    from sctseg7t.runtime import open_session
    from sctseg7t.zoo.download import weights

    clock = _Clock()
    spec, locator_spec, tissues = choose_model(task, model)
    path = weights(spec, offline=offline)
    session = open_session(path, device, threads)
    locator = None
    if locator_spec:
        # Small and fast on any device; where the segmenter's device was settled, it is not asked again.
        locator = open_session(weights(locator_spec, offline=offline), session.device, threads)
    clock.lap("open")
    return Segmenter(spec, session, locator_spec, locator, tissues, options, clock.seconds)


def choose_model(task="gm_sc", model=None):
    """What a task and a ``-m`` value stand for, checked, with nothing loaded or downloaded.

    Returns
    -------
    spec : ModelSpec
    locator_spec : ModelSpec or None
    tissues : tuple of str

    Raises
    ------
    ModelError, UsageError
    """
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    spec = find_model(manifest, task, model)
    tissues = _tissues(manifest, task, spec)
    check_spec(spec)
    # On nothing: a wrong step is the entry's fault, not that of the first scan.
    apply({output.name: np.zeros((1, 1, 1), bool) for output in spec.outputs}, spec.postprocess, 1.0)
    located = spec.centring["policy"] == "locator"
    return spec, manifest.model(spec.centring["model"]) if located else None, tissues


def suffixes_of(spec, tissues):
    """File suffix of each of the tissues."""
    known = {o.name: o.suffix for o in (*spec.outputs, *spec.derived)}
    return {name: known[name] for name in tissues}


def find_model(manifest, task, model=None):
    """The spec that a task and a ``-m`` value name (ModelError if there is none)."""
    tasks = manifest.tasks()
    if task not in tasks or not tasks[task]["outputs"]:
        known = ", ".join(name for name, entry in tasks.items() if entry["outputs"])
        raise UsageError(f"-c {task}: no such task; the tasks are: {known}")
    if model is None:
        return manifest.default_for_task(task)
    if str(model).endswith(".onnx"):
        from sctseg7t.zoo.sidecar import spec_from_onnx

        return spec_from_onnx(model)
    return manifest.model(str(model))


def segment(source, task="gm_sc", *, model=None, device="auto", centerline=None, levels=None, **options):
    """Segment a scan in one call: the same masks as ``sct7t_deepseg``, bit for bit.

    Parameters
    ----------
    source : path or nibabel image
        Axial T2*-weighted slices; 2D, 3D or 4D.
    task, model, device
        As for :func:`open_segmenter`.
    centerline, levels : path or nibabel image, optional
        As for :meth:`Segmenter.run`.
    **options
        Fields of :class:`Options`.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        With what is wrong, in which file, and what to do.

    Examples
    --------
    >>> import sctseg7t
    >>> result = sctseg7t.segment("t2s.nii.gz")           # doctest: +SKIP
    >>> result.masks["GM"].to_filename("gm.nii.gz")       # doctest: +SKIP
    """
    segmenter = open_segmenter(task, model, device, Options(**options))
    return segmenter.run(source, centerline=centerline, levels=levels)


@dataclass(frozen=True, eq=False)
class _Part:
    maps: dict
    table: object
    centres: object


class _Clock:
    """Seconds spent in each named step, summed over its laps."""

    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def _tissues(manifest, task, spec):
    """Tissues that the task asks for, in the model's order."""
    available = [o.name for o in spec.outputs] + [d.name for d in spec.derived]
    wanted = manifest.tasks()[task]["outputs"]
    found = tuple(name for name in wanted if name in available)
    if not found or (len(wanted) < 3 and len(found) < len(wanted)):
        raise ModelError(f"{spec.label}: has the outputs {', '.join(available)}, not those of task {task}")
    return found


def _user_path(centerline, volume):
    labels, affine, name = load_labels(centerline, volume)
    return from_labels(labels, affine, volume, name)


def _level_map(levels, volume):
    """Vertebral labels on the grid of the scan."""
    found, name = resample_nearest_to(levels, volume)
    low, high = int(found.min()), int(found.max())
    if low < 0 or high > _HIGHEST_LEVEL:
        raise InputError(
            f"{name}: holds values from {low} to {high}, which are not vertebral levels (1 to {_HIGHEST_LEVEL}); "
            "give a labelled cord or labels of single voxels"
        )
    if not high:
        raise InputError(
            f"{name}: holds no vertebral label within {volume.name}; give a labelled cord or labels of single voxels"
        )
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
