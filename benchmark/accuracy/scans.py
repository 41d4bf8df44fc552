"""The development scans: where they lie, their reference masks and their second runs."""

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

CHALLENGE = "cord/gm-challenge"
# A slice is lost where its Dice is not above this, or nothing was found.
LOST = 0.7


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


def compare_models(data, models, out, where=None):
    """Comparison of models over the development scans, second runs for repeatability too.

    Parameters
    ----------
    data : path
        Folder of the development data.
    models : dict of str to str
        Task, model of the zoo or .onnx file, by the method's name.
    out : path
        Masks go there; those that are there already and up to date stay.
    where : dict, optional
        Device and threads, for :func:`sctseg7t.compare.run_methods.run_methods`.
    """
    from sctseg7t.bids import entities_of
    from sctseg7t.cohort.find import Scan as Found
    from sctseg7t.compare.run_methods import mask_of
    from sctseg7t.compare.types import REFERENCE

    found, truth, root = [], [], (Path(data) / "cord").absolute()
    for known in scans(Path(data).absolute()):
        images = [known.image, *([known.rescan] if known.rescan else [])]
        made = [
            Found(path, path.relative_to(root).as_posix(), path.name.partition(".")[0], entities_of(path))
            for path in images
        ]
        found += made
        truth += [mask_of(made[0], REFERENCE, name, path) for name, path in (("SC", known.sc), ("GM", known.gm))]
    return run_and_compare(models, found, root, out, where, truth=truth)


def run_and_compare(models, found, root, out, where=None, *, reference=(), truth=(), groups=None, threshold=None):
    """Run models over scans and compare them with their references, as ``sct7t_compare -run`` does."""
    from sctseg7t.compare.compare import compare
    from sctseg7t.compare.matching import find_cases
    from sctseg7t.compare.run_methods import run_methods
    from sctseg7t.compare.types import REFERENCE, Settings
    from sctseg7t.version import __version__

    made = run_methods(models, found, root, out, **(where or {"device": "cpu"}))
    cases, problems = find_cases([], reference, found, made=[*made.files, *truth], groups=groups, told=made.problems)
    return compare(
        cases,
        list(made.models),
        REFERENCE,
        Settings(threshold=threshold),
        problems=(*made.problems, *problems),
        provenance={"tool": {"name": "sctseg7t", "version": __version__}, "models": made.models},
    )
