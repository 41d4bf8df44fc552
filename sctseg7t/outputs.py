"""Where results go and how they are written: nothing lost, nothing half-written."""

import contextlib
import datetime
import hashlib
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sctseg7t.bids import entities_of
from sctseg7t.errors import OutputError, UsageError
from sctseg7t.files import write_json
from sctseg7t.version import __version__

SIDECAR = "_deepseg.json"
# Every table that a flow can write, by kind.
TABLES = {
    "csa": "_csa.csv",
    "levels": "_csa_perlevel.csv",
    "lesions": "_lesions.csv",
    "load": "_lesionload.csv",
}
NO_CORD = "no cord found; the masks are empty (give its place with -centerline if there is one)"


@dataclass(frozen=True)
class Plan:
    """Output files of one input: masks by tissue, tables by kind (see TABLES)."""

    source: Path
    masks: dict
    tables: dict
    sidecar: Path

    def possible_tables(self):
        """Every table that a run of this input can write."""
        stem = self.sidecar.name.removesuffix(SIDECAR)
        return {self.sidecar.with_name(stem + suffix) for suffix in TABLES.values()}

    def files(self):
        """Every path that will be written."""
        return [*self.masks.values(), *self.tables.values(), self.sidecar]

    def within(self, folder):
        """The same file names in another folder."""
        return replace(
            self,
            masks={name: folder / path.name for name, path in self.masks.items()},
            tables={kind: folder / path.name for kind, path in self.tables.items()},
            sidecar=folder / self.sidecar.name,
        )


def plan(source, suffixes, *, output=None, folder=None, tables=("csa",)):
    """Decide the output names of one input.

    Parameters
    ----------
    source : path
    suffixes : dict of str to str
        Suffix by tissue.
    output : path, optional
        Base name, or for a single tissue the mask's own name.
    folder : path, optional
        Default: beside the input.
    tables : sequence of str
        Kinds of tables to write.
    """
    source = Path(source)
    stem, extension = split_name(source)
    place = Path(folder) if folder else source.parent
    exact = None
    if output:
        place = (place / Path(output).parent) if folder else Path(output).parent
        stem, given = split_name(output)
        extension = given or extension
        exact = stem if len(suffixes) == 1 else None
    extension = extension or ".nii.gz"
    masks = {name: place / f"{exact or stem + suffix}{extension}" for name, suffix in suffixes.items()}
    return Plan(source, masks, {kind: place / (stem + TABLES[kind]) for kind in tables}, place / (stem + SIDECAR))


def split_name(path):
    """File name without its NIfTI extension, and the extension ("" if it has none)."""
    name = Path(path).name
    for extension in (".nii.gz", ".nii"):
        if name.lower().endswith(extension):
            return name[: -len(extension)], name[-len(extension) :]
    return name, ""


def conflicts(plans, others=()):
    """Problems between plans: source to reason. Both sides of a shared name are refused.

    ``others`` are further files that the run reads (labels) or writes (its report).
    """
    inputs = {_key(path) for path in (*(p.source for p in plans), *(path for path in others if path))}
    owners = {}
    for p in plans:
        for path in p.files():
            owners.setdefault(_key(path), []).append(p.source)
    problems = {}
    for p in plans:
        for path in p.files():
            if _key(path) in inputs:
                problems[p.source] = (
                    f"{p.source}: its output {path} would overwrite another file of this run; choose -o or -ofolder"
                )
            elif len(owners[_key(path)]) > 1:
                other = next((s for s in owners[_key(path)] if s != p.source), p.source)
                problems[p.source] = (
                    f"{p.source}: would write {path}, as would {other}; run them apart with different -ofolder"
                )
    return problems


def check_folder(plan_):
    """Make the output folder and prove that it can be written, before any work is done."""
    place = plan_.sidecar.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as err:
        raise OutputError(f"{place}: cannot be written ({err.strerror or err}); choose another -ofolder") from err
    for path in plan_.files():
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; choose another output name or remove the folder")


def write(result, plan_, provenance, csa_format="tidy", *, filename=None):
    """Write masks, tables and sidecar of one scan: all of them, or none.

    They are made in a hidden folder beside their places and moved once all are there, so that a
    failure leaves an earlier run's files as they were. The sidecar comes last; it lists the size and
    SHA-256 of every other file.

    Parameters
    ----------
    result : Result
    plan_ : Plan
    provenance : dict
        The sidecar's content but for ``files``.
    csa_format : {"tidy", "sct"}
    filename : str, optional
        What the tables call the scan (default: its path as given).

    Raises
    ------
    OutputError
        Folder read-only, disk full, a name taken by a folder.
    """
    with _staging(plan_) as stage:
        staged = plan_.within(stage)
        _write_files(result, staged, csa_format, filename or str(plan_.source))
        write_json(staged.sidecar, {**provenance, "files": hashes(path for path in staged.files() if path.exists())})
        for made, path in zip(staged.files(), plan_.files()):
            if made.exists():
                os.replace(made, path)
        for stale in plan_.possible_tables() - set(plan_.files()):
            # A table of an earlier run beside new masks would be taken for theirs.
            stale.unlink(missing_ok=True)


def hashes(paths):
    """Size and SHA-256 of files: ``{name: {"bytes": n, "sha256": hex}}``."""
    found = {}
    for path in paths:
        payload = path.read_bytes()
        found[path.name] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    return found


def staging_prefix(plan_):
    """How the hidden folders begin in which the files of this input are made."""
    return f".sct7t-{plan_.sidecar.name.removesuffix(SIDECAR)}-"


@contextlib.contextmanager
def _staging(plan_):
    """A hidden folder beside the outputs, gone afterwards; errors in it speak of the place itself."""
    place, stage = plan_.sidecar.parent, None
    try:
        stage = Path(tempfile.mkdtemp(prefix=staging_prefix(plan_), dir=place))
        yield stage
    except OutputError as err:
        raise OutputError(str(err).replace(str(stage), str(place))) from err
    except OSError as err:
        raise OutputError(f"{place}: cannot be written ({err.strerror or err}); choose another -ofolder") from err
    finally:
        if stage:
            shutil.rmtree(stage, ignore_errors=True)


def _write_files(result, plan_, csa_format, filename):
    from sctseg7t.image.nifti import save

    for name, image in result.masks.items():
        save(image, plan_.masks[name])
    result.write_tables(plan_, filename=filename, csa_format=csa_format)


def provenance(result, plan_, segmenter, options, seconds):
    """What was done to which bytes by what: the sidecar's content."""
    import numpy
    import onnxruntime

    spec, locator = segmenter.spec, segmenter.locator_spec
    state = {"status": "ok"} if result.usable else {"status": "failed", "error": NO_CORD, "error_kind": "input"}
    return {
        **state,
        "name": split_name(plan_.source)[0],
        "entities": entities_of(plan_.source),
        "tool": {"name": "sctseg7t", "version": __version__},
        "model": identity(spec),
        "locator": identity(locator) if locator and result.locator == "locator" else {"source": result.locator},
        "input": {**input_record(plan_), "sha256": result.volume.sha256},
        "outputs": {name: path.name for name, path in plan_.masks.items()},
        "options": options,
        "device": segmenter.session.device,
        "threads": segmenter.session.threads,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "software": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "numpy": numpy.__version__,
        },
        "usable": result.usable,
        "warnings": result.warnings,
        **result.details,
    }


def options_record(options, task, **others):
    """Options as plain values for a record."""
    return {"task": task, **asdict(options), **{k: str(v) if isinstance(v, Path) else v for k, v in others.items()}}


def view_command(plan_):
    """One line that shows the result in FSLeyes."""
    colours = {"SC": "blue", "GM": "red", "WM": "green"}
    parts = [f"fsleyes {_quote(plan_.source)}"]
    for name, path in plan_.masks.items():
        if name not in ("WM", "LABELS") or len(plan_.masks) == 1:
            parts.append(f"{_quote(path)} -cm {colours.get(name, 'yellow')} -a 50")
    return " ".join(parts) + " &"


def check_single(count, output=None, **labels):
    """What belongs to one scan is not given for many; ``-o`` names a file (UsageError otherwise)."""
    for name, path in labels.items():
        if path and count > 1:
            raise UsageError(f"-{name} {path}: belongs to one scan but there are {count} inputs; run them one by one")
    if output and count > 1:
        raise UsageError(f"-o names one output but there are {count} inputs; use -ofolder")
    if output and (str(output).endswith(("/", os.sep)) or Path(output).is_dir()):
        raise UsageError(f"-o {output}: is a folder; name a file, or use -ofolder {output}")


def check_report(report, plans, others=()):
    """The run's report has a place of its own, in a folder that can be written (OutputError otherwise)."""
    if not report:
        return
    taken = [*(path for p in plans for path in (p.source, *p.files())), *(path for path in others if path)]
    if _key(report) in {_key(path) for path in taken}:
        raise OutputError(f"-report {report}: would overwrite another file of this run; choose another name")
    if Path(report).is_dir() or not Path(report).absolute().parent.is_dir():
        raise OutputError(
            f"-report {report}: is a folder, or its folder does not exist; name a file in an existing one"
        )


def input_record(plan_):
    """The scan's name, and the way to it from the folder of its outputs."""
    try:
        # Real folders: ".." behind a link leads elsewhere. The scan itself may be a link, and keeps its name.
        place = os.path.realpath(plan_.source.parent)
        path = Path(os.path.relpath(place, os.path.realpath(plan_.sidecar.parent))) / plan_.source.name
    except ValueError:
        # Another drive, on Windows.
        path = plan_.source.absolute()
    return {"file": plan_.source.name, "path": path.as_posix()}


def identity(spec):
    """Id, version, weights and their hash of a model."""
    weights = spec.files[0]
    return {"id": spec.id, "version": spec.version, "weights": weights.name, weights.algorithm: weights.digest}


def _key(path):
    return os.path.normcase(os.path.realpath(path))


def _quote(path):
    import shlex

    return shlex.quote(str(path))
