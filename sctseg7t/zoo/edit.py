"""Writing entries: what an exporter of weights calls to put a model into a manifest."""

import json
from datetime import date
from pathlib import Path

from sctseg7t.errors import ModelError
from sctseg7t.files import write_bytes
from sctseg7t.zoo.cache import file_digest
from sctseg7t.zoo.local_model import schema_problem
from sctseg7t.zoo.manifest import read_json
from sctseg7t.zoo.spec import AnyPath

_WIDTH = 100


def pin(path: AnyPath) -> dict:
    """Return ``{"name", "bytes", "sha256"}`` of a file, as an entry's ``files`` wants them."""
    path = Path(path)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def put_model(manifest_path: AnyPath, entry: dict) -> None:
    """Put one model entry into a manifest, in place of the same id and version if listed.

    Parameters
    ----------
    manifest_path : path-like
        Rewritten by way of a temporary file, through a symbolic link if it is one.
    entry : dict
        In the format of ``models.json``; where it is a default, the other versions
        of that model stop being so. ``updated`` becomes today.

    Raises
    ------
    ModelError
        The result would break the schema; the file is left as it was.
    """
    path = Path(manifest_path).resolve()
    raw = read_json(path, "manifest")
    models = raw["models"]
    for old in models:
        if entry.get("default") and old["id"] == entry["id"]:
            old["default"] = False
    labels = [(old["id"], old["version"]) for old in models] + [(entry["id"], entry["version"])]
    at = labels.index(labels[-1])
    models[at : at + 1] = [entry]
    raw["updated"] = date.today().isoformat()
    problem = schema_problem(raw)
    if problem:
        raise ModelError(f"{path}: the entry of {entry.get('id')} does not fit: {problem}")
    write_entry(path, raw)


def write_entry(path: AnyPath, value: dict) -> None:
    """Write JSON that a person can read: what fits on one line stays on one line."""
    write_bytes(Path(path), (_format(value, 0) + "\n").encode())


def _format(value, indent: int) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or (indent and indent + len(line) <= _WIDTH):
        return line
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{json.dumps(k)}: {_format(v, indent + 2)}" for k, v in value.items()]
    else:
        parts = [_format(v, indent + 2) for v in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(inner + p for p in parts) + f"\n{' ' * indent}{closing}"
