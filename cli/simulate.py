"""sct7t_simulate: make synthetic T2*-weighted cord scans with their true tissue fractions."""

import argparse

from sctseg7t.cli import add_data_option


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_simulate",
        description="Simulate T2*-weighted axial cord scans with the true SC and GM fractions of every voxel.",
        allow_abbrev=False,
    )
    p.add_argument("-o", "--output", required=True, metavar="FOLDER")
    p.add_argument("-n", "--count", type=int, default=1, help="number of scans (default 1)")
    p.add_argument("-seed", "--seed", type=int, default=0, help="seed of the first scan (default 0)")
    p.add_argument("-slices", "--slices", type=int, default=12)
    p.add_argument(
        "-pixel", "--pixel", type=float, default=0.35, help="in-plane pixel size in mm, 0.176 or more (default 0.35)"
    )
    p.add_argument("-thickness", "--thickness", type=float, default=3.0, help="slice thickness in mm (default 3)")
    p.add_argument("-fov", "--fov", type=float, default=72.0, help="field of view in mm (default 72)")
    p.add_argument("-snr", "--snr", type=float, default=25.0)
    p.add_argument("-anatomy", "--anatomy", default="parametric", help="AMU7T, PAM50, masks or parametric (default)")
    add_data_option(p)
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
    from pathlib import Path

    from sctseg7t.errors import OutputError, UsageError
    from sctseg7t.files import write_json
    from sctseg7t.image.volume import save
    from sctseg7t.simulate.anatomy import anatomy_folders, load_bank
    from sctseg7t.simulate.scan import ScanPlan, simulate_scan

    if args.count < 1 or args.seed < 0:
        raise UsageError("-n must be 1 or more, and -seed 0 or more")
    plans = [
        ScanPlan(args.seed + k, args.slices, args.pixel, args.thickness, args.fov, args.snr) for k in range(args.count)
    ]
    bank = load_bank([args.anatomy], anatomy_folders(args.data), args.seed)
    for plan in plans:
        image, truth, record = simulate_scan(bank, plan)
        stem = f"sub-sim{plan.seed:04d}"
        folder = Path(args.output) / stem / "anat"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"{folder}: cannot be made ({err.strerror or err}); choose another -o") from err
        save(image, folder / f"{stem}_T2starw.nii.gz")
        for name, fraction in truth.items():
            save(fraction, folder / f"{stem}_label-{name}_probseg.nii.gz")
        write_json(
            folder / f"{stem}_T2starw.json",
            {"simulated": True, "anatomy": args.anatomy, "anatomy_seed": args.seed, **record},
        )
        print(folder / f"{stem}_T2starw.nii.gz")


if __name__ == "__main__":
    raise SystemExit(main())
