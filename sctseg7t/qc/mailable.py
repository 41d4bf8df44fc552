"""What a page that is mailed does not tell: the folders of the machine that it was made on."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from sctseg7t.inference.record import Record

# Folders of an absolute path, on any system; the name that follows stays. Not those of a web address.
_FOLDERS = re.compile(
    r"""(?<![^\s"'(=\[,;:])~?/(?:[^/\s:;,"'()<>|]+/)+ | (?<!\w)[A-Za-z]:[\\/](?:[^\\/:*?"<>|\s]+[\\/])+
    | \\\\(?:[^\\/:*?"<>|\s]+\\)+""",
    re.VERBOSE,
)
# At the start of a message, before a name and a colon, its folders may have spaces too.
_FIRST = re.compile(r"""^(?:~?/|[A-Za-z]:[\\/]|\\\\)[^:"'\n]*[\\/](?=[^\\/:]+:\s)""")


def without_folders(value: Any, record: Record) -> Any:
    """Text, or the texts in lists and dicts, with the names of files but not of the folders that they are in.

    Parameters
    ----------
    value : str, list, dict or anything else
        A file's ``path`` in a dict goes: its name stands beside it.
    record : Record
        Of the scan that is spoken of; its folders may have spaces in their names.
    """
    if isinstance(value, dict):
        return {name: without_folders(one, record) for name, one in value.items() if name != "path"}
    if isinstance(value, list | tuple):
        return [without_folders(one, record) for one in value]
    if not isinstance(value, str):
        return value
    files = (record.image, record.path, *record.others.values())
    known = {str(place) + os.sep for path in files for place in (path.parent, path.absolute().parent)}
    for folder in sorted({*known, os.getcwd() + os.sep, str(Path.home()) + os.sep} - {os.sep, "." + os.sep}, key=len)[
        ::-1
    ]:
        value = value.replace(folder, "")
    return _FOLDERS.sub("", _FIRST.sub("", value))


def reason_of(record: Record) -> str | None:
    """What went wrong with a scan, without the name of its file, which stands beside it."""
    if record.error is None:
        return None
    text = without_folders(record.error, record)
    for path in (record.image, record.path):
        text = text.removeprefix(f"{path.name}: ")
    return text


def scan_id(record: Record, folder: Path) -> str:
    """What a rating is filed under, the same on every run: the sidecar's path as seen from the page.

    Further away than in a neighbouring folder, a hash stands for its folders.
    """
    place, name = os.path.split(place_of(record, folder))
    if place.startswith("../..") or os.path.isabs(place):
        place = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{place}/{name}" if place else name


def place_of(record: Record, folder: Path) -> str:
    """The sidecar's path as seen from the page."""
    try:
        path = os.path.relpath(record.path, folder)
    except ValueError:
        # Another drive.
        path = os.path.abspath(record.path)
    return path.replace(os.sep, "/")
