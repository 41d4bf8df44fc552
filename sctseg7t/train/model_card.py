"""The model card: what a user must know of a network before trusting it, written from its zoo entry.

After Mitchell et al., "Model Cards for Model Reporting", FAccT 2019. Needs no torch.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sctseg7t.files import write_bytes
from sctseg7t.report.html import page_environment
from sctseg7t.train.recipe import RECIPES, read_recipe
from sctseg7t.zoo.edit import put_model
from sctseg7t.zoo.manifest import load_manifest


def model_card(entry: dict[str, Any], folder: str | Path | None = None) -> str:
    """The model card of a manifest entry, as Markdown.

    Parameters
    ----------
    entry : dict
        In the format of ``models.json``.
    folder : path, optional
        Where the card will lie; pictures ``<weights>-failures*.png`` in it are shown.
    """
    training, first = entry.get("training") or {}, entry["files"][0]
    stem = Path(first["name"]).stem
    validation = {k: v for k, v in (training.get("validation") or {}).items() if k != "train_loss"}
    text = (
        page_environment("sctseg7t.train")
        .get_template("model_card.md.j2")
        .render(
            entry=entry,
            table=_table,
            command=_command(entry),
            inputs=_inputs(entry),
            outputs=_outputs(entry),
            training=_training(entry["id"], training),
            validation=[(name.replace("_", " "), value) for name, value in validation.items()],
            measured=_measured(entry),
            pictures=sorted(path.name for path in Path(folder).glob(f"{stem}-failures*.png")) if folder else [],
            files=[(f["name"], f.get("bytes"), f.get("sha256") or f.get("git_blob_sha1")) for f in entry["files"]],
            hash_name="SHA-256" if first.get("sha256") else "git blob SHA-1",
            citation=_citation(entry.get("citation") or {}),
        )
    )
    return text.rstrip("\n") + "\n"


def write_card(entry: dict[str, Any], weights: Path) -> Path:
    """Write the model card beside the weights; its path."""
    return write_bytes(weights.with_suffix(".md"), model_card(entry, weights.parent).encode())


def rewrite_card(manifest: str | Path, name: str) -> Path:
    """Write the card of a manifest's model again, after its entry or its pictures of failures changed; its path."""
    entry = load_manifest(manifest).model(name).raw
    return write_card(entry, Path(manifest).resolve().parent / "sctseg7t/weights" / entry["files"][0]["name"])


def record_evaluation(manifest: str | Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Put measured results into a model's entry and rewrite its card.

    Parameters
    ----------
    manifest : path
    name : str
        ``MODEL`` or ``MODEL@VERSION``.
    rows : list of dict
        As ``evaluation`` in the schema: dataset, role, structure, metric, n, mean, sd, units.
    """
    put_model(manifest, {**load_manifest(manifest).model(name).raw, "evaluation": rows})
    rewrite_card(manifest, name)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _command(entry: dict[str, Any]) -> str:
    """How to run a model; nothing for one that writes no file of its own."""
    if not any(output.get("suffix") for output in entry["outputs"]):
        return ""
    shipped = any(url.startswith(("package:", "https:")) for url in entry["files"][0].get("urls", ()))
    model = f"{entry['id']}@{entry['version']}" if shipped else entry["files"][0]["name"]
    scan = "flair.nii.gz" if "FLAIR" in entry["input"]["contrasts"] else "t2s.nii.gz"
    return f"sct7t_deepseg -i {scan} -m {model}"


def _inputs(entry: dict[str, Any]) -> list[tuple[str, str]]:
    given = entry["input"]
    spacing = " x ".join(f"{value:g}" for value in given["spacing_mm"])
    size = " x ".join(map(str, given["size"])) if given.get("size") else f"multiples of {given.get('size_multiple')}"
    normalisation = given["normalisation"]
    how = ", ".join(f"{k} {v}" for k, v in normalisation.get("parameters", {}).items())
    rows = [
        ("contrast", ", ".join(given["contrasts"])),
        (
            "field strength of the scans it was checked on",
            ", ".join(f"{value:g} T" for value in given.get("field_T", ())) or "none yet",
        ),
        ("spacing", f"{spacing} mm ({given['interpolation']} interpolation)"),
        ("size", f"{size} {'voxels' if len(given['spacing_mm']) == 3 else 'pixels'}"),
        ("normalisation", normalisation["name"] + (f" ({how})" if how else "")),
    ]
    centring = entry["centring"]
    return rows + ([("place", f"centred by {centring.get('model')}")] if centring["policy"] == "locator" else [])


def _outputs(entry: dict[str, Any]) -> list[tuple]:
    rows = []
    for output in entry["outputs"]:
        how = "keeps the slice's area" if output.get("binarise") == "area" else output.get("threshold")
        rows.append((output["name"], output["meaning"], how, output.get("suffix")))
    for part in entry.get("derived", ()):
        meaning = " minus ".join(part["minus"]) if "minus" in part else f"components of {part['labels_of']}, numbered"
        rows.append((part["name"], meaning, None, part["suffix"]))
    return rows


_NAMES = {
    "n": "images seen",
    "config_sha256": "SHA-256 of the recipe",
    "onnx_parity": "largest difference of ONNX Runtime from torch",
    "tool_version": "sctseg7t version",
    "start": "started from weights with SHA-256",
    "steps": "steps (those of the weights kept)",
}


def _training(name: str, told: dict[str, Any]) -> list[tuple[str, Any]]:
    rows = [(_NAMES.get(k, k.replace("_", " ")), _value(v)) for k, v in told.items() if k != "validation"]
    rows.append(("recipe", _recipe(name, told.get("config_sha256"))))
    if str(told.get("data", "")).startswith("simulated images only"):
        rows.append(("people's images in training", "none"))
    return rows


def _value(value: Any) -> Any:
    return f"`{json.dumps(value)}`" if isinstance(value, (dict, list)) else value


def _recipe(name: str, sha256: str | None) -> str:
    """Where the recipe is found: shipped and unchanged, or only by its hash."""
    path = RECIPES / f"{name}.json"
    if not path.is_file():
        return "the user's own (`recipe.json` of the run)"
    # A model that is trained in turns has a recipe for each; the entry tells of the last.
    for turn in [path, *sorted(RECIPES.glob(f"{name}_*.json"))]:
        whole = json.dumps(asdict(read_recipe(turn)), indent=2).encode()
        if hashlib.sha256(whole).hexdigest() == sha256:
            return f"`sctseg7t/train/recipes/{turn.name}`"
    return f"`sctseg7t/train/recipes/{name}.json` in an earlier or changed form"


def _measured(entry: dict[str, Any]) -> list[tuple[str, list[str], list[list]]]:
    """A titled table for each data set and role."""
    groups: dict[str, list[dict]] = {}
    for row in entry.get("evaluation", ()):
        groups.setdefault(f"{row['dataset']} ({row['role']})", []).append(row)
    tables = []
    for title, rows in groups.items():
        shown = [k for k in ("n", "mean", "sd", "median") if any(row.get(k) is not None for row in rows)]
        head = ["structure", "measure", *(name.replace("sd", "SD") for name in shown), "unit"]
        body = [
            [row["structure"], row["metric"], *map(row.get, shown), "" if row["units"] == "1" else row["units"]]
            for row in rows
        ]
        tables.append((title, head, body))
    return tables


def _citation(cited: dict[str, str]) -> str:
    address = f"https://doi.org/{cited['doi']}" if cited.get("doi") else None
    return " ".join(part for part in (cited.get("text"), address, cited.get("url")) if part)
