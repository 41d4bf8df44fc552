"""Made-up brains with lesions, as the flow writes them: scan, mask, label map, tables and sidecar."""

from pathlib import Path

import numpy as np
from qc_helpers import affine_of, save, write_record

from sctseg7t.measure.lesion_location import Regions
from sctseg7t.measure.lesions import measure_lesions
from sctseg7t.measure.tables import write_lesion_csv, write_load_csv

SHAPE, SPACING_MM = (90, 108, 90), (1.7, 1.7, 1.7)
# Centre and radii, voxels; the last is under 3 mm.
ELLIPSOIDS = (
    ((34, 60, 50), (4, 7, 3)),
    ((58, 52, 55), (3, 3, 5)),
    ((45, 30, 14), (2, 2, 2)),
    ((30, 40, 70), (0, 0, 0)),
)


def head(shape=SHAPE, seed=0):
    """A FLAIR of sorts: scalp, dark skull and fluid, brain with ventricles; brighter to the right of the patient."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    r = np.sqrt((x / 0.85) ** 2 + (y / 0.9) ** 2 + (z / 0.9) ** 2)
    ventricles = (np.abs(np.abs(x) - 0.12) < 0.06) & (np.abs(y) < 0.3) & (np.abs(z - 0.1) < 0.2)
    image = np.where(r < 0.98, 70.0, 0) + np.where(r < 0.9, -60, 0) + np.where(r < 0.84, 90 + 20 * x, 0)
    image[ventricles] = 15
    return np.abs(image + rng.normal(0, 5, shape)).astype(np.float32), ventricles


def ellipsoids(shape=SHAPE, which=ELLIPSOIDS):
    grid = np.indices(shape)
    mask = np.zeros(shape, bool)
    for centre, radii in which:
        mask |= sum(((grid[n] - centre[n]) / max(radii[n], 0.5)) ** 2 for n in range(3)) <= 1
    return mask


def regions_of(ventricles):
    """Maps of the made-up head: cortex far out, everything low infratentorial."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in ventricles.shape], indexing="ij")
    r = np.sqrt((x / 0.85) ** 2 + (y / 0.9) ** 2 + (z / 0.9) ** 2)
    return Regions(ventricles, (r > 0.76) & (r < 0.84), z < -0.55, "made up")


def write_brain(
    folder,
    name="sub-01_FLAIR",
    *,
    axes="RAS",
    image=None,
    mask=None,
    spacing_mm=SPACING_MM,
    regions=True,
    tables=True,
    soft=False,
    raw=None,
    seed=0,
):
    """Write one brain's files; the sidecar's path. ``axes``: the order in which the files store their voxels."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made, ventricles = head(seed=seed) if image is None else (image, None)
    mask = ellipsoids(made.shape) if mask is None else mask
    affine = affine_of(spacing_mm)
    table = measure_lesions(mask, affine, regions_of(ventricles) if regions and ventricles is not None else None)

    scan = folder / f"{name}.nii.gz"
    save(made, affine, scan, axes)
    outputs = {"LESION": f"{name}_lesionseg.nii.gz", "LABELS": f"{name}_lesionlabels.nii.gz"}
    save(mask * np.float32(0.8) if soft else mask.astype(np.uint8), affine, folder / outputs["LESION"], axes)
    save(table.labels, affine, folder / outputs["LABELS"], axes)
    files = [*outputs.values()]
    if tables:
        write_lesion_csv(table, folder / f"{name}_lesions.csv", filename=name, tool_version="1.2.3")
        write_load_csv({name: table.summary()}, folder / f"{name}_lesionload.csv", tool_version="1.2.3")
        files += [f"{name}_lesions.csv", f"{name}_lesionload.csv"]
    more = {
        "model": {"id": "brain_flair", "version": "9.9"},
        "options": {"task": "brain_lesion"},
        "name": name,
        "brain": {"brain_ml": 1400.0, "brain_mask": "template", "lesions": {}},
        **(raw or {}),
    }
    return write_record(folder, name, scan, outputs, files, more)
