"""Downloads: one file from its addresses into the cache, by pooch, checked before it gets its final name."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from sctseg7t.errors import DownloadError
from sctseg7t.zoo.cache import cache_dir, cached_path, describe, find_local, log, matches, mirror_dir, record
from sctseg7t.zoo.spec import AnyPath, FileSpec

RETRIES = 2
TIMEOUT_S = (10, 30)
LOCK_WAIT_S = 3600
# Everything else that a server answers is final.
_WORTH_A_RETRY = {408, 429, 500, 502, 503, 504}
# What the errors of requests mean, from the particular to the general.
_REASONS = {
    "HTTPError": "HTTP {status}",
    "SSLError": "secure connection refused; behind a proxy, name its certificate in REQUESTS_CA_BUNDLE",
    "ProxyError": "the proxy (HTTPS_PROXY) cannot be used",
    "ChunkedEncodingError": "connection cut",
    "ConnectionError": "connection failed",
}


class SourceError(Exception):
    """An address does not give the file; the text says why, in a few words."""


def fetch(
    file: FileSpec,
    *,
    offline: bool = False,
    progress: bool | None = None,
    mirror: AnyPath | None = None,
    cache: AnyPath | None = None,
) -> Path:
    """Return the path of a verified copy of a file; download it if it is not on this machine.

    The order: the installation (``package:`` addresses), the mirror folder, the cache folder, then every address.
    Copies in the first two are used in place.

    Parameters
    ----------
    file : FileSpec
    offline : bool
        Use no address; ``SCT7T_OFFLINE=1`` does the same.
    progress : bool, optional
        Show a bar on stderr; default: where that is a terminal.
    mirror, cache : path-like, optional
        Default: ``SCT7T_MIRROR``; ``SCT7T_CACHE``, else the user's cache folder.

    Raises
    ------
    DownloadError
        One line: the file, why each address failed, what to do.
    """
    found = find_local(file, mirror, cache)
    if found:
        return found
    final = cached_path(file, cache)
    if final.exists():
        log.warning("%s: damaged; it will be replaced", final)
    if offline or offline_by_environment():
        raise DownloadError(
            f"{file.name}: not on this machine, and downloads are off (offline): {_remedy(file, mirror)}"
        )
    with writing_into(cache_dir(cache)), locked_for(file, cache):
        # Another process may have brought the file while this one waited.
        if not matches(final, file):
            _download(file, final, sys.stderr.isatty() if progress is None else progress, mirror)
    return final


def offline_by_environment() -> bool:
    """Tell whether ``SCT7T_OFFLINE`` forbids downloads."""
    return os.environ.get("SCT7T_OFFLINE", "").lower() not in ("", "0", "false", "no")


def without_credentials(url: str) -> str:
    """Return an address fit for a message: no user name, password or query."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def locked_for(file: FileSpec, cache: AnyPath | None = None) -> Iterator[None]:
    """Hold the lock of a file, so that two processes do not download or convert it twice."""
    import filelock

    folder = cache_dir(cache) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{file.digest}.lock")
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
    except (NotImplementedError, OSError) as error:
        # A file system without locks: each process works in a folder of its own, so twice is no harm.
        if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing_into(folder: AnyPath) -> Iterator[None]:
    """Turn a failure to write below ``folder`` into a DownloadError with the remedy."""
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{folder}: cannot write to the cache folder ({error.strerror or error}): name a "
            "folder with room and write access in SCT7T_CACHE, or one that already holds the "
            "files in SCT7T_MIRROR"
        ) from error


def _download(file: FileSpec, final: Path, bar: bool, mirror: AnyPath | None) -> None:
    """Bring the file under its final name from the first address that gives it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in file.urls:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=final.parent) as folder:
            try:
                arrived = _retrieve(url, file, Path(folder), bar)
                if not matches(arrived, file, new=True):
                    raise SourceError(f"what arrived is not the file of the manifest ({describe(file)})")
            except SourceError as error:
                reasons.append(f"{without_credentials(url)}: {error}")
                log.info("%s: %s", file.name, reasons[-1])
                continue
            os.replace(arrived, final)
        if file.algorithm == "commit":
            record(final)
            log.warning("%s: no hash is known; only the commit in its address pins it", file.name)
        return
    why = "; ".join(reasons) or "the manifest lists no address for it"
    raise DownloadError(f"{file.name}: could not be downloaded ({why}). Run again, or {_remedy(file, mirror)}")


def _retrieve(url: str, file: FileSpec, folder: Path, bar: bool) -> Path:
    """Bring what an address gives into a folder, unchecked (SourceError where it gives nothing)."""
    scheme = urlsplit(url).scheme.lower() if "://" in url else ""
    if scheme in ("http", "https"):
        return _retrieve_http(url, file, folder, bar)
    if url.startswith("package:"):
        raise SourceError("not in this installation")
    if scheme not in ("", "file"):
        raise SourceError(f"unknown kind of address '{scheme}://'")
    try:
        source = open(_local_path(url), "rb")
    except OSError as error:
        raise SourceError(error.strerror or "cannot be read") from error
    with source, open(folder / file.name, "wb") as target:
        shutil.copyfileobj(source, target)
    return folder / file.name


def _retrieve_http(url: str, file: FileSpec, folder: Path, bar: bool) -> Path:
    import pooch
    import requests

    # As the file is stored: a transfer that the server compresses would be unpacked, and have another hash.
    headers = {"Accept-Encoding": "identity"}
    http = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=TIMEOUT_S, headers=headers)

    def download(*request, **options) -> None:
        try:
            http(*request, **options)
        except requests.HTTPError as error:
            if _status(error) in _WORTH_A_RETRY:
                raise
            raise SourceError(f"HTTP {_status(error)}") from error

    pooch.get_logger().setLevel("WARNING")
    # No hash is given to pooch: it does not know git's, and what is wrong once need not be fetched again.
    source = pooch.create(folder, "", registry={file.name: None}, urls={file.name: url}, retry_if_failed=RETRIES)
    try:
        return Path(source.fetch(file.name, downloader=download))
    except requests.RequestException as error:
        raise SourceError(f"{_reason(error)} (tried {RETRIES + 1} times)") from error


def _status(error) -> int:
    return getattr(error.response, "status_code", 0)


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words and without the address."""
    # While a body is being read, requests reports a read time-out as a failed connection.
    if "timed out" in str(error).lower():
        return "timed out"
    known = (_REASONS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REASONS)
    return next(known, type(error).__name__).format(status=_status(error))


def _local_path(url: str) -> Path:
    if "://" not in url:
        return Path(url).expanduser()
    from urllib.request import url2pathname

    parts = urlsplit(url)
    host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
    return Path(host + url2pathname(parts.path) if os.name == "nt" else unquote(parts.path))


def _remedy(file: FileSpec, mirror: AnyPath | None) -> str:
    """Where to put a file by hand, and which."""
    folder = mirror_dir(mirror)
    source = next((f" (from {without_credentials(url)})" for url in file.urls if "://" in url), "")
    where = f"into {folder}" if folder else "into a folder and name that in SCT7T_MIRROR"
    return f"put the file with {describe(file)}{source} {where}"
