"""Write the results pages of the guide: every benchmark with the arguments of its page.

    python benchmark/pages.py -data FOLDER [NAME ...]

One after the other, so that none disturbs another's times. A benchmark that fails leaves its page alone.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# By page: script, and arguments; DATA is the folder of the development data, FOLDS that of networks trained
# without some patients (folds.json, see docs/how_to/train.md), ZOO:NAME the weights of a model.
PAGES = {
    "accuracy": "accuracy/accuracy.py -data DATA -peer",
    "response": "accuracy/response.py -data DATA",
    "stress": "accuracy/stress.py -data DATA",
    "locator": "accuracy/locator.py -data DATA",
    "uncertainty": "accuracy/uncertainty.py -data DATA",
    "patatoids": "accuracy/patatoids.py -small -precision bfloat16",
    "outline": "accuracy/outline.py -data DATA",
    "flags": "accuracy/flags.py -data DATA -peer -simulated",
    "fine_tune": "accuracy/fine_tune.py -data DATA -o build/fine_tune",
    "failing_rival": "accuracy/failing_rival.py -data DATA",
    "study": "accuracy/study.py -data DATA -n 4",
    "realism": "accuracy/realism.py -data DATA -n 12",
    "brain_mask": "accuracy/brain_mask.py -data DATA",
    "brain_robustness": "accuracy/brain_robustness.py -data DATA",
    "brain_refused": "accuracy/brain_robustness.py -data DATA -others",
    "brain": "accuracy/brain_patients.py -data DATA simulated=brain_lesion_views_thin "
    "nicMSlesions=FOLDS/nicms/*.nii.gz -left-out mixed=FOLDS",
    "new_lesions": "accuracy/new_lesions.py -data DATA -real -self -null 12 -changes 4",
    "speed": "speed/speed.py -data DATA",
    "speed_batch": "speed/batch.py",
    "speed_brain": "speed/brain_speed.py -whole "
    "-i DATA/brain/tabriz/104899/FLAIR.nii.gz DATA/brain/healthy/FLAIR.nii.gz",
    "speed_qc": "speed/qc.py",
    "speed_agreement": "speed/agreement.py",
}


def weights_of(name):
    """Path of a model's network, of the version that is used by default."""
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    return str(weights(load_manifest().model(name)))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data", help="folder of the development data")
    p.add_argument("-folds", default="runs/folds", help="folder of networks that are judged on whom they did not see")
    p.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAGES)} (default: all)")
    args = p.parse_args()
    unknown = set(args.names) - set(PAGES)
    if unknown:
        p.error(f"{', '.join(sorted(unknown))}: no such page; there are {', '.join(PAGES)}")
    failed = []
    for name in args.names or PAGES:
        script, *words = PAGES[name].replace("DATA", args.data).replace("FOLDS", args.folds).split()
        words = [re.sub(r"ZOO:(\S+)", lambda found: weights_of(found[1]), word) for word in words]
        line = [sys.executable, f"benchmark/{script}", *words, "-page", f"docs/results/{name}.md"]
        if subprocess.run(line, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"pages: {', '.join(failed)} failed; their pages are as before", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
