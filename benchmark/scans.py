"""The development scans: where they lie, their reference masks and their second runs."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

CHALLENGE = "cord/gm-challenge"


class Scan(NamedTuple):
    """A scan with its SC and GM reference masks (paths)."""

    name: str
    image: Path
    sc: Path
    gm: Path

    @property
    def rescan(self):
        """The same subject scanned again at the same visit; None where there is none."""
        second = self.image.with_name(self.image.name.replace("_run-1_", "_run-2_"))
        return second if second != self.image and second.exists() else None


def scans(data):
    """Every development scan (ValueError if they are not all in the folder)."""
    data = Path(data)
    found = []
    for name in ("9584", "9669", "10062Ses1", "10062Ses2"):
        stem = f"sub-{name}_run-1_T2starw"
        labels = data / CHALLENGE / "derivatives/labels" / f"sub-{name}/anat"
        image = data / CHALLENGE / f"sub-{name}/anat/{stem}.nii.gz"
        found.append(Scan(name, image, labels / f"{stem}_seg-manual.nii.gz", labels / f"{stem}_gmseg-manual.nii.gz"))
    t2s = data / "cord/sct-testing/t2s"
    found.append(Scan("t2s", t2s / "t2s.nii.gz", t2s / "t2s_seg.nii.gz", t2s / "t2s_gmseg_manual.nii.gz"))
    missing = [path for scan in found for path in scan[1:] if not path.exists()]
    if missing:
        raise ValueError(f"{missing[0]}: not there; name the folder of the development data with -data")
    return found


def canonical(image):
    """Boolean array in canonical order of a mask's path or image."""
    image = nib.load(image) if isinstance(image, (str, Path)) else image
    return nib.as_closest_canonical(image).get_fdata() > 0.5


def centres(mask):
    """Centre of mass (Z, 2) of each slice, nan where empty."""
    out = np.full((mask.shape[2], 2), np.nan)
    for k in np.flatnonzero(mask.any((0, 1))):
        out[k] = np.argwhere(mask[..., k]).mean(0)
    return out


def peer_segmenter(data, cache):
    """sct_deepseg_gm's recipe and ``large`` weights as a function from a scan's path to its GM mask.

    Network and masks are kept in the folder `cache`; a mask belongs to the content of its scan.
    """
    import peer_sct_gm

    cache = Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    network = cache / "sct_gm_large.onnx"

    def segment(path):
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
        kept = cache / f"{Path(path).name.partition('.')[0]}_{digest}_gmseg.nii.gz"
        if not kept.exists():
            if not network.exists():
                peer_sct_gm.build_onnx(Path(data) / "peers/large_model.hdf5", network)
            # Renamed when whole: an interrupted run leaves nothing that looks finished.
            temporary = kept.with_name(f".{os.getpid()}.{kept.name}")
            nib.save(peer_sct_gm.segment_gm(path, network), temporary)
            os.replace(temporary, kept)
        return nib.load(kept)

    return segment
