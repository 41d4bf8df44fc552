"""Accuracy on the development scans, next to sct_deepseg_gm's recipe.

    python benchmark/development.py -data ../shared/data [-peer large.onnx] [-o figures]

Prints, per scan: slices with a reference cord, how many got one, Dice of SC and GM in 3D, the worst slice,
area ratios, locator errors, and the GM Dice of the peer. "Development scans": they were looked at
while the tool was made, so these figures are not those of unseen data. Of the gm-challenge
labels some began as the peer's own output, which flatters the peer there.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

CHALLENGE = "cord/gm-challenge"


def scans(data):
    """(name, image, SC reference, GM reference) of every development scan that is there."""
    data = Path(data)
    for name in ("9584", "9669", "10062Ses1", "10062Ses2"):
        stem = f"sub-{name}_run-1_T2starw"
        labels = data / CHALLENGE / "derivatives/labels" / f"sub-{name}/anat"
        image = data / CHALLENGE / f"sub-{name}/anat/{stem}.nii.gz"
        yield name, image, labels / f"{stem}_seg-manual.nii.gz", labels / f"{stem}_gmseg-manual.nii.gz"
    t2s = data / "cord/sct-testing/t2s"
    yield "t2s", t2s / "t2s.nii.gz", t2s / "t2s_seg.nii.gz", t2s / "t2s_gmseg_manual.nii.gz"


def dice(a, b):
    """Dice of two boolean arrays; nan if both are empty."""
    total = a.sum() + b.sum()
    return 2 * (a & b).sum() / total if total else float("nan")


def canonical(image):
    """Boolean array in canonical order of a path or image."""
    image = nib.load(image) if isinstance(image, (str, Path)) else image
    return nib.as_closest_canonical(image).get_fdata() > 0.5


def centres(mask):
    """Centre of mass (Z, 2) of each slice, nan where empty."""
    out = np.full((mask.shape[2], 2), np.nan)
    for k in np.flatnonzero(mask.any((0, 1))):
        out[k] = np.argwhere(mask[..., k]).mean(0)
    return out


def evaluate(image, sc_path, gm_path, segmenter):
    """One scan's row as a dict."""
    from sctseg7t.cord.locate import locate, mm_between
    from sctseg7t.image.volume import load

    result = segmenter.run(image)
    reference = {"SC": canonical(sc_path), "GM": canonical(gm_path)}
    mine = {name: canonical(result.masks[name]) for name in reference}
    row = {"slices": int(reference["SC"].any((0, 1)).sum())}
    row["found"] = int((reference["SC"].any((0, 1)) & mine["SC"].any((0, 1))).sum())
    volume = load(image)
    path = locate(volume.data[..., 0], volume.affine, segmenter.locator, segmenter.locator_spec)
    away = mm_between(volume.affine, path.centres_vox, centres(reference["SC"]))
    away = away[np.isfinite(away)]
    row["locator_median_mm"], row["locator_max_mm"] = float(np.median(away)), float(away.max())
    row["within_3mm"] = int((away <= 3).sum())
    for name in reference:
        r, m = reference[name], mine[name]
        per_slice = [dice(r[..., k], m[..., k]) for k in np.flatnonzero(r.any((0, 1)))]
        row[f"dice_{name}"], row[f"worst_{name}"] = dice(r, m), min(per_slice)
        row[f"area_{name}"] = m.sum() / r.sum()
    row["warnings"] = result.warnings
    return row, result, reference


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data", help="folder of the development data")
    p.add_argument("-m", "--model", help="model (default: the task's)")
    p.add_argument(
        "-peer", action="store_true", help="also run sct_deepseg_gm's recipe (needs h5py, onnx, its weights)"
    )
    p.add_argument("-record", metavar="MODELS.JSON", help="put the figures into the model's entry and card")
    p.add_argument("-o", "--output", help="folder for overlays (needs matplotlib)")
    args = p.parse_args()
    from sctseg7t.pipeline import open_segmenter

    segmenter = open_segmenter("gm_sc", args.model, "cpu")
    peer = _peer(args.data) if args.peer else None
    head = f"{'scan':10} {'slices':>6} {'found':>5} {'<=3mm':>5} {'loc.med':>7} {'loc.max':>7} | "
    head += f"{'SC':>6} {'worst':>6} {'area':>6} | {'GM':>6} {'worst':>6} {'area':>6} | {'peer GM':>7}"
    print(head)
    rows = []
    for name, image, sc, gm in scans(args.data):
        row, result, reference = evaluate(image, sc, gm, segmenter)
        row["peer"] = dice(reference["GM"], canonical(peer(image))) if peer else float("nan")
        rows.append(row)
        counts = f"{name:10} {row['slices']:6} {row['found']:5} {row['within_3mm']:5}"
        places = f"{row['locator_median_mm']:7.2f} {row['locator_max_mm']:7.2f}"
        tissues = [f"{row['dice_' + t]:6.3f} {row['worst_' + t]:6.3f} {row['area_' + t]:6.3f}" for t in ("SC", "GM")]
        print(f"{counts} {places} | {' | '.join(tissues)} | {row['peer']:7.3f}")
        for text in row["warnings"]:
            print(f"{'':10} {text}")
        if args.output:
            _overlay(result, reference, Path(args.output) / f"{name}.png")
    mean = {key: np.mean([row[key] for row in rows]) for key in ("dice_SC", "area_SC", "dice_GM", "area_GM", "peer")}
    tissues = [f"{mean['dice_' + t]:6.3f} {'':6} {mean['area_' + t]:6.3f}" for t in ("SC", "GM")]
    print(f"{'mean':45} | {' | '.join(tissues)} | {mean['peer']:7.3f}")
    if args.record:
        _record(args.record, segmenter, rows)


def _record(manifest, segmenter, rows):
    from sctseg7t.train.export import record_evaluation

    def row(structure, metric, values, units):
        return {
            "dataset": "gm-challenge (4 scans, 3 T) and sct-testing t2s, development scans", "role": "validation",
            "structure": structure, "metric": metric, "n": len(values), "mean": round(float(np.mean(values)), 4),
            "sd": round(float(np.std(values, ddof=1)), 4), "units": units,
        }  # fmt: skip

    found = []
    for name in ("SC", "GM"):
        found.append(row(name, "Dice per scan", [r[f"dice_{name}"] for r in rows], "1"))
        found.append(row(name, "area / reference area", [r[f"area_{name}"] for r in rows], "1"))
    record_evaluation(manifest, segmenter.spec.label, found)
    located = [row("SC", "locator error, median per scan", [r["locator_median_mm"] for r in rows], "mm")]
    share = sum(r["within_3mm"] for r in rows) / sum(r["slices"] for r in rows)
    located.append({**row("SC", "slices within 3 mm", [share], "1"), "n": sum(r["slices"] for r in rows), "sd": 0.0})
    record_evaluation(manifest, segmenter.locator_spec.label, located)


def _peer(data):
    import peer_sct_gm

    path = Path(tempfile.mkdtemp()) / "sct_gm_large.onnx"
    peer_sct_gm.build_onnx(Path(data) / "peers/large_model.hdf5", path)
    return lambda image: peer_sct_gm.segment_gm(image, path)


def _overlay(result, reference, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    data = result.volume.data[..., 0]
    half = [int(round(11 / s)) for s in result.volume.spacing_mm[:2]]
    count = data.shape[2]
    figure, axes = plt.subplots(3, -(-count // 3), figsize=(2.2 * -(-count // 3), 6.8), squeeze=False)
    mine = {name: canonical(result.masks[name]) for name in ("SC", "GM")}
    for axis in axes.flat:
        axis.axis("off")
    for k, axis in zip(range(count), axes.flat):
        x, y = np.nan_to_num(np.rint(result.centres_vox[0][k])).astype(int)
        window = np.s_[max(x - half[0], 0) : x + half[0], max(y - half[1], 0) : y + half[1], k]
        axis.imshow(data[window].T, cmap="gray", origin="lower")
        for name, mine_colour, colour in (("SC", "deepskyblue", "white"), ("GM", "red", "yellow")):
            for mask, line, style in ((reference[name], colour, "dotted"), (mine[name], mine_colour, "solid")):
                if mask[window].any():
                    axis.contour(mask[window].T, [0.5], colors=line, linewidths=0.9, linestyles=style)
        scores = [f"{t} {dice(reference[t][..., k], mine[t][..., k]):.2f}" for t in ("SC", "GM")]
        axis.set_title(f"{k}: {' '.join(scores)}", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


if __name__ == "__main__":
    main()
