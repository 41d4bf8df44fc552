"""The files of whole models and data sets: bring, verify, prune and export them."""

import contextlib
import os
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from sctseg7t.errors import DownloadError, ModelError, OutputError
from sctseg7t.files import writing
from sctseg7t.zoo.cache import as_recorded, cache_dir, cached_path, find_local, lock_path
from sctseg7t.zoo.convert import FOLDER, converted_path
from sctseg7t.zoo.download import fetch
from sctseg7t.zoo.manifest import Manifest, load_manifest
from sctseg7t.zoo.spec import PINS, AnyPath, DatasetSpec, FileSpec, ModelSpec
from sctseg7t.zoo.weights import weights


class FileStatus(NamedTuple):
    """One checked file: its spec, ``ok``, ``damaged`` or ``missing``, and where it lies."""

    file: FileSpec
    status: str
    path: Path | None


class Removed(NamedTuple):
    """One part of the cache that was (or would be) removed."""

    path: Path
    bytes: int


def entry(manifest: Manifest, name: str) -> ModelSpec | DatasetSpec:
    """Return the model or data set called ``name`` (ModelError listing both kinds)."""
    datasets = {spec.name: spec for spec in manifest.datasets}
    if name in datasets:
        return datasets[name]
    try:
        return manifest.model(name)
    except ModelError as error:
        if manifest.versions(name.partition("@")[0]):
            raise
        raise ModelError(f"{error}; the data sets are: {', '.join(datasets)}") from error


def parts_of(manifest: Manifest, name: str) -> list[ModelSpec | DatasetSpec]:
    """Return the model or data set called ``name`` and, for a model, the one that finds the cord for it."""
    spec = entry(manifest, name)
    if isinstance(spec, ModelSpec) and spec.centring.get("policy") == "locator":
        return [spec, manifest.model(spec.centring["model"])]
    return [spec]


def files_of(manifest: Manifest, name: str) -> list[FileSpec]:
    """Return the files that a model, ``id@version`` or data set needs to work."""
    return [file for spec in parts_of(manifest, name) for file in spec.files]


def bring(spec: ModelSpec | DatasetSpec, file: FileSpec, *, offline: bool = False) -> list[Path]:
    """Fetch one file of a model or data set, and convert Keras weights to ONNX.

    Parameters
    ----------
    spec : ModelSpec or DatasetSpec
    file : FileSpec
        One of its files.
    offline : bool
        As for :func:`sctseg7t.zoo.download.fetch`.

    Returns
    -------
    list of Path
        The file, and after Keras weights the ONNX network.

    Raises
    ------
    DownloadError
        The file cannot be had.
    ModelError
        A Keras file could not be converted.
    """
    path = fetch(file, offline=offline)
    if isinstance(spec, ModelSpec) and spec.is_foreign and file == spec.files[0]:
        return [path, weights(spec, offline=offline)]
    return [path]


def verify(name: str = "all", manifest: Manifest | None = None) -> list[FileStatus]:
    """Check the files on this machine against the manifest; nothing is downloaded or converted.

    Parameters
    ----------
    name : str
        A model or data set, or ``"all"``: every version of every model, every data set.
    """
    manifest = manifest or load_manifest()
    if name == "all":
        files = [file for spec in (*manifest.models, *manifest.datasets) for file in spec.files]
    else:
        files = files_of(manifest, name)
    return [_status(file) for file in dict.fromkeys(files)]


def verify_converted(name: str = "all", manifest: Manifest | None = None) -> list[FileStatus]:
    """Check the ONNX networks that were made from Keras weights on this machine.

    Those not made yet are left out; ``file`` is the Keras file.
    """
    manifest = manifest or load_manifest()
    specs = manifest.models if name == "all" else parts_of(manifest, name)
    made = {spec.files[0]: converted_path(spec) for spec in specs if isinstance(spec, ModelSpec) and spec.is_foreign}
    return [
        FileStatus(file, "ok" if as_recorded(path) else "damaged", path) for file, path in made.items() if path.exists()
    ]


def prune(manifest: Manifest | None = None, *, dry_run: bool = False) -> list[Removed]:
    """Remove from the cache what no current version uses, and what killed downloads left.

    Current is the default version of each model, and every data set. The older
    versions of a model stay for as long as its current one is not here and verified.
    """
    keep = _to_keep(manifest or load_manifest())
    unused = defaultdict(list)
    for kind in (*PINS, FOLDER):
        for path in sorted((cache_dir() / kind).glob("*/*")):
            digest = path.parent.name
            if re.fullmatch("[0-9a-f]{40,64}", digest) and path not in keep:
                files = path.rglob("*") if path.is_dir() else (path,)
                size = sum(file.stat().st_size for file in files if file.is_file())
                unused[digest].append(Removed(path, size))
    if not dry_run:
        unused = {digest: rows for digest, rows in unused.items() if _remove(digest, rows)}
    return [row for rows in unused.values() for row in rows]


def export(name: str, folder: AnyPath, manifest: Manifest | None = None, *, offline: bool = False) -> list[Path]:
    """Copy all that a model or data set needs into a folder that then serves as a mirror.

    The folder, named in ``SCT7T_MIRROR`` at a site without network, holds the files
    at their relative paths (those of a data set below its name) and the manifest.

    Parameters
    ----------
    name : str
    folder : path-like
        Made if absent; other contents stay.
    offline : bool
        As for :func:`sctseg7t.zoo.download.fetch`.

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
    top = Path(folder) / name if isinstance(entry(manifest, name), DatasetSpec) else Path(folder)
    copies = {top / file.path: fetch(file, offline=offline) for file in files_of(manifest, name)}
    copies[Path(folder) / "models.json"] = manifest.path
    try:
        for target, source in copies.items():
            # A file onto itself stays as it is.
            if not (target.exists() and os.path.samefile(source, target)):
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(source, "rb") as content, writing(target) as stream:
                    shutil.copyfileobj(content, stream)
    except OSError as error:
        raise OutputError(f"{folder}: cannot export into it: {error.strerror or error}") from error
    return list(copies)


def _status(file: FileSpec) -> FileStatus:
    path = find_local(file)
    if path:
        return FileStatus(file, "ok", path)
    path = cached_path(file)
    return FileStatus(file, "damaged", path) if path.exists() else FileStatus(file, "missing", None)


def _to_keep(manifest: Manifest) -> set[Path]:
    """What stays in the cache: the wanted files with their recorded hashes, the folders of networks made from them."""
    files = {file for dataset in manifest.datasets for file in dataset.files}
    for spec in manifest.models:
        current = manifest.current(spec.id)
        if spec == current or current is None or not all(map(find_local, current.files)):
            files.update(spec.files)
    paths = {cached_path(file) for file in files}
    recorded = {path.with_name(f"{path.name}.sha256") for path in paths}
    made = {converted_path(s).parent for s in manifest.models if s.is_foreign and s.files[0] in files}
    return paths | recorded | made


def _remove(digest: str, rows: list[Removed]) -> bool:
    """Remove parts of the cache under the lock of their file; leave one that is being downloaded (False)."""
    import filelock

    try:
        with filelock.FileLock(lock_path(digest), timeout=0):
            for path, _ in rows:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    # Where nothing else is in it.
                    path.parent.rmdir()
    except filelock.Timeout:
        return False
    except OSError as error:
        raise DownloadError(f"{cache_dir()}: cannot prune the cache folder: {error.strerror or error}") from error
    return True
