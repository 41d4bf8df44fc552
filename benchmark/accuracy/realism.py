"""How near simulated scans are to real ones: brightness and unevenness around the cord, in it, and along the stack.

    python benchmark/accuracy/realism.py [-data ../shared/data] [-n 12] [-config healthy]

Measured alike on the development scans (their reference masks) and on simulated scans (their truth): brightness of
gray matter, of fluid (a ring 0.8 to 2.2 mm outside the cord) and of what lies 6 to 14 mm outside it, against the
slice's WM median; how uneven they are (CV); and how much they change from slice to slice (SD along the stack). The
contact sheet that a person judges is `sct7t_simulate -preview sheet.png -beside SCANS`.
"""

import argparse
import sys

import nibabel as nib
import numpy as np
from scans import canonical, scans
from scipy.ndimage import distance_transform_edt

from sctseg7t.report.results_page import run as run_with_page
from sctseg7t.report.results_page import table

MEASURES = (
    "GM / WM",
    "fluid / WM",
    "around / WM",
    "CV of fluid",
    "CV around",
    "SD of GM / WM along",
    "SD of fluid / WM along",
    "SD of around / WM along",
)


def measure(data, sc, gm, spacing_mm):
    """The measures of one scan, (8,): medians over its slices, and SDs along them."""
    rows = []
    for k in np.flatnonzero(sc.any((0, 1)) & gm.any((0, 1))):
        image, cord, gray = data[..., k], sc[..., k], gm[..., k]
        deep = distance_transform_edt(cord, spacing_mm)
        away = distance_transform_edt(~cord, spacing_mm)
        from_gray = distance_transform_edt(~gray, spacing_mm)
        white = np.median(image[(deep > 0.8) & (from_gray > 0.6)])
        ring, around = image[(away > 0.8) & (away < 2.2)] / white, image[(away > 6) & (away < 14)] / white
        gray_level = np.median(image[gray]) / white
        spread = [part.std() / part.mean() for part in (ring, around)]
        rows.append([gray_level, np.median(ring), np.median(around), *spread])
    rows = np.array(rows)
    # A trend along the stack is the coil's; what remains is anatomy's and flow's.
    return np.concatenate([np.median(rows, 0), np.abs(np.diff(rows[:, :3], axis=0)).mean(0) / 1.128])


def real(data):
    """Measures of the development scans, (N, 8)."""
    found = []
    for scan in scans(data):
        image = nib.as_closest_canonical(nib.load(scan.image))
        spacing = image.header.get_zooms()[:2]
        found.append(measure(image.get_fdata(), canonical(scan.sc), canonical(scan.gm), spacing))
    return np.array(found)


def simulated(config, count, pixel_mm=0.5):
    """Measures of simulated scans, (N, 8), in slices as thick as the development scans'."""
    from sctseg7t.simulate.anatomy import load_bank
    from sctseg7t.simulate.dataset import plan_scan, read_recipe
    from sctseg7t.simulate.scan import simulate_scan

    recipe, found = read_recipe(config), []
    bank = load_bank(recipe.anatomy)
    for seed in range(count):
        plan = plan_scan(recipe, seed, slices=10, pixel_mm=pixel_mm, thickness_mm=4.0, field_of_view_mm=48.0)
        image, truth, _ = simulate_scan(bank, plan, recipe.simulation)
        sc, gm = (truth[name].get_fdata() > 0.5 for name in ("SC", "GM"))
        found.append(measure(image.get_fdata(), sc, gm, image.header.get_zooms()[:2]))
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-data", default="../shared/data", help="folder of the development data")
    parser.add_argument("-n", type=int, default=12, help="simulated scans")
    parser.add_argument("-config", default="healthy", help="recipe of the simulated scans")
    args = parser.parse_args()
    groups = real(args.data), simulated(args.config, args.n)
    shown = [[f"{np.median(g[:, k]):.2f} ({g[:, k].min():.2f}-{g[:, k].max():.2f})" for g in groups] for k in range(8)]
    heads = [f"{name}, n = {len(g)}: median (range)" for name, g in zip(("real", f"simulated {args.config}"), groups)]
    table(["", *heads], [[name, *cells] for name, cells in zip(MEASURES, shown)])


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Simulated and real scans"))
