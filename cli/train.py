"""sct7t_train: train a network on simulated images and export it."""

import argparse

from sctseg7t.cli import add_data_option

EPILOG = """examples:
  sct7t_train -config cord_gm_sc -o runs/gm_sc -data data              train, or go on where it stopped
  sct7t_train -config cord_gm_sc -o runs/gm_sc -data data -export      ... to the end, then write the ONNX model
  sct7t_train -o runs/gm_sc -export                                    only export the best weights so far
  sct7t_train -config mine.json -o runs/mine -start runs/gm_sc         fine-tune
  sct7t_train -config cord_gm_sc -o runs/gm_sc -data data -val labelled_scans
  sct7t_train -config brain_lesion_unet -o runs/lesion -data data      brain lesions; brains are simulated first

real scans (-val):
  a folder is searched for manual masks named SCAN_seg-manual.nii.gz or SCAN_label-SC_seg.nii.gz (cord) and
  SCAN_gmseg-manual.nii.gz or SCAN_label-GM_seg.nii.gz (gray matter), beside SCAN.nii.gz or in the derivatives of a
  BIDS data set; other names are given as IMAGE:SC=MASK:GM=MASK. What is measured on them (real.csv, curves.png) is for
  you to look at: the weights are always chosen on simulated images. Scans whose masks are also the anatomy that is
  simulated from (-data, source masks) flatter the network: give others.

Ctrl-C ends the training after the step at hand and saves its state; the same command goes on from there.

exit codes: 0 done; 2 wrong usage, or files or a device that cannot be used; 130 interrupted (143 by SIGTERM)
"""


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_train",
        description="Train a network on simulated images, resuming where an earlier run stopped, and export it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run = p.add_argument_group("run")
    run.add_argument(
        "-config",
        "--config",
        metavar="RECIPE",
        help="a JSON file, or the name of a shipped recipe (cord_gm_sc, cord_locator, brain_lesion_unet, "
        "brain_lesion_mpunetpp); not needed to export only",
    )
    run.add_argument("-o", "--output", required=True, metavar="FOLDER", help="run folder: checkpoints, curves, exports")
    add_data_option(run)
    run.add_argument(
        "-start",
        "--start",
        metavar="RUN|FILE.pt",
        help="start from the averaged weights of another run (fine-tuning); the recipe must have its network",
    )
    run.add_argument("-steps", "--steps", type=int, metavar="N", help="train this many steps instead of the recipe's")
    real = p.add_argument_group("real scans")
    real.add_argument(
        "-val",
        "--val",
        nargs="+",
        action="extend",
        default=[],
        metavar="SCANS",
        help="folders of scans with manual masks, or IMAGE:SC=MASK:GM=MASK; measured at validations, "
        "their images are never trained on",
    )
    real.add_argument(
        "-val-every", "--val-every", type=int, default=1, metavar="N", help="at every Nth validation (default 1)"
    )
    machine = p.add_argument_group("machine")
    machine.add_argument("-device", "--device", default="cpu", help="cpu or cuda[:N] (default cpu)")
    machine.add_argument(
        "-precision",
        "--precision",
        default="auto",
        metavar="P",
        help="float32, bfloat16 or auto (default): bfloat16 on GPUs that are built for it, else float32",
    )
    machine.add_argument(
        "-threads", "--threads", type=int, metavar="N", help="CPU threads; on a GPU those that simulate (default: all)"
    )
    out = p.add_argument_group("export")
    out.add_argument(
        "-export",
        "--export",
        action="store_true",
        help="write the best weights as ONNX, with entry and card; with -config after training to the end",
    )
    out.add_argument("-manifest", "--manifest", metavar="FILE", help="with -export: the models.json to update")
    out.add_argument(
        "-model-version",
        "--model-version",
        metavar="X.Y.Z",
        help="with -export: its version (default: as it is)",
    )
    return p


def main(argv=None):
    import sys

    p = parser()
    args = p.parse_args(argv)
    if not args.export and not args.config:
        p.error("-config is required: sct7t_train -config cord_gm_sc -o run")
    from sctseg7t.errors import UserError

    try:
        _check(args)
        if args.config:
            print(_train(args))
        if args.export:
            from sctseg7t.train.export import export

            print(export(args.output, manifest=args.manifest, version=args.model_version))
    except ImportError as err:
        print(f"sct7t_train: {err}; install the training extra: pip install 'sctseg7t[train]'", file=sys.stderr)
        return 2
    except UserError as err:
        print(f"sct7t_train: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as err:
        print(
            f"\nsct7t_train: {err or 'interrupted; the state saved last is what the next run goes on from'}",
            file=sys.stderr,
        )
        return 128 + getattr(err, "number", 2)
    return 0


def _check(args):
    import re

    from sctseg7t.errors import UsageError

    for name in ("steps", "val_every"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"-{name.replace('_', '-')} {value}: give 1 or more")
    for name in ("manifest", "model_version"):
        if getattr(args, name) and not args.export:
            raise UsageError(f"-{name.replace('_', '-')} is for exporting; add -export")
    if args.model_version and not re.fullmatch(r"\d+\.\d+\.\d+([.+-][0-9A-Za-z.-]+)?", args.model_version):
        raise UsageError(f"-model-version {args.model_version}: give three numbers, such as 1.1.0")


def _train(args):
    import dataclasses

    from sctseg7t.train.export import find_recipe
    from sctseg7t.train.loop import TrainRecipe, train
    from sctseg7t.train.scans import find_scans

    recipe = TrainRecipe.read(find_recipe(args.config))
    if args.steps is not None:
        recipe = dataclasses.replace(recipe, steps=args.steps)
    return train(
        recipe,
        _folders(recipe, args.data),
        args.output,
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        start=args.start,
        scans=find_scans(args.val),
        scans_every=args.val_every,
    )


def _folders(recipe, data):
    if recipe.task == "brain_lesion":
        from sctseg7t.simulate.brain.bank import brain_folder

        folder = brain_folder(data)
        return {"brain": folder} if folder else {}
    from sctseg7t.simulate.anatomy import anatomy_folders

    return anatomy_folders(data)


if __name__ == "__main__":
    raise SystemExit(main())
