"""The rows of a comparison, and the numbers made of them."""

import hashlib
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from compare_helpers import AFFINE, SHAPE, case_of, disc, write

from sctseg7t.compare.analysis import match_slices
from sctseg7t.compare.compare import compare
from sctseg7t.compare.findings import cautions
from sctseg7t.compare.metrics import TISSUE
from sctseg7t.compare.report_tables import group_tables
from sctseg7t.compare.subjects import persons
from sctseg7t.compare.types import Settings
from sctseg7t.errors import UsageError
from sctseg7t.image.grid import Grid
from sctseg7t.measure.agreement import compare_masks
from sctseg7t.measure.significance import mann_whitney, wilcoxon_signed_rank
from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov

SAME_NAMES = ("dice", "jaccard", "sensitivity", "precision", "hausdorff95_mm", "assd_mm", "size_difference")


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


def problems_of(found):
    return [(p.kind, p.method, p.structure, p.left_out) for p in found.problems]


def test_the_long_table_has_a_row_for_each_value(pair):
    values = compare(pair, ["a", "b"], "truth").values
    assert not values.value.isna().any() and not values.duplicated(list(values.columns[:-1])).any()
    # A size of a mask alone is compared with nothing.
    assert set(values[values.against == ""].metric) == {"area_mm2"}


def test_slices_and_scan_are_those_of_the_measures(pair):
    rows = compare(pair, ["a", "b"], "truth").rows
    masks = {key: nib.load(path).get_fdata()[::-1] > 0 for key, path in pair[0].masks.items()}
    own = rows[rows.case == "sub-01"]
    for _, row in own.iterrows():
        two = masks["truth", "SC"], masks[row.method, "SC"]
        if row.level == "slice":
            wanted = compare_masks(*(m[..., row["index"]] for m in two), (0.5, 0.5))
        else:
            wanted = compare_masks(*two, (0.5, 0.5, 3.0))
        assert [row[name] for name in SAME_NAMES] == pytest.approx(
            [getattr(wanted, n) for n in SAME_NAMES], nan_ok=True
        )
        assert (row.size_method, row.size_against) == pytest.approx((wanted.mask_size, wanted.reference_size))
    slices = [(r.method, r.outlier) for r in own[own.level == "slice"].itertuples()]
    assert slices == [
        *(("a", "") for _ in range(4)),
        ("b", ""),
        ("b", ""),
        ("b", "dice"),
        ("b", "missing"),
        ("b", "extra"),
    ]


@pytest.mark.parametrize("affine", [AFFINE, AFFINE @ np.diag([1.3, 1, 1, 1])], ids=["square", "oblong"])
def test_distances_in_voxels(tmp_path, affine):
    rng = np.random.default_rng(1)
    arrays = {(name, "GM"): rng.random(SHAPE) > 0.6 for name in ("a", "truth")}
    masks = {key: m.astype(np.uint8) for key, m in arrays.items()}
    case = case_of(tmp_path, masks, affines=dict.fromkeys(("a", "truth"), affine))
    for _, row in compare([case], ["a"], "truth").rows.iterrows():
        part = (..., row["index"]) if row.level == "slice" else (...,)
        two = [arrays[name, "GM"][::-1][part] for name in ("truth", "a")]
        unit = compare_masks(*two, (1,) * two[0].ndim)
        assert row.HDRFDST == pytest.approx(unit.hausdorff_all_mm)
        assert row.AVGDIST_max == pytest.approx(unit.average_hausdorff_max_mm)
        assert row.AVGDIST_mean == pytest.approx(unit.average_hausdorff_mean_mm)
        assert row.VOLSMTY == pytest.approx(unit.volumetric_similarity)


def test_levels(tmp_path):
    levels = np.zeros(SHAPE, np.uint8)
    levels[..., :2], levels[..., 2:4] = 4, 3
    labels = write(tmp_path / "levels.nii.gz", levels)
    case = case_of(tmp_path, {("a", "SC"): disc(5), ("truth", "SC"): disc(6)}, levels=labels)
    rows = compare([case], ["a"], "truth").rows
    rows = rows[rows.level == "level"]
    assert list(rows["index"]) == [3, 4]
    wanted = compare_masks(disc(6)[..., :2], disc(5)[..., :2], (0.5, 0.5, 3.0))
    assert rows.dice.iloc[0] == wanted.dice and rows.assd_mm.iloc[0] == pytest.approx(wanted.assd_mm)


def test_without_reference_each_pair(pair):
    found = compare(pair, ["a", "b", "truth"])
    assert {pair[1:] for pair in found.pairs} == set(itertools.combinations(["a", "b", "truth"], 2))
    assert found.reference is None and set(found.tests.metric) == {"area_mm2"}


def test_what_makes_numbers_doubtful_is_noted(tmp_path):
    arrays = {("a", "SC"): disc(5), ("a", "WM"): disc(4)}
    truths = [disc(6, (20, 17 + k)) for k in (1, 2)]
    cases = [case_of(tmp_path, {**arrays, ("truth", "SC"): truth}, name=f"sub-0{k}") for k, truth in enumerate(truths)]
    found = compare(cases, ["a"], "truth")
    assert found.structures == ("SC",) and "WM" in set(found.values.structure)
    copies = [("duplicate", "a", structure, False) for structure in ("SC", "WM")]
    assert problems_of(found) == [*copies, ("missing", None, "WM", False)]


def test_a_reference_made_from_a_method_is_noted(tmp_path):
    arrays = {("a", "SC"): disc(5), ("b", "SC"): disc(6), ("truth", "SC"): disc(5)}
    arrays["truth", "SC"][20, 18, 0] = 0
    found = compare([case_of(tmp_path, arrays)], ["a", "b"], "truth")
    assert problems_of(found) == [("identical", "a", "SC", False)]
    assert "4 of 5 slices" in found.problems[0].message and "flatters a" in found.problems[0].message


def test_failures_are_in_the_summary_and_left_out_of_the_second_one(pair):
    found = compare(pair, ["a", "b"], "truth")
    failed = 0
    for row in found.summary.itertuples():
        rows = found.rows[(found.rows.method == row.method) & (found.rows.level == row.level)]
        part = rows if row.failures == "kept" else rows[rows.outlier == ""]
        values = part[row.metric]
        finite = values[np.isfinite(values)]
        assert (row.n, row.outliers) == (len(part), (rows.outlier != "").sum())
        assert row.undefined == len(values) - len(finite)
        failed += row.undefined * (row.failures == "kept")
        if len(finite):
            assert row.mean == pytest.approx(finite.mean()) and row.median == pytest.approx(values.median())
    # A slice missed and one too many, in two scans.
    assert failed > 0
    dice = found.summary[(found.summary.metric == "dice") & (found.summary.level == "slice")]
    dice = dice.set_index(["method", "failures"])["mean"]
    assert dice["b", "kept"] < dice["b", "left out"] - 0.3
    assert set(found.summary.metric) == {metric.key for metric in TISSUE if metric.summarised}
    sizes = found.summary[found.summary.metric == "size_difference"]
    assert set(zip(sizes.level, sizes.unit)) == {("slice", "mm2"), ("scan", "mm3")}


def test_tests_between_methods(pair):
    found = compare(pair, ["a", "b"], "truth")
    rows = found.slices()
    dice = {
        m: {(r.case, n): r.dice for r, n in zip(own.itertuples(), own["index"])}
        for m, own in rows[rows.outlier == ""].groupby("method")
    }
    tests = {(t.test, t.over): t for t in found.tests[found.tests.metric == "dice"].itertuples()}
    plain = mann_whitney(list(dice["a"].values()), list(dice["b"].values()))
    unpaired = tests["mann-whitney", "slice"]
    assert unpaired.p == plain.p and (unpaired.n_first, unpaired.n_second) == (8, 4)
    means = [rows[rows.method == m].groupby("subject").dice.mean() for m in "ab"]
    paired = tests["wilcoxon", "subject"]
    assert (paired.n_first, paired.p, paired.better) == (2, wilcoxon_signed_rank(*means).p, "a")
    assert paired.difference == pytest.approx((means[0] - means[1]).mean()) and math.isnan(paired.difference_low)
    # One measure is primary, and its only test needs no correction.
    assert set(found.tests[found.tests.role == "primary"].metric) == {"dice"}
    assert paired.p_holm == paired.p and found.tests[found.tests.metric != "dice"].p_holm.isna().all()
    other = compare(pair, ["a", "b"], "truth", Settings(primary="hausdorff95_mm")).tests
    other = other[(other.role == "primary") & (other.over == "subject")]
    # Half of b's slices of each subject have no distance but the median has.
    assert list(other.metric) == ["hausdorff95_mm"] and list(other.better) == ["a"]


def test_areas_agree(pair):
    found = compare(pair, ["a", "b"], "truth")
    own = found.agreement[found.agreement.method == "a"].set_index("measure")
    areas = found.values[found.values.metric == "area_mm2"].pivot(
        index=["case", "index"], columns="method", values="value"
    )
    assert areas.loc[("sub-01", 0), "b"] == pytest.approx(disc(5)[..., 0].sum() * 0.25)
    both = areas.dropna(subset=["a", "truth"])
    wanted = bland_altman(*both[["a", "truth"]].to_numpy().T, both.index.get_level_values("case"))
    measures = ("bias", "bias_low", "upper", "upper_high", "lower_low")
    assert [own.value[f"csa_{name}"] for name in measures] == pytest.approx([getattr(wanted, n) for n in measures])
    assert set(own.n) == {8} and set(own.subjects) == {2} and own.unit["csa_bias_percent"] == "%"
    # A slice that is missed has an area of 0.
    missing = found.agreement[found.agreement.method == "b"].set_index("measure")
    filled = areas[["b", "truth"]].fillna(0).to_numpy()
    assert missing.value["csa_bias"] == pytest.approx((filled[:, 0] - filled[:, 1]).mean()) and set(missing.n) == {10}
    assert missing.value["csa_bias_percent"] == pytest.approx(
        found.slices()[found.slices().method == "b"].size_difference_percent.mean()
    )


def test_repeatability_of_areas_at_one_height(tmp_path):
    higher = AFFINE.copy()
    higher[2, 3] += 3
    cases = [
        case_of(
            tmp_path,
            {("a", "SC"): disc(radius), ("b", "SC"): disc(4)},
            name=f"sub-01_run-{run}",
            run=run,
            entities={"sub": "01", "run": run},
            affines={"a": affine, "b": affine},
        )
        for run, radius, affine in (("1", 5, AFFINE), ("2", 6, higher))
    ]
    found = compare(cases, ["a", "b"]).agreement
    found = found[found.against == "second run"].set_index(["method", "measure"])
    slices, scans = found.loc[("a", "csa_scan_rescan_cov_slice")], found.loc[("a", "csa_scan_rescan_cov_scan")]
    sizes = [disc(r)[..., 0].sum() for r in (5, 6)]
    assert (scans.n, slices.n) == (1, 4)
    assert slices.value == pytest.approx(scan_rescan_cov([sizes[0]], [sizes[1]]))
    assert found.value["b", "csa_scan_rescan_cov_scan"] == 0


def test_slices_at_one_height():
    second = np.diag([0.4, 0.4, 3, 1.0])
    second[:3, 3] = [5, -7, 7]
    found = match_slices(Grid((4, 4, 6), np.diag([0.5, 0.5, 3, 1])), Grid((5, 5, 6), second))
    assert found.tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]


def test_a_method_that_fails_on_most_slices_does_not_win(tmp_path):
    """The reference moved by up to two pixels, one slice empty, one far off: perfect where it has not failed."""
    cases = []
    for n in range(7):
        truth = {"GM": disc(3, (20, 18 + n % 3))}
        shifted = np.stack([np.roll(truth["GM"][..., k], move, 0) for k, move in enumerate((0, 0, 4, 4, 4))], -1)
        shifted[..., 3] = 0
        arrays = {("ours", "GM"): disc(4, (20, 18 + n % 3)), ("shifted", "GM"): shifted}
        cases.append(case_of(tmp_path, {**arrays, ("truth", "GM"): truth["GM"]}, name=f"sub-0{n}"))
    found = compare(cases, ["ours", "shifted"], "truth")
    dice = found.summary[(found.summary.metric == "dice") & (found.summary.level == "slice")]
    dice = dice.set_index(["failures", "method"])["mean"]
    assert dice["left out", "shifted"] == 1 > dice["left out", "ours"]
    assert dice["kept", "shifted"] < 0.6 < dice["kept", "ours"]
    test = found.tests[(found.tests.metric == "dice") & (found.tests.over == "subject")].iloc[0]
    assert test.better == "ours" and test.p_holm < 0.05 and test.difference_low > 0.1
    told = cautions(found)
    assert any("21 of 35 slices" in text and "Cite the numbers over all slices" in text for text in told)
    assert any("order of the methods" in text and "from ours, shifted to shifted, ours" in text for text in told)


def test_sessions_of_one_person_are_one_subject(pair):
    cases = [replace(case, subject=f"7Ses{n}") for n, case in enumerate(pair, start=1)]
    noted = compare(cases, ["a"], "truth")
    assert noted.summary.subjects.max() == 2
    assert [p.message for p in noted.problems if p.kind == "subject"][0].startswith("7Ses1 and 7Ses2")
    for told, participants in ((r"(\d+)Ses", {}), ("person", {"7Ses1": {"person": "x"}, "7Ses2": {"person": "x"}})):
        found = compare(persons(cases, told, participants), ["a"], "truth")
        assert set(found.summary.subjects) == {1} and found.summary.low.isna().all()
        assert not [p for p in found.problems if p.kind == "subject"]
    with pytest.raises(UsageError, match="found in no subject"):
        persons(cases, "person", {})
    with pytest.raises(UsageError, match="no regular expression"):
        persons(cases, "(", {})


def test_summaries_by_group(pair):
    cases = [replace(case, group=group) for case, group in zip(pair, ("HC", "MS"))]
    found = compare(cases, ["a", "b"], "truth")
    dice = found.summary[(found.summary.metric == "dice") & (found.summary.level == "slice")]
    dice = dice[dice.failures == "kept"].set_index(["group", "method"])
    slices = found.slices()
    for group, case in (("HC", "sub-01"), ("MS", "sub-02")):
        own = slices[(slices.case == case) & (slices.method == "b")]
        assert (dice["mean"][group, "b"], dice.n[group, "b"]) == (pytest.approx(own.dice.mean()), len(own))
    assert [row[0] for row in group_tables(found)[0].rows] == ["HC", "HC", "MS", "MS"]


def test_masks_that_were_corrected_are_told(pair):
    """By the record that lies beside our own outputs."""
    masks = [case.masks["a", "SC"] for case in pair]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in masks]
    for path, digest in zip(masks, digests):
        record = {"files": {path.name: {"sha256": digest}}}
        path.with_name(path.name.replace(".nii.gz", "_deepseg.json")).write_text(json.dumps(record))
    assert not [p for p in compare(pair, ["a", "b"], "truth").problems if p.kind == "corrected"]
    write(masks[1], disc(7, slices=[0, 1]))
    found = compare(pair, ["a", "b"], "truth")
    (told,) = [p for p in found.problems if p.kind == "corrected"]
    assert (told.method, told.case, told.left_out) == ("a", "sub-02", False) and told.message in cautions(found)
    # A drawn mask in place of ours is in its record.
    record = {"files": {}, "corrections": {"masks": {"SC": {"origin": "labels", "sha256": digests[0]}}}}
    record["files"][masks[0].name] = {"sha256": digests[0]}
    masks[0].with_name(masks[0].name.replace(".nii.gz", "_deepseg.json")).write_text(json.dumps(record))
    (told,) = [p for p in compare(pair, ["a", "b"], "truth").problems if p.kind == "corrected"]
    assert told.message.startswith("SC: 2 masks of a corrected by hand (sub-01, sub-02)")


def test_slices_in_which_the_reference_was_not_drawn(pair):
    def of(settings):
        return compare(pair, ["b"], "truth", settings)

    found, partial = of(Settings()), of(Settings(partial=True))
    assert (found.slices().outlier == "extra").sum() == 2 and "-partial" in " ".join(cautions(found))
    assert not (partial.slices().outlier == "extra").any() and "-partial" not in " ".join(cautions(partial))
    assert len(partial.slices()) == len(found.slices()) - 2


def test_inputs_are_recorded(pair):
    found = compare(pair, ["a", "b"], "truth", provenance={"command": "x"})
    entry = next(e for e in found.provenance["inputs"]["sub-01"] if e["method"] == "b")
    assert entry["sha256"] == hashlib.sha256(Path(entry["file"]).read_bytes()).hexdigest()
    assert found.provenance["command"] == "x"
