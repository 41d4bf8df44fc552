"""Choosing and opening a model, and segmenting a scan in one call."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sctseg7t.errors import ModelError, UsageError
from sctseg7t.inference.postprocess import apply
from sctseg7t.inference.roles import ROLES
from sctseg7t.inference.segmenter import (
    Clock,
    OpenModel,
    Options,
    Result,
    Segmenter,
    Source,
    Watch,
    check_asked,
    segmenter_for,
    specs_of,
)
from sctseg7t.zoo.spec import ModelSpec, is_path

DEFAULT_TASK = "gm_sc"


@dataclass(frozen=True)
class Choice:
    """What a task and a model's name stand for.

    Attributes
    ----------
    task : str
    spec : ModelSpec
    locator_spec : ModelSpec or None
        Of the network that finds the organ, where the entry names one.
    tissues : tuple of str
        Masks that the task asks for, in the model's order.
    thin : Choice or None
        The model that scans of thinner slices are handed on to, where the entry names one.
    """

    task: str
    spec: ModelSpec
    locator_spec: ModelSpec | None
    tissues: tuple[str, ...]
    thin: "Choice | None" = None

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """Every model that may run, none twice."""
        return specs_of(self)


def open_segmenter(
    task: str | None = None,
    model: str | None = None,
    device: str = "auto",
    options: Options = Options(),
    *,
    threads: int | None = None,
    offline: bool = False,
) -> Segmenter:
    """Find, verify and load the networks of a task: `choose_model`, then `open_model`, in one call.

    Parameters
    ----------
    task : str, optional
        ``gm_sc``, ``gm``, ``sc``, ``brain_lesion``; see the manifest's tasks. Default: that of `model`, or ``gm_sc``.
    model : str, optional
        ``MODEL`` or ``MODEL@VERSION`` of the zoo, or the path of an .onnx file with its entry beside it.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    options : Options
    threads : int, optional
        CPU threads; default: all that this process may use.
    offline : bool
        Never download.

    Raises
    ------
    ModelError, DeviceError, DownloadError, UsageError
    """
    return open_model(choose_model(task, model), device, options, threads=threads, offline=offline)


def open_model(
    chosen: Choice,
    device: str = "auto",
    options: Options = Options(),
    *,
    threads: int | None = None,
    offline: bool = False,
    watch: Watch | None = None,
) -> Segmenter:
    """Verify and load the networks of a model that has been chosen; as :func:`open_segmenter` otherwise.

    ``watch`` is told how far a scan is, see :class:`sctseg7t.inference.segmenter.Clock`.
    """
    return segmenter_for(chosen.spec)(_opened(chosen, device, options, threads, offline, watch))


def _opened(chosen, device, options, threads, offline, watch) -> OpenModel:
    """A model with its networks loaded, and so the one that it hands scans on to."""
    from sctseg7t.runtime.ensemble import open_networks

    clock = Clock()
    session = open_networks(chosen.spec, device, threads, offline=offline)
    locator = None
    if chosen.locator_spec:
        # Small and fast on any device; where the segmenter's device was settled, it is not asked again.
        locator = open_networks(chosen.locator_spec, session.device, threads, offline=offline)
    thin = _opened(chosen.thin, device, options, threads, offline, watch) if chosen.thin else None
    clock.lap("open")
    return OpenModel(
        chosen.task,
        chosen.spec,
        session,
        chosen.tissues,
        options,
        chosen.locator_spec,
        locator,
        clock.seconds,
        watch,
        thin,
    )


def choose_model(task: str | None = None, model: str | None = None) -> Choice:
    """Find a task's model and check its entry, with nothing loaded or downloaded.

    Parameters
    ----------
    task, model
        As for :func:`open_segmenter`.

    Raises
    ------
    ModelError, UsageError
    """
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    if model is None:
        named = None
    elif is_path(str(model)):
        from sctseg7t.zoo.local_model import model_at

        named = model_at(model)
    else:
        named = manifest.model(str(model))
    asked = task is not None
    task = task or (named.task if named else DEFAULT_TASK)
    tasks = manifest.tasks()
    if task not in tasks or not tasks[task]["outputs"]:
        known = ", ".join(name for name, entry in tasks.items() if entry["outputs"])
        what = f"model {model}: its task, {task}, is no job for a user" if task in tasks else f"{task}: no such task"
        raise UsageError(f"{what}; the tasks are: {known}")
    spec = named or manifest.default_for_task(task)
    available = [output.name for output in (*spec.outputs, *spec.derived)]
    wanted = tasks[task]["outputs"]
    tissues = tuple(name for name in wanted if name in available)
    if named and not asked:
        # Somebody's own labels, which are in no task: whoever names the model wants them.
        known = {name for entry in tasks.values() for name in entry["outputs"]}
        tissues += tuple(output.name for output in spec.outputs if output.suffix and output.name not in known)
    if not tissues or (len(wanted) < 3 and len(tissues) < len(wanted)):
        raise ModelError(f"{spec.label}: has the outputs {', '.join(available)}, not those of task {task}")
    segmenter_for(spec).check(spec)
    # On nothing: a wrong step is the entry's fault, not that of the first scan.
    apply({output.name: np.zeros((1, 1, 1), bool) for output in spec.outputs}, spec.postprocess, 1.0)
    located = spec.centring["policy"] == "locator"
    thin = choose_model(task, spec.thinner["model"]) if spec.thinner else None
    return Choice(task, spec, manifest.model(spec.centring["model"]) if located else None, tissues, thin)


def segment(
    source: Source | np.ndarray,
    task: str | None = None,
    *,
    affine: np.ndarray | None = None,
    model: str | None = None,
    device: str = "auto",
    **given: Any,
) -> Result:
    """Segment a scan in one call: the same masks as ``sct7t_deepseg``, bit for bit.

    Parameters
    ----------
    source : path, nibabel image or array
        The scan: axial T2*-weighted slices; 2D, 3D or 4D. For a brain model: its contrast.
    task, model, device
        As for :func:`open_segmenter`.
    affine : (4, 4) array, optional
        Voxel to world RAS in mm, of every array that is given.
    **given
        Files that go with the scan (path, nibabel image, or array on the scan's grid), by role; each model takes its
        own. They are `centerline`, `levels` or `discfile`, and `pmj` for a cord, `brainmask` for a brain, `baseline`
        and `second` for models of two images; see :data:`sctseg7t.inference.roles.ROLES`.
        And the fields of :class:`Options`: `threshold` (float), `soft` (bool), `volumes` ("each", "mean"), `largest`
        (bool), `fill_holes` (bool), `remove_small` ({"min_voxels": n} or {"min_mm3": v}), `bias` ("auto", "on",
        "off"), `strip` ("auto", "stripped", "network", "hd-bet", "template"), `nan` ("zero", "refuse"),
        `spaces` (grids on which a follow-up's masks are wanted too: "baseline", "halfway"), `uncertainty` (bool).

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
    >>> result.save("results/t2s")                        # doctest: +SKIP
    >>> result = sctseg7t.segment(array, affine=affine)   # doctest: +SKIP
    """
    files = {name: value for name, value in given.items() if name in ROLES and value is not None}
    known = {field.name for field in fields(Options)}
    unknown = [name for name in given if name not in ROLES and name not in known]
    if unknown:
        raise UsageError(f"{unknown[0]}: neither a file nor an option; known: {', '.join((*ROLES, *sorted(known)))}")
    options = Options(**{name: value for name, value in given.items() if name in known})
    segmenter = open_segmenter(task, model, device, options)
    check_asked(segmenter.model.spec, files, segmenter.model.options)
    return segmenter.run(_image(source, affine), **{name: _image(value, affine) for name, value in files.items()})


def _image(source, affine):
    """An array as an image; everything else as it is."""
    if not isinstance(source, np.ndarray):
        return source
    from nibabel import Nifti1Image

    if affine is None:
        raise UsageError("an array says nothing of its voxels: give its affine too (4 x 4, voxel to world RAS, mm)")
    # Types that NIfTI does not have; what a number means stays.
    kind = {"?": np.uint8, "e": np.float32, "l": np.int32, "q": np.int32}.get(source.dtype.char, source.dtype)
    return Nifti1Image(source.astype(kind), np.asarray(affine, float))
