"""Draw the README's picture: slices of a scan with the masks that the tool finds.

python benchmark/picture.py [-i examples/t2s.nii.gz] [-o docs/example.png]
"""

import argparse

import numpy as np


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-i", "--input", default="examples/t2s.nii.gz")
    p.add_argument("-o", "--output", default="docs/example.png")
    p.add_argument("-slices", type=int, default=5)
    args = p.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import nibabel as nib

    import sctseg7t

    result = sctseg7t.segment(args.input, device="cpu")
    image = nib.as_closest_canonical(nib.load(args.input))
    data, zooms = image.get_fdata(), image.header.get_zooms()
    masks = {name: nib.as_closest_canonical(mask).get_fdata() for name, mask in result.masks.items()}
    chosen = np.linspace(0, data.shape[2] - 1, args.slices).astype(int)
    half = [int(round(11 / z)) for z in zooms[:2]]
    figure, axes = plt.subplots(2, args.slices, figsize=(2.2 * args.slices, 4.8), layout="constrained")
    for k, column in zip(chosen, axes.T):
        i, j = np.rint(result.centres_vox[0][k]).astype(int)
        box = np.s_[max(i - half[0], 0) : i + half[0], max(j - half[1], 0) : j + half[1], k]
        for axis in column:
            axis.imshow(data[box].T, cmap="gray", origin="lower", interpolation="nearest")
            axis.axis("off")
        for name, colour in (("SC", "#56b4e9"), ("GM", "#e6550d")):
            column[1].contour(masks[name][box].T, [0.5], colors=colour, linewidths=1.6)
        area = {t: result.tables[0].column(t, "area_mm2")[k] for t in ("SC", "GM")}
        column[1].set_title(f"SC {area['SC']:.0f} mm², GM {area['GM']:.1f} mm²", fontsize=9)
        column[0].set_title(f"slice {k}", fontsize=9)
    figure.savefig(args.output, dpi=100)
    print(args.output)


if __name__ == "__main__":
    main()
