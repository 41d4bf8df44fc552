"""What a mask's file name says: which scan it belongs to, and which tissue it holds."""

import re
from dataclasses import dataclass
from pathlib import Path

from sctseg7t.bids import derivative_stem, entities_of
from sctseg7t.inference.outputs import split_name

STRUCTURES = ("SC", "GM", "WM", "LESION")
LESION = "LESION"
# Maps that go with a scan and are no mask of a tissue: vertebral levels, numbered lesions.
NOT_TISSUES = ("LEVELS", "NUMBERS")

# Words at a mask's end, and the tissue that they name. "" says that it is a mask, but not of what.
_WORDS = {
    "sc": "SC",
    "scseg": "SC",
    "cord": "SC",
    "cordseg": "SC",
    "spinalcord": "SC",
    "gm": "GM",
    "gmseg": "GM",
    "graymatter": "GM",
    "greymatter": "GM",
    "wm": "WM",
    "wmseg": "WM",
    "whitematter": "WM",
    "lesion": "LESION",
    "lesions": "LESION",
    "lesionseg": "LESION",
    "le": "LESION",
    "lesionmask": "LESION",
    "wmh": "LESION",
    "lesionlabels": "NUMBERS",
    "mask": "",
    "label": "",
    "labels": "",
    "probseg": "",
    "softseg": "",
    "soft": "",
    "dseg": "",
    "bin": "",
    "levels": "LEVELS",
    "labeled": "LEVELS",
    "labelled": "LEVELS",
    "vert": "LEVELS",
    "vertlevels": "LEVELS",
    "manual": "",
    "truth": "",
    "gt": "",
    "reference": "",
    "corrected": "",
    "pred": "",
    "prediction": "",
    "consensus": "",
}
# The Spinal Cord Toolbox calls its cord masks so; any other word for a tissue beside them is right.
_CORD_BY_HABIT = ("seg", "deepseg")
_TAIL = re.compile(r"(.*?)(?:^|[_-])(7t_multiclass|[A-Za-z]+)")
# The contrast at the end of a brain scan's name, which other masks of the scan need not have.
_FLAIR = re.compile(r"(.*?)(?:^|[_-])(flair)", re.IGNORECASE)
_NOT_OF_THE_SCAN = ("label", "desc", "space")


@dataclass(frozen=True)
class MaskName:
    """A file name taken apart.

    Attributes
    ----------
    key : str
        The same for masks of one scan: its BIDS entities, else the file's stem without words for masks ("" where
        nothing is left of it).
    suffix : str or None
        The scan's BIDS suffix (T2starw), where the name keeps it.
    entities : dict of str to str
        Those of the scan; {} where the name is not a BIDS name.
    structure : str or None
        SC, GM, WM or LESION; LEVELS for vertebral labels, NUMBERS for numbered lesions; None where the name does not
        say.
    is_mask : bool
        Whether anything in the name says that it is a mask.
    """

    key: str
    suffix: str | None
    entities: dict
    structure: str | None
    is_mask: bool


def parse_name(path):
    """Take the file name of a mask or scan apart.

    Examples
    --------
    >>> parse_name("sub-01/anat/sub-01_run-1_label-GM_mask.nii.gz").key
    'sub-01_run-1'
    >>> parse_name("t2s_gmseg_manual.nii.gz").structure
    'GM'
    """
    path = Path(path)
    stem, words = _without_entities(split_name(path)[0])
    habit = False
    while match := _TAIL.fullmatch(stem):
        word = match[2].lower()
        if word not in _WORDS and word not in (*_CORD_BY_HABIT, "7t_multiclass"):
            break
        stem = match[1]
        habit = habit or word in _CORD_BY_HABIT
        words.append(_WORDS.get(word, ""))
    named = [word for word in words if word]
    structure = "NUMBERS" if "NUMBERS" in named else named[0] if named else "SC" if habit else None
    entities = _entities(path, stem)
    suffix = entities.pop("suffix", None)
    if not entities and (contrast := _FLAIR.fullmatch(stem)):
        stem, suffix = contrast[1], "FLAIR"
    return MaskName(derivative_stem(entities) if entities else stem, suffix, entities, structure, bool(words))


def structure_named(text):
    """The structure that a word of the user's names: gm, SC, lesion; None if none."""
    found = _WORDS.get(text.lower())
    return found if found in STRUCTURES else None


def _without_entities(stem):
    """The stem without what BIDS adds to a scan's entities, and the tissues that it named."""
    kept, words = [], []
    for token in stem.split("_"):
        name, dash, value = token.partition("-")
        if dash and name in _NOT_OF_THE_SCAN:
            numbered = name == "desc" and value.endswith("lesions") and stem.endswith("_dseg")
            words.append("NUMBERS" if numbered else _WORDS.get(value.lower(), "") if name == "label" else "")
        else:
            kept.append(token)
    return "_".join(kept), words


def _entities(path, stem):
    suffixed = "-" not in stem.rpartition("_")[2]
    entities = entities_of(path.with_name(f"{stem}.nii" if suffixed else f"{stem}_mask.nii"))
    if not suffixed:
        entities.pop("suffix", None)
    return entities
