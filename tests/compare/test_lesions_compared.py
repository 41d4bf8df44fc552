"""Lesions in sct7t_compare: found by name, matched, counted, listed, tested and reported."""

import csv
import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from compare_helpers import disc, write
from sctseg7t.cli.compare import main

from sctseg7t.compare import lesion_tables as tables
from sctseg7t.compare.compare import compare
from sctseg7t.compare.findings import lesion_tests_sentence
from sctseg7t.compare.matching import Source, find_cases
from sctseg7t.compare.pictures import chosen_slices, lesion_pictures
from sctseg7t.compare.report import render, render_markdown
from sctseg7t.compare.types import REFERENCE, Case, Settings

# Sagittal: stored from posterior, inferior and left; 2 mm slices from left to right.
SHAPE, SPACING_MM = (26, 30, 28), (2.0, 1.0, 1.0)
AFFINE = np.array([[2.0, 0, 0, -26], [0, 1, 0, -15], [0, 0, 1, -10], [0, 0, 0, 1]])
LARGE, SMALL, LOW = ((8, 15, 20), (2, 4, 3)), ((18, 20, 14), (1, 1, 1)), ((13, 8, 5), (1, 2, 1))
COARSE = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -9], [0, 0, 3, -20], [0, 0, 0, 1.0]])


def brain(*ellipsoids):
    grid = np.indices(SHAPE)
    mask = np.zeros(SHAPE, np.uint8)
    for centre, radii in ellipsoids:
        mask[sum(((grid[n] - centre[n]) / radii[n]) ** 2 for n in range(3)) <= 1] = 1
    return mask


def save(path, array, axes="RAS"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, AFFINE)
    target = nib.orientations.axcodes2ornt(axes)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(AFFINE), target)), path)
    return path


def moved(ellipsoid, by):
    return tuple(np.add(ellipsoid[0], by)), ellipsoid[1]


@pytest.fixture
def make(tmp_path):
    """Compare masks given as dicts of ellipsoids by method, one dict a scan."""

    def made(scans, *, reference=True, settings=Settings(), image=False, methods=("ours", "other")):
        cases = []
        for k, masks in enumerate(scans):
            paths = {
                (method, "LESION"): save(tmp_path / f"{k}_{method}.nii.gz", brain(*found), "PIR")
                for method, found in masks.items()
            }
            noise = np.random.default_rng(k).normal(100, 9, SHAPE).astype(np.float32)
            scan = save(tmp_path / f"{k}_scan.nii.gz", noise) if image else None
            cases.append(Case(f"sub-{k:02}", f"{k:02}", image=scan, masks=paths))
        return compare(cases, methods, REFERENCE if reference else None, settings)

    return made


def read(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_brains_and_cords_in_one_folder(tmp_path):
    for who in ("ours", "truth"):
        save(tmp_path / who / "sub-01_label-LESION_mask.nii.gz", brain(LARGE))
        write(tmp_path / who / "sub-01_label-GM_mask.nii.gz", disc(4), COARSE)
        write(tmp_path / who / "sub-02_label-GM_mask.nii.gz", disc(5), COARSE)
        save(tmp_path / who / "sub-03_label-LESION_mask.nii.gz", brain(SMALL))
    cases, problems = find_cases([Source("ours", tmp_path / "ours")], [Source(REFERENCE, tmp_path / "truth")])
    assert [case.name for case in cases] == ["sub-01", "sub-02", "sub-03"] and problems == []
    found = compare(cases, ["ours"], REFERENCE)
    assert not any(problem.left_out for problem in found.problems)
    assert found.structures == ("GM",) and set(found.rows.structure) == {"GM"}
    assert list(found.lesion_rows.case) == ["sub-01", "sub-03"]
    assert set(found.values[found.values.metric == "area_mm2"].structure) == {"GM"}
    page = render(found, [])
    assert 'id="results"' in page and 'id="lesions"' in page and page.count("<table>") == page.count("<caption>")


# --- numbers ---------------------------------------------------------------------------


def test_counts_places_and_sizes(make):
    low = moved(LOW, (0, 0, 2))
    found = make([{"reference": (LARGE, SMALL), "ours": (moved(LARGE, (0, 1, 0)), low)}])
    (row,) = found.lesion_rows.itertuples()
    assert (row.n_against, row.n_method, row.tp_against, row.fn, row.fp) == (2, 2, 1, 1, 1)
    assert (row.f1, row.sensitivity, row.precision) == (0.5, 0.5, 0.5) and row.empty == ""
    items = {item.kind: item for item in found.unmatched.itertuples()}
    missed, false = items["missed"], items["false"]
    # Stored sagittal; numbers are of the world, slices axial.
    assert [missed.centroid_r_mm, missed.centroid_a_mm, missed.centroid_s_mm] == pytest.approx([10, 5, 4])
    assert missed.volume_mm3 == 2 * brain(SMALL).sum() and missed.slice == 14 and missed.id == 2
    assert (false.first_slice, false.last_slice, false.slice) == (6, 8, 7)
    assert missed.size == "10-50 mm3"
    loads = found.values[found.values.metric == "load_ml"].set_index("method").value
    assert not len(found.rows) and loads["reference"] == pytest.approx(row.load_against_ml)


def test_empty_masks_are_defined_and_shown(make):
    scans = [((), ()), ((), (SMALL,)), ((SMALL,), ()), ((SMALL,), (SMALL,))]
    found = make([{"reference": truth, "ours": ours} for truth, ours in scans])
    rows = found.lesion_rows
    assert list(rows["empty"]) == ["both", "against", "method", ""]
    assert list(rows.f1) == pytest.approx([np.nan, 0, 0, 1], nan_ok=True)
    summary = found.lesion_summary.set_index("group").loc["all"]
    assert (summary.n_f1, summary.f1_mean, summary.n_scans) == (3, pytest.approx(1 / 3), 4)
    assert summary.fp_per_scan == 0.25 and summary.f1_pooled == 0.5
    cells = tables.lesion_scans_table(found).rows
    assert [row[2] for row in cells] == ["both empty", "reference empty", "method empty", ""]
    assert [row[7] for row in cells] == ["-", "0.000", "0.000", "1.000"]
    assert {p.kind for p in found.problems} == {"empty", "identical", "duplicate"}
    assert "slice" not in next(p.message for p in found.problems if p.kind == "empty")


def test_the_rule_is_the_users(make):
    # One voxel in common of a large and a far lesion: a counterpart by overlap only.
    scan = {"reference": (LARGE,), "ours": (moved(LARGE, (0, 7, 0)),)}
    f1 = {rule: make([scan], settings=Settings(lesion_rule=rule)).lesion_rows.f1[0] for rule in ("overlap", "iou")}
    assert f1 == {"overlap": 1, "iou": 0}


def test_methods_are_tested_over_enough_subjects_only(make):
    every = LARGE, SMALL, LOW
    scans = [
        {"reference": every, "ours": every[: 2 + k % 2], "other": (moved(LARGE, (0, k % 3, 0)),)} for k in range(6)
    ]
    tests = make(scans).tests.set_index("metric")
    assert set(tests.index) == {"f1", "dice"} and tests.p["f1"] == pytest.approx(2 / 64)
    assert tests.rank_biserial["f1"] == 1 and tests.better["f1"] == "ours"
    # Dice is the primary measure: one test, so nothing to correct; F1 is exploratory.
    assert list(tests.role[["f1", "dice"]]) == ["exploratory", "primary"]
    assert np.isnan(tests.p_holm["f1"]) and tests.p_holm["dice"] == tests.p["dice"]
    few = make(scans[:5])
    assert not len(few.tests) and "fewer than 6" in lesion_tests_sentence(few)


def test_each_mask_of_lesions_has_a_picture_of_its_own(make):
    scan = {"reference": (LARGE, SMALL), "ours": (LARGE,), "other": (LARGE, LOW)}
    (shown,), _ = lesion_pictures(make([scan]))
    panels = {panel.title: panel for panel in shown.pictures[0].panels if panel.title != "scan"}
    assert list(panels) == ["reference", "ours", "other"]
    # Two contours on each other read as a third colour.
    for name, colour in (("reference", "reference"), ("ours", "m0"), ("other", "m1")):
        kinds = set(re.findall(r'class="contour ([^"]+)"', panels[name].svg))
        assert kinds <= {colour} and panels[name].chips == (colour,)
    rings = "".join(panel.svg for picture in shown.pictures for panel in picture.panels)
    assert 'class="ring missed reference"' in rings and 'class="ring false m1"' in rings


def test_without_a_reference_nothing_is_missed_or_false(make):
    found = make([{"ours": (LARGE, SMALL), "other": (LARGE, LOW)}] * 2, reference=False)
    page, text = render(found, []), render_markdown(found)
    assert list(found.lesion_rows.against) == ["other", "other"]
    assert "Lesions that one mask alone has" in page and "Missed and false lesions" not in page
    assert tables.lesion_summary_tables(found)["headline"].rows[0][0] == "ours vs other" and "Second" in text
    assert "of the second alone" in page and "<title>missed" not in page


def test_loads_and_rescans(make):
    found = make([{"reference": (LARGE,), "ours": (LARGE, SMALL)}, {"reference": (SMALL,), "ours": ()}])
    assert found.agreement.set_index("measure").value["load_bias"] == pytest.approx(0)
    cases = [
        replace(case, name=f"sub-01_run-{n}", subject="01", run=str(n), entities={"sub": "01", "run": str(n)})
        for n, case in enumerate(found.cases, start=1)
    ]
    again = compare(cases, ["ours"], REFERENCE).agreement
    again = again[again.against == "second run"].set_index(["method", "measure"])
    small, large = (2 * brain(one).sum() / 1000 for one in (SMALL, LARGE))
    apart = again.loc[("ours", "load_scan_rescan_absolute_difference")]
    assert (apart.n, apart.value) == (1, pytest.approx(large + small))
    assert again.loc[("ours", "load_scan_rescan_cov")].n == 1
    d, m = large - small, (large + small) / 2
    assert again.value["reference", "load_scan_rescan_cov"] == pytest.approx(100 * d / np.sqrt(2) / m)


# --- files and report ------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    for k in (1, 2):
        save(tmp_path / f"truth/p{k}/lesions_consensus.nii.gz", brain(moved(LARGE, (k, 0, 0)), SMALL))
        save(tmp_path / f"ours/p{k}/FLAIR_lesionseg.nii.gz", brain(moved(LARGE, (k, 0, 0)), LOW), "LPS")
        noise = np.random.default_rng(k).normal(100, 9, SHAPE).astype(np.float32)
        save(tmp_path / f"scans/p{k}/FLAIR.nii.gz", noise, "PIR")
    return tmp_path


def test_command(call, folders):
    argv = ["-i", folders / "scans", "-method", f"ours={folders / 'ours'}", "-ref", folders / "truth"]
    argv += ["-o", folders / "out"]
    code, said, errors = call(main, [*map(str, argv), "-rule", "iou", "-connectivity", "6"])
    assert (code, errors) == (0, "") and "LESION ours" in said and "F1 0.500" in said
    names = {path.name for path in (folders / "out").iterdir()}
    assert {"compare_lesions.csv", "compare_lesion_list.csv", "compare_lesion_summary.csv", "report.html"} <= names
    assert not names & {"compare_slices.csv", "compare_areas.csv"}
    rows = read(folders / "out/compare_lesions.csv")
    assert [(r["case"], r["rule"], r["connectivity"], r["fn"], r["fp"]) for r in rows] == [
        (f"p{k}/FLAIR", "iou", "6", "1", "1") for k in (1, 2)
    ]
    listed = read(folders / "out/compare_lesion_list.csv")
    assert [row["what"] for row in listed] == ["missed", "false"] * 2
    assert float(listed[0]["volume_mm3"]) == 2 * brain(SMALL).sum()
    summary = read(folders / "out/compare_lesion_summary.csv")
    assert {row["group"] for row in summary} == {"all", "load", "size"}
    content = json.loads((folders / "out/compare.json").read_text())
    assert content["settings"]["lesion_rule"] == "iou" and content["lesion_summary"]
    page = (folders / "out/report.html").read_text(encoding="utf-8")
    assert 'id="results"' not in page and "Outliers" not in page and "MSSEG" not in page
    assert page.count('class="ring missed reference"') == 2 == page.count('class="ring false m0"')
    assert page.count("<article>") == 4 and 'href="data:image/webp' in page
    text = (folders / "out/report.md").read_text(encoding="utf-8")
    assert "## Lesions" in text and "## CSA" not in text and "detection by size" in text


def test_slices_show_missed_and_false_in_turn():
    def items(**by_kind):
        rows = [(kind, v, at, at - 1, at + 1) for kind, places in by_kind.items() for v, at in places]
        return pd.DataFrame(rows, columns=["kind", "volume_mm3", "slice", "first_slice", "last_slice"])

    found = items(missed=((90, 10), (80, 11), (70, 20)), false=((5, 30), (4, 40), (3, 50), (2, 60), (1, 70)))
    assert chosen_slices(found) == [10, 20, 30, 40, 50, 60]
    assert chosen_slices(found, 2) == [10, 30] and chosen_slices(items()) == []
