"""The model card: what a user must know of a network before trusting it, written from its zoo entry.

After Mitchell et al., "Model Cards for Model Reporting", FAccT 2019. Needs no torch.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sctseg7t.files import write_bytes
from sctseg7t.report.html import page_environment
from sctseg7t.train.recipe import RECIPES, read_recipe
from sctseg7t.zoo.edit import put_model
from sctseg7t.zoo.manifest import load_manifest

# What the training record's keys are called; others are shown as they are.
_NAMES = {
    "n": "images seen",
    "config_sha256": "SHA-256 of the recipe",
    "onnx_parity": "largest difference of ONNX Runtime from torch",
    "tool_version": "sctseg7t version",
    "start": "started from weights with SHA-256",
    "blended_with": "averaged, weight by weight, with weights with SHA-256, and their shares",
    "shifted_logits": "added to the logits of an output, to calibrate its area",
    "splits_sha256": "SHA-256 of who is in which part of the split",
    "files_sha256": "SHA-256 of images and masks",
    "splits": "splits from",
    "steps": "steps (those of the weights kept)",
}


def model_card(entry: dict[str, Any], folder: str | Path | None = None) -> str:
    """The model card of a manifest entry, as Markdown.

    Parameters
    ----------
    entry : dict
        In the format of ``models.json``.
    folder : path, optional
        Where the card will lie; pictures ``<weights>-failures*.png`` in it are shown.
    """
    environment = page_environment("sctseg7t.train")
    environment.filters |= {"cell": _cell, "number": lambda value, unit="": f"{value:g} {unit}".rstrip()}
    measured: dict[str, list[dict]] = {}
    for row in entry.get("evaluation", ()):
        measured.setdefault(f"{row['dataset']} ({row['role']})", []).append(row)
    told = entry.get("training")
    pictures = Path(folder).glob(f"{Path(entry['files'][0]['name']).stem}-failures*.png") if folder else ()
    text = environment.get_template("model_card.md.j2").render(
        entry=entry,
        command=_command(entry),
        told=told,
        names=_NAMES,
        recipe=_recipe(entry["id"], told.get("config_sha256")) if told else None,
        measured=measured,
        pictures=sorted(path.name for path in pictures),
    )
    return text.rstrip("\n") + "\n"


def write_card(entry: dict[str, Any], folder: Path) -> Path:
    """Write the model card into the folder of the weights, beside them; its path."""
    path = folder / Path(entry["files"][0]["name"]).with_suffix(".md")
    return write_bytes(path, model_card(entry, folder).encode())


def record_evaluation(manifest: str | Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Put measured results into a model's entry and write its card again; the path of the card.

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
    return write_card(entry, Path(manifest).resolve().parent / "sctseg7t/weights")


def _cell(value: Any) -> str:
    """A value in a cell of a Markdown table."""
    text = f"`{json.dumps(value)}`" if isinstance(value, (dict, list)) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _command(entry: dict[str, Any]) -> str:
    """How to run a model; nothing for one that writes no file of its own."""
    if not any(output.get("suffix") for output in entry["outputs"]):
        return ""
    shipped = any(url.startswith(("package:", "https:")) for url in entry["files"][0].get("urls", ()))
    model = f"{entry['id']}@{entry['version']}" if shipped else entry["files"][0]["name"]
    scan = "flair.nii.gz" if "FLAIR" in entry["input"]["contrasts"] else "t2s.nii.gz"
    others = "".join(f" -{role} {role}.nii.gz" for role in entry["input"].get("images", ("scan",))[1:])
    return f"sct7t_deepseg -i {scan}{others} -m {model}"


def _recipe(name: str, sha256: str | None) -> str:
    """Where the recipe is found: shipped and unchanged, or only by its hash."""
    path = RECIPES / f"{name}.json"
    if not path.is_file():
        return "the user's own (`recipe.json` of the run)"
    # A model that is trained in turns has a recipe for each; the entry tells of the last.
    for turn in [path, *sorted(RECIPES.glob(f"{name}_*.json"))]:
        whole = read_recipe(turn).told().encode()
        if hashlib.sha256(whole).hexdigest() == sha256:
            return f"`sctseg7t/train/recipes/{turn.name}`"
    return f"`sctseg7t/train/recipes/{name}.json` in an earlier or changed form"
