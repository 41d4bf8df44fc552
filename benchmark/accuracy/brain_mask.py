"""The brain mask on the development scans, beside the masks that came with them, and on scans that were spoilt.

    python benchmark/accuracy/brain_mask.py [-data ../shared/data] [-m MODEL] [-template] [-spoilt] [-others] [-o DIR]

Per scan with a mask (tabriz: thick slices, 1.5 T; lesjak-long: 3 T), raw: Dice, volumes, false and missed voxels of the
network, its seconds, and the agreement of the template that is registered to it; with ``-template`` the Dice of the way
without a network too. Of the other scans (stripped, lesion-free, prepared) the volume. ``-spoilt``: each scan rotated,
cut, flipped in storage, resampled, drifting or noisy; the Dice with the mask that went the same way. ``-others``: what
is no brain must be refused. ``-o`` writes a picture a scan: the data set's mask red, ours green.
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
from sctseg7t.image.grid import resample
from sctseg7t.image.volume import load

# Patients of tabriz with raw scans and masks, and with prepared scans.
RAW, PREPARED = ("104670", "104899", "106639", "110218", "111008"), ("101228", "101627", "112776")
PATIENTS, STUDIES = ("patient01", "patient12"), ("study1", "study2")


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument("-m", dest="model", help="an .onnx file with its entry beside it (default: the manifest's)")
    parser.add_argument("-template", action="store_true", help="the way without a network too")
    parser.add_argument("-refine", action="store_true", help="the network's mask moved to the dark edge too")
    parser.add_argument("-no-registration", dest="register", action="store_false", help="leave that out")
    parser.add_argument("-spoilt", action="store_true")
    parser.add_argument("-others", action="store_true")
    parser.add_argument("-only", nargs="+", metavar="NAME", help="scans whose names contain one of these")
    parser.add_argument("-o", type=Path, help="folder for pictures")
    args = parser.parse_args()
    finder = open_finder(args.model)
    chosen = [scan for scan in scans(args.data) if not args.only or any(part in scan[0] for part in args.only)]
    shown = [(*scan, row(*scan, finder, args)) for scan in chosen]
    known = [values["Dice"] for *_, values in shown if "Dice" in values]
    if known:
        print(f"Dice of {len(known)} scans: mean {np.mean(known):.4f}, least {min(known):.4f}")
    if args.spoilt:
        for name, image, truth, values in shown:
            spoil_all(name, image, truth if truth is not None else values["mask"], finder, args.register)
    if args.others:
        others(args.data, finder)
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def open_finder(model=None):
    """The network of the manifest, or of a file."""
    from sctseg7t.brain.find_brain import open_finder as default
    from sctseg7t.runtime.session import open_session
    from sctseg7t.zoo.local_model import spec_from_onnx

    finder = default() if model is None else BrainFinder(open_session(model, "cpu"), spec_from_onnx(model))
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
            said.append(f"at the dark edge {dice(mask.refine(data, affine, found), known):.4f}")
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


# ---- spoilt scans ----------------------------------------------------------------


def spoil_all(name, image, truth, finder, chain):
    """Print the Dice on every spoilt version of a scan with its mask, spoilt alike.

    With `chain`: of the mask of all that is prepared, and how well the template agrees with it.
    """
    volume = load(image, axial=False)
    data, affine, known = volume.data[..., 0], volume.affine, canonical(truth)
    line = []
    for how, (spoilt, place, moved) in spoilt_versions(data, affine, known):
        again = load(nib.Nifti1Image(spoilt, place), axial=False)
        known_there = canonical(nib.Nifti1Image(moved.astype(np.uint8), place))
        try:
            if chain:
                ready = segmenter.prepare(again.data[..., 0], again.affine, finder=finder)
                score, alike = dice(ready.mask, known_there), ready.details["template_agreement"]
                line.append(f"{how} {score:.3f} ({alike:.3f}{'' if ready.template else ', no template'})")
            else:
                found, _ = mask.first_mask(again.data[..., 0], again.affine, finder=finder)
                line.append(f"{how} {dice(found, known_there):.3f}")
        except InputError as error:
            line.append(f"{how} REFUSED ({error})")
    print(f"{name}: {', '.join(line)}", flush=True)


def spoilt_versions(data, affine, known):
    """How, and (data, affine, mask) of each."""
    rng, middle = np.random.default_rng(0), (np.array(data.shape) - 1) / 2
    level = np.median(data[known])
    for axis, word in enumerate(("nodded", "rolled", "turned")):
        angles = np.zeros(3)
        angles[axis] = np.deg2rad(20)
        turn = np.eye(4)
        turn[:3, :3] = nib.eulerangles.euler2mat(*angles)
        centre = np.eye(4)
        centre[:3, 3] = affine[:3, :3] @ middle + affine[:3, 3]
        matrix = np.linalg.inv(affine) @ centre @ turn @ np.linalg.inv(centre) @ affine
        yield f"{word} 20 degrees", (*(resample(a, matrix, data.shape) for a in (data,)), affine, moved(known, matrix))
    count = data.shape[2]
    for word, part in (
        ("lower 60 %", slice(0, int(0.6 * count))),
        ("upper 60 %", slice(count - int(0.6 * count), None)),
    ):
        place = affine.copy()
        place[:3, 3] += affine[:3, 2] * (part.start or 0)
        yield word, (data[:, :, part], place, known[:, :, part])
    half = slice(0, int(0.6 * data.shape[0]))
    yield "left 60 %", (data[half], affine, known[half])
    flip = affine @ np.diag([-1, 1, -1, 1])
    flip[:3, 3] = (affine @ (data.shape[0] - 1, 0, data.shape[2] - 1, 1))[:3]
    yield "stored flipped", (data[::-1, :, ::-1], flip, known[::-1, :, ::-1])
    for mm in (0.7, 5.0):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        shape = np.ceil(np.array(data.shape) * spacing / mm).astype(int)
        scale = np.diag([*(mm / spacing), 1.0])
        smooth = ndimage.gaussian_filter(data, 0.5 * np.sqrt(np.maximum(mm**2 - spacing**2, 0)) / spacing)
        yield f"at {mm:g} mm", (resample(smooth, scale, shape), affine @ scale, moved(known, scale, shape))
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in data.shape), indexing="ij", sparse=True)
    yield "drifting", (data * np.exp(0.5 * (x + y - z)), affine, known)
    noise = [rng.normal(0, 0.15 * level, data.shape) for _ in range(2)]
    yield "noisy", (np.hypot(data + noise[0], noise[1]), affine, known)
    yield "air zeroed", (np.where(data > 0.15 * level, data, 0), affine, known)


def moved(known, matrix, shape=None):
    """The mask, resampled."""
    return resample(known.astype(np.float32), matrix, shape if shape is not None else known.shape) > 0.5


# ---- what is no brain ------------------------------------------------------------


def others(data, finder):
    """Print what becomes of scans without a brain."""
    for name, image in no_brains(data, finder):
        volume = load(image, axial=False, volumes="mean")
        values, affine = volume.data[..., 0], volume.affine
        try:
            register.check_extent(values.shape, affine)
            mask.first_mask(values, affine, name="refused", finder=finder)
            ml = finder(values, affine).sum() * np.prod(volume.spacing_mm) / 1000
            print(f"{name}: TAKEN for a brain of {ml:.0f} mL", flush=True)
        except InputError as error:
            print(f"{name}: {error}", flush=True)


def no_brains(data, finder):
    """Heads without their brain, limbs drawn as cylinders, noise, cords."""
    rng = np.random.default_rng(0)
    for name, path in (("healthy", "healthy/FLAIR.nii.gz"), ("104899", "tabriz/104899/FLAIR.nii.gz")):
        volume = load(data / "brain" / path, axial=False)
        head, affine = volume.data[..., 0], volume.affine
        inside = ndimage.binary_dilation(finder(head, affine), iterations=2)
        fluid = np.percentile(head[inside], 5)
        yield f"{name}, its brain air", nib.Nifti1Image(np.where(inside, 0, head), affine)
        yield f"{name}, its brain fluid", nib.Nifti1Image(np.where(inside, fluid, head), affine)
        low = int(0.3 * head.shape[2])
        yield f"{name}, its lowest 30 %", nib.Nifti1Image(head[:, :, :low], affine)
    x, y = np.meshgrid(*(np.arange(160) - 79.5,) * 2, indexing="ij")
    for name, radii in (("knee", (65, 16, 12)), ("two thighs", (60, 14, 0))):
        slices = []
        for k in range(120):
            centres = [(0, 0)] if name == "knee" else [(-42, 0), (42, 0)]
            limb = np.zeros((160, 160))
            for cx, cy in centres:
                away = np.hypot(x - cx, y - cy)
                wide = radii[0] if name == "knee" else 38
                bone = radii[1] + (18 * np.exp(-(((k - 60) / 20) ** 2)) if name == "knee" else 0)
                limb = np.where(away < wide, 220, limb)
                limb = np.where(away < wide - 9, 90, limb)
                limb = np.where(away < bone, 30, limb)
                limb = np.where(away < bone - 3, 180, limb)
            slices.append(limb)
        drawn = np.stack(slices, 2) + rng.normal(0, 6, (160, 160, 120))
        yield f"{name}, drawn", nib.Nifti1Image(np.abs(drawn).astype(np.float32), np.diag([1, 1, 1.5, 1]))
    noise = np.abs(rng.normal(0, 100, (128, 128, 90))).astype(np.float32)
    yield "noise", nib.Nifti1Image(noise, np.diag([1.5, 1.5, 2, 1]))
    yield "phantom", nib.Nifti1Image(np.pad(np.full((80, 80, 60), 500.0), 20), np.diag([2.0, 2, 2, 1]))
    for path in sorted((data / "cord").rglob("*.nii.gz")):
        if path.name.partition(".")[0].split("_")[-1] in ("T2starw", "t1", "t2", "t2s"):
            yield path.name, nib.load(path)


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
