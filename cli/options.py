"""What the commands have in common, written once: options, and how they end."""

import argparse
import sys


class _Version(argparse.Action):
    """Print the version and stop; read only when it is asked for."""

    def __call__(self, parser, *_):
        from sctseg7t.version import __version__

        print(__version__)
        parser.exit()


def add_version_option(group):
    """Add ``-version``."""
    group.add_argument("-version", "--version", action=_Version, nargs=0, help="print the version, and stop")


def exit_code(command, body, interrupted):
    """Run a command's body; its exit code, with one line on stderr for an error of the user's or an interruption."""
    from sctseg7t.errors import UserError

    try:
        return body()
    except UserError as err:
        print(f"{command}: error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{command}: {interrupted}", file=sys.stderr)
        return 130


def add_model_options(parser, *, threads="all this process may use"):
    """Add the options that choose model and device; returns their group."""
    model = parser.add_argument_group("model and device")
    model.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        help="MODEL or MODEL@VERSION of the zoo, or an .onnx file with its .json entry beside it",
    )
    model.add_argument("-device", "--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    model.add_argument("-threads", "--threads", type=int, metavar="N", help=f"CPU threads (default: {threads})")
    model.add_argument("-offline", "--offline", action="store_true", help="never download")
    return model


def add_task_option(group):
    """Add ``-c``, the task."""
    group.add_argument(
        "-c",
        "--task",
        metavar="TASK",
        help="gm_sc, gm, sc, brain_lesion; see -list-tasks (default: that of the model, or gm_sc)",
    )


# Files that go with a scan: what each is, and what it is for.
LABELS = {
    "centerline": "cord mask or point labels to use in place of the locator",
    "levels": "also measure per vertebral level: a labelled cord, or a point in the middle of each vertebra (no discs)",
    "brainmask": "brain mask to use in place of finding the brain",
}


def add_label_options(group, metavar="FILE", suffix=""):
    """Add an option for every file that can go with a scan."""
    for name, text in LABELS.items():
        group.add_argument(f"-{name}", f"--{name}", metavar=metavar, help=text + suffix)


def given_labels(args):
    """Files that go with the scan, by option, of those that were given."""
    return {name: value for name in LABELS if (value := getattr(args, name))}


def add_segmentation_options(parser):
    """Add the options that change how a model works; returns their group."""
    how = parser.add_argument_group("segmentation")
    how.add_argument("-thr", "--thr", type=float, metavar="T", help="threshold, 0 to 1 (default: the model's)")
    how.add_argument(
        "-soft",
        "--soft",
        action="store_true",
        help="save partial-volume fractions, within 1 mm of the mask, instead of the mask",
    )
    how.add_argument(
        "-largest",
        "--largest",
        type=int,
        choices=(0, 1),
        help="keep the largest component of each slice (default: as the model has it)",
    )
    how.add_argument(
        "-fill-holes", "--fill-holes", type=int, choices=(0, 1), help="fill holes (default: as the model has it)"
    )
    how.add_argument(
        "-remove-small", "--remove-small", metavar="N[vox|mm3]", help="remove smaller components; 0 removes none"
    )
    how.add_argument(
        "-bias",
        "--bias",
        choices=("auto", "on", "off"),
        default="auto",
        help="brains: N4 bias correction; auto (default): unless the scan looks corrected already",
    )
    how.add_argument(
        "-strip",
        "--strip",
        choices=("auto", "stripped", "hd-bet", "template"),
        default="auto",
        help="brains: how the brain is found; auto (default): already stripped, HD-BET if installed, or the template",
    )
    how.add_argument(
        "-volumes",
        "--volumes",
        choices=("each", "mean"),
        default="each",
        help="4D scans: segment each volume (default) or their mean",
    )
    return how


def pipeline_options(args):
    """The pipeline's :class:`Options` that parsed arguments amount to (UsageError if malformed)."""
    from sctseg7t.pipeline import Options

    return Options(
        threshold=args.thr,
        soft=args.soft,
        volumes=args.volumes,
        bias=args.bias,
        strip=args.strip,
        largest=None if args.largest is None else bool(args.largest),
        fill_holes=None if args.fill_holes is None else bool(args.fill_holes),
        remove_small=remove_small_option(args.remove_small),
    )


def remove_small_option(text):
    """Parse ``-remove-small``: 3, 3vox or 0.5mm3; None as given, {} for 0."""
    from sctseg7t.errors import UsageError

    if text is None:
        return None
    name, number = "min_voxels", text
    for unit, key in (("vox", "min_voxels"), ("mm3", "min_mm3")):
        if text.endswith(unit):
            name, number = key, text[: -len(unit)]
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"-remove-small {text}: give a size such as 3, 3vox or 0.5mm3")
    return {name: value} if value > 0 else {}
