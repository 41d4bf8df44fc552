"""The zoo manifest: what models and data sets exist, and what each step needs of them.

``models.json`` is the one source of truth. An entry of it becomes a
:class:`~sctseg7t.zoo.spec.ModelSpec`; nothing about a model is written in code. Reading it needs
the standard library only; the full schema is ``models.schema.json`` beside this
file and is checked where an entry was not made by this project
(:func:`sctseg7t.zoo.local_model.spec_from_onnx`) and in the tests.
"""

import json
import logging
import os
import re
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sctseg7t.errors import ModelError
from sctseg7t.zoo.spec import (
    PINS,
    AnyPath,
    DatasetSpec,
    DerivedSpec,
    FileSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Sampling,
)

log = logging.getLogger("sctseg7t.zoo")
PACKAGE_DIR = Path(__file__).resolve().parents[1]
SCHEMA_VERSION = 1
# What a contrast is called in BIDS names, for entries that do not say so.
_BIDS_SUFFIXES = {"T2star": "T2starw", "FLAIR": "FLAIR", "T1": "T1w", "T2": "T2w"}
T = TypeVar("T", FileSpec, Sampling, InputSpec, OutputSpec, DerivedSpec, ModelSpec, DatasetSpec)


@dataclass(frozen=True)
class Manifest:
    """The models, tasks and data sets that one ``models.json`` lists."""

    path: Path
    models: tuple[ModelSpec, ...]
    datasets: tuple[DatasetSpec, ...]
    task_entries: dict = field(repr=False)

    def versions(self, model_id: str) -> tuple[ModelSpec, ...]:
        """Return every version of a model, as listed."""
        return tuple(spec for spec in self.models if spec.id == model_id)

    def current(self, model_id: str) -> ModelSpec | None:
        """Return the version of a model that its bare name stands for, None where all are deprecated."""
        return next((spec for spec in self.versions(model_id) if spec.default and not spec.deprecated), None)

    def model(self, name: str) -> ModelSpec:
        """Return the spec of ``"id"`` (its current version) or ``"id@version"``.

        Raises
        ------
        ModelError
            Unknown name or version, or a model that needs a newer sctseg7t.
        """
        wanted, _, version = name.partition("@")
        versions = self.versions(wanted)
        if not versions:
            known = ", ".join(sorted({spec.id for spec in self.models}))
            raise ModelError(f"no model is called '{wanted}'; the models are: {known}")
        found = next((s for s in versions if s.version == version), None) if version else self.current(wanted)
        if found is None:
            known = ", ".join(spec.label for spec in versions)
            raise ModelError(
                f"{wanted} has no {f'version {version}' if version else 'current version'}; it has: {known}"
            )
        return check_tool_version(found)

    def default_for_task(self, task: str) -> ModelSpec:
        """Return the model that ``task`` uses unless told otherwise (ModelError if unknown)."""
        if task not in self.task_entries:
            raise ModelError(f"no task is called '{task}'; the tasks are: {', '.join(self.task_entries)}")
        return self.model(self.task_entries[task]["default"])

    def tasks(self) -> dict[str, dict]:
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

    def _serves(self, spec: ModelSpec, task: str) -> bool:
        """Whether a model was made for a task, or returns all that the task asks for.

        One made for no job of a user's (a locator) serves no other task.
        """
        for_users = self.task_entries.get(spec.task, {}).get("outputs", ())
        wanted = set(self.task_entries[task].get("outputs", ()))
        given = {part.name for part in (*spec.outputs, *spec.derived)}
        return spec.task == task or (bool(for_users) and bool(wanted) and wanted <= given)


def load_manifest(path: AnyPath | None = None) -> Manifest:
    """Read a manifest.

    Parameters
    ----------
    path : path-like, optional
        Default: the file named by ``SCT7T_MANIFEST``, else the one that ships
        with the package, with the zoos that were added (:mod:`sctseg7t.zoo.share`).

    Raises
    ------
    ModelError
        The file is missing, is not JSON, or lacks a field.
    """
    path = path or os.environ.get("SCT7T_MANIFEST")
    return _load(Path(path)) if path else _with_added(shipped_manifest())


def shipped_manifest() -> Manifest:
    """The manifest that ships, without what was added to it."""
    return _load(PACKAGE_DIR / "models.json")


def zoos_dir() -> Path:
    """Folder of the zoos that were added on this account: ``SCT7T_ZOOS``, else ``~/.sctseg7t/zoos``."""
    named = os.environ.get("SCT7T_ZOOS")
    return Path(named).expanduser() if named else Path.home() / ".sctseg7t/zoos"


def _with_added(manifest: Manifest) -> Manifest:
    """A manifest with the models of the added zoos; a name that it has itself stays its own."""
    models = list(manifest.models)
    for path in sorted(zoos_dir().glob("*.json")):
        try:
            added = _load(path).models
        except ModelError as error:
            # One that is damaged should not stop the others.
            log.warning("%s; 'sct7t_download remove %s' forgets this zoo", error, path.stem)
            continue
        models += [spec for spec in added if spec.label not in {own.label for own in models}]
    return replace(manifest, models=tuple(models))


def _load(path: Path) -> Manifest:
    raw = read_json(path, "manifest")
    try:
        return _parse_manifest(raw, path)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{path}: not a usable manifest: {reason}") from error


def read_json(path: AnyPath, what: str) -> dict:
    """Return the parsed JSON of ``path``; a ModelError naming ``what`` otherwise."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot read the {what}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: the {what} is not valid JSON: {error}") from error


def parse_model(raw: dict, folder: Path) -> ModelSpec:
    """Return the :class:`ModelSpec` of an entry; relative URLs in it start at ``folder``."""
    given = raw["input"]
    if raw.get("ensemble") and any(file.get("format", "onnx") != "onnx" for file in raw["files"]):
        raise ValueError(f"{raw['id']}: every file of an ensemble must be an ONNX network")
    sampling = _record(Sampling, given.get("sampling", {}))
    return _record(
        ModelSpec,
        raw,
        # Entries of before these two fields do not have them.
        organ=raw.get("organ") or ("brain" if sampling.method in ("patches", "views") else "cord"),
        bids_suffix=raw["bids_suffix"] if "bids_suffix" in raw else _BIDS_SUFFIXES.get(given["contrasts"][0]),
        files=tuple(parse_file(entry, folder) for entry in raw["files"]),
        input=_record(
            InputSpec,
            given,
            axes=given.get("axes", "xyz"[: len(given["spacing_mm"])]),
            normalisation={"parameters": {}, **given["normalisation"]},
            sampling=sampling,
        ),
        outputs=tuple(_record(OutputSpec, entry) for entry in raw["outputs"]),
        derived=tuple(_record(DerivedSpec, entry) for entry in raw.get("derived", ())),
        postprocess=tuple({"params": {}, **step} for step in raw.get("postprocess", ())),
        raw=raw,
        local_path=None,
    )


def parse_file(raw: dict, folder: Path) -> FileSpec:
    """Return the :class:`FileSpec` of one entry.

    Raises
    ------
    ValueError
        The path leaves its folder, or the hash is not exactly one well-formed digest:
        both become local paths, so neither may be anything else. A commit that its URLs do not name.
    """
    name, urls = raw["name"], raw.get("urls", [])
    path = raw.get("path", name)
    shipped = [url.removeprefix("package:") for url in urls if url.startswith("package:")]
    for one in (path, name, *shipped):
        if not _is_plain_relative(one) or (one == name and "/" in name):
            raise ValueError(f"'{one}' is not a relative path inside its folder")
    given = [(pin, raw[pin]) for pin in PINS if raw.get(pin)]
    if len(given) != 1:
        raise ValueError(f"{name}: give exactly one of {', '.join(PINS)}")
    ((algorithm, digest),) = given
    if not re.fullmatch(rf"[0-9a-f]{{{PINS[algorithm]}}}", digest):
        raise ValueError(f"{name}: '{digest}' is not a {algorithm} in lower-case hex")
    if algorithm == "commit" and not (urls and all(digest in url.split("/") for url in urls)):
        raise ValueError(f"{name}: without a hash, every address must name the commit {digest}")
    return _record(
        FileSpec,
        raw,
        path=path,
        bytes=raw.get("bytes"),
        algorithm=algorithm,
        digest=digest,
        urls=tuple(url if re.match(r"package:|(?i:[a-z][a-z0-9+.-]+://)", url) else str(folder / url) for url in urls),
        architecture=(raw.get("architecture") or {}).get("name"),
        lambdas=tuple((step["layer"], float(step["divide_by"])) for step in raw.get("lambdas", ())),
    )


def parse_version(text: str) -> tuple[int, ...]:
    """Return ``"1.2.3rc1"`` as ``(1, 2, 3)``: the numbers decide, suffixes do not."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])


def check_tool_version(spec: ModelSpec) -> ModelSpec:
    """Return ``spec``; ModelError where it needs a newer sctseg7t than this one."""
    from sctseg7t.version import __version__

    if parse_version(spec.min_tool_version) > parse_version(__version__):
        raise ModelError(
            f"{spec.label} needs sctseg7t {spec.min_tool_version} or newer and this is "
            f"{__version__}: update sctseg7t, or ask for another version of {spec.id}"
        )
    return spec


def _parse_manifest(raw: dict, path: Path) -> Manifest:
    if raw["schema_version"] > SCHEMA_VERSION:
        raise ValueError(f"its schema {raw['schema_version']} is newer than {SCHEMA_VERSION}; update sctseg7t")
    folder = path.resolve().parent
    models = tuple(parse_model(entry, folder) for entry in raw["models"])
    for what, names in (
        ("is listed twice", [spec.label for spec in models]),
        ("has two default versions", [spec.id for spec in models if spec.default]),
    ):
        ((name, count),) = Counter(names).most_common(1) or [("", 0)]
        if count > 1:
            raise ValueError(f"{name} {what}")
    datasets = tuple(
        _record(DatasetSpec, entry, files=tuple(parse_file(file, folder) for file in entry["files"]), raw=entry)
        for entry in raw.get("datasets", ())
    )
    return Manifest(path, models, datasets, raw["tasks"])


def _record(kind: type[T], raw: dict, /, **converted) -> T:
    """A record from the fields of that name in ``raw`` and those given; lists become tuples."""
    plain = {f.name: raw[f.name] for f in fields(kind) if f.name in raw and f.name not in converted}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}, **converted)


def _is_plain_relative(path: str) -> bool:
    parts = PurePosixPath(path).parts
    plain = not re.search(r'[\\:*?"<>|\x00-\x1f]', path)
    return bool(parts) and plain and not path.startswith("/") and ".." not in parts
