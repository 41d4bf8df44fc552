"""Measures of the development masks against plain numpy, however the files are stored and turned."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import sctseg7t
from sctseg7t.measure.columns import TISSUES

pytestmark = pytest.mark.data
# What does not say where a slice is in the file or the world.
LENGTHS = ("area_mm2", "area_corrected_mm2", "diameter_ap_mm", "diameter_rl_mm", "solidity", "asymmetry")
HALVES = ("area_left_mm2", "area_right_mm2", "area_dorsal_mm2", "area_ventral_mm2")


def plain(image):
    """Area of each slice, from below: the voxels' sum times the pixel's area."""
    image = nib.as_closest_canonical(image)
    across = np.cross(*image.affine[:3, :2].T)
    return np.asarray(image.dataobj, float).sum(axis=(0, 1)) * np.linalg.norm(across)


@pytest.fixture(scope="module")
def masks(data_dir):
    folder = data_dir / "cord" / "gm-challenge" / "derivatives" / "labels" / "sub-9584" / "anat"
    stem = "sub-9584_run-1_T2starw"
    return {"SC": folder / f"{stem}_seg-manual.nii.gz", "GM": folder / f"{stem}_gmseg-manual.nii.gz"}


def test_areas_are_the_sums_of_the_voxels(masks):
    table = sctseg7t.measure_masks(masks).tables[0]
    for tissue, path in masks.items():
        assert table.column(tissue, "area_mm2") == pytest.approx(plain(nib.load(path)))
        for a, b in (HALVES[:2], HALVES[2:]):
            assert table.column(tissue, a) + table.column(tissue, b) == pytest.approx(plain(nib.load(path)))


@pytest.mark.parametrize("code", ["LAS", "RPI", "PIR", "SLA"])
@pytest.mark.parametrize("turn", [None, (0, 0, 12), (9, -7, 0)])
def test_storage_and_turns_of_the_scanner_change_nothing(masks, code, turn):
    expected = sctseg7t.measure_masks(masks).tables[0]
    turned = {}
    for tissue, path in masks.items():
        image = nib.load(path)
        affine = image.affine.copy()
        if turn:
            affine[:3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ affine[:3]
        image = nib.Nifti1Image(np.asarray(image.dataobj), affine)
        way = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(code))
        turned[tissue] = image.as_reoriented(way)
    table = sctseg7t.measure_masks(turned).tables[0]
    for tissue in masks:
        # A scanner turned about the cord turns the axes that its diameters and halves are told by, but for its roll.
        for name in (*LENGTHS, *HALVES):
            assert table.column(tissue, name) == pytest.approx(expected.column(tissue, name), abs=2e-4), name


def test_levels_of_the_template(data_dir):
    folder = data_dir / "template" / "AMU7T"
    read = {tissue: nib.load(folder / f"AMU7T_{tissue.lower()}.nii.gz").slicer[..., ::4] for tissue in TISSUES}
    levels = nib.load(folder / "AMU7T_levels.nii.gz").slicer[..., ::4]
    table = sctseg7t.measure_masks(read, levels=levels).tables[0]
    # Plain: the most frequent level in the cord of each slice, and the mean of the slices' areas.
    canonical = nib.as_closest_canonical(levels)
    cord = np.asarray(nib.as_closest_canonical(read["SC"]).dataobj) >= 0.5
    values = np.rint(np.asarray(canonical.dataobj)).astype(int)
    counts = np.stack([((values == n) & cord).sum(axis=(0, 1)) for n in range(9)])
    level = np.where(counts[1:].any(axis=0), counts[1:].argmax(axis=0) + 1, 0)
    for tissue in TISSUES:
        area = plain(read[tissue])
        means = {row.level: row for row in table.level_rows if row.tissue == tissue}
        assert set(means) - {"all"} == set(level[level > 0].tolist())
        for number in set(level[level > 0].tolist()):
            row = means[number]
            kept = np.isin(np.arange(len(level)), row.slices)
            assert set(np.flatnonzero(kept)) <= set(np.flatnonzero(level == number))
            assert row.mean["area_mm2"] == pytest.approx(area[kept].mean())
            assert row.n_slices == (level == number).sum()
    gray = [abs(row.asymmetry) for row in table.rows if row.tissue == "GM" and row.asymmetry is not None]
    # The template is symmetric by construction.
    assert np.median(gray) < 0.02
