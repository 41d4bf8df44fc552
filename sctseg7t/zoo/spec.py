"""What an entry of the manifest says, as typed records. A model is used by these fields alone.

Texts that no step reads (licence, citation, limits, evaluation...) are in ``raw``, the entry as written.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

AnyPath = str | os.PathLike[str]
KERAS = "keras-hdf5"
# What may pin a file, and how many hexadecimal digits it has.
PINS = {"sha256": 64, "git_blob_sha1": 40, "commit": 40}
# Fields of an entry that no result depends on.
_NO_EFFECT = set(
    "$schema default deprecated description licence citation upstream training evaluation intended_use "
    "limitations not_checked failures changelog".split()
)


def is_path(model: str) -> bool:
    """Whether a model is named by the path of its network or entry, not by its name in the zoo."""
    return model.endswith((".onnx", ".json"))


@dataclass(frozen=True)
class FileSpec:
    """One file, and what pins it.

    Attributes
    ----------
    name : str
        Bare file name.
    path : str
        Relative path in its repository or release, with forward slashes.
    bytes : int or None
        Size; None where upstream never published it (then the hash alone pins it).
    algorithm : str
        ``sha256``; ``git_blob_sha1``, the SHA-1 that git gives a blob: over ``blob <size>\\0`` and the content; or
        ``commit``, where upstream's file was never hashed: the git commit that all of ``urls`` name.
    digest : str
        The hash, or the commit, in hexadecimal.
    urls : tuple of str
        In order of preference: ``https://``, ``file://``, a plain path, or
        ``package:weights/NAME`` for a file that ships inside the installation.
    format : str or None
        ``onnx``, or ``keras-hdf5``, which becomes ONNX on this machine.
    architecture : str or None
        Name of the description of layers that ships with the package, for Keras weights without one of their own.
    lambdas : tuple of (str, float)
        Keras layers that hold code, and what each divides its input by; the code is never run.
    """

    name: str
    path: str
    bytes: int | None
    algorithm: str
    digest: str
    urls: tuple[str, ...]
    format: str | None = None
    architecture: str | None = None
    lambdas: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Sampling:
    """How the network's input is cut from the scan.

    Attributes
    ----------
    method : str
        ``windows``: axial windows in the anatomical frame, one a slice. ``slices``: slices as stored,
        resampled in plane. ``patches``: overlapping 3D patches. ``views``: slices with their neighbours, in the planes
        in which the scan is sharp.
    resample : str
        ``slices``: ``centred`` keeps the field of view, ``corner`` the centre of the first pixel.
    pad : str
        ``slices``: what lies beyond the image, ``symmetric`` or ``constant`` (zero).
    overlap : float
        ``patches``: share of a patch's side that its neighbour shares.
    slices_mm : tuple of float
        ``views`` of two scans: where a slice and its neighbours lie, of each scan.
    """

    method: str = "windows"
    resample: str = "centred"
    pad: str = "symmetric"
    overlap: float = 0.5
    slices_mm: tuple[float, ...] = ()


@dataclass(frozen=True)
class InputSpec:
    """What the network expects of an image.

    Attributes
    ----------
    spacing_mm : tuple of float
        In-plane (two values) or of all three axes, in the order of ``axes``.
    normalisation : dict
        ``{"name": ..., "parameters": {...}}``.
    axes : str
        Axes of the input tensor after batch and channel, e.g. ``"xy"``.
    size : tuple of int or None
        Samples per axis; None where any multiple of ``size_multiple`` will do.
    orientation : str
        Where the axes lead to, e.g. ``RAS``; ``native``: the array as stored.
    channels : tuple of str
        Content of each input channel: a contrast, or a map made from the images (``prior_GM``).
    images : tuple of str
        Roles of the images that the channels are made of, in their order: ``scan``, ``baseline`` (the earlier time
        point), ``second`` (another contrast).
    """

    spacing_mm: tuple[float, ...]
    normalisation: dict
    interpolation: str
    axes: str
    size: tuple[int, ...] | None = None
    size_multiple: int = 1
    orientation: str = "RAS"
    channels: tuple[str, ...] = ("any",)
    images: tuple[str, ...] = ("scan",)
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class OutputSpec:
    """One output channel of the network.

    Attributes
    ----------
    suffix : str or None
        What its file is called after the input's name; None for an output that is not written.
    binarise : str
        How its fractions become a mask. ``threshold``: voxels from ``threshold`` on; ``above``: voxels above it;
        ``area``: the voxels of highest fraction, as many as keep the slice's area, and none below ``lowest``.
    map_threshold : float or None
        Cuts the network's map (strictly above) before it goes back to the native grid; ``threshold`` then holds for
        the cut map resampled.
    by_load : dict or None
        Of lesions: limits that follow the load, see :func:`sctseg7t.brain.by_load.limits`. ``mL``: loads (of what
        reaches ``threshold``), rising; ``threshold`` and ``peak`` of each: what every voxel of a lesion has to reach,
        and one of them at least.
    """

    name: str
    channel: int
    threshold: float | None = None
    suffix: str | None = None
    binarise: str = "threshold"
    lowest: float = 0.25
    map_threshold: float | None = None
    by_load: dict | None = None


@dataclass(frozen=True)
class DerivedSpec:
    """A map computed from others: one minus another (WM = SC minus GM), the numbered lesions of one, or what of one is
    new since the baseline."""

    name: str
    suffix: str
    minus: tuple[str, str] | None = None
    labels_of: str | None = None
    changes_of: str | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One version of one model: all that a run needs to know of it.

    Attributes
    ----------
    organ : str
        ``cord`` or ``brain``.
    bids_suffix : str or None
        Suffix of the scans that the model is for in BIDS names (``T2starw``); None where none is known.
    activation : str
        ``"sigmoid"``: the graph already returns probabilities; ``"logits"``: the
        caller applies the sigmoid; ``"linear"``: values are used as they come.
    comparison : dict
        Of models that look at a scan and its baseline: when tissue counts as changed; see
        :class:`sctseg7t.brain.changes.Rule`.
    postprocess : tuple of dict
        In order, ``{"op": name, "params": {...}}``.
    centring : dict
        ``{"policy": "locator", "model": id}``, ``{"policy": "image"}`` or ``{"policy": "none"}``.
    ensemble : str or None
        How several networks become one: ``mean``, ``median`` or ``vote`` of their probabilities; every one of `files`
        is a network then. None: the first file is the network.
    ensemble_largest : tuple of str
        Outputs of which the largest piece alone counts, in each network's map of a slice.
    thinner : dict or None
        ``{"below_mm": 5, "model": id}``: scans whose slices are thinner than that are handed on to that model. With
        ``share``: both look at them, and their probabilities are averaged, that one's with this weight; ``threshold``
        and ``by_load`` are then those of the mean.
    raw : dict
        The entry as written, for reports.
    local_path : Path or None
        Set when the weights were named by path instead of coming from the zoo.
    """

    id: str
    version: str
    task: str
    organ: str
    bids_suffix: str | None
    description: str
    files: tuple[FileSpec, ...]
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    activation: str
    centring: dict
    raw: dict = field(repr=False, compare=False, hash=False)
    derived: tuple[DerivedSpec, ...] = ()
    postprocess: tuple[dict, ...] = ()
    comparison: dict = field(default_factory=dict)
    test_time: dict = field(default_factory=dict)
    thinner: dict | None = None
    ensemble: str | None = None
    ensemble_largest: tuple[str, ...] = ()
    default: bool = False
    deprecated: bool = False
    min_tool_version: str = "0"
    training: dict | None = None
    evaluation: tuple[dict, ...] = ()
    test_input: dict | None = None
    test_output: dict | None = None
    local_path: Path | None = None

    @property
    def label(self) -> str:
        """``id@version``."""
        return f"{self.id}@{self.version}"

    @property
    def networks(self) -> tuple[FileSpec, ...]:
        """The files that are networks: all of an ensemble, else the first."""
        return self.files if self.ensemble else self.files[:1]

    @property
    def is_foreign(self) -> bool:
        """Whether the weights must be converted to ONNX before they can run."""
        return self.local_path is None and self.files[0].format == KERAS

    @cached_property
    def entry_sha256(self) -> str:
        """SHA-256 of the entry, whatever the order of its fields and its layout, without what is only told of it.

        Another value means that the model may give other results: other weights, spacing, threshold or step.
        """
        entry = {name: value for name, value in self.raw.items() if name not in _NO_EFFECT}
        return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()

    def suffixes(self, tissues: tuple[str, ...]) -> dict[str, str]:
        """Return the file suffix of each of the tissues."""
        known = {part.name: part.suffix for part in (*self.outputs, *self.derived) if part.suffix}
        return {name: known[name] for name in tissues}


@dataclass(frozen=True)
class DatasetSpec:
    """A data set pinned to one commit of its repository; ``raw``: the entry as written."""

    name: str
    description: str
    commit: str
    files: tuple[FileSpec, ...]
    raw: dict = field(repr=False, compare=False, hash=False)
