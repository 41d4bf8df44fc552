"""The zoo entry of a trained network: from which one it derives, and what its training was."""

import copy
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

from sctseg7t.train import curves
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.run_folder import RECIPE, SITTINGS
from sctseg7t.train.scans.splits import PARTS
from sctseg7t.train.task import InputShape, task_of
from sctseg7t.version import __version__
from sctseg7t.zoo.cache import file_digest
from sctseg7t.zoo.edit import pin
from sctseg7t.zoo.manifest import load_manifest, parse_model
from sctseg7t.zoo.self_test import known_image, summary
from sctseg7t.zoo.spec import ModelSpec

OPSET = 17


def starting_entry(manifest: str | Path | None, recipe: TrainRecipe, version: str | None = None) -> dict[str, Any]:
    """The entry to start from: the model's own (that version's, or the newest), or that of its task."""
    known = load_manifest(manifest).versions(recipe.model)
    # A recipe for labelled scans has the entry itself.
    if not known or recipe.entry:
        return task_of(recipe).entry(recipe) | ({"version": version} if version else {})
    entry = copy.deepcopy(next((spec for spec in known if spec.version == version), known[-1]).raw)
    return entry | {"version": version or entry["version"]}


def spec_in_training(recipe: TrainRecipe) -> ModelSpec:
    """The :class:`ModelSpec` by which inference runs a network that is still training."""
    return parse_model(starting_entry(None, recipe) | {"activation": "sigmoid"}, Path("."))


def finished_entry(
    source: dict[str, Any], onnx: Path, shape: InputShape, training: dict[str, Any], packaged: bool
) -> dict[str, Any]:
    """An entry with the file of its weights, what they make of a known image, and how they were trained.

    Parameters
    ----------
    source : dict
        From :func:`starting_entry`.
    onnx : Path
    shape : InputShape
    training : dict
        From :func:`training_record`.
    packaged : bool
        Whether the file ships inside the installation, else it lies beside its entry.
    """
    from sctseg7t.runtime import open_session

    pinned = pin(onnx)
    if pinned["sha256"] not in [f.get("sha256") for f in source["files"]]:
        # What other weights scored says nothing of these.
        source = source | {"evaluation": []}
    test_input = {"name": "ripples", "shape": [1, shape.channels, *shape.size]}
    maps = open_session(onnx, "cpu").run(known_image(test_input))[0]
    return source | {
        "test_input": test_input,
        "test_output": {**summary(maps), "tolerance": 1e-3},
        "activation": "sigmoid",
        "training": training,
        "files": [
            {
                **pinned,
                "path": pinned["name"],
                "urls": [f"package:weights/{onnx.name}"] if packaged else [onnx.name],
                "format": "onnx",
                "opset": OPSET,
                "precision": "float32",
            }
        ],
    }


def training_record(run: Path, recipe: TrainRecipe, parameters: int, difference: float) -> dict[str, Any]:
    """What the entry says of the training.

    Parameters
    ----------
    run : Path
    recipe : TrainRecipe
    parameters : int
        Of the network.
    difference : float
        Largest difference of probability between torch and ONNX Runtime.
    """
    told = json.loads((run / SITTINGS).read_text())
    scans = told.get("scans", {})
    rows = curves.read(run / curves.SIMULATED)
    # Where nobody validates the last weights are kept.
    best = curves.best(rows) if not scans or scans["validation"]["people"] else rows.to_dict("records")[-1]
    record = {
        "data": task_of(recipe).training_data(recipe, scans),
        "n": recipe.batch * best["step"],
        "seed": recipe.seed,
        "config_sha256": file_digest(run / RECIPE),
        "parameters": parameters,
        "network": recipe.network,
        "steps": best["step"],
        "commit": _commit(),
        "tool_version": __version__,
        "onnx_parity": float(f"{difference:.1e}"),
        "validation": {name: float(value) for name, value in best.items() if name not in ("step", "seconds")},
    }
    for name, key in (("precision", "precision"), ("device", "device_kind")):
        record[name] = ", ".join(sorted({sitting[key] for sitting in told["sittings"]}))
    if scans:
        record |= {"data_sources": ", ".join(scans["sources"]), "strategy": recipe.strategy or "all layers"}
        record |= {
            "augmentation": recipe.augmentation,
            "splits": Path(scans["splits_from"]).name,
            "split": scans["split"],
        }
        record |= {"splits_sha256": scans["splits_sha256"], "files_sha256": scans["files_sha256"]}
        record |= {f"{part}_{what}": scans[part][what] for part in PARTS for what in ("people", "scans")}
    return record | ({"start": told["start"]["sha256"]} if told["start"] else {})


def _commit() -> str | None:
    """Commit of the checkout that exports; None outside one."""
    status, text = subprocess.getstatusoutput(f"git -C {shlex.quote(str(Path(__file__).parent))} rev-parse HEAD")
    return text if status == 0 else None
