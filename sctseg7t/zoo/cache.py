"""Files on this machine: the cache folder, the mirror folder, the installation; and how a copy is checked."""

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from sctseg7t.files import write_bytes
from sctseg7t.zoo.manifest import PACKAGE_DIR
from sctseg7t.zoo.spec import AnyPath, FileSpec

log = logging.getLogger("sctseg7t.zoo")
ALGORITHMS = ("sha256", "git_blob_sha1", "commit")
# How a file of each format begins: all that can be checked of one without a hash.
_SIGNATURES = {"keras-hdf5": b"\x89HDF\r\n\x1a\n"}


def cache_dir(cache: AnyPath | None = None) -> Path:
    """Return the cache folder: the argument, else ``SCT7T_CACHE``, else the user's own."""
    named = cache or os.environ.get("SCT7T_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("sctseg7t", appauthor=False))


def mirror_dir(mirror: AnyPath | None = None) -> Path | None:
    """Return the mirror folder (the argument, else ``SCT7T_MIRROR``), or None."""
    named = mirror or os.environ.get("SCT7T_MIRROR")
    return Path(named).expanduser() if named else None


def cached_path(file: FileSpec, cache: AnyPath | None = None) -> Path:
    """Return ``<cache>/<algorithm>/<hash>/<name>``, whether or not it exists."""
    return cache_dir(cache) / file.algorithm / file.digest / file.name


def file_digest(path: AnyPath, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file; ``git_blob_sha1`` is git's own blob identifier."""
    with open(path, "rb") as stream:
        if algorithm == "sha256":
            return hashlib.file_digest(stream, hashlib.sha256).hexdigest()
        hasher = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
        return hashlib.file_digest(stream, lambda: hasher).hexdigest()


def matches(path: AnyPath, file: FileSpec, *, new: bool = False) -> bool:
    """Tell whether ``path`` is a readable file with the size and hash of ``file``.

    A file without a hash is held to the one recorded when it arrived. A ``new`` one (from a mirror folder or an
    address) only has to begin as its format does.
    """
    try:
        if not os.path.isfile(path) or file.bytes not in (None, os.path.getsize(path)):
            return False
        if file.algorithm != "commit":
            return file_digest(path, file.algorithm) == file.digest
        return _begins_well(path, file) if new else as_recorded(path)
    except OSError:
        return False


def record(path: AnyPath) -> None:
    """Write the SHA-256 of a file beside it, for :func:`as_recorded`."""
    write_bytes(Path(f"{path}.sha256"), f"{file_digest(path)}\n".encode())


def as_recorded(path: AnyPath) -> bool:
    """Tell whether a file is still the one that :func:`record` saw."""
    try:
        return Path(f"{path}.sha256").read_text().strip() == file_digest(path)
    except (OSError, ValueError):
        return False


def describe(file: FileSpec) -> str:
    """Return the size and hash of a file in words."""
    size = "" if file.bytes is None else f"{file.bytes} bytes, "
    if file.algorithm == "commit":
        return f"{size}no known hash, of git commit {file.digest}"
    return f"{size}{file.algorithm.replace('_', ' ')} {file.digest}"


def find_in_package(file: FileSpec) -> Path | None:
    """Return the verified path of a file that ships with the installation, or None."""
    for url in file.urls:
        if url.startswith("package:"):
            path = PACKAGE_DIR / url.removeprefix("package:")
            if matches(path, file):
                return path
            if path.exists():
                log.warning("%s: not the file that the manifest names (%s)", path, describe(file))
    return None


def find_in_mirror(file: FileSpec, mirror: AnyPath | None = None) -> Path | None:
    """Return the verified path of a file in the mirror folder, or None.

    Looked for by its relative path, then by its name, at the top and in each direct subfolder. What is found is used
    in place. Files of that name with another content are reported in a warning, and passed over.
    """
    folder = mirror_dir(mirror)
    if folder is None:
        return None
    if not folder.is_dir():
        log.warning("%s: the mirror folder (SCT7T_MIRROR) does not exist", folder)
        return None
    wrong = []
    for candidate in _mirror_candidates(folder, file):
        if matches(candidate, file, new=True):
            if file.algorithm == "commit":
                log.warning("%s: taken for what its name says; no hash of it is known", candidate)
            return candidate
        if candidate.is_file():
            wrong.append(candidate)
    for candidate in wrong:
        log.warning("%s: not the file that the manifest names (%s); passed over", candidate, describe(file))
    return None


def find_local(file: FileSpec, mirror: AnyPath | None = None, cache: AnyPath | None = None) -> Path | None:
    """Return the verified path of a file wherever it lies on this machine, or None."""
    found = find_in_package(file) or find_in_mirror(file, mirror)
    if found:
        return found
    path = cached_path(file, cache)
    return path if matches(path, file) else None


def _begins_well(path: AnyPath, file: FileSpec) -> bool:
    signature = _SIGNATURES.get(file.format or "", b"")
    with open(path, "rb") as stream:
        start = stream.read(max(len(signature), 1))
    return bool(start) and start.startswith(signature)


def _mirror_candidates(folder: Path, file: FileSpec) -> Iterator[Path]:
    relative = list(dict.fromkeys((file.path, file.name)))
    yield from (folder / name for name in relative)
    try:
        subfolders = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return
    yield from (sub / name for sub in subfolders for name in relative)
