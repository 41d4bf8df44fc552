"""Reading masks onto one grid, and the rows and numbers made of them."""

import itertools
import math
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from compare_helpers import AFFINE, SHAPE, disc, write

pytest.importorskip("scipy")
from sctseg7t.compare.read import Grid, difference, read_case  # noqa: E402
from sctseg7t.compare.records import Case, Settings  # noqa: E402
from sctseg7t.compare.repeat import match_slices  # noqa: E402
from sctseg7t.compare.study import compare  # noqa: E402
from sctseg7t.compare.summary import METRICS, value  # noqa: E402
from sctseg7t.measure.agreement import compare_masks  # noqa: E402
from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov  # noqa: E402


def case_of(folder, arrays, *, name="sub-01", affines=None, **fields):
    """A case with a mask by (method, structure)."""
    masks = {
        (method, structure): write(
            folder / f"{name}_{method}_{structure}.nii.gz", array, (affines or {}).get(method, AFFINE)
        )
        for (method, structure), array in arrays.items()
    }
    known = {"subject": name, "session": None, "run": None, "group": None, "image": None, **fields}
    return Case(name, masks=masks, **known)


def problems_of(case, settings=Settings(), reference=None):
    return [(problem.kind, problem.left_out) for problem in read_case(case, settings, reference).problems]


class TestRead:
    def test_stored_order_and_direction_do_not_matter(self, tmp_path):
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
        read = read_case(Case("c", None, None, None, None, None, paths), Settings())
        assert not read.problems and len(read.masks) == 5
        assert all(np.array_equal(found, mask[::-1] > 0) for found in read.masks.values())
        assert read.grid.shape == SHAPE and read.grid.spacing_mm == (0.5, 0.5, 3.0)

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
    def test_refused(self, tmp_path, array, kind, words):
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): array})
        read = read_case(case, Settings())
        (problem,) = read.problems
        assert (problem.kind, problem.left_out, problem.method) == (kind, True, "b")
        assert words in problem.message and str(case.masks["b", "SC"]) in problem.message
        assert set(read.masks) == {("a", "SC")}

    def test_unreadable(self, tmp_path):
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(5)})
        case.masks["b", "SC"].write_bytes(case.masks["b", "SC"].read_bytes()[:200])
        assert problems_of(case) == [("unreadable", True)]

    def test_taken_with_a_note(self, tmp_path):
        soft = disc(5) * np.float32(0.4) + disc(3) * np.float32(0.3)
        case = case_of(tmp_path, {("a", "SC"): disc(3) * 255, ("b", "SC"): soft, ("c", "SC"): disc(3) * 0})
        read = read_case(case, Settings(threshold=0.5))
        assert [(p.kind, p.left_out) for p in read.problems] == [("values", False), ("soft", False), ("empty", False)]
        assert np.array_equal(read.masks["a", "SC"], read.masks["b", "SC"])

    def test_rounding_of_a_scaled_mask_is_no_fraction(self, tmp_path):
        assert problems_of(case_of(tmp_path, {("a", "SC"): disc(5) * np.float32(0.99999)})) == []

    def test_other_grid_is_refused_and_explained(self, tmp_path):
        moved = AFFINE.copy()
        moved[:3, 3] += (1.5, 0, 0)
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(5)}, affines={"b": moved})
        read = read_case(case, Settings())
        assert "+1.50 / +0.00 / +0.00 mm" in read.problems[0].message and "-grids resample" in read.problems[0].message
        assert set(read.masks) == {("a", "SC")}

    def test_resampled_on_request(self, tmp_path):
        fine = np.diag([0.25, 0.25, 3, 1.0])
        coarse = np.diag([0.5, 0.5, 3, 1.0])
        coarse[:2, 3] = 0.125
        mask = disc(5)
        case = case_of(
            tmp_path,
            {("a", "SC"): mask, ("b", "SC"): mask.repeat(2, 0).repeat(2, 1)},
            affines={"a": coarse, "b": fine},
        )
        read = read_case(case, Settings(grids="resample"))
        assert [(p.kind, p.left_out) for p in read.problems] == [("resampled", False)]
        assert np.array_equal(read.masks["a", "SC"], read.masks["b", "SC"])

    def test_resampled_to_nothing_is_refused(self, tmp_path):
        far = AFFINE.copy()
        far[:3, 3] += 500
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(5)}, affines={"b": far})
        assert problems_of(case, Settings(grids="resample")) == [("grid", True)]

    def test_the_reference_gives_the_grid(self, tmp_path):
        moved = AFFINE.copy()
        moved[2, 3] += 1
        arrays = {("a", "SC"): disc(5), ("b", "SC"): disc(5), ("truth", "SC"): disc(5)}
        case = case_of(tmp_path, arrays, affines={"truth": moved})
        read = read_case(case, Settings(), "truth")
        assert set(read.masks) == {("truth", "SC")} and read.grid.affine[2, 3] == moved[2, 3]

    def test_mask_without_orientation_of_the_same_shape_is_taken(self, tmp_path):
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("b", "SC"): disc(4)})
        image = nib.Nifti1Image(disc(4), None)
        image.header["pixdim"][1:4] = (0.5, 0.5, 3)
        nib.save(image, case.masks["b", "SC"])
        assert problems_of(case) == [("grid", False)]

    def test_scan_on_another_grid_is_told(self, tmp_path):
        scan = write(tmp_path / "scan.nii.gz", np.ones((30, 30, 5), np.uint8))
        masks = case_of(tmp_path, {("a", "SC"): disc(5)}).masks
        read = read_case(Case("c", None, None, None, None, scan, {**masks}), Settings())
        # The scan's grid comes before that of a method.
        assert [(p.kind, p.method) for p in read.problems] == [("grid", "a")]
        read = read_case(Case("c", None, None, None, None, scan, {**masks}), Settings(), "a")
        assert [(p.kind, p.method) for p in read.problems] == [("grid", None)] and not read.image_fits

    def test_difference(self):
        grid = Grid(SHAPE, AFFINE, "a")
        turned = AFFINE.copy()
        turned[:2, :2] = turned[:2, :2] @ [[math.cos(0.1), -math.sin(0.1)], [math.sin(0.1), math.cos(0.1)]]
        assert difference(grid, grid) == ""
        assert "40 x 36 x 5" in difference(grid, Grid((40, 36, 6), AFFINE, ""))
        assert "0.5 x 0.5 x 3 mm against 0.6" in difference(grid, Grid(SHAPE, AFFINE @ np.diag([1.2, 1, 1, 1]), ""))
        assert "turned" in difference(grid, Grid(SHAPE, turned, ""))


@pytest.fixture
def pair(tmp_path):
    """Two methods and a truth of two scans; method b misses a slice and has one too many."""
    cases = []
    for k, name in enumerate(("sub-01", "sub-02")):
        truth = disc(6 + k, slices=[0, 1, 2, 3])
        a, b = disc(6, (21, 18), slices=[0, 1, 2, 3]), disc(5, slices=[0, 1, 2, 4])
        b[:, :, 2] = disc(6, (30, 18))[..., 2]
        cases.append(case_of(tmp_path, {("a", "SC"): a, ("b", "SC"): b, ("truth", "SC"): truth}, name=name))
    return cases


class TestRows:
    def test_slices_and_scan_are_those_of_the_measures(self, pair):
        found = compare(pair, ["a", "b"], "truth")
        masks = {key: nib.load(path).get_fdata()[::-1] > 0 for key, path in pair[0].masks.items()}
        for row in found.rows:
            if row.case != "sub-01":
                continue
            two = masks["truth", "SC"], masks[row.method, "SC"]
            if row.where == "slice":
                wanted = compare_masks(*(m[..., row.index] for m in two), (0.5, 0.5))
            else:
                wanted = compare_masks(*two, (0.5, 0.5, 3.0))
            assert asdict(row.agreement) == pytest.approx(asdict(wanted), nan_ok=True)
        slices = [(r.method, r.index, r.outlier) for r in found.rows if (r.case, r.where) == ("sub-01", "slice")]
        assert slices == [
            *(("a", k, "") for k in range(4)),
            ("b", 0, ""),
            ("b", 1, ""),
            ("b", 2, "dice"),
            ("b", 3, "missing"),
            ("b", 4, "extra"),
        ]

    def test_voxels(self, tmp_path):
        rng = np.random.default_rng(1)
        for affine in (AFFINE, AFFINE @ np.diag([1.3, 1, 1, 1])):
            arrays = {(name, "GM"): rng.random(SHAPE) > 0.6 for name in ("a", "truth")}
            case = case_of(
                tmp_path,
                {key: m.astype(np.uint8) for key, m in arrays.items()},
                affines=dict.fromkeys(("a", "truth"), affine),
            )
            for row in compare([case], ["a"], "truth").rows:
                part = (slice(None),) * 2 + ((row.index,) if row.where == "slice" else (slice(None),))
                two = [arrays[name, "GM"][::-1][part] for name in ("truth", "a")]
                unit = compare_masks(*two, (1,) * two[0].ndim)
                assert row.voxels["HDRFDST"] == pytest.approx(unit.hausdorff_all_mm)
                assert row.voxels["AVGDIST_max"] == pytest.approx(unit.average_hausdorff_max_mm)
                assert row.voxels["AVGDIST_mean"] == pytest.approx(unit.average_hausdorff_mean_mm)
                assert row.voxels["VOLSMTY"] == pytest.approx(unit.volumetric_similarity)

    def test_levels(self, tmp_path):
        levels = np.zeros(SHAPE, np.uint8)
        levels[..., :2], levels[..., 2:4] = 4, 3
        labels = write(tmp_path / "levels.nii.gz", levels)
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("truth", "SC"): disc(6)}, levels=labels)
        rows = [row for row in compare([case], ["a"], "truth").rows if row.where == "level"]
        assert [row.index for row in rows] == [3, 4]
        assert rows[0].agreement == compare_masks(disc(6)[..., :2], disc(5)[..., :2], (0.5, 0.5, 3.0))

    def test_levels_of_another_grid_are_told(self, tmp_path):
        labels = write(tmp_path / "levels.nii.gz", np.ones((10, 10, 5), np.uint8))
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("truth", "SC"): disc(6)}, levels=labels)
        found = compare([case], ["a"], "truth")
        assert [p.kind for p in found.problems] == ["grid"] and not any(row.where == "level" for row in found.rows)

    def test_without_reference_each_pair(self, pair):
        found = compare(pair, ["a", "b", "truth"])
        assert {(row.method, row.against) for row in found.rows} == set(itertools.combinations(["a", "b", "truth"], 2))
        assert found.reference is None and {test.metric for test in found.tests} == {"area_mm2"}

    def test_areas(self, pair):
        areas = compare(pair, ["a", "b"], "truth").areas_mm2["sub-01", "b", "SC"]
        assert areas[0] == pytest.approx(disc(5)[..., 0].sum() * 0.25)
        assert np.isnan(areas).tolist() == [False, False, False, True, False]

    def test_a_tissue_of_one_method_alone_is_noted(self, tmp_path):
        case = case_of(tmp_path, {("a", "SC"): disc(5), ("a", "WM"): disc(4), ("truth", "SC"): disc(6)})
        found = compare([case], ["a"], "truth")
        assert found.structures == ("SC",) and ("sub-01", "a", "WM") in found.areas_mm2
        assert [(p.kind, p.structure, p.left_out) for p in found.problems] == [("missing", "WM", False)]

    def test_the_same_mask_of_two_scans_is_noted(self, tmp_path):
        cases = [
            case_of(tmp_path, {("a", "SC"): disc(5), ("truth", "SC"): disc(6, (20, 17 + k))}, name=f"sub-0{k}")
            for k in (1, 2)
        ]
        found = compare(cases, ["a"], "truth")
        assert [(p.kind, p.method, p.left_out) for p in found.problems] == [("duplicate", "a", False)]

    def test_a_reference_made_from_a_method_is_noted(self, tmp_path):
        arrays = {("a", "SC"): disc(5), ("b", "SC"): disc(6), ("truth", "SC"): disc(5)}
        arrays["truth", "SC"][20, 18, 0] = 0
        found = compare([case_of(tmp_path, arrays)], ["a", "b"], "truth")
        assert [(p.kind, p.method, p.left_out) for p in found.problems] == [("identical", "a", False)]
        assert "4 of 5 slices" in found.problems[0].message and "flatters a" in found.problems[0].message

    def test_failure_is_a_setting(self, pair):
        found = compare(pair, ["a"], "truth", Settings(failure_dice=0.99))
        assert {row.outlier for row in found.rows} == {"dice"}


class TestSummary:
    def test_outliers_are_counted_and_left_out(self, pair):
        found = compare(pair, ["a", "b"], "truth")
        for row in found.summary:
            rows = [r for r in found.rows if (r.method, r.where) == (row.method, row.where)]
            kept = [value(r, row.metric) for r in rows if not r.outlier]
            assert (row.n, row.outliers) == (len(rows), len(rows) - len(kept))
            if kept:
                assert row.mean == pytest.approx(np.mean(kept)) and row.median == pytest.approx(np.median(kept))
        assert {row.metric for row in found.summary} == set(METRICS)
        units = {(row.where, row.unit) for row in found.summary if row.metric == "size_difference"}
        assert units == {("slice", "mm2"), ("scan", "mm3")}

    def test_tests(self, pair):
        from sctseg7t.measure.significance import mann_whitney, wilcoxon_signed_rank

        found = compare(pair, ["a", "b"], "truth")
        dice = {
            m: {
                (r.case, r.index): r.agreement.dice
                for r in found.rows
                if (r.method, r.where, r.outlier) == (m, "slice", "")
            }
            for m in "ab"
        }
        tests = {(t.test, t.unit): t for t in found.tests if t.metric == "dice"}
        plain = mann_whitney(list(dice["a"].values()), list(dice["b"].values()))
        assert tests["mann-whitney", "slice"].p == plain.p and tests["mann-whitney", "slice"].n == (8, 4)
        both = [place for place in dice["a"] if place in dice["b"]]
        paired = wilcoxon_signed_rank(*([dice[m][place] for place in both] for m in "ab"))
        assert tests["wilcoxon", "slice"].p == paired.p and tests["wilcoxon", "slice"].n == (4, 4)
        assert tests["wilcoxon", "subject"].n == (2, 2)
        assert all(t.p_holm >= t.p for t in found.tests)
        assert all(
            t.p_holm == min(1, 5 * t.p)
            for t in found.tests
            if t.p == min(u.p for u in found.tests if (u.test, u.unit) == (t.test, t.unit))
        )

    def test_areas_agree(self, pair):
        found = compare(pair, ["a", "b"], "truth")
        a = next(row for row in found.areas if row.method == "a")
        pairs = [
            (found.areas_mm2[c, "a", "SC"][k], found.areas_mm2[c, "truth", "SC"][k])
            for c in ("sub-01", "sub-02")
            for k in range(4)
        ]
        assert np.allclose(a.pairs, pairs) and a.cases == ("sub-01",) * 4 + ("sub-02",) * 4
        assert a.bland_altman == bland_altman(*np.transpose(pairs)) and a.against == "truth"

    def test_repeatability(self, tmp_path):
        higher = AFFINE.copy()
        higher[2, 3] += 3
        cases = []
        for run, radius, affine in (("1", 5, AFFINE), ("2", 6, higher)):
            entities = {"sub": "01", "run": run}
            cases.append(
                case_of(
                    tmp_path,
                    {("a", "SC"): disc(radius), ("b", "SC"): disc(4)},
                    name=f"sub-01_run-{run}",
                    run=run,
                    entities=entities,
                    affines={"a": affine, "b": affine},
                )
            )
        found = {row.method: row for row in compare(cases, ["a", "b"]).repeatability}
        sizes = [disc(r)[..., 0].sum() for r in (5, 6)]
        assert (found["a"].scans, found["a"].slices) == (1, 4)
        assert found["a"].slice_cov == pytest.approx(scan_rescan_cov([sizes[0]], [sizes[1]]))
        assert found["b"].scan_cov == 0

    def test_match_slices(self):
        second = np.diag([0.4, 0.4, 3, 1.0])
        second[:3, 3] = [5, -7, 7]
        found = match_slices((np.diag([0.5, 0.5, 3, 1]), (4, 4, 6)), (second, (5, 5, 6)))
        assert found.tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]


def test_inputs_are_recorded(pair):
    import hashlib

    found = compare(pair, ["a", "b"], "truth", provenance={"command": "x"})
    entry = next(e for e in found.provenance["inputs"]["sub-01"] if e["method"] == "b")
    assert entry["sha256"] == hashlib.sha256(Path(entry["file"]).read_bytes()).hexdigest()
    assert found.provenance["command"] == "x"
