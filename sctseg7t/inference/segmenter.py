"""What segments a scan: the options of a user, an open model, the result, and the segmenter of each kind of model."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from nibabel.spatialimages import SpatialImage

from sctseg7t.errors import InputError, ModelError, OutputError, UsageError
from sctseg7t.image.masks import Readable
from sctseg7t.image.nifti import save
from sctseg7t.image.volume import Volume, load
from sctseg7t.inference.roles import LEVELS, ROLES
from sctseg7t.runtime.ensemble import Ensemble
from sctseg7t.runtime.session import Session
from sctseg7t.zoo.spec import ModelSpec

# An image of so few values is a mask or a label map; no scan has so little noise.
_FEW = 16
_SAMPLE = 4096

if TYPE_CHECKING:
    from sctseg7t.inference.outputs import Plan

BIAS = ("auto", "on", "off")
STRIP = ("auto", "stripped", "network", "hd-bet", "template")
VOLUMES = ("each", "mean")
NAN = ("zero", "refuse")
SPACES = ("baseline", "halfway")
# Is told the name of a step, and the part of all that is done.
Watch = Callable[[str, float], object]
# A scan: its file, an image in memory, or one that has been read already.
Source = Readable | Volume


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
    bias : str
        Brains: N4 bias correction ``on``, ``off``, or ``auto``: where the scan does not look corrected already.
    strip : str
        Brains: how the brain is found: ``stripped`` (it is alone in the image), ``network``, ``hd-bet``, ``template``,
        or ``auto``: as it is if the scan shows it alone, else by the network.
    nan : str
        Voxels that are NaN or infinite: taken as ``zero``, with a warning, or a reason to ``refuse`` the scan.
    spaces : tuple of str
        Follow-ups: masks are also written on the ``baseline`` scan's grid and on the ``halfway`` one.
    uncertainty : bool
        Also give a map of how far the model's networks disagree, or a network about a scan and its mirror image, and
        that as a number for each slice or lesion.

    Raises
    ------
    UsageError
        A value that is none of these.
    """

    threshold: float | None = None
    soft: bool = False
    volumes: str = "each"
    largest: bool | None = None
    fill_holes: bool | None = None
    remove_small: dict | None = None
    bias: str = "auto"
    strip: str = "auto"
    nan: str = "zero"
    spaces: tuple[str, ...] = ()
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"threshold {self.threshold}: give a fraction between 0 and 1")
        for name, known in (("volumes", VOLUMES), ("bias", BIAS), ("strip", STRIP), ("nan", NAN)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r}: use {', '.join(known)}")
        if unknown := [name for name in self.spaces if name not in SPACES]:
            raise UsageError(f"spaces {unknown[0]!r}: use {', '.join(SPACES)}")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What came of one scan; each organ adds its own.

    Attributes
    ----------
    volume : Volume
        The scan.
    masks : dict of str to nibabel image
        By tissue (SC, GM, WM, LESION), on the input's grid: uint8, or float32 fractions if soft.
    tables : list
        Measures, one a volume.
    warnings : list of str
    seconds : dict of str to float
        Time of each step.
    nothing : str
        Why the scan shows nothing of what the model looks for, in words; empty if it does.
    locator : str
        What placed the network's view: ``locator``, ``file``, ``image``, or ``none``.
    details : dict
        What the organ adds to the scan's record.
    corrected : tuple of str
        Tissues whose mask somebody corrected, see :mod:`sctseg7t.inference.corrections`.
    cut : dict of str to int
        Voxels that masks of ours lost to corrected ones, by tissue.
    suffixes : dict of str to str
        File suffix of every mask.
    kinds : sequence of str
        Kinds of its tables, see :data:`sctseg7t.inference.outputs.TABLES`.
    uncertainty : nibabel image or None
        Spread of what was said of each voxel, 0 to 0.5, the largest of all outputs; None where nobody asked.
    """

    volume: Volume
    masks: Mapping[str, SpatialImage]
    tables: list
    warnings: list[str]
    seconds: dict[str, float]
    nothing: str = ""
    locator: str = "none"
    details: dict[str, Any] = field(default_factory=dict)
    corrected: tuple[str, ...] = ()
    cut: dict[str, int] = field(default_factory=dict)
    suffixes: Mapping[str, str] = field(default_factory=dict)
    kinds: Sequence[str] = ()
    uncertainty: SpatialImage | None = None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.volume.data.shape))
        found = f"{', '.join(self.masks)}" if self.usable else f"nothing found ({self.nothing})"
        return f"<{type(self).__name__} of {self.volume.name}, {shape}: {found}; {len(self.warnings)} warnings>"

    def save(self, output: str | Path, fmt: str = "tidy") -> list[Path]:
        """Write the masks and the tables, as ``sct7t_deepseg -o OUTPUT`` names them; all of them or none.

        There is no sidecar: the record of a run is written by the commands.

        Parameters
        ----------
        output : path
            Folder and base name: ``results/t2s`` gives ``results/t2s_seg.nii.gz``, ``results/t2s_csa.csv``, ...
        fmt : {"tidy", "sct"}
            ``sct``: areas also in the columns of the Spinal Cord Toolbox, one table a mask.

        Returns
        -------
        list of Path

        Raises
        ------
        OutputError
            It cannot be written, or a mask there was corrected by hand.
        """
        from sctseg7t.inference import corrections, outputs

        made = outputs.plan(self.volume.path or output, self.suffixes, output=output, tables=self.kinds, csa_format=fmt)
        outputs.check_folder(made)
        for one in corrections.find(made).values():
            raise OutputError(f"{one.path}: was corrected by hand; choose another name, or move it away")
        outputs.write(made, lambda staged: self.write(staged, self.volume.name))
        # The record of an earlier run would speak of other masks.
        made.sidecar.unlink(missing_ok=True)
        return [path for path in made.files() if path != made.sidecar]

    def write(self, plan: "Plan", filename: str, leave: Collection[str] = ()) -> None:
        """Write the masks and the tables where a plan has them.

        Parameters
        ----------
        plan : Plan
        filename : str
            What the tables call the scan.
        leave : collection of str
            Tissues whose mask is not written: it lies there, corrected.
        """
        for name, image in self.masks.items():
            if name not in leave:
                save(image, plan.masks[name])
        tables = dict(plan.tables)
        place = tables.pop("uncertainty", None)
        if place and self.uncertainty is not None:
            save(self.uncertainty, place)
        self.write_tables(tables, masks=plan.masks, filename=filename)

    @property
    def usable(self) -> bool:
        """Whether the scan showed what the model looks for."""
        return not self.nothing

    def corrected_by(self, measured: "Result") -> "Result":
        """What counts of a scan whose masks were corrected, given their measures; an organ may have more to say."""
        return measured

    def write_tables(self, tables: Mapping[str, Path], *, masks: Mapping[str, Path], filename: str) -> None:
        """Write the tables of this result.

        Parameters
        ----------
        tables : dict of str to Path
            Places by kind of table.
        masks : dict of str to Path
            Places of the masks, by tissue.
        filename : str
            What the tables call the scan.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class OpenModel:
    """A model with its networks loaded.

    Attributes
    ----------
    task : str
    spec : ModelSpec
    session : Session or Ensemble
    tissues : tuple of str
        Masks that were asked for, in the model's order.
    options : Options
    locator_spec, locator : ModelSpec and Session, or None
        The network that finds the organ, where the entry names one.
    seconds : dict of str to float
        Time that opening took.
    watch : callable or None
        Is told how far a scan is, see :class:`Clock`.
    thin : OpenModel or None
        The model that scans of thinner slices are handed on to.
    """

    task: str
    spec: ModelSpec
    session: Session | Ensemble
    tissues: tuple[str, ...]
    options: Options = Options()
    locator_spec: ModelSpec | None = None
    locator: Session | Ensemble | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    watch: Watch | None = None
    thin: "OpenModel | None" = None

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """Every model that may run, none twice."""
        return specs_of(self)

    @property
    def suffixes(self) -> dict[str, str]:
        """File suffix of every mask."""
        return self.spec.suffixes(self.tissues)


def specs_of(model: Any) -> tuple[ModelSpec, ...]:
    """A model's spec, its locator's and those of the model that it hands scans on to, none twice."""
    further = model.thin.specs if model.thin else ()
    return tuple({spec.label: spec for spec in (model.spec, model.locator_spec, *further) if spec}.values())


class Segmenter(Protocol):
    """What runs models of one kind of sampling on one organ, for one scan or many.

    Get one from :func:`sctseg7t.inference.pipeline.open_segmenter`. A new kind is a class and a line in SEGMENTERS.
    """

    # Whether scans must be axial slices.
    axial: ClassVar[bool]
    # Roles of the label files that may go with a scan.
    labels: ClassVar[tuple[str, ...]]
    # Options that mean nothing to it.
    unused: ClassVar[tuple[str, ...]]

    def __init__(self, model: OpenModel) -> None: ...

    @property
    def model(self) -> OpenModel:
        """The model that is run."""
        ...

    @staticmethod
    def check(spec: ModelSpec) -> None:
        """Refuse an entry that cannot be served (ModelError naming the field)."""
        ...

    @staticmethod
    def tables(files: Mapping[str, Any], options: Options = Options()) -> tuple[str, ...]:
        """Kinds of tables that a scan with these files gets, see :data:`sctseg7t.inference.outputs.TABLES`."""
        ...

    def run(self, scan: Source, **files: Readable) -> Result:
        """Segment one scan, with the files that go with it by role.

        Raises
        ------
        InputError
            The scan or a file cannot be used.
        """
        ...


# By organ and method of sampling, as a model's entry says them; roles of further images can follow, for a class that
# takes those: ("brain", "patches", "baseline"), and "together" where the network itself sees them, each as a channel of
# that name. By name: a cord never imports what a brain needs.
SEGMENTERS: dict[tuple[str, ...], str] = {
    ("cord", "windows"): "sctseg7t.cord.segmenter:CordSegmenter",
    ("cord", "slices"): "sctseg7t.cord.segmenter:CordSegmenter",
    ("brain", "patches"): "sctseg7t.brain.segmenter:BrainSegmenter",
    ("brain", "patches", "baseline"): "sctseg7t.brain.followup:FollowUpSegmenter",
    ("brain", "patches", "baseline", "together"): "sctseg7t.brain.pair_segmenter:PairSegmenter",
    ("brain", "views", "baseline", "together"): "sctseg7t.brain.pair_segmenter:PairSegmenter",
    ("brain", "views"): "sctseg7t.brain.view_segmenter:ViewSegmenter",
}


def segmenter_for(spec: ModelSpec) -> type[Segmenter]:
    """The class that runs a model (ModelError if its entry asks for what none does)."""
    asked = (spec.organ, spec.input.sampling.method, *spec.input.images[1:])
    together = (*asked, "together") if set(asked[2:]) & set(spec.input.channels) else asked
    place = SEGMENTERS.get(together) or SEGMENTERS.get(asked) or SEGMENTERS.get(asked[:2])
    if place is None:
        known = "; ".join(", ".join(key) for key in SEGMENTERS)
        raise ModelError(
            f"{spec.label}: {', '.join(asked)}: nothing runs this organ with this sampling; known: {known}"
        )
    module, name = place.split(":")
    return getattr(import_module(module), name)


def check_asked(spec: ModelSpec, given: Mapping[str, Any], options: Options = Options()) -> None:
    """Refuse files and options that a model has no use for, and the lack of a file that it needs.

    Parameters
    ----------
    spec : ModelSpec
    given : mapping of str to anything
        Files by role, the scan itself left out.
    options : Options

    Raises
    ------
    UsageError
    """
    segmenter = segmenter_for(spec)
    needed = spec.input.images[1:]
    taken = (*needed, *segmenter.labels)
    for name in given:
        if name not in ROLES:
            raise UsageError(f"{name}: is no role of a file; known: {', '.join(ROLES)}")
        if name not in taken:
            raise UsageError(f"{name}: {spec.label} has no use for it; it takes {', '.join(taken) or 'the scan alone'}")
    if set(LEVELS) <= set(given):
        raise UsageError(f"{' and '.join(LEVELS)}: both say the vertebral levels; give one of them")
    for name in needed:
        if name not in given:
            raise UsageError(f"{name}: {spec.label} needs it ({ROLES[name].help})")
    for name in segmenter.unused:
        value = getattr(options, name)
        if value != getattr(Options, name):
            raise UsageError(f"{name} {value}: {spec.label} has no use for it; leave it out")


def check_needs(spec: ModelSpec, needs: Mapping[str, Any]) -> None:
    """Refuse an entry that does not meet what its segmenter needs (ModelError with the need, in words)."""
    for need, met in needs.items():
        if not met:
            raise ModelError(f"{spec.label}: {need}; correct its entry")


def load_scan(scan: Source, options: Options, *, axial: bool) -> Volume:
    """The scan as a segmenter takes it; a Volume is returned as it is (InputError if it is a mask or a label map)."""
    if isinstance(scan, Volume):
        return scan
    volume = load(scan, volumes=options.volumes, axial=axial, nan=options.nan)
    # Most scans show in a few thousand voxels that they are no mask.
    values = volume.data.ravel(order="K")
    if len(np.unique(values[:: max(1, len(values) // _SAMPLE)])) <= _FEW and len(found := np.unique(values)) <= _FEW:
        raise InputError(
            f"{volume.name}: holds only {len(found)} different values, as masks and label maps do; give the scan itself"
        )
    return volume


def load_images(files: Mapping[str, Readable], spec: ModelSpec) -> list[Volume]:
    """The further images that a model's channels are made of (InputError if one cannot be used)."""
    return [load(files[role], volumes="mean", axial=False) for role in spec.input.images[1:]]


class Clock:
    """Seconds spent in each named step, summed over its laps; whoever waits can be told how far it is.

    Parameters
    ----------
    shares : dict of str to float
        Steps to come, in order, with the part of the time that each takes about.
    watch : callable, optional
        Called with the name of the step under way and the part of all that is done (0 to 1).
    """

    def __init__(self, shares: Mapping[str, float] = MappingProxyType({}), watch: Watch | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()
        self._shares, self._watch = shares, watch
        self.tell(0)

    def lap(self, name: str) -> None:
        """End a step."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
        self.tell(0)

    def tell(self, part: float) -> None:
        """Say that so much of the step under way is done (0 to 1)."""
        step = next((name for name in self._shares if name not in self.seconds), None)
        if self._watch and step:
            ended = sum(share for name, share in self._shares.items() if name in self.seconds)
            self._watch(step, (ended + part * self._shares[step]) / sum(self._shares.values()))
