"""A whole recipe for labelled scans from what a user says: where it starts, labels, and what differs from the usual."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from sctseg7t.errors import InputError, UsageError
from sctseg7t.image.volume import check_header
from sctseg7t.simulate.recipe_file import merged, read_recipe_file
from sctseg7t.train.named_networks import plan_strides
from sctseg7t.train.recipe import RECIPES, TrainRecipe, recipe_of
from sctseg7t.train.scans import splits
from sctseg7t.train.scans.entry import derived_entry
from sctseg7t.train.scans.labelled import LabelledScan, strata
from sctseg7t.train.starting import Start
from sctseg7t.zoo.manifest import load_manifest

# By sampling: the recipe for those who give none.
USUAL = {"windows": "fine_tune_cord", "patches": "fine_tune_brain"}
# Voxels of a planned patch, and the multiple that its sides are of.
_PATCH, _MULTIPLE = {2: 160 * 160, 3: 64**3}, 16


def whole_recipe(told: str | Path | None, start: Start | None, changes: Mapping[str, Any] | None = None) -> TrainRecipe:
    """The recipe of a training on labelled scans, complete: with network, labels and the entry of the model to be.

    Parameters
    ----------
    told : str or path, optional
        A recipe's name or file, of task ``scans``; default: the usual one for what the start segments.
    start : Start, optional
        Lends what the recipe does not say: entry, labels, network.
    changes : dict, optional
        What is asked for besides (``strategy``, ``model``, ``steps``).

    Raises
    ------
    InputError
        Neither recipe nor start says what the network is for.
    """
    base = start.entry if start else None
    if told is None and base is None:
        raise UsageError("labelled scans need a model to start from, or a recipe")
    given = (base or {}).get("input", {})
    method = given.get("sampling", {}).get("method", "windows")
    if base and (method not in USUAL or not given.get("size")):
        raise InputError(f"{base['id']}: labelled scans train networks of windows and patches, which this is not")
    path, values = read_recipe_file(told or USUAL[method], RECIPES)
    values = merged(values, {name: value for name, value in (changes or {}).items() if value is not None})
    if values.get("task", "scans") != "scans":
        raise InputError(f"{path}: is a recipe of task {values['task']}, which learns from simulated images alone")
    entry = dict(values.get("entry", {}))
    if named := entry.pop("model", None):
        base = load_manifest().model(named).raw
    if base is None:
        raise InputError(
            f"{path}: does not say what the network is for; start from a model, or name one in entry.model"
        )
    labels = values.get("labels") or {o["name"]: [] for o in sorted(base["outputs"], key=lambda o: o["channel"])}
    named = (changes or {}).get("model")
    name = named or (values["model"] if told else f"{base['id']}_tuned")
    values |= {"task": "scans", "labels": labels, "model": name}
    if "outputs" not in entry or "input" not in entry or "organ" not in entry:
        entry = derived_entry(base, name, tuple(labels), entry)
    values["entry"] = entry
    if not values.get("network"):
        values["network"] = dict(start.network) if start else {}
    if values.get("strategy") in (None, "") and start:
        values["strategy"] = "half_lr"
    return recipe_of(values, path)


def planned(recipe: TrainRecipe, scans: Sequence[LabelledScan]) -> TrainRecipe:
    """The recipe with what an ``nnunet`` plans: with ``"plan": "data"`` spacing and patch, and always its depth.

    As nnU-Net: the median spacing, a patch of the budget that does not exceed the scans, and as many levels as it can
    be halved. Networks of brains have one spacing along all axes, windows a square.
    """
    network = dict(recipe.network)
    if network.get("kind") != "nnunet" or ("strides" in network and "plan" not in network):
        return recipe
    given = dict(recipe.entry["input"])
    dimensions = len(given["spacing_mm"])
    if network.pop("plan", None) == "data":
        sizes = [voxel_sizes(check_header(scan.image, axial=dimensions == 2).affine) for scan in scans]
        spacing = float(np.round(np.median([np.prod(s[:dimensions]) ** (1 / dimensions) for s in sizes]), 4))
        # A window keeps the field of view that the entry's has: the way there is the locator's.
        side = given["size"][0] * given["spacing_mm"][0] / spacing if dimensions == 2 else np.inf
        side = min(side, _PATCH[dimensions] ** (1 / dimensions))
        side = int(max(np.ceil(round(side, 3) / _MULTIPLE) * _MULTIPLE, 2 * _MULTIPLE))
        given |= {"spacing_mm": [spacing] * dimensions, "size": [side] * dimensions}
    network["strides"] = plan_strides(given["size"], given["spacing_mm"])
    return replace(recipe, network=network, entry={**recipe.entry, "input": given})


def split_of(
    told: str | None, scans: Sequence[LabelledScan], seed: int, stratify: Mapping[str, str] | None = None
) -> tuple[list[splits.Split], str]:
    """Splits as a user says them, and where they come from.

    Parameters
    ----------
    told : str, optional
        A file, shares such as ``70/15/15`` (the default), ``folds:N``, or ``none``: everybody trains.
    scans : list of LabelledScan
    seed : int
    stratify : dict of str to str, optional
        Stratum of each person.

    Raises
    ------
    InputError, UsageError
        No such file, or people who cannot be split so.
    """
    people = {scan.subject: (stratify or {}).get(scan.subject, "") for scan in scans}
    told = told or "/".join(f"{100 * share:g}" for share in splits.SHARES)
    if told == "none":
        return [splits.Split("all", tuple(sorted(people)))], "none: everybody trains"
    if told.startswith("folds:") and told[6:].isdigit():
        return splits.folds(people, int(told[6:]), 0.2, seed), f"{told}, seed {seed}"
    parts = told.split("/")
    if len(parts) == 3 and all(part.replace(".", "", 1).isdigit() for part in parts):
        shares = [float(part) for part in parts]
        if shares[0] <= 0:
            raise UsageError(f"splits {told}: nobody would train")
        return splits.shared_out(people, shares, [seed]), f"{told}, seed {seed}"
    if not Path(told).is_file():
        raise UsageError(f"splits {told}: no such file; give one, shares such as 70/15/15, folds:5, or none")
    return splits.read_splits(told), told


def strata_of(scans: Sequence[LabelledScan], sources: Sequence[str | Path], column: str | None) -> dict[str, str]:
    """Stratum of each person, where a column is named."""
    return strata(scans, sources, column) if column else {}


def told_of(recipe: TrainRecipe) -> dict[str, Any]:
    """The recipe as plain values."""
    return asdict(recipe)
