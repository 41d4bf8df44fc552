"""BIDS names: the entities of a scan, and what to call what is derived from it."""

import re
from collections.abc import Mapping
from pathlib import PurePath

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
# In BIDS order these come after `label`, so that it has to be put before them.
_AFTER_LABEL = ("desc",)


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
    if "ses" not in entities:
        for folder in path.parts[:-1]:
            if (match := _ENTITY.fullmatch(folder)) and match[1] == "ses":
                entities = {"sub": entities.pop("sub"), "ses": match[2], **entities}
    return {**entities, "suffix": suffix}


def derivative_stem(entities: Mapping[str, str], label: str | None = None) -> str:
    """Name without suffix of what is derived from a scan: all its entities, then the label.

    Examples
    --------
    >>> derivative_stem({"sub": "01", "run": "1", "suffix": "T2starw"}, label="SC")
    'sub-01_run-1_label-SC'
    """
    pairs = [(key, value) for key, value in entities.items() if key not in ("suffix", "label")]
    if label:
        at = next((k for k, (key, _) in enumerate(pairs) if key in _AFTER_LABEL), len(pairs))
        pairs.insert(at, ("label", label))
    return "_".join(f"{key}-{value}" for key, value in pairs)
