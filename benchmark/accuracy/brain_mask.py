"""The brain mask on the development scans, beside the masks that came with them.

    python benchmark/accuracy/brain_mask.py [-data ../shared/data] [-m MODEL] [-template] [-refine] [-o DIR]

Per scan with a mask (tabriz: thick slices, 1.5 T; lesjak-long: 3 T), raw: Dice, volumes, false and missed voxels of the
network, its seconds, and the agreement of the template that is registered to it; with ``-template`` the Dice of the way
without a network too. Of the other scans (stripped, lesion-free, prepared) the volume. ``-m mindgrab`` is a rival
of the zoo. ``-o`` writes a picture a scan: the data set's mask red, ours green.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from sctseg7t.brain import mask, register, segmenter
from sctseg7t.brain.find_brain import TASK, BrainFinder
from sctseg7t.errors import InputError
from sctseg7t.image.volume import load

# Patients of tabriz with raw scans and masks, and with prepared scans.
RAW, PREPARED = ("104670", "104899", "106639", "110218", "111008"), ("101228", "101627", "112776")
PATIENTS, STUDIES = ("patient01", "patient12"), ("study1", "study2")


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument(
        "-m", dest="model", help="a model of the zoo, or an .onnx file with its entry beside it (default: brain_mask)"
    )
    parser.add_argument("-template", action="store_true", help="the way without a network too")
    parser.add_argument("-refine", action="store_true", help="the network's mask moved to the dark edge too")
    parser.add_argument("-no-registration", dest="register", action="store_false", help="leave that out")
    parser.add_argument("-only", nargs="+", metavar="NAME", help="scans whose names contain one of these")
    parser.add_argument("-o", type=Path, help="folder for pictures")
    args = parser.parse_args()
    finder = open_finder(args.model)
    chosen = [scan for scan in scans(args.data) if not args.only or any(part in scan[0] for part in args.only)]
    shown = [(*scan, row(*scan, finder, args)) for scan in chosen]
    known = [values["Dice"] for *_, values in shown if "Dice" in values]
    if known:
        print(f"Dice of {len(known)} scans: mean {np.mean(known):.4f}, least {min(known):.4f}")
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def open_finder(model=None):
    """The manifest's default network, another one of it, or that of a file."""
    from sctseg7t.brain.find_brain import open_finder as default
    from sctseg7t.runtime.session import open_session
    from sctseg7t.zoo.local_model import spec_from_onnx

    if model and model.endswith(".onnx"):
        return BrainFinder(open_session(model, "cpu"), spec_from_onnx(model))
    finder = default(model)
    if finder is None:
        raise SystemExit(f"the manifest has no model of task {TASK}; give one with -m")
    return finder


def scans(data):
    """Name, image and mask (None where the data have none) of every scan."""
    for patient in RAW:
        folder = data / "brain/tabriz" / patient
        for contrast in ("FLAIR", "T1", "T2"):
            yield f"tabriz {patient} {contrast}", nib.load(folder / f"{contrast}.nii.gz"), folder / "brainmask.nii.gz"
    for patient in PREPARED:
        yield f"tabriz {patient} prepared", nib.load(data / "brain/tabriz" / patient / "FLAIR_prep.nii.gz"), None
    for patient in PATIENTS:
        for study in STUDIES:
            folder = data / "brain/lesjak-long" / patient
            scan = nib.load(folder / f"{study}_FLAIR.nii.gz")
            yield f"lesjak-long {patient} {study}", scan, to_scan(folder, study, scan)
    for patient in ("patient07", "patient19"):
        for contrast in ("FLAIR", "T1"):
            path = data / "brain/lesjak-cross" / patient / f"{contrast}.nii.gz"
            yield f"lesjak-cross {patient} {contrast}, stripped", nib.load(path), None
    yield "healthy", nib.load(data / "brain/healthy/FLAIR.nii.gz"), None


def to_scan(folder, study, scan):
    """The patient's mask on the scan's own grid, an image."""
    import SimpleITK as sitk

    itk = sitk.ReadImage(str(folder / f"{study}_FLAIR.nii.gz"), sitk.sitkFloat32)
    known = sitk.ReadImage(str(folder / "brainmask.nii.gz"), sitk.sitkFloat32)
    back = sitk.ReadTransform(str(folder / f"{study}_FLAIR_to_common_space.txt")).GetInverse()
    values = sitk.GetArrayFromImage(sitk.Resample(known, itk, back, sitk.sitkLinear, 0.0)).T
    return nib.Nifti1Image((values > 0.5).astype(np.uint8), scan.affine)


def row(name, image, truth, finder, args):
    """Print one scan's line; its figures and mask."""
    volume = load(image, axial=False)
    data, affine, ml = volume.data[..., 0], volume.affine, np.prod(volume.spacing_mm) / 1000
    start = time.perf_counter()
    found = finder(data, affine)
    seconds = time.perf_counter() - start
    values, said = {"mask": found}, [f"{found.sum() * ml:.0f} mL in {seconds:.1f} s"]
    if args.register:
        start = time.perf_counter()
        first, how = mask.first_mask(data, affine, finder=finder)
        template = register.template_to_scan(data, affine, first)
        said.append(f"{how}; template: agreement {register.agreement(template, first, affine):.3f}")
        said.append(f"similarity {template.similarity:.2f}, {time.perf_counter() - start:.1f} s")
    if truth is not None:
        known = canonical(truth)
        values["Dice"] = dice(found, known)
        said.insert(0, f"Dice {values['Dice']:.4f}")
        said.append(f"theirs {known.sum() * ml:.0f}; false {(found & ~known).sum() * ml:.0f}")
        said.append(f"missed {(known & ~found).sum() * ml:.0f}")
        if args.refine:
            said.append(
                f"at the dark edge {dice(mask.refine(data, affine, found, reach_mm=mask.NETWORK_REACH_MM), known):.4f}"
            )
    if args.template and truth is not None:
        said.append(f"without a network {without_network(data, affine, known)}")
    print(f"{name}: {', '.join(said)}", flush=True)
    if args.o:
        draw(args.o / f"{name.replace(' ', '_')}.png", data, None if truth is None else known, found)
    return values


def without_network(data, affine, known):
    """Dice of the template's way, or that it refuses."""
    try:
        ready = segmenter.prepare(data, affine, strip="template")
    except InputError as error:
        return f"refused ({error})"
    return f"Dice {dice(ready.mask, known):.4f}"


def dice(a, b):
    """Of two boolean masks."""
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


def canonical(source):
    """Boolean array in canonical order of an image, a path, or an array that is in it."""
    if isinstance(source, np.ndarray):
        return source
    image = nib.load(source) if isinstance(source, Path) else source
    return np.asarray(nib.as_closest_canonical(image).dataobj) > 0.5


def draw(path, data, known, found):
    """Ten slices with both outlines."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    tiles, either = [], found if known is None else found | known
    held = np.flatnonzero(either.any((0, 1)))
    for k in np.linspace(held[0], held[-1], 10).astype(int):
        gray = np.clip(data[..., k] / (1.8 * np.median(data[either])), 0, 1)
        tile = np.stack([gray] * 3, -1)
        for outline, colour in ((known, (1, 0, 0)), (found, (0, 1, 0))):
            if outline is not None:
                tile[outline[..., k] ^ ndimage.binary_erosion(outline[..., k])] = colour
        tiles.append(np.rot90(tile))
    rows = [np.concatenate(tiles[i : i + 5], 1) for i in (0, 5)]
    Image.fromarray((np.concatenate(rows) * 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "Brain mask"))
