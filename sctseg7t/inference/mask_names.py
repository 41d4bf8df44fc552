"""What the file name of a mask says: of which scan it is, and of what tissue."""

import re
from dataclasses import dataclass
from pathlib import Path

from sctseg7t.bids import entities_of, scan_stem
from sctseg7t.inference.outputs import split_name

STRUCTURES = {"SC": "spinal cord", "GM": "gray matter", "WM": "white matter", "LESION": "lesions"}
LESION, NEW_LESION = "LESION", "NEWLESION"
# Words at a mask's end by the tissue that they name; LEVELS and NUMBERS (of lesions) are maps that go with a scan and
# are no mask of a tissue. "" says that it is a mask, but not of what.
_WORDS_OF = {
    "SC": "sc scseg cord cordseg spinalcord",
    "GM": "gm gmseg graymatter greymatter",
    "WM": "wm wmseg whitematter",
    LESION: "lesion lesions lesionseg le lesionmask wmh",
    "NUMBERS": "lesionlabels newlesionlabels lesionchanges baselinelesions",
    # A follow-up's, never taken for the mask of all lesions.
    NEW_LESION: "newlesion newlesions newlesionseg",
    "LEVELS": "levels labeled labelled vert vertlevels",
    "": "mask label labels probseg softseg soft dseg bin manual truth gt reference corrected pred prediction consensus "
    "7t_multiclass",
}
_WORDS = {word: tissue for tissue, words in _WORDS_OF.items() for word in words.split()}
# The Spinal Cord Toolbox calls its cord masks so; any other word for a tissue beside them is right.
_CORD_BY_HABIT = ("seg", "deepseg")
_TAIL = re.compile(r"(.*?)(?:^|[_-])(7t_multiclass|[A-Za-z]+)")
# The contrast at the end of a brain scan's name, which other masks of the scan need not have.
_FLAIR = re.compile(r"(.*?)(?:^|[_-])(flair)", re.IGNORECASE)
_NOT_OF_THE_SCAN = ("label", "desc", "space")


@dataclass(frozen=True)
class MaskName:
    """What a file name says of the scan and the tissue.

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
    entities: dict[str, str]
    structure: str | None
    is_mask: bool


def parse_name(path: str | Path) -> MaskName:
    """Read the file name of a mask or scan.

    Examples
    --------
    >>> parse_name("sub-01/anat/sub-01_run-1_T2starw_label-GM_mask.nii.gz").key
    'sub-01_run-1'
    >>> parse_name("t2s_gmseg_manual.nii.gz").structure
    'GM'
    """
    path = Path(path)
    full = split_name(path)[0]
    kept, words = [], []
    for token in full.split("_"):
        name, dash, value = token.partition("-")
        if not dash or name not in _NOT_OF_THE_SCAN:
            kept.append(token)
        elif name == "desc" and value.endswith("lesions") and full.endswith("_dseg"):
            words.append("NUMBERS")
        else:
            words.append(_WORDS.get(value.lower(), "") if name == "label" else "")
    stem, habit = "_".join(kept), False
    while match := _TAIL.fullmatch(stem):
        word = match[2].lower()
        if word not in _WORDS and word not in _CORD_BY_HABIT:
            break
        stem = match[1]
        habit = habit or word in _CORD_BY_HABIT
        words.append(_WORDS.get(word, ""))
    named = [word for word in words if word]
    structure = "NUMBERS" if "NUMBERS" in named else named[0] if named else "SC" if habit else None
    suffixed = "-" not in stem.rpartition("_")[2]
    entities = entities_of(path.with_name(f"{stem}.nii" if suffixed else f"{stem}_mask.nii"))
    suffix = entities.pop("suffix", None) if suffixed else None
    entities.pop("suffix", None)
    if not entities and (contrast := _FLAIR.fullmatch(stem)):
        stem, suffix = contrast[1], "FLAIR"
    return MaskName(scan_stem(entities) if entities else stem, suffix, entities, structure, bool(words))


def structure_named(text: str) -> str | None:
    """The structure that a word of the user's names: gm, SC, lesion; None if none."""
    found = _WORDS.get(text.lower())
    return found if found in STRUCTURES else None
