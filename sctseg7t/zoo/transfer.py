"""One URL into one partial file: HTTP with resume and back-off, ``file://``, plain paths."""

import logging
import os
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

log = logging.getLogger("sctseg7t.zoo")
# Small, because a cut connection loses the chunk it falls into.
_CHUNK = 1 << 13
_RETRY_STATUS = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a transfer is.

    Attributes
    ----------
    attempts : int
        Tries per URL without progress; a try that brings at least ``progress_bytes``
        more than any before starts the count again.
    base_s, cap_s : float
        First and longest wait; in between it doubles, times a random 0.5-1.
    retry_after_cap_s : float
        Longest ``Retry-After`` that is waited for; a longer one gives the URL up.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    retry_after_cap_s: float = 60.0
    connect_s: float = 10.0
    read_s: float = 30.0
    progress_bytes: int = 1 << 20


class SourceError(Exception):
    """This URL will not give the file; the text says why, in a few words."""


class _Transient(Exception):
    """Worth another try, after ``wait_s`` if the server said so."""

    def __init__(self, reason, wait_s=None):
        super().__init__(reason)
        self.wait_s = wait_s


def transfer(url, part, size=None, *, policy=None, progress=None):
    """Bring the content behind ``url`` into the file ``part``, resuming what is there.

    Parameters
    ----------
    url : str
        ``http(s)://``, ``file://`` or a plain path.
    part : Path
        Partial file; kept when the transfer fails on the way, so that a later call
        (of the same or another URL) goes on from there. Its hash is the caller's to check.
    size : int, optional
        Expected size in bytes; a longer answer is refused as soon as that shows.
    progress : callable, optional
        Called with (bytes so far, expected total or None).

    Raises
    ------
    SourceError
        The URL gave no complete file, after every retry that makes sense.
    OSError
        ``part`` cannot be written.
    """
    policy = policy or RetryPolicy()
    if urlsplit(url).scheme in ("http", "https"):
        _transfer_http(url, part, size, policy, progress)
    elif "://" in url and not url.lower().startswith("file://"):
        raise SourceError(f"unknown kind of address '{url.split('://')[0]}://'")
    else:
        _copy_local(_local_path(url), part, progress)


def without_credentials(url):
    """Return ``url`` fit for a message: no user name, password or query."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _local_path(url):
    if not url.lower().startswith("file://"):
        return Path(url).expanduser()
    from urllib.request import url2pathname

    parts = urlsplit(url)
    host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
    return Path(host + url2pathname(parts.path) if os.name == "nt" else unquote(parts.path))


def _copy_local(source, part, progress):
    try:
        stream = open(source, "rb")
    except OSError as error:
        raise SourceError(error.strerror or "cannot be read") from error
    with stream, open(part, "wb") as target:
        while chunk := _read_source(stream):
            target.write(chunk)
            if progress:
                progress(target.tell(), None)


def _read_source(stream):
    try:
        return stream.read(1 << 20)
    except OSError as error:
        raise SourceError(f"reading stopped: {error.strerror}") from error


def _transfer_http(url, part, size, policy, progress):
    import requests

    with requests.Session() as session:
        best, failures = _size_of(part), 0
        while True:
            try:
                return _get_once(session, url, part, size, policy, progress)
            except _Transient as error:
                so_far = _size_of(part)
                failures = 0 if so_far >= best + policy.progress_bytes else failures
                best, failures = max(best, so_far), failures + 1
                _wait_or_give_up(error, failures, policy, url)


def _wait_or_give_up(error, failures, policy, url):
    if failures >= policy.attempts:
        raise SourceError(f"{error} (tried {failures} times)") from error
    if error.wait_s is not None and error.wait_s > policy.retry_after_cap_s:
        raise SourceError(f"{error}, which asks to come back in {error.wait_s:.0f} s") from error
    wait = min(policy.cap_s, policy.base_s * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
    wait = max(wait, error.wait_s or 0.0)
    log.info("%s: %s; trying again in %.1f s", without_credentials(url), error, wait)
    time.sleep(wait)


def _get_once(session, url, part, size, policy, progress):
    import requests

    start = _usable_start(part, size)
    if size is not None and start == size:
        return
    # Compressed transfer would make byte ranges refer to another stream.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with session.get(url, headers=headers, stream=True, timeout=(policy.connect_s, policy.read_s)) as response:
            _receive(response, part, start, size, progress)
    except requests.exceptions.SSLError as error:
        raise SourceError(
            "secure connection refused (behind a company proxy, name its certificate in REQUESTS_CA_BUNDLE)"
        ) from error
    except requests.exceptions.Timeout as error:
        raise _Transient("timed out") from error
    except requests.exceptions.ProxyError as error:
        raise _Transient("the proxy (HTTPS_PROXY) cannot be used") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise _Transient("connection cut") from error
    except requests.exceptions.ConnectionError as error:
        # While a body is being read, requests reports a read time-out this way too.
        slow = "timed out" in str(error).lower()
        raise _Transient("timed out" if slow else "connection failed") from error
    except requests.exceptions.RequestException as error:
        raise SourceError(f"request failed: {type(error).__name__}") from error


def _receive(response, part, start, size, progress):
    start = _start_granted(response, part, start, size)
    length = response.headers.get("Content-Length", "")
    announced = start + int(length) if length.isdigit() else None
    if size is not None and announced is not None and announced != size:
        raise SourceError(f"offers {announced} bytes where {size} are expected (another file, or a proxy's page)")
    total = size if size is not None else announced
    with open(part, "ab" if start else "wb") as target:
        received = start
        for chunk in response.iter_content(_CHUNK):
            received += len(chunk)
            if size is not None and received > size:
                break
            target.write(chunk)
            if progress:
                progress(received, total)
    if total is not None and received > total:
        part.unlink()
        raise SourceError(f"sends more than the {total} bytes expected")
    if total is not None and received < total:
        raise _Transient("connection cut")


def _start_granted(response, part, asked, size):
    """Return the offset at which the body of this response begins, or raise."""
    status = response.status_code
    if status == 206 and asked:
        span = response.headers.get("Content-Range", "").removeprefix("bytes ")
        if span.partition("-")[0].strip() == str(asked):
            return asked
        part.unlink()
        raise _Transient("answered with another part of the file")
    if status == 416 and asked:
        # Nothing beyond what is here: either this is all of it, or it is not the same file.
        part.unlink()
        raise _Transient("has no such part of the file")
    if status == 200:
        return 0
    if status in _RETRY_STATUS:
        raise _Transient(f"HTTP {status}", _retry_after(response))
    raise SourceError(f"HTTP {status}")


def _retry_after(response):
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _usable_start(part, size):
    start = _size_of(part)
    if size is not None and start > size:
        part.unlink()
        return 0
    return start


def _size_of(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
