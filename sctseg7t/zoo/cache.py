"""Where verified files lie: the cache folder, the mirror folder, the installation itself."""

import hashlib
import logging
import os
from pathlib import Path

from sctseg7t.files import write_bytes
from sctseg7t.zoo.manifest import PACKAGE_DIR

log = logging.getLogger("sctseg7t.zoo")
ALGORITHMS = ("sha256", "git_blob_sha1", "commit")
# How a file of each format begins: all that can be checked of one without a hash.
_SIGNATURES = {"keras-hdf5": b"\x89HDF\r\n\x1a\n"}
_CHUNK = 1 << 20


def cache_dir(cache=None):
    """Return the cache folder: the argument, else ``SCT7T_CACHE``, else the user's own."""
    named = cache or os.environ.get("SCT7T_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("sctseg7t", appauthor=False))


def mirror_dir(mirror=None):
    """Return the mirror folder (the argument, else ``SCT7T_MIRROR``), or None."""
    named = mirror or os.environ.get("SCT7T_MIRROR")
    return Path(named).expanduser() if named else None


def cached_path(file, cache=None):
    """Return ``<cache>/<algorithm>/<hash>/<name>``, whether or not it exists."""
    return cache_dir(cache) / file.algorithm / file.digest / file.name


def file_digest(path, algorithm):
    """Return the hex digest of a file; ``git_blob_sha1`` is git's own blob identifier."""
    if algorithm == "sha256":
        hasher = hashlib.sha256()
    else:
        hasher = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def matches(path, file):
    """Tell whether ``path`` is a readable file with the size and hash of ``file``.

    A file without a hash is held to the one recorded beside it when it arrived.
    """
    try:
        if not os.path.isfile(path):
            return False
        if file.bytes is not None and os.path.getsize(path) != file.bytes:
            return False
        if file.algorithm == "commit":
            return as_recorded(path)
        return file_digest(path, file.algorithm) == file.digest
    except OSError:
        return False


def acceptable(path, file):
    """Tell whether ``path`` may be taken for ``file``: it matches or, without a hash, looks like one."""
    if file.algorithm != "commit":
        return matches(path, file)
    try:
        if not os.path.isfile(path) or file.bytes not in (None, os.path.getsize(path)):
            return False
        signature = _SIGNATURES.get(file.format, b"")
        with open(path, "rb") as stream:
            start = stream.read(max(len(signature), 1))
        return bool(start) and start.startswith(signature)
    except OSError:
        return False


def record(path):
    """Write the SHA-256 of a file beside it, for :func:`as_recorded`."""
    write_bytes(_record_path(path), f"{file_digest(path, 'sha256')}\n".encode())


def as_recorded(path):
    """Tell whether a file is still the one that :func:`record` saw."""
    try:
        return _record_path(path).read_text().strip() == file_digest(path, "sha256")
    except (OSError, ValueError):
        return False


def _record_path(path):
    return Path(f"{path}.sha256")


def describe(file):
    """Return the size and hash of a file spec in words."""
    size = "" if file.bytes is None else f"{file.bytes} bytes, "
    if file.algorithm == "commit":
        return f"{size}no known hash, of git commit {file.digest}"
    return f"{size}{file.algorithm.replace('_', ' ')} {file.digest}"


def find_in_package(file):
    """Return the verified path of a file that ships with the installation, or None."""
    for url in file.urls:
        if not url.startswith("package:"):
            continue
        path = PACKAGE_DIR / url.removeprefix("package:")
        if matches(path, file):
            return path
        if path.exists():
            log.warning("%s: not the file that the manifest names (%s)", path, describe(file))
    return None


def find_in_mirror(file, mirror=None):
    """Return the verified path of a file in the mirror folder, or None.

    Looked for by its relative path, then by its name, at the top and in each direct
    subfolder. What is found is used in place. Files of that name with another
    content are reported in a warning, and passed over.
    """
    folder = mirror_dir(mirror)
    if folder is None:
        return None
    if not folder.is_dir():
        log.warning("%s: the mirror folder (SCT7T_MIRROR) does not exist", folder)
        return None
    wrong = []
    for candidate in _mirror_candidates(folder, file):
        if acceptable(candidate, file):
            if file.algorithm == "commit":
                log.warning("%s: taken for what its name says; no hash of it is known", candidate)
            return candidate
        if candidate.is_file():
            wrong.append(candidate)
    for candidate in wrong:
        log.warning("%s: not the file that the manifest names (%s); passed over", candidate, describe(file))
    return None


def find_in_cache(file, cache=None):
    """Return the verified path of a file in the cache, or None."""
    path = cached_path(file, cache)
    return path if matches(path, file) else None


def find_local(file, mirror=None, cache=None):
    """Return the verified path of a file wherever it lies on this machine, or None."""
    return find_in_package(file) or find_in_mirror(file, mirror) or find_in_cache(file, cache)


def _mirror_candidates(folder, file):
    relative = list(dict.fromkeys((file.path, file.name)))
    yield from (folder / name for name in relative)
    try:
        subfolders = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return
    yield from (sub / name for sub in subfolders for name in relative)
