"""Locator on the development scans as they are and after perturbations.

    python benchmark/accuracy/locator.py -data ../shared/data

Prints, per perturbation, how many slices have their centre within 3 mm of the reference cord's, the median and
largest error, slices called unsure, and the same count for the network's windows, which are centred again
on the cord found. Then what it says of images without a cord.
"""

import argparse
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from scans import centres, scans

from sctseg7t.report.results_page import name_models
from sctseg7t.report.results_page import run as run_with_page


def perturbations(data, mask, spacing):
    """(name, image, mask) of one canonical scan, changed in ways that happen in practice."""
    yield "as it is", data, mask
    for name, keep in (("right", (8, 200)), ("left", (200, 8))):
        box = _box(mask, spacing, keep, (30, 30))
        yield f"cropped, cord 8 mm from the {name} border", data[box], mask[box]
    box = _box(mask, spacing, (25, 25), (8, 200))
    yield "cropped, cord 8 mm from the posterior border", data[box], mask[box]
    box = _box(mask, spacing, (12, 12), (12, 12))
    yield "cropped to 12 mm around the cord", data[box], mask[box]
    shift = [int(round(20 / s)) for s in spacing[:2]]
    pad = [(2 * shift[0], 0), (0, 2 * shift[1]), (0, 0)]
    yield "shifted by 20 mm", np.pad(data, pad), np.pad(mask, pad)
    for angle in (-15, 15):
        yield (
            f"rotated by {angle} degrees",
            _rotate(data, angle, spacing, 1),
            _rotate(mask.astype(np.float32), angle, spacing, 1) > 0.5,
        )
    middle = data.shape[2] // 2
    yield "one slice", data[..., middle : middle + 1], mask[..., middle : middle + 1]
    yield "coarsened to 0.9 mm", *_coarsen(data, mask, spacing, 0.9)


def _box(mask, spacing, x_mm, y_mm):
    where = np.argwhere(mask)
    low, high = where.min(0), where.max(0) + 1
    margin = [[int(round(v / s)) for v in mm] for mm, s in zip((x_mm, y_mm), spacing)]
    return tuple(slice(max(low[a] - margin[a][0], 0), high[a] + margin[a][1]) for a in (0, 1))


def _rotate(volume, degrees, spacing, order):
    from scipy.ndimage import affine_transform

    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    scale = np.diag(spacing[:2])
    matrix = np.linalg.inv(scale) @ np.array([[c, -s], [s, c]]) @ scale
    centre = (np.array(volume.shape[:2]) - 1) / 2
    return np.stack(
        [
            affine_transform(volume[..., k], matrix, centre - matrix @ centre, order=order)
            for k in range(volume.shape[2])
        ],
        -1,
    )


def _coarsen(data, mask, spacing, to_mm):
    from scipy.ndimage import zoom

    factor = (spacing[0] / to_mm, spacing[1] / to_mm, 1)
    return zoom(data, factor, order=1), zoom(mask.astype(np.float32), factor, order=1) > 0.5


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data")
    args = p.parse_args()
    from sctseg7t.inference.pipeline import open_segmenter

    segmenter = open_segmenter("gm_sc", None, "cpu")
    name_models(segmenter.model.spec, segmenter.model.locator_spec)
    table = {}
    for name, image, sc, _ in scans(args.data):
        canonical = nib.as_closest_canonical(nib.load(image))
        mask = nib.as_closest_canonical(nib.load(sc)).get_fdata() > 0.5
        data, spacing = canonical.get_fdata(dtype=np.float32), canonical.header.get_zooms()
        for what, changed, reference in perturbations(data, mask, spacing):
            affine = canonical.affine
            if what.startswith("coarsened"):
                affine = affine @ np.diag([data.shape[0] / changed.shape[0], data.shape[1] / changed.shape[1], 1, 1])
            flips = (False, True) if what == "as it is" else (False,)
            for flip in flips:
                label = "stored flipped along all axes" if flip else what
                table.setdefault(label, []).append((name, *_errors(changed, reference, affine, segmenter, flip)))
    print(
        f"{'development scans':48} {'slices':>6} {'<=3mm':>6} {'median':>7} {'largest':>8} {'unsure':>6}  windows <=3mm"
    )
    table["all"] = [row for rows in table.values() for row in rows]
    for label, rows in table.items():
        errors, windows = (np.concatenate([row[k] for row in rows]) for k in (1, 3))
        good, median, largest = int((errors <= 3).sum()), np.median(errors), errors.max()
        unsure, after = sum(row[2] for row in rows), int((windows <= 3).sum())
        print(f"{label:48} {len(errors):6} {good:6} {median:7.2f} {largest:8.2f} {unsure:6}  {after:6}")
        for name, e, _, _ in rows if label != "all" else ():
            if (e > 3).any():
                print(f"{'':6} {name}: slices {np.flatnonzero(e > 3).tolist()}, {np.round(e[e > 3], 1).tolist()} mm")
    _without_cord(args.data, segmenter)


def _errors(data, mask, affine, segmenter, flip):
    from sctseg7t.cord.locator import locate
    from sctseg7t.cord.windows_model import segment_fractions
    from sctseg7t.image.volume import load

    image = nib.Nifti1Image(data, affine)
    if flip:
        image = image.as_reoriented(np.array([[0, -1], [1, -1], [2, -1]]))
    volume = load(image)
    data = volume.data[..., 0]
    path = locate(data, volume.affine, segmenter.model.locator, segmenter.model.locator_spec)
    reference = centres(mask)
    some = np.isfinite(reference).all(1)
    if path is None:
        return np.full(some.sum(), np.inf), 0, np.full(some.sum(), np.inf)
    model = segmenter.model
    used = segment_fractions([data], volume.frame, path.centres_vox, model.session, model.spec).centres_vox
    errors, window = (volume.frame.mm_between(found, reference)[some] for found in (path.centres_vox, used))
    return errors, int(path.unsure[some].sum()), window


def _without_cord(data, segmenter):
    from sctseg7t.cord.locator import locate
    from sctseg7t.image.volume import load

    rng = np.random.default_rng(0)
    images = {}
    for k in range(4):
        noise = np.abs(rng.normal(size=(256, 256, (1, 5, 12, 20)[k]))).astype(np.float32)
        images[f"Rayleigh noise, {noise.shape[2]} slices"] = nib.Nifti1Image(noise, np.diag([0.4, 0.4, 3, 1]))
    brain = Path(data) / "brain"
    for path in sorted(
        [*brain.glob("lesjak-cross/patient*/[FT]*.nii.gz"), *brain.glob("lesjak-long/patient*/study*_FLAIR.nii.gz")]
    ):
        images[f"brain {path.parent.name} {path.name}"] = nib.load(path)
    for name, image in images.items():
        volume = load(image, axial=False)
        found = locate(volume.data[..., 0], volume.affine, segmenter.model.locator, segmenter.model.locator_spec)
        print(f"{name:42} {'no cord found' if found is None else 'a cord is claimed'}")


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Locator"))
