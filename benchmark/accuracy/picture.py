"""Draw the README's picture: slices of a scan with the masks that the tool finds.

python benchmark/accuracy/picture.py [-i examples/t2s.nii.gz] [-o docs/example.png]
"""

import argparse

import numpy as np


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-i", "--input", default="examples/t2s.nii.gz")
    p.add_argument("-o", "--output", default="docs/example.png")
    p.add_argument("-slices", type=int, default=5)
    args = p.parse_args()
    import nibabel as nib

    import sctseg7t
    from sctseg7t.report import plotting

    result = sctseg7t.segment(args.input, device="cpu")
    image = nib.as_closest_canonical(nib.load(args.input))
    data, zooms = image.get_fdata(), image.header.get_zooms()
    masks = {name: nib.as_closest_canonical(mask).get_fdata() for name, mask in result.masks.items()}
    chosen = np.linspace(0, data.shape[2] - 1, args.slices).astype(int)
    half = [int(round(11 / z)) for z in zooms[:2]]
    figure, axes = plotting.new_figure(2, args.slices, 2.2, 2.4)
    for k, column in zip(chosen, axes.T):
        i, j = np.rint(result.centres_vox[0][k]).astype(int)
        box = np.s_[max(i - half[0], 0) : i + half[0], max(j - half[1], 0) : j + half[1], k]
        colours = {"SC": plotting.PALETTE[5], "GM": plotting.PALETTE[1]}
        outlines = [(masks[name][box], colour, "solid") for name, colour in colours.items()]
        limits = data[box].min(), data[box].max()
        plotting.slice_with_outlines(column[0], data[box], limits=limits)
        plotting.slice_with_outlines(column[1], data[box], outlines, limits=limits, linewidth=1.6)
        area = {t: result.tables[0].column(t, "area_mm2")[k] for t in ("SC", "GM")}
        column[1].set_title(f"SC {area['SC']:.0f} mm², GM {area['GM']:.1f} mm²", fontsize=9)
        column[0].set_title(f"slice {k}", fontsize=9)
    print(*plotting.save(figure, args.output, dpi=100))


if __name__ == "__main__":
    main()
