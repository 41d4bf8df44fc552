"""Fine-tuning on the development sessions, each subject left out in turn: what is gained, and what it costs.

    python benchmark/accuracy/fine_tune.py [-data ../shared/data] [-start cord_gm_sc] [-seeds 3] -o DIR

Three subjects, four sessions (gm-challenge, 3 T), two runs each; run 1 has masks. For every seed and subject the
network is trained on the other subjects' sessions by the recipe ``fine_tune_cord`` and measured on both runs of the
one left out. Beside it stand the network as it starts, and a scan of another site (sct-testing t2s), which no training
saw. Scan-rescan figures are those of the comparison: coefficients of variation of the area between the two runs.
The slope of measured against true GM area, and the GM drawn where it was erased, are those of response.py -quick, on
the same scans: each by the network that has not seen its subject.

These are development scans, and their GM masks began as sct_deepseg_gm's output: part of the gain is the way of
drawing. Trainings that are in the folder already are not repeated.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from perturb import Case
from response import MOVES_PX, erased, gm_line
from scans import CHALLENGE, scans

from sctseg7t.report.results_page import name_models, table
from sctseg7t.report.results_page import run as run_with_page

LABELS = ("SC", "GM")


def tuned(args, seed, split, found, start):
    """ONNX file of a training, and the seconds of its CPU."""
    from dataclasses import replace

    from sctseg7t.train.export import export
    from sctseg7t.train.fine_tuning import whole_recipe
    from sctseg7t.train.loop import train
    from sctseg7t.train.scans.learning import Learning

    out = Path(args.output) / f"seed-{seed}" / split.test[0]
    recipe = replace(whole_recipe(None, start, {"steps": args.steps}), seed=seed)
    begun = time.process_time()
    learning = Learning(found, split, named=("gm-challenge",))
    precision = {"precision": args.precision, "threads": 1}
    train(recipe, {}, out, start=args.start, learning=learning, **precision)
    seconds = time.process_time() - begun
    ready = sorted(out.glob("*.onnx"))
    return (ready[0] if ready else export(out)), seconds


def compared(models, root, out):
    """Comparison of methods whose masks come from other networks on other scans.

    Parameters
    ----------
    models : dict of str to list of (str, list of Scan)
        By method: networks, and the scans that each segments.
    """
    from sctseg7t.bids import entities_of
    from sctseg7t.cohort.find import Scan as Found
    from sctseg7t.compare.compare import compare
    from sctseg7t.compare.matching import find_cases
    from sctseg7t.compare.run_methods import mask_of, run_methods
    from sctseg7t.compare.types import REFERENCE

    files, truth, every = [], [], {}
    for method, networks in models.items():
        for network, known in networks:
            images = [path for scan in known for path in (scan.image, scan.rescan) if path]
            found = [Found(p, p.relative_to(root).as_posix(), p.name.partition(".")[0], entities_of(p)) for p in images]
            every |= {one.name: one for one in found}
            files += run_methods({method: network}, found, root, out / method, device="cpu").files
            for scan in known if method == next(iter(models)) else ():
                own = every[scan.image.name.partition(".")[0]]
                truth += [mask_of(own, REFERENCE, name, path) for name, path in zip(LABELS, (scan.sc, scan.gm))]
    cases, problems = find_cases([], (), list(every.values()), made=[*files, *truth])
    return compare(cases, list(models), REFERENCE, problems=problems)


def figures(comparison, method, structure):
    """Means over the scans with masks, and scan-rescan figures."""
    rows = comparison.values
    own = rows[(rows.method == method) & (rows.structure == structure) & (rows.against == "reference")]
    scan, slices = own[own.level == "scan"], own[own.level == "slice"]

    def mean(part, metric):
        return float(part[part.metric == metric].value.mean())

    repeated = comparison.agreement
    repeated = repeated[(repeated.method == method) & (repeated.structure == structure)].set_index("measure").value
    return {
        "dice": mean(scan, "dice"),
        "worst": float(slices[slices.metric == "dice"].value.min()),
        "area": mean(scan, "size_difference_percent"),
        "cov_slice": float(repeated.get("csa_scan_rescan_cov_slice", np.nan)),
        "cov_scan": float(repeated.get("csa_scan_rescan_cov_scan", np.nan)),
    }


def followed(networks):
    """Whether GM areas follow the true ones: slope, GM (mm2) drawn where erased, least share without or flagged."""
    from sctseg7t.inference.pipeline import open_segmenter

    slopes, drawn = [], []
    for network, known in networks:
        segmenter = open_segmenter(None, str(network), "cpu", threads=1)
        for scan in known:
            case = Case.load(scan)
            slopes.append(gm_line(case, segmenter, moves_px=MOVES_PX[::3])["GM"].fit[0])
            drawn.append(erased(case, segmenter))
    areas, _, told = zip(*drawn)
    return [
        f"{np.mean(slopes):.3f}",
        f"{min(slopes):.2f} to {max(slopes):.2f}",
        f"{np.mean(areas):.2f}",
        f"{max(areas):.2f}",
        f"{min(told):.0%}",
    ]


FOLLOWED = ("", "slope of GM", "of a scan", "erased, GM mm²", "most of a scan", "none or flagged")
COLUMNS = {
    "dice": ("Dice", "{:.4f}"),
    "worst": ("worst slice", "{:.3f}"),
    "area": ("area", "{:+.1f} %"),
    "cov_slice": ("rescan, slices", "{:.2f} %"),
    "cov_scan": ("rescan, scans", "{:.2f} %"),
}


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data", help="folder of the development data")
    p.add_argument("-start", default="cord_gm_sc", help="network to start from")
    p.add_argument("-seeds", type=int, default=3)
    p.add_argument("-steps", type=int, help="instead of the recipe's")
    p.add_argument("-precision", default="bfloat16")
    p.add_argument("-o", "--output", required=True, help="folder of the trainings and masks")
    args = p.parse_args(argv)
    from sctseg7t.errors import UserError

    try:
        _run(args)
    except (UserError, ValueError) as error:
        print(f"fine_tune: {error}", file=sys.stderr)
        return 2
    return 0


def _run(args):
    from sctseg7t.train.scans.labelled import find_scans
    from sctseg7t.train.scans.splits import folds
    from sctseg7t.train.starting import load_start
    from sctseg7t.zoo.manifest import load_manifest

    data = Path(args.data).absolute()
    known, found = scans(data), find_scans([data / CHALLENGE])
    people = {scan.subject: "" for scan in found}
    start = load_start(args.start)
    challenge = [scan for scan in known if scan.name != "t2s"]
    elsewhere = [scan for scan in known if scan.name == "t2s"]
    left_out = {"as it starts": [(args.start, challenge)]}
    other = {"as it starts": [(args.start, elsewhere)]}
    seconds = []
    for seed in range(1, args.seeds + 1):
        for split in folds(people, len(people)):
            model, took = tuned(args, seed, split, found, start)
            seconds.append(took)
            (person,) = split.test
            left_out.setdefault(f"tuned, seed {seed}", []).append(
                (str(model), [scan for scan in challenge if scan.name.startswith(person)])
            )
            other[f"tuned without {person}, seed {seed}"] = [(str(model), elsewhere)]
    name_models(load_manifest().model(args.start))
    for title, models in (("Subjects left out", left_out), ("Another site (t2s)", other)):
        comparison = compared(models, data / "cord", Path(args.output) / "masks" / title.split()[0])
        for structure in LABELS:
            rows = {method: figures(comparison, method, structure) for method in models}
            print(f"\n{title}, {structure}\n")
            cells = [
                [name, *(form.format(row[key]) if np.isfinite(row[key]) else "" for key, (_, form) in COLUMNS.items())]
                for name, row in rows.items()
            ]
            table(["", *(head for head, _ in COLUMNS.values())], cells)
            if title.startswith("Subjects"):
                gain = np.array([row["dice"] for name, row in rows.items() if name != "as it starts"])
                gain = gain - rows["as it starts"]["dice"]
                print(f"\nGain in Dice: {gain.mean():+.4f} ({', '.join(f'{g:+.4f}' for g in gain)} by seed)")
        print(f"\n{title}: does the area follow?\n")
        table(FOLLOWED, [[name, *followed(networks)] for name, networks in models.items()])
    if any(took > 5 for took in seconds):
        print(f"\nCPU seconds of a training (one thread): {np.mean([t for t in seconds if t > 5]):.0f}")


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Fine-tuning"))
