"""The files of whole models and data sets: bring, verify, prune and export them."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sctseg7t.errors import DownloadError, ModelError, OutputError
from sctseg7t.zoo.cache import ALGORITHMS, cache_dir, cached_path, find_local
from sctseg7t.zoo.convert import FOLDER, converted_path
from sctseg7t.zoo.convert import status as converted_status
from sctseg7t.zoo.download import fetch
from sctseg7t.zoo.manifest import Manifest, load_manifest
from sctseg7t.zoo.spec import AnyPath, DatasetSpec, FileSpec, ModelSpec
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


def bring(spec: ModelSpec | DatasetSpec, file: FileSpec, **options) -> list[Path]:
    """Fetch one file of a model or data set, and convert Keras weights to ONNX.

    Parameters
    ----------
    spec : ModelSpec or DatasetSpec
    file : FileSpec
        One of its files.
    **options
        Those of :func:`sctseg7t.zoo.download.fetch`.

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
    path = fetch(file, **options)
    if isinstance(spec, ModelSpec) and spec.is_foreign and file == spec.files[0]:
        return [path, weights(spec, **options)]
    return [path]


def verify(
    name: str = "all",
    manifest: Manifest | None = None,
    *,
    mirror: AnyPath | None = None,
    cache: AnyPath | None = None,
) -> list[FileStatus]:
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
    return [_status(file, mirror, cache) for file in dict.fromkeys(files)]


def verify_converted(
    name: str = "all", manifest: Manifest | None = None, *, cache: AnyPath | None = None
) -> list[FileStatus]:
    """Check the ONNX networks that were made from Keras weights on this machine.

    Those not made yet are left out; ``file`` is the Keras file.
    """
    manifest = manifest or load_manifest()
    specs = manifest.models if name == "all" else parts_of(manifest, name)
    foreign = [spec for spec in specs if isinstance(spec, ModelSpec) and spec.is_foreign]
    rows = [FileStatus(spec.files[0], converted_status(spec, cache), converted_path(spec, cache)) for spec in foreign]
    return [row for row in rows if row.status != "missing"]


def prune(manifest: Manifest | None = None, *, cache: AnyPath | None = None, dry_run: bool = False) -> list[Removed]:
    """Remove from the cache what no current version uses, and what killed downloads left.

    Current is the default version of each model, and every data set. The older
    versions of a model stay for as long as its current one is not here and verified.
    """
    manifest = manifest or load_manifest()
    keep = _to_keep(manifest, cache)
    removed = []
    for kind in (*ALGORITHMS, FOLDER):
        for held in sorted((cache_dir(cache) / kind).glob("*")):
            if re.fullmatch("[0-9a-f]{40,64}", held.name):
                others = [path for path in sorted(held.glob("*")) if path.name not in keep.get(held, ())]
                removed += _remove(held.name, others if held in keep else [held], cache, dry_run)
    return removed


def export(name: str, folder: AnyPath, manifest: Manifest | None = None, **options) -> list[Path]:
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


def _status(file: FileSpec, mirror: AnyPath | None, cache: AnyPath | None) -> FileStatus:
    path = find_local(file, mirror, cache)
    if path:
        return FileStatus(file, "ok", path)
    path = cached_path(file, cache)
    return FileStatus(file, "damaged", path) if path.exists() else FileStatus(file, "missing", None)


def _to_keep(manifest: Manifest, cache: AnyPath | None) -> dict[Path, set[str]]:
    """What stays: the names in each folder of the cache that holds a wanted file, or networks made from one."""
    files = [file for dataset in manifest.datasets for file in dataset.files]
    for spec in manifest.models:
        current = [s for s in manifest.versions(spec.id) if s.default and not s.deprecated]
        here = current and all(find_local(file, cache=cache) for s in current for file in s.files)
        if spec in current or not here:
            files += spec.files
    keep: dict[Path, set[str]] = {}
    for file in files:
        keep.setdefault(cached_path(file, cache).parent, set()).update((file.name, f"{file.name}.sha256"))
    digests = {file.digest for file in files}
    for spec in manifest.models:
        if spec.is_foreign and spec.files[0].digest in digests:
            made = converted_path(spec, cache).parent
            keep.setdefault(made.parent, set()).add(made.name)
    return keep


def _remove(digest: str, targets: Iterable[Path], cache: AnyPath | None, dry_run: bool) -> list[Removed]:
    """Remove ``targets`` under the lock of their file; leave one that is being downloaded."""
    import filelock

    removed = [Removed(path, _bytes_below(path)) for path in targets]
    if dry_run or not removed:
        return removed
    locks = cache_dir(cache) / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(locks / f"{digest}.lock", timeout=0):
            for path, _ in removed:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except filelock.Timeout:
        return []
    except OSError as error:
        raise DownloadError(f"{cache_dir(cache)}: cannot prune the cache folder: {error.strerror or error}") from error
    return removed


def _bytes_below(path: Path) -> int:
    paths = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in paths if file.is_file())


def _copy(source: Path, target: Path) -> Path:
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
