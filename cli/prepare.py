"""sct7t_prepare: the steps before a brain network, each alone."""

import argparse
import sys

from sctseg7t.cli.options import add_version_option, exit_code

EPILOG = """examples:
  sct7t_prepare dicom -i DICOM_FOLDER -o flair.nii.gz -series 7
  sct7t_prepare bias -i flair.nii.gz -o flair_n4.nii.gz
  sct7t_prepare mask -i flair_n4.nii.gz -o flair_brainmask.nii.gz
  sct7t_prepare normalise -i flair_n4.nii.gz -brainmask flair_brainmask.nii.gz -o flair_01.nii.gz
  sct7t_prepare resample -i flair_01.nii.gz -brainmask flair_brainmask.nii.gz -o flair_1mm.nii.gz

sct7t_deepseg -c brain_lesion does all of them by itself, and leaves out what it sees was done.

exit codes: 0 all well; 1 the scan cannot be used; 2 wrong usage; 130 interrupted
"""

STEPS = {
    "dicom": "one series of a DICOM folder to NIfTI (dcm2niix)",
    "bias": "N4 bias field correction",
    "mask": "brain mask: of a stripped scan, by HD-BET if installed, or by the MNI template",
    "normalise": "min-max over the brain to 0..1, brain alone",
    "resample": "1 mm isotropic along the world's axes, cut around the brain",
}


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_prepare",
        description="Prepare a brain scan, one step at a time. Research use only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("step", choices=STEPS, help="; ".join(f"{name}: {text}" for name, text in STEPS.items()))
    p.add_argument("-i", "--input", required=True, metavar="PATH", help="NIfTI scan, or a folder of DICOM files")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="NIfTI file to write")
    p.add_argument("-brainmask", "--brainmask", metavar="FILE", help="brain mask (default: found in the scan)")
    p.add_argument("-series", "--series", metavar="NUMBER|NAME", help="dicom: the series, by number or description")
    p.add_argument(
        "-strip",
        "--strip",
        choices=("auto", "stripped", "hd-bet", "template"),
        default="auto",
        help="how the brain is found (default: auto)",
    )
    p.add_argument(
        "-range",
        "--range",
        nargs=2,
        type=float,
        default=(0.0, 100.0),
        metavar=("LOW", "HIGH"),
        help="normalise: percentiles over the brain that become 0 and 1 (0 100: plain min-max)",
    )
    p.add_argument("-spacing", "--spacing", type=float, default=1.0, metavar="MM", help="resample: voxel size (1)")
    add_version_option(p)
    return p


def main(argv=None):
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return exit_code("sct7t_prepare", lambda: _main(args), "interrupted; nothing was written")


def _main(args):
    from pathlib import Path

    from sctseg7t.errors import InputError, UsageError

    if args.step == "normalise" and not 0 <= args.range[0] < args.range[1] <= 100:
        raise UsageError(f"-range {args.range[0]:g} {args.range[1]:g}: give two percentiles, 0 to 100, the lower first")
    if args.step == "resample" and not 0.2 <= args.spacing <= 5:
        raise UsageError(f"-spacing {args.spacing:g}: give a voxel size from 0.2 to 5 mm")
    if Path(args.output).resolve() == Path(args.input).resolve():
        raise UsageError(f"-o {args.output}: is the input; choose another name")
    try:
        done = _dicom(args) if args.step == "dicom" else _step(args)
    except InputError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    print(f"{args.output}: {done}")
    return 0


def _dicom(args):
    from sctseg7t.brain.dicom import to_nifti

    return f"from {to_nifti(args.input, args.output, series=args.series) and args.input}"


def _step(args):
    import nibabel as nib
    import numpy as np

    from sctseg7t.brain.isotropic_grid import grid_around, to_grid
    from sctseg7t.brain.normalise import normalise
    from sctseg7t.brain.segmenter import prepare
    from sctseg7t.errors import InputError
    from sctseg7t.image.masks import labels_on_scan
    from sctseg7t.image.nifti import save
    from sctseg7t.image.volume import load, to_native

    volume = load(args.input, axial=False)
    if volume.data.shape[3] > 1:
        raise InputError(f"{volume.name}: has {volume.data.shape[3]} volumes; give one of them")
    data, affine = volume.data[..., 0], volume.affine
    mask = labels_on_scan(args.brainmask, volume)[0] > 0 if args.brainmask else None
    needs_brain = mask is None or args.step in ("bias", "mask")
    bias = "on" if args.step == "bias" else "off"
    ready = prepare(data, affine, name=volume.name, mask=mask, bias=bias, strip=args.strip) if needs_brain else None
    mask = ready.mask if ready else mask
    if args.step == "bias":
        save(to_native(volume, ready.data, np.float32), args.output)
        return "bias corrected (N4)"
    if args.step == "mask":
        save(to_native(volume, mask, np.uint8), args.output)
        return f"brain mask ({ready.details['brain_mask']}), {ready.details['brain_ml']:.0f} mL"
    if args.step == "normalise":
        low, high = args.range
        values = normalise(data, mask, "percentile", {"low": low, "high": high})
        save(to_native(volume, values, np.float32), args.output)
        return "0 to 1 over the brain"
    grid = grid_around(mask, affine, spacing_mm=args.spacing)
    save(nib.Nifti1Image(to_grid(data, affine, grid), grid.affine), args.output)
    return f"{' x '.join(map(str, grid.shape))} voxels of {args.spacing:g} mm"


def command():
    """Run the command as a process of its own."""
    sys.exit(main())


if __name__ == "__main__":
    command()
