"""One batch, or one study, at a time in one output folder."""

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.files import write_json

LOCK, OWNER = ".sct7t-batch.lock", ".sct7t-batch.json"


@contextlib.contextmanager
def alone_in(folder: str | Path, command: str = "sct7t_batch") -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends.

    Raises
    ------
    UsageError
        Another one holds it; says which.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as err:
        holder = f"another {command}"
        with contextlib.suppress(OSError, ValueError, KeyError):
            owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
            holder += f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
        raise UsageError(f"{folder}: {holder} is at work there; wait for it, or choose another output folder") from err
    except OSError as err:
        raise UsageError(f"{folder}: cannot be locked ({err.strerror or err}); choose another output folder") from err
    try:
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        write_json(folder / OWNER, {"pid": os.getpid(), "host": platform.node(), "since": since})
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / OWNER).unlink()
        lock.release()
