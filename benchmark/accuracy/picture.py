"""Draw the guide's pictures of a scan: the masks found, and their outlines beside the reference's.

    python benchmark/accuracy/picture.py [-i examples/t2s.nii.gz] [-ref SC=FILE GM=FILE] [-o docs]

It writes ``example.png`` (the slices, and the masks found) and ``overlay.png`` (ours and the reference). Without
``-i`` and ``-ref`` they are of the example, whose truth is known.
"""

import argparse
from pathlib import Path

import numpy as np

HALF_MM = 11
# Of all text, in points: picture and page have the same width.
TEXT_PT = 9
EXAMPLE = Path("examples")
TRUTH = {"SC": EXAMPLE / "t2s_seg-truth.nii.gz", "GM": EXAMPLE / "t2s_gmseg-truth.nii.gz"}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-i", "--input", type=Path, default=EXAMPLE / "t2s.nii.gz")
    p.add_argument("-ref", nargs="+", metavar="TISSUE=FILE", help="reference masks (default: the example's truth)")
    p.add_argument("-m", "--model", help="model of the zoo or .onnx file (default: the task's)")
    p.add_argument("-slices", type=int, default=5)
    p.add_argument("-o", "--output", type=Path, default=Path("docs"), help="folder")
    args = p.parse_args()
    import nibabel as nib

    import sctseg7t
    from sctseg7t.report import plotting

    result = sctseg7t.segment(args.input, model=args.model, device="cpu")
    truth = dict(part.split("=", 1) for part in args.ref) if args.ref else TRUTH
    image = nib.as_closest_canonical(nib.load(args.input))
    zooms = image.header.get_zooms()
    half = [round(HALF_MM / zoom) for zoom in zooms[:2]]
    boxes = []
    for k in np.linspace(0, image.shape[2] - 1, args.slices).astype(int):
        i, j = np.rint(result.centres_vox[0][k]).astype(int)
        boxes.append(np.s_[max(i - half[0], 0) : i + half[0], max(j - half[1], 0) : j + half[1], k])
    ours, theirs = ({name: _array(mask) for name, mask in masks.items()} for masks in (result.masks, truth))
    scan = image.get_fdata()
    areas = {tissue: result.tables[0].column(tissue, "area_mm2") for tissue in ("SC", "GM")}
    titles = [f"SC {areas['SC'][box[2]]:.0f}, GM {areas['GM'][box[2]]:.1f} mm²" for box in boxes]
    plain = [f"slice {box[2]}" for box in boxes]
    blue, orange = plotting.PALETTE[5], plotting.PALETTE[1]
    found = [(ours["SC"], blue, "solid"), (ours["GM"], orange, "solid")]
    both = [*found, (theirs["SC"], "white", "dashed"), (theirs["GM"], "yellow", "dashed")]
    for name, rows, legend in (
        ("example.png", ((plain, ()), (titles, found)), {}),
        (
            "overlay.png",
            ((titles, both),),
            {"SC": found[0], "GM": found[1], "SC reference": both[2], "GM reference": both[3]},
        ),
    ):
        print(*plotting.save(_figure(scan, boxes, rows, legend), args.output / name, dpi=100))


def _figure(scan, boxes, rows, legend):
    """A figure with a row of slices for each of ``rows``: their titles, and the outlines in them."""
    from matplotlib.lines import Line2D

    from sctseg7t.report import plotting

    figure, axes = plotting.new_figure(len(rows), len(boxes), 2.2, 2.4)
    for line, (titles, outlines) in zip(axes, rows):
        for axis, box, title in zip(line, boxes, titles):
            cut = [(mask[box], colour, style) for mask, colour, style in outlines]
            limits = scan[box].min(), scan[box].max()
            plotting.slice_with_outlines(axis, scan[box], cut, limits=limits, linewidth=1.6)
            axis.set_title(title, fontsize=TEXT_PT)
            # The first axis goes to the person's right, which is the picture's right: as seen from above.
            for text, x, side in (("L", 0.03, "left"), ("R", 0.97, "right")):
                axis.text(x, 0.04, text, transform=axis.transAxes, color="white", ha=side, fontsize=TEXT_PT + 1)
    if legend:
        lines = [Line2D([], [], color=colour, linestyle=style) for _, colour, style in legend.values()]
        figure.legend(
            lines, list(legend), loc="outside lower center", ncols=len(lines), fontsize=TEXT_PT, facecolor="0.5"
        )
    return figure


def _array(mask):
    """Values of a mask (image or path) in canonical order."""
    import nibabel as nib

    return nib.as_closest_canonical(nib.load(mask) if isinstance(mask, (str, Path)) else mask).get_fdata()


if __name__ == "__main__":
    main()
