"""Draw the slices of simulated scans on which a model does worst, for the model's page.

    python benchmark/accuracy/failures.py [-m cord_gm_sc brain_lesion_views ...] [-n 3] [-o sctseg7t/weights]

Cords: ``-n`` scans of each shipped recipe at a signal-to-noise ratio of 20. Brains: twice as many FLAIR volumes, in
slices as thick as the model takes. No network was trained on these seeds. Each picture is ``<weights>-failures.png``;
the model's card shows it. Simulated scans can be shown to anybody; how a model fails on real ones is in its card in
words.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

RECIPES = ("healthy", "ms", "als", "compression")
SEED, SNR, PIXELS_MM = 90_000, 20.0, (0.35, 0.5)
MODELS = ("cord_gm_sc", "brain_lesion_views", "brain_lesion_views_thin", "brain_lesion_mpunetpp")
SHOWN, HALF_MM = 6, 11
# At most so many slices of a scan, with more than so many between them.
OF_A_SCAN, APART = {"GM": 1, "LESION": 2}, 3
# Slices with less gray matter than this are not judged by Dice: a voxel decides.
LEAST_GM_MM2 = 3.0
TEXT_PT = 9


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-m", "--model", nargs="+", default=MODELS, help=f"models of the zoo (default: {' '.join(MODELS)})")
    p.add_argument("-n", type=int, default=3, help="scans of each recipe; brains: twice as many (default 3)")
    p.add_argument("-o", "--output", type=Path, default=Path("sctseg7t/weights"), help="folder")
    args = p.parse_args()
    import sctseg7t
    from sctseg7t.report import plotting

    for name in args.model:
        segmenter = sctseg7t.open_segmenter(None, name, "cpu", threads=1)
        spec = segmenter.model.spec
        brain = spec.organ == "brain"
        cases = list(brains(2 * args.n, spec) if brain else cords(args.n))
        shown = worst(segmenter, cases, "LESION" if brain else "GM")
        picture = args.output / f"{Path(spec.files[0].name).stem}-failures.png"
        print(*plotting.save(figure(shown, brain), picture, dpi=100))


def cords(count):
    """Simulated cord scans: name, image, and true masks."""
    from sctseg7t.simulate.anatomy import load_bank
    from sctseg7t.simulate.dataset import read_recipe
    from sctseg7t.simulate.scan import ScanPlan, simulate_scan

    bank = load_bank(["parametric"])
    for place, recipe in enumerate(RECIPES):
        # Other people for each recipe.
        for seed in range(SEED + place * count, SEED + (place + 1) * count):
            pixel = PIXELS_MM[seed % len(PIXELS_MM)]
            plan = ScanPlan(seed=seed, slices=8, pixel_mm=pixel, snr=SNR, field_of_view_mm=60.0)
            image, truth, _ = simulate_scan(bank, plan, read_recipe(recipe).simulation)
            yield recipe, image, {tissue: array(mask) >= 0.5 for tissue, mask in truth.items()}


def brains(count, spec):
    """Simulated FLAIR volumes, stripped: name, image, and true lesions."""
    from sctseg7t.simulate.brain.bank import simulate
    from sctseg7t.simulate.brain.template import load_template

    # A model that hands thinner slices on is for thick ones; one that shares them is for those.
    thick = round(spec.thinner["below_mm"]) if spec.thinner and "share" not in spec.thinner else 1
    for seed in range(SEED, SEED + count):
        image, lesions, to_template = simulate(load_template(), None, seed)
        depth = image.shape[2] // thick * thick
        slices, covered = (part[..., :depth].reshape(*part.shape[:2], -1, thick).mean(-1) for part in (image, lesions))
        affine = np.vstack([to_template, [0, 0, 0, 1]])
        # The same place in the world, upright: its turn against the template is for the tool to find.
        affine = np.diag([1.0, 1.0, thick, 1.0]) + np.array([[0, 0, 0, x] for x in (*affine[:3, 3], 0)])
        affine[2, 3] += (thick - 1) / 2
        yield f"brain {seed - SEED + 1}", nib.Nifti1Image(1000 * slices, affine), {"LESION": covered >= 0.5}


def worst(segmenter, cases, judged):
    """The worst slices, of a scan the first few that lie apart: (title, image, found, true) each.

    Gray matter is judged by Dice, lesions by the area that is wrong.
    """
    rows = []
    for name, image, truth in cases:
        result = segmenter.run(image)
        found = {tissue: array(mask) > 0 for tissue, mask in result.masks.items() if tissue in truth}
        scores = [
            (*score(found[judged][..., k], truth[judged][..., k], judged, image), k) for k in range(image.shape[2])
        ]
        chosen = []
        for value, told, k in sorted(scores):
            if value < 0 and len(chosen) < OF_A_SCAN[judged] and all(abs(k - other) > APART for other in chosen):
                chosen.append(k)
                box = around(truth, k, image.header.get_zooms()) if judged == "GM" else np.s_[:, :, k]
                parts = {tissue: (found[tissue][box], truth[tissue][box]) for tissue in found}
                rows.append((value, f"{name}, slice {k}\n{told}", array(image)[box], parts))
    rows.sort(key=lambda row: row[0])
    return [row[1:] for row in rows[:SHOWN]]


def score(ours, theirs, judged, image):
    """How bad a slice is (the more negative the worse, 0 where nothing can be said), and that in words."""
    pixel_mm2 = float(np.prod(image.header.get_zooms()[:2]))
    if judged == "GM":
        # A slice whose GM cannot be seen has none drawn, and a flag: that is no failure.
        if not ours.any() or theirs.sum() * pixel_mm2 < LEAST_GM_MM2:
            return 0.0, ""
        dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
        return dice - 1, f"GM Dice {dice:.2f}"
    missed, false = ((a & ~b).sum() * pixel_mm2 for a, b in ((theirs, ours), (ours, theirs)))
    return -missed - false, f"missed {missed:.0f}, false {false:.0f} mm²"


def around(truth, k, zooms):
    """The part of a slice around its cord."""
    i, j = np.rint(np.argwhere(truth["SC"][..., k]).mean(0)).astype(int)
    half = [round(HALF_MM / zoom) for zoom in zooms[:2]]
    return np.s_[max(i - half[0], 0) : i + half[0], max(j - half[1], 0) : j + half[1], k]


def figure(shown, brain):
    """A row of slices, and a row of the same with outlines."""
    from matplotlib.lines import Line2D

    from sctseg7t.report import plotting

    blue, orange = plotting.PALETTE[5], plotting.PALETTE[1]
    colours = {"LESION": (orange, "yellow")} if brain else {"SC": (blue, "white"), "GM": (orange, "yellow")}
    drawn, axes = plotting.new_figure(2, len(shown), 2.2, 2.5)
    for column, (title, image, parts) in enumerate(shown):
        outlines = [
            (mask, colour, style)
            for tissue, pair in colours.items()
            for mask, colour, style in zip(parts[tissue], pair, ("solid", "dashed"))
        ]
        for line, cut in ((0, ()), (1, outlines)):
            axis = axes[line][column]
            plotting.slice_with_outlines(
                axis, image, cut, limits=(image.min(), np.percentile(image, 99.8)), linewidth=1.4
            )
        axes[0][column].set_title(title, fontsize=TEXT_PT)
    lines = [
        Line2D([], [], color=colour, linestyle=style, label=f"{tissue} {what}")
        for tissue, pair in colours.items()
        for colour, style, what in zip(pair, ("solid", "dashed"), ("found", "true"))
    ]
    drawn.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=TEXT_PT, facecolor="0.5")
    return drawn


def array(image):
    """Values of an image in canonical order."""
    return nib.as_closest_canonical(image).get_fdata()


if __name__ == "__main__":
    main()
