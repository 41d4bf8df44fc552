"""A folder of DICOM files made one NIfTI image, by dcm2niix."""

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sctseg7t.errors import InputError, OutputError
from sctseg7t.image.nifti import read_header
from sctseg7t.inference.outputs import split_name

_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Series:
    """One image that dcm2niix made of the folder.

    Attributes
    ----------
    number : int
        DICOM SeriesNumber; -1 where there is none.
    description : str
    shape : tuple of int
        Of the NIfTI image.
    path : Path
        Where it lies for now.
    """

    number: int
    description: str
    shape: tuple
    path: Path

    def __str__(self):
        return f"{self.number} {self.description or '(no description)'} ({'x'.join(map(str, self.shape))})"


def to_nifti(folder: str | Path, out: str | Path, *, series: str | int | None = None) -> Path:
    """Convert one series of a DICOM folder to NIfTI (dcm2niix; Li et al., J Neurosci Methods 2016).

    Parameters
    ----------
    folder : path
        Searched with its subfolders.
    out : path
        NIfTI file to write; or an existing folder, in which the file gets a name from the series' description that
        other tools can read (letters, digits, dashes). The sidecar of dcm2niix is written beside it, without the
        fields that name a person, a date or a place.
    series : int or str, optional
        SeriesNumber, or part of the description in any case; needed where the folder holds several.

    Returns
    -------
    Path
        Of the NIfTI file.

    Raises
    ------
    InputError
        Not a folder, nothing that can be converted, several series or none that fits `series`: the series found are
        listed.
    OutputError
        Nothing can be written there.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder that holds the DICOM files")
    target_folder = out if out.is_dir() else out.parent
    if not target_folder.is_dir():
        raise OutputError(f"{out}: folder {target_folder} does not exist; create it or choose another output path")
    if not out.is_dir() and not out.name.endswith((".nii.gz", ".nii")):
        raise OutputError(f"{out}: an output image must be named .nii.gz or .nii; change its extension")
    try:
        temporary = tempfile.TemporaryDirectory(dir=target_folder, prefix=".tmp-dicom-")
    except OSError as err:
        raise OutputError(f"{out}: cannot be written ({err.strerror}); choose another output path") from err
    with temporary as work:
        found, said = _convert(folder, Path(work), "n" if out.suffix == ".nii" else "y")
        chosen = _choose(found, series, folder, said)
        target = out / f"{safe_name(chosen)}.nii.gz" if out.is_dir() else out
        sidecar = chosen.path.parent / (split_name(chosen.path)[0] + ".json")
        if sidecar.is_file():
            os.replace(sidecar, target.parent / (split_name(target)[0] + ".json"))
        os.replace(chosen.path, target)
    return target


def safe_name(series: Series) -> str:
    """File name stem from a series: letters, digits and dashes only, as BIDS labels and shells allow.

    Examples
    --------
    >>> safe_name(Series(7, "t2 FLAIR/space (0.7mm)", (2, 2, 2), Path("x.nii.gz")))
    'series7-t2-FLAIR-space-0-7mm'
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", series.description).strip("-")
    return f"series{max(series.number, 0)}" + (f"-{words}" if words else "")


def _convert(folder, work, compress):
    """All images that dcm2niix makes of a folder, and what it said."""
    import dcm2niix

    # Anonymised sidecars; no comments in the header; names that tell the series apart.
    command = [
        dcm2niix.bin,
        "-b",
        "y",
        "-ba",
        "y",
        "-z",
        compress,
        "-f",
        "s%s_%d",
        "-d",
        "9",
        "-o",
        str(work),
        str(folder),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as err:
        raise InputError(f"{folder}: its conversion took over {_TIMEOUT_S // 60} minutes; convert it by hand") from err
    # A folder with some unreadable files gives an error code and images all the same.
    found = [_describe(path) for path in sorted(work.glob("*.nii*"))]
    return found, done.stdout + done.stderr


def _describe(path):
    sidecar = path.parent / (split_name(path)[0] + ".json")
    fields = json.loads(sidecar.read_text(errors="replace")) if sidecar.is_file() else {}
    description = fields.get("SeriesDescription") or fields.get("ProtocolName") or ""
    return Series(int(fields.get("SeriesNumber", -1)), str(description), read_header(path).get_data_shape(), path)


def _choose(found, wanted, folder, said):
    if not found:
        errors = [line.strip() for line in said.splitlines() if "rror" in line or "nable" in line]
        # The converter's last complaint is the one about the whole folder.
        reason = f" ({errors[-1][:160]})" if errors else ""
        raise InputError(f"{folder}: holds no DICOM series that can be converted{reason}; give the scan's own folder")
    listed = "; ".join(map(str, found))
    if wanted is None:
        if len(found) > 1:
            raise InputError(f"{folder}: holds {len(found)} images; choose one with -series NUMBER or NAME: {listed}")
        return found[0]
    fits = [one for one in found if str(one.number) == str(wanted)]
    fits = fits or [one for one in found if str(wanted).lower() in one.description.lower()]
    if len(fits) != 1:
        what = f"{len(fits)} series fit" if fits else "no series fits"
        raise InputError(f"{folder}: {what} -series {wanted}; it holds: {listed}")
    return fits[0]
