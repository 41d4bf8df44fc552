"""Writing a file whole or not at all: a temporary name in the same folder, then a rename."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
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


def read_json(path: str | Path) -> dict[str, Any]:
    """Content of a JSON file that should hold an object; empty where it is missing or not as it should be."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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


def write_csv(path, columns: Sequence, rows: Iterable[Mapping[str, Any]], *, digits: int | None = None) -> Path:
    """Write a table as CSV: UTF-8, comma, LF, one header line. It is written whole or not at all.

    None and nan are empty cells; codes (a tuple or list) are joined by ";"; a text is put on one line.

    Parameters
    ----------
    path : path
    columns : sequence of str or sctseg7t.measure.columns.Column
        A Column says how many decimals its floats have; of a plain name they have four.
    rows : iterable of dict
        Read one by one. A column that a row lacks is an empty cell.
    digits : int, optional
        Significant digits of every float, in place of decimals.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        A row has a key that is no column.
    OutputError
        As for :func:`write_bytes`.
    """
    names = [getattr(column, "name", column) for column in columns]
    formats = [f".{digits}g" if digits else f".{getattr(column, 'digits', 4)}f" for column in columns]
    known = set(names)
    with writing(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            if unknown := row.keys() - known:
                raise ValueError(f"{path}: has no column {', '.join(sorted(map(str, unknown)))}; declare it")
            writer.writerow([_cell(row.get(name), how) for name, how in zip(names, formats, strict=True)])
        text.detach()
    return Path(path)


def read_csv(path: str | Path | None) -> list[dict[str, str]]:
    """Rows of a table as dicts of text; none if there is no such file."""
    if path is None or not Path(path).is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _cell(value, how):
    if value is None:
        return ""
    if isinstance(value, str):
        return " ".join(value.splitlines())
    if isinstance(value, (tuple, list)):
        return ";".join(value)
    if isinstance(value, Real) and not isinstance(value, Integral):
        # Zero has no sign in a table.
        return "" if math.isnan(value) else f"{float(value) + 0.0:{how}}"
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
