"""sct7t_train: train a network on simulated images, labelled scans or both, and export it."""

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
  fine-tune the shipped network on scans of one's own, measure and export it:
    sct7t_train -start cord_gm_sc -scans DATASET -o runs/mine -export
  look at real scans while it trains:
    sct7t_train -config cord_gm_sc -o runs/gm_sc -data data -val labelled_scans
  brain lesions; brains are simulated first:
    sct7t_train -config brain_lesion_unet -o runs/lesion -data data

A folder of -scans or -val is searched for manual masks: of a cord
SCAN_seg-manual.nii.gz or SCAN_label-SC_seg.nii.gz, of gray matter
SCAN_gmseg-manual.nii.gz or SCAN_label-GM_seg.nii.gz, of lesions
SCAN_lesion-manual.nii.gz or SCAN_label-lesion_mask.nii.gz, beside SCAN.nii.gz
or in the derivatives of a BIDS data set. Other names and labels are told in a
recipe ("labels"), or in a list (.csv: columns image, SC, GM, subject, ...).
A person is in one part of a split only, with all sessions.

What is measured on them (real.csv, curves.png) is for
you to look at: the weights are chosen on simulated images, or on the
validation part of -scans. Scans whose
masks are also the anatomy that is simulated from (-data, source masks) flatter
the network: give others.

Ctrl-C ends the training after the step at hand and saves its state; the same
command goes on from there. SIGTERM, which a cluster sends at the time limit,
does the same, with exit code 143.

The libraries that it needs come with pip install 'sctseg7t[train]'.
"""


STRATEGY_NAMES = ("scratch", "half_lr", "freeze_encoder", "freeze_decoder", "freeze_both")


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
        return name, float(number)
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
                    "brain_lesion_views, brain_mask); not needed to export only",
                ),
                Option("-o --output FOLDER", "run folder: checkpoints, curves, exports", required=True),
                shared.DATA,
                Option(
                    "-start RUN|FILE|MODEL",
                    "start from the averaged weights of another run, a .pt or .onnx file, or a model of the zoo "
                    "(fine-tuning); with -config of simulated images the recipe must have its network, for ONNX and "
                    "the zoo with norm false",
                ),
                Option("-steps N", "train this many steps instead of the recipe's", type=COUNT),
            ),
            "labelled scans": (
                Option(
                    "-scans SCANS ...",
                    "learn from these: folders of scans with manual masks, lists (.csv), or IMAGE:SC=MASK:GM=MASK; "
                    "without -config by the recipe fine_tune_cord or fine_tune_brain",
                ),
                Option(
                    "-splits HOW",
                    "a splits.json, shares of people (default 70/15/15 for training, validation and test), folds:N, "
                    "or none: everybody trains",
                ),
                Option("-split NAME", "which split of -splits (default: the first)"),
                Option("-stratify COLUMN", "of participants.tsv: each part gets its share of every value"),
                Option(
                    "-subject HOW",
                    "who is whose: a column of participants.tsv, or a regular expression on subject labels",
                ),
                Option(
                    "-strategy NAME",
                    "what learns: scratch, half_lr (all layers at half the rate; default with -start), "
                    "freeze_encoder, freeze_decoder or freeze_both",
                    choices=list(STRATEGY_NAMES),
                ),
                Option("-name MODEL", "name of the new model (default: that of -start, with _tuned)"),
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
                    "with -export: add a number to the logits of an output, which calibrates its area (GM:0.25); can "
                    "be repeated",
                    type=_shift,
                    action="append",
                    default=[],
                ),
                Option(
                    "-blend MODEL:SHARE",
                    "with -export: average the weights with those of another run or model, which have this share: it "
                    "keeps more of what the network that it started from was good at (cord_gm_sc@1.1.0:0.25); can be "
                    "repeated",
                    type=_blend,
                    action="append",
                    default=[],
                ),
                Option("-model-version X.Y.Z", "with -export: its version (default: as it is)", type=_version),
            ),
            "other": shared.ANSWERS,
        },
    )


def _run(args):
    learns = args.scans or (args.start and not args.config)
    if not (args.export or args.config or learns):
        raise UsageError("-config is required: sct7t_train -config cord_gm_sc -o run")
    if not args.export and (args.manifest or args.model_version or args.blend or args.shift):
        raise UsageError("-manifest, -model-version, -blend and -shift are for exporting; add -export")
    if args.start and not (args.config or args.scans):
        raise UsageError("-start needs labelled scans (-scans), or a recipe (-config)")
    if not args.scans and (args.splits or args.split or args.stratify or args.subject):
        raise UsageError("-splits, -split, -stratify and -subject are of labelled scans; add -scans")
    if args.config or args.scans:
        print(_train(args))
    if args.export:
        from sctseg7t.train.export import Blend, export

        blend, shift = [Blend(*part) for part in args.blend], dict(args.shift)
        print(export(args.output, manifest=args.manifest, version=args.model_version, blend=blend, shift=shift))
    return 0


def _train(args):
    from sctseg7t.train.loop import train
    from sctseg7t.train.recipe import read_recipe
    from sctseg7t.train.scans.labelled import find_scans
    from sctseg7t.train.task import task_of

    learning = None
    if args.scans or (args.config and _learns(args.config)):
        recipe, learning = _learning(args)
    else:
        if args.strategy or args.name:
            raise UsageError("-strategy and -name are of labelled scans; add -scans")
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
        learning=learning,
    )


def _learns(config):
    """Whether a recipe is one of labelled scans."""
    from sctseg7t.train.recipe import read_recipe

    return read_recipe(config).task == "scans"


def _learning(args):
    """The whole recipe of a training on labelled scans, and the scans with their split."""
    from pathlib import Path

    from sctseg7t.train import fine_tuning
    from sctseg7t.train.scans.labelled import find_scans, label_map
    from sctseg7t.train.scans.learning import Learning
    from sctseg7t.train.scans.splits import chosen
    from sctseg7t.train.starting import load_start

    asked = {"strategy": args.strategy, "model": args.name, "steps": args.steps}
    recipe = fine_tuning.whole_recipe(args.config, load_start(args.start) if args.start else None, asked)
    if not args.scans:
        return recipe, None
    scans = find_scans(args.scans, label_map(recipe.labels), recipe.images, args.subject)
    strata = fine_tuning.strata_of(scans, args.scans, args.stratify)
    splits, source = fine_tuning.split_of(args.splits, scans, recipe.seed, strata)
    split = chosen(splits, args.split, source)
    named = tuple(Path(str(one).partition(":")[0]).resolve().name for one in args.scans)
    return fine_tuning.planned(recipe, scans), Learning(scans, split, source, named=named)


main = Command(parser, _run, "interrupted; the state saved last is what the next run goes on from", extra="train")
command = main.process

if __name__ == "__main__":
    command()
