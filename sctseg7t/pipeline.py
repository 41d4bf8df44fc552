"""The main job: one scan in, masks and measures out. The command line calls exactly this."""

import numpy as np

from sctseg7t.errors import ModelError, UsageError
from sctseg7t.flow import Clock, Options
from sctseg7t.postprocess import apply


def open_segmenter(task=None, model=None, device="auto", options=Options(), *, threads=None, offline=False):
    """Find, verify and load the networks of a task.

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

    Raises
    ------
    ModelError, DeviceError, DownloadError, UsageError
    """
    from sctseg7t.runtime import open_session
    from sctseg7t.zoo.weights import weights

    clock = Clock()
    spec, locator_spec, tissues = choose_model(task, model)
    path = weights(spec, offline=offline)
    session = open_session(path, device, threads)
    locator = None
    if locator_spec:
        # Small and fast on any device; where the segmenter's device was settled, it is not asked again.
        locator = open_session(weights(locator_spec, offline=offline), session.device, threads)
    clock.lap("open")
    return flow_of(spec)(spec, session, locator_spec, locator, tissues, options, clock.seconds)


def choose_model(task=None, model=None):
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

    manifest, task = load_manifest(), task_of(task, model)
    spec = find_model(manifest, task, model)
    tissues = _tissues(manifest, task, spec)
    flow_of(spec).check(spec)
    # On nothing: a wrong step is the entry's fault, not that of the first scan.
    apply({output.name: np.zeros((1, 1, 1), bool) for output in spec.outputs}, spec.postprocess, 1.0)
    located = spec.centring["policy"] == "locator"
    return spec, manifest.model(spec.centring["model"]) if located else None, tissues


def flow_of(spec):
    """The class that runs models of this kind of sampling."""
    if spec.input.sampling.method == "patches":
        from sctseg7t.brain.segmenter import BrainSegmenter

        return BrainSegmenter
    from sctseg7t.cord.segmenter import CordSegmenter

    return CordSegmenter


def task_of(task=None, model=None):
    """The task that a user means: the one named, else the model's own, else ``gm_sc``."""
    if task is not None or model is None:
        return task or "gm_sc"
    if str(model).endswith(".onnx"):
        from sctseg7t.zoo.local_model import spec_from_onnx

        return spec_from_onnx(model).task
    from sctseg7t.zoo.manifest import load_manifest

    return load_manifest().model(str(model)).task


def find_model(manifest, task, model=None):
    """The spec that a task and a ``-m`` value name (ModelError if there is none)."""
    tasks = manifest.tasks()
    if task not in tasks or not tasks[task]["outputs"]:
        known = ", ".join(name for name, entry in tasks.items() if entry["outputs"])
        what = (
            f"-m {model}: its task, {task}, is no job for a user"
            if model and task in tasks
            else f"-c {task}: no such task"
        )
        raise UsageError(f"{what}; the tasks are: {known}")
    if model is None:
        return manifest.default_for_task(task)
    if str(model).endswith(".onnx"):
        from sctseg7t.zoo.local_model import spec_from_onnx

        return spec_from_onnx(model)
    return manifest.model(str(model))


def segment(source, task=None, *, model=None, device="auto", centerline=None, levels=None, brainmask=None, **options):
    """Segment a scan in one call: the same masks as ``sct7t_deepseg``, bit for bit.

    Parameters
    ----------
    source : path or nibabel image
        Axial T2*-weighted slices; 2D, 3D or 4D.
    task, model, device
        As for :func:`open_segmenter`.
    centerline, levels, brainmask : path or nibabel image, optional
        Files that go with the scan; each flow takes its own.
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
    given = {"centerline": centerline, "levels": levels, "brainmask": brainmask}
    labels = {name: value for name, value in given.items() if value is not None}
    segmenter.check_labels(labels)
    return segmenter.run(source, **labels)


def _tissues(manifest, task, spec):
    """Tissues that the task asks for, in the model's order."""
    available = [o.name for o in spec.outputs] + [d.name for d in spec.derived]
    wanted = manifest.tasks()[task]["outputs"]
    found = tuple(name for name in wanted if name in available)
    if not found or (len(wanted) < 3 and len(found) < len(wanted)):
        raise ModelError(f"{spec.label}: has the outputs {', '.join(available)}, not those of task {task}")
    return found
