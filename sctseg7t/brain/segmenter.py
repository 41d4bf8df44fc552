"""The segmenter of brain lesions: mask, numbers, measures and places of one scan's lesions."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from sctseg7t.brain.bias import looks_corrected, n4
from sctseg7t.brain.by_load import Limits, fits, lesions_within, limits, load_mL
from sctseg7t.brain.find_brain import BrainFinder
from sctseg7t.brain.isotropic_grid import grid_around, mask_to_native, to_grid, to_native
from sctseg7t.brain.mask import (
    HOW,
    MIN_SIMILARITY,
    NETWORK_REACH_MM,
    check_similarity,
    check_volume,
    first_mask,
    refine,
    template_mask,
)
from sctseg7t.brain.normalise import normalise
from sctseg7t.brain.register import (
    Template,
    agreement,
    check_extent,
    neutral_map,
    template_map,
    template_to_scan,
    tissue_contrast,
)
from sctseg7t.brain.slices import resampled_slices, thick_slices
from sctseg7t.brain.views import view_grid
from sctseg7t.errors import InputError
from sctseg7t.image.grid import Grid, bounding_box
from sctseg7t.image.masks import Readable, labels_on_scan
from sctseg7t.image.volume import Volume
from sctseg7t.image.volume import to_native as to_file
from sctseg7t.inference.postprocess import apply, binary, override
from sctseg7t.inference.segmenter import Clock, OpenModel, Options, Result, Source, check_needs, load_scan
from sctseg7t.measure.lesion_location import Regions
from sctseg7t.measure.lesions import LesionTable, measure_lesions
from sctseg7t.runtime.ensemble import combine, members, spread
from sctseg7t.runtime.maps import network_maps
from sctseg7t.runtime.patches import sliding_patches
from sctseg7t.version import __version__
from sctseg7t.zoo.spec import ModelSpec

# What takes about which part of the time.
SHARES = {
    "load": 1.0,
    "register": 40.0,
    "bias": 8.0,
    "mask": 6.0,
    "normalise": 9.0,
    "network": 20.0,
    "postprocess": 5.0,
    "measure": 12.0,
}
# Up to here the network's outline is moved to the dark edge of the brain, which thicker slices blur.
THIN_MM = 4.5
# Dice of the template's brain with the scan's: a registration below the first has failed, one below the second is
# doubtful.
FAILED, DOUBTFUL = 0.75, 0.87
# Of GM, WM and CSF, see `tissue_contrast`: FLAIR, cut ones too, had 0.032 and more, heads filled evenly and noise 0.006
# and less.
LEAST_CONTRAST = 0.012
# Below that agreement an image without similarity is none of a brain: a drawn knee had 0.76, a cut head 0.90.
UNLIKE = 0.80
# Channels that are maps of the template laid on the scan.
PRIORS = {"prior_GM": "gm", "prior_WM": "wm", "prior_CSF": "csf"}


@dataclass(frozen=True, eq=False, repr=False)
class BrainResult(Result):
    """Lesion mask and numbered lesions; ``tables`` holds one LesionTable."""

    def write_tables(self, tables: Mapping[str, Path], *, masks: Mapping[str, Path], filename: str) -> None:
        from sctseg7t.measure.tables import write_lesion_csv, write_load_csv

        (table,) = self.tables
        about = {"tool_version": __version__, "corrected": self.corrected}
        if "lesions" in tables:
            write_lesion_csv(table, tables["lesions"], filename=filename, **about)
        if "load" in tables:
            write_load_csv({filename: table.summary()}, tables["load"], **about)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan made ready for a network.

    Attributes
    ----------
    data : (X, Y, Z) float32
        Corrected for drift, if it was.
    mask : (X, Y, Z) bool
    template : register.Template or None
        None: it could not be laid on the scan.
    details : dict
        What was done, and the brain's volume, as plain values.
    warnings : tuple of str
    """

    data: np.ndarray
    mask: np.ndarray
    template: Template | None
    details: dict
    warnings: tuple

    @property
    def locator(self) -> str:
        """What told where the brain is, as :class:`sctseg7t.inference.segmenter.Result` says it."""
        return {"network": "locator", "file": "file"}.get(self.details["brain_mask"], "none")


def prepare(
    data: np.ndarray,
    affine: np.ndarray,
    *,
    name: str = "image",
    mask: np.ndarray | None = None,
    bias: str = "auto",
    strip: str = "auto",
    finder: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    clock: Clock | None = None,
) -> Prepared:
    """Find the brain, register the template to it, and correct intensity drift; what is already done is left out.

    A template that cannot be laid on a brain that was found is done without, and a warning says so.

    Parameters
    ----------
    data : (X, Y, Z) float array
    affine : (4, 4) array
        Canonical, mm.
    name : str
        For messages.
    mask : (X, Y, Z) bool, optional
        Brain mask of the user's.
    bias : {"auto", "on", "off"}
        N4; ``auto`` where the scan does not look corrected already.
    strip : {"auto", "stripped", "network", "hd-bet", "template"}
        How the brain is found, see :func:`sctseg7t.brain.mask.first_mask`.
    finder : callable, optional
        The network that finds the brain. Without, and where the scan is not stripped, the template does.
    clock : Clock, optional

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        No brain in view, or too few slices.
    """
    clock = clock or Clock()
    check_extent(data.shape, affine, name)
    known, how = (
        (mask, "file") if mask is not None else first_mask(data, affine, name=name, method=strip, finder=finder)
    )
    clock.lap("mask")
    template: Template | None = template_to_scan(data, affine, known)
    clock.lap("register")
    if known is None:
        check_similarity(template, name)
    similarity, alike = template.similarity, None if known is None else agreement(template, known, affine)
    rough = known if known is not None else template_map(template, "brain", affine, data.shape) >= 0.5
    corrected = bias == "off" or (bias == "auto" and looks_corrected(data, rough, affine))
    if not corrected:
        data, _ = n4(data, rough, affine)
    clock.lap("bias")
    # Only a template that lies right says where the tissues are.
    contrast = tissue_contrast(template, data, rough, affine) if alike is None or alike >= FAILED else None
    if alike is not None and how == HOW["network"]:
        _check_found(name, alike, similarity, contrast)
    mask = template_mask(data, affine, template, name=name) if known is None else known
    if how == HOW["network"] and voxel_sizes(affine).max() <= THIN_MM:
        mask = refine(data, affine, mask, reach_mm=NETWORK_REACH_MM)
    volume_ml = check_volume(mask, affine, name)
    clock.lap("mask")
    warnings = []
    if alike is not None and alike < DOUBTFUL:
        template = replace(template, doubtful=True) if alike >= FAILED else None
        warnings.append(_doubt(alike))
    details = {
        "brain_mask": how,
        "brain_ml": round(volume_ml, 1),
        "box": [[part.start, part.stop] for part in bounding_box(mask) or ()],
        "bias_correction": "N4" if not corrected else "off" if bias == "off" else "looks corrected already",
        "template_similarity": round(similarity, 4),
        "tissue_contrast": None if contrast is None else round(contrast, 4),
        "template_agreement": None if alike is None else round(alike, 4),
        "scan_to_mni": None if template is None else np.round(template.scan_to_mni, 6).tolist(),
    }
    warnings += [*thick_slices(affine), *resampled_slices(data, mask, affine)]
    return Prepared(np.asarray(data, np.float32), mask, template, details, tuple(warnings))


def _check_found(name, alike, similarity, contrast):
    """Refuse what the network took for a brain where neither the template nor the tissues say so (InputError)."""
    if alike < UNLIKE and similarity < MIN_SIMILARITY:
        why = f"the MNI template fits neither what looks like one, {alike:.2f}, nor the image, {similarity:.2f}"
    elif contrast is not None and contrast < LEAST_CONTRAST:
        why = f"what looks like one shows no tissues: contrast {contrast:.3f}, at least {LEAST_CONTRAST:g} expected"
    else:
        return
    raise InputError(f"{name}: no brain in view ({why}); give a scan of the whole brain, or its brain mask")


def _doubt(alike):
    """What is said of a template that does not fit the brain mask."""
    if alike < FAILED:
        return (
            f"template_failed: the MNI template cannot be laid on this brain (agreement {alike:.2f} with its mask, at "
            f"least {FAILED:g} expected); lesions have no location class, and a network that wants "
            "tissue maps had even ones"
        )
    return (
        f"template_doubtful: brain mask and MNI template disagree (agreement {alike:.2f}, usually {DOUBTFUL:g} and "
        "more); look at the mask, and do not trust location classes"
    )


def edge_warnings(table: LesionTable) -> tuple[str, ...]:
    """A warning where lesions are cut by the image's border."""
    edge = [str(lesion.id) for lesion in table.lesions if lesion.touches_edge]
    return (f"touches_image_edge: lesion {', '.join(edge[:5])} is cut by the image's border",) if edge else ()


def regions_of(template: Template, affine: np.ndarray, shape: tuple[int, ...]) -> Regions:
    """Where lesions are told apart, from the template laid on a scan."""
    places = {name: template_map(template, name, affine, shape) for name in ("ventricles", "cortex", "infratentorial")}
    doubts = ("template_doubtful",) if template.doubtful else ()
    return Regions(**places, source="MNI152 2009a, affine", doubts=doubts)


def only_volume(volume: Volume) -> np.ndarray:
    """The only volume (X, Y, Z) of a scan (InputError if there are several)."""
    if volume.data.shape[3] > 1:
        raise InputError(f"{volume.name}: has {volume.data.shape[3]} volumes; segment their mean, or give one of them")
    return volume.data[..., 0]


class BrainSegmenter:
    """Segmenter of white matter lesions of multiple sclerosis in FLAIR volumes."""

    axial = False
    images: tuple[str, ...] = ("scan",)
    labels = ("brainmask",)
    unused = ("spaces",)

    def __init__(self, model: OpenModel) -> None:
        self.model = model
        self.finder = None
        if model.locator is not None and model.locator_spec is not None:
            self.finder = BrainFinder(model.locator, model.locator_spec)

    @property
    def network(self) -> str:
        """What looks at the scan, for the record."""
        return self.model.spec.label

    @staticmethod
    def tables(files: Mapping[str, Any], options: Options = Options()) -> tuple[str, ...]:
        """Kinds of tables that a scan gets."""
        return ("lesions", "load", *["uncertainty"] * options.uncertainty)

    @classmethod
    def check(cls, spec: ModelSpec) -> None:
        """Refuse an entry that cannot be served (ModelError naming the field)."""
        check_needs(spec, cls.needs(spec))

    @classmethod
    def needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What an entry must say, in words, and whether it does."""
        given = spec.input
        return {
            "input.size must name three sides": given.size is not None and len(given.size) == 3,
            "input.axes must be xyz": given.axes == "xyz",
            f"input.channels must be one contrast, then some of {', '.join(PRIORS)}": given.channels
            and given.channels[0] not in PRIORS
            and set(given.channels[1:]) <= set(PRIORS),
        } | cls.common_needs(spec)

    @classmethod
    def common_needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """Those of every network of the brain."""
        given = spec.input
        return {
            "input.spacing_mm must be the same along three axes": len(given.spacing_mm) == 3
            and len(set(given.spacing_mm)) == 1,
            "input.orientation must be RAS": given.orientation == "RAS",
            f"input.images must be {' and '.join(cls.images)}": given.images == cls.images,
            **cls.output_needs(spec),
            "outputs[].by_load must hold loads that rise, and as many limits of each kind": all(
                fits(output.by_load) for output in spec.outputs
            ),
            "centring.policy must be locator (of the brain) or none": spec.centring["policy"] in ("locator", "none"),
        }

    @classmethod
    def output_needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What its outputs must be."""
        return {
            "outputs must be one, with a threshold and a suffix": len(spec.outputs) == 1
            and spec.outputs[0].threshold is not None
            and spec.outputs[0].suffix
        }

    def run(self, scan: Source, **files: Readable) -> BrainResult:
        """Segment the lesions of one scan.

        Parameters
        ----------
        scan : path, nibabel image, or Volume
            3D; of a 4D scan the mean of its volumes (``Options.volumes``).
        **files
            ``brainmask``: brain mask on any grid that covers the scan.

        Raises
        ------
        InputError
            No brain in view, several volumes, or a mask that does not fit.
        """
        clock, options = Clock(SHARES, self.model.watch), self.model.options
        volume = load_scan(scan, options, axial=self.axial)
        data, affine = only_volume(volume), volume.affine
        if (other := self.suited(affine)) is not self:
            return other.run(volume, **files)
        given = labels_on_scan(files["brainmask"], volume)[0] > 0 if "brainmask" in files else None
        clock.lap("load")
        ready = prepare(
            data,
            affine,
            name=volume.name,
            mask=given,
            bias=options.bias,
            strip=options.strip,
            finder=self.finder,
            clock=clock,
        )
        grid, probability, apart = self.look_and_spread(ready, affine, clock)
        asked = self.limits(grid, probability)
        mask, probability, soft = self.decide(grid, probability, ready, affine)
        if apart is not None:
            apart = to_native(apart, grid, affine, data.shape)
        clock.lap("postprocess")
        regions = regions_of(ready.template, affine, data.shape) if ready.template else None
        table = measure_lesions(mask, affine, regions, probability=probability, spread=apart)
        clock.lap("measure")
        maps = {self.model.spec.outputs[0].name: (soft, np.float32) if options.soft else (mask, np.uint8)}
        maps |= {derived.name: (table.labels, table.labels.dtype) for derived in self.model.spec.derived}
        masks = {name: to_file(volume, *maps[name]) for name in self.model.tissues}
        clock.lap("restore")
        told = {"limits_of_load": asdict(asked)} if asked else {}
        return BrainResult(
            volume=volume,
            masks=masks,
            tables=[table],
            warnings=[*volume.notes, *ready.warnings, *edge_warnings(table)],
            seconds=clock.seconds,
            locator=ready.locator,
            details={"brain": ready.details | {"network": self.network} | told | {"lesions": table.summary()}},
            suffixes=self.model.suffixes,
            kinds=self.tables(files, options),
            uncertainty=None if apart is None else to_file(volume, apart, np.float32),
        )

    def suited(self, affine: np.ndarray) -> "BrainSegmenter":
        """The segmenter for a scan of these voxels (canonical, mm): this one, or one that it hands scans on to."""
        return self

    def look(self, ready: Prepared, affine: np.ndarray, clock: Clock | None = None) -> tuple[Grid, np.ndarray]:
        """Probability of a lesion in each voxel of the working grid, (X', Y', Z') float32, and the grid.

        Parameters
        ----------
        ready : Prepared
        affine : (4, 4) array
            Of the scan, canonical; mm.
        clock : Clock, optional
        """
        return self.look_and_spread(ready, affine, clock)[:2]

    def look_and_spread(
        self, ready: Prepared, affine: np.ndarray, clock: Clock | None = None
    ) -> tuple[Grid, np.ndarray, np.ndarray | None]:
        """As :meth:`look`, with the spread where it is asked for: of several networks, else of the mirrored brain."""
        clock, model = clock or Clock(), self.model
        grid, inside, channels = network_channels(ready, affine, model.spec)
        clock.lap("normalise")
        networks, apart = members(model.session), None
        found = [self._probability(channels, inside, grid, clock.tell, one) for one in networks]
        probability = combine(found, model.spec.ensemble)
        if model.options.uncertainty:
            if len(found) == 1:
                turned = self._probability(channels[:, ::-1], inside[::-1], grid, clock.tell, networks[0])
                found.append(turned[::-1])
            apart = spread(found)
        clock.lap("network")
        return grid, probability, apart

    def _probability(self, channels, inside, grid, told, session=None):
        """What a network (default: all of the model) says of every voxel of the working grid."""
        spec, session = self.model.spec, session or self.model.session
        maps = sliding_patches(
            channels,
            lambda patches: network_maps(patches, session, spec),
            size=spec.input.size or (),
            overlap=spec.input.sampling.overlap,
            told=told,
            inside=inside,
        )
        return maps[spec.outputs[0].channel]

    def limits(self, grid: Grid, probability: np.ndarray) -> Limits | None:
        """What a lesion of this scan has to reach; None: the entry's rule for all loads, or the user's threshold."""
        output = self.model.spec.outputs[0]
        if not output.by_load or self.model.options.threshold is not None:
            return None
        return limits(load_mL(probability, output, grid.voxel_mm3), output)

    def decide(
        self, grid: Grid, probability: np.ndarray, ready: Prepared, affine: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lesions on the scan's own grid; they keep the volume they have on the working grid.

        Returns
        -------
        mask : (X, Y, Z) bool
        probability : (X, Y, Z) float32
        fraction : (X, Y, Z) float32
            The part of each voxel that lesions cover.
        """
        shape = ready.data.shape
        options, output = self.model.options, self.model.spec.outputs[0]
        asked = self.limits(grid, probability)
        found = lesions_within(probability, asked) if asked else binary(probability, output, options.threshold)
        masks = {output.name: found}
        steps = override(
            self.model.spec.postprocess,
            largest=options.largest,
            fill=options.fill_holes,
            small=options.remove_small and {**options.remove_small, "scope": "volume"},
            labels=tuple(masks),
        )
        kept = apply(masks, steps, grid.voxel_mm3)[output.name]
        native = to_native(probability, grid, affine, shape)
        mask, fraction = mask_to_native(kept, grid, affine, shape, native)
        return mask & ready.mask, native, np.clip(fraction, 0, 1)


def network_channels(ready: Prepared, affine: np.ndarray, spec: ModelSpec) -> tuple[Grid, np.ndarray, np.ndarray]:
    """What a network is given of a scan: the working grid, the brain on it, and the channels of its entry.

    Parameters
    ----------
    ready : Prepared
    affine : (4, 4) array
        Of the scan, canonical; mm.
    spec : ModelSpec

    Returns
    -------
    grid : Grid
    inside : (X', Y', Z') bool
    channels : (C, X', Y', Z') float32
    """
    how = spec.input.normalisation
    values = normalise(ready.data, ready.mask, how["name"], how["parameters"])
    around = view_grid if spec.input.sampling.method == "views" else grid_around
    grid = around(ready.mask, affine, spacing_mm=spec.input.spacing_mm[0])
    inside = to_grid(ready.mask, affine, grid, order=0).astype(bool)
    channels = [_on_grid(values, ready.mask, affine, grid, inside)]
    return grid, inside, np.stack([*channels, *prior_channels(ready.template, spec, grid.affine, inside)])


def prior_channels(
    template: Template | None, spec: ModelSpec, affine: np.ndarray, inside: np.ndarray
) -> list[np.ndarray]:
    """The tissue maps that an entry's channels name: of the template laid on the brain, or neutral without one.

    Parameters
    ----------
    template : Template, optional
    spec : ModelSpec
    affine : (4, 4) array
        Of the working grid, in the world that the template was laid on; mm.
    inside : (X, Y, Z) bool
        The brain there.
    """
    names = [PRIORS[name] for name in spec.input.channels if name in PRIORS]
    if template is None:
        return [neutral_map(name, inside) for name in names]
    return [template_map(template, name, affine, inside.shape) for name in names]


def _on_grid(values, mask, affine, grid, inside):
    """The image on the working grid; outside the brain it has the value of no signal, and none of it bleeds in."""
    weight = to_grid(mask.astype(np.float32), affine, grid)
    lowest = float(values[~mask].min()) if not mask.all() else float(values.min())
    image = to_grid(values - lowest, affine, grid)
    return np.where(inside, image / np.maximum(weight, 0.25), 0).astype(np.float32) + np.float32(lowest)
