"""The masks that exist in a folder, scan by scan: outputs of a batch, derivatives, or files of anyone's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.inference.mask_names import parse_name
from sctseg7t.inference.outputs import sidecar_stem, split_name
from sctseg7t.inference.record import CORD, FAILED, Record, find_records
from sctseg7t.measure.columns import TISSUES


@dataclass(frozen=True, eq=False)
class MaskSet:
    """The masks of one scan.

    Attributes
    ----------
    stem : Path
        Folder, within that of the data, and name of the scan: what the names of its tables begin with.
    masks : dict of str to Path
        By tissue.
    labels : dict of str to tuple of int
        Values of a mask's file that are the tissue, where it holds several.
    image : Path or None
        The scan.
    entities : dict of str to str
        BIDS entities of the scan.
    files : dict of str to Path
        What goes with it, by role.
    record : Record or None
        Of the run that made the masks.
    problem : str
        Why they cannot be measured; empty if they can.
    """

    stem: Path
    masks: Mapping[str, Path]
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    image: Path | None = None
    entities: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    record: Record | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """What tables call the scan."""
        return self.record.name if self.record else self.stem.name if self.entities else self.stem.as_posix()


def find_mask_sets(folder: str | Path, *, leave: str | Path | None = None) -> list[MaskSet]:
    """Find the masks of the cord in a folder and below.

    Where there are records (``*_deepseg.json``), their masks; else all files whose names say SC, GM or WM
    (``_seg``, ``_gmseg-manual``, ``_label-WM_mask``, ...), a set for those of one scan in one folder.

    Parameters
    ----------
    folder : path
    leave : path, optional
        A folder not to look in: that of the tables.

    Returns
    -------
    list of MaskSet
        Sorted by stem. A scan that failed, or has two masks of a tissue, is one with a problem.

    Raises
    ------
    UsageError
        No such folder, or no mask in it.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise UsageError(f"{folder}: is no folder; give that of a batch's outputs, or of masks")
    sets = [_of_record(record, root) for record in find_records(root) if record.kind in (CORD, None)]
    sets = sets or _by_name(root, leave)
    if not sets:
        raise UsageError(
            f"{folder}: holds no masks of the cord; names that say so end in _seg, _gmseg, _wmseg, _label-GM_mask"
        )
    return sorted(sets, key=lambda one: one.stem.as_posix())


def _of_record(record: Record, root: Path) -> MaskSet:
    return MaskSet(
        (record.path.parent / sidecar_stem(record.path)).relative_to(root),
        {tissue: path for tissue, path in record.masks.items() if tissue in TISSUES},
        image=record.image if record.image.is_file() else None,
        entities=record.entities,
        files={role: path for role, path in record.others.items() if path.is_file()},
        record=record,
        problem=(record.error or FAILED) if record.status == FAILED else "",
    )


def _by_name(root: Path, leave: str | Path | None) -> list[MaskSet]:
    out = os.path.realpath(leave) if leave else None
    groups: dict[Path, dict[str, list[Path]]] = {}
    entities: dict[Path, dict[str, str]] = {}
    for place, folders, files in os.walk(root):
        folders[:] = [n for n in folders if not n.startswith(".") and os.path.realpath(os.path.join(place, n)) != out]
        for file in sorted(files):
            path = Path(place, file)
            if not split_name(path)[1] or file.startswith("."):
                continue
            name = parse_name(path)
            if name.is_mask and name.structure in TISSUES:
                own = name.entities | ({"suffix": name.suffix} if name.suffix else {}) if name.entities else {}
                parts = [part for part in (name.key, name.suffix) if part]
                stem = (path.parent / "_".join(parts or ["cord"])).relative_to(root)
                groups.setdefault(stem, {}).setdefault(str(name.structure), []).append(path)
                entities[stem] = own
    return [_one_set(stem, found, entities[stem], root) for stem, found in groups.items()]


def _one_set(stem: Path, found: Mapping[str, list[Path]], entities: Mapping[str, str], root: Path) -> MaskSet:
    twice = {tissue: paths for tissue, paths in found.items() if len(paths) > 1}
    problem = ""
    for tissue, paths in twice.items():
        both = " and ".join(path.name for path in paths)
        problem = f"{paths[0].parent}: has several masks of {tissue} for {stem.name} ({both}); measure them apart"
    masks = {tissue: found[tissue][0] for tissue in TISSUES if tissue in found}
    return MaskSet(stem, masks, image=_image(root, stem), entities=entities, problem=problem)


def _image(root: Path, stem: Path) -> Path | None:
    """The scan that masks belong to: beside them, or at their place in the data set whose derivatives they are."""
    places = [root / stem]
    parts = (root / stem).parts
    if "derivatives" in parts:
        at = len(parts) - 1 - parts[::-1].index("derivatives")
        places.append(Path(*parts[:at], *parts[at + 2 :]))
    candidates = (place.with_name(place.name + end) for place in places for end in (".nii.gz", ".nii"))
    return next((path for path in candidates if path.is_file()), None)
