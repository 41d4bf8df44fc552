"""The QC page's size, the time and memory to make it, and the time a browser needs to show it.

    python benchmark/speed/qc.py                 # 60 and 500 scans
    python benchmark/speed/qc.py -n 60 -slices 20

Scans are made up of noise and two ellipses at 0.3 mm: pictures of noise compress worst. Loading is timed in
headless Chromium if playwright and a Chromium are installed, until the first scan's slices are decoded.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

SPACING_MM = (0.3, 0.3, 3.0)
COLUMNS = (
    *("scans", "pages", "size, MB", "largest page, MB", "MB a scan", "made in, s", "again, s", "memory, MB"),
    *("shown in, s", "next scan, ms"),
)


def parser():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-n", type=int, nargs="+", default=[60, 500], metavar="N", help="numbers of scans")
    p.add_argument("-slices", type=int, default=12, help="slices of a scan (default 12)")
    return p


def main():
    args = parser().parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for count in args.n:
        with tempfile.TemporaryDirectory() as folder:
            print(row(Path(folder), count, args.slices), flush=True)


def row(folder, count, slices):
    write_results(folder / "out", count, slices)
    seconds, again = make(folder), make(folder)
    pages = sorted((folder / "qc").glob("*.html"))
    sizes = [path.stat().st_size / 1e6 for path in pages]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shown, following = load_time(max(pages, key=lambda path: path.stat().st_size))
    size = (sum(sizes), 1), (max(sizes), 1), (sum(sizes) / count, 3)
    numbers = (*size, (seconds, 1), (again, 1), (memory, 0), (shown, 2), (following, 0))
    cells = ["-" if value is None else f"{value:.{digits}f}" for value, digits in numbers]
    return f"| {count} | {len(pages)} | {' | '.join(cells)} |"


def write_results(folder, count, slices):
    """Results of made-up scans; two images are shared by all, for the page reads each anew anyway."""
    folder.mkdir(parents=True)
    shape = (240, 240, slices)
    x, y = np.meshgrid(*[np.arange(n) for n in shape[:2]], indexing="ij")
    affine = np.diag([*SPACING_MM, 1.0])
    for n in range(min(2, count)):
        image = np.random.default_rng(n).normal(500, 60, shape).astype(np.float32)
        nib.save(nib.Nifti1Image(image, affine), folder / f"image{n}.nii.gz")
    for n in range(count):
        rng = np.random.default_rng(n)
        a, b = 22 + rng.normal(0, 1.2), 15 + rng.normal(0, 0.8)
        edge = 1 + 0.06 * rng.normal(size=shape)
        radius = np.hypot((x - 120) / a, (y - 118) / b)[..., None]
        sc, gm = radius <= edge, radius <= 0.45 * edge
        outputs = {}
        for tissue, mask in (("SC", sc), ("GM", gm), ("WM", sc & ~gm)):
            outputs[tissue] = f"sub-{n:04d}_{tissue}.nii.gz"
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / outputs[tissue])
        scan = f"image{n % 2}.nii.gz"
        content = {
            "input": {"file": f"sub-{n:04d}_T2starw.nii.gz", "path": scan},
            "outputs": outputs,
            "status": "ok",
            "warnings": [],
        }
        (folder / f"sub-{n:04d}_deepseg.json").write_text(json.dumps(content))


def make(folder):
    from sctseg7t.cohort import find_records
    from sctseg7t.qc import write_page

    start = time.perf_counter()
    write_page(find_records(folder / "out"), folder / "qc")
    return time.perf_counter() - start


def load_time(page):
    """Seconds until the first scan is on the screen, and milliseconds to the next; None without a browser."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        print("playwright is not installed: loading is not timed", file=sys.stderr)
        return None, None
    decoded = "Promise.all([...document.querySelectorAll('.tile img')].map((image) => image.decode()))"
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as err:
            print(f"no Chromium: loading is not timed ({str(err).splitlines()[0]})", file=sys.stderr)
            return None, None
        view = browser.new_page(viewport={"width": 1366, "height": 768})
        view.goto("about:blank")
        start = time.perf_counter()
        view.goto(page.as_uri())
        view.evaluate(decoded)
        shown = time.perf_counter() - start
        times = []
        for _ in range(5):
            start = time.perf_counter()
            view.keyboard.press("j")
            view.evaluate(decoded)
            times.append(1000 * (time.perf_counter() - start))
        browser.close()
    return shown, sorted(times)[2]


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "Speed: QC page"))
