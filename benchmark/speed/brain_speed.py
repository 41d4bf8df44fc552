"""What the 3D network costs on this machine: patch size, overlap, threads, skipping, provider; then the whole command.

    python benchmark/speed/brain_speed.py [-m brain_lesion_unet] [-i flair.nii.gz ... [-whole]] [-runs 3]

Without a scan, patches run over a brain-sized ellipsoid of noise, which costs the same. Run it once in an
environment with onnxruntime-gpu and once with onnxruntime-openvino to compare providers: each row names the one
that was used. The last table times ``sct7t_deepseg -threads 1`` on each scan as a process of its own, step by step
(with ``-whole`` alone, and with the zoo's default network unless ``-m`` names one). Quote ratios; times depend on the
machine. Where others use it too, wall time says nothing and even seconds of CPU are too many.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sctseg7t.report.results_page import name_models, table
from sctseg7t.report.results_page import run as run_with_page
from sctseg7t.runtime.patches import patch_starts, sliding_patches
from sctseg7t.runtime.session import usable_cpus

ROOT = Path(__file__).resolve().parents[2]
# Voxels of 1 mm: a brain's box and its semi-axes.
SHAPE, RADII = (150, 185, 155), (67, 84, 66)


class Provider:
    """An ONNX Runtime session on one execution provider, as ``sliding_patches`` wants it."""

    def __init__(self, path, provider, threads):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        settings = {"num_of_threads": str(threads)} if provider.startswith("OpenVINO") else {}
        self._session = ort.InferenceSession(str(path), options, providers=[(provider, settings)])
        self.used = self._session.get_providers()[0]

    def run(self, patches):
        return self._session.run(None, {self._session.get_inputs()[0].name: patches})[0]


def brain(channels, seed=0):
    """A volume of noise and the ellipsoid of its brain."""
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    away = sum(((axis - (n - 1) / 2) / r) ** 2 for axis, n, r in zip(axes, SHAPE, RADII))
    volume = np.random.default_rng(seed).normal(size=(channels, *SHAPE)).astype(np.float32)
    return volume, away <= 1


def rows(path, channels, sizes, runs):
    """Seconds of every setting, the least of the runs."""
    import onnxruntime as ort

    volume, inside = brain(channels)
    cpus = usable_cpus()
    for provider in [p for p in ort.get_available_providers() if p.startswith(("CPU", "OpenVINO"))]:
        for size, overlap, threads, skipping in settings(sizes, cpus):
            session = Provider(path, provider, threads)
            mask = inside if skipping else None
            count = len(patch_starts(SHAPE if mask is None else mask, (size,) * 3, overlap))
            seconds = []
            for _ in range(runs):
                start = time.perf_counter()
                sliding_patches(volume, session.run, size=(size,) * 3, overlap=overlap, inside=mask)
                seconds.append(time.perf_counter() - start)
            yield session.used.removesuffix("ExecutionProvider"), size, overlap, threads, skipping, count, min(seconds)


def settings(sizes, cpus):
    """What is varied, one thing at a time, around 64 voxels, an overlap of a half, all CPUs, background left out."""
    usual = 64 if 64 in sizes else sizes[0]
    yield usual, 0.5, cpus, True
    yield usual, 0.5, cpus, False
    yield usual, 0.5, 1, True
    for overlap in (0.25, 0.125):
        yield usual, overlap, cpus, True
    for size in sizes:
        if size != usual:
            yield size, 0.5, cpus, True


def command(model, scan):
    """Times of the steps of ``sct7t_deepseg`` on a scan, and what the process took."""
    from process import measure

    with tempfile.TemporaryDirectory() as folder:
        line = [
            sys.executable,
            "-m",
            "sctseg7t.cli.deepseg",
            "-i",
            scan,
            "-c",
            "brain_lesion",
            *(["-m", model] if model else []),
            "-threads",
            "1",
            "-ofolder",
            folder,
            "-device",
            "cpu",
            "-v",
            "0",
        ]
        cost = measure(line, runs=1, env={"PYTHONPATH": str(ROOT)})
        if cost["exit_code"]:
            raise SystemExit(f"sct7t_deepseg failed: {cost['stderr']}")
        record = json.loads(next(Path(folder).glob("*_deepseg.json")).read_text())
    return record["seconds"], cost


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-m", dest="model", help="default: brain_lesion_unet for patches, the zoo's for the whole command")
    p.add_argument("-i", dest="scans", nargs="+", default=[], metavar="FLAIR", help="scans for the whole command")
    p.add_argument("-sizes", type=int, nargs="+", default=[64])
    p.add_argument("-runs", type=int, default=1)
    p.add_argument("-whole", action="store_true", help="the whole command on the scan only")
    args = p.parse_args(argv)
    if not args.whole:
        patches(args)
    if args.scans:
        whole(args.model, args.scans)
    return 0


def whole(model, scans):
    """Print what the whole command takes, a column a scan."""
    from sctseg7t.zoo.manifest import load_manifest

    name_models(model or "brain_lesion", load_manifest().default_for_task("brain_mask"))
    found = [command(model, scan) for scan in scans]
    names = list(dict.fromkeys(name for steps, _ in found for name in steps))
    rows = [(f"{name}, s", *(f"{steps.get(name, 0):.1f}" for steps, _ in found)) for name in names]
    for text, key in (("whole process, s", "wall_s"), ("CPU, s", "cpu_s"), ("largest memory, MB", "peak_mb")):
        rows.append((text, *(f"{cost[key]['median']:.0f}" for _, cost in found)))
    table(("step", *("/".join(Path(scan).parts[-2:]) for scan in scans)), rows)


def patches(args):
    """Print what the network costs alone."""
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    spec = load_manifest().model(args.model or "brain_lesion_unet")
    name_models(spec)
    path = weights(spec)
    print(f"{spec.label}, {len(spec.input.channels)} channels, brain of {int(brain(1)[1].sum() / 1000)} mL\n")
    print("| provider | patch | overlap | threads | background left out | patches | seconds |")
    print("|---|---|---|---|---|---|---|")
    for provider, size, overlap, threads, skipping, count, seconds in rows(
        path, len(spec.input.channels), args.sizes, args.runs
    ):
        skip = "yes" if skipping else "no"
        print(f"| {provider} | {size} | {overlap} | {threads} | {skip} | {count} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Speed: brains"))
