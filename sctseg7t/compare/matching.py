"""Which masks belong to which scan and tissue: by BIDS entities, else by the words of their file names."""

from __future__ import annotations

import filecmp
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sctseg7t.bids import entities_of
from sctseg7t.cohort.find import Scan
from sctseg7t.compare.types import LESION, REFERENCE, STRUCTURES, Case, Problem
from sctseg7t.errors import UsageError
from sctseg7t.inference.mask_names import NEW_LESION, MaskName, parse_name, structure_named
from sctseg7t.inference.outputs import split_name

# --- sources: what the user named, and the mask files in it ----------------------------


# What sct7t_batch keeps beside its masks.
_NOT_MASKS = ("replaced", "logs")


@dataclass(frozen=True)
class Source:
    """A file or folder of masks of one method.

    ``structure`` where it was said outright; ``pattern`` chooses files of a folder, as in :meth:`pathlib.Path.glob`.
    """

    method: str
    path: Path
    structure: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class MaskFile:
    """A mask file; ``folder`` is its place within the source ("" for a file named by itself)."""

    method: str
    structure: str
    path: Path
    folder: str
    name: MaskName


def read_method(text: str) -> Source:
    """The source that ``-method`` names: ``NAME=PATH``, ``NAME:GM=PATH`` or ``PATH``, which may be a pattern.

    Raises
    ------
    UsageError
        No such file, an empty or reserved name, an unknown tissue.
    """
    name, equals, path = text.partition("=")
    if not equals or os.sep in name:
        name, path = split_name(os.path.abspath(text))[0], text
    name, colon, tissue = name.partition(":")
    structure = structure_named(tissue) if colon else None
    if not name or not path or (colon and not structure):
        raise UsageError(f"-method {text}: write NAME=PATH, or NAME:GM=PATH to say the tissue (SC, GM, WM or LESION)")
    if name == REFERENCE:
        raise UsageError(f"-method {text}: {REFERENCE} is what -ref gives; choose another name for the method")
    if any(mark in name for mark in "/\\\n\t") or name.startswith("."):
        raise UsageError(f"-method {text}: {name!r} cannot be a method's name; use letters, digits, - and _")
    return Source(name, *_existing("-method", path, structure))


def read_reference(text: str) -> Source:
    """The source that ``-ref`` names: a folder, ``GM=FILE``, or a file whose name says its tissue.

    Raises
    ------
    UsageError
        No such file, an unknown tissue, or one that the name does not say.
    """
    tissue, equals, path = text.partition("=")
    if not equals or os.sep in tissue:
        return Source(REFERENCE, *_existing("-ref", text))
    structure = structure_named(tissue)
    if not structure:
        raise UsageError(f"-ref {text}: {tissue!r} is no tissue; write gm=FILE, sc=FILE, wm=FILE or lesion=FILE")
    return Source(REFERENCE, *_existing("-ref", path, structure))


def mask_files(source: Source) -> tuple[list[MaskFile], list[Problem]]:
    """The masks of a source, by name.

    In a folder, files whose names do not say that they are masks are taken for scans, unless the source says
    outright what it holds.

    Parameters
    ----------
    source : Source

    Returns
    -------
    files : list of MaskFile
        Sorted by path.
    problems : list of Problem
        Masks whose names do not say of which tissue.

    Raises
    ------
    UsageError
        Nothing usable in it.
    """
    is_reference = source.method == REFERENCE
    option = f"{'-ref' if is_reference else '-method'} {source.path}"
    say = f"say it: -ref gm={source.path}" if is_reference else f"say it: -method {source.method}:gm={source.path}"
    if not source.path.is_dir():
        name = parse_name(source.path)
        structure = source.structure or name.structure
        if structure not in STRUCTURES:
            raise UsageError(f"{option}: its name does not say of which tissue; {say}")
        return [MaskFile(source.method, structure, source.path, "", name)], []
    found, files, unnamed = _nifti_files(source), [], []
    for relative in found:
        name = parse_name(source.path / relative)
        structure = source.structure or name.structure
        # New lesions are compared as lesions where somebody says so.
        meant = (None, structure, NEW_LESION) if source.structure == LESION else (None, structure)
        if structure in STRUCTURES and name.structure in meant:
            files.append(MaskFile(source.method, structure, source.path / relative, _folder(relative), name))
        elif name.is_mask and not name.structure:
            unnamed.append(relative)
    if not found and source.pattern:
        raise UsageError(
            f"{option}/{source.pattern}: matches no NIfTI file (.nii or .nii.gz); give the folder, or another pattern"
        )
    if not found:
        raise UsageError(f"{option}: holds no NIfTI file (.nii or .nii.gz); give the folder of the masks")
    if not files:
        raise UsageError(
            f"{option}: no name of its {len(found)} files (such as {found[0]}) says of which tissue it is; {say}"
        )
    if not unnamed:
        return files, []
    text = f"{source.path}: {len(unnamed)} masks (such as {unnamed[0]}) do not say of which tissue they are; {say}"
    return files, [Problem("name", text, True, method=source.method, file=str(source.path))]


def _nifti_files(source: Source) -> list[str]:
    """NIfTI files of a folder, relative to it, those of its pattern if it has one."""
    wanted = None if source.pattern is None else {str(path) for path in source.path.glob(source.pattern)}
    found = []
    for place, folders, names in os.walk(source.path, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NOT_MASKS]
        for name in names:
            path = Path(place, name)
            if split_name(name)[1] and not name.startswith(".") and (wanted is None or str(path) in wanted):
                found.append(path.relative_to(source.path).as_posix())
    return sorted(found)


def _folder(relative: str) -> str:
    return PurePosixPath(relative).parent.as_posix().removeprefix(".")


def _existing(option, path, structure=None):
    """Path, structure and pattern of a source (UsageError if it is not there)."""
    found = Path(path)
    if found.exists():
        return found, structure, None
    parts = found.parts
    first = next((k for k, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts))
    root = Path(*parts[:first])
    if first == len(parts) or not root.is_dir():
        raise UsageError(f"{option} {path}: does not exist; check the path")
    return root, structure, "/".join(parts[first:])


# --- cases: the masks of one scan ------------------------------------------------------


# Roles of files that are no masks but are matched like them.
_IMAGE, _LEVELS = "image", "levels"
# The contrast in which a brain's lesions are drawn.
_BRAIN = "FLAIR"
# A message names at most so many scans.
_SOME = 4


def find_cases(
    methods: Sequence[Source],
    reference: Sequence[Source] = (),
    scans: Sequence[Scan] = (),
    *,
    made: Sequence[MaskFile] = (),
    structures: Sequence[str] | None = None,
    levels: str | Path | None = None,
    groups: Mapping[str, str | None] | None = None,
    told: Sequence[Problem] = (),
) -> tuple[list[Case], list[Problem]]:
    """Match the masks of all sources to scans.

    Masks belong together if their BIDS entities are the same, but for label, desc, space and the suffix; else if
    their names are, without the words that say what they hold. Where one source has the same name in two folders,
    folders count too. Files that were all named by themselves, one for each method and tissue, are of one scan.

    Parameters
    ----------
    methods, reference : sequence of Source
    scans : sequence of :class:`sctseg7t.cohort.find.Scan`
        If given, only these are compared.
    made : sequence of MaskFile
        Further masks, with the name of their scan.
    structures : sequence of str, optional
        Only these.
    levels : path, optional
        File or folder of vertebral labels.
    groups : dict of str to str, optional
        Group by subject.
    told : sequence of Problem
        Known already: masks that failed to be made are not missed once more.

    Returns
    -------
    cases : list of Case
        Sorted by name; those with a mask of at least one method.
    problems : list of Problem
        Duplicates, names that do not say enough, masks without their like.

    Raises
    ------
    UsageError
        Nothing in common.
    """
    files, problems = list(made), []
    for source in (*methods, *reference):
        some, unnamed = mask_files(source)
        files += some
        problems += unnamed
    files = [file for file in files if not structures or file.structure in structures]
    if not files:
        named = f"-structure {' '.join(structures or ())}: no mask of these; leave it out, or name others"
        raise UsageError(named if structures or not told else f"there is no mask to compare: {told[0].message}")
    extra = [MaskFile(_IMAGE, "", s.path, _folder(s.relative), parse_name(s.path)) for s in scans]
    extra += _level_files(levels) if levels else []
    alone = not any(source.path.is_dir() for source in (*methods, *reference))
    subjects = {file.name.entities["sub"] for file in files if "sub" in file.name.entities}
    if alone and len(scans) <= 1 and len(subjects) <= 1 and not _repeats(files):
        named = [file.name.key for file in files] + [file.name.suffix or "" for file in files]
        named = sorted(filter(None, named), key=lambda key: not key.startswith("sub-")) or ["scan"]
        keyed = {scans[0].name if scans else named[0]: [*files, *extra]}
    else:
        keyed, unclear = _by_key([*files, *extra])
        problems += unclear
    names = {str(scan.path): scan.name for scan in scans}
    cases = []
    for key, found in keyed.items():
        case, doubles = _case(key, found, names, groups or {})
        cases.append(case)
        problems += doubles
    kept = _chosen(cases, bool(scans), problems)
    failed = {(problem.case, problem.method) for problem in told}
    problems += [p for p in missing_masks(kept) if (p.case, p.method) not in failed]
    _check_common(kept, files)
    return sorted(kept, key=lambda case: case.name), problems


def missing_masks(cases: Sequence[Case]) -> list[Problem]:
    """A problem for each mask that a method, or the reference, has of other scans but not of this one.

    A second run of a session needs no reference: its areas are compared with those of the first.
    """
    having = sorted({(structure, method) for case in cases for method, structure in case.masks})
    repeated = Counter(case.session_key for case in cases)
    problems, rescans = [], []
    for case in cases:
        present = {structure for _, structure in case.masks}
        for structure, method in having:
            # A brain among cords lacks nothing, nor does a cord among brains.
            alike = any((tissue == LESION) == (structure == LESION) for tissue in present)
            if (method, structure) in case.masks or not alike:
                continue
            if method == REFERENCE and case.session_key is not None and repeated[case.session_key] > 1:
                rescans.append(case.name)
            elif method != REFERENCE or structure in present:
                text = f"{case.name}: {method} has no {structure} mask of it; "
                text += "add one, or give it the scan's entities or stem"
                problems.append(Problem("missing", text, True, case.name, method, structure))
    if rescans:
        names = list(dict.fromkeys(rescans))
        text = f"{REFERENCE}: has no masks of {_some(names)}; as second runs, they count for repeatability only"
        problems.append(Problem("missing", text, False, method=REFERENCE))
    return problems


def _some(names):
    return ", ".join(names[:_SOME]) + (f" and {len(names) - _SOME} more" if len(names) > _SOME else "")


def _level_files(path):
    path = Path(path)
    if not path.exists():
        raise UsageError(f"-levels {path}: does not exist; give a file or folder of vertebral labels")
    if not path.is_dir():
        return [MaskFile(_LEVELS, "", path, "", parse_name(path))]
    found = [(path / relative, _folder(relative)) for relative in _nifti_files(Source(_LEVELS, path))]
    named = [MaskFile(_LEVELS, "", file, folder, parse_name(file)) for file, folder in found]
    return [file for file in named if file.name.structure == "LEVELS" or not file.name.is_mask]


def _by_key(files):
    """Files by the key of their scan, and problems with those whose key is not clear."""
    places = defaultdict(set)
    for file in files:
        if not file.name.entities:
            places[file.method, file.structure, file.name.key].add(file.folder)
    folders = any(len(found) > 1 for found in places.values())
    groups = defaultdict(list)
    for file in files:
        key = file.name.key
        if not file.name.entities and (folders or not key):
            key = "/".join(part for part in (file.folder, key) if part)
        groups[key or "scan"].append(file)
    keyed, problems = {}, []
    for key, found in groups.items():
        suffixes = {file.name.suffix for file in found if file.name.suffix}
        if len(suffixes) <= 1 or not _repeats(found):
            keyed[key] = found
            continue
        for suffix in sorted(suffixes):
            keyed[f"{key}_{suffix}"] = [file for file in found if file.name.suffix == suffix]
        # A brain's lesions are drawn in the FLAIR, a cord's tissues in the other contrast.
        lesions = {file.name.suffix for file in found if file.structure == LESION} & suffixes or suffixes & {_BRAIN}
        tissues = suffixes - {_BRAIN} if _BRAIN in suffixes else suffixes
        for file in found:
            chosen = lesions if file.structure == LESION else tissues
            if not file.name.suffix and len(chosen) == 1:
                keyed[f"{key}_{next(iter(chosen))}"].append(file)
            elif not file.name.suffix and file.method not in (_IMAGE, _LEVELS):
                text = f"{file.path}: its name does not tell which of {', '.join(sorted(suffixes))} it is of; "
                text += "put that in its name"
                problems.append(Problem("name", text, True, None, file.method, file.structure, str(file.path)))
    return keyed, problems


def _repeats(files):
    return max(Counter((file.method, file.structure) for file in files).values()) > 1


def _case(key, files, names, groups):
    """The case of a key, and a problem for every mask that is there twice."""
    by_role = defaultdict(list)
    for file in files:
        by_role[file.method, file.structure].append(file.path)
    images, levels = by_role.pop((_IMAGE, ""), []), by_role.pop((_LEVELS, ""), [])
    image = images[0] if images else None
    name = names.get(str(image), key)
    problems, masks = [], {}
    for (method, structure), paths in by_role.items():
        different = [path for path in paths[1:] if not _same_file(path, paths[0])]
        if different:
            text = (
                f"{name}: {method} has {len(different) + 1} different {structure} masks of it "
                f"({', '.join(map(str, (paths[0], *different)))}); keep one"
            )
            problems.append(Problem("duplicate", text, True, name, method, structure, str(paths[0])))
        else:
            masks[method, structure] = paths[0]
    if len(levels) > 1:
        text = f"{name}: {len(levels)} files of vertebral labels ({', '.join(map(str, levels))}); keep one"
        problems.append(Problem("duplicate", text, False, name, file=str(levels[0])))
    entities = next((file.name.entities for file in files if file.name.entities), {})
    subject = entities.get("sub")
    case = Case(
        name,
        subject,
        entities.get("ses"),
        entities.get("run"),
        groups.get(subject),
        image,
        masks,
        levels[0] if len(levels) == 1 else None,
        entities,
    )
    return case, problems


def _same_file(path, other):
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def _chosen(cases, chosen, problems):
    """The cases that have a method's mask and, where scans were chosen, a scan; the others are told."""
    kept, other = [], defaultdict(list)
    for case in cases:
        methods = sorted({method for method, _ in case.masks} - {REFERENCE})
        if chosen and case.image is None:
            for method in methods or sorted({method for method, _ in case.masks}):
                other[method, "-i has no scan of them"].append(case.name)
        elif methods:
            kept.append(case)
        elif case.masks:
            other[REFERENCE, "no method has masks of them"].append(case.name)
        elif case.image is not None:
            text = f"{case.name}: there is no mask of it; make one, or leave the scan out"
            problems.append(Problem("missing", text, True, case.name, file=str(case.image)))
    for (method, why), names in other.items():
        text = f"{method}: masks of {len(names)} scans are not used ({_some(names)}): {why}; add those, or let it be"
        problems.append(Problem("missing", text, method != REFERENCE, method=method))
    return kept


def _check_common(cases, files):
    """UsageError unless some scan has two masks of one structure."""
    for case in cases:
        if max(Counter(structure for _, structure in case.masks).values(), default=0) > 1:
            return
    first = {}
    for file in files:
        first.setdefault(file.method, file)
    if len(first) < 2:
        raise UsageError("one method and no reference: nothing to compare; add -method NAME=FOLDER or -ref FOLDER")
    shown = "; ".join(
        f"{name} has {file.name.key or file.path.name} ({file.structure})" for name, file in first.items()
    )
    raise UsageError(f"no scan has two masks of one tissue to compare; names must share entities or stem: {shown}")


def scan_of(path: str | Path) -> Scan:
    """A :class:`~sctseg7t.cohort.find.Scan` of a file named by itself."""
    path = Path(path)
    return Scan(path.absolute(), path.name, split_name(path)[0], entities_of(path))
