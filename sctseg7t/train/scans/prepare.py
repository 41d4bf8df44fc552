"""Labelled scans made ready: checked, all of them, before anything trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from sctseg7t.errors import InputError, ModelError
from sctseg7t.runtime import open_session
from sctseg7t.train.scans import patches, windows
from sctseg7t.train.scans.checks import check_labels
from sctseg7t.train.scans.items import Items
from sctseg7t.train.scans.labelled import LabelFiles, LabelledScan
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.spec import ModelSpec
from sctseg7t.zoo.weights import weights


def prepare_scans(
    scans: Sequence[LabelledScan], labels: Mapping[str, LabelFiles], spec: ModelSpec, cache: Path, log: TextIO
) -> dict[str, Any]:
    """Make scans ready for a model, by their names.

    Parameters
    ----------
    scans : list of LabelledScan
    labels : dict of str to LabelFiles
        In the order of the network's maps.
    spec : ModelSpec
        Of the model to be: windows of cords, or patches of brains.
    cache : Path
        Keeps what takes long: brains on their working grid.
    log : text stream
        Is told of every file that cannot be used.

    Returns
    -------
    dict of str to CordScan or BrainScan

    Raises
    ------
    InputError
        A scan cannot be used; the message names the first and how many there are.
    """
    method = spec.input.sampling.method
    if method not in ("windows", "patches"):
        raise ModelError(f"{spec.label}: labelled scans train networks of windows and patches, not of {method}")
    check_labels(scans, labels)
    ready, problems = {}, []
    finder = _finder(spec)
    for scan in scans:
        try:
            if method == "windows":
                ready[scan.name] = windows.prepare(scan, labels, spec, finder)
            else:
                ready[scan.name] = patches.prepare(scan, labels, spec, cache, finder)
        except InputError as problem:
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        print(*(f"cannot be used: {problem}" for problem in problems), sep="\n", file=log, flush=True)
        raise InputError(f"{len(problems)} of {len(scans)} scans cannot be used (all are told above): {problems[0]}")
    return ready


def items_of(scans: Sequence[Any], labels: Sequence[str], spec: ModelSpec, settings: Mapping[str, Any]) -> Items:
    """The items of prepared scans; settings: those of :class:`WindowItems` or :class:`PatchItems`.

    Raises
    ------
    InputError
        An unknown setting.
    """
    kind = windows.WindowItems if spec.input.sampling.method == "windows" else patches.PatchItems
    try:
        return kind(scans, labels, spec, **settings)
    except TypeError as err:
        raise InputError(f"recipe: items: {err}") from err


def _finder(spec: ModelSpec) -> Any:
    """The network that finds the organ; None where the entry names none."""
    if spec.centring["policy"] != "locator":
        return None
    finder = load_manifest().model(spec.centring["model"])
    session = open_session(weights(finder), "cpu")
    if spec.organ == "cord":
        return session, finder
    from sctseg7t.brain.find_brain import BrainFinder

    return BrainFinder(session, finder)
