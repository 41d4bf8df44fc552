"""sct7t_simulate: make synthetic T2*-weighted cord scans with their true tissue fractions."""

from . import options as shared
from .parser import Answer, Parser, number, whole_number
from .run import exit_code, process

EPILOG = """
examples:
  sct7t_simulate -effects
  sct7t_simulate -config ms -preview sheet.png
  sct7t_simulate -config ms -o cohort -n 20 -participants

The libraries that it needs come with pip install 'sctseg7t[train]'.
"""


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_simulate",
        usage="%(prog)s [-config RECIPE] -o FOLDER [-n N] [options]",
        description="Simulate T2*-weighted axial cord scans with the true SC and GM fractions of every voxel.",
        epilog=EPILOG,
    )
    out = p.add_argument_group("output")
    out.option("-o --output FOLDER", "where the scans go")
    out.option(
        "-n --count N", "number of scans (default 1), or of windows in -preview (default 12)", type=whole_number()
    )
    out.option(
        "-participants",
        "also write participants.tsv (participant_id, group, seed) and dataset_description.json, as BIDS has them",
    )
    out.option("-preview FILE.png", "draw windows of the recipe with their labels on one sheet; needs no -o")
    out.option("-effects", "list the effects and their settings, and stop", action=Answer, answer=_effects)
    what = p.add_argument_group("what is simulated")
    what.option(
        "-config RECIPE",
        "healthy, ms, als, compression, or a JSON file with 'simulation': settings by effect, false to leave "
        "one out (a training recipe will do)",
    )
    what.option("-seed N", "seed of the first scan (default 0)", type=whole_number(0), default=0)
    what.option("-slices N", "slices of a scan (default 12)", type=int, default=12)
    what.option("-pixel MM", "in-plane pixel size in mm, 0.176 or more (default 0.35)", type=number())
    what.option("-thickness MM", "slice thickness in mm (default 3)", type=number())
    what.option("-fov MM", "field of view in mm (default 72)", type=number(), default=72.0)
    what.option("-snr SNR", "signal-to-noise ratio (default 25)", type=number())
    what.option(
        "-anatomy SOURCE",
        "AMU7T, PAM50, masks or parametric, instead of the recipe's (default parametric); can be repeated",
        action="append",
    )
    shared.add_data_option(what)
    shared.add_other_options(p)
    return p


def _effects(_):
    from sctseg7t.simulate.dataset import effects_table

    return effects_table()


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    interrupted = "interrupted; what was written is complete"
    return exit_code(parser(), _run, argv, interrupted=interrupted, extra="train")


def _run(args):
    from sctseg7t.errors import UsageError

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
    seeds = range(args.seed, args.seed + (args.count or 1)) if args.output else ()
    plans = [plan_scan(recipe, seed, **given) for seed in seeds]
    bank = load_bank(recipe.anatomy, anatomy_folders(args.data), args.seed)
    if args.preview:
        _preview(args, recipe, bank)
    if args.output:
        _scans(args, recipe, bank, plans)
    return 0


def _preview(args, recipe, bank):
    from sctseg7t.simulate.cord import CordSimulator
    from sctseg7t.simulate.preview import contact_sheet

    simulator = CordSimulator(bank, recipe.simulation)
    sheet = contact_sheet(simulator, args.count or 12, args.seed, args.preview, recipe.name)
    if args.verbose:
        print(sheet)


def _scans(args, recipe, bank, plans):
    from sctseg7t.simulate.dataset import write_participants, write_scan

    rows = []
    for plan in plans:
        subject, path = write_scan(args.output, bank, recipe, plan, args.seed)
        rows.append({"participant_id": subject, "group": recipe.name, "seed": str(plan.seed)})
        if args.verbose:
            print(path)
    if args.participants:
        write_participants(args.output, rows)


def command() -> None:
    """Run the command as a process of its own."""
    process(main)


if __name__ == "__main__":
    command()
