"""BIDS names: the entities of a scan, and what to call what is derived from it."""

import re
from collections.abc import Mapping
from pathlib import PurePath

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")


def entities_of(path: str | PurePath) -> dict[str, str]:
    """BIDS entities of a file name, with its suffix; {} where the name is not a BIDS name.

    A session's folder counts even if the name leaves the session out.

    Examples
    --------
    >>> entities_of("sub-01/anat/sub-01_run-1_T2starw.nii.gz")
    {'sub': '01', 'run': '1', 'suffix': 'T2starw'}
    >>> entities_of("t2s.nii.gz")
    {}
    """
    path = PurePath(path)
    *pairs, suffix = path.name.partition(".")[0].split("_")
    found = [match for pair in pairs if (match := _ENTITY.fullmatch(pair))]
    if not found or len(found) < len(pairs) or found[0][1] != "sub" or not suffix:
        return {}
    entities = {match[1]: match[2] for match in found}
    if len(entities) < len(found):
        return {}
    if "ses" not in entities:
        for folder in path.parts[:-1]:
            if (match := _ENTITY.fullmatch(folder)) and match[1] == "ses":
                entities = {"sub": entities.pop("sub"), "ses": match[2], **entities}
    return {**entities, "suffix": suffix}


def scan_stem(entities: Mapping[str, str]) -> str:
    """The name that entities make: of a scan, or without a suffix of all the scans that share them.

    Examples
    --------
    >>> scan_stem({"sub": "01", "run": "1", "suffix": "T2starw"})
    'sub-01_run-1_T2starw'
    """
    pairs = [f"{key}-{value}" for key, value in entities.items() if key != "suffix"]
    return "_".join([*pairs, *filter(None, [entities.get("suffix")])])
