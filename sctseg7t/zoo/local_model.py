"""A model that is named by its path: ``net.onnx`` with its entry in ``net.json`` beside it, or that entry alone."""

import json
import os
from dataclasses import replace
from pathlib import Path

from sctseg7t.errors import ModelError
from sctseg7t.zoo.cache import describe, file_digest, matches
from sctseg7t.zoo.manifest import check_tool_version, parse_model, read_json
from sctseg7t.zoo.spec import AnyPath, ModelSpec

SCHEMA_PATH = Path(__file__).with_name("models.schema.json")


def spec_from_onnx(path: AnyPath) -> ModelSpec:
    """Return the :class:`~sctseg7t.zoo.spec.ModelSpec` of a network given by its path.

    Parameters
    ----------
    path : path-like
        ``net.onnx``; ``net.json`` beside it holds one model entry in the format of
        ``models.json``.

    Raises
    ------
    ModelError
        A file is missing, the JSON breaks the schema (the message names the place),
        or the weights are not the ones that it describes.
    """
    path = Path(path)
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise ModelError(f"{path}: no such model file, or it may not be read")
    entry_path = path.with_suffix(".json")
    if not entry_path.is_file():
        raise ModelError(f"{path}: needs {entry_path.name} beside it, one entry in the format of models.json")
    spec = _read_entry(entry_path)
    if not matches(path, spec.files[0]):
        raise ModelError(
            f"{path}: not the file that {entry_path.name} describes "
            f"({describe(spec.files[0])}): export the model again, or correct the entry "
            f"(the file has {path.stat().st_size} bytes, sha256 {file_digest(path)})"
        )
    return check_tool_version(replace(_with_places(spec, path), local_path=path.resolve()))


def spec_from_entry(path: AnyPath) -> ModelSpec:
    """Return the :class:`~sctseg7t.zoo.spec.ModelSpec` of an entry given by its path.

    Its file is brought as the zoo's are, and is what the entry's hash says: from the mirror, the cache, the entry's
    addresses (``urls``; relative ones start at the entry's folder), or the entry's folder.

    Parameters
    ----------
    path : path-like
        ``net.json``: one model entry in the format of ``models.json``.

    Raises
    ------
    ModelError
        The file is missing, or breaks the schema (the message names the place).
    """
    path = Path(path)
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise ModelError(f"{path}: no such model entry, or it may not be read")
    return check_tool_version(_with_places(_read_entry(path), path))


def model_at(path: AnyPath) -> ModelSpec:
    """The model of a network with its entry beside it, or of an entry; see :func:`~sctseg7t.zoo.spec.is_path`."""
    return spec_from_onnx(path) if str(path).endswith(".onnx") else spec_from_entry(path)


def _with_places(spec: ModelSpec, path: Path) -> ModelSpec:
    """A model whose files may also lie beside its entry or network."""
    beside = (str(path.resolve().parent / file.name) for file in spec.files)
    return replace(
        spec, files=tuple(replace(file, urls=(*file.urls, place)) for file, place in zip(spec.files, beside))
    )


def _read_entry(path: Path) -> ModelSpec:
    """A model's entry from its own file."""
    raw = read_json(path, "model entry")
    problem = schema_problem(raw, "model")
    if problem:
        raise ModelError(f"{path}: {problem}")
    try:
        return parse_model(raw, path.resolve().parent)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error


def schema_problem(raw, part: str | None = None) -> str | None:
    """Return one line naming the first offending place of ``raw``, or None if it is sound.

    Parameters
    ----------
    raw : object
        Parsed JSON.
    part : str, optional
        A definition of the schema (``"model"``, ``"file"``...); default: a whole manifest.
    """
    import jsonschema
    from jsonschema.exceptions import best_match

    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    if part:
        schema = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": f"#/$defs/{part}"}
    validator = jsonschema.Draft202012Validator(schema)
    error = best_match(validator.iter_errors(raw))
    if error is None:
        return None
    return f"{error.json_path}: {error.message[:200]}"
