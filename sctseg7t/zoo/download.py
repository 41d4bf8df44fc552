"""Getting one file: from the installation, the mirror folder, the cache, or its URLs.

Whatever the source, a file is handed out only after its size and hash were found
to be those of the manifest, and only complete and verified files ever carry their
final name in the cache.
"""

import errno
import os
import sys
from contextlib import contextmanager

from sctseg7t.errors import DownloadError, ModelError
from sctseg7t.zoo.cache import (
    acceptable,
    cache_dir,
    cached_path,
    describe,
    find_in_cache,
    find_local,
    log,
    matches,
    mirror_dir,
    record,
)
from sctseg7t.zoo.transfer import SourceError, transfer, without_credentials

LOCK_WAIT_S = 3600
KERAS = "keras-hdf5"
_FULL = {errno.ENOSPC, errno.EDQUOT}


def fetch(file, *, offline=False, progress=None, mirror=None, cache=None, policy=None):
    """Return the path of a verified copy of ``file``, downloading it if need be.

    Sources, in order: the installation (``package:`` addresses), the mirror folder,
    the cache folder, then every URL. Copies in the first two are used in place.

    Parameters
    ----------
    file : FileSpec
    offline : bool
        Do not touch the network or any other URL; ``SCT7T_OFFLINE=1`` does the same.
    progress : callable or False, optional
        Called with (bytes so far, total or None); default: a bar on stderr if that
        is a terminal; False: none.
    mirror, cache : path-like, optional
        Default: ``SCT7T_MIRROR``; ``SCT7T_CACHE``, else the user's cache folder.
    policy : sctseg7t.zoo.transfer.RetryPolicy, optional

    Raises
    ------
    DownloadError
        One line: the file, why each source failed, what to do.
    """
    found = find_local(file, mirror, cache)
    if found:
        return found
    if cached_path(file, cache).exists():
        log.warning("%s: damaged; it will be replaced", cached_path(file, cache))
    if offline or offline_by_environment():
        raise DownloadError(_offline_message(file, mirror))
    with writing_into(cache_dir(cache)), locked_for(file, cache) as locked:
        # Another process may have brought the file while this one waited.
        return find_in_cache(file, cache) or _download(file, cache, locked, progress, policy, mirror)


def weights(spec, **options):
    """Return the path of a model's verified weights: what a session is to load.

    Keras weights become ONNX first, once (:func:`sctseg7t.zoo.convert.converted`).

    Parameters
    ----------
    spec : ModelSpec
        From the zoo, or given by path (:func:`sctseg7t.zoo.sidecar.spec_from_onnx`).
    **options
        Those of :func:`fetch`.
    """
    if spec.local_path is None:
        if spec.files[0].format == KERAS:
            from sctseg7t.zoo.convert import converted

            return converted(spec, **options)
        return fetch(spec.files[0], **options)
    if not matches(spec.local_path, spec.files[0]):
        raise ModelError(f"{spec.local_path}: changed since its entry was read; run again")
    return spec.local_path


def offline_by_environment():
    """Tell whether ``SCT7T_OFFLINE`` forbids downloads."""
    return os.environ.get("SCT7T_OFFLINE", "").lower() not in ("", "0", "false", "no")


def _download(file, cache, locked, progress, policy, mirror):
    final = cached_path(file, cache)
    final.parent.mkdir(parents=True, exist_ok=True)
    # Without a lock two processes must not write one partial file.
    part = final.with_name(f"{file.name}.part" if locked else f"{file.name}.{os.getpid()}.part")
    if file.algorithm == "commit":
        # Without a hash, parts from two sources could be joined unseen.
        part.unlink(missing_ok=True)
    elif matches(part, file):
        _publish(part, final)
        return final
    reasons = []
    with _progress(file, progress) as report:
        for url in file.urls:
            if url.startswith("package:"):
                reasons.append(f"{url}: not in this installation")
                continue
            reason = _try_url(url, file, part, final, report, policy)
            if reason is None:
                return final
            reasons.append(f"{without_credentials(url)}: {reason}")
            log.info("%s: %s", file.name, reasons[-1])
    raise DownloadError(_failure_message(file, reasons, mirror))


def _try_url(url, file, part, final, report, policy):
    """Return None once ``final`` holds the verified file, else why this URL failed."""
    # A resumed file can be wrong because of its old part: then once more from the start.
    for resumed in (part.exists(), False):
        try:
            transfer(url, part, file.bytes, policy=policy, progress=report)
        except SourceError as error:
            return str(error)
        except OSError as error:
            if error.errno in _FULL:
                part.unlink(missing_ok=True)
            raise
        if acceptable(part, file):
            _publish(part, final)
            if file.algorithm == "commit":
                record(final)
                log.warning("%s: no hash is known; only the commit in its address pins it", file.name)
            return None
        part.unlink(missing_ok=True)
        if not resumed:
            break
    return f"what arrived is not the file of the manifest ({describe(file)})"


def _publish(part, final):
    with open(part, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(part, final)


@contextmanager
def locked_for(file, cache):
    """Hold the lock of a file; yield False where the file system has no locks."""
    import filelock

    folder = cache_dir(cache) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{file.digest}.lock")
    locked = _acquire(lock, file)
    try:
        yield locked
    finally:
        if locked:
            lock.release()


def _acquire(lock, file):
    import filelock

    try:
        try:
            lock.acquire(timeout=2)
        except filelock.Timeout:
            log.warning("%s: another process is fetching it; waiting", file.name)
            lock.acquire(timeout=LOCK_WAIT_S)
    except filelock.Timeout as error:
        raise DownloadError(
            f"{file.name}: another process has been fetching it for {LOCK_WAIT_S // 60} min "
            f"(lock {lock.lock_file}); end that process and run again"
        ) from error
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            return False
        raise
    return True


@contextmanager
def writing_into(folder):
    """Turn a failure to write below ``folder`` into a DownloadError with the remedy."""
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{folder}: cannot write to the cache folder ({error.strerror or error}): name a "
            "folder with room and write access in SCT7T_CACHE, or one that already holds the "
            "files in SCT7T_MIRROR"
        ) from error


@contextmanager
def _progress(file, progress):
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield None
    elif progress is not None:
        yield progress
    else:
        from tqdm import tqdm

        with tqdm(total=file.bytes, unit="B", unit_scale=True, desc=file.name, leave=False) as bar:
            yield lambda done, total: bar.update(done - bar.n)


def _offline_message(file, mirror):
    folder = mirror_dir(mirror)
    where = f"into {folder}" if folder else "into a folder and name that in SCT7T_MIRROR"
    source = next((url for url in file.urls if "://" in url), None)
    source = f" (from {without_credentials(source)})" if source else ""
    return (
        f"{file.name}: not on this machine, and downloads are off (offline): "
        f"put the file with {describe(file)}{source} {where}"
    )


def _failure_message(file, reasons, mirror):
    folder = mirror_dir(mirror)
    why = "; ".join(reasons) or "the manifest lists no address for it"
    where = f"into {folder}" if folder else "into a folder named in SCT7T_MIRROR"
    return (
        f"{file.name}: could not be downloaded ({why}). Run again to resume, or put the file "
        f"with {describe(file)} {where}"
    )
