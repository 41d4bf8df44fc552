"""Files on this machine: the cache folder, the mirror folder, the installation; and how a copy is checked."""

import functools
import hashlib
import logging
import os
from pathlib import Path

from sctseg7t.files import write_bytes
from sctseg7t.zoo.manifest import PACKAGE_DIR
from sctseg7t.zoo.spec import KERAS, AnyPath, FileSpec

log = logging.getLogger("sctseg7t.zoo")
# How a file of each format begins: all that can be checked of one without a hash.
_SIGNATURES = {KERAS: b"\x89HDF\r\n\x1a\n"}


def cache_dir() -> Path:
    """Return the cache folder: ``SCT7T_CACHE``, else the user's own."""
    named = os.environ.get("SCT7T_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("sctseg7t", appauthor=False))


def mirror_dir() -> Path | None:
    """Return the mirror folder, ``SCT7T_MIRROR``, or None."""
    named = os.environ.get("SCT7T_MIRROR")
    return Path(named).expanduser() if named else None


def cached_path(file: FileSpec) -> Path:
    """Return ``<cache>/<algorithm>/<hash>/<name>``, whether or not it exists."""
    return cache_dir() / file.algorithm / file.digest / file.name


def lock_path(digest: str) -> Path:
    """Return the lock of the file of that hash; its folder is made."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest}.lock"


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
        if not new:
            return as_recorded(path)
        signature = _SIGNATURES.get(file.format or "", b"")
        with open(path, "rb") as stream:
            start = stream.read(len(signature) or 1)
        return bool(start) and start.startswith(signature)
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


def find_local(file: FileSpec) -> Path | None:
    """Return the verified path of a file on this machine: in the installation, the mirror or the cache; or None.

    In the mirror folder it is looked for by its relative path, then by its name, at the top and in each direct
    subfolder. What is found there and in the installation is used in place. Files of that name with another content
    are reported in a warning, and passed over.
    """
    for places in (_shipped, _in_mirror):
        there = [path for path in places(file) if path.is_file()]
        for path in there:
            if matches(path, file, new=True):
                if file.algorithm == "commit":
                    log.warning("%s: taken for what its name says; no hash of it is known", path)
                return path
        for path in there:
            log.warning("%s: not the file that the manifest names (%s); passed over", path, describe(file))
    path = cached_path(file)
    return path if matches(path, file) else None


def _shipped(file: FileSpec) -> list[Path]:
    return [PACKAGE_DIR / url.removeprefix("package:") for url in file.urls if url.startswith("package:")]


@functools.cache
def _warn_once(text: str) -> None:
    """Every file asks for the mirror; what is wrong with it is said once."""
    log.warning(text)


def _in_mirror(file: FileSpec) -> list[Path]:
    folder = mirror_dir()
    if folder is None:
        return []
    try:
        folders = [folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())]
    except OSError as error:
        _warn_once(f"{folder}: the mirror folder (SCT7T_MIRROR) cannot be used: {error.strerror}")
        return []
    return [place / name for place in folders for name in dict.fromkeys((file.path, file.name))]
