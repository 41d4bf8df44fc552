"""The options that several commands have, each declared once."""

import argparse
from typing import TYPE_CHECKING

from sctseg7t.inference.roles import ROLES

from .parser import Answer, Group, Parser, number, whole_number

if TYPE_CHECKING:
    from sctseg7t.inference.pipeline import Options


def add_other_options(parser: Parser, *, list_tasks: bool = False, verbose: bool = True) -> Group:
    """Add the options that every command ends with, to be called last; returns their group."""
    group = parser.add_argument_group("other")
    if list_tasks:
        group.option("-list-tasks", "list tasks and models, and stop", action=Answer, answer=_tasks)
    if verbose:
        group.option("-v --verbose 0|1|2", "0 errors only, 1 normal (default), 2 with timings", default=1)
    group.option(
        "-completion bash|zsh|fish",
        "print what makes this shell complete all sct7t commands, and stop; to be used as in "
        f'eval "$({parser.prog} -completion bash)"; fish: {parser.prog} -completion fish | source',
        action=Answer,
        answer=_completion,
        nargs=None,
    )
    group.option("-version", "print the version, and stop", action=Answer, answer=_version)
    group.add_argument("-h", "--help", action="help", help="print this help, and stop")
    return group


def _version(_: object) -> str:
    from sctseg7t.version import __version__

    return __version__


def _completion(shell: str) -> str:
    from .completion import script

    return script(shell)


def _tasks(_: object) -> str:
    """Tasks and their models, for people."""
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    width = max(map(len, manifest.tasks()))
    lines = []
    for name, entry in manifest.tasks().items():
        if entry["outputs"]:
            lines.append(f"{name:{width}} {entry['description']}")
            for model in entry["models"]:
                mark = " (default)" if model == entry["default"] else ""
                lines.append(f"{'':{width}}   -m {manifest.model(model).label}{mark}")
    return "\n".join(lines)


def add_device_options(group: Group, *, threads: str = "all this process may use") -> None:
    """Add ``-device``, ``-threads`` and ``-offline``."""
    group.option("-device NAME", "auto (default), cpu, cuda or cuda:N", default="auto")
    group.option("-threads N", f"CPU threads (default: {threads})", type=whole_number())
    group.option("-offline", "never download")


def add_model_options(parser: Parser, *, threads: str = "all this process may use") -> Group:
    """Add the options that choose model and device; returns their group."""
    group = parser.add_argument_group("model and device")
    group.option(
        "-m --model MODEL", "MODEL or MODEL@VERSION of the zoo, or an .onnx file with its .json entry beside it"
    )
    add_device_options(group, threads=threads)
    return group


def add_task_option(group: Group) -> None:
    """Add ``-c``, the task."""
    group.option(
        "-c --task TASK", "gm_sc, gm, sc, brain_lesion; see -list-tasks (default: that of the model, or gm_sc)"
    )


def add_file_options(group: Group, metavar: str = "FILE", suffix: str = "") -> None:
    """Add an option for every file that can go with a scan."""
    for role in ROLES.values():
        group.option(f"-{role.name} {metavar}", role.help + suffix)


def given_files(args: argparse.Namespace) -> dict[str, str]:
    """Files that go with the scan, by role, of those that were given."""
    return {name: value for name in ROLES if (value := getattr(args, name))}


def add_series_option(group: Group) -> None:
    """Add ``-series``, which chooses one series of a DICOM folder."""
    group.option("-series NUMBER|NAME", "of a DICOM folder: the series, by number or description")


def add_strip_option(group: Group) -> None:
    """Add ``-strip``, how the brain is found."""
    group.option(
        "-strip auto|stripped|hd-bet|template",
        "brains: how the brain is found: auto (default), stripped, hd-bet or template; auto is: already "
        "stripped, else HD-BET if installed, else the template",
        default="auto",
    )


def add_segmentation_options(parser: Parser) -> Group:
    """Add the options that change how a model works; returns their group."""
    how = parser.add_argument_group("segmentation")
    how.option(
        "-thr T", "threshold, above 0 and below 1 (default: the model's own rule)", type=number(above=0, below=1)
    )
    how.option("-soft", "save partial-volume fractions, within 1 mm of the mask, instead of the mask")
    how.option("-largest 0|1", "keep the largest component of each slice (default: as the model has it)")
    how.option("-fill-holes 0|1", "fill holes (default: as the model has it)")
    how.option("-remove-small N[vox|mm3]", "remove smaller components; 0 removes none")
    how.option(
        "-bias auto|on|off",
        "brains: N4 bias correction; auto (default): unless the scan looks corrected already",
        default="auto",
    )
    add_strip_option(how)
    how.option("-volumes each|mean", "4D scans: segment each volume (default) or their mean", default="each")
    return how


def pipeline_options(args: argparse.Namespace) -> "Options":
    """The pipeline's :class:`Options` that parsed arguments amount to (UsageError if malformed)."""
    from sctseg7t.inference.segmenter import Options

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


def remove_small_option(text: str | None) -> dict[str, float] | None:
    """Read ``-remove-small``: 3, 3vox or 0.5mm3; None as given, {} for 0."""
    from sctseg7t.errors import UsageError

    if text is None:
        return None
    name, size = "min_voxels", text
    for unit, key in (("vox", "min_voxels"), ("mm3", "min_mm3")):
        if text.endswith(unit):
            name, size = key, text.removesuffix(unit)
    try:
        value = float(size)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"-remove-small {text}: give a size such as 3, 3vox or 0.5mm3")
    return {name: value} if value > 0 else {}


def add_data_option(group: Group) -> None:
    """Add ``-data``, the folders of the anatomy that is simulated from."""
    group.option(
        "-data FOLDER",
        "folder made by sct7t_download export, or SOURCE=FOLDER (AMU7T, PAM50, masks)",
        action="append",
        default=[],
    )
