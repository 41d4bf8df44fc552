"""The brain mask on the development scans, beside the masks that came with them.

    python benchmark/accuracy/brain_mask.py [-data ../shared/data] [-m MODEL] [-template] [-only NAME ...] [-o DIR]

Dice of the network and of what it becomes at the dark edge; the one that a run uses is bold. Of the data set's masks
the table says how far they stray: where they leave out what lies over 5 mm inside ours, and take in what lies over
5 mm outside, in the plane of the slices. No mask that keeps within 5 mm of ours has a higher Dice than the last
column. ``-m mindgrab`` is a rival of the zoo; ``-template`` adds the way without a network. Of scans without a mask
the volume. ``-o`` writes a picture a scan: the data set's mask red, ours green. These are development scans: looked
at while the tool was made.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from sctseg7t.brain import mask, segmenter
from sctseg7t.brain.find_brain import TASK, BrainFinder
from sctseg7t.errors import InputError
from sctseg7t.image.volume import load
from sctseg7t.report.results_page import name_models, table

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
    parser.add_argument("-only", nargs="+", metavar="NAME", help="scans whose names contain one of these")
    parser.add_argument("-o", type=Path, help="folder for pictures")
    args = parser.parse_args()
    finder = open_finder(args.model)
    name_models(finder.spec)
    chosen = [scan for scan in scans(args.data) if not args.only or any(part in scan[0] for part in args.only)]
    found = [{"name": scan[0], **measured(*scan, finder, args)} for scan in chosen]
    with_mask, without = ([one for one in found if ("Dice" in one) == known] for known in (True, False))
    if with_mask:
        show(with_mask)
    if without:
        print("## Scans without a mask\n")
        table(("scan", "brain, mL", "CPU, s"), [(one["name"], one["ml"], one["cpu_s"]) for one in without])
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", file=sys.stderr)


def show(found):
    """Print the table of the scans with a mask."""
    further = [name for name in ("without a network",) if name in found[0]]
    head = ("scan", "slices, mm", "network", "dark edge", *further, "mL", "theirs", "CPU, s")
    table((*head, "theirs leaves out", "takes in", "at most"), [line(one, further) for one in found])
    used = [one["edge"] if one["thin"] else one["Dice"] for one in found]
    print(f"Dice of {len(used)} scans, as a run uses them: mean {np.mean(used):.3f}, least {min(used):.3f}\n")


def line(one, further):
    """A row of the table."""
    marks = [("", "**")[one["thin"] == edge] for edge in (False, True)]
    scores = [f"{mark}{value:.3f}{mark}" for mark, value in zip(marks, (one["Dice"], one["edge"]))]
    rest = (one["ml"], one["their_ml"], one["cpu_s"], one["out_ml"], one["in_ml"], f"{one['most']:.3f}")
    return one["name"], one["slices_mm"], *scores, *(one[name] for name in further), *rest


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


def measured(name, image, truth, finder, args):
    """What is said of one scan."""
    volume = load(image, axial=False)
    data, affine, ml = volume.data[..., 0], volume.affine, np.prod(volume.spacing_mm) / 1000
    start = time.process_time()
    found = finder(data, affine)
    one = {"ml": f"{found.sum() * ml:.0f}", "cpu_s": f"{time.process_time() - start:.1f}"}
    known = None
    if truth is not None:
        known = canonical(truth)
        thickest = voxel_sizes(affine).max()
        one |= {"slices_mm": f"{thickest:.1f}", "thin": bool(thickest <= segmenter.THIN_MM)}
        edge = mask.refine(data, affine, found, reach_mm=mask.NETWORK_REACH_MM)
        one |= {"Dice": dice(found, known), "edge": dice(edge, known), "their_ml": f"{known.sum() * ml:.0f}"}
        left_out, taken_in = strays(found, known, affine)
        one |= {"out_ml": f"{left_out.sum() * ml:.0f}", "in_ml": f"{taken_in.sum() * ml:.0f}"}
        one["most"] = dice((known | left_out) & ~taken_in, known)
        if args.template:
            one["without a network"] = without_network(data, affine, known)
    if args.o:
        draw(args.o / f"{name.replace(' ', '_')}.png", data, known, found)
    print(name, file=sys.stderr)
    return one


def strays(found, known, affine, reach_mm=5.0):
    """What of ours, over 5 mm inside it in the slice's plane, another mask leaves out; and takes in as far outside."""
    axis = int(voxel_sizes(affine).argmax())
    spacing = np.delete(voxel_sizes(affine), axis)
    out = []
    for one, other in ((found, ~known), (~found, known)):
        deep = [
            ndimage.distance_transform_edt(np.pad(part, 1, mode="edge"), sampling=spacing)[1:-1, 1:-1] > reach_mm
            if not part.all()
            else part
            for part in np.moveaxis(one, axis, 0)
        ]
        out.append(np.moveaxis(np.stack(deep), 0, axis) & other)
    return out


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
