"""sct7t_simulate: make synthetic T2*-weighted cord scans with their true tissue fractions."""

import argparse

from sctseg7t.cli import add_data_option


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_simulate",
        description="Simulate T2*-weighted axial cord scans with the true SC and GM fractions of every voxel.",
        allow_abbrev=False,
    )
    p.add_argument("-o", "--output", metavar="FOLDER", help="where the scans go; needs no -o: -preview, -effects")
    p.add_argument(
        "-config",
        "--config",
        metavar="RECIPE",
        help="healthy, ms, als, compression, or a JSON file with 'simulation': settings by effect, false to leave "
        "one out (a training recipe will do)",
    )
    p.add_argument("-n", "--count", type=int, help="number of scans (default 1), or of windows in -preview (12)")
    p.add_argument("-seed", "--seed", type=int, default=0, help="seed of the first scan (default 0)")
    p.add_argument("-slices", "--slices", type=int, default=12, help="slices of a scan (default 12)")
    p.add_argument("-pixel", "--pixel", type=float, help="in-plane pixel size in mm, 0.176 or more (default 0.35)")
    p.add_argument("-thickness", "--thickness", type=float, help="slice thickness in mm (default 3)")
    p.add_argument("-fov", "--fov", type=float, default=72.0, help="field of view in mm (default 72)")
    p.add_argument("-snr", "--snr", type=float, help="signal-to-noise ratio (default 25)")
    p.add_argument(
        "-anatomy",
        "--anatomy",
        action="append",
        help="AMU7T, PAM50, masks or parametric, instead of the recipe's (default parametric); can be repeated",
    )
    add_data_option(p)
    p.add_argument(
        "-participants",
        "--participants",
        action="store_true",
        help="also write participants.tsv (participant_id, group, seed) and dataset_description.json, as BIDS has them",
    )
    p.add_argument(
        "-preview", "--preview", metavar="FILE.png", help="draw windows of the recipe with their labels on one sheet"
    )
    p.add_argument("-effects", "--effects", action="store_true", help="list the effects and their settings, and stop")
    return p


def main(argv=None):
    """Run the command; returns the exit code."""
    import sys

    args = parser().parse_args(argv)
    from sctseg7t.errors import UserError

    try:
        _run(args)
    except ImportError as err:
        print(f"sct7t_simulate: {err}; install the training extra: pip install 'sctseg7t[train]'", file=sys.stderr)
        return 2
    except UserError as err:
        print(f"sct7t_simulate: {err}", file=sys.stderr)
        return 2
    return 0


def _run(args):
    from sctseg7t.errors import UsageError

    if args.effects:
        from sctseg7t.simulate.dataset import effects_table

        print(effects_table())
        return
    if (args.count is not None and args.count < 1) or args.seed < 0:
        raise UsageError("-n must be 1 or more, and -seed 0 or more")
    if not (args.output or args.preview):
        raise UsageError("say where the scans go with -o FOLDER, or give -preview FILE.png or -effects")
    if args.participants and not args.output:
        raise UsageError("-participants describes the scans of -o; give -o FOLDER")

    from sctseg7t.simulate.anatomy import anatomy_folders, load_bank
    from sctseg7t.simulate.dataset import plan_scan, read_recipe

    recipe = read_recipe(args.config)
    if args.anatomy:
        recipe = recipe.of_sources(args.anatomy)
    given = {
        "slices": args.slices,
        "pixel_mm": args.pixel,
        "thickness_mm": args.thickness,
        "field_of_view_mm": args.fov,
        "snr": args.snr,
    }
    plans = [plan_scan(recipe, args.seed + k, **given) for k in range((args.count or 1) if args.output else 0)]
    bank = load_bank(recipe.anatomy, anatomy_folders(args.data), args.seed)
    if args.preview:
        _preview(args, recipe, bank)
    if args.output:
        _scans(args, recipe, bank, plans)


def _preview(args, recipe, bank):
    from sctseg7t.simulate.cord import CordSimulator
    from sctseg7t.simulate.preview import contact_sheet

    simulator = CordSimulator(bank, recipe.simulation)
    print(contact_sheet(simulator, args.count or 12, args.seed, args.preview, recipe.name))


def _scans(args, recipe, bank, plans):
    from sctseg7t.simulate.dataset import write_participants, write_scan

    rows = []
    for plan in plans:
        subject, path = write_scan(args.output, bank, recipe, plan, args.seed)
        rows.append({"participant_id": subject, "group": recipe.name, "seed": str(plan.seed)})
        print(path)
    if args.participants:
        write_participants(args.output, rows)


if __name__ == "__main__":
    raise SystemExit(main())
