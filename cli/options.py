"""The options that several commands have, each declared once."""

import argparse
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from sctseg7t.errors import UsageError
from sctseg7t.inference.roles import ROLES
from sctseg7t.version import __version__

from .parser import COUNT, Answer, Option, number

if TYPE_CHECKING:
    from sctseg7t.cohort.participants import Participants
    from sctseg7t.inference.segmenter import Options


def _completion(shell: str) -> str:
    from .completion import script

    return script(shell)


def _tasks(_: object) -> str:
    """Tasks and their models, for people."""
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    tasks = {name: entry for name, entry in manifest.tasks().items() if entry["outputs"]}
    width = max(map(len, tasks))
    indent, lines = " " * (width + 1), []
    for name, entry in tasks.items():
        lines += textwrap.wrap(entry["description"], 79, initial_indent=f"{name:{width}} ", subsequent_indent=indent)
        for model in entry["models"]:
            mark = " (default)" if model == entry["default"] else ""
            lines.append(f"{indent}  -m {manifest.model(model).label}{mark}")
    return "\n".join(lines)


def _size(text: str) -> dict[str, float]:
    """Type of ``-remove-small``: 3, 3vox or 0.5mm3, as the post-processing step has it; {} for 0."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)(vox|mm3)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text}: give a size such as 3, 3vox or 0.5mm3")
    size = float(match[1])
    return {"min_mm3" if match[2] == "mm3" else "min_voxels": size} if size else {}


# What commands end with.
HELP = Option("-h --help", "print this help, and stop", action="help")
ANSWERS = (
    Option(
        "-completion bash|zsh|fish",
        "print what makes this shell complete all sct7t commands, and stop; to be used as in "
        'eval "$(%(prog)s -completion bash)"; fish: %(prog)s -completion fish | source',
        action=Answer,
        answer=_completion,
        nargs=None,
    ),
    Option("-version", "print the version, and stop", action="version", version=__version__),
    HELP,
)
VERBOSE = Option("-v --verbose 0|1|2", "0 errors only, 1 normal (default), 2 with timings", default=1)
LIST_TASKS = Option("-list-tasks", "list tasks and models, and stop", action=Answer, answer=_tasks)

TASK = Option(
    "-c --task TASK",
    "gm_sc, gm, sc, brain_lesion, brain_new_lesion; see -list-tasks (default: that of the model, or gm_sc)",
)
MODEL = Option(
    "-m --model MODEL",
    "MODEL or MODEL@VERSION of the zoo, an .onnx file with its .json entry beside it, or an entry with url and hash",
)
SERIES = Option("-series NUMBER|NAME", "of a DICOM folder: the series, by number or description")
QC_VIEWER = Option(
    "-qc-viewer",
    "write a viewer of the volumes (NiiVue, 2.3 MB; a brain about 1.5 MB) beside the QC page; a page that has it keeps "
    "it",
)
STRIP = Option(
    "-strip auto|stripped|network|hd-bet|template",
    "brains: how the brain is found: auto (default), stripped, network, hd-bet or template; auto is: already "
    "stripped, else the network",
    default="auto",
)
SEGMENTATION = (
    Option(
        "-thr T",
        "threshold, above 0 and below 1 (default: the model's own rule; for the shipped cord models that is "
        "the area: a mask gets as many voxels as its fractions sum to)",
        type=number(above=0, below=1),
    ),
    Option("-soft", "save partial-volume fractions, within 1 mm of the mask, instead of the mask"),
    Option("-largest 0|1", "keep the largest component of each slice (default: as the model has it)"),
    Option("-fill-holes 0|1", "fill holes (default: as the model has it)"),
    Option("-remove-small N[vox|mm3]", "remove smaller components; 0 removes none", type=_size),
    Option(
        "-bias auto|on|off",
        "brains: N4 bias correction; auto (default): unless the scan looks corrected already",
        default="auto",
    ),
    STRIP,
    Option("-spaces baseline|halfway ...", "follow-ups: write masks on these grids too"),
    Option(
        "-uncertainty",
        "write a map of how far the model's networks disagree (of one network: about the scan and its mirror image), "
        "and the spread of each slice or lesion in the tables",
    ),
    Option("-volumes each|mean", "4D scans: segment each volume (default) or their mean", default="each"),
    Option(
        "-nan zero|refuse",
        "NaN or infinite voxels: take them as 0 with a warning (default), or refuse the scan",
        default="zero",
    ),
)
CORRECTED = (
    Option(
        "-corrections FOLDER|none",
        "corrected masks, as SCT's manual_correction keeps them: they are measured in place of our own (default: "
        "derivatives/labels of the data set; none: only masks that were edited where they lie)",
    ),
    Option("-overwrite", "replace also masks that were edited by hand; a copy of them is kept in replaced/"),
)
DATA = Option(
    "-data FOLDER",
    "folder made by sct7t_download export, or SOURCE=FOLDER (AMU7T, PAM50, masks)",
    action="append",
    default=[],
)


def device(threads: str = "all this process may use") -> tuple[Option, ...]:
    """``-device``, ``-threads`` and ``-offline``; ``threads`` says how many there are by default."""
    return (
        Option("-device NAME", "auto (default), cpu, cuda or cuda:N", default="auto"),
        Option("-threads N", f"CPU threads (default: {threads})", type=COUNT),
        Option("-offline", "never download"),
    )


def files(metavar: str = "FILE", suffix: str = "", **more: str) -> tuple[Option, ...]:
    """An option for every file that can go with a scan; ``more`` is added to the help of a role."""
    return tuple(
        Option(f"-{role.name} {metavar}", role.help + more.get(role.name, "") + suffix) for role in ROLES.values()
    )


def given_files(args: argparse.Namespace) -> dict[str, str]:
    """Files that go with the scan, by role, of those that were given."""
    return {name: value for name in ROLES if (value := getattr(args, name))}


def pipeline_options(args: argparse.Namespace) -> "Options":
    """The pipeline's :class:`Options` that parsed arguments amount to."""
    from sctseg7t.inference.segmenter import Options

    return Options(
        threshold=args.thr,
        soft=args.soft,
        volumes=args.volumes,
        nan=args.nan,
        bias=args.bias,
        strip=args.strip,
        spaces=tuple(args.spaces or ()),
        uncertainty=args.uncertainty,
        largest=None if args.largest is None else bool(args.largest),
        fill_holes=None if args.fill_holes is None else bool(args.fill_holes),
        remove_small=args.remove_small,
    )


def participants(args: argparse.Namespace) -> tuple[Path | None, "Participants"]:
    """The participants.tsv that is given, else that of the data set; (None, nobody) if it has none.

    Raises
    ------
    UsageError
        It cannot be read, or does not have the column that ``-group`` names.
    """
    from sctseg7t.cohort.participants import Participants, read_participants

    own = Path(args.input or "", "participants.tsv")
    path = Path(args.participants) if args.participants else own if args.input and own.is_file() else None
    found = read_participants(path) if path else Participants({}, {}, {})
    if args.group and args.group not in found.columns:
        known = f"; it has {', '.join(found.columns)}" if found.columns else ""
        raise UsageError(f"-group {args.group}: no such column in {path or 'any participants.tsv'}{known}")
    return path, found
