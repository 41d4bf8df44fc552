"""Search for real scans that have manual masks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sctseg7t.errors import InputError

# What follows the scan's name in that of its mask. Names that tools give their own results
# (_seg, _gmseg) are left out: a network must not be measured against another's output unawares.
ENDINGS = {
    "SC": ("_seg-manual", "_seg_manual", "_label-SC_seg", "_label-SC_mask"),
    "GM": ("_gmseg-manual", "_gmseg_manual", "_label-GM_seg", "_label-GM_mask"),
}
_TYPES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class LabelledScan:
    """A scan and its reference masks: ``masks`` maps SC and GM, or one of them, to paths."""

    name: str
    image: Path
    masks: dict[str, Path]


def find_scans(values: Sequence[str]) -> list[LabelledScan]:
    """Scans that folders and file names tell of.

    Parameters
    ----------
    values : sequence of str
        Each a folder, searched for manual masks, or ``IMAGE:SC=MASK:GM=MASK`` (either mask may be absent).

    Returns
    -------
    list of LabelledScan
        By name, none twice.

    Raises
    ------
    InputError
        A value names no scan with a mask, or a file that is not there.
    """
    found = {}
    for value in values:
        scans = _in_folder(Path(value)) if Path(value).is_dir() else [_named(str(value))]
        found |= {scan.image.resolve(): scan for scan in scans}
    return sorted(found.values(), key=lambda scan: scan.name)


def _named(value: str) -> LabelledScan:
    image, *parts = re.split(r":(?=(?:SC|GM)=)", value)
    masks = {part[:2]: Path(part[3:]) for part in parts}
    if not masks:
        raise InputError(f"{value}: no such folder; give one with manual masks, or IMAGE:SC=MASK:GM=MASK")
    for path in (Path(image), *masks.values()):
        if not path.is_file():
            raise InputError(f"{path}: no such file; give a folder or IMAGE:SC=MASK:GM=MASK")
    return LabelledScan(_stem(Path(image)), Path(image), masks)


def _in_folder(folder: Path) -> list[LabelledScan]:
    """Masks below a folder whose scan lies beside them, or where BIDS has the source of a derivative."""
    known = {}
    for path in sorted(folder.rglob("*.nii*")):
        for tissue, ending in ((t, e) for t, group in ENDINGS.items() for e in group):
            image = _image_of(path, ending, folder)
            if image:
                known.setdefault(image, {})[tissue] = path
    if not known:
        raise InputError(
            f"{folder}: holds no scan with a manual mask (SCAN{ENDINGS['SC'][0]}.nii.gz, SCAN{ENDINGS['GM'][0]}.nii.gz "
            "beside SCAN.nii.gz or in derivatives/NAME); name the files: IMAGE:SC=MASK:GM=MASK"
        )
    return [LabelledScan(_stem(image), image, masks) for image, masks in known.items()]


def _image_of(mask: Path, ending: str, folder: Path) -> Path | None:
    stem = _stem(mask)
    if not stem.endswith(ending) or not mask.name.endswith(_TYPES):
        return None
    inner = mask.parent.relative_to(folder).parts
    if "derivatives" in inner:
        k = inner.index("derivatives")
        inner = inner[:k] + inner[k + 2 :]
    for place in (mask.parent, folder.joinpath(*inner)):
        for kind in _TYPES:
            image = place / (stem.removesuffix(ending) + kind)
            if image.is_file():
                return image
    return None


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
