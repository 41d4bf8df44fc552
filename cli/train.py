"""sct7t_train: train a network on simulated images and export it."""

import argparse

from sctseg7t.cli import add_data_option


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_train",
        description="Train a network on simulated images, resuming where an earlier run stopped, and export it.",
        allow_abbrev=False,
    )
    p.add_argument(
        "-config",
        "--config",
        help="recipe: a JSON file, or the name of a shipped one (cord_gm_sc, cord_locator); not needed with -export",
    )
    p.add_argument("-o", "--output", required=True, metavar="FOLDER", help="run folder: checkpoints, curves, exports")
    add_data_option(p)
    p.add_argument("-device", "--device", default="cpu", help="cpu or cuda[:N] (default cpu)")
    p.add_argument("-threads", "--threads", type=int, help="CPU threads (default: all)")
    p.add_argument("-steps", "--steps", type=int, help="train this many steps instead of the recipe's")
    p.add_argument("-export", "--export", action="store_true", help="export the run's best weights to ONNX and stop")
    p.add_argument("-manifest", "--manifest", help="with -export: the models.json whose entry is updated")
    return p


def main(argv=None):
    import dataclasses
    import sys

    p = parser()
    args = p.parse_args(argv)
    if not args.export and not args.config:
        p.error("-config is required: sct7t_train -config cord_gm_sc -o run")
    from sctseg7t.errors import UsageError, UserError

    try:
        from sctseg7t.simulate.anatomy import anatomy_folders
        from sctseg7t.train.export import export, find_recipe
        from sctseg7t.train.loop import TrainRecipe, train

        if args.export:
            print(export(args.output, manifest=args.manifest))
            return 0
        recipe = TrainRecipe.read(find_recipe(args.config))
        if args.steps is not None:
            if args.steps < 1:
                raise UsageError(f"-steps {args.steps}: give 1 or more")
            recipe = dataclasses.replace(recipe, steps=args.steps)
        folders = anatomy_folders(args.data)
        print(train(recipe, folders, args.output, device=args.device, threads=args.threads))
    except ImportError as err:
        print(f"sct7t_train: {err}; install the training extra: pip install 'sctseg7t[train]'", file=sys.stderr)
        return 2
    except UserError as err:
        print(f"sct7t_train: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
