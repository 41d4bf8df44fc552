"""Where the outputs of a scan go, and writing them: nothing lost, nothing half-written."""

import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sctseg7t.errors import OutputError
from sctseg7t.inference.roles import SCAN

SIDECAR = "_deepseg.json"
# Of masks that existed before they were measured.
MEASURE_SIDECAR = "_measure.json"
# Every table that a segmenter can write, by kind, and what else goes with the masks.
TABLES = {
    "csa": "_csa.csv",
    "levels": "_csa_perlevel.csv",
    "lesions": "_lesions.csv",
    "load": "_lesionload.csv",
    # How far networks, or a network about a scan and its mirror image, disagree in each voxel.
    "uncertainty": "_uncertainty.nii.gz",
    "newlesions": "_newlesions.csv",
    "changes": "_lesionchanges.csv",
    "followup": "_followup.csv",
    # Maps and transforms of a follow-up that are no masks of a tissue.
    "newlabels": "_newlesionlabels.nii.gz",
    "changemap": "_lesionchanges.nii.gz",
    "baselinelesions": "_baselinelesions.nii.gz",
    "baselineimage": "_baseline_aligned.nii.gz",
    "difference": "_difference.nii.gz",
    "followup_transform": "_followup_to_halfway.tfm",
    "baseline_transform": "_baseline_to_halfway.tfm",
    "newlesions@baseline": "_space-baseline_newlesions.nii.gz",
    "lesions@baseline": "_space-baseline_lesions.nii.gz",
    "changemap@baseline": "_space-baseline_lesionchanges.nii.gz",
    "newlesions@halfway": "_space-halfway_newlesions.nii.gz",
    "changemap@halfway": "_space-halfway_lesionchanges.nii.gz",
    "scan@halfway": "_space-halfway_followup.nii.gz",
    "baseline@halfway": "_space-halfway_baseline.nii.gz",
}

# The same tables in the columns of the Spinal Cord Toolbox: one a mask, named after it; their kinds are csa:SC, ...
SCT_TABLES = {"csa": "_csa_sct.csv", "levels": "_csa_sct_perlevel.csv"}

# Images of other formats that can be read; masks of theirs are NIfTI.
FOREIGN = (".mgz", ".mgh", ".hdr", ".img")


@dataclass(frozen=True)
class Plan:
    """The files of one scan: what is read, and what is written.

    Attributes
    ----------
    inputs : dict of str to Path
        By role, the scan itself first; see :mod:`sctseg7t.inference.roles`.
    masks : dict of str to Path
        By tissue.
    tables : dict of str to Path
        By kind (see TABLES, SCT_TABLES).
    sidecar : Path
    corrections : Path or None
        Folder in which corrected masks of the scan may lie, see :mod:`sctseg7t.inference.corrections`.
    """

    inputs: dict[str, Path]
    masks: dict[str, Path]
    tables: dict[str, Path]
    sidecar: Path
    corrections: Path | None = None

    @property
    def source(self) -> Path:
        """The scan."""
        return self.inputs[SCAN]

    @property
    def others(self) -> dict[str, Path]:
        """The files that go with the scan, by role."""
        return {role: path for role, path in self.inputs.items() if role != SCAN}

    def possible_tables(self) -> set[Path]:
        """Every table that a run of this scan can write."""
        stem = sidecar_stem(self.sidecar)
        names = [stem + suffix for suffix in TABLES.values()]
        names += [split_name(path)[0] + suffix for path in self.masks.values() for suffix in SCT_TABLES.values()]
        return {self.sidecar.with_name(name) for name in names}

    def files(self) -> list[Path]:
        """Every path that will be written; the sidecar is the last."""
        return [*self.masks.values(), *self.tables.values(), self.sidecar]

    def within(self, folder: Path) -> "Plan":
        """The same names of outputs in another folder."""
        return replace(
            self,
            masks={name: folder / path.name for name, path in self.masks.items()},
            tables={kind: folder / path.name for kind, path in self.tables.items()},
            sidecar=folder / self.sidecar.name,
        )


def plan(
    source: str | Path,
    suffixes: Mapping[str, str],
    *,
    output: str | Path | None = None,
    folder: str | Path | None = None,
    tables: Sequence[str] = ("csa",),
    csa_format: str = "tidy",
    others: Mapping[str, str | Path] | None = None,
    corrections: Path | None = None,
) -> Plan:
    """Decide the output names of one scan.

    Parameters
    ----------
    source : path
    suffixes : dict of str to str
        Suffix by tissue.
    output : path, optional
        Base name, or for a single tissue the mask's own name.
    folder : path, optional
        Default: beside the scan.
    tables : sequence of str
        Kinds of tables to write.
    csa_format : {"tidy", "sct"}
        ``sct``: those of areas also in the columns of the Spinal Cord Toolbox, one a mask.
    others : dict of str to path, optional
        Files that go with the scan, by role.
    corrections : Path, optional
        Folder in which corrected masks of the scan may lie.
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
    paths = {kind: place / (stem + TABLES[kind]) for kind in tables}
    if csa_format == "sct":
        paths |= sct_tables(tables, masks)
    return Plan(
        {SCAN: source, **{role: Path(path) for role, path in (others or {}).items()}},
        masks,
        paths,
        place / (stem + SIDECAR),
        corrections,
    )


def sct_tables(kinds: Iterable[str], masks: Mapping[str, Path]) -> dict[str, Path]:
    """Places of area tables in the columns of the Spinal Cord Toolbox, beside the masks, by kind and tissue."""
    return {
        f"{kind}:{tissue}": path.with_name(split_name(path)[0] + SCT_TABLES[kind])
        for kind in kinds
        if kind in SCT_TABLES
        for tissue, path in masks.items()
    }


def sidecar_stem(path: Path) -> str:
    """What the names of a record and of its tables have in common."""
    return path.name.removesuffix(SIDECAR).removesuffix(MEASURE_SIDECAR)


def split_name(path: str | Path) -> tuple[str, str]:
    """File name without the extension of an image, and the extension if it is one of NIfTI ("" if it is not)."""
    name = Path(path).name
    for extension in (".nii.gz", ".nii", *FOREIGN):
        if name.lower().endswith(extension):
            return name[: -len(extension)], name[-len(extension) :] if extension not in FOREIGN else ""
    return name, ""


def conflicts(plans: Sequence[Plan]) -> dict[Path, str]:
    """Problems between plans: reason by scan. Both sides of a shared name are refused."""
    inputs = {file_key(path) for p in plans for path in p.inputs.values()}
    owners: dict[str, list[Path]] = {}
    for p in plans:
        for path in p.files():
            owners.setdefault(file_key(path), []).append(p.source)
    problems = {}
    for p in plans:
        for path in p.files():
            if file_key(path) in inputs:
                problems[p.source] = (
                    f"{p.source}: its output {path} would overwrite another file of this run; "
                    "choose another output name or folder"
                )
            elif len(owners[file_key(path)]) > 1:
                other = next((s for s in owners[file_key(path)] if s != p.source), p.source)
                problems[p.source] = (
                    f"{p.source}: would write {path}, as would {other}; run them apart with different output folders"
                )
    return problems


def check_folder(plan_: Plan) -> None:
    """Make the output folder and prove that it can be written, before any work is done (OutputError)."""
    place = plan_.sidecar.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as err:
        raise _unwritable(place, err) from err
    for path in plan_.files():
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; choose another output name or remove the folder")


def write(plan_: Plan, make: Callable[[Plan], None]) -> None:
    """Write the outputs of one scan: all of them, or none.

    They are made in a hidden folder beside their places and moved once all are there, so that a
    failure leaves an earlier run's files as they were. The sidecar is moved last.

    Parameters
    ----------
    plan_ : Plan
    make : callable
        Is given the plan within the hidden folder, and writes its files.

    Raises
    ------
    OutputError
        Folder read-only, disk full, a name taken by a folder.
    """
    place = plan_.sidecar.parent
    try:
        with tempfile.TemporaryDirectory(prefix=_staging_prefix(plan_), dir=place, ignore_cleanup_errors=True) as stage:
            staged = plan_.within(Path(stage))
            try:
                make(staged)
            except OutputError as err:
                # It speaks of the place itself.
                raise OutputError(str(err).replace(stage, str(place))) from err
            for made, path in zip(staged.files(), plan_.files()):
                if made.exists():
                    os.replace(made, path)
            for stale in plan_.possible_tables() - set(plan_.files()):
                # A table of an earlier run beside new masks would be taken for theirs.
                stale.unlink(missing_ok=True)
    except OSError as err:
        raise _unwritable(place, err) from err
    except KeyboardInterrupt:
        # It may have come while the hidden folder was being removed.
        sweep(plan_)
        raise


def sweep(plan_: Plan) -> None:
    """Remove half-made files that a killed process left."""
    for path in plan_.sidecar.parent.glob(glob.escape(_staging_prefix(plan_)) + "*"):
        shutil.rmtree(path, ignore_errors=True)


def remove(paths: Iterable[Path]) -> None:
    """Remove outputs, with the metadata beside masks."""
    for path in paths:
        path.unlink(missing_ok=True)
        if split_name(path)[1]:
            json_beside(path).unlink(missing_ok=True)


def json_beside(path: Path) -> Path:
    """Where BIDS has the metadata of an image."""
    return path.with_name(split_name(path)[0] + ".json")


def file_key(path: str | Path) -> str:
    """Equal for two names of one file."""
    return os.path.normcase(os.path.realpath(path))


def _staging_prefix(plan_: Plan) -> str:
    return f".sct7t-{sidecar_stem(plan_.sidecar)}-"


def _unwritable(place: Path, err: OSError) -> OutputError:
    return OutputError(f"{place}: cannot be written ({err.strerror or err}); choose another output folder")
