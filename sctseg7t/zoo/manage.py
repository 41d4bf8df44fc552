"""What ``sct7t_download`` does with whole models and data sets: install, verify, prune, export."""

import os
import re
import shutil
from collections import namedtuple
from pathlib import Path

from sctseg7t.errors import DownloadError, ModelError, OutputError
from sctseg7t.zoo.cache import ALGORITHMS, cache_dir, cached_path, find_local
from sctseg7t.zoo.convert import FOLDER, converted_path
from sctseg7t.zoo.convert import status as converted_status
from sctseg7t.zoo.download import fetch
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.spec import ModelSpec
from sctseg7t.zoo.weights import weights

FileStatus = namedtuple("FileStatus", "file status path")
FileStatus.__doc__ = """One checked file: its spec, "ok", "damaged" or "missing", where it lies."""

Removed = namedtuple("Removed", "path bytes")
Removed.__doc__ = """One cache entry that was (or would be) removed."""


def entry(manifest, name):
    """Return the ModelSpec or DatasetSpec called ``name`` (ModelError listing both kinds)."""
    datasets = {spec.name: spec for spec in manifest.datasets}
    if name in datasets:
        return datasets[name]
    try:
        return manifest.model(name)
    except ModelError as error:
        if manifest.versions(name.partition("@")[0]):
            raise
        raise ModelError(f"{error}; the data sets are: {', '.join(datasets)}") from error


def parts_of(manifest, name):
    """Return the model or data set called ``name`` and, for a model, the one that finds the cord for it."""
    spec = entry(manifest, name)
    if isinstance(spec, ModelSpec) and spec.centring.get("policy") == "locator":
        return [spec, manifest.model(spec.centring["model"])]
    return [spec]


def files_of(manifest, name):
    """Return the files that ``name`` (a model, ``id@version`` or data set) needs to work.

    Those of a model include the files of the model that finds the cord for it.
    """
    return [file for spec in parts_of(manifest, name) for file in spec.files]


def install(name, manifest=None, **options):
    """Fetch every file of a model (its locator too) or data set; convert Keras weights to ONNX.

    Parameters
    ----------
    name : str
    manifest : Manifest, optional
    **options
        Those of :func:`sctseg7t.zoo.download.fetch`.

    Returns
    -------
    list of Path
        The files as fetched, and after each Keras file its ONNX network.

    Raises
    ------
    DownloadError
        For the first file that could not be had; those before it stay.
    ModelError
        A Keras file could not be converted.
    """
    manifest = manifest or load_manifest()
    return [path for spec in parts_of(manifest, name) for file in spec.files for path in bring(spec, file, **options)]


def bring(spec, file, **options):
    """Fetch one file of a model or data set: its path and, after Keras weights, that of the ONNX network."""
    path = fetch(file, **options)
    return [path, weights(spec, **options)] if _needs_conversion(spec) and file == spec.files[0] else [path]


def verify(name="all", manifest=None, *, mirror=None, cache=None):
    """Check the copies on this machine against the manifest; nothing is downloaded or converted.

    Parameters
    ----------
    name : str
        A model or data set, or ``"all"``: every version of every model, every data set.

    Returns
    -------
    list of FileStatus
    """
    manifest = manifest or load_manifest()
    if name == "all":
        specs = (*manifest.models, *manifest.datasets)
        files = list(dict.fromkeys(file for spec in specs for file in spec.files))
    else:
        files = files_of(manifest, name)
    return [_status(file, mirror, cache) for file in files]


def verify_converted(name="all", manifest=None, *, cache=None):
    """Check the ONNX networks that were made from Keras weights on this machine.

    Returns
    -------
    list of FileStatus
        "ok" or "damaged"; those not made yet are left out. ``file`` is the Keras file.
    """
    manifest = manifest or load_manifest()
    specs = manifest.models if name == "all" else parts_of(manifest, name)
    rows = [
        FileStatus(spec.files[0], converted_status(spec, cache), converted_path(spec, cache))
        for spec in specs
        if _needs_conversion(spec)
    ]
    return [row for row in rows if row.status != "missing"]


def prune(manifest=None, *, cache=None, dry_run=False):
    """Remove from the cache what no current version uses, partial downloads too.

    Current is the default version of each model, and every data set. The older
    versions of a model stay for as long as its current one is not here and verified.

    Returns
    -------
    list of Removed
    """
    manifest = manifest or load_manifest()
    files = list(_files_to_keep(manifest, cache))
    keep = {cached_path(file, cache).parent for file in files}
    removed = _prune_converted({file.digest for file in files}, manifest, cache, dry_run)
    for algorithm in ALGORITHMS:
        for held in sorted((cache_dir(cache) / algorithm).glob("*")):
            if not re.fullmatch("[0-9a-f]{40,64}", held.name):
                continue
            targets = held.glob("*.part") if held in keep else (held,)
            removed += _remove(held.name, list(targets), cache, dry_run)
    return removed


def export(name, folder, manifest=None, **options):
    """Copy all that a model or data set needs into a folder that then serves as a mirror.

    The folder, named in ``SCT7T_MIRROR`` at a site without network, holds the files
    at their relative paths (those of a data set below its name) and the manifest.

    Parameters
    ----------
    name : str
    folder : path-like
        Made if absent; other contents stay.
    **options
        Those of :func:`sctseg7t.zoo.download.fetch`.

    Returns
    -------
    list of Path
        The files in ``folder``, the manifest last.

    Raises
    ------
    OutputError
        The folder cannot be written to.
    """
    manifest = manifest or load_manifest()
    top = Path(folder) / name if name in {s.name for s in manifest.datasets} else Path(folder)
    sources = [(file, fetch(file, **options)) for file in files_of(manifest, name)]
    try:
        written = [_copy(source, top / file.path) for file, source in sources]
        return [*written, _copy(manifest.path, Path(folder) / "models.json")]
    except OSError as error:
        raise OutputError(f"{folder}: cannot export into it: {error.strerror or error}") from error


def _needs_conversion(spec):
    return isinstance(spec, ModelSpec) and spec.is_foreign


def _prune_converted(digests, manifest, cache, dry_run):
    """Remove converted networks whose source goes, or that no entry would ask for any more."""
    asked = {converted_path(spec, cache).parent for spec in manifest.models if spec.is_foreign}
    removed = []
    for held in sorted((cache_dir(cache) / FOLDER).glob("*")):
        if re.fullmatch("[0-9a-f]{40,64}", held.name):
            targets = (
                [made for made in sorted(held.glob("v*")) if made not in asked] if held.name in digests else [held]
            )
            removed += _remove(held.name, targets, cache, dry_run)
    return removed


def _status(file, mirror, cache):
    path = find_local(file, mirror, cache)
    if path:
        return FileStatus(file, "ok", path)
    path = cached_path(file, cache)
    return FileStatus(file, "damaged", path) if path.exists() else FileStatus(file, "missing", None)


def _files_to_keep(manifest, cache):
    yield from (file for dataset in manifest.datasets for file in dataset.files)
    for spec in manifest.models:
        current = [s for s in manifest.versions(spec.id) if s.default and not s.deprecated]
        here = current and all(find_local(f, cache=cache) for s in current for f in s.files)
        if spec in current or not here:
            yield from spec.files


def _remove(digest, targets, cache, dry_run):
    """Remove ``targets`` under the lock of their file; leave one that is being downloaded."""
    import filelock

    if not targets:
        return []
    removed = [Removed(path, _bytes_below(path)) for path in targets]
    if dry_run:
        return removed
    locks = cache_dir(cache) / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(locks / f"{digest}.lock", timeout=0):
            for path in targets:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except filelock.Timeout:
        return []
    except OSError as error:
        raise DownloadError(f"{cache_dir(cache)}: cannot prune the cache folder: {error.strerror or error}") from error
    return removed


def _bytes_below(path):
    paths = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in paths if file.is_file())


def _copy(source, target):
    """Copy by way of a temporary name beside the target; a file onto itself stays as it is."""
    if target.exists() and os.path.samefile(source, target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return target
