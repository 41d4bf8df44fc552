"""The zoo entry of a trained network: from which one it derives, what its training was."""

import copy
import hashlib
import json
import subprocess
from pathlib import Path

from sctseg7t.errors import ModelError
from sctseg7t.train import curves
from sctseg7t.train.network import count_parameters
from sctseg7t.version import __version__
from sctseg7t.zoo.manifest import load_manifest, parse_model

# What is told of a model by people who looked at it: of another model it says nothing.
_TOLD = ("citation", "upstream", "intended_use", "not_checked", "failures", "changelog", "limitations")


def template(manifest, recipe, version):
    """The entry to start from: the model's own, or for a model of the user's that of its task.

    Raises
    ------
    ModelError
        A manifest is named and has no entry of the model.
    """
    zoo = load_manifest(manifest)
    known = zoo.versions(recipe.model)
    if known:
        return copy.deepcopy(next((spec for spec in known if spec.version == version), known[-1]).raw)
    if manifest and recipe.task != "brain_lesion":
        raise ModelError(f"{manifest}: has no entry {recipe.model!r} to update; write one first")
    if recipe.task == "brain_lesion":
        return brain_entry(recipe)
    entry = copy.deepcopy(zoo.versions("cord_gm_sc" if recipe.task == "cord" else "cord_locator")[-1].raw)
    entry = {name: value for name, value in entry.items() if name not in _TOLD}
    entry["input"]["field_T"] = []
    return entry | {
        "id": recipe.model,
        "default": False,
        "description": f"Trained from the recipe {recipe.model}.",
        "licence": None,
        "limitations": ["Checked on no real scan yet.", "A research tool; not a medical device."],
    }


def brain_entry(recipe):
    """Entry of a brain lesion network that no manifest knows yet: its input, output and what is to be said of it."""
    from sctseg7t.train.loop import brain_channels

    channels = list(brain_channels(recipe))
    size = recipe.simulation.get("patches", {}).get("size", 64)
    return {
        "id": recipe.model,
        "version": "1.0.0",
        "default": False,
        "task": "brain_lesion",
        "organ": "brain",
        "bids_suffix": "FLAIR",
        "description": "MS lesions of the brain on FLAIR, 3D network on patches at 1 mm.",
        "licence": None,
        "files": [],
        "input": {
            "contrasts": ["FLAIR"],
            "field_T": [],
            "orientation": "RAS",
            "sampling": {"method": "patches", "overlap": 0.25},
            "axes": "xyz",
            "spacing_mm": [1, 1, 1],
            "size": [size] * 3,
            "channels": channels,
            "normalisation": {"name": "median", "parameters": {"scope": "mask", "slope": 3, "clip": [-3, 6]}},
            "interpolation": "linear",
        },
        "outputs": [
            {
                "name": "LESION",
                "channel": 0,
                "threshold": 0.5,
                "suffix": "_lesionseg",
                "meaning": "MS lesion, hyperintense on FLAIR",
            },
        ],
        "derived": [{"name": "LABELS", "labels_of": "LESION", "suffix": "_lesionlabels"}],
        "activation": "sigmoid",
        "postprocess": [
            {"op": "remove_small", "params": {"label": "LESION", "min_mm3": 3, "scope": "volume"}},
        ],
        "centring": {"policy": "none"},
        "limitations": ["Checked on no real scan yet.", "A research tool; not a medical device."],
    }


def newest(manifest, recipe):
    """Newest version that a manifest has of a recipe's model; 1.0.0 if it has none."""
    known = load_manifest(manifest).versions(recipe.model)
    return known[-1].version if known else "1.0.0"


def spec_in_training(recipe):
    """The :class:`ModelSpec` by which inference runs a network that is still training."""
    return parse_model(template(None, recipe, "0.0.0") | {"activation": "sigmoid"}, Path("."))


def training_record(run, recipe, network, difference):
    """What the entry says of the training.

    Parameters
    ----------
    run : Path
    recipe : TrainRecipe
    network : torch.nn.Module
    difference : float
        Largest difference of probability between torch and ONNX Runtime.
    """
    rows = curves.read(run / curves.SIMULATED)
    # Of equal losses the last one: its weights are those in model.pt.
    best = min(reversed(rows), key=lambda row: float(row["loss"]))
    record = {
        "data": _data(recipe),
        "n": recipe.batch * int(best["step"]),
        "seed": recipe.seed,
        "config_sha256": hashlib.sha256((run / "recipe.json").read_bytes()).hexdigest(),
        "parameters": count_parameters(network),
        "steps": int(best["step"]),
        "commit": _commit(),
        "tool_version": __version__,
        "onnx_parity": float(f"{difference:.1e}"),
        "validation": {k: float(v) for k, v in best.items() if k not in ("step", "seconds")},
    }
    return record | _sittings(run)


def _data(recipe):
    anatomy = f"anatomy from {', '.join(recipe.anatomy)}"
    real = recipe.simulation.get("real") if recipe.task == "brain_lesion" else None
    if not real:
        return f"simulated images only; {anatomy}"
    share = recipe.simulation.get("patches", {}).get("real_share", 0.5)
    return f"simulated images ({anatomy}) and, as {share:.0%} of the patches, real patients {', '.join(real)}"


def _sittings(run):
    """Precision and starting weights, from ``run.json``; nothing for a run without one."""
    try:
        told = json.loads((run / "run.json").read_text())
        found = {"precision": sorted({sitting["precision"] for sitting in told["sittings"]})}
        found["device"] = sorted({sitting["device_kind"] for sitting in told["sittings"]})
        found = {name: ", ".join(values) for name, values in found.items()}
        return found | ({"start": told["start"]["sha256"]} if told.get("start") else {})
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _commit():
    """Commit of the checkout that exports; None outside one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
