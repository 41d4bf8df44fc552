"""sct7t_deepseg: segment spinal cord and gray matter, and measure their areas."""

import argparse
import contextlib
import os
import sys

from sctseg7t.cli.options import (
    add_label_options,
    add_model_options,
    add_segmentation_options,
    add_task_option,
    add_version_option,
    exit_code,
    given_labels,
    pipeline_options,
)

EPILOG = """examples:
  sct7t_deepseg -i t2s.nii.gz -c gm_sc
  sct7t_deepseg -i sub-*_T2starw.nii.gz -ofolder results -soft
  sct7t_deepseg -i t2s.nii.gz -levels t2s_labels.nii.gz -csa-format sct

exit codes: 0 all well; 1 some input failed or gave nothing usable; 2 wrong usage,
or no model or device to work with; 130 interrupted
"""


def parser():
    p = argparse.ArgumentParser(
        prog="sct7t_deepseg",
        description="Segment spinal cord (SC), gray (GM) and white matter (WM) on axial T2*-weighted slices, "
        "and measure cross-sectional areas. Research use only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main_ = p.add_argument_group("input and output")
    main_.add_argument(
        "-i", "--input", nargs="+", metavar="FILE", help="one or many NIfTI scans (2D, 3D or 4D), or DICOM folders"
    )
    main_.add_argument(
        "-series", "--series", metavar="NUMBER|NAME", help="of a DICOM folder: the series, by number or description"
    )
    add_task_option(main_)
    main_.add_argument(
        "-o", "--output", metavar="FILE", help="base name of the outputs (one input); with one tissue, the mask's name"
    )
    main_.add_argument("-ofolder", "--ofolder", metavar="FOLDER", help="output folder (default: beside the input)")
    main_.add_argument(
        "-csa-format",
        "--csa-format",
        choices=("tidy", "sct"),
        default="tidy",
        help="tidy: a row per slice and tissue (default); sct: the columns of sct_process_segmentation",
    )
    main_.add_argument("-no-csa", "--no-csa", action="store_true", help="write no area table")
    main_.add_argument("-qc", "--qc", metavar="FOLDER", help="write the QC page of the run there, or add to it")
    main_.add_argument("-report", "--report", metavar="FILE", help="write a JSON report of the whole run")
    add_model_options(p)
    how = add_segmentation_options(p)
    add_label_options(how)
    other = p.add_argument_group("other")
    other.add_argument("-list-tasks", "--list-tasks", action="store_true", help="list tasks and models, and stop")
    other.add_argument(
        "-v", "--verbose", type=int, choices=(0, 1, 2), default=1, help="0 errors only, 1 normal, 2 with timings"
    )
    add_version_option(other)
    return p


def main(argv=None):
    """Run the command; returns the exit code."""
    p = parser()
    args = p.parse_args(argv)
    return exit_code("sct7t_deepseg", lambda: _main(p, args), "interrupted; what was written is complete")


def _main(p, args):
    if args.list_tasks:
        return list_tasks()
    if not args.input:
        p.error("-i is required: sct7t_deepseg -i t2s.nii.gz -c gm_sc")
    return _run(args)


def _run(args):
    from sctseg7t import outputs
    from sctseg7t.pipeline import open_segmenter, task_of

    options = pipeline_options(args)
    labels = given_labels(args)
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
    runs, progress = [], _progress(len(plans), args.verbose)
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


def list_tasks():
    """Print tasks and their models; the exit code."""
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    width = max(map(len, manifest.tasks()))
    for name, entry in manifest.tasks().items():
        if entry["outputs"]:
            print(f"{name:{width}} {entry['description']}")
            for model in entry["models"]:
                mark = " (default)" if model == entry["default"] else ""
                print(f"{'':{width}}   -m {manifest.model(model).label}{mark}")
    return 0


class _Silent:
    """Stands in for the progress bar in a pipe."""

    def update(self):
        pass

    def close(self):
        pass

    def write(self, text):
        print(text, file=sys.stderr)


def _progress(count, verbose):
    if count < 2 or verbose == 0 or not sys.stderr.isatty():
        return _Silent()
    from tqdm import tqdm

    class Bar(tqdm):
        def write(self, text):
            tqdm.write(text, file=sys.stderr)

    return Bar(total=count, unit="scan", file=sys.stderr)


def command():
    """Run the command as a process of its own, and leave at once when it is done."""
    code = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # All files are closed. Taking the runtime and its threads apart would take longer than writing the masks did.
    os._exit(code)


if __name__ == "__main__":
    command()
