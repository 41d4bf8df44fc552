"""sct7t_deepseg: segment spinal cord and gray matter, and measure their areas."""

import contextlib
import os
import sys

from . import options as shared
from .parser import Parser
from .run import Progress, exit_code, process

EPILOG = """
examples:
  sct7t_deepseg -i t2s.nii.gz -c gm_sc
  sct7t_deepseg -i sub-*_T2starw.nii.gz -ofolder results -soft
  sct7t_deepseg -i t2s.nii.gz -levels t2s_labels.nii.gz -csa-format sct
"""


def parser() -> Parser:
    """The arguments of the command."""
    p = Parser(
        prog="sct7t_deepseg",
        usage="%(prog)s -i FILE [FILE ...] [-c TASK] [options]",
        description="Segment spinal cord (SC), gray (GM) and white matter (WM) on axial T2*-weighted slices, "
        "and measure cross-sectional areas. Research use only.",
        epilog=EPILOG,
    )
    files = p.add_argument_group("input and output")
    files.option("-i --input FILE ...", "one or many NIfTI scans (2D, 3D or 4D), or DICOM folders", required=True)
    shared.add_series_option(files)
    shared.add_task_option(files)
    files.option("-o --output FILE", "base name of the outputs (one input); with one tissue, the mask's name")
    files.option("-ofolder FOLDER", "output folder (default: beside the input)")
    files.option(
        "-csa-format tidy|sct",
        "tidy: a row per slice and tissue (default); sct: the columns of sct_process_segmentation",
        default="tidy",
    )
    files.option("-no-csa", "write no area table")
    files.option("-qc FOLDER", "write the QC page of the run there, or add to it")
    files.option("-report FILE", "write a JSON report of the whole run")
    shared.add_model_options(p)
    how = shared.add_segmentation_options(p)
    shared.add_label_options(how)
    shared.add_other_options(p, list_tasks=True)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return exit_code(parser(), _run, argv, interrupted="interrupted; what was written is complete")


def _run(args):
    from sctseg7t import outputs
    from sctseg7t.pipeline import open_segmenter, task_of

    options = shared.pipeline_options(args)
    labels = shared.given_labels(args)
    args.input, unreadable = _converted(args)
    outputs.check_single(len(args.input), args.output, **labels)
    task = task_of(args.task, args.model)
    segmenter = open_segmenter(task, args.model, args.device, options, threads=args.threads, offline=args.offline)
    segmenter.check_labels(labels)
    record = outputs.options_record(options, task, **labels, csa=not args.no_csa, csa_format=args.csa_format)
    plans = [
        outputs.plan(
            path,
            segmenter.suffixes(),
            output=args.output,
            folder=args.ofolder,
            tables=() if args.no_csa else segmenter.kinds_of_tables(levels="levels" in labels),
        )
        for path in args.input
    ]
    outputs.check_report(args.report, plans, labels.values())
    refused = {**outputs.conflicts(plans, labels.values()), **unreadable}
    runs, progress = [], Progress(len(plans), shown=args.verbose > 0)
    for plan in plans:
        runs.append(_one(plan, segmenter, record, labels, args, refused.get(plan.source), progress))
        progress.update()
    progress.close()
    code = _closing(plans, runs, args)
    if args.qc:
        _write_qc(args, plans, runs)
    return _report(args.report, {"options": record, "runs": runs}) or code


def _converted(args):
    """The inputs, DICOM folders replaced by what became of them beside the outputs, and why some could not be."""
    from pathlib import Path

    from sctseg7t.errors import UserError

    inputs, problems = [], {}
    for path in args.input:
        if os.path.isdir(path):
            from sctseg7t.brain.dicom import to_nifti

            place = Path(args.ofolder or Path(path).absolute().parent)
            try:
                place.mkdir(parents=True, exist_ok=True)
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


def _report(path, content):
    """Write the report of the run, if one is wanted; 1 if that failed."""
    from sctseg7t.errors import OutputError
    from sctseg7t.files import write_json

    try:
        if path:
            write_json(path, content)
    except OutputError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


def _write_qc(args, plans, runs):
    """Write the QC page of the run; a scan that failed is on it too."""
    from sctseg7t.cohort.records import failed_record, read_record
    from sctseg7t.qc import write_page

    records = [
        read_record(plan.sidecar) if run.get("outputs") else failed_record(plan, run["error"])
        for plan, run in zip(plans, runs)
    ]
    page = write_page(records, args.qc)
    if args.verbose:
        print(f"QC page: {page}")


def _one(plan, segmenter, record, labels, args, refused, progress):
    """Segment one input; a failure is recorded and never stops the others."""
    from sctseg7t import outputs
    from sctseg7t.errors import InputError, UserError
    from sctseg7t.image.volume import check_header

    try:
        if refused:
            raise InputError(refused)
        # First, so that no folder is made for an input that is not there.
        check_header(plan.source, axial=segmenter.AXIAL)
        outputs.check_folder(plan)
        result = segmenter.run(plan.source, **labels)
        seconds = {**segmenter.seconds, **result.seconds}
        sidecar = outputs.provenance(result, plan, segmenter, record, seconds)
        outputs.write(result, plan, sidecar, args.csa_format)
    except UserError as err:
        return _failure(plan, str(err), progress)
    except MemoryError:
        return _failure(plan, f"{plan.source}: not enough memory; crop the scan or close other programs", progress)
    except Exception as err:  # noqa: BLE001
        # A fault of the tool's own: it must not cost the other inputs.
        if args.verbose > 1:
            import traceback

            progress.write(traceback.format_exc())
        reason = " ".join(f"{type(err).__name__}: {err}".split())
        return _failure(
            plan, f"{plan.source}: internal error ({reason}); please report it with what -v 2 says", progress
        )
    error = None
    if not result.usable:
        error = f"{plan.source}: {outputs.NO_CORD}"
        progress.write(f"error: {error}")
    elif args.verbose:
        for text in result.warnings:
            progress.write(f"warning: {plan.source}: {text}")
    if args.verbose > 1:
        steps = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        progress.write(f"{plan.source}: {segmenter.session.device}, {steps}")
    return {
        "input": str(plan.source),
        "ok": result.usable,
        "error": error,
        "outputs": [str(path) for path in plan.files()],
        **{k: sidecar[k] for k in ("model", "locator", "device", "seconds", "warnings")},
        "input_sha256": sidecar["input"]["sha256"],
    }


def _failure(plan, text, progress):
    progress.write(f"error: {text}")
    return {"input": str(plan.source), "ok": False, "error": text}


def _closing(plans, runs, args):
    """Say where things are; the exit code."""
    from sctseg7t import outputs

    failed = [run for run in runs if not run["ok"]]
    if args.verbose:
        for plan, run in zip(plans, runs):
            if run.get("outputs"):
                print(f"{plan.source} ->")
                for path in plan.files():
                    print(f"  {path}")
        shown = next((plan for plan, run in zip(plans, runs) if run["ok"]), None)
        if shown:
            print(f"view: {outputs.view_command(shown)}")
    if failed and len(runs) > 1:
        print(f"{len(failed)} of {len(runs)} inputs failed:", file=sys.stderr)
        for run in failed:
            print(f"  {run['error']}", file=sys.stderr)
    return 1 if failed else 0


def command() -> None:
    """Run the command as a process of its own, and leave at once when it is done."""
    # All files are closed. Taking the runtime and its threads apart would take longer than writing the masks did.
    process(main, at_once=True)


if __name__ == "__main__":
    command()
