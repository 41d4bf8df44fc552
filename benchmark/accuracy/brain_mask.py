"""The brain mask on the development scans beside the data set's own mask, and what each step takes.

    python benchmark/accuracy/brain_mask.py [-data ../shared/data] [-o DIR]

Per raw FLAIR of lesjak-long: Dice, volumes, false voxels and the Dice of the affine template alone; how far the
registrations of a patient's two scans disagree (through the data set's own rigid transforms); seconds and the largest
memory of the process. For the stripped scans of lesjak-cross: how far the registrations of FLAIR, T1 and T2, which lie
on one grid, disagree. ``-o`` writes a picture a scan: the data set's mask red, ours green.
"""

import argparse
import itertools
import resource
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from sctseg7t.brain import atlas, bias, isotropic_grid, mask, normalise, register
from sctseg7t.image.volume import load

PATIENTS, STUDIES = ("patient01", "patient12"), ("study1", "study2")


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument("-o", type=Path, help="folder for pictures")
    args = parser.parse_args()
    raw(args.data / "brain" / "lesjak-long", args.o)
    stripped(args.data / "brain" / "lesjak-cross")
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def raw(folder, pictures):
    """Masks, times and consistency on the raw scans."""
    templates = {}
    for patient, study in itertools.product(PATIENTS, STUDIES):
        volume = load(folder / patient / f"{study}_FLAIR.nii.gz", axial=False)
        found, alone, templates[patient, study], times = prepare(volume)
        known = reference(folder / patient, study, volume)
        both = 2 * (found & known).sum() / (found.sum() + known.sum())
        first = 2 * (alone & known).sum() / (alone.sum() + known.sum())
        ml = np.prod(volume.spacing_mm) / 1000
        print(
            f"{patient} {study}: Dice {both:.4f} (affine template alone {first:.4f}), {found.sum() * ml:.0f} mL, "
            f"theirs {known.sum() * ml:.0f}; false {(found & ~known).sum() * ml:.0f}, "
            f"missed {(known & ~found).sum() * ml:.0f}; similarity {templates[patient, study].similarity:.2f}"
        )
        total = np.sum(list(times.values()), axis=0)
        steps = (f"{step} {wall:.1f} ({cpu:.1f})" for step, (wall, cpu) in times.items())
        print(f"   seconds (of CPU): {', '.join(steps)}; all {total[0]:.1f} ({total[1]:.1f})", flush=True)
        if pictures:
            draw(pictures / f"{patient}_{study}.png", volume, known, found)
    for patient in PATIENTS:
        placed = [to_common(folder / patient, study, brain_points(templates[patient, study])) for study in STUDIES]
        print(f"{patient}: study 1 and 2 registered alike within {_distances(*placed)}")


def prepare(volume):
    """The chain up to the network's input, timed."""
    data, affine, times = volume.data[..., 0], volume.affine, {}

    def timed(step, call, *args, **kwargs):
        start = time.perf_counter(), time.process_time()
        out = call(*args, **kwargs)
        times[step] = time.perf_counter() - start[0], time.process_time() - start[1]
        return out

    template = timed("registration", register.template_to_scan, data, affine)
    alone = register.template_map(template, "brain", affine, data.shape) >= 0.5
    corrected, _ = timed("N4", bias.n4, data, alone, affine)
    found, _ = timed("mask", mask.brain_mask, corrected, affine, template, method="template")
    image = timed("normalisation", normalise.normalise, corrected, found, "median", {})
    work = isotropic_grid.grid_around(found, affine)
    timed("1 mm grid", isotropic_grid.to_grid, image, affine, work)
    timed("tissue maps", lambda: [register.template_map(template, n, work.affine, work.shape) for n in ("gm", "wm")])
    timed(
        "way back",
        isotropic_grid.to_native,
        isotropic_grid.to_grid(found, affine, work, order=0),
        work,
        affine,
        data.shape,
    )
    return found, alone, template, times


def reference(folder, study, volume):
    """The data set's mask on the scan's own grid."""
    import SimpleITK as sitk

    scan = sitk.ReadImage(str(folder / f"{study}_FLAIR.nii.gz"), sitk.sitkFloat32)
    known = sitk.ReadImage(str(folder / "brainmask.nii.gz"), sitk.sitkFloat32)
    back = sitk.ReadTransform(str(folder / f"{study}_FLAIR_to_common_space.txt")).GetInverse()
    values = sitk.GetArrayFromImage(sitk.Resample(known, scan, back, sitk.sitkLinear, 0.0)).T
    image = nib.as_closest_canonical(nib.Nifti1Image(values, nib.load(volume.path).affine))
    return np.asarray(image.dataobj) > 0.5


def brain_points(template):
    """Points of the template's brain, 6 mm apart, in the scan's world."""
    brain, affine = atlas.map_in_mni("brain")
    points = np.argwhere(brain[::6, ::6, ::6] > 127) * 6 + affine[:3, 3]
    back = np.linalg.inv(template.scan_to_mni)
    return points @ back[:3, :3].T + back[:3, 3]


def to_common(folder, study, points):
    """Points of a scan's world in the patient's common space (LPS)."""
    import SimpleITK as sitk

    transform = sitk.ReadTransform(str(folder / f"{study}_FLAIR_to_common_space.txt")).GetInverse()
    return np.array([transform.TransformPoint(point.tolist()) for point in points * (-1, -1, 1)])


def stripped(folder):
    """Consistency on the stripped scans."""
    for patient in ("patient07", "patient19"):
        points = {}
        for contrast in ("T1", "FLAIR", "T2"):
            volume = load(folder / patient / f"{contrast}.nii.gz", axial=False)
            template = register.template_to_scan(volume.data[..., 0], volume.affine)
            points[contrast] = brain_points(template)
            _, how = mask.brain_mask(volume.data[..., 0], volume.affine, template)
            print(f"{patient} {contrast}: {how}, similarity {template.similarity:.2f}")
        for contrast in ("FLAIR", "T2"):
            print(f"{patient}: {contrast} and T1 registered alike within {_distances(points[contrast], points['T1'])}")


def _distances(a, b):
    distance = np.linalg.norm(a - b, axis=1)
    return f"{distance.mean():.2f} mm on the average, {np.percentile(distance, 95):.2f} at 95 %"


def draw(path, volume, known, found):
    """Ten slices with both outlines."""
    from PIL import Image
    from scipy import ndimage

    path.parent.mkdir(parents=True, exist_ok=True)
    data, tiles = volume.data[..., 0], []
    held = np.flatnonzero(found.any((0, 1)))
    for k in np.linspace(held[0] + 2, held[-1] - 1, 10).astype(int):
        gray = np.clip(data[..., k] / (1.6 * np.median(data[found])), 0, 1)
        tile = np.stack([gray] * 3, -1)
        for outline, colour in ((known[..., k], (1, 0, 0)), (found[..., k], (0, 1, 0))):
            tile[outline ^ ndimage.binary_erosion(outline)] = colour
        tiles.append(np.rot90(tile))
    rows = [np.concatenate(tiles[i : i + 5], 1) for i in (0, 5)]
    Image.fromarray((np.concatenate(rows) * 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
