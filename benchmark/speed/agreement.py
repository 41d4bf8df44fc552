"""Time of the agreement measures over many slices, next to an all-pairs Hausdorff distance, MONAI and SimpleITK.

    python benchmark/speed/agreement.py [-slices 1000] [-rounds 3]

Pairs of cord-like masks (an ellipse and a shifted, wavy copy) on 64 x 64 pixels of 0.3 mm and 128 x 128 of
0.176 mm. Ours computes every field of `Agreement` for every slice; the others what their line says. A peer
is timed on fewer slices and scaled up; its Hausdorff distances are checked against ours.

The all-pairs loops are in plain Python: of all pixels, with a NumPy norm for each pair, as
sct_compute_hausdorff_distance goes over a slice (here without its thinning, which measures skeletons
instead); and of boundary pixels with `math.dist`, the kindest form of it. One thread each.
"""

import argparse
import math
import os
import sys
import time

import numpy as np

from sctseg7t.measure.agreement import compare_in_voxels, compare_masks
from sctseg7t.measure.pairs import boundary

GRIDS = ((64, 0.3), (128, 0.176))
TOLERANCE_MM = 0.5


def make_pairs(slices, size, spacing_mm, seed=0):
    """Cords of 5.5 x 4 mm (half axes, -+ 10 %), and copies shifted by 0.3 mm (SD) with a wavy outline."""
    rng = np.random.default_rng(seed)
    grid = (np.arange(size) - size / 2) * spacing_mm
    reference, mask = np.zeros((2, size, size, slices), bool)
    for k in range(slices):
        axes = np.array([5.5, 4.0]) * rng.uniform(0.9, 1.1, 2)
        for masks, shift, wave in ((reference, (0, 0), 0.0), (mask, rng.normal(0, 0.3, 2), 0.05)):
            x, y = np.meshgrid(grid - shift[0], grid - shift[1], indexing="ij")
            radius = 1 + wave * np.sin(5 * np.arctan2(y, x) + rng.uniform(0, 6))
            masks[..., k] = np.hypot(x / axes[0], y / axes[1]) <= radius
    return reference, mask


def all_pixels(reference, mask, spacing_mm):
    """Hausdorff distance between all pixels, mm: a NumPy norm for every pair."""
    points = [[np.asarray(p) for p in np.argwhere(m)] for m in (reference, mask)]
    ways = (points, points[::-1])
    return max(max(min(np.linalg.norm(p - q) for q in others) for p in own) for own, others in ways) * spacing_mm


def all_boundary_pixels(reference, mask, spacing_mm):
    """Hausdorff distance between boundaries, mm: `math.dist` for every pair."""
    points = [np.argwhere(boundary(m)).tolist() for m in (reference, mask)]
    ways = (points, points[::-1])
    return max(max(min(math.dist(p, q) for q in others) for p in own) for own, others in ways) * spacing_mm


def monai_hausdorff(reference, mask, spacing_mm):
    import torch
    from monai.metrics import compute_hausdorff_distance

    pair = [torch.from_numpy(m)[None, None] for m in (mask, reference)]
    return float(compute_hausdorff_distance(*pair, include_background=True, spacing=[spacing_mm] * 2))


def monai_five(reference, mask, spacing_mm):
    import torch
    from monai import metrics

    pair = [torch.from_numpy(m)[None, None] for m in (mask, reference)]
    options = {"include_background": True, "spacing": [spacing_mm] * 2}
    metrics.compute_dice(*pair, include_background=True)
    metrics.compute_average_surface_distance(*pair, symmetric=True, **options)
    metrics.compute_surface_dice(*pair, [TOLERANCE_MM], **options)
    metrics.compute_hausdorff_distance(*pair, percentile=95, **options)
    return float(metrics.compute_hausdorff_distance(*pair, **options))


def simpleitk_hausdorff(reference, mask, spacing_mm):
    """Of the boundaries, as ours; with LabelOverlapMeasures of the masks."""
    import SimpleITK as sitk

    def image(array):
        found = sitk.GetImageFromArray(array.astype(np.uint8))
        found.SetSpacing([spacing_mm] * 2)
        return found

    overlap, distance = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
    overlap.Execute(image(mask), image(reference))
    distance.Execute(*(sitk.LabelContour(image(m), fullyConnected=False) for m in (reference, mask)))
    return distance.GetHausdorffDistance()


# Name, function, slices it is timed on, rounds, field of ours that it must equal, module it needs.
PEERS = (
    ("all pairs of pixels, NumPy norm", all_pixels, 1, 1, "hausdorff_all_mm", None),
    ("all pairs of boundary pixels", all_boundary_pixels, 20, 3, "hausdorff_mm", None),
    ("MONAI: Hausdorff", monai_hausdorff, 100, 3, "hausdorff_mm", "monai"),
    ("MONAI: HD, HD95, ASSD, NSD, Dice", monai_five, 100, 3, "hausdorff_mm", "monai"),
    ("SimpleITK: Hausdorff, overlap", simpleitk_hausdorff, 200, 3, "hausdorff_mm", "SimpleITK"),
)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-slices", type=int, default=1000)
    args = p.parse_args()
    _one_thread()
    print(f"{args.slices} slices; CPU time of one thread, load {os.getloadavg()[0]:.1f}")
    for size, spacing_mm in GRIDS:
        _compare(args.slices, size, spacing_mm)


def _compare(slices, size, spacing_mm):
    reference, mask = make_pairs(slices, size, spacing_mm)
    area = np.median(reference.sum((0, 1))) * spacing_mm**2
    print(f"\n{size} x {size} pixels of {spacing_mm} mm, median area {area:.0f} mm2")
    spacing = (spacing_mm, spacing_mm)
    pairs = [tuple(np.ascontiguousarray(m[..., k]) for m in (reference, mask)) for k in range(slices)]
    ours, found = _best(5, lambda: [compare_masks(*p, spacing) for p in pairs])
    voxels, _ = _best(5, lambda: [compare_in_voxels(*p) for p in pairs])
    print(f"  {'ours: all of Agreement':34} {ours:9.2f} s")
    print(f"  {'ours: voxel units besides':34} {voxels:9.2f} s")
    for name, function, count, rounds, field, module in PEERS:
        if module and not _found(module):
            print(f"  {name:34} {'-':>9} {module} is not installed")
            continue
        some = pairs[:count]
        seconds, theirs = _best(rounds, lambda: [function(*p, spacing_mm) for p in some])  # noqa: B023
        seconds *= slices / len(some)
        apart = max(abs(value - getattr(own, field)) for value, own in zip(theirs, found))
        print(f"  {name:34} {seconds:9.2f} s  {seconds / ours:8.1f} x ours; distances differ by {apart:.0e} mm at most")


def _best(rounds, work):
    """CPU seconds of the fastest round (others may be using the machine), and what it returned."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def _found(module):
    from importlib.util import find_spec

    return find_spec(module) is not None


def _one_thread():
    if _found("SimpleITK"):
        import SimpleITK as sitk

        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if _found("torch"):
        import torch

        torch.set_num_threads(1)


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "Speed: agreement measures"))
