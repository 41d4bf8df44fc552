"""sct7t_prepare: the steps before a brain network, each alone."""

from pathlib import Path

from sctseg7t.errors import InputError, UsageError

from . import options as shared
from .parser import Option, Parser, number
from .run import Command

EPILOG = """
steps:
  dicom      one series of a DICOM folder to NIfTI (dcm2niix)
  bias       N4 bias field correction
  mask       brain mask: of a stripped scan, or by the network that finds brains
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

sct7t_deepseg -c brain_lesion does all of them by itself, and leaves out what
it sees was done.
"""
STEPS = ("dicom", "bias", "mask", "normalise", "resample")


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_prepare",
        usage="%(prog)s STEP -i PATH -o FILE [options]",
        description="Prepare a brain scan, one step at a time. Research use only.",
        epilog=EPILOG,
        groups={
            "input and output": (
                Option("-i --input PATH", "NIfTI scan, or a folder of DICOM files", required=True),
                Option("-o --output FILE", "NIfTI file to write", required=True),
                Option("-brainmask FILE", "brain mask (default: found in the scan)"),
            ),
            "how": (
                shared.SERIES,
                shared.STRIP,
                Option("-m --model MODEL", "network that finds the brain (default: brain_mask; another one: mindgrab)"),
                Option(
                    "-range LOW HIGH",
                    "normalise: percentiles over the brain that become 0 and 1 (default 0 100: plain min-max)",
                    type=number(at_least=0, at_most=100),
                    default=(0.0, 100.0),
                ),
                Option(
                    "-spacing MM",
                    "resample: voxel size (default 1)",
                    type=number(at_least=0.2, at_most=5),
                    default=1.0,
                ),
            ),
            "other": (shared.VERBOSE, *shared.ANSWERS),
        },
    )
    p.add_argument("step", choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    return p


def _run(args):
    low, high = args.range
    if not low < high:
        raise UsageError(f"-range {low:g} {high:g}: give the lower percentile first")
    if Path(args.output).resolve() == Path(args.input).resolve():
        raise UsageError(f"-o {args.output}: is the input; choose another name")
    if args.step == "dicom":
        from sctseg7t.brain.dicom import to_nifti

        to_nifti(args.input, args.output, series=args.series)
        done = f"from {args.input}"
    else:
        from sctseg7t.image.nifti import save

        image, done = _step(args)
        save(image, args.output)
    if args.verbose:
        print(f"{args.output}: {done}")
    return 0


def _step(args):
    """Do one step on a NIfTI scan; the image that it makes, and what was done, in words."""
    import nibabel as nib
    import numpy as np

    from sctseg7t.brain.find_brain import open_finder
    from sctseg7t.brain.isotropic_grid import grid_around, to_grid
    from sctseg7t.brain.normalise import normalise
    from sctseg7t.brain.segmenter import prepare
    from sctseg7t.image.masks import labels_on_scan
    from sctseg7t.image.volume import load, to_native

    volume = load(args.input, axial=False)
    if volume.data.shape[3] > 1:
        raise InputError(f"{volume.name}: has {volume.data.shape[3]} volumes; give one of them")
    data, affine = volume.data[..., 0], volume.affine
    mask = labels_on_scan(args.brainmask, volume)[0] > 0 if args.brainmask else None
    if mask is None or args.step in ("bias", "mask"):
        bias = "on" if args.step == "bias" else "off"
        finder = open_finder(args.model) if mask is None and args.strip in ("auto", "network") else None
        ready = prepare(data, affine, name=volume.name, mask=mask, bias=bias, strip=args.strip, finder=finder)
        mask = ready.mask
        if args.step == "bias":
            return to_native(volume, ready.data, np.float32), "bias corrected (N4)"
        if args.step == "mask":
            said = f"brain mask ({ready.details['brain_mask']}), {ready.details['brain_ml']:.0f} mL"
            return to_native(volume, mask, np.uint8), said
    if args.step == "normalise":
        low, high = args.range
        values = normalise(data, mask, "percentile", {"low": low, "high": high})
        return to_native(volume, values, np.float32), "0 to 1 over the brain"
    grid = grid_around(mask, affine, spacing_mm=args.spacing)
    said = f"{' x '.join(map(str, grid.shape))} voxels of {args.spacing:g} mm"
    return nib.Nifti1Image(to_grid(data, affine, grid), grid.affine), said


main = Command(parser, _run, "interrupted; nothing was written", partial=(InputError,))
command = main.process

if __name__ == "__main__":
    command()
