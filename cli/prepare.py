"""sct7t_prepare: the steps before a brain network, each alone."""

from sctseg7t.errors import InputError, UsageError

from . import options as shared
from .parser import Parser, number
from .run import exit_code, process

EPILOG = """
steps:
  dicom      one series of a DICOM folder to NIfTI (dcm2niix)
  bias       N4 bias field correction
  mask       brain mask: of a stripped scan, by HD-BET if installed, or by the
             MNI template
  normalise  min-max over the brain to 0..1, brain alone
  resample   1 mm isotropic along the world's axes, cut around the brain

examples:
  sct7t_prepare dicom -i DICOM_FOLDER -o flair.nii.gz -series 7
  sct7t_prepare bias -i flair.nii.gz -o flair_n4.nii.gz
  sct7t_prepare mask -i flair_n4.nii.gz -o flair_brainmask.nii.gz
  sct7t_prepare normalise -i flair_n4.nii.gz -o flair_01.nii.gz \\
      -brainmask flair_brainmask.nii.gz
  sct7t_prepare resample -i flair_01.nii.gz -o flair_1mm.nii.gz \\
      -brainmask flair_brainmask.nii.gz

sct7t_deepseg -c brain_lesion does all of them by itself, and leaves out what it sees was done.
"""
STEPS = ("dicom", "bias", "mask", "normalise", "resample")


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_prepare",
        usage="%(prog)s STEP -i PATH -o FILE [options]",
        description="Prepare a brain scan, one step at a time. Research use only.",
        epilog=EPILOG,
    )
    p.add_argument("step", choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    files = p.add_argument_group("input and output")
    files.option("-i --input PATH", "NIfTI scan, or a folder of DICOM files", required=True)
    files.option("-o --output FILE", "NIfTI file to write", required=True)
    files.option("-brainmask FILE", "brain mask (default: found in the scan)")
    how = p.add_argument_group("how")
    shared.add_series_option(how)
    shared.add_strip_option(how)
    how.option(
        "-range LOW HIGH",
        "normalise: percentiles over the brain that become 0 and 1 (default 0 100: plain min-max)",
        type=number(at_least=0, at_most=100),
        default=(0.0, 100.0),
    )
    how.option("-spacing MM", "resample: voxel size (default 1)", type=number(at_least=0.2, at_most=5), default=1.0)
    shared.add_other_options(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return exit_code(parser(), _main, argv, interrupted="interrupted; nothing was written", partial=(InputError,))


def _main(args):
    from pathlib import Path

    if not args.range[0] < args.range[1]:
        raise UsageError(f"-range {args.range[0]:g} {args.range[1]:g}: give the lower percentile first")
    if Path(args.output).resolve() == Path(args.input).resolve():
        raise UsageError(f"-o {args.output}: is the input; choose another name")
    done = _dicom(args) if args.step == "dicom" else _step(args)
    if args.verbose:
        print(f"{args.output}: {done}")
    return 0


def _dicom(args):
    """Convert a DICOM folder; what was done, in words."""
    from sctseg7t.brain.dicom import to_nifti

    to_nifti(args.input, args.output, series=args.series)
    return f"from {args.input}"


def _step(args):
    """Do one step on a NIfTI scan; what was done, in words."""
    import nibabel as nib
    import numpy as np

    from sctseg7t.brain.isotropic_grid import grid_around, to_grid
    from sctseg7t.brain.normalise import normalise
    from sctseg7t.brain.segmenter import prepare
    from sctseg7t.image.masks import labels_on_scan
    from sctseg7t.image.nifti import save
    from sctseg7t.image.volume import load, to_native

    volume = load(args.input, axial=False)
    if volume.data.shape[3] > 1:
        raise InputError(f"{volume.name}: has {volume.data.shape[3]} volumes; give one of them")
    data, affine = volume.data[..., 0], volume.affine
    mask = labels_on_scan(args.brainmask, volume)[0] > 0 if args.brainmask else None
    brain = ""
    if mask is None or args.step in ("bias", "mask"):
        bias = "on" if args.step == "bias" else "off"
        ready = prepare(data, affine, name=volume.name, mask=mask, bias=bias, strip=args.strip)
        mask = ready.mask
        data = ready.data if args.step == "bias" else data
        brain = f"brain mask ({ready.details['brain_mask']}), {ready.details['brain_ml']:.0f} mL"
    if args.step == "bias":
        save(to_native(volume, data, np.float32), args.output)
        return "bias corrected (N4)"
    if args.step == "mask":
        save(to_native(volume, mask, np.uint8), args.output)
        return brain
    if args.step == "normalise":
        low, high = args.range
        values = normalise(data, mask, "percentile", {"low": low, "high": high})
        save(to_native(volume, values, np.float32), args.output)
        return "0 to 1 over the brain"
    grid = grid_around(mask, affine, spacing_mm=args.spacing)
    save(nib.Nifti1Image(to_grid(data, affine, grid), grid.affine), args.output)
    return f"{' x '.join(map(str, grid.shape))} voxels of {args.spacing:g} mm"


def command() -> None:
    """Run the command as a process of its own."""
    process(main)


if __name__ == "__main__":
    command()
