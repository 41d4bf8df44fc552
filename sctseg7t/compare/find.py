"""Which masks are of one scan: by BIDS entities, else by name."""

import filecmp
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from sctseg7t.cohort.find import Scan
from sctseg7t.compare.names import LESION, parse_name
from sctseg7t.compare.records import Case, Problem
from sctseg7t.compare.sources import REFERENCE, MaskFile, mask_files
from sctseg7t.errors import UsageError

# Roles of files that are no masks but are matched like them.
_IMAGE, _LEVELS = "image", "levels"
# The contrast in which a brain's lesions are drawn.
_BRAIN = "FLAIR"
# A message names at most so many scans.
_SOME = 4


def find_cases(methods, reference=(), scans=(), *, made=(), structures=None, levels=None, groups=None, told=()):
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
    files, problems = _all_files((*methods, *reference), made, structures)
    extra = [MaskFile(_IMAGE, "", s.path, _folder(s.relative), parse_name(s.path)) for s in scans]
    extra += _level_files(levels) if levels else []
    if len(scans) <= 1 and _of_one_scan(files, methods, reference):
        keyed = {_one_name(files, scans): [*files, *extra]}
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


def missing_masks(cases):
    """A problem for each mask that a method, or the reference, has of other scans but not of this one.

    A second run of a session needs no reference: its areas are compared with those of the first.
    """
    having = defaultdict(set)
    for case in cases:
        for method, structure in case.masks:
            having[structure].add(method)
    repeated = Counter(rescan_key(case) for case in cases)
    problems, rescans = [], []
    for case in cases:
        for structure in sorted(having):
            present = {method for method, tissue in case.masks if tissue == structure}
            if not any((tissue == LESION) == (structure == LESION) for _, tissue in case.masks):
                # A brain among cords, or a cord among brains.
                continue
            for method in sorted(having[structure] - present):
                if method == REFERENCE and rescan_key(case) is not None and repeated[rescan_key(case)] > 1:
                    rescans.append(case.name)
                elif method != REFERENCE or present:
                    problems.append(_missing(case, method, structure))
    if rescans:
        names = list(dict.fromkeys(rescans))
        text = f"{REFERENCE}: has no masks of {_some(names)}; as second runs, they count for repeatability only"
        problems.append(Problem("missing", None, REFERENCE, None, None, text, False))
    return problems


def _missing(case, method, structure):
    text = f"{case.name}: {method} has no {structure} mask of it; add one, or give it the scan's entities or stem"
    return Problem("missing", case.name, method, structure, None, text, True)


def _some(names):
    return ", ".join(names[:_SOME]) + (f" and {len(names) - _SOME} more" if len(names) > _SOME else "")


def rescan_key(case):
    """The same for the runs of one session; None where the scan's name has no run."""
    if case.run is None or not case.entities:
        return None
    return tuple(sorted((key, value) for key, value in case.entities.items() if key != "run"))


# --- keys ------------------------------------------------------------------------------


def _all_files(sources, made, structures):
    files, problems = [file for file in made if not structures or file.structure in structures], []
    for source in sources:
        some, unnamed = mask_files(source)
        files += [file for file in some if not structures or file.structure in structures]
        problems += unnamed
    if not files:
        raise UsageError(f"-structure {' '.join(structures)}: no mask of these; leave it out, or name others")
    return files, problems


def _level_files(path):
    path = Path(path)
    if not path.exists():
        raise UsageError(f"-levels {path}: does not exist; give a file or folder of vertebral labels")
    if not path.is_dir():
        return [MaskFile(_LEVELS, "", path, "", parse_name(path))]
    found = sorted(p for p in path.rglob("*.nii*") if not p.name.startswith("."))
    return [
        MaskFile(_LEVELS, "", p, _folder(p.relative_to(path).as_posix()), parse_name(p))
        for p in found
        if parse_name(p).structure == "LEVELS" or not parse_name(p).is_mask
    ]


def _folder(relative):
    return PurePosixPath(relative).parent.as_posix().removeprefix(".")


def _of_one_scan(files, methods, reference):
    """Whether every mask was named by itself, and nothing speaks against their being of one scan."""
    alone = not any(source.path.is_dir() for source in (*methods, *reference))
    once = max(Counter((file.method, file.structure) for file in files).values()) == 1
    subjects = {file.name.entities["sub"] for file in files if "sub" in file.name.entities}
    return alone and once and len(subjects) <= 1


def _one_name(files, scans):
    if scans:
        return scans[0].name
    named = [file.name.key for file in files if file.name.key]
    named += [file.name.suffix for file in files if file.name.suffix]
    return next((key for key in named if key.startswith("sub-")), named[0] if named else "scan")


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
        for file in found:
            if file.name.suffix:
                continue
            place = _place(file, found, suffixes)
            if place:
                keyed[f"{key}_{place}"].append(file)
            elif file.method not in (_IMAGE, _LEVELS):
                problems.append(_unclear(file, suffixes))
    return keyed, problems


def _place(file, files, suffixes):
    """Which contrast a mask without one belongs to: a brain's lesions to the FLAIR, a cord's tissues to the other."""
    known = suffixes & {_BRAIN}
    if file.structure == LESION:
        having = {other.name.suffix for other in files if other.structure == LESION and other.name.suffix}
        chosen = having or known
    else:
        chosen = suffixes - known if known else ()
    return next(iter(chosen)) if len(chosen) == 1 else None


def _repeats(files):
    return max(Counter((file.method, file.structure) for file in files).values()) > 1


def _unclear(file, suffixes):
    text = f"{file.path}: its name does not tell which of {', '.join(sorted(suffixes))} it is of; put that in its name"
    return Problem("name", None, file.method, file.structure, str(file.path), text, True)


# --- cases -----------------------------------------------------------------------------


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
            problems.append(Problem("duplicate", name, method, structure, str(paths[0]), text, True))
        else:
            masks[method, structure] = paths[0]
    if len(levels) > 1:
        text = f"{name}: {len(levels)} files of vertebral labels ({', '.join(map(str, levels))}); keep one"
        problems.append(Problem("duplicate", name, None, None, str(levels[0]), text, False))
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
        elif case.image is not None and not case.masks:
            problems.append(
                Problem(
                    "missing",
                    case.name,
                    None,
                    None,
                    str(case.image),
                    f"{case.name}: there is no mask of it; make one, or leave the scan out",
                    True,
                )
            )
        elif case.masks:
            other[REFERENCE, "no method has masks of them"].append(case.name)
    for (method, why), names in other.items():
        text = f"{method}: masks of {len(names)} scans are not used ({_some(names)}): {why}; add those, or let it be"
        problems.append(Problem("missing", None, method, None, None, text, method != REFERENCE))
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
        raise UsageError("one method and no reference: nothing to compare; add -m NAME=FOLDER or -ref FOLDER")
    shown = "; ".join(
        f"{name} has {file.name.key or file.path.name} ({file.structure})" for name, file in first.items()
    )
    raise UsageError(f"no scan has two masks of one tissue to compare; names must share entities or stem: {shown}")


def scan_of(path):
    """A :class:`~sctseg7t.cohort.find.Scan` of a file named by itself."""
    from sctseg7t.bids import entities_of
    from sctseg7t.inference.outputs import split_name

    path = Path(path)
    return Scan(path.absolute(), path.name, split_name(path)[0], entities_of(path))
