"""Where masks come from: what the user named, and the mask files in it."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sctseg7t.compare.names import NOT_TISSUES, MaskName, parse_name, structure_named
from sctseg7t.compare.records import Problem
from sctseg7t.errors import UsageError
from sctseg7t.inference.outputs import split_name

REFERENCE = "reference"
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


def read_method(text):
    """The source that ``-m`` names: ``NAME=PATH``, ``NAME:GM=PATH`` or ``PATH``, which may be a pattern.

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
        raise UsageError(f"-m {text}: write NAME=PATH, or NAME:GM=PATH to say the tissue (SC, GM, WM or LESION)")
    if name == REFERENCE:
        raise UsageError(f"-m {text}: {REFERENCE} is what -ref gives; choose another name for the method")
    if any(mark in name for mark in "/\\\n\t") or name.startswith("."):
        raise UsageError(f"-m {text}: {name!r} cannot be a method's name; use letters, digits, - and _")
    return Source(name, *_existing("-m", path, structure))


def read_reference(text):
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


def mask_files(source):
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
    if not source.path.is_dir():
        name = parse_name(source.path)
        structure = source.structure or name.structure
        if structure in (None, *NOT_TISSUES):
            raise UsageError(f"{_option(source)} {source.path}: its name does not say of which tissue; {_say(source)}")
        return [MaskFile(source.method, structure, source.path, "", name)], []
    names = [(relative, parse_name(source.path / relative)) for relative in _chosen(source)]
    files = [
        MaskFile(
            source.method,
            source.structure or name.structure,
            source.path / relative,
            PurePosixPath(relative).parent.as_posix().removeprefix("."),
            name,
        )
        for relative, name in names
        if (name.structure in (None, source.structure) if source.structure else _tissue(name))
    ]
    unnamed = [] if source.structure else [relative for relative, name in names if name.is_mask and not name.structure]
    if not files:
        raise UsageError(_nothing(source, names))
    return files, [_unnamed(source, unnamed)] if unnamed else []


def _tissue(name):
    return name.structure not in (None, *NOT_TISSUES)


def _chosen(source):
    """Files of the folder, those of its pattern if it has one."""
    files = _nifti_files(source.path)
    if source.pattern is None:
        return files
    wanted = {path.relative_to(source.path).as_posix() for path in source.path.glob(source.pattern)}
    return [name for name in files if name in wanted]


def _nifti_files(root):
    found = []
    for place, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_MASKS)
        for name in names:
            if split_name(name)[1] and not name.startswith("."):
                found.append(Path(os.path.relpath(os.path.join(place, name), root)).as_posix())
    return sorted(found)


def _nothing(source, names):
    option = f"{_option(source)} {source.path}"
    if not names and source.pattern:
        return (
            f"{option}/{source.pattern}: matches no NIfTI file (.nii or .nii.gz); give the folder, or another pattern"
        )
    if not names:
        return f"{option}: holds no NIfTI file (.nii or .nii.gz); give the folder of the masks"
    first = names[0][0]
    return f"{option}: no name of its {len(names)} files (such as {first}) says of which tissue it is; {_say(source)}"


def _unnamed(source, names):
    text = f"{source.path}: {len(names)} masks (such as {names[0]}) do not say of which tissue they are; {_say(source)}"
    return Problem("name", None, source.method, None, str(source.path), text, True)


def _option(source):
    return "-ref" if source.method == REFERENCE else "-m"


def _say(source):
    if source.method == REFERENCE:
        return f"say it: -ref gm={source.path}"
    return f"say it: -m {source.method}:gm={source.path}"


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
