"""sct7t_simulate: make synthetic T2*-weighted cord scans with their true tissue fractions."""

from sctseg7t.errors import UsageError

from . import options as shared
from .parser import COUNT, Answer, Option, Parser, number
from .run import Command

EPILOG = """
examples:
  sct7t_simulate -effects
  sct7t_simulate -config ms -preview sheet.png
  sct7t_simulate -config ms -o cohort -n 20 -participants

The libraries that it needs come with pip install 'sctseg7t[train]'.
"""


def _effects(_):
    from sctseg7t.simulate.dataset import effects_table

    return effects_table()


def parser() -> Parser:
    """The arguments of the command."""
    return Parser(
        prog="sct7t_simulate",
        usage="%(prog)s [-config RECIPE] -o FOLDER [-n N] [options]",
        description="Simulate T2*-weighted axial cord scans with the true SC and GM fractions of every voxel.",
        epilog=EPILOG,
        groups={
            "output": (
                Option("-o --output FOLDER", "where the scans go"),
                Option(
                    "-n --count N",
                    "number of scans (default 1), or of windows in -preview (default 12)",
                    type=COUNT,
                ),
                Option(
                    "-participants",
                    "also write participants.tsv (participant_id, group, seed, pair_id) and dataset_description.json, "
                    "as BIDS has them; scans of one pair_id are one person in several groups: for groups of other "
                    "people give each its own -seed",
                ),
                Option("-preview FILE.png", "draw windows of the recipe with their labels on one sheet; needs no -o"),
                Option(
                    "-beside SCAN",
                    "in -preview also draw real scans, a row below each row of simulated windows: a folder with manual "
                    "masks, or IMAGE:SC=MASK:GM=MASK",
                    nargs="+",
                    default=[],
                ),
                Option(
                    "-effects",
                    "list the effects of every organ with their settings, and stop",
                    action=Answer,
                    answer=_effects,
                ),
            ),
            "what is simulated": (
                Option(
                    "-config RECIPE",
                    "healthy, ms, als, compression, or a JSON file with 'simulation': settings by effect, false to "
                    "leave one out (a training recipe will do)",
                ),
                Option("-seed N", "seed of the first scan (default 0)", type=number(int, at_least=0), default=0),
                Option("-slices N", "slices of a scan (default 12)", type=int, default=12),
                Option("-pixel MM", "in-plane pixel size in mm, 0.176 or more (default 0.35)", type=number()),
                Option("-thickness MM", "slice thickness in mm (default 3)", type=number()),
                Option("-fov MM", "field of view in mm (default 72)", type=number(), default=72.0),
                Option("-snr SNR", "signal-to-noise ratio (default 25)", type=number()),
                Option(
                    "-anatomy SOURCE",
                    "AMU7T, PAM50, masks, parametric (necks) or thoracolumbar, instead of the recipe's (default "
                    "parametric); can be repeated",
                    action="append",
                ),
                shared.DATA,
            ),
            "other": (shared.VERBOSE, *shared.ANSWERS),
        },
    )


def _run(args):
    if not (args.output or args.preview):
        raise UsageError("say where the scans go with -o FOLDER, or give -preview FILE.png or -effects")
    if args.beside and not args.preview:
        raise UsageError("-beside draws real scans in -preview; give -preview FILE.png")
    if args.participants and not args.output:
        raise UsageError("-participants describes the scans of -o; give -o FOLDER")

    from sctseg7t.simulate.anatomy import anatomy_folders, load_bank
    from sctseg7t.simulate.dataset import plan_scan, read_recipe, write_participants, write_scan

    recipe = read_recipe(args.config)
    if args.anatomy:
        recipe = recipe.of_sources(args.anatomy)
    quality = {"pixel_mm": args.pixel, "thickness_mm": args.thickness, "snr": args.snr}
    given = {"slices": args.slices, "field_of_view_mm": args.fov, **quality}
    seeds = range(args.seed, args.seed + (args.count or 1)) if args.output else ()
    plans = [plan_scan(recipe, seed, **given) for seed in seeds]
    bank = load_bank(recipe.anatomy, anatomy_folders(args.data), args.seed)
    say = print if args.verbose else lambda path: None
    if args.preview:
        from sctseg7t.simulate.cord import CordSimulator
        from sctseg7t.simulate.preview import contact_sheet
        from sctseg7t.train.scans.labelled import find_scans

        simulator = CordSimulator(bank, recipe.of_quality(**quality).simulation)
        beside = find_scans(args.beside) if args.beside else ()
        say(contact_sheet(simulator, args.count or 12, args.seed, args.preview, recipe.name, beside))
    rows = []
    for plan in plans:
        subject, path = write_scan(args.output, bank, recipe, plan, args.seed)
        # Scans of one seed are one person, whatever the recipe: groups of the same seeds are paired.
        pair = f"{'-'.join(recipe.anatomy)}-{args.seed}-{plan.seed}"
        rows.append({"participant_id": subject, "group": recipe.name, "seed": str(plan.seed), "pair_id": pair})
        say(path)
    if args.participants:
        write_participants(args.output, rows)
    return 0


main = Command(parser, _run, "interrupted; what was written is complete", extra="train")
command = main.process

if __name__ == "__main__":
    command()
