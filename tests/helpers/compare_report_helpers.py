"""A made-up comparison: ellipses with noise on their borders, as files, compared by the package itself."""

import nibabel as nib
import numpy as np

from sctseg7t.compare.compare import compare
from sctseg7t.compare.types import Case, Problem, Settings

SHAPE, SPACING_MM = (64, 56, 6), (0.35, 0.4, 4.0)
HOSTILE = "<img src=x onerror=alert(1)>"
# Name: how far the border is off, voxels; how noisy; chance that a slice has nothing.
METHODS = {"ours": (0.0, 0.25, 0.0), "sct_gm_large": (-0.5, 0.5, 0.05), "sct_gm_challenge": (0.5, 0.9, 0.1)}


def masks_of(rng, change=0.0, noise=0.0, lost=0.0, centre=(32.0, 27.0)):
    """Cord and gray matter (X, Y, Z): ellipses whose radius wanders along the border."""
    x, y = np.meshgrid(np.arange(SHAPE[0]) - centre[0], np.arange(SHAPE[1]) - centre[1], indexing="ij")
    angle = np.arctan2(y, x)
    sc, gm = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    for k in range(SHAPE[2]):
        wave = sum(noise * rng.normal() * np.sin(n * angle + rng.uniform(0, 7)) for n in (1, 2, 3))
        radius = np.hypot(x / 17, y / 13) * 15
        sc[..., k] = radius <= 15 + 0.4 * k + change + wave
        horns = np.hypot((np.abs(x) - 4.2) / 2.6, (y + 0.6) / 6.5) * 4
        bridge = np.hypot(x / 4, y / 1.6) * 4
        gm[..., k] = np.minimum(horns, bridge) <= 4 + 0.6 * (change + wave) + 0.1 * k
        if rng.random() < lost:
            gm[..., k] = False
    return {"SC": sc, "GM": gm & sc, "WM": sc & ~gm}


def write_cases(folder, scans=6, methods=METHODS, *, image=True, reference=True, runs=True, seed=0, name="sub-{:02d}"):
    """Scans and masks as files, and their cases; every second subject has a second run."""
    rng = np.random.default_rng(seed)
    cases = []
    for n in range(scans):
        subject = name.format(n // 2 + 1 if runs else n + 1)
        run = str(n % 2 + 1) if runs else None
        stem = f"{subject}_run-{run}" if runs else subject
        truth = masks_of(rng, 0.3 * (n // 2) - 0.5, 0.1)
        found = {"reference": truth} if reference else {}
        found |= {m: masks_of(rng, 0.3 * (n // 2) - 0.5 + how[0], *how[1:]) for m, how in methods.items()}
        place = folder / f"case{n}"
        place.mkdir(parents=True)
        paths = {
            (method, tissue): save(mask.astype(np.uint8), place / f"{number}_{tissue}.nii.gz")
            for number, (method, masks) in enumerate(found.items())
            for tissue, mask in masks.items()
        }
        scan = None
        if image:
            data = (
                120
                + rng.normal(0, 6, SHAPE)
                + 90 * ~truth["SC"] * np.exp(-((np.arange(SHAPE[0]) - 32) ** 2) / 600)[:, None, None]
            )
            data += 40 * truth["GM"]
            data[:20, :16] = 300  # a corner that tells the orientation
            scan = save(data.astype(np.float32), place / "scan.nii.gz")
        entities = {"sub": subject.removeprefix("sub-")} | ({"run": run} if runs else {})
        cases.append(Case(stem, subject, None, run, ("HC", "MS")[n % 2], scan, paths, None, entities))
    return cases


def save(array, path):
    nib.save(nib.Nifti1Image(array, np.diag([*SPACING_MM, 1.0])), path)
    return path


def make_comparison(folder, scans=6, methods=METHODS, *, reference=True, problems=True, settings=Settings(), **how):
    """A Comparison of :func:`write_cases`."""
    cases = write_cases(folder, scans, methods, reference=reference, **how)
    soft = "a/b_gmseg.nii.gz: holds fractions between 0 and 1; give -thr 0.5 to cut them there"
    grid = "c.nii.gz: its grid is not that of scan.nii.gz (32 x 32 x 6 voxels); give -grids resample"
    told = [
        Problem("soft", soft, True, cases[0].name, "ours", "GM", "a/b_gmseg.nii.gz"),
        Problem("grid", grid, True, cases[-1].name, "sct_gm_large", "SC", "c.nii.gz"),
    ]
    provenance = {
        "tool": {"name": "sctseg7t", "version": "1.2.3"},
        "command": "sct7t_compare -i scans -run cord_gm_sc,sct_gm_large -ref masks -o out",
        "date": "2026-01-02T03:04:05Z",
        "software": {"python": "3.11.4", "numpy": "2.1.0"},
    }
    return compare(
        cases,
        tuple(methods),
        "reference" if reference else None,
        settings,
        problems=told if problems else (),
        provenance=provenance,
    )
