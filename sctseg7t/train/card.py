"""The model card: what a user must know of a network before trusting it, written from its zoo entry.

After Mitchell et al., "Model Cards for Model Reporting", FAccT 2019.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from sctseg7t.train.recipe import TrainRecipe

RECIPES = Path(__file__).parent / "recipes"


def card(entry, folder=None):
    """The model card of a manifest entry, as Markdown.

    Parameters
    ----------
    entry : dict
        In the format of ``models.json``.
    folder : path, optional
        Where the card will lie; pictures ``<weights>-failures*.png`` in it are shown.

    Returns
    -------
    str
    """
    parts = [
        (f"# {entry['id']} {entry['version']}", [entry.get("description", "")]),
        ("## Intended use", _use(entry)),
        ("## Input and output", _input(entry) + ["", *_outputs(entry)]),
        ("## Training", _training(entry)),
        ("## Measured on real scans", _measured(entry)),
        ("## Not checked", _listed(entry.get("not_checked")) or ["Nothing beyond the tables above was measured."]),
        ("## Limits", _listed(entry.get("limitations")) or ["- none recorded"]),
        ("## Where it fails", _failures(entry, folder)),
        ("## Files", _files(entry)),
        ("## Licence", [entry.get("licence") or "Not stated."]),
        ("## How to cite", _citation(entry)),
        ("## Changes", _listed(entry.get("changelog"))),
    ]
    return "\n".join("\n".join([title, "", *lines, ""]) for title, lines in parts if lines)


def table(head, rows):
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_cell(value) for value in line) + " |" for line in lines]


def _cell(value):
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _listed(texts):
    return [f"- {text}" for text in texts or ()]


def _use(entry):
    lines = [entry["intended_use"], ""] if entry.get("intended_use") else []
    if any(output.get("suffix") for output in entry["outputs"]):
        shipped = any(url.startswith(("package:", "https:")) for url in entry["files"][0].get("urls", ()))
        model = f"{entry['id']}@{entry['version']}" if shipped else entry["files"][0]["name"]
        scan = "flair.nii.gz" if "FLAIR" in entry["input"]["contrasts"] else "t2s.nii.gz"
        lines += ["```bash", f"sct7t_deepseg -i {scan} -m {model}", "```", ""]
    return [*lines, "Research use only; not a medical device."]


def _input(entry):
    given = entry["input"]
    spacing = " x ".join(f"{value:g}" for value in given["spacing_mm"])
    size = " x ".join(map(str, given["size"])) if given.get("size") else f"multiples of {given.get('size_multiple')}"
    normalisation = given["normalisation"]
    how = ", ".join(f"{k} {v}" for k, v in normalisation.get("parameters", {}).items())
    rows = [
        ("contrast", ", ".join(given["contrasts"])),
        ("field strength of the scans it was checked on", _fields(given)),
        ("spacing", f"{spacing} mm ({given['interpolation']} interpolation)"),
        ("size", f"{size} {'voxels' if len(given['spacing_mm']) == 3 else 'pixels'}"),
        ("normalisation", normalisation["name"] + (f" ({how})" if how else "")),
        ("place", {"locator": f"centred by {entry['centring'].get('model')}"}.get(entry["centring"]["policy"])),
    ]
    return table(("input", "value"), [row for row in rows if row[1]])


def _fields(given):
    return ", ".join(f"{value:g} T" for value in given.get("field_T", ())) or "none yet"


def _outputs(entry):
    rows = [
        (
            o["name"],
            o["meaning"],
            "keeps the slice's area" if o.get("binarise") == "area" else o["threshold"],
            o.get("suffix"),
        )
        for o in entry["outputs"]
    ]
    for part in entry.get("derived", ()):
        meaning = " minus ".join(part["minus"]) if "minus" in part else f"components of {part['labels_of']}, numbered"
        rows.append((part["name"], meaning, None, part["suffix"]))
    return table(("output", "meaning", "mask from fractions", "file suffix"), rows)


_NAMES = {
    "n": "images seen",
    "config_sha256": "SHA-256 of the recipe",
    "onnx_parity": "largest difference of ONNX Runtime from torch",
    "tool_version": "sctseg7t version",
    "start": "started from weights with SHA-256",
    "steps": "steps (those of the weights kept)",
}


def _training(entry):
    told = entry.get("training")
    if not told:
        return ["Not known."]
    simulated = {k: v for k, v in (told.get("validation") or {}).items() if k != "train_loss"}
    rows = [(_NAMES.get(k, k.replace("_", " ")), _value(v)) for k, v in told.items() if k != "validation"]
    rows.append(("recipe", _recipe(entry["id"], told.get("config_sha256"))))
    if str(told.get("data", "")).startswith("simulated images only"):
        rows.append(("people's images in training", "none"))
    lines = table(("training", "value"), rows)
    if simulated:
        lines += ["", "On simulated images held out of training (the weights were chosen by their loss):", ""]
        lines += table(("measure", "value"), [(k.replace("_", " "), v) for k, v in simulated.items()])
    return lines


def _value(value):
    return f"`{json.dumps(value)}`" if isinstance(value, (dict, list)) else value


def _recipe(name, sha256):
    """Where the recipe is found: shipped and unchanged, or only by its hash."""
    path = RECIPES / f"{name}.json"
    if not path.is_file():
        return "the user's own (`recipe.json` of the run)"
    # A model that is trained in turns has a recipe for each; the entry tells of the last.
    for turn in [path, *sorted(RECIPES.glob(f"{name}_*.json"))]:
        whole = json.dumps(asdict(TrainRecipe.read(turn)), indent=2).encode()
        if hashlib.sha256(whole).hexdigest() == sha256:
            return f"`sctseg7t/train/recipes/{turn.name}`"
    return f"`sctseg7t/train/recipes/{name}.json` in an earlier or changed form"


def _measured(entry):
    """A table for each data set and role."""
    groups = {}
    for row in entry.get("evaluation", ()):
        groups.setdefault((row["dataset"], row["role"]), []).append(row)
    if not groups:
        return ["Nothing recorded."]
    lines = []
    for (dataset, role), rows in groups.items():
        shown = [k for k in ("n", "mean", "sd", "median") if any(row.get(k) is not None for row in rows)]
        head = ["structure", "measure", *(name.replace("sd", "SD") for name in shown), "unit"]
        body = []
        for row in rows:
            unit = "" if row["units"] in ("1", "") else row["units"]
            body.append([row["structure"], row["metric"], *(row.get(k) for k in shown), unit])
        lines += [f"### {dataset} ({role})", "", *table(head, body), ""]
    return lines[:-1]


def _failures(entry, folder):
    lines = _listed(entry.get("failures"))
    stem = Path(entry["files"][0]["name"]).stem
    pictures = sorted(Path(folder).glob(f"{stem}-failures*.png")) if folder else []
    for path in pictures:
        lines += ["", f"![Slices on which {entry['id']} does worst]({path.name.replace(' ', '%20')})"]
    return lines or ["Not collected yet; see Limits."]


def _files(entry):
    rows = [(f["name"], f["bytes"], f.get("sha256") or f.get("git_blob_sha1")) for f in entry["files"]]
    return table(("file", "bytes", "SHA-256" if entry["files"][0].get("sha256") else "git blob SHA-1"), rows)


def _citation(entry):
    cited = entry.get("citation")
    if not cited:
        return [
            f"Name the model with its version ({entry['id']} {entry['version']}), and cite sctseg7t (CITATION.cff)."
        ]
    links = [f"https://doi.org/{cited['doi']}" if cited.get("doi") else None, cited.get("url")]
    return [" ".join([cited["text"], *(link for link in links if link)])]
