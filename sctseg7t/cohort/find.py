"""Finding the scans of a data set: BIDS or plain folders, patterns, lists of what to take and what to leave."""

import fnmatch
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sctseg7t.bids import entities_of
from sctseg7t.errors import UsageError
from sctseg7t.inference.outputs import SIDECAR, split_name
from sctseg7t.text import one_line

# What segmentation tools and people call their masks: no scans, unless a pattern asks for them.
_MASKS = (
    *("*_seg", "*_gmseg", "*_wmseg", "*seg-manual", "*seg_manual", "*_mask", "*_probseg", "*_dseg", "*-truth"),
    # What the commands of the Spinal Cord Toolbox leave beside a scan: labels, soft masks, lines, points, warps.
    *("*_softseg", "*_csfseg", "*_csf", "*_seg_*", "*_gmseg_*", "*_wmseg_*", "*_label-*", "*_labels-*", "label_*"),
    *("*_labels", "*_labeled", "*_labeled_discs", "*_discs", "*_disc", "*_levels", "*_centerline", "*_centreline"),
    *("*_pmj", "*_rootlets", "*_compression", "*_lesion", "*_lesions", "*_lesionseg", "*_lesionlabels", "*_deepseg"),
    *("mask_*", "warp_*", "*_warp", "*_warp_*", "*_xfm", "template2anat*", "PAM50_*"),
)
# Parts of a complex image that show no anatomy as its magnitude does.
_NOT_MAGNITUDE = ("phase", "real", "imag")


@dataclass(frozen=True)
class Scan:
    """One scan of the data set.

    Attributes
    ----------
    path : Path
        Absolute.
    relative : str
        From the data set's folder, with "/".
    name : str
        What it is called: the file's stem in BIDS, else the relative path without extension.
    entities : dict of str to str
    """

    path: Path
    relative: str
    name: str
    entities: dict[str, str]

    def aliases(self) -> set[str]:
        """All that a list may call it: file, stem, path, mask of it, subject, subject and session."""
        stem = split_name(self.relative)[0]
        known = {self.name, self.relative, PurePosixPath(self.relative).name, stem}
        if "sub" in self.entities:
            subject = f"sub-{self.entities['sub']}"
            known |= {subject, self.entities["sub"]}
            if "ses" in self.entities:
                session = f"ses-{self.entities['ses']}"
                known |= {f"{subject}_{session}", f"{subject}/{session}"}
        return known


def find_scans(
    folder: str | Path,
    pattern: str | None = None,
    *,
    leave: str | Path | None = None,
    suffix: str | None = "T2starw",
    notes: list[str] | None = None,
) -> list[Scan]:
    """Find the scans of a folder.

    In a BIDS data set those are ``sub-*/[ses-*/]anat/*_SUFFIX.nii[.gz]``; derivatives and source data are
    left alone. In any other folder they are all NIfTI files in it and below, but for masks and what else the Spinal
    Cord Toolbox makes of a scan, and for those whose BIDS name has another suffix. The phase, the real or the
    imaginary part of an image is no scan, unless a pattern names it (``*part-phase*``).

    Parameters
    ----------
    folder : path
    pattern : str, optional
        A BIDS suffix (``MTS``), or a glob for the file name (``*_echo-1_*``), or, with "/", for the path within
        the folder.
    leave : path, optional
        A folder not to look in: that of the outputs.
    suffix : str or None
        BIDS suffix of the scans that are looked for without a pattern, as a model's entry names it. With None a
        BIDS data set needs a pattern.
    notes : list of str, optional
        Gets what was left out, in words.

    Returns
    -------
    list of Scan
        Sorted by path.

    Raises
    ------
    UsageError
        No such folder, or no scan in it; says what there is instead.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise UsageError(f"{folder}: is no folder; give the folder of a data set")
    bids = any(path.is_dir() for step in ("sub-*/anat", "sub-*/ses-*/anat") for path in root.glob(step))
    files = sorted(_nifti_files(root, leave, bids))
    if leave:
        _check_left(root, Path(os.path.abspath(leave)), pattern, bids, suffix)
    scans, products, parts = [], [], []
    for relative in files:
        if pattern is None and not bids and _looks_like_mask(split_name(PurePosixPath(relative).name)[0]):
            products.append(relative)
        elif _wanted(relative, pattern, bids, suffix):
            if entities_of(relative).get("part") in _NOT_MAGNITUDE and "part-" not in (pattern or ""):
                parts.append(relative)
                continue
            entities, stem = entities_of(relative), split_name(relative)[0]
            name = stem if bids and "/anat/" in relative and entities else _without_extension(relative)
            scans.append(Scan(root / relative, relative, name, entities))
    if not scans:
        if not files:
            raise UsageError(f"{folder}: holds no NIfTI file (.nii or .nii.gz); give the folder of a data set")
        what = pattern or (f"*_{suffix or 'SUFFIX'}.nii.gz in sub-*/[ses-*/]anat" if bids else "scan")
        kinds = Counter(split_name(name)[0].rpartition("_")[2] for name in files)
        there = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(6))
        raise UsageError(f"{folder}: nothing matches {what}; there are {there}: choose another pattern")
    for left, what in ((products, "by their names no scans but made of scans"), (parts, "no magnitude images")):
        if left and notes is not None:
            notes.append(f"{folder}: left out as {what}: {some(left)}; a pattern that names them takes them")
    names = Counter(scan.name for scan in scans)
    return [scan if names[scan.name] == 1 else replace(scan, name=scan.relative) for scan in scans]


def _check_left(root, leave, pattern, bids, suffix):
    """Refuse to leave a folder out that holds scans (UsageError): they would go missing without a word."""
    if (
        root not in leave.parents
        or not leave.is_dir()
        or (bids and not leave.relative_to(root).parts[0].startswith("sub-"))
    ):
        return
    inside = (leave.relative_to(root).joinpath(name).as_posix() for name in _nifti_files(leave, None, False))
    scans = [
        name
        for name in sorted(inside)
        if not _looks_like_mask(split_name(PurePosixPath(name).name)[0]) and _wanted(name, pattern, bids, suffix)
    ]
    if scans:
        raise UsageError(f"{leave}: holds scans of the data set ({some(scans)}); choose an output folder of its own")


def _without_extension(relative: str) -> str:
    return relative.removesuffix(split_name(relative)[1])


def _nifti_files(root, leave, bids):
    """NIfTI files below a folder, relative, with "/"; links to files count, broken ones too."""
    leave = os.path.realpath(leave) if leave else None
    for place, folders, files in os.walk(root):
        top = os.path.samefile(place, root)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and not (bids and top and not name.startswith("sub-"))
            and os.path.realpath(os.path.join(place, name)) != leave
        ]
        made = [name.removesuffix(SIDECAR) for name in files if name.endswith(SIDECAR)]
        for name in files:
            stem, extension = split_name(name)
            # A record beside the file may say that it was made from another scan.
            output = _looks_like_mask(stem) and any(stem != scan and stem.startswith(scan) for scan in made)
            if extension and not name.startswith(".") and not output:
                yield Path(os.path.relpath(os.path.join(place, name), root)).as_posix()


def _looks_like_mask(stem):
    return any(fnmatch.fnmatchcase(stem, mask) for mask in _MASKS)


def _wanted(relative, pattern, bids, suffix):
    name = PurePosixPath(relative).name
    stem = split_name(name)[0]
    if pattern is None:
        if bids:
            return "/anat/" in relative and stem.endswith(f"_{suffix}")
        return not _looks_like_mask(stem) and suffix in (None, entities_of(name).get("suffix", suffix))
    if "/" in pattern:
        return any(fnmatch.fnmatchcase(text, pattern) for text in (relative, _without_extension(relative)))
    if not any(mark in pattern for mark in "*?["):
        return f"_{stem}".endswith(f"_{pattern.removeprefix('_')}") and (not bids or "/anat/" in relative)
    return any(fnmatch.fnmatchcase(text, pattern) for text in (name, stem))


def select(
    scans: Sequence[Scan],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    qc_fail: str | Path | None = None,
) -> tuple[list[Scan], list[str]]:
    """Keep what the lists ask for.

    Parameters
    ----------
    scans : sequence of Scan
    include, exclude : sequence of str
        File names, stems, subjects (``sub-01``), paths within the data set, globs of these, or text files
        (``.txt``) with one of them a line.
    qc_fail : path, optional
        See :func:`read_qc_fail`; what it lists is left out.

    Returns
    -------
    kept : list of Scan
    notes : list of str
        Entries that name no scan, in words.

    Raises
    ------
    UsageError
        A list cannot be read, or nothing is left.
    """
    notes: list[str] = []
    taken = _matching(scans, include, "to include", notes) if include else {scan.name for scan in scans}
    left = _matching(scans, exclude, "to exclude", notes)
    if qc_fail:
        left |= _matching(scans, read_qc_fail(qc_fail), str(qc_fail), notes)
    kept = [scan for scan in scans if scan.name in taken - left]
    if not kept:
        raise UsageError("; ".join(["the lists of what to include and to exclude leave no scan", *notes]))
    return kept, notes


def read_qc_fail(path: str | Path) -> list[str]:
    """File names that a ``qc_fail.yml`` lists.

    The format is that of the Spinal Cord Toolbox's QC page, as its manual-correction scripts read it: a mapping
    of what was done to the files that failed in it::

        FILES_SEG:
        - sub-001_T2starw.nii.gz
        FILES_GMSEG:
        - sub-002_T2starw.nii.gz

    A plain list of file names is taken too. Whatever the heading, a scan listed once is left out.

    Raises
    ------
    UsageError
        Missing, or of another form.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        reason = one_line(getattr(err, "strerror", None) or err, 120)
        raise UsageError(f"{path}: cannot be read ({reason}); export it again from the QC page") from err
    groups = list(content.values()) if isinstance(content, dict) else [content]
    names = []
    for group in groups:
        if not isinstance(group or [], list) or not all(isinstance(name, str) for name in group or []):
            raise UsageError(f"{path}: is no mapping of headings to lists of file names; export it again")
        names += [PurePosixPath(name).name for name in group or []]
    return list(dict.fromkeys(names))


def _matching(scans, items, source, notes):
    """Names of the scans that any entry of a list means; entries that mean none are noted."""
    entries = []
    for item in items:
        if item.endswith(".txt"):
            try:
                lines = [line.strip() for line in Path(item).read_text(encoding="utf-8-sig").splitlines()]
            except (OSError, UnicodeDecodeError) as err:
                raise UsageError(f"{item}: cannot be read; give names, globs or a text file of them") from err
            entries += [line for line in lines if line and not line.startswith("#")]
        else:
            entries.append(item)
    aliases = {scan.name: scan.aliases() for scan in scans}
    found, unknown = set(), []
    for entry in entries:
        texts = {entry.rstrip("/"), split_name(entry)[0] if "/" not in entry else entry}
        hits = {name for name, known in aliases.items() if any(fnmatch.filter(known, text) for text in texts)}
        found |= hits
        if not hits:
            unknown.append(entry)
    if unknown:
        notes.append(f"{source}: {some(unknown)}: no scan of that name")
    return found


def some(things: Sequence[str]) -> str:
    """The first five of a list, in words."""
    return ", ".join(things[:5]) + (f" and {len(things) - 5} more" if len(things) > 5 else "")
