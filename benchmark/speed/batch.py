"""Throughput and memory of sct7t_batch, next to sct7t_deepseg called once per scan in a shell loop.

    python benchmark/speed/batch.py [-n 20] [-runs 3] [-memory 10 20 40] [-data FOLDER]

The scans are the example with other intensities, or those of a BIDS folder (for example one that
`sct7t_simulate -o FOLDER -n 40` made). Each run starts with an empty output folder; loop and batch take turns, so
that load on the machine hits both. Memory is the proportional set size of the whole tree of processes, sampled
20 times a second (Linux). Figures depend on the machine; quote the ratios.
"""

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from sctseg7t.report.results_page import name_models, table
from sctseg7t.report.results_page import run as run_with_page

ROOT = Path(__file__).resolve().parents[2]


def make_scans(folder, count, source=None):
    """A BIDS folder of so many scans: links to those of `source`, else the example at other brightnesses."""
    given = sorted(Path(source).absolute().glob("sub-*/**/*_T2starw.nii.gz")) if source else []
    image = nib.load(ROOT / "examples/t2s.nii.gz")
    data = np.asarray(image.dataobj)
    paths = []
    for number in range(count):
        path = folder / f"sub-{number:03d}" / "anat" / f"sub-{number:03d}_T2starw.nii.gz"
        path.parent.mkdir(parents=True)
        if given:
            path.symlink_to(given[number % len(given)])
        else:
            nib.Nifti1Image((data * (1 + number / 100)).astype(np.float32), image.affine).to_filename(path)
        paths.append(path)
    return paths


def commands(bids, paths, out, workers):
    """The shell loop, and the batch, as argument lists."""
    python = shlex.quote(sys.executable)
    files = " ".join(shlex.quote(str(path)) for path in paths)
    single = f"{python} -m sctseg7t.cli.deepseg -i $f -ofolder {shlex.quote(str(out))} -device cpu -v 0"
    loop = ["bash", "-c", f"for f in {files}; do {single} || exit 1; done"]
    batch = [sys.executable, "-m", "sctseg7t.cli.batch", "-i", str(bids), "-o", str(out), "-device", "cpu", "-v", "0"]
    return loop, batch + (["-workers", str(workers)] if workers else [])


def timed(command, out):
    """Seconds of a command from an empty output folder."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def peak_memory(command, out):
    """Peak of the summed memory of a command and its descendants, and of the command alone, MB."""
    shutil.rmtree(out, ignore_errors=True)
    process, peaks = subprocess.Popen(command, stdout=subprocess.DEVNULL), [0.0, 0.0]
    while process.poll() is None:
        tree = [_pss(pid) for pid in _tree(process.pid)]
        if tree:
            peaks = [max(peaks[0], sum(tree)), max(peaks[1], tree[0])]
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"ended with {process.returncode}")
    return peaks


def _tree(pid):
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def _pss(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), 0.0)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-n", type=int, default=20, help="scans of the timed runs")
    p.add_argument("-runs", type=int, default=3)
    p.add_argument("-memory", type=int, nargs="*", default=[10, 20, 40], help="numbers of scans to take the memory of")
    p.add_argument("-data", help="BIDS folder to take the scans from")
    p.add_argument("-workers", type=int)
    args = p.parse_args()
    folder = Path(tempfile.mkdtemp())
    cpus = len(os.sched_getaffinity(0))
    print(f"CPUs {cpus}, load {os.getloadavg()[0]:.1f}, {args.n} scans, median of {args.runs} pairs")
    name_models("gm_sc")
    paths = make_scans(folder / "bids", args.n, args.data)
    loop, batch = commands(folder / "bids", paths, folder / "out", args.workers)
    pairs = [(timed(loop, folder / "out"), timed(batch, folder / "out")) for _ in range(args.runs)]
    again = statistics.median(_again(batch) for _ in range(args.runs))
    loop_s, batch_s = (statistics.median(column) for column in zip(*pairs))
    ratios = ", ".join(f"{a / b:.2f}" for a, b in pairs)
    named = (
        ("shell loop of `sct7t_deepseg`", loop_s),
        ("`sct7t_batch`", batch_s),
        ("the same again, up to date", again),
    )
    rows = [(name, f"{seconds:.2f} s", f"{60 * args.n / seconds:.0f}") for name, seconds in named]
    table((f"{args.n} scans", "median", "scans a minute"), rows)
    print(f"Times faster than the loop: {loop_s / batch_s:.2f} (pairs {ratios}).")
    rows = []
    for count in args.memory:
        place = folder / f"bids-{count}"
        _, batch = commands(place, make_scans(place, count, args.data), folder / "out", args.workers)
        tree, parent = peak_memory(batch, folder / "out")
        rows.append((count, f"{tree:.0f} MB", f"{parent:.0f} MB"))
    table(("scans", "memory of all processes", "of these the parent"), rows)
    shutil.rmtree(folder)


def _again(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Speed: many scans"))
