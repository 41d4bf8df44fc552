"""Which slices are flagged: the share of false alarms on good scans, and of hits on scans that show too little.

``gm_contrast_low`` judges the image under whatever mask it is given, so every scan is judged under the masks of the
shipped network, under those of sct_deepseg_gm's network if asked, and under reference masks where there are any.
Limits were chosen on the scans of CHOSEN and on simulated scans. Those of CHECKED had been looked at by then too, as
all development scans, but no limit was set by them.
"""

import argparse
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from perturb import Case
from scans import canonical, scans

from sctseg7t.report.results_page import name_models
from sctseg7t.report.results_page import run as run_with_page

CHOSEN = ("9584", "10062Ses1", "gre-me_echo-1", "sub-01_acq-MTon_MTS")
FLAGS = ("gm_contrast_low", "past_cord_end", "contrast_unusual")
# The stack reaches the foramen magnum: its top slices show the medulla (looked at).
BRAINSTEM = {"sub-01_acq-MTon_MTS": {20, 21}}
# The lowest slice of that stack shows no GM either (looked at: partial volume with CSF, strong noise).
NO_GM = {"sub-01_acq-MTon_MTS": {0, 20, 21}}
RECIPES = ("healthy", "ms", "als", "compression")
SEEDS = (11, 12)


def good_scans(data):
    """By name: image (path), and its masks of SC and GM (arrays) where references are known."""
    found = {}
    for known in scans(data):
        found[known.name] = known.image, {"SC": canonical(known.sc), "GM": canonical(known.gm)}
        if known.rescan:
            found[f"{known.name} run 2"] = known.rescan, None
    cord = Path(data) / "cord"
    others = [*sorted((cord / "unlabelled").glob("*.nii.gz")), cord / "mts/sub-01_acq-MTon_MTS.nii.gz"]
    others.append(cord / "mts/sub-unf01_T2star.nii.gz")
    return found | {path.name.partition(".")[0]: (path, None) for path in others}


def simulated_scans():
    """The same of simulated scans, each of its own recipe; none without torch."""
    try:
        from sctseg7t.simulate.anatomy import load_bank
        from sctseg7t.simulate.dataset import read_recipe
        from sctseg7t.simulate.scan import ScanPlan, simulate_scan
    except ImportError as error:
        print(f"simulated scans left out: {error}")
        return {}
    bank = load_bank(["parametric"])
    found = {}
    for name in RECIPES:
        for seed in SEEDS:
            plan = ScanPlan(seed=seed, slices=10, pixel_mm=0.35 if seed % 2 else 0.5, snr=20.0, field_of_view_mm=60.0)
            image, truth, _ = simulate_scan(bank, plan, read_recipe(name).simulation)
            masks = {tissue: nib.as_closest_canonical(part).get_fdata() >= 0.5 for tissue, part in truth.items()}
            found[f"{name} {seed}"] = image, masks
    return found


# --- what is done to a scan -----------------------------------------------------------


def faded(case, share, noise=0.03, seed=1):
    """GM and all texture inside the cord faded to a share of their difference from WM, noise of 3 % of WM added."""
    from scipy.ndimage import binary_erosion

    rng, data = np.random.default_rng(seed), case.data.copy()
    for k in np.flatnonzero(case.sc.any((0, 1))):
        inner = binary_erosion(case.sc[..., k])
        level = np.median(data[..., k][inner & ~case.gm[..., k]])
        plane = data[..., k]
        plane[inner] = level + share * (plane[inner] - level) + rng.normal(0, noise * abs(level), inner.sum())
    return data


def painted_away(case, seed=2):
    """GM, and what borders on it, takes values drawn from the slice's WM."""
    from scipy.ndimage import binary_dilation, binary_erosion

    rng, data = np.random.default_rng(seed), case.data.copy()
    for k in np.flatnonzero(case.gm.any((0, 1))):
        gm, inner = case.gm[..., k], binary_erosion(case.sc[..., k])
        where = binary_dilation(gm) & inner
        white = data[..., k][inner & ~where]
        if white.size:
            data[..., k][where] = rng.choice(white, where.sum())
    return data


def noisier(case, times, seed=3):
    """Rician noise added; its SD is so many times the image's."""
    rng = np.random.default_rng(seed)
    real, imaginary = rng.normal(0, times * float(case.data.std()), (2, *case.data.shape))
    return np.hypot(case.data + real, imaginary).astype(np.float32)


CHANGES = {
    "as it is": lambda case: case.data,
    "blank cord, 3 % noise": lambda case: faded(case, 0.0),
    "contrast x 0.1": lambda case: faded(case, 0.1),
    "contrast x 0.25": lambda case: faded(case, 0.25),
    "contrast x 0.5": lambda case: faded(case, 0.5),
    "GM painted away": painted_away,
    "noise 0.25 x image SD": lambda case: noisier(case, 0.25),
    "noise 0.5 x image SD": lambda case: noisier(case, 0.5),
    "noise 1 x image SD": lambda case: noisier(case, 1.0),
    "noise 2 x image SD": lambda case: noisier(case, 2.0),
}

PEER_CHANGES = ("as it is", "blank cord, 3 % noise", "noise 0.25 x image SD", "noise 0.5 x image SD")


# --- judging --------------------------------------------------------------------------


def by_slice(table):
    """Flags of GM by slice (of SC where the table has no GM); None where it is empty though there is SC."""
    tissues = {row.tissue for row in table.rows}
    cord = {row.slice for row in table.rows if row.tissue == "SC" and row.area_mm2 is not None}
    rows = [row for row in table.rows if row.tissue == ("GM" if "GM" in tissues else "SC") and row.slice in cord]
    return {row.slice: None if row.area_mm2 is None else set(row.flags) for row in rows}


def judged(case, masks):
    """Flags by slice of masks that exist."""
    from sctseg7t.cord.measuring import measure_volume

    return by_slice(measure_volume(masks, case.affine, image=case.data))


def segmented(case, segmenter):
    """Flags by slice of a run, and its masks."""
    result = segmenter.run(nib.Nifti1Image(case.data, case.affine))
    return by_slice(result.tables[0]), {tissue: canonical(mask) for tissue, mask in result.masks.items()}


def dice(a, b):
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


class Table:
    """Counts of slices by set of scans, change and masks."""

    def __init__(self):
        self.rows = {}

    def add(self, part, change, masks, found, *, leave=(), against=None, gm=None):
        """Count the slices of a scan; with a reference of GM their Dice too, of flagged ones apart."""
        empty = {"scans": 0, "slices": 0, "no GM": 0, "dice": {"flagged": [], "others": []}, **dict.fromkeys(FLAGS, 0)}
        row = self.rows.setdefault((part, change, masks), empty)
        row["scans"] += 1
        for k in found.keys() - set(leave):
            flags = found[k]
            row["no GM"] += flags is None
            if flags is None:
                continue
            row["slices"] += 1
            for flag in FLAGS:
                row[flag] += flag in flags
            if against is not None and against[..., k].any():
                which = "flagged" if FLAGS[0] in flags else "others"
                row["dice"][which].append(dice(against[..., k], gm[..., k]))

    def show(self):
        head = f"{'scans':10} {'change':24} {'masks':10} {'scans':>5} {'slices':>6} {'no GM':>5}"
        flags = " ".join(f"{flag:>17}" for flag in FLAGS)
        print(f"\n{head} | {flags} | GM Dice of flagged (n) and other (n) slices")
        for (part, change, masks), row in sorted(self.rows.items(), key=lambda item: _order(item[0])):
            shares = " ".join(f"{100 * row[flag] / max(row['slices'], 1):15.1f} %" for flag in FLAGS)
            means = "  ".join(f"{np.mean(d):.3f} ({len(d)})" if d else "-" for d in row["dice"].values())
            counts = f"{row['scans']:5d} {row['slices']:6d} {row['no GM']:5d}"
            print(f"{part:10} {change:24} {masks:10} {counts} | {shares} | {means}")
        every = [row["dice"] for (_, _, masks), row in self.rows.items() if masks == "own"]
        for which in ("flagged", "others"):
            found = np.array([value for each in every for value in each[which]])
            if found.size:
                shares = ", ".join(f"{100 * np.mean(found < limit):.1f} % below {limit}" for limit in (0.8, 0.7, 0.6))
                print(f"all changes, own masks, {which}: {found.size} slices, GM Dice {found.mean():.3f}, {shares}")


def _order(key):
    changes = [*CHANGES]
    return key[0], changes.index(key[1]) if key[1] in changes else len(changes), key[1], key[2]


def run(data, segmenter, peer, simulated):
    table = Table()
    every = [
        (name, *what, "chosen" if name.removesuffix(" run 2") in CHOSEN else "checked")
        for name, what in good_scans(data).items()
    ]
    every += [(name, *what, "simulated") for name, what in (simulated_scans() if simulated else {}).items()]
    for name, image, references, part in every:
        image = nib.as_closest_canonical(nib.load(image) if isinstance(image, Path) else image)
        plain = Case(image.get_fdata(dtype=np.float32), image.affine, None, None)
        first = references or segmented(plain, segmenter)[1]
        case = Case(plain.data, plain.affine, first["SC"], first["GM"])
        for change, make in CHANGES.items():
            changed = Case(make(case), case.affine, case.sc, case.gm)
            # A slice that shows no GM is no false alarm; nor a hit that the change made.
            leave = NO_GM.get(name, ())
            against = references["GM"] if references else None
            found, masks = segmented(changed, segmenter)
            table.add(part, change, "own", found, leave=leave, against=against, gm=masks["GM"])
            if references:
                table.add(part, change, "reference", judged(changed, references))
            if peer and part != "simulated" and change in PEER_CHANGES:
                gm = segmented(changed, peer)[1]["GM"]
                cord = references["SC"] if references else masks["SC"]
                found = judged(changed, {"SC": cord, "GM": gm & cord})
                table.add(part, change, "sct_gm", found, leave=leave, against=against, gm=gm & cord)
        print(name, flush=True)
    return table


def other_contrasts(data, segmenter, table):
    """T1w and T2w volumes, a binary image, and stacks that leave the cord."""
    from sctseg7t.errors import InputError

    cord = Path(data) / "cord"
    for name, path in (("T2w", "sct-testing/t2/t2.nii.gz"), ("T1w", "sct-testing/t1/t1w.nii.gz")):
        image = nib.as_closest_canonical(nib.load(cord / path))
        case = Case(image.get_fdata(dtype=np.float32), image.affine, None, None)
        table.add("other", name, "own", segmented(case, segmenter)[0])
        sc = canonical(cord / path.replace(".nii.gz", "_seg-manual.nii.gz"))
        table.add("other", name, "SC drawn", judged(case, {"SC": sc}))
    for known in scans(data):
        try:
            segmenter.run(known.sc)
            print(f"{known.sc.name}: was not refused")
        except InputError as error:
            print(f"a mask as the scan is refused: {str(error).removeprefix(str(known.sc))}")
            break
    for known in scans(data):
        binary = Case(
            canonical(known.sc).astype(np.float32), nib.as_closest_canonical(nib.load(known.sc)).affine, None, None
        )
        masks = {"SC": canonical(known.sc), "GM": canonical(known.gm)}
        table.add("other", "a mask as the scan", "reference", judged(binary, masks))


def cord_ends(data, segmenter):
    """Slices flagged ``past_cord_end``: every stack's, and those of the template by the height of its ends."""
    from sctseg7t.measure.csa import measure_csa

    print("\npast_cord_end, slice by slice")
    path = Path(data) / "cord/mts/sub-01_acq-MTon_MTS.nii.gz"
    image = nib.as_closest_canonical(nib.load(path))
    case = Case(image.get_fdata(dtype=np.float32), image.affine, None, None)
    found, _ = segmented(case, segmenter)
    flagged = sorted(k for k, flags in found.items() if "past_cord_end" in flags)
    print(f"  {path.name}: {flagged}; medulla on {sorted(BRAINSTEM['sub-01_acq-MTon_MTS'])}")
    masks = sorted((Path(data) / "cord/gm-challenge/derivatives/labels").rglob("*_seg-manual.nii.gz"))
    alarms = total = 0
    for path in masks:
        affine = nib.as_closest_canonical(nib.load(path)).affine
        rows = measure_csa({"SC": canonical(path)}, affine).rows
        alarms += sum("past_cord_end" in row.flags for row in rows)
        total += sum(row.area_mm2 is not None for row in rows)
    print(f"  reference masks of gm-challenge ({len(masks)} sessions, C2-C6): {alarms} of {total} slices")
    template = nib.as_closest_canonical(nib.load(Path(data) / "template/PAM50/PAM50_cord.nii.gz"))
    whole, mm = template.get_fdata(), template.header.get_zooms()[2]
    for low, high in ((300, 380), (360, 440), (400, 480), (420, 500), (440, 500), (20, 120), (30, 90), (60, 160)):
        for step in (2.5, 5.0):
            planes = np.arange(int(low / mm), min(int(high / mm), whole.shape[2]), int(step / mm))
            affine = template.affine @ np.diag([1, 1, step / mm, 1])
            rows = measure_csa({"SC": whole[..., planes]}, affine).rows
            flagged = [planes[row.slice] * mm for row in rows if "past_cord_end" in row.flags]
            print(f"  PAM50, {low} to {high} mm, every {step} mm: {[float(at) for at in flagged]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("-peer", action="store_true", help="masks of sct_gm_large too (slow)")
    parser.add_argument("-simulated", action="store_true", help="simulated scans too (needs torch)")
    parser.add_argument("-threads", type=int, default=1)
    parser.add_argument("-o", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    import sctseg7t

    segmenter = sctseg7t.open_segmenter(device="cpu", threads=args.threads)
    name_models(segmenter.model.spec)
    peer = sctseg7t.open_segmenter(model="sct_gm_large", device="cpu", threads=args.threads) if args.peer else None
    table = run(args.data, segmenter, peer, args.simulated)
    other_contrasts(args.data, segmenter, table)
    table.show()
    cord_ends(args.data, segmenter)
    if args.o:
        rows = [{"part": p, "change": c, "masks": m, **row} for (p, c, m), row in table.rows.items()]
        args.o.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Flags"))
