"""The parts of a manifest entry, as small frozen records with documented units."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Architecture:
    """A description of layers that ships with the package, for a file that holds weights only.

    ``parameters``: pairs of name and whole number that the description leaves open.
    """

    name: str
    parameters: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class FileSpec:
    """One downloadable file, pinned by its hash.

    Attributes
    ----------
    name : str
        Bare file name.
    path : str
        Relative path in its repository or release, with forward slashes.
    bytes : int or None
        Size; None where upstream never published it (then the hash alone pins it).
    sha256, git_blob_sha1 : str or None
        ``git_blob_sha1`` is the SHA-1 that git gives a blob: over ``blob <size>\\0`` and the content.
    commit : str or None
        Where upstream's file was never hashed: the git commit that all of ``urls`` name.
        Exactly one of these three is given.
    urls : tuple of str
        In order of preference: ``https://``, ``file://``, a plain path, or
        ``package:weights/NAME`` for a file that ships inside the installation.
    format : str or None
        ``onnx``, or ``keras-hdf5``, which becomes ONNX on this machine.
    architecture : Architecture or None
        For Keras weights without a description of their own.
    lambdas : tuple of (str, float)
        Keras layers that hold code, and what each divides its input by; the code is never run.
    """

    name: str
    path: str
    bytes: int | None
    sha256: str | None
    git_blob_sha1: str | None
    urls: tuple[str, ...]
    format: str | None = None
    opset: int | None = None
    precision: str | None = None
    commit: str | None = None
    architecture: Architecture | None = None
    lambdas: tuple[tuple[str, float], ...] = ()

    @property
    def algorithm(self):
        """``sha256``, ``git_blob_sha1`` or ``commit``: what ``digest`` is."""
        return "sha256" if self.sha256 else "git_blob_sha1" if self.git_blob_sha1 else "commit"

    @property
    def digest(self):
        return self.sha256 or self.git_blob_sha1 or self.commit


@dataclass(frozen=True)
class Sampling:
    """How the network's input is cut from the scan.

    Attributes
    ----------
    method : str
        ``windows``: axial windows in the anatomical frame, one a slice. ``slices``: slices as stored,
        resampled in plane. ``patches``: overlapping 3D patches.
    resample : str
        ``slices``: ``centred`` keeps the field of view, ``corner`` the centre of the first pixel.
    pad : str
        ``slices``: what lies beyond the image, ``symmetric`` or ``constant`` (zero).
    overlap : float
        ``patches``: share of a patch's side that its neighbour shares.
    """

    method: str = "windows"
    resample: str = "centred"
    pad: str = "symmetric"
    overlap: float = 0.5


@dataclass(frozen=True)
class InputSpec:
    """What the network expects of an image.

    Attributes
    ----------
    spacing_mm : tuple of float
        In-plane (two values) or of all three axes, in the order of ``axes``.
    size : tuple of int or None
        Samples per axis; None where any multiple of ``size_multiple`` will do.
    axes : str
        Axes of the input tensor after batch and channel, e.g. ``"xy"``.
    normalisation : dict
        ``{"name": ..., "parameters": {...}}``.
    channels : tuple of str
        Contrast of each input channel.
    field_T : tuple of float
        Field strengths that the model was evaluated at.
    orientation : str
        Where the axes lead to, e.g. ``RAS``; ``native``: the array as stored.
    """

    spacing_mm: tuple[float, ...]
    size: tuple[int, ...] | None
    size_multiple: int
    axes: str
    orientation: str
    channels: tuple[str, ...]
    contrasts: tuple[str, ...]
    field_T: tuple[float, ...]
    dtype: str
    normalisation: dict
    interpolation: str
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class OutputSpec:
    """One output channel; ``suffix`` is what its file is called after the input's name.

    ``binarise``: ``threshold`` keeps voxels from that fraction on, ``above`` those above it, ``area`` as many as
    keeps a slice's area. ``map_threshold`` cuts the network's map (strictly above) before it goes back to the native
    grid; ``threshold`` then holds for the cut map resampled.
    """

    name: str
    channel: int
    threshold: float | None
    meaning: str
    suffix: str | None
    sigma_mm: float | None = None
    binarise: str = "threshold"
    map_threshold: float | None = None


@dataclass(frozen=True)
class DerivedSpec:
    """A map computed from others: one minus another (WM = SC minus GM), or the numbered lesions of one."""

    name: str
    suffix: str
    minus: tuple[str, str] | None = None
    labels_of: str | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One version of one model: everything a step of the flow needs to know.

    Attributes
    ----------
    activation : str
        ``"sigmoid"``: the graph already returns probabilities; ``"logits"``: the
        caller applies the sigmoid; ``"linear"``: values are used as they come.
    postprocess : tuple of dict
        In order, ``{"op": name, "params": {...}}``.
    centring : dict
        ``{"policy": "locator", "model": id}``, ``{"policy": "image"}`` or
        ``{"policy": "none"}``.
    local_path : Path or None
        Set when the weights were named by path instead of coming from the zoo.
    raw : dict
        The entry as written, for reports.
    """

    id: str
    version: str
    task: str
    description: str
    default: bool
    deprecated: bool
    min_tool_version: str
    licence: str | None
    citation: dict | None
    files: tuple[FileSpec, ...]
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    derived: tuple[DerivedSpec, ...]
    activation: str
    postprocess: tuple[dict, ...]
    centring: dict
    test_time: dict
    training: dict | None
    evaluation: tuple[dict, ...]
    limitations: tuple[str, ...]
    test_input: dict | None
    test_output: dict | None
    raw: dict = field(repr=False, compare=False, hash=False)
    local_path: Path | None = None

    @property
    def label(self):
        return f"{self.id}@{self.version}"

    def suffixes(self, tissues):
        """File suffix of each of the tissues."""
        known = {o.name: o.suffix for o in (*self.outputs, *self.derived)}
        return {name: known[name] for name in tissues}


@dataclass(frozen=True)
class DatasetSpec:
    """A data set pinned to one commit of its repository."""

    name: str
    description: str
    licence: str
    citation: dict | None
    repository: str
    commit: str
    files: tuple[FileSpec, ...]
    raw: dict = field(repr=False, compare=False, hash=False)
