"""sct7t_measure: areas, shapes and tables from masks that exist already."""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.inference.roles import ROLES

from . import options as shared
from .parser import Option, Parser
from .run import Command, Progress, make_folder

EPILOG = """
examples:
  sct7t_measure -sc t2s_seg.nii.gz -gm t2s_gmseg.nii.gz -o t2s_csa.csv
  sct7t_measure -i t2s.nii.gz -masks t2s_*seg.nii.gz -discfile discs.nii.gz \\
      -vert 2:5 -o c2c5.csv
  sct7t_measure -i t2s_seg.nii.gz -vert 3:4 -levels t2s_labeled.nii.gz \\
      -perlevel 1 -csa-format sct -o csa_perlevel.csv
  sct7t_measure -i bids/derivatives/labels -o areas
  sct7t_measure -i results -o areas -exclude-flagged gm_contrast_low

A label image holds several tissues: -sc seg.nii.gz:1,2 -gm seg.nii.gz:2.
In a folder a scan whose masks cannot be used is a row with the reason, and
the others go on (exit code 1). What you corrected among the outputs of
sct7t_deepseg and sct7t_batch is measured as it is now.
"""
_TISSUES = ("SC", "GM", "WM")


def _numbers(text: str) -> tuple[int, ...]:
    """Type of ``-z`` and ``-vert``: 5:15, or 3,5,7:9."""
    found: list[int] = []
    for part in re.split("[,;]", text):
        match = re.fullmatch(r"(\d+)(?::(\d+))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise argparse.ArgumentTypeError(f"{text}: give numbers or ranges such as 5:15 or 3,5,7:9")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(sorted(set(found)))


def _flags(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def parser() -> Parser:
    """The arguments of the command."""
    beside = "; for a folder a path within it with {folder}, {stem}, {sub}, {ses} in it"
    return Parser(
        prog="sct7t_measure",
        usage="%(prog)s [-i IMAGE] -sc FILE [-gm FILE] -o TABLE.csv [options]\n"
        "       %(prog)s -i FOLDER -o FOLDER [options]",
        description="Measure cross-sectional areas and shapes of the spinal cord (SC), gray (GM) and white matter (WM) "
        "from masks that exist: ours, corrected, or anyone's. Research use only.",
        epilog=EPILOG,
        groups={
            "masks": (
                Option(
                    "-i --input IMAGE|FOLDER",
                    "the scan, for contrast measures; or a folder: outputs of a batch, or masks whose names say their "
                    "tissue",
                ),
                *(Option(f"-{t.lower()} FILE[:LABELS]", f"mask or fractions of {t}; or its labels") for t in _TISSUES),
                Option("-masks FILE ...", "masks whose names say their tissue (_seg, _gmseg, _label-WM_mask)"),
                Option("-o --output FILE|FOLDER", "table of one scan, or folder of the tables", required=True),
            ),
            "levels and places": tuple(
                Option(f"-{name} FILE", ROLES[name].help + beside) for name in ("levels", "discfile", "pmj")
            ),
            "which slices": (
                Option("-z SLICES", "only these, from 0, the lowest: 5:15 or 3,5,7:9", type=_numbers),
                Option("-vert LEVELS", "only these vertebral levels: 2:5", type=_numbers),
                Option(
                    "-exclude-flagged FLAG,...",
                    "leave slices with these flags out of means, such as gm_contrast_low,sc_area_jump",
                    type=_flags,
                    default=(),
                ),
            ),
            "tables": (
                Option(
                    "-csa-format tidy|sct",
                    "tidy: rows of slices, and of levels in a second table (default); sct: the columns of "
                    "sct_process_segmentation, one file a mask",
                    default="tidy",
                ),
                Option("-perslice 0|1", "with sct: a row for each slice (default: one over all)", default=0),
                Option("-perlevel 0|1", "with sct: a row for each level", default=0),
                Option(
                    "-normalize TABLE ...",
                    "also give areas normalised: a table (.tsv, .csv) with participant_id and the model's predictors, "
                    "or predictors and values: sex 0 brain-volume 960606; without a model its column factor",
                ),
                Option(
                    "-normalize-model FILE", "coefficients (name, coeff, mean), as in SCT's csa_normalization_models"
                ),
                Option("-participants FILE", "of a folder: joined to the tables (default: its own)"),
            ),
            "other": (shared.VERBOSE, *shared.ANSWERS),
        },
    )


def _run(args):
    from sctseg7t.cohort.measure import Choice

    per = "slice" if args.perslice else "level" if args.perlevel else "all"
    if args.perslice and args.perlevel:
        raise UsageError("-perslice 1 and -perlevel 1: give one of them")
    normalise = None
    if args.normalize or args.normalize_model:
        from sctseg7t.measure.normalise import read_normalisation

        if not args.normalize:
            raise UsageError(f"-normalize-model {args.normalize_model}: give -normalize too, with the predictors")
        normalise = read_normalisation(args.normalize, args.normalize_model)
    choice = Choice(args.z, args.vert, args.exclude_flagged, args.csa_format, per, normalise)
    files = {name: value for name in ("levels", "discfile", "pmj") if (value := getattr(args, name))}
    if {"levels", "discfile"} <= set(files):
        raise UsageError("-levels and -discfile both say the vertebral levels; give one of them")
    given = [name for name in ("sc", "gm", "wm", "masks") if getattr(args, name)]
    if args.input and Path(args.input).is_dir():
        if given:
            raise UsageError(f"-{given[0]}: names a mask, but -i {args.input} is a folder; give one of them")
        return _folder(args, choice, files)
    return _single(args, choice, files, given)


def _single(args, choice, files, given):
    """Measure one scan; the exit code."""
    from sctseg7t.cohort.mask_sets import MaskSet
    from sctseg7t.cohort.measure import measure_to_files, plan_at

    if Path(args.output).is_dir():
        raise UsageError(f"-o {args.output}: is a folder; name the table, such as {Path(args.output) / 'csa.csv'}")
    image = args.input
    if image and not given:
        # As sct_process_segmentation has it: -i is the mask.
        args.masks, image = [image], None
    masks, labels = _named_masks(args)
    for name, path in (*files.items(), *([("i", image)] if image else [])):
        if not Path(path).is_file():
            raise UsageError(f"-{name} {path}: does not exist; check the path")
    if args.vert and not {"levels", "discfile"} & set(files):
        raise UsageError("-vert: nothing says the levels; give -levels or -discfile")
    roles = {name: Path(path) for name, path in files.items()}
    one = MaskSet(Path(args.output).with_suffix(""), masks, labels, Path(image) if image else None, files=roles)
    plan = plan_at(one, Path(args.output), choice)
    _check_place(plan, [*masks.values(), *roles.values(), *([one.image] if one.image else [])])
    outcome = measure_to_files(one, plan, choice)
    if outcome.error:
        print(f"error: {outcome.error}", file=sys.stderr)
    if args.verbose:
        _warn(outcome.warnings)
        if outcome.status != "failed":
            for path in plan.tables.values():
                print(f"  {path}")
    return 1 if outcome.error else 0


def _check_place(plan, inputs):
    """Outputs take no input's place (UsageError otherwise)."""
    from sctseg7t.inference.outputs import file_key

    taken = {file_key(path): path for path in inputs}
    for path in plan.files():
        if file_key(path) in taken:
            raise UsageError(f"-o: {path} is an input; choose another name")


def _named_masks(args):
    """Mask and labels by tissue (UsageError if a name does not say its tissue, or one has two masks)."""
    from sctseg7t.inference.mask_names import parse_name

    named = [(t, *_with_labels(getattr(args, t.lower()))) for t in _TISSUES if getattr(args, t.lower())]
    for text in args.masks or ():
        path, labels = _with_labels(text)
        tissue = parse_name(path).structure
        if tissue not in _TISSUES:
            raise UsageError(f"{text}: its name does not say its tissue; give it as -sc, -gm or -wm")
        named.append((tissue, path, labels))
    if not named:
        raise UsageError("there is no mask: give -sc, -gm, -wm or -masks, or a folder as -i")
    masks, labels = {}, {}
    for tissue, path, values in named:
        if not path.is_file():
            raise UsageError(f"{path}: does not exist; check the path")
        if tissue in masks:
            raise UsageError(f"{path}: {masks[tissue]} is {tissue} too; give one mask of a tissue")
        masks[tissue], labels[tissue] = path, values
    return {tissue: masks[tissue] for tissue in _TISSUES if tissue in masks}, labels


def _with_labels(text: str) -> tuple[Path, tuple[int, ...]]:
    """File and labels of ``seg.nii.gz:1,2``."""
    match = re.fullmatch(r"(.+):(\d+(?:,\d+)*)", text)
    if match and not Path(text).exists():
        return Path(match[1]), tuple(map(int, match[2].split(",")))
    return Path(text), ()


def _folder(args, choice, files):
    """Measure the masks of a folder, and put the cohort's tables together; the exit code."""
    from sctseg7t.cohort.find import Scan
    from sctseg7t.cohort.job import file_beside
    from sctseg7t.cohort.mask_sets import find_mask_sets
    from sctseg7t.cohort.measure import measure_to_files, plan_in
    from sctseg7t.cohort.tables import write_tables

    root = Path(args.input)
    if root.resolve() == Path(args.output).resolve():
        raise UsageError(f"-o {args.output}: is the folder of the masks; name another one for the tables")
    sets = find_mask_sets(root, leave=args.output)
    args.group = None
    participants, _ = shared.participants(args)
    out = make_folder("-o", args.output)
    failed, sidecars = [], []
    with Progress(len(sets), shown=args.verbose > 0) as bar:
        for one in sets:
            relative = one.stem.as_posix() + ".nii.gz"
            notes = []
            if files:
                scan = Scan(root.absolute() / relative, relative, one.name, dict(one.entities))
                beside = {role: file_beside(template, scan, root) for role, template in files.items()}
                notes = [
                    f"{role}: there is no {path}; {ROLES[role].without}"
                    for role, path in beside.items()
                    if not path.is_file()
                ]
                kept = {role: path for role, path in one.files.items() if role not in ("levels", "discfile", "pmj")}
                one = replace(one, files=kept | {role: path for role, path in beside.items() if path.is_file()})
            plan = plan_in(one, out, choice)
            outcome = measure_to_files(one, plan, choice)
            sidecars.append(plan.sidecar)
            if outcome.error:
                failed.append(one.name)
                bar.write(f"error: {one.name}: {outcome.error}")
            elif args.verbose:
                for text in (*notes, *outcome.warnings):
                    bar.write(f"warning: {one.name}: {text}")
            bar.update()
    tables, notes = write_tables(out, paths=sidecars, participants=participants)
    if args.verbose:
        _warn(notes)
        print(f"{len(sets)} scans: {len(sets) - len(failed)} measured, {len(failed)} failed")
        for path in tables:
            print(f"  {path}")
    return 1 if failed else 0


def _warn(notes):
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


main = Command(parser, _run, "interrupted; what is written is complete")
command = main.process

if __name__ == "__main__":
    command()
