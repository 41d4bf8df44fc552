"""Whole-process cost of the main job, next to sct_deepseg_gm's recipe, in one run.

    python benchmark/speed/speed.py [-runs 5] [-data ../shared/data]

Prints cold start to finished outputs (process start to exit), peak memory, `--help`, the steps inside, and the
networks alone in ONNX Runtime. The scan is the example, padded to 416 x 416 and
20 slices. Figures depend on the machine; quote the ratios. Peers are left out where their weights or
the packages that convert them (h5py, onnx) are absent.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from process import measure, paired

from sctseg7t.report.results_page import name_models, table
from sctseg7t.report.results_page import run as run_with_page

ROOT = Path(__file__).resolve().parents[2]
PEER = "sct_gm_large"
NAME = "`sct7t_deepseg`, 20 slices of 416 x 416"


def make_scan(path, slices=20, size=416):
    """The example scan, padded in plane and repeated through plane."""
    image = nib.load(ROOT / "examples/t2s.nii.gz")
    data = np.asarray(image.dataobj)
    pad = [(size - n) // 2 for n in data.shape[:2]]
    data = np.pad(data, [(p, size - n - p) for p, n in zip(pad, data.shape[:2])] + [(0, 0)], mode="reflect")
    order = np.abs((np.arange(slices) + data.shape[2]) % (2 * data.shape[2]) - data.shape[2]).clip(0, data.shape[2] - 1)
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [pad[0], pad[1], 0]
    nib.Nifti1Image(np.ascontiguousarray(data[..., order]), affine).to_filename(path)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-runs", type=int, default=5)
    p.add_argument("-data", default="../shared/data")
    args = p.parse_args()
    folder = Path(tempfile.mkdtemp())
    scan = folder / "t2s.nii.gz"
    make_scan(scan)
    python = [sys.executable]
    ours = [*python, "-m", "sctseg7t.cli.deepseg", "-i", str(scan), "-ofolder", str(folder / "out"), "-device", "cpu"]
    helped = measure([*python, "-m", "sctseg7t.cli.deepseg", "--help"], runs=args.runs, warmup=1)
    print(f"CPUs {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f} at the start, {args.runs} runs")
    rows = [_row("`sct7t_deepseg --help`", helped)]
    name_models("gm_sc")
    os.environ.setdefault("SCT7T_MIRROR", str(Path(args.data).absolute() / "peers"))
    networks = _peers(folder)
    if PEER in networks:
        peer = [*python, str(ROOT / "benchmark/peers/sct_gm.py"), "-i", str(scan), "-o", str(folder / "peer.nii.gz")]
        both = paired(ours, [*peer, "-onnx", str(networks[PEER])], runs=args.runs, warmup=1)
        rows += [_row(NAME, both["a"]), _row("sct_deepseg_gm's recipe, same scan", both["b"])]
        ratios = [1 / r for r in both["pair_ratios"]]
        rows.append(
            ("times faster than that", f"{1 / both['ratio']:.1f}", f"{min(ratios):.1f} - {max(ratios):.1f}", "")
        )
    else:
        rows.append(_row(NAME, measure(ours, runs=args.runs, warmup=1)))
    table(("whole process", "median", "least - most", "peak memory"), rows)
    seconds = json.loads((folder / "out/t2s_deepseg.json").read_text())["seconds"]
    table(("step inside (last run)", "ms"), [(name, f"{value * 1000:.0f}") for name, value in seconds.items()])
    _networks(networks)


def _row(name, figures):
    wall, peak = figures["wall_s"], figures["peak_mb"]
    if figures["exit_code"]:
        raise SystemExit(f"{name} ended with {figures['exit_code']}")
    spread = f"{wall['min']:.2f} - {wall['max']:.2f} s"
    return name, f"{wall['median']:.2f} s", spread, f"{peak['median']:.0f} MB"


def _peers(folder):
    """ONNX files of the peers' networks that can be had here."""
    from sctseg7t.errors import UserError
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    sys.path.insert(0, str(ROOT / "benchmark/peers"))
    found = {}
    try:
        import unet7t

        unet7t.build_onnx(folder / "unet7t.onnx")
        found["unet of the public 7 T model's shape"] = folder / "unet7t.onnx"
        found[PEER] = weights(load_manifest().model(PEER), offline=True)
    except (ImportError, UserError) as err:
        print(f"Peers are left out: {err}.")
    return found


def _networks(networks, slices=20):
    """Each network alone on 20 slices: our own with its flip, the peers as their recipes run them."""
    from sctseg7t.runtime import open_session
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    spec = load_manifest().model("cord_gm_sc")
    double = 2 if spec.test_time.get("flip_lr") else 1
    jobs = {
        f"{spec.label}{' with flip' if double == 2 else ''}": (
            weights(spec),
            (double * slices, 1, 128, 128),
            double * slices,
        )
    }
    for name, path in networks.items():
        size = 200 if name.startswith("sct") else 128
        jobs[name] = (path, (slices, 1, size, size), 1)
    sessions = {name: open_session(path, "cpu") for name, (path, _, _) in jobs.items()}
    times = {name: [] for name in jobs}
    for _ in range(4):
        for name, (_, shape, batch) in jobs.items():
            images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            begun = time.perf_counter()
            for start in range(0, len(images), batch):
                sessions[name].run(images[start : start + batch])
            times[name].append(time.perf_counter() - begun)
    medians = {name: float(np.median(values[1:])) for name, values in times.items()}
    first = next(iter(medians.values()))
    rows = [(name, f"{seconds:.3f} s", f"{seconds / first:.1f}") for name, seconds in medians.items()]
    table((f"network alone, {slices} slices", "median", "times ours"), rows)


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Speed: one scan"))
