"""Writing a file whole or not at all: a temporary name in the same folder, then a rename."""

import contextlib
import errno
import json
import math
import os
import secrets
from pathlib import Path, PurePath
from typing import Any

from sctseg7t.errors import OutputError


def write_bytes(path, payload):
    """Write a file; one of that name is replaced only once the new one is complete.

    Parameters
    ----------
    path : path
    payload : bytes

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        Folder missing or read-only, disk full, name taken by a folder. Nothing is left behind.
    """
    with writing(path) as stream:
        stream.write(payload)
    return Path(path)


@contextlib.contextmanager
def writing(path):
    """A binary stream whose content becomes the file once all of it is written, see :func:`write_bytes`."""
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"{path}: folder {path.parent} does not exist; create it or choose another output path")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; choose another output name or remove the folder")
    temporary = path.parent / f".tmp-{secrets.token_hex(6)}"
    try:
        with open(temporary, "xb") as stream:
            yield stream
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path, value):
    """Write a value as indented JSON, see :func:`write_bytes`."""
    return write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def json_value(value: Any) -> Any:
    """A value as JSON has it: numpy values plain, paths as text, nan and infinities as None."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if hasattr(value, "tolist"):
        # numpy, which is not imported here: it would slow every program's start.
        return json_value(value.tolist())
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _reason(error):
    remedies = {
        errno.ENOSPC: "the disk is full); free some space and run again",
        errno.EDQUOT: "the disk quota is used up); free some space and run again",
        errno.EROFS: "read-only file system); choose an output folder on another one",
        errno.EACCES: "permission denied); make the folder writable or choose another one",
        errno.EPERM: "permission denied); make the folder writable or choose another one",
        errno.ENAMETOOLONG: "the name is too long); choose a shorter one",
    }
    return remedies.get(error.errno, f"{error.strerror or error}); check the folder and the disk, then run again")
