"""The brain chain on scans that were spoilt, and what becomes of scans that show no brain.

    python benchmark/accuracy/brain_robustness.py [-data DATA] [-kept FILE.csv] [-minutes N] [-only NAME ...]
        [-how WORD ...] [-others]

Each FLAIR of the development scans is made ready as it is and rotated by 20 degrees, cut to 60 %, flipped in storage,
resampled, drifting, noisy, with its air set to zero, and (where its surroundings are one value) with noise in them.
None may fail. Every eighth run goes on to the lesions: the whole chain. Dice is that of the brain mask with the data
set's that went the same way; where a data set has none, with what our network finds in the plain scan. ``-kept``
holds the runs that are done: the same command goes on from there, and ``-minutes`` ends it. ``-others``: heads
without their brain, limbs, noise, cords; all must be refused.
"""

import argparse
import csv
import resource
import sys
import time
from pathlib import Path

import brain_mask
import nibabel as nib
import numpy as np
from brain_mask import canonical, dice
from scipy import ndimage

from sctseg7t.brain import segmenter
from sctseg7t.errors import UserError
from sctseg7t.image.grid import resample
from sctseg7t.image.volume import load
from sctseg7t.inference.pipeline import open_segmenter
from sctseg7t.report.results_page import name_models, table

COLUMNS = (
    "networks scan version stage outcome dice load_ml brain_ml agreement similarity contrast flags cpu_s said".split()
)
# One run of so many goes through the whole chain.
WHOLE = 8


def main():
    """Print what became of the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument("-m", dest="model", help="a lesion network of the zoo, or an .onnx file (default: the zoo's)")
    parser.add_argument("-only", nargs="+", metavar="NAME", help="scans whose names contain one of these")
    parser.add_argument("-how", nargs="+", metavar="WORD", help="versions whose names contain one of these")
    parser.add_argument("-kept", type=Path, help="table of the runs that are done; new ones are added")
    parser.add_argument("-minutes", type=float, default=np.inf, help="begin no run after so many")
    parser.add_argument("-others", action="store_true", help="scans without a brain")
    args = parser.parse_args()
    chain = open_segmenter("brain_lesion", model=args.model, device="cpu", threads=1)
    name_models(chain.finder.spec, chain.model.spec)
    if args.others:
        rows = [(name, said(name, image, chain)) for name, image in no_brains(args.data, chain.finder)]
        table(("scan", "what becomes of it"), rows)
        taken = sum(text.startswith("TAKEN") for _, text in rows)
        print(f"{taken} of these {len(rows)} were taken for brains.\n")
    else:
        show(all_runs(args, chain))
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", file=sys.stderr)


# ---- the runs --------------------------------------------------------------------


def all_runs(args, chain):
    """The rows of all runs, those kept and the new ones."""
    networks = f"{chain.finder.spec.label}, {chain.model.spec.label}"
    scans = list(chosen(args.data, args.only))
    names = [name for name, *_ in scans]
    rows = [row for row in read(args.kept) if row["networks"] == networks and row["scan"] in names]
    done, until = {(row["scan"], row["version"]) for row in rows}, time.monotonic() + 60 * args.minutes
    runs = [
        (scan, word, "mask" if (place + k) % WHOLE else "chain")
        for place, scan in enumerate(scans)
        for k, word in enumerate(VERSIONS)
        if (scan[0], word) not in done and (not args.how or any(part in word for part in args.how))
    ]
    # In an order by chance: whenever it is stopped, there are some of every scan and version.
    np.random.default_rng(0).shuffle(runs)
    for (name, image, truth), word, stage in runs:
        if time.monotonic() > until:
            break
        version = VERSIONS[word](*opened(name, image, truth, chain))
        if version is not None:
            row = {"networks": networks, "scan": name, "version": word, "stage": stage, **run(*version, chain, stage)}
            print(f"{name}, {word}: {row['outcome']} {row['dice']} {row['flags']} {row['said']}", file=sys.stderr)
            rows.append(row)
            append(args.kept, row)
    return sorted(rows, key=lambda row: (names.index(row["scan"]), list(VERSIONS).index(row["version"])))


_OPENED = {}


def opened(name, image, truth, chain):
    """A scan, its affine, and its brain's mask; the reading is kept."""
    if name not in _OPENED:
        volume = load(image, axial=False)
        data, affine = volume.data[..., 0], volume.affine
        known = canonical(truth) if truth is not None else segmenter.first_mask(data, affine, finder=chain.finder)[0]
        _OPENED[name] = data, affine, known
    return _OPENED[name]


def read(kept):
    """Rows of the table of runs, of words."""
    if kept is None or not kept.is_file():
        return []
    with kept.open(newline="") as stream:
        return list(csv.DictReader(stream))


def append(kept, row):
    """Add a row to the table of runs."""
    if kept is None:
        return
    new = not kept.is_file()
    with kept.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def chosen(data, only):
    """Name, image and brain mask of the FLAIR scans."""
    for name, image, truth in brain_mask.scans(data):
        if not name.endswith(("T1", "T2")) and "T1," not in name and (not only or any(part in name for part in only)):
            yield name, image, truth


def run(data, affine, known, chain, stage):
    """What became of one scan, as a row of words."""
    scan, start = nib.Nifti1Image(np.asarray(data, np.float32), affine), time.process_time()
    load_ml, readied, prepare = "", [], segmenter.prepare
    again = load(scan, axial=False)
    try:
        if stage == "chain":
            # The chain does not hand out its mask.
            segmenter.prepare = lambda *args, **kwargs: readied.append(prepare(*args, **kwargs)) or readied[0]
            load_ml = f"{chain.run(scan).tables[0].summary()['load_ml']:.2f}"
        else:
            readied.append(prepare(again.data[..., 0], again.affine, finder=chain.finder))
    except UserError as error:
        row = dict.fromkeys(COLUMNS[5:], "") | {"outcome": "failed", "said": str(error)}
        return row | {"cpu_s": f"{time.process_time() - start:.1f}"}
    finally:
        segmenter.prepare = prepare
    (ready,), seconds = readied, time.process_time() - start
    truth = canonical(nib.Nifti1Image(known.astype(np.uint8), affine))
    numbers = {
        "agreement": ready.details["template_agreement"],
        "similarity": ready.details["template_similarity"],
        "contrast": ready.details["tissue_contrast"],
    }
    return {
        "outcome": "ok",
        "dice": f"{dice(ready.mask, truth):.3f}",
        "load_ml": load_ml,
        "brain_ml": f"{ready.details['brain_ml']:.0f}",
        **{key: "" if value is None else f"{value:.3f}" for key, value in numbers.items()},
        "flags": " ".join(text.partition(":")[0] for text in ready.warnings),
        "cpu_s": f"{seconds:.1f}",
        "said": "",
    }


# ---- what is said of them --------------------------------------------------------


def show(rows):
    """Print the tables: by version, by scan and version, and what failed or is doubtful."""
    scans = list(dict.fromkeys(row["scan"] for row in rows))
    cell = {(row["scan"], row["version"]): row for row in rows}
    whole = [row for row in rows if row["stage"] == "chain"]
    failed = [row for row in rows if row["outcome"] == "failed"]
    print(
        f"\n{len(rows)} runs ({len(scans)} scans in {len(VERSIONS)} versions are {len(scans) * len(VERSIONS)}), "
        f"{len(whole)} of them through the whole chain; {len(failed)} failed.\n"
    )
    print("## By version\n")
    table(("version", "runs", "failed", "template failed", "doubtful", "Dice, median", "least"), by_version(rows))
    print("## Dice of the brain mask\n")
    words = [word for word in VERSIONS if any((name, word) in cell for name in scans)]
    show_cells(scans, words, cell, "dice")
    print("## Load, mL\n")
    show_cells(scans, words, {key: row for key, row in cell.items() if row["load_ml"]}, "load_ml")
    print("## What failed, what was doubted\n")
    for row in rows:
        doubted = [flag for flag in row["flags"].split() if flag.startswith("template")]
        if row["outcome"] == "failed" or doubted:
            about = row["said"] or f"{doubted[0]}, agreement {row['agreement']}, Dice {row['dice']}"
            print(f"- {row['scan']}, {row['version']}: {about}")
    if not failed and not any("template" in row["flags"] for row in rows):
        print("Nothing.\n")
    if rows:
        seconds = [float(row["cpu_s"]) for row in whole] or [0]
        print(f"\nA whole chain took {np.median(seconds):.0f} s of CPU, the longest {max(seconds):.0f} s.")


def by_version(rows):
    """A row for each version."""
    for word in VERSIONS:
        own = [row for row in rows if row["version"] == word]
        flags, found = " ".join(row["flags"] for row in own), [float(row["dice"]) for row in own if row["dice"]]
        if own:
            yield (
                word,
                len(own),
                sum(row["outcome"] == "failed" for row in own),
                flags.count("template_failed"),
                flags.count("template_doubtful"),
                *((f"{np.median(found):.3f}", f"{min(found):.3f}") if found else ("", "")),
            )


def show_cells(scans, words, cell, key):
    """A table of scans and versions; empty where there was no run."""
    table(("scan", *words), [(name, *(cell.get((name, word), {}).get(key, "") for word in words)) for name in scans])


def said(name, image, chain):
    """What becomes of a scan without a brain."""
    print(name, file=sys.stderr)
    volume = load(image, axial=False, volumes="mean")
    try:
        ready = segmenter.prepare(volume.data[..., 0], volume.affine, finder=chain.finder)
    except UserError as error:
        return str(error).removeprefix("image: ").partition("; give")[0]
    flags = " ".join(text.partition(":")[0] for text in ready.warnings)
    return f"TAKEN for a brain of {ready.details['brain_ml']:.0f} mL {flags}"


# ---- how a scan is spoilt: (data, affine, mask), or None where the version is none ----------


def turned(axis):
    """The scan turned by 20 degrees about an axis of the world."""

    def version(data, affine, known):
        angles = np.zeros(3)
        angles[axis] = np.deg2rad(20)
        turn, centre = np.eye(4), np.eye(4)
        turn[:3, :3] = nib.eulerangles.euler2mat(*angles)
        centre[:3, 3] = affine[:3, :3] @ ((np.array(data.shape) - 1) / 2) + affine[:3, 3]
        matrix = np.linalg.inv(affine) @ centre @ turn @ np.linalg.inv(centre) @ affine
        return resample(data, matrix, data.shape), affine, moved(known, matrix)

    return version


def cut(axis, upper):
    """60 % of the view are left along an axis."""

    def version(data, affine, known):
        count = data.shape[axis]
        part, place = [slice(None)] * 3, affine.copy()
        part[axis] = slice(count - int(0.6 * count), None) if upper else slice(0, int(0.6 * count))
        place[:3, 3] += affine[:3, axis] * (part[axis].start or 0)
        return data[tuple(part)], place, known[tuple(part)]

    return version


def flipped(data, affine, known):
    """Stored the other way round along two axes."""
    flip = affine @ np.diag([-1, 1, -1, 1])
    flip[:3, 3] = (affine @ (data.shape[0] - 1, 0, data.shape[2] - 1, 1))[:3]
    return data[::-1, :, ::-1], flip, known[::-1, :, ::-1]


def sampled(mm):
    """At other voxels."""

    def version(data, affine, known):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        shape = np.ceil(np.array(data.shape) * spacing / mm).astype(int)
        scale = np.diag([*(mm / spacing), 1.0])
        smooth = ndimage.gaussian_filter(data, 0.5 * np.sqrt(np.maximum(mm**2 - spacing**2, 0)) / spacing)
        return resample(smooth, scale, shape), affine @ scale, moved(known, scale, shape)

    return version


def drifting(data, affine, known):
    """Coil shading."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in data.shape), indexing="ij", sparse=True)
    return data * np.exp(0.5 * (x + y - z)), affine, known


def noisy(data, affine, known):
    """Rician noise of 15 % of the brain."""
    noise = np.random.default_rng(0).normal(0, 0.15 * np.median(data[known]), (2, *data.shape))
    return np.hypot(data + noise[0], noise[1]), affine, known


def zeroed(data, affine, known):
    """Its air set to zero."""
    return np.where(data > 0.15 * np.median(data[known]), data, 0), affine, known


def surrounded(data, affine, known):
    """What lies in one value gets noise around it: a brain does not look stripped then, nor a head cleaned."""
    if (data == data[0, 0, 0]).mean() < 0.3:
        return None
    noise = np.random.default_rng(0).normal(0, 0.03 * np.median(data[known]), (2, *data.shape))
    return np.hypot(data + noise[0], noise[1]), affine, known


VERSIONS = {
    "plain": lambda *scan: scan,
    "nodded 20°": turned(0),
    "rolled 20°": turned(1),
    "turned 20°": turned(2),
    "lower 60 %": cut(2, False),
    "upper 60 %": cut(2, True),
    "left 60 %": cut(0, False),
    "stored flipped": flipped,
    "0.7 mm": sampled(0.7),
    "5 mm": sampled(5.0),
    "drifting": drifting,
    "noisy": noisy,
    "air zeroed": zeroed,
    "raw-like": surrounded,
}


def moved(known, matrix, shape=None):
    """The mask, resampled."""
    return resample(known.astype(np.float32), matrix, shape if shape is not None else known.shape) > 0.5


# ---- what is no brain ------------------------------------------------------------


def no_brains(data, finder):
    """Heads without their brain, limbs drawn as cylinders, noise, cords."""
    rng = np.random.default_rng(0)
    for name, path in (("healthy", "healthy/FLAIR.nii.gz"), ("104899", "tabriz/104899/FLAIR.nii.gz")):
        volume = load(data / "brain" / path, axial=False)
        head, affine = volume.data[..., 0], volume.affine
        inside = ndimage.binary_dilation(finder(head, affine), iterations=2)
        fluid = np.percentile(head[inside], 5)
        yield f"{name}, its brain air", nib.Nifti1Image(np.where(inside, 0, head), affine)
        yield f"{name}, its brain fluid", nib.Nifti1Image(np.where(inside, fluid, head), affine)
        low = int(0.3 * head.shape[2])
        yield f"{name}, its lowest 30 %", nib.Nifti1Image(head[:, :, :low], affine)
    x, y = np.meshgrid(*(np.arange(160) - 79.5,) * 2, indexing="ij")
    for name, radii in (("knee", (65, 16, 12)), ("two thighs", (60, 14, 0))):
        slices = []
        for k in range(120):
            centres = [(0, 0)] if name == "knee" else [(-42, 0), (42, 0)]
            limb = np.zeros((160, 160))
            for cx, cy in centres:
                away = np.hypot(x - cx, y - cy)
                wide = radii[0] if name == "knee" else 38
                bone = radii[1] + (18 * np.exp(-(((k - 60) / 20) ** 2)) if name == "knee" else 0)
                limb = np.where(away < wide, 220, limb)
                limb = np.where(away < wide - 9, 90, limb)
                limb = np.where(away < bone, 30, limb)
                limb = np.where(away < bone - 3, 180, limb)
            slices.append(limb)
        drawn = np.stack(slices, 2) + rng.normal(0, 6, (160, 160, 120))
        yield f"{name}, drawn", nib.Nifti1Image(np.abs(drawn).astype(np.float32), np.diag([1, 1, 1.5, 1]))
    noise = np.abs(rng.normal(0, 100, (128, 128, 90))).astype(np.float32)
    yield "noise", nib.Nifti1Image(noise, np.diag([1.5, 1.5, 2, 1]))
    yield "phantom", nib.Nifti1Image(np.pad(np.full((80, 80, 60), 500.0), 20), np.diag([2.0, 2, 2, 1]))
    for path in sorted((data / "cord").rglob("*.nii.gz")):
        if path.name.partition(".")[0].split("_")[-1] in ("T2starw", "t1", "t2", "t2s"):
            yield path.name, nib.load(path)


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    title = "Scans without a brain" if "-others" in sys.argv else "Brains: robustness"
    sys.exit(run_with_page(main, __doc__, title))
