"""Downloads: one file from its addresses into the cache, by pooch, checked before it gets its final name."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sctseg7t.errors import DownloadError
from sctseg7t.zoo.cache import cache_dir, cached_path, describe, find_local, lock_path, log, matches, mirror_dir, record
from sctseg7t.zoo.spec import FileSpec

RETRIES = 2
TIMEOUT_S = (10, 30)
LOCK_WAIT_S = 3600
# Everything else that a server answers is final.
_WORTH_A_RETRY = {408, 429, 500, 502, 503, 504}
# What the errors of requests mean, from the particular to the general.
_REASONS = {
    "SSLError": "secure connection refused; behind a proxy, name its certificate in REQUESTS_CA_BUNDLE",
    "ProxyError": "the proxy (HTTPS_PROXY) cannot be used",
    "ChunkedEncodingError": "connection cut",
    "ConnectionError": "connection failed",
}


class SourceError(Exception):
    """An address does not give the file; the text says why, in a few words."""


def fetch(file: FileSpec, *, offline: bool = False) -> Path:
    """Return the path of a verified copy of a file; download it if it is not on this machine.

    The order: the installation (``package:`` addresses), the mirror folder, the cache folder, then every address.
    Copies in the first two are used in place. A terminal shows a bar.

    Parameters
    ----------
    file : FileSpec
    offline : bool
        Use no address; ``SCT7T_OFFLINE=1`` does the same.

    Raises
    ------
    DownloadError
        One line: the file, why each address failed, what to do.
    """
    found = find_local(file)
    if found:
        return found
    final = cached_path(file)
    if final.exists():
        log.warning("%s: damaged; it will be replaced", final)
    if offline or os.environ.get("SCT7T_OFFLINE", "").lower() not in ("", "0", "false", "no"):
        raise DownloadError(f"{file.name}: not on this machine, and downloads are off (offline): {_remedy(file)}")
    with writing_to_cache(file):
        # Another process may have brought the file while this one waited.
        if not matches(final, file):
            _download(file, final)
    return final


def without_credentials(url: str) -> str:
    """Return an address fit for a message: no user name, password or query."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def writing_to_cache(file: FileSpec) -> Iterator[None]:
    """Hold the lock of a file, so that two processes do not download or convert it twice.

    A failure to write becomes a DownloadError with the remedy.
    """
    try:
        with _locked(file):
            yield
    except OSError as error:
        raise DownloadError(
            f"{cache_dir()}: cannot write to the cache folder ({error.strerror or error}): name a folder with room and "
            "write access in SCT7T_CACHE, or one that already holds the files in SCT7T_MIRROR"
        ) from error


@contextmanager
def _locked(file: FileSpec) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(lock_path(file.digest))
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


def _download(file: FileSpec, final: Path) -> None:
    """Bring the file under its final name from the first address that gives it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in file.urls:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=final.parent) as folder:
            try:
                arrived = _retrieve(url, file, Path(folder))
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
    raise DownloadError(f"{file.name}: could not be downloaded ({why}). Run again, or {_remedy(file)}")


def _retrieve(url: str, file: FileSpec, folder: Path) -> Path:
    """Bring what an address gives into a folder, unchecked (SourceError where it gives nothing)."""
    parts = urlsplit(url) if "://" in url else None
    if parts and parts.scheme in ("http", "https"):
        return _retrieve_http(url, file, folder)
    if url.startswith("package:"):
        raise SourceError("not in this installation")
    if parts and parts.scheme != "file":
        raise SourceError(f"unknown kind of address '{parts.scheme}://'")
    # Here and not above: a run on a cord downloads nothing, and this import takes long.
    from urllib.request import url2pathname

    try:
        source = open(url2pathname(parts.path) if parts else Path(url).expanduser(), "rb")
    except OSError as error:
        raise SourceError(error.strerror or "cannot be read") from error
    with source, open(folder / file.name, "wb") as target:
        shutil.copyfileobj(source, target)
    return folder / file.name


def _retrieve_http(url: str, file: FileSpec, folder: Path) -> Path:
    import pooch
    import requests

    # As the file is stored: a transfer that the server compresses would be unpacked, and have another hash.
    headers = {"Accept-Encoding": "identity"}
    bar = sys.stderr.isatty()
    http = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=TIMEOUT_S, headers=headers)

    def download(*request, **options) -> None:
        try:
            http(*request, **options)
        except requests.HTTPError as error:
            if getattr(error.response, "status_code", 0) in _WORTH_A_RETRY:
                raise
            raise SourceError(_reason(error)) from error

    pooch.get_logger().setLevel("WARNING")
    # No hash is given to pooch: it does not know git's, and what is wrong once need not be fetched again.
    source = pooch.create(folder, "", registry={file.name: None}, urls={file.name: url}, retry_if_failed=RETRIES)
    try:
        return Path(source.fetch(file.name, downloader=download))
    except requests.RequestException as error:
        raise SourceError(f"{_reason(error)} (tried {RETRIES + 1} times)") from error


def _reason(error) -> str:
    """Why a request failed, in a few words and without the address."""
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    # While a body is being read, requests reports a read time-out as a failed connection.
    if "timed out" in str(error).lower():
        return "timed out"
    known = (_REASONS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REASONS)
    return next(known, type(error).__name__)


def _remedy(file: FileSpec) -> str:
    """Where to put a file by hand, and which."""
    folder = mirror_dir()
    source = next((f" (from {without_credentials(url)})" for url in file.urls if "://" in url), "")
    where = f"into {folder}" if folder else "into a folder and name that in SCT7T_MIRROR"
    return f"put the file with {describe(file)}{source} {where}"
