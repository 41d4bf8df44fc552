"""Striped patatoids: can a network use a second image that is shifted? No patient is needed to ask.

    python benchmark/accuracy/patatoids.py [-small] [-precision bfloat16] [-threads N] [-o DIR] [-page FILE.md]

Image A shows blurred blobs, image B the same blobs striped at +45 or -45 degrees and shifted. The network marks the
+45 blobs where they lie in A. Chance is 0.5 of the blobs. Each line is one training; it is then asked about new pairs
with its own shifts, with B cut along one side, and with no shift. ``-small``: 64 pixels, 300 steps, half a minute of
one core a training. In the whole: 256 pixels, 3,000 steps, hours of one core; use a GPU.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from sctseg7t.report.results_page import run as run_with_page
from sctseg7t.report.results_page import table
from sctseg7t.simulate.patatoids import PatatoidSimulator, read_off
from sctseg7t.train.checkpoint import WEIGHTS
from sctseg7t.train.loop import train
from sctseg7t.train.recipe import read_recipe
from sctseg7t.train.task import task_of

# Settings that differ from the recipe's, by what a training shows; lengths in pixels.
WHOLE = {
    "near": {"shift": [0, 20]},
    "to the thesis's limit": {"shift": [0, 35]},
    "beyond it": {"shift": [0, 60]},
    "10 to 30 px": {"shift": [10, 30]},
}
SPARSE = {"blobs": [2, 3], "radius": [7, 11], "blur": 1.5, "period": 5}
SMALL = {
    "near": {"shift": [0, 3]},
    "far": {"shift": [20, 40]},
    "never near": {"shift": [16, 32], **SPARSE},
}
PAIRS, SEED = 64, 99


def trained(settings, small, out, **how):
    """Recipe and network of a training with these settings of the simulator."""
    recipe = read_recipe("patatoids_small" if small else "patatoids")
    recipe = replace(recipe, simulation={**recipe.simulation, **settings})
    train(recipe, {}, out, **how)
    network = task_of(recipe).network(recipe)
    network.load_state_dict(torch.load(Path(out) / WEIGHTS, weights_only=True))
    return recipe, network.eval()


def asked(recipe, network, **settings):
    """What the network says of new pairs: see :func:`sctseg7t.simulate.patatoids.read_off`."""
    batch = PatatoidSimulator({**recipe.simulation, **settings}).batch(PAIRS, SEED)
    with torch.no_grad():
        probability = torch.cat([torch.sigmoid(network(part)) for part in batch.image.split(8)])
    return read_off(probability[:, 0].numpy(), batch.state[:, 0].numpy())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-small", action="store_true", help="64 pixels, 300 steps")
    p.add_argument("-precision", default="auto")
    p.add_argument("-threads", type=int)
    p.add_argument("-device", default="cpu")
    p.add_argument("-o", type=Path, help="folder of the runs, which are taken up again (default: none is kept)")
    args = p.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in (SMALL if args.small else WHOLE).items():
            out = (args.o or Path(folder)) / name.replace(" ", "_")
            how = {"precision": args.precision, "threads": args.threads, "device": args.device}
            recipe, network = trained(settings, args.small, out, **how)
            own, cut, still = (
                asked(recipe, network, **s) for s in ({"cut": 0}, {"cut": 1}, {"cut": 0, "shift": [0, 0]})
            )
            unknown = f"{cut['unknown']:.2f} ± {cut['unknown_sd']:.2f}"
            low, high = recipe.simulation["shift"]
            rows.append(
                (
                    name,
                    f"{low} to {high} px",
                    f"{own['right']:.2f}",
                    f"{own['dice']:.2f}",
                    unknown,
                    f"{still['right']:.2f}",
                )
            )
    table(("training", "shifts", "blobs right", "Dice", "of blobs that B does not show", "right without shift"), rows)
    print(f"\n{PAIRS} new pairs each. What B does not show nobody can know: 0.5 is the right answer.")


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Striped patatoids"))
