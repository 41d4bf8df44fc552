"""The whole brain chain on scans that were spoilt, and what becomes of scans that show no brain.

    python benchmark/accuracy/brain_robustness.py [-data DATA] [-only NAME ...] [-how WORD ...] [-mask] [-others]

Each FLAIR of the development scans goes through ``-c brain_lesion`` as it is and rotated by 20 degrees, cut to 60 %,
flipped in storage, resampled, drifting, noisy, or with its air set to zero. None may fail. A line a run: the load in
mL, the brain's volume, how the template fits, what was flagged, seconds of CPU. ``-mask`` does without the lesion
network and prints the Dice of the brain mask with the data set's (or, where it has none, ours of the plain scan)
that went the same way. ``-others``: heads without their brain, limbs, noise, cords; all must be refused.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import brain_mask
import nibabel as nib
import numpy as np
from brain_mask import canonical, dice
from scipy import ndimage

from sctseg7t.brain import segmenter
from sctseg7t.errors import UserError
from sctseg7t.image.grid import resample
from sctseg7t.image.volume import load
from sctseg7t.inference.pipeline import open_segmenter


def main():
    """Print a line a run, and how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument("-m", dest="model", help="a lesion network of the zoo, or an .onnx file (default: the zoo's)")
    parser.add_argument("-only", nargs="+", metavar="NAME", help="scans whose names contain one of these")
    parser.add_argument("-how", nargs="+", metavar="WORD", help="versions whose names contain one of these")
    parser.add_argument("-mask", action="store_true", help="the brain mask alone")
    parser.add_argument("-others", action="store_true", help="scans without a brain")
    args = parser.parse_args()
    chain = open_segmenter("brain_lesion", model=args.model, device="cpu", threads=1)
    if args.others:
        taken = sum(not refused(name, image, chain) for name, image in no_brains(args.data, chain.finder))
        print(f"{taken} of these were taken for brains")
    else:
        runs = [spoil_all(*scan, chain, args.mask, args.how) for scan in chosen(args.data, args.only)]
        print(f"{sum(len(one) for one in runs)} runs, {sum(one.count(False) for one in runs)} failed")
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def chosen(data, only):
    """Name, image and brain mask of the FLAIR scans."""
    for name, image, truth in brain_mask.scans(data):
        if not name.endswith(("T1", "T2")) and "T1," not in name and (not only or any(part in name for part in only)):
            yield name, image, truth


def spoil_all(name, image, truth, chain, mask_only, wanted):
    """Print a line for the scan and each spoilt version; whether each worked."""
    volume = load(image, axial=False)
    data, affine = volume.data[..., 0], volume.affine
    known = canonical(truth) if truth is not None else segmenter.first_mask(data, affine, finder=chain.finder)[0]
    done = []
    for how, (spoilt, place, there) in [("plain", (data, affine, known)), *spoilt_versions(data, affine, known)]:
        if wanted and not any(word in how for word in wanted):
            continue
        scan, start = nib.Nifti1Image(np.asarray(spoilt, np.float32), place), time.process_time()
        try:
            said = mask_told(scan, there, chain) if mask_only else run_told(scan, chain)
        except UserError as error:
            said = f"FAILED: {error}"
        done.append(not said.startswith("FAILED"))
        print(f"{name}, {how}: {said}, {time.process_time() - start:.0f} s of CPU", flush=True)
    return done


def run_told(scan, chain):
    """What a run of the whole chain gave."""
    result = chain.run(scan)
    about, load_ml = result.details["brain"], result.tables[0].summary()["load_ml"]
    flags = " ".join(text.partition(":")[0] for text in result.warnings)
    return f"{load_ml:.2f} mL in {about['brain_ml']:.0f} mL, {_template(about)} {flags}"


def mask_told(scan, truth, chain):
    """Dice of the mask of all that is prepared."""
    again = load(scan, axial=False)
    ready = segmenter.prepare(again.data[..., 0], again.affine, finder=chain.finder)
    known = canonical(nib.Nifti1Image(truth.astype(np.uint8), scan.affine))
    flags = " ".join(text.partition(":")[0] for text in ready.warnings)
    return f"Dice {dice(ready.mask, known):.3f}, {_template(ready.details)} {flags}"


def _template(about):
    """Agreement of mask and template, similarity of image and template, contrast of the tissues."""
    told = (about[name] for name in ("template_agreement", "template_similarity", "tissue_contrast"))
    return "template " + " / ".join("-" if value is None else f"{value:.3f}" for value in told)


def refused(name, image, chain):
    """Print what becomes of a scan without a brain; whether it was refused."""
    volume = load(image, axial=False, volumes="mean")
    try:
        ready = segmenter.prepare(volume.data[..., 0], volume.affine, finder=chain.finder)
    except UserError as error:
        print(f"{name}: {error}", flush=True)
        return True
    flags = " ".join(text.partition(":")[0] for text in ready.warnings)
    print(
        f"{name}: TAKEN for a brain of {ready.details['brain_ml']:.0f} mL, {_template(ready.details)} {flags}",
        flush=True,
    )
    return False


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
        yield f"{word} 20 degrees", (resample(data, matrix, data.shape), affine, moved(known, matrix))
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


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "Brains: robustness"))
