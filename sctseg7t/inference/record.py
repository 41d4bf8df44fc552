"""The record of a scan: the JSON sidecar beside its outputs. It is made here, and read again here."""

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sctseg7t.bids import entities_of
from sctseg7t.files import read_json
from sctseg7t.inference.outputs import SIDECAR, TABLES, Plan, file_key, sidecar_stem, split_name
from sctseg7t.inference.pipeline import Choice
from sctseg7t.inference.roles import SCAN
from sctseg7t.inference.segmenter import OpenModel, Options, Result
from sctseg7t.text import one_line
from sctseg7t.version import __version__
from sctseg7t.zoo.cache import file_digest
from sctseg7t.zoo.spec import ModelSpec

# What became of a scan: masks; empty masks, since it shows nothing of what the model looks for; no masks.
OK, NOTHING_FOUND, FAILED = "ok", "nothing_found", "failed"
# Outputs that are no masks: what they show is in a mask already.
LABELS = "LABELS"
CORD, BRAIN = "cord", "brain"
# Tables that every scan of an organ has.
TABLES_OF = {CORD: ("csa",), BRAIN: ("lesions", "load")}


@dataclass(frozen=True, eq=False)
class Record:
    """What is known about one scan.

    Attributes
    ----------
    path : Path
        The sidecar.
    image : Path
        The scan; it may be elsewhere or gone by now.
    masks : dict of str to Path
        By tissue; none for a failed scan.
    labels : Path or None
        The map that numbers the lesions of a brain.
    status : str
        ``ok``, ``nothing_found`` (its masks are empty) or ``failed``.
    error : str or None
        One line for people, unless all is well.
    entities : dict of str to str
        BIDS entities of the name, such as ``{"sub": "01", "ses": "2", "suffix": "T2starw"}``.
    name : str
        What the scan is called in tables and pages.
    raw : dict
        The sidecar's content.
    others : dict of str to Path
        Files that went with the scan, by role.
    """

    path: Path
    image: Path
    masks: dict[str, Path]
    labels: Path | None
    status: str
    error: str | None
    entities: dict[str, str]
    name: str
    raw: dict[str, Any]
    others: dict[str, Path] = field(default_factory=dict)

    @property
    def error_kind(self) -> str | None:
        """Kind of a failure: ``input``, ``output``, ``memory``, ``internal``, ``timeout`` or ``killed``; else None."""
        return self.raw.get("error_kind")

    @property
    def mask_sha256(self) -> dict[str, str]:
        """SHA-256 of every mask as it was written, by tissue."""
        files = self.raw.get("files", {})
        return {name: files[path.name]["sha256"] for name, path in self.masks.items() if path.name in files}

    @property
    def rating_hash(self) -> str:
        """One hash for what a rating is about: the masks that the tables are of, corrected ones too, or the failure."""
        corrected = (self.raw.get("corrections") or {}).get("masks") or {}
        return rating_hash({**self.mask_sha256, **{name: one["sha256"] for name, one in corrected.items()}}, self)

    @property
    def kind(self) -> str | None:
        """Organ: ``cord`` or ``brain``; None for a failed scan, which has no outputs to tell."""
        if not self.masks:
            return None
        return kind_of(self.masks)

    def table(self, kind: str) -> Path | None:
        """Path of a table that the run wrote, or None; kinds are those of :data:`sctseg7t.inference.outputs.TABLES`."""
        if self.status == FAILED:
            return None
        path = self.path.with_name(sidecar_stem(self.path) + TABLES[kind])
        return path if path.name in self.raw.get("files", {}) else None


def rating_hash(sha256: Mapping[str, str], record: Record) -> str:
    """One hash for what a rating is about: masks with these hashes by tissue, or the failure of a scan."""
    about = sorted(sha256.items()) if sha256 else [record.status, record.error]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]


# --- reading --------------------------------------------------------------------------


def sidecars(folder: str | Path) -> list[Path]:
    """Paths of the sidecars below a folder, sorted; hidden folders are not looked in."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in files if name.endswith(SIDECAR) and not name.startswith(".")]
    return sorted(found)


def find_records(folder: str | Path) -> list[Record]:
    """Read every sidecar below a folder, sorted by path; one that cannot be read is a failed record that says so."""
    return [read_record(path) for path in sidecars(folder)]


def read_record(path: str | Path) -> Record:
    """Read one sidecar; one that cannot be read is a failed record that says so."""
    path = Path(path)
    try:
        return record_of(path, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        stem = sidecar_stem(path)
        reason = one_line(f"{type(err).__name__}: {err}", 200)
        text = f"{path}: is no record of a scan ({reason}); delete it and run the scan again"
        raw = {"status": FAILED, "error": text, "error_kind": "input"}
        return Record(path, path.with_name(stem + ".nii.gz"), {}, None, FAILED, text, {}, stem, raw)


def record_of(path: str | Path, raw: dict[str, Any]) -> Record:
    """The record that a sidecar's content makes.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        The content is no record's.
    """
    path = Path(path)
    status = raw["status"]
    if status not in (OK, NOTHING_FOUND, FAILED):
        raise ValueError(f"status is {status!r}, not {OK}, {NOTHING_FOUND} or {FAILED}")
    error = None
    if status != OK:
        error = raw.get("error") or next(iter(raw.get("warnings", ())), status)
    masks = {}
    if status != FAILED:
        masks = {
            # Masks that were measured lie where they lay.
            name: _place(path, file) if isinstance(file, dict) else path.with_name(Path(file).name)
            for name, file in raw.get("outputs", {}).items()
        }
    labels = masks.pop(LABELS, None)
    others = {role: _place(path, given) for role, given in raw.get("inputs", {}).items() if role != SCAN}
    return Record(
        path,
        _place(path, raw["input"]),
        masks,
        labels,
        status,
        error,
        dict(raw.get("entities", {})),
        str(raw.get("name") or sidecar_stem(path)),
        raw,
        others,
    )


def recorded_files(sidecar: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of the files that a sidecar lists, by name; none if it cannot be read.

    Files that a single run left from an earlier one (``left``) are among them: they are ours too.
    """
    raw = read_json(sidecar)
    found = [raw.get(part) for part in ("left", "files")]
    return {name: entry for part in found if isinstance(part, dict) for name, entry in part.items()}


def other_scan(plan: Plan) -> str:
    """Why a scan's outputs would replace those of another scan, in words; "" if they would not.

    A data set that was moved or copied is the same one.
    """
    raw = read_json(plan.sidecar)
    try:
        before = _place(plan.sidecar, raw["input"])
        if raw["status"] == FAILED or file_key(before) == file_key(plan.source) or not before.is_file():
            return ""
        if raw["input"].get("sha256") == file_digest(plan.source):
            return ""
    except (OSError, KeyError, TypeError):
        return ""
    return (
        f"{plan.source}: {plan.sidecar.parent} has the outputs of another scan, {before}; choose another output folder"
    )


def changed_outputs(sidecar: Path, files: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Recorded output files that are gone or no longer as they were written."""
    changed = []
    for name, recorded in files.items():
        path = sidecar.with_name(Path(name).name)
        try:
            if path.stat().st_size != recorded["bytes"] or file_hashes([path])[path.name] != recorded:
                changed.append(path)
        except OSError:
            changed.append(path)
    return changed


def _place(sidecar: Path, given: Mapping[str, str]) -> Path:
    """Where a file lies that a sidecar names by the way from its folder."""
    return Path(os.path.normpath(Path(os.path.realpath(sidecar.parent)) / given.get("path", given["file"])))


# --- making ---------------------------------------------------------------------------


def success(result: Result, plan: Plan, model: OpenModel, seconds: Mapping[str, float]) -> dict[str, Any]:
    """What was done by what: the content of the sidecar of a scan with masks, empty ones too."""
    import numpy
    import onnxruntime

    located = model.locator_spec if result.locator == "locator" else None
    return {
        **outcome(result, plan),
        **common(plan),
        "model": identity(model.spec),
        "locator": identity(located) if located else {"source": result.locator},
        "outputs": {name: path.name for name, path in plan.masks.items()},
        "derived": list(derived_names(model.spec)),
        "device": model.session.device,
        "threads": model.session.threads,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "software": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "numpy": numpy.__version__,
        },
    }


def outcome(result: Result, plan: Plan) -> dict[str, Any]:
    """What became of a scan, as its masks and measures tell."""
    state = {"status": OK} if result.usable else {"status": NOTHING_FOUND, "error": f"{plan.source}: {result.nothing}"}
    return {**state, "finished": now(), "usable": result.usable, "warnings": result.warnings, **result.details}


def derived_names(spec: ModelSpec) -> tuple[str, ...]:
    """Tissues whose masks follow from others of the model (WM)."""
    return tuple(derived.name for derived in spec.derived if derived.minus)


def kind_of(tissues: Collection[str]) -> str:
    """Organ that masks of these tissues are of."""
    return BRAIN if "LESION" in tissues and "SC" not in tissues else CORD


def failure(plan: Plan, error: object, kind: str) -> dict[str, Any]:
    """The content of the sidecar of a scan that has no masks.

    Parameters
    ----------
    plan : Plan
    error : object
        What went wrong, in words.
    kind : str
        See :attr:`Record.error_kind`.
    """
    return {
        "status": FAILED,
        "error": one_line(error),
        "error_kind": kind,
        **common(plan),
        "outputs": {},
        "usable": False,
        "warnings": [],
    }


def common(plan: Plan) -> dict[str, Any]:
    return {
        "name": split_name(plan.source)[0],
        "entities": entities_of(plan.source),
        "tool": {"name": "sctseg7t", "version": __version__},
        "input": place_record(plan, plan.source),
        "inputs": {role: place_record(plan, path) for role, path in plan.inputs.items()},
        "finished": now(),
    }


def identity(spec: ModelSpec) -> dict[str, Any]:
    """Id, version, weights and their hash, and the hash of the whole entry of a model."""
    weights, *others = spec.networks
    several = {"with": [{"weights": file.name, file.algorithm: file.digest} for file in others]} if others else {}
    return {
        "id": spec.id,
        "version": spec.version,
        "weights": weights.name,
        weights.algorithm: weights.digest,
        **several,
        "entry_sha256": spec.entry_sha256,
    }


def identities(model: Choice | OpenModel) -> tuple[dict[str, Any], ...]:
    """:func:`identity` of every network that a model runs: its own, the locator's, that of scans it hands on."""
    return tuple(identity(spec) for spec in model.specs)


def options_record(options: Options, task: str, **others: Any) -> dict[str, Any]:
    """Options as plain values for a record."""
    return {"task": task, **asdict(options), **{k: str(v) if isinstance(v, Path) else v for k, v in others.items()}}


def run_key(models: Sequence[Mapping[str, Any]], options: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """SHA-256 over everything that the outputs of a scan depend on.

    Device and number of threads are left out: they may change the last bit of a fraction, not what was asked for.

    Parameters
    ----------
    models : sequence of dict
        :func:`identity` of the networks, with the hashes of weights and entries.
    options : dict
    inputs : dict of str to str
        SHA-256 of the files that are read, by role.
    """
    # The order of options says nothing; that of the inputs is by name.
    content = {"tool": __version__, "models": models, "options": options, "inputs": inputs}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def place_record(plan: Plan, path: Path) -> dict[str, str]:
    """A file's name, and the way to it from the folder of the outputs."""
    try:
        # Real folders: ".." behind a link leads elsewhere. The scan itself may be a link, and keeps its name.
        place = os.path.realpath(path.parent)
        way = Path(os.path.relpath(place, os.path.realpath(plan.sidecar.parent))) / path.name
    except ValueError:
        # Another drive, on Windows.
        way = path.absolute()
    return {"file": path.name, "path": way.as_posix()}


def stamp(path: str | Path) -> dict[str, int]:
    """Size and modification time of a file."""
    status = Path(path).stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def file_hashes(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files: ``{name: {"bytes": n, "sha256": hex}}``."""
    found = {}
    for path in paths:
        payload = path.read_bytes()
        found[path.name] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    return found


def now() -> str:
    """The time, as records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
