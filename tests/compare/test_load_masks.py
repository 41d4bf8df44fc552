"""Reading masks onto one grid."""

import nibabel as nib
import numpy as np
import pytest
from compare_helpers import AFFINE, SHAPE, case_of, disc, write

from sctseg7t.compare.load_masks import load_case
from sctseg7t.compare.types import Case, Settings


def problems_of(case, settings=Settings(), reference=None):
    return [(problem.kind, problem.left_out) for problem in load_case(case, settings, reference).problems]


def test_stored_order_and_direction_do_not_matter(tmp_path):
    mask = disc(5, centre=(12, 20))
    mask[3:7, 3, 1] = 1
    image = nib.Nifti1Image(mask, AFFINE)
    paths = {}
    for code in ("LAS", "RAS", "LPI", "ASR", "SRP"):
        turned = image.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(tuple(code)))
        )
        nib.save(turned, tmp_path / f"{code}.nii.gz")
        paths[code, "SC"] = tmp_path / f"{code}.nii.gz"
    loaded = load_case(Case("c", masks=paths), Settings())
    assert not loaded.problems and len(loaded.masks) == 5
    assert all(np.array_equal(found, mask[::-1] > 0) for found in loaded.masks.values())
    assert loaded.grid.shape == SHAPE and loaded.grid.spacing_mm == (0.5, 0.5, 3.0)


@pytest.mark.parametrize(
    ("array", "kind", "words"),
    [
        (disc(5) * 2, "values", "0, 2; write each tissue"),
        (disc(6) + disc(3), "values", "0, 1, 2"),
        (disc(5) * np.float32(0.6), "soft", "-thr 0.5"),
        (np.where(disc(5), np.nan, 0).astype(np.float32), "nan", "replace"),
        (np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32), "values", "is no mask"),
        (np.stack([disc(5), disc(5)], -1), "unreadable", "2 volumes"),
    ],
)
def test_refused(tmp_path, array, kind, words):
    case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): array})
    loaded = load_case(case, Settings())
    (problem,) = loaded.problems
    assert (problem.kind, problem.left_out, problem.method) == (kind, True, "b")
    assert words in problem.message and str(case.masks["b", "SC"]) in problem.message
    assert set(loaded.masks) == {("a", "SC")}


def test_unreadable(tmp_path):
    case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(5)})
    case.masks["b", "SC"].write_bytes(case.masks["b", "SC"].read_bytes()[:200])
    assert problems_of(case) == [("unreadable", True)]


def test_taken_with_a_note(tmp_path):
    soft = disc(5) * np.float32(0.4) + disc(3) * np.float32(0.3)
    case = case_of(tmp_path, {("a", "SC"): disc(3) * 255, ("b", "SC"): soft, ("c", "SC"): disc(3) * 0})
    loaded = load_case(case, Settings(threshold=0.5))
    assert [(p.kind, p.left_out) for p in loaded.problems] == [("values", False), ("soft", False), ("empty", False)]
    assert np.array_equal(loaded.masks["a", "SC"], loaded.masks["b", "SC"])


def test_rounding_of_a_scaled_mask_is_no_fraction(tmp_path):
    assert problems_of(case_of(tmp_path, {("a", "SC"): disc(5) * np.float32(0.99999)})) == []


def test_other_grid_is_refused_and_explained(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += (1.5, 0, 0)
    case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(5)}, affines={"b": moved})
    loaded = load_case(case, Settings())
    assert "+1.50 / +0.00 / +0.00 mm" in loaded.problems[0].message and "-grids resample" in loaded.problems[0].message
    assert set(loaded.masks) == {("a", "SC")}


def test_resampled_on_request(tmp_path):
    fine = np.diag([0.25, 0.25, 3, 1.0])
    coarse = np.diag([0.5, 0.5, 3, 1.0])
    coarse[:2, 3] = 0.125
    mask = disc(5)
    case = case_of(
        tmp_path,
        {("a", "SC"): mask, ("b", "SC"): mask.repeat(2, 0).repeat(2, 1)},
        affines={"a": coarse, "b": fine},
    )
    loaded = load_case(case, Settings(grids="resample"))
    assert [(p.kind, p.left_out) for p in loaded.problems] == [("resampled", False)]
    assert np.array_equal(loaded.masks["a", "SC"], loaded.masks["b", "SC"])


def test_resampled_to_nothing_is_refused(tmp_path):
    far = AFFINE.copy()
    far[:3, 3] += 500
    case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(5)}, affines={"b": far})
    assert problems_of(case, Settings(grids="resample")) == [("grid", True)]


def test_the_reference_gives_the_grid(tmp_path):
    moved = AFFINE.copy()
    moved[2, 3] += 1
    arrays = {("a", "SC"): disc(5), ("b", "SC"): disc(5), ("truth", "SC"): disc(5)}
    case = case_of(tmp_path, arrays, affines={"truth": moved})
    loaded = load_case(case, Settings(), "truth")
    assert set(loaded.masks) == {("truth", "SC")} and loaded.grid.affine[2, 3] == moved[2, 3]


def test_mask_without_orientation_of_the_same_shape_is_taken(tmp_path):
    case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(4)})
    image = nib.Nifti1Image(disc(4), None)
    image.header["pixdim"][1:4] = (0.5, 0.5, 3)
    nib.save(image, case.masks["b", "SC"])
    assert problems_of(case) == [("grid", False)]


def test_scan_on_another_grid_is_told(tmp_path):
    scan = write(tmp_path / "scan.nii.gz", np.ones((30, 30, 5), np.uint8))
    masks = case_of(tmp_path, {("a", "SC"): disc(5)}).masks
    loaded = load_case(Case("c", image=scan, masks=masks), Settings())
    # The scan's grid comes before that of a method.
    assert [(p.kind, p.method) for p in loaded.problems] == [("grid", "a")]
    loaded = load_case(Case("c", image=scan, masks=masks), Settings(), "a")
    assert [(p.kind, p.method) for p in loaded.problems] == [("grid", None)] and not loaded.image_fits
