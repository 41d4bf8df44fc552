"""From a training run to a model of the zoo: ONNX, parity check, manifest entry, model card."""

import copy
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import torch

from sctseg7t.errors import InputError, ModelError
from sctseg7t.train.loop import TrainRecipe, make_network
from sctseg7t.train.network import count_parameters
from sctseg7t.zoo.edit import pin, put_model, write_entry
from sctseg7t.zoo.manifest import load_manifest

OPSET = 17
# Largest difference of a probability between torch and ONNX Runtime that is still rounding.
PARITY = 1e-4


class _Probabilities(torch.nn.Module):
    """The network as it is shipped: probabilities out."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return torch.sigmoid(self.network(image))


def find_recipe(name):
    """Path of a recipe: a file, or one of those shipped (InputError if neither)."""
    path = Path(name)
    shipped = Path(__file__).parent / "recipes" / f"{name}.json"
    for candidate in (path, shipped):
        if candidate.is_file():
            return candidate
    names = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.json")))
    raise InputError(f"{name}: no such recipe file; the shipped recipes are {names}")


def load_trained(run):
    """Recipe and network (evaluation mode, best weights) of a run folder."""
    run = Path(run)
    if not (run / "model.pt").is_file():
        raise InputError(f"{run}: holds no trained weights (model.pt); run sct7t_train without -export first")
    recipe = TrainRecipe.read(run / "recipe.json")
    network = make_network(recipe)
    network.load_state_dict(torch.load(run / "model.pt", map_location="cpu", weights_only=True))
    return recipe, network.eval()


def write_onnx(network, path, size):
    """Write a network with free batch size (and free image size for ``size`` None)."""
    axes = {"image": {0: "n"}, "probability": {0: "n"}}
    if size is None:
        for name in axes:
            axes[name] |= {2: "height", 3: "width"}
    example = torch.zeros(2, 1, *(size or (64, 96)))
    # The tracing exporter folds batch normalisation into the convolutions before it.
    torch.onnx.export(
        _Probabilities(network).eval(), (example,), str(path), input_names=["image"], output_names=["probability"],
        dynamic_axes=axes, opset_version=OPSET, dynamo=False,
    )  # fmt: skip


def parity(network, path, size):
    """Largest difference of probability between torch and ONNX Runtime on seeded noise."""
    from sctseg7t.runtime import open_session

    image = np.random.default_rng(0).standard_normal((3, 1, *(size or (96, 64)))).astype(np.float32)
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(image))).numpy()
    return float(np.abs(open_session(path, "cpu").run(image) - expected).max())


def probe(path, shape):
    """What a network makes of a known image: mean and maximum of each output.

    The image ("ripples") is cos(r / 9) cos(c / 13) at row r, column c: any site can make it and
    compare with ``test_output`` of the model's entry.
    """
    from sctseg7t.runtime import open_session

    rows, columns = np.ogrid[: shape[2], : shape[3]]
    image = np.broadcast_to(np.cos(rows / 9) * np.cos(columns / 13), shape).astype(np.float32)
    maps = open_session(path, "cpu").run(image)[0]
    return {"mean": [round(float(m.mean()), 5) for m in maps], "max": [round(float(m.max()), 5) for m in maps]}


def export(run, *, manifest=None, version="1.0.0", weights_folder=None):
    """Export a run's best weights.

    Parameters
    ----------
    run : path
        Folder of a training run.
    manifest : path, optional
        ``models.json`` whose entry of this model and version is updated. Without it the ONNX file goes
        into the run folder, with its entry beside it: ``sct7t_deepseg -m RUN/NAME.onnx`` runs it at once.
    version : str
    weights_folder : path, optional
        Where the ONNX file goes; default ``sctseg7t/weights`` beside the manifest.

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    InputError
        The folder holds no finished weights.
    ModelError
        ONNX Runtime and torch disagree, or the manifest has no entry to update.
    """
    run = Path(run)
    recipe, network = load_trained(run)
    # Before anything is written: the entry that says what the network's input and outputs are.
    template = _template(manifest, recipe, version)
    folder = (
        Path(weights_folder)
        if weights_folder
        else Path(manifest).resolve().parent / "sctseg7t/weights"
        if manifest
        else run
    )
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{recipe.model}-{version}.onnx"
    difference = _write_checked(network, final, (128, 128) if recipe.task == "cord" else None)
    training = _training_record(run, recipe, network, difference)
    entry = _entry(template, recipe, version, final, training, packaged=manifest is not None)
    if manifest:
        put_model(manifest, entry)
    else:
        write_entry(final.with_suffix(".json"), entry)
    final.with_suffix(".md").write_text(card(entry))
    return final


def _write_checked(network, final, size):
    """Write the ONNX file if ONNX Runtime agrees with torch; the largest difference."""
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        write_onnx(network, temporary, size)
        difference = parity(network, temporary, size)
        if not difference < PARITY:
            raise ModelError(f"{final}: ONNX Runtime differs from torch by {difference:.2g}; not written")
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def _training_record(run, recipe, network, difference):
    curves = (run / "curves.csv").read_text().splitlines()
    names = curves[0].split(",")
    rows = [dict(zip(names, line.split(","))) for line in curves[1:]]
    # Of equal losses the last one: its weights are those in model.pt.
    best = min(reversed(rows), key=lambda row: float(row["loss"]))
    text = (run / "recipe.json").read_bytes()
    return {
        "data": f"simulated images only; anatomy from {', '.join(recipe.anatomy)}",
        "n": recipe.batch * int(best["step"]),
        "seed": recipe.seed,
        "config_sha256": hashlib.sha256(text).hexdigest(),
        "parameters": count_parameters(network),
        "steps": int(best["step"]),
        "commit": _commit(),
        "onnx_parity": float(f"{difference:.1e}"),
        "validation": {k: float(v) for k, v in best.items() if k not in ("step", "seconds")},
    }


def _commit():
    """Commit of the checkout that exports; None outside one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _template(manifest, recipe, version):
    """The entry to start from: the model's own, or for a model of the user's that of its task."""
    zoo = load_manifest(manifest)
    known = zoo.versions(recipe.model)
    if not known and manifest:
        raise ModelError(f"{manifest}: has no entry {recipe.model!r} to update; write one first")
    if not known:
        entry = copy.deepcopy(zoo.versions("cord_gm_sc" if recipe.task == "cord" else "cord_locator")[-1].raw)
        return entry | {"id": recipe.model, "default": False, "description": f"Trained from the recipe {recipe.model}."}
    return copy.deepcopy(next((spec for spec in known if spec.version == version), known[-1]).raw)


def _entry(template, recipe, version, path, training, packaged):
    pinned = pin(path)
    if pinned["sha256"] not in [f.get("sha256") for f in template["files"]]:
        # What other weights scored says nothing of these.
        template |= {"evaluation": []}
    shape = [1, 1, 128, 128] if recipe.task == "cord" else [1, 1, 64, 96]
    template |= {"test_input": {"name": "ripples", "shape": shape}}
    template |= {"test_output": {**probe(path, shape), "tolerance": 1e-3}}
    return template | {
        "version": version,
        "activation": "sigmoid",
        "training": training,
        "files": [
            {**pinned, "path": pinned["name"], "urls": [f"package:weights/{path.name}"] if packaged else [path.name],
             "format": "onnx", "opset": OPSET, "precision": "float32"}
        ],
    }  # fmt: skip


def card(entry):
    """The model card of a manifest entry (Mitchell et al., FAccT 2019, in short), as Markdown."""
    lines = [f"# {entry['id']} {entry['version']}", "", entry.get("description", ""), "", "## Training", ""]
    for name, value in entry["training"].items():
        lines.append(f"- {name}: {json.dumps(value) if isinstance(value, dict) else value}")
    lines += ["- patients' images in training: none", f"- recipe: `sctseg7t/train/recipes/{entry['id']}.json`"]
    lines += ["", "## Measured on real scans", ""]
    for row in entry.get("evaluation", []):
        n = f", n = {row['n']}" if row.get("n") else ""
        lines.append(
            f"- {row['dataset']} ({row['role']}{n}): {row['structure']} {row['metric']} {row['mean']}"
            + (f" (SD {row['sd']})" if row.get("sd") is not None else "")
            + f" {row['units']}"
        )
    if not entry.get("evaluation"):
        lines.append("- nothing recorded")
    lines += ["", "## Limits", "", *(f"- {text}" for text in entry.get("limitations", [])), ""]
    return "\n".join(lines)


def record_evaluation(manifest, name, rows):
    """Put measured results into a model's entry and rewrite its card.

    Parameters
    ----------
    manifest : path
    name : str
        ``MODEL`` or ``MODEL@VERSION``.
    rows : list of dict
        As ``evaluation`` in the schema: dataset, role, structure, metric, n, mean, sd, units.
    """
    entry = {**load_manifest(manifest).model(name).raw, "evaluation": rows}
    put_model(manifest, entry)
    path = Path(manifest).resolve().parent / "sctseg7t/weights" / entry["files"][0]["name"]
    path.with_suffix(".md").write_text(card(entry))
