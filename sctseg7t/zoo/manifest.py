"""The zoo manifest: what models and data sets exist, and what each step needs of them.

``models.json`` is the one source of truth. An entry of it becomes a
:class:`~sctseg7t.zoo.spec.ModelSpec`; nothing about a model is written in code. Reading it needs
the standard library only; the full schema is ``models.schema.json`` beside this
file and is checked where an entry was not made by this project
(:func:`sctseg7t.zoo.sidecar.spec_from_onnx`) and in the tests.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sctseg7t.errors import ModelError
from sctseg7t.zoo.spec import (
    Architecture,
    DatasetSpec,
    DerivedSpec,
    FileSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Sampling,
)

PACKAGE_DIR = Path(__file__).resolve().parents[1]
SCHEMA_VERSION = 1
_HEX_LENGTH = {"sha256": 64, "git_blob_sha1": 40, "commit": 40}


@dataclass(frozen=True)
class Manifest:
    """The models, tasks and data sets that one ``models.json`` lists."""

    path: Path
    updated: str
    models: tuple[ModelSpec, ...]
    datasets: tuple[DatasetSpec, ...]
    task_entries: dict = field(repr=False)

    def model(self, name):
        """Return the spec of ``"id"`` (its default version) or ``"id@version"``.

        Raises
        ------
        ModelError
            Unknown name or version, or a model that needs a newer sctseg7t.
        """
        wanted, _, version = name.partition("@")
        versions = [spec for spec in self.models if spec.id == wanted]
        if not versions:
            known = ", ".join(sorted({spec.id for spec in self.models}))
            raise ModelError(f"no model is called '{wanted}'; the models are: {known}")
        if version:
            found = [spec for spec in versions if spec.version == version]
            if not found:
                known = ", ".join(spec.version for spec in versions)
                raise ModelError(f"{wanted} has no version {version}; its versions are: {known}")
        else:
            found = [spec for spec in versions if spec.default and not spec.deprecated]
            if not found:
                known = ", ".join(spec.label for spec in versions)
                raise ModelError(f"every version of {wanted} is deprecated; ask for one by name: {known}")
        return check_tool_version(found[0])

    def versions(self, model_id):
        """Return every version of a model, as listed."""
        return tuple(spec for spec in self.models if spec.id == model_id)

    def default_for_task(self, task):
        """Return the model that ``task`` uses unless told otherwise (ModelError if unknown)."""
        if task not in self.task_entries:
            raise ModelError(f"no task is called '{task}'; the tasks are: {', '.join(self.task_entries)}")
        return self.model(self.task_entries[task]["default"])

    def tasks(self):
        """Return ``{task: {"description", "default", "outputs", "models"}}``, models by id."""
        return {
            task: {
                "description": entry["description"],
                "default": entry["default"],
                "outputs": tuple(entry.get("outputs", ())),
                "models": tuple(dict.fromkeys(s.id for s in self.models if self._serves(s, task))),
            }
            for task, entry in self.task_entries.items()
        }

    def _serves(self, spec, task):
        """Whether a model was made for a task, or returns all that the task asks for.

        One made for no job of a user's (a locator) serves no other task.
        """
        for_users = self.task_entries.get(spec.task, {}).get("outputs", ())
        wanted = set(self.task_entries[task].get("outputs", ()))
        given = {part.name for part in (*spec.outputs, *spec.derived)}
        return spec.task == task or (bool(for_users) and bool(wanted) and wanted <= given)

    def dataset(self, name):
        """Return a data set by name (ModelError listing the names if unknown)."""
        for spec in self.datasets:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.datasets)
        raise ModelError(f"no data set is called '{name}'; the data sets are: {known}")


def load_manifest(path=None):
    """Read a manifest.

    Parameters
    ----------
    path : path-like, optional
        Default: the file named by ``SCT7T_MANIFEST``, else the one that ships
        with the package.

    Raises
    ------
    ModelError
        The file is missing, is not JSON, or lacks a field.
    """
    path = Path(path or os.environ.get("SCT7T_MANIFEST") or PACKAGE_DIR / "models.json")
    raw = read_json(path, "manifest")
    try:
        return _parse_manifest(raw, path)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{path}: not a usable manifest: {reason}") from error


def read_json(path, what):
    """Return the parsed JSON of ``path``; a ModelError naming ``what`` otherwise."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot read the {what}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: the {what} is not valid JSON: {error}") from error


def parse_model(raw, folder):
    """Return the :class:`ModelSpec` of an entry; relative URLs in it start at ``folder``."""
    return ModelSpec(
        id=raw["id"],
        version=raw["version"],
        task=raw["task"],
        description=raw["description"],
        default=raw.get("default", False),
        deprecated=raw.get("deprecated", False),
        min_tool_version=raw.get("min_tool_version", "0"),
        licence=raw.get("licence"),
        citation=raw.get("citation"),
        files=tuple(parse_file(entry, folder) for entry in raw["files"]),
        input=_parse_input(raw["input"]),
        outputs=tuple(_parse_output(entry) for entry in raw["outputs"]),
        derived=tuple(
            DerivedSpec(
                entry["name"],
                entry["suffix"],
                minus=tuple(entry["minus"]) if "minus" in entry else None,
                labels_of=entry.get("labels_of"),
            )
            for entry in raw.get("derived", ())
        ),
        activation=raw["activation"],
        postprocess=tuple(
            {"op": step["op"], "params": dict(step.get("params", {}))} for step in raw.get("postprocess", ())
        ),
        centring=dict(raw["centring"]),
        test_time=dict(raw.get("test_time", {})),
        training=raw.get("training"),
        evaluation=tuple(raw.get("evaluation", ())),
        limitations=tuple(raw.get("limitations", ())),
        test_input=raw.get("test_input"),
        test_output=raw.get("test_output"),
        raw=raw,
    )


def parse_file(raw, folder):
    """Return the :class:`FileSpec` of one entry.

    Raises
    ------
    ValueError
        The path leaves its folder, or the hash is not exactly one well-formed digest:
        both become local paths, so neither may be anything else. A commit that its URLs do not name.
    """
    path = raw.get("path", raw["name"])
    if not _is_plain_relative(path) or not _is_plain_relative(raw["name"]) or "/" in raw["name"]:
        raise ValueError(f"'{path}' is not a relative path inside its folder")
    given = {name: raw[name] for name in _HEX_LENGTH if raw.get(name)}
    if len(given) != 1:
        raise ValueError(f"{raw['name']}: give exactly one of sha256, git_blob_sha1, commit")
    ((algorithm, digest),) = given.items()
    if not re.fullmatch(rf"[0-9a-f]{{{_HEX_LENGTH[algorithm]}}}", digest):
        raise ValueError(f"{raw['name']}: '{digest}' is not a {algorithm} in lower-case hex")
    if algorithm == "commit" and not (raw.get("urls") and all(digest in url.split("/") for url in raw["urls"])):
        raise ValueError(f"{raw['name']}: without a hash, every address must name the commit {digest}")
    return FileSpec(
        name=raw["name"],
        path=path,
        bytes=raw.get("bytes"),
        sha256=raw.get("sha256"),
        git_blob_sha1=raw.get("git_blob_sha1"),
        urls=tuple(_absolute_url(url, folder) for url in raw.get("urls", ())),
        format=raw.get("format"),
        opset=raw.get("opset"),
        precision=raw.get("precision"),
        commit=raw.get("commit"),
        architecture=_parse_architecture(raw.get("architecture")),
        lambdas=tuple((step["layer"], float(step["divide_by"])) for step in raw.get("lambdas", ())),
    )


def parse_version(text):
    """Return ``"1.2.3rc1"`` as ``(1, 2, 3)``: the numbers decide, suffixes do not."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])


def check_tool_version(spec):
    """Return ``spec``; ModelError where it needs a newer sctseg7t than this one."""
    from sctseg7t.version import __version__

    if parse_version(spec.min_tool_version) > parse_version(__version__):
        raise ModelError(
            f"{spec.label} needs sctseg7t {spec.min_tool_version} or newer and this is "
            f"{__version__}: update sctseg7t, or ask for another version of {spec.id}"
        )
    return spec


def _parse_manifest(raw, path):
    if raw["schema_version"] > SCHEMA_VERSION:
        raise ModelError(
            f"{path}: manifest schema {raw['schema_version']} is newer than this sctseg7t "
            f"understands ({SCHEMA_VERSION}); update sctseg7t"
        )
    folder = path.resolve().parent
    manifest = Manifest(
        path=path,
        updated=raw["updated"],
        models=tuple(parse_model(entry, folder) for entry in raw["models"]),
        datasets=tuple(_parse_dataset(entry, folder) for entry in raw.get("datasets", ())),
        task_entries=raw["tasks"],
    )
    _check_unique(manifest)
    return manifest


def _check_unique(manifest):
    labels = [spec.label for spec in manifest.models]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{label} is listed twice")
    for model_id in {spec.id for spec in manifest.models}:
        if sum(spec.default for spec in manifest.versions(model_id)) > 1:
            raise ValueError(f"{model_id} has two default versions")


def _parse_dataset(raw, folder):
    return DatasetSpec(
        name=raw["name"],
        description=raw["description"],
        licence=raw["licence"],
        citation=raw.get("citation"),
        repository=raw["repository"],
        commit=raw["commit"],
        files=tuple(parse_file(entry, folder) for entry in raw["files"]),
        raw=raw,
    )


def _parse_architecture(raw):
    if raw is None:
        return None
    return Architecture(raw["name"], tuple(sorted(raw.get("parameters", {}).items())))


def _parse_input(raw):
    spacing = raw["spacing_mm"]
    size = raw.get("size")
    return InputSpec(
        spacing_mm=tuple(float(value) for value in spacing),
        size=None if size is None else tuple(int(value) for value in size),
        size_multiple=raw.get("size_multiple", 1),
        axes=raw.get("axes", "xyz"[: len(spacing)]),
        orientation=raw.get("orientation", "RAS"),
        channels=tuple(raw.get("channels", ("any",))),
        contrasts=tuple(raw["contrasts"]),
        field_T=tuple(raw.get("field_T", ())),
        dtype=raw.get("dtype", "float32"),
        normalisation={"parameters": {}, **raw["normalisation"]},
        interpolation=raw["interpolation"],
        sampling=Sampling(**raw.get("sampling", {})),
    )


def _parse_output(raw):
    return OutputSpec(
        name=raw["name"],
        channel=raw["channel"],
        threshold=raw.get("threshold"),
        meaning=raw["meaning"],
        suffix=raw.get("suffix"),
        sigma_mm=raw.get("sigma_mm"),
        binarise=raw.get("binarise", "threshold"),
        map_threshold=raw.get("map_threshold"),
    )


def _is_plain_relative(path):
    parts = PurePosixPath(path).parts
    plain = not re.search(r'[\\:*?"<>|\x00-\x1f]', path)
    return bool(parts) and plain and not path.startswith("/") and ".." not in parts


def _absolute_url(url, folder):
    if url.startswith("package:"):
        if not _is_plain_relative(url.removeprefix("package:")):
            raise ValueError(f"'{url}' does not name a file inside the package")
        return url
    if re.match(r"(?i)[a-z][a-z0-9+.-]+://", url):
        return url
    return str(folder / url)
