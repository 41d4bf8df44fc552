"""What failures do to a comparison: a rival that is the reference itself, moved, with slices lost, against our model.

The rival is the reference of the gm-challenge development scans moved by 0 to 2 pixels a slice, with one slice of each
scan empty and one 12 pixels off. Printed are the comparison's lines over all slices, its means without failures as the
2021 study has them, and its warnings.

    python benchmark/accuracy/failing_rival.py -data DATA
"""

import argparse
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scans import CHALLENGE

from sctseg7t.report.results_page import name_models
from sctseg7t.report.results_page import run as run_with_page

SESSIONS = ("9584", "9669", "10062Ses1", "10062Ses2")


def make_rival(labels, out, seed=0):
    """Write the rival's masks beside nothing but themselves, under the references' names."""
    rng = np.random.default_rng(seed)
    for name in SESSIONS:
        for path in sorted((labels / f"sub-{name}").rglob("*-manual.nii.gz")):
            image = nib.load(path)
            mask = np.asarray(image.dataobj) > 0
            slices = np.flatnonzero(mask.any((0, 1)))
            moved = mask.copy()
            for k in slices:
                moved[..., k] = np.roll(mask[..., k], rng.integers(0, 3), axis=rng.integers(0, 2))
            moved[..., slices[2]] = False
            moved[..., slices[5]] = np.roll(mask[..., slices[5]], 12, axis=0)
            target = out / path.relative_to(labels)
            target.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(moved.astype(np.uint8), image.affine, image.header), target)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", required=True, help="folder of the development data")
    p.add_argument("-threads", type=int, help="CPU threads (default: all)")
    args = p.parse_args(argv)
    labels = Path(args.data).absolute() / CHALLENGE / "derivatives/labels"
    if not labels.is_dir():
        print(f"failing_rival: {labels}: not there; name the folder of the development data", file=sys.stderr)
        return 2
    from sctseg7t.cohort.find import find_scans
    from sctseg7t.compare.compare import compare
    from sctseg7t.compare.findings import cautions
    from sctseg7t.compare.matching import find_cases, read_method, read_reference
    from sctseg7t.compare.report_tables import summary_lines
    from sctseg7t.compare.run_methods import run_methods
    from sctseg7t.compare.subjects import persons
    from sctseg7t.compare.types import REFERENCE

    name_models("gm_sc")
    with tempfile.TemporaryDirectory() as folder:
        make_rival(labels, Path(folder) / "rival")
        root = labels.parents[1]
        scans = [scan for scan in find_scans(root, "*_run-1_T2starw*") if scan.entities["sub"] in SESSIONS]
        made = run_methods({"ours": "gm_sc"}, scans, root, Path(folder) / "masks", device="cpu", threads=args.threads)
        rival = read_method(f"rival={folder}/rival")
        cases, _ = find_cases([rival], [read_reference(str(labels))], scans, made=made.files, structures=["SC", "GM"])
        found = compare(persons(cases, "(.+)Ses", {}), ["ours", "rival"], REFERENCE)
        print("\n".join(summary_lines(found)))
        rows = found.summary[(found.summary.level == "slice") & (found.summary.metric == "dice")]
        for row in rows[rows.failures == "left out"].itertuples():
            print(f"  {row.structure:3} {row.method:24} Dice {row.mean:.3f} without {row.outliers} failures")
        print("\n".join(cautions(found)))
    return 0


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "A rival that fails"))
