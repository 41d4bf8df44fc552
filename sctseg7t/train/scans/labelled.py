"""Labelled scans: images and the masks drawn on them, found in data sets, lists and names. Needs no torch."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from sctseg7t.bids import entities_of
from sctseg7t.compare.subjects import person_perhaps, persons
from sctseg7t.errors import InputError
from sctseg7t.inference.outputs import split_name
from sctseg7t.inference.roles import IMAGE, ROLES
from sctseg7t.zoo.cache import file_digest

# Columns of a list of scans, beside labels and roles.
_LISTED = ("image", "subject", "session", "name")
BRAIN_MASK = "brainmask"


@dataclass(frozen=True)
class LabelFiles:
    """Which files are masks of one label.

    Attributes
    ----------
    endings : tuple of str
        A mask is called ``SCAN_ENDING.nii.gz``, beside the scan or in a derivative of the BIDS data set.
    values : tuple of int
        Values of the file that are the label; none: the file is a mask of this label alone, of 0 and 1.
    """

    endings: tuple[str, ...]
    values: tuple[int, ...] = ()


# Names that tools give their own results (_seg, _gmseg) are left out: a network must not learn from another's output,
# or be measured against it, unawares.
LABELS = {
    "SC": LabelFiles(("seg-manual", "seg_manual", "label-SC_seg", "label-SC_mask")),
    "GM": LabelFiles(("gmseg-manual", "gmseg_manual", "label-GM_seg", "label-GM_mask")),
    "LESION": LabelFiles(
        ("lesion-manual", "lesion_manual", "lesionseg-manual", "label-lesion_mask", "label-lesion_seg")
    ),
}
_BRAIN_MASKS = ("brainmask", "brainmask-manual", "label-brain_mask", "desc-brain_mask")


@dataclass(frozen=True)
class LabelledScan:
    """A scan and its masks.

    Attributes
    ----------
    name : str
        BIDS stem, or what tells it apart from the other scans.
    image : Path
    masks : dict of str to Path
        By label.
    subject : str
        The person, all sessions included.
    session : str
    files : dict of str to Path
        Further images by role (``second``, ``baseline``), and ``brainmask``.
    """

    name: str
    image: Path
    masks: dict[str, Path]
    subject: str = ""
    session: str = ""
    files: dict[str, Path] = field(default_factory=dict)

    def digests(self) -> dict[str, str]:
        """What each of its files holds, by role or label: the image first, then masks, then further files."""
        return {role: file_digest(path) for role, path in {"image": self.image, **self.masks, **self.files}.items()}


def label_map(told: Mapping[str, Any]) -> dict[str, LabelFiles]:
    """The labels of a recipe: to each name a list of endings, or ``{"files": [...], "values": [...]}``.

    An empty list stands for the usual endings of that name.
    """
    labels = {}
    for name, said in told.items():
        rule = said if isinstance(said, Mapping) else {"files": said}
        usual = LABELS.get(name, LabelFiles((f"label-{name}_mask", f"label-{name}_seg")))
        labels[name] = LabelFiles(tuple(rule.get("files") or usual.endings), tuple(rule.get("values", ())))
    return labels


def find_scans(
    sources: Sequence[str | Path],
    labels: Mapping[str, LabelFiles] | None = None,
    images: Mapping[str, str] | None = None,
    subject: str | None = None,
) -> list[LabelledScan]:
    """Scans that folders, lists and file names tell of.

    Parameters
    ----------
    sources : sequence of str or path
        Each a folder (a BIDS data set, or scans with masks beside them), a list (``.csv``, ``.tsv``) with the column
        ``image`` and one a label, and as wanted ``subject``, ``session``, ``name`` and roles (``second``,
        ``brainmask``; its paths start at its folder), or ``IMAGE:SC=MASK:GM=MASK``.
    labels : dict of str to LabelFiles, optional
        What masks are called; default :data:`LABELS`.
    images : dict of str to str, optional
        Further images by role: what stands in their names for the last part of the scan's
        (``{"second": "T1w"}``: ``sub-01_T1w`` beside ``sub-01_FLAIR``).
    subject : str, optional
        Who is whose: a column of participants.tsv, or a regular expression on the subject's label. Without, labels
        that differ by a session only (``10062Ses1``, ``10062Ses2``) are one person.

    Returns
    -------
    list of LabelledScan
        By name, none twice.

    Raises
    ------
    InputError
        A source names no scan with a mask, or a file that is not there.
    UsageError
        ``subject`` is no column and fits no label.
    """
    labels, images = labels or LABELS, images or {}
    found: dict[Path, LabelledScan] = {}
    participants: dict[str, dict[str, str]] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            scans = _in_folder(path, labels, images)
            participants |= _participants(path)
        elif path.suffix in (".csv", ".tsv") and path.is_file():
            scans = _in_list(path, labels)
        else:
            scans = [_named(str(source), labels)]
        found |= {scan.image.resolve(): scan for scan in scans}
    scans = _as_people(list(found.values()), subject, participants)
    return sorted(_apart(scans), key=lambda scan: scan.name)


def _named(value: str, labels: Mapping[str, LabelFiles]) -> LabelledScan:
    image, *parts = re.split(rf":(?=(?:{'|'.join(map(re.escape, labels))})=)", value)
    masks = {name: Path(path) for name, _, path in (part.partition("=") for part in parts)}
    usage = "IMAGE:" + ":".join(f"{name}=MASK" for name in list(labels)[:2])
    if not masks:
        raise InputError(f"{value}: no such folder or list; give one with manual masks, or {usage}")
    for path in (Path(image), *masks.values()):
        if not path.is_file():
            raise InputError(f"{path}: no such file; give a folder or {usage}")
    return _scan(Path(image), masks)


def _in_list(path: Path, labels: Mapping[str, LabelFiles]) -> list[LabelledScan]:
    """Scans of a table."""
    with open(path, newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))
    columns = list(rows[0]) if rows else []
    roles = [role.name for role in ROLES.values() if role.kind == IMAGE] + [BRAIN_MASK]
    unknown = [name for name in columns if name not in (*_LISTED, *labels, *roles)]
    if "image" not in columns or unknown or not set(labels) & set(columns):
        known = ", ".join(("image", *labels, "subject", "session", "name", *roles))
        what = f"unknown column {unknown[0]!r}" if unknown else "it needs the column image, and one of a label"
        raise InputError(f"{path}: not a list of labelled scans ({what}); columns: {known}")
    scans = []
    for number, row in enumerate(rows, 2):
        files = {name: path.parent / row[name] for name in ("image", *labels, *roles) if row.get(name)}
        for name, file in files.items():
            if not file.is_file():
                raise InputError(f"{path}: line {number}: {name} {file}: no such file")
        masks = {name: files[name] for name in labels if name in files}
        if "image" not in files or not masks:
            raise InputError(f"{path}: line {number}: names no {'mask' if 'image' in files else 'image'}")
        scan = _scan(files["image"], masks, {role: files[role] for role in roles if role in files})
        told = {name: row[name] for name in ("name", "subject", "session") if row.get(name)}
        scans.append(replace(scan, **cast(Any, told)))
    return scans


def _in_folder(folder: Path, labels: Mapping[str, LabelFiles], images: Mapping[str, str]) -> list[LabelledScan]:
    """Masks below a folder whose scan lies beside them, or where BIDS has the source of a derivative."""
    masks: dict[Path, dict[str, Path]] = {}
    files = [path for path in sorted(folder.rglob("*.nii*")) if split_name(path)[1]]
    for path in files:
        for name, rule in labels.items():
            image = _scan_of(path, rule.endings, folder)
            if image and masks.setdefault(image, {}).setdefault(name, path) != path:
                both = f"{masks[image][name].relative_to(folder)} and {path.relative_to(folder)}"
                raise InputError(f"{folder}: {image.name} has two masks of {name}: {both}; take one away")
    if not masks:
        endings = ", ".join(f"SCAN_{rule.endings[0]}.nii.gz" for rule in labels.values())
        raise InputError(
            f"{folder}: holds no scan with a manual mask ({endings} beside SCAN.nii.gz or in derivatives/NAME); "
            "name the files: IMAGE:SC=MASK:GM=MASK, or in a list"
        )
    brains = {image: path for path in files if (image := _scan_of(path, _BRAIN_MASKS, folder))}
    scans = []
    for image, own in masks.items():
        others = {role: _other(image, part) for role, part in images.items()}
        others |= {BRAIN_MASK: brains[image]} if image in brains else {}
        scans.append(_scan(image, own, others))
    return scans


def _scan_of(mask: Path, endings: Sequence[str], folder: Path) -> Path | None:
    """The scan that a mask is of, if its name has one of the endings and the scan is there."""
    stem = split_name(mask.name)[0]
    ending = next((e for e in endings if stem.endswith(f"_{e}")), None)
    if ending is None:
        return None
    name = stem.removesuffix(f"_{ending}")
    raw = re.sub(r"(?:^|(?<=/))derivatives/[^/]+/", "", f"{mask.parent.relative_to(folder).as_posix()}/")
    places = (at / (name + kind) for at in (mask.parent, folder / raw) for kind in (".nii.gz", ".nii"))
    return next(filter(Path.is_file, places), None)


def _other(image: Path, part: str) -> Path:
    """Another image of the same session: the last part of the name is another."""
    stem, kind = split_name(image.name)
    path = image.with_name("_".join([*stem.split("_")[:-1], part]) + kind)
    if not path.is_file():
        raise InputError(f"{path}: no such file; it is another image of {image}, which the recipe asks for")
    return path


def _scan(image: Path, masks: dict[str, Path], files: dict[str, Path] | None = None) -> LabelledScan:
    told = entities_of(image)
    stem = split_name(image.name)[0]
    return LabelledScan(stem, image, masks, told.get("sub", ""), told.get("ses", ""), files or {})


def _as_people(
    scans: list[LabelledScan], subject: str | None, participants: Mapping[str, Mapping[str, str]]
) -> list[LabelledScan]:
    """The scans with the person as their subject."""
    # Scans without a subject's label: those of one folder with other scans are of different people, by their names.
    names = [split_name(scan.image.name)[0] for scan in scans]
    scans = [
        scan if scan.subject else replace(scan, subject=name if names.count(name) == 1 else scan.image.parent.name)
        for scan, name in zip(scans, names)
    ]
    if subject is not None:
        cases: Any = scans
        return cast(list[LabelledScan], persons(cases, subject, participants))
    # Two sessions of one person in two parts would flatter; two people in one part only waste a scan.
    return [replace(scan, subject=person_perhaps(scan.subject)) for scan in scans]


def _participants(folder: Path) -> dict[str, dict[str, str]]:
    from sctseg7t.cohort.participants import read_participants

    path = folder / "participants.tsv"
    if not path.is_file():
        return {}
    table = read_participants(path)
    return {name: table.of(name) for name in table.rows}


def strata(scans: Sequence[LabelledScan], folders: Sequence[str | Path], column: str) -> dict[str, str]:
    """What a column of participants.tsv says of each person (InputError where no such column is there)."""
    rows: dict[str, dict[str, str]] = {}
    for folder in map(Path, folders):
        rows |= _participants(folder) if folder.is_dir() else {}
    if not any(column in row for row in rows.values()):
        raise InputError(f"{column}: no column of the participants.tsv of these scans; name another to stratify by")
    told = {}
    for scan in scans:
        label = entities_of(scan.image).get("sub", scan.subject)
        told[scan.subject] = rows.get(label, {}).get(column, "") or told.get(scan.subject, "")
    return told


def _apart(scans: Sequence[LabelledScan]) -> Iterator[LabelledScan]:
    """The scans with names that tell them apart: scans in folders of their own may all be called run-1."""
    names = [scan.name for scan in scans]
    for scan in scans:
        yield scan if names.count(scan.name) == 1 else replace(scan, name=f"{scan.image.parent.name}/{scan.name}")
