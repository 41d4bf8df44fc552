"""sct7t_deepseg: segment spinal cord and gray matter, and measure their areas."""

import contextlib
import os
import sys
from pathlib import Path

from sctseg7t.errors import InputError, OutputError, UsageError, UserError

from . import options as shared
from .parser import Option, Parser
from .run import Command, Progress, make_folder, tell

EPILOG = """
examples:
  sct7t_deepseg -i t2s.nii.gz -c gm_sc
  sct7t_deepseg -i sub-*_T2starw.nii.gz -ofolder results -soft
  sct7t_deepseg -i t2s.nii.gz -levels t2s_labels.nii.gz -csa-format sct
"""


def parser() -> Parser:
    """The arguments of the command."""
    return Parser(
        prog="sct7t_deepseg",
        usage="%(prog)s -i FILE [FILE ...] [-c TASK] [options]",
        description="Segment spinal cord (SC), gray (GM) and white matter (WM) on axial T2*-weighted slices, "
        "and measure cross-sectional areas. Research use only.",
        epilog=EPILOG,
        groups={
            "input and output": (
                Option(
                    "-i --input FILE ...", "one or many NIfTI scans (2D, 3D or 4D), or DICOM folders", required=True
                ),
                shared.SERIES,
                shared.TASK,
                Option("-o --output FILE", "base name of the outputs (one input); with one tissue, the mask's name"),
                Option("-ofolder FOLDER", "output folder (default: beside the input)"),
                Option(
                    "-csa-format tidy|sct",
                    "tidy: a row per slice and tissue (default); sct: also the columns of sct_process_segmentation, "
                    "one file a mask",
                    default="tidy",
                ),
                Option("-no-csa", "write no area table"),
                Option("-qc FOLDER", "write the QC page of the run there, or add to it"),
                shared.QC_VIEWER,
                Option("-report FILE", "write a JSON report of the whole run"),
            ),
            "model and device": (shared.MODEL, *shared.device()),
            "segmentation": (*shared.SEGMENTATION, *shared.files()),
            "corrected masks": shared.CORRECTED,
            "other": (shared.LIST_TASKS, shared.VERBOSE, *shared.ANSWERS),
        },
    )


def _run(args):
    from sctseg7t.inference import outputs
    from sctseg7t.inference.corrections import folder_of
    from sctseg7t.inference.pipeline import choose_model, open_model
    from sctseg7t.inference.record import options_record, other_scan
    from sctseg7t.inference.scan_run import ReadAhead
    from sctseg7t.inference.segmenter import check_asked, segmenter_for

    options, files = shared.pipeline_options(args), shared.given_files(args)
    inputs, unreadable = _converted(args)
    _check_options(args)
    _check_single(args.output, files, len(inputs))
    chosen = choose_model(args.task, args.model)
    check_asked(chosen.spec, files, options)
    # The first scan is read while the networks are opened.
    first = ReadAhead(inputs[0], options, segmenter_for(chosen.spec).axial)
    progress = Progress(len(inputs), shown=args.verbose > 0)
    segmenter = open_model(
        chosen, args.device, options, threads=args.threads, offline=args.offline, watch=progress.within
    )
    model = segmenter.model
    record = options_record(options, model.task, **files, csa=not args.no_csa, csa_format=args.csa_format)
    plans = [
        outputs.plan(
            path,
            model.suffixes,
            output=args.output,
            folder=args.ofolder,
            tables=[kind for kind in segmenter.tables(files, options) if kind == "uncertainty" or not args.no_csa],
            csa_format=args.csa_format,
            others=files,
            corrections=folder_of(path, args.corrections),
        )
        for path in inputs
    ]
    if args.report:
        _check_report(args.report, plans)
    if args.qc:
        make_folder("-qc", args.qc)
    refused = {**outputs.conflicts(plans), **unreadable}
    if not args.overwrite:
        refused |= {plan.source: reason for plan in plans if (reason := other_scan(plan))}
    outcomes = []
    with progress:
        for plan in plans:
            ahead = first.volume if plan is plans[0] else lambda: None
            outcomes.append(_one(plan, segmenter, record, args, refused.get(plan.source), ahead, progress))
            progress.update()
    _say_where(plans, outcomes, args.verbose)
    code = 1 if any(outcome.error for outcome in outcomes) else 0
    if args.qc or args.report:
        return _write_pages(plans, outcomes, record, args) or code
    return code


def _converted(args):
    """The inputs, DICOM folders replaced by what became of them beside the outputs, and why some could not be."""
    inputs, problems = [], {}
    for path in args.input:
        if os.path.isdir(path):
            from sctseg7t.brain.dicom import to_nifti

            place = Path(args.ofolder or Path(path).absolute().parent)
            try:
                place.mkdir(parents=True, exist_ok=True)
                if next(Path(path).rglob("*.nii*"), None):
                    raise InputError(f"{path}: holds NIfTI files; give those, or the folder to sct7t_batch -i {path}")
                made = to_nifti(path, place, series=args.series)
                if args.verbose:
                    print(f"{path} -> {made}")
                path = str(made)
            except UserError as err:
                problems[Path(path)] = str(err) if str(path) in str(err) else f"{path}: is a folder; {err}"
                with contextlib.suppress(OSError):
                    # Only if it is empty: no folder is made for an input that is none.
                    place.rmdir()
        inputs.append(path)
    return inputs, problems


def _check_options(args):
    """No option is given that changes nothing (UsageError otherwise)."""
    from sctseg7t.inference.outputs import FOREIGN

    if args.series and not any(os.path.isdir(path) for path in args.input):
        raise UsageError(f"-series {args.series}: chooses from a DICOM folder, and no input is one; leave it out")
    if args.no_csa and args.csa_format != "tidy":
        raise UsageError(f"-csa-format {args.csa_format}: no area table is written with -no-csa; give one of the two")
    stem, extension = os.path.splitext(args.output or "")
    if extension.lower() in FOREIGN:
        raise UsageError(f"-o {args.output}: masks are written as NIfTI; name it {stem}.nii.gz")


def _check_single(output, files, count):
    """What belongs to one scan is there, and not given for many; ``-o`` names a file (UsageError otherwise)."""
    for name, path in files.items():
        if count > 1:
            raise UsageError(f"-{name} {path}: belongs to one scan but there are {count} inputs; run them one by one")
        if not os.path.exists(path):
            raise UsageError(f"-{name} {path}: does not exist; check the path")
    if output and count > 1:
        raise UsageError(f"-o names one output but there are {count} inputs; use -ofolder")
    if output and (output.endswith(("/", os.sep)) or os.path.isdir(output)):
        raise UsageError(f"-o {output}: is a folder; name a file, or use -ofolder {output}")


def _check_report(report, plans):
    """The run's report has a place of its own, in a folder that is there (OutputError otherwise)."""
    from sctseg7t.inference.outputs import file_key

    taken = {file_key(path) for plan in plans for path in (*plan.inputs.values(), *plan.files())}
    if file_key(report) in taken:
        raise OutputError(f"-report {report}: would overwrite another file of this run; choose another name")
    if Path(report).is_dir() or not Path(report).absolute().parent.is_dir():
        raise OutputError(
            f"-report {report}: is a folder, or its folder does not exist; name a file in an existing one"
        )


def _one(plan, segmenter, record, args, refused, ahead, progress):
    """Segment one input, and say what came of it."""
    from sctseg7t.inference.scan_run import Outcome, ScanTask, segment_to_files

    if refused:
        outcome = Outcome("failed", refused, "input")
    else:
        say = progress.write if args.verbose > 1 else lambda text: None
        task = ScanTask(plan, record, str(plan.source), overwrite=args.overwrite)
        outcome = segment_to_files(segmenter, task, ahead=ahead, say=say)
        if args.qc and outcome.status != "failed":
            from sctseg7t.qc import keep_card

            with contextlib.suppress(OutputError):
                # Said, once, where the page is written.
                keep_card(plan.sidecar, args.qc, args.qc_viewer)
    if outcome.error:
        progress.write(f"error: {outcome.error}")
    elif args.verbose:
        for text in (*outcome.warnings, *outcome.notes):
            progress.write(f"warning: {plan.source}: {text}")
    if args.verbose > 1 and outcome.seconds:
        steps = ", ".join(f"{name} {value:.2f} s" for name, value in outcome.seconds.items())
        progress.write(f"{plan.source}: {segmenter.model.session.device}, {steps}")
    return outcome


def _say_where(plans, outcomes, verbose):
    """Say where things are, and again at the end what failed."""
    if verbose:
        for plan in (plan for plan, outcome in zip(plans, outcomes) if outcome.status != "failed"):
            print(f"{plan.source} ->")
            for path in plan.files():
                print(f"  {path}")
            lesions = _lesions(plan)
            if lesions:
                print(f"  {lesions}")
        shown = next((plan for plan, outcome in zip(plans, outcomes) if outcome.status == "ok"), None)
        if shown:
            print(f"view: {_view_command(shown)}")
    failed = [plan.source for plan, outcome in zip(plans, outcomes) if outcome.error]
    if failed and len(outcomes) > 1:
        # Why was said when it happened.
        print(f"{len(failed)} of {len(outcomes)} inputs failed:", *failed, sep="\n  ", file=sys.stderr)


def _lesions(plan):
    """What was found in a brain, in words; nothing for a cord."""
    from sctseg7t.inference.record import read_record

    found = (read_record(plan.sidecar).raw.get("brain") or {}).get("lesions")
    if not found:
        return ""
    count, small = found["n_lesions"], found["n_small"]
    more = f" (and {small} smaller than {found['min_diameter_mm']:g} mm, in the volume)" if small else ""
    return f"{count} lesion{'s' * (count != 1)}, {found['load_ml']:.2f} mL{more}"


def _view_command(plan):
    """One line that shows the result in FSLeyes."""
    import shlex

    def quote(path):
        text = str(path)
        # A name that begins with a dash would be an option.
        return shlex.quote(f"./{text}" if text.startswith("-") else text)

    colours = {"SC": "blue", "GM": "red", "WM": "green"}
    parts = [f"fsleyes {quote(plan.source)}"]
    for name, path in plan.masks.items():
        if name not in ("WM", "LABELS") or len(plan.masks) == 1:
            parts.append(f"{quote(path)} -cm {colours.get(name, 'yellow')} -a 50")
    return " ".join(parts) + " &"


def _write_pages(plans, outcomes, options, args):
    """Write the QC page and the report of the run, failed scans on both; the exit code."""
    from sctseg7t.files import write_json
    from sctseg7t.inference.record import FAILED, failure, read_record, record_of

    records, runs = [], []
    for plan, outcome in zip(plans, outcomes):
        ok = outcome.error is None
        runs.append({"input": str(plan.source), "ok": ok, "status": outcome.status, "error": outcome.error})
        if outcome.status == FAILED:
            records.append(record_of(plan.sidecar, failure(plan, outcome.error, outcome.kind)))
        else:
            records.append(read_record(plan.sidecar))
            raw = records[-1].raw
            runs[-1] |= {
                "outputs": [str(path) for path in plan.files()],
                **{name: raw[name] for name in ("model", "locator", "device", "seconds", "warnings")},
                "input_sha256": raw["input"]["sha256"],
            }
    if args.qc:
        from sctseg7t.qc import write_page

        page = write_page(records, args.qc, viewer=args.qc_viewer)
        if args.verbose:
            print(f"QC page: {page}")
    try:
        if args.report:
            write_json(args.report, {"options": options, "runs": runs})
    except OutputError as err:
        tell(f"error: {err}")
        return 1
    return 0


# All files are closed. Taking the runtime and its threads apart would take longer than writing the masks did.
main = Command(parser, _run, "interrupted; what was written is complete", at_once=True)
command = main.process

if __name__ == "__main__":
    command()
