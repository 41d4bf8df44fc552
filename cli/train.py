"""sct7t_train: train a network on simulated images and export it."""

import argparse
import dataclasses
import re

from sctseg7t.errors import UsageError

from . import options as shared
from .parser import COUNT, Option, Parser
from .run import Command

EPILOG = """
examples:
  train, or go on where it stopped:
    sct7t_train -config cord_gm_sc -o runs/gm_sc -data data
  ... to the end, then write the ONNX model:
    sct7t_train -config cord_gm_sc -o runs/gm_sc -data data -export
  only export the best weights so far:
    sct7t_train -o runs/gm_sc -export
  fine-tune the shipped network ("norm": false in the recipe's network):
    sct7t_train -config mine.json -o runs/mine -start cord_gm_sc
  look at real scans while it trains:
    sct7t_train -config cord_gm_sc -o runs/gm_sc -data data -val labelled_scans
  brain lesions; brains are simulated first:
    sct7t_train -config brain_lesion_unet -o runs/lesion -data data

A folder of -val is searched for manual masks named SCAN_seg-manual.nii.gz or
SCAN_label-SC_seg.nii.gz (cord) and SCAN_gmseg-manual.nii.gz or
SCAN_label-GM_seg.nii.gz (gray matter), beside SCAN.nii.gz or in the
derivatives of a BIDS data set; other names are given as
IMAGE:SC=MASK:GM=MASK. What is measured on them (real.csv, curves.png) is for
you to look at: the weights are always chosen on simulated images. Scans whose
masks are also the anatomy that is simulated from (-data, source masks) flatter
the network: give others.

Ctrl-C ends the training after the step at hand and saves its state; the same
command goes on from there. SIGTERM, which a cluster sends at the time limit,
does the same, with exit code 143.

The libraries that it needs come with pip install 'sctseg7t[train]'.
"""


def _version(text):
    """Type of ``-model-version``."""
    if not re.fullmatch(r"\d+\.\d+\.\d+([.+-][0-9A-Za-z.-]+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: give three numbers, such as 1.1.0")
    return text


def _blend(text):
    """Type of ``-blend``."""
    model, _, share = text.rpartition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not (model and 0 < number < 1):
        raise argparse.ArgumentTypeError(f"{text}: give a model and its share, such as cord_gm_sc@1.1.0:0.25")
    return model, number


def _shift(text):
    """Type of ``-shift``."""
    name, _, number = text.partition(":")
    try:
        return {name: float(number)}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give an output and a number, such as GM:0.25") from None


def parser() -> Parser:
    """The arguments of the command."""
    return Parser(
        prog="sct7t_train",
        usage="%(prog)s -config RECIPE -o FOLDER [-data FOLDER] [options]",
        description="Train a network on simulated images, resuming where an earlier run stopped, and export it.",
        epilog=EPILOG,
        groups={
            "run": (
                Option(
                    "-config RECIPE",
                    "a JSON file, or the name of a shipped recipe (cord_gm_sc, cord_locator, brain_lesion_unet, "
                    "brain_lesion_mpunetpp, brain_mask); not needed to export only",
                ),
                Option("-o --output FOLDER", "run folder: checkpoints, curves, exports", required=True),
                shared.DATA,
                Option(
                    "-start RUN|FILE|MODEL",
                    "start from the averaged weights of another run, a .pt or .onnx file, or a model of the zoo "
                    "(fine-tuning); the recipe must have its network, for ONNX and the zoo with norm false",
                ),
                Option("-steps N", "train this many steps instead of the recipe's", type=COUNT),
            ),
            "real scans": (
                Option(
                    "-val SCANS ...",
                    "folders of scans with manual masks, or IMAGE:SC=MASK:GM=MASK; measured at validations, "
                    "their images are never trained on",
                ),
                Option("-val-every N", "at every Nth validation (default 1)", type=COUNT, default=1),
            ),
            "machine": (
                Option("-device NAME", "cpu or cuda[:N] (default cpu)", default="cpu"),
                Option(
                    "-precision P",
                    "float32, bfloat16 or auto (default): bfloat16 on GPUs that are built for it, else float32",
                    default="auto",
                ),
                Option(
                    "-threads N",
                    "CPU threads; on a GPU those that simulate (default: all)",
                    type=COUNT,
                ),
            ),
            "export": (
                Option(
                    "-export",
                    "write the best weights as ONNX, with entry and card; with -config after training to the end",
                ),
                Option("-manifest FILE", "with -export: the models.json to update"),
                Option(
                    "-shift OUTPUT:NUMBER",
                    "with -export: add a number to the logits of an output, which calibrates its area (GM:0.25)",
                    type=_shift,
                ),
                Option(
                    "-blend MODEL:SHARE",
                    "with -export: average the weights with those of another run or model, which have this share: it "
                    "keeps more of what the network that it started from was good at (cord_gm_sc@1.1.0:0.25)",
                    type=_blend,
                ),
                Option("-model-version X.Y.Z", "with -export: its version (default: as it is)", type=_version),
            ),
            "other": shared.ANSWERS,
        },
    )


def _run(args):
    if not args.export and not args.config:
        raise UsageError("-config is required: sct7t_train -config cord_gm_sc -o run")
    if not args.export and (args.manifest or args.model_version or args.blend or args.shift):
        raise UsageError("-manifest, -model-version, -blend and -shift are for exporting; add -export")
    if args.config:
        print(_train(args))
    if args.export:
        from sctseg7t.train.export import Blend, export

        blend = Blend(*args.blend) if args.blend else None
        print(export(args.output, manifest=args.manifest, version=args.model_version, blend=blend, shift=args.shift))
    return 0


def _train(args):
    from sctseg7t.train.loop import train
    from sctseg7t.train.recipe import read_recipe
    from sctseg7t.train.scans.labelled import find_scans
    from sctseg7t.train.task import task_of

    recipe = read_recipe(args.config)
    if args.steps is not None:
        recipe = dataclasses.replace(recipe, steps=args.steps)
    return train(
        recipe,
        task_of(recipe).data_folders(args.data),
        args.output,
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        start=args.start,
        scans=find_scans(args.val),
        scans_every=args.val_every,
    )


main = Command(parser, _run, "interrupted; the state saved last is what the next run goes on from", extra="train")
command = main.process

if __name__ == "__main__":
    command()
