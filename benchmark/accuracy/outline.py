"""Where the cord's outline lies on the edge between cord and CSF: ours and the reference's.

    python benchmark/accuracy/outline.py -data ../shared/data

Along 72 rays per slice it finds the radius at which the intensity passes half way from cord to CSF, and prints
by how much the reference mask and ours differ from it (mm, positive outwards). Rays without a clear bright CSF
are left out. A mask that follows the half maximum keeps the area of the blurred image; one inside it is
smaller by convention.
"""

import argparse
import sys

import numpy as np
from scans import canonical, scans

from sctseg7t.report.results_page import name_models
from sctseg7t.report.results_page import run as run_with_page

RADIUS_MM = np.arange(0, 12, 0.05)
CLEAR = 1.4


def rays(data, reference, mine, spacing_mm):
    """Radii (mm) of reference, ours and half maximum on every clear ray: (N, 3)."""
    found = []
    for k in np.flatnonzero(reference.any((0, 1))):
        centre = np.argwhere(reference[..., k]).mean(0)
        for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
            step = np.array([np.cos(angle) / spacing_mm[0], np.sin(angle) / spacing_mm[1]])
            where = centre[:, None] + step[:, None] * RADIUS_MM
            ref, own, profile = (_along(v[..., k], where) for v in (reference, mine, data))
            r_ref, r_own = RADIUS_MM[np.argmax(ref < 0.5)], RADIUS_MM[np.argmax(own < 0.5)]
            cord = profile[(RADIUS_MM > 0.6 * r_ref) & (RADIUS_MM < 0.8 * r_ref)].mean()
            fluid = profile[(RADIUS_MM > r_ref + 1) & (RADIUS_MM < r_ref + 2)].mean()
            beyond = RADIUS_MM > 0.7 * r_ref
            r_half = RADIUS_MM[beyond][np.argmax(profile[beyond] > (cord + fluid) / 2)]
            if fluid >= CLEAR * cord and abs(r_half - r_ref) < 2:
                found.append((r_ref, r_own, r_half))
    return np.array(found).reshape(-1, 3)


def _along(plane, where):
    from scipy.ndimage import map_coordinates

    return map_coordinates(plane.astype(float), where, order=1, mode="nearest")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data")
    args = p.parse_args()
    from sctseg7t.inference.pipeline import open_segmenter

    segmenter = open_segmenter(device="cpu")
    name_models(segmenter.model.spec)
    print(f"{'development scans':12} {'rays':>5} {'reference - half max':>21} {'ours - half max':>16}   (mm)")
    for name, image, sc, _ in scans(args.data):
        result = segmenter.run(image)
        radii = rays(result.volume.data[..., 0], canonical(sc), canonical(result.masks["SC"]), result.volume.spacing_mm)
        if len(radii) < 50:
            print(f"{name:12} {len(radii):5}   too few clear rays")
            continue
        r_ref, r_own, r_half = radii.T
        print(f"{name:12} {len(radii):5} {(r_ref - r_half).mean():21.3f} {(r_own - r_half).mean():16.3f}")


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Outline of the cord"))
