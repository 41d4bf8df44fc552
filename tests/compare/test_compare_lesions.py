"""Lesions in sct7t_compare: found by name, matched, counted, listed, tested and reported."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from compare_helpers import disc, write

pytest.importorskip("scipy")
from sctseg7t.cli.compare import main  # noqa: E402

from sctseg7t.compare import (
    lesion_sections,  # noqa: E402
    run,  # noqa: E402
)
from sctseg7t.compare.find import find_cases  # noqa: E402
from sctseg7t.compare.lesion_overlays import chosen_slices  # noqa: E402
from sctseg7t.compare.lesion_sections import headline_table, scans_table  # noqa: E402
from sctseg7t.compare.lesions import FALSE, MISSED, LesionItem  # noqa: E402
from sctseg7t.compare.markdown import markdown  # noqa: E402
from sctseg7t.compare.names import parse_name  # noqa: E402
from sctseg7t.compare.records import Case, Settings  # noqa: E402
from sctseg7t.compare.report import render  # noqa: E402
from sctseg7t.compare.sources import REFERENCE, Source, mask_files  # noqa: E402
from sctseg7t.compare.study import compare  # noqa: E402

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
            cases.append(Case(f"sub-{k:02}", f"{k:02}", None, None, None, scan, paths))
        return compare(cases, methods, REFERENCE if reference else None, settings)

    return made


def read(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# --- names and cases -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "structure"),
    [
        ("sub-01_FLAIR_lesionseg", "sub-01", "LESION"),
        ("sub-01_label-LESION_mask", "sub-01", "LESION"),
        ("patient07_lesions_consensus", "patient07", "LESION"),
        ("patient07_FLAIR_lesion", "patient07", "LESION"),
        ("lesions", "", "LESION"),
        ("patient07_FLAIR", "patient07", None),
        ("FLAIR", "", None),
        ("sub-01_desc-lesions_dseg", "sub-01", "NUMBERS"),
        ("flair_lesionlabels", "", "NUMBERS"),
        ("sub-01_desc-lesions_mask", "sub-01", None),
    ],
)
def test_names(name, key, structure):
    found = parse_name(f"{name}.nii.gz")
    assert (found.key, found.structure) == (key, structure)


def test_numbered_lesions_are_no_mask_and_no_problem(tmp_path):
    for name in ("sub-01_label-LESION_mask", "sub-01_desc-lesions_dseg"):
        save(tmp_path / f"{name}.nii.gz", brain(LARGE))
    files, problems = mask_files(Source("ours", tmp_path))
    assert [file.path.name for file in files] == ["sub-01_label-LESION_mask.nii.gz"] and problems == []


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
    assert found.structures == ("GM",) and {row.structure for row in found.rows} == {"GM"}
    assert [row.case for row in found.lesions.rows] == ["sub-01", "sub-03"]
    assert {structure for _, _, structure in found.areas_mm2} == {"GM"}
    page = render(found)
    assert 'id="results"' in page and 'id="lesions"' in page and page.count("<table>") == page.count("<caption>")


def test_masks_without_a_contrast_go_to_the_flair(tmp_path):
    for suffix in ("T2starw", "FLAIR"):
        for who in "ab":
            name = tmp_path / who / f"sub-01_{suffix}_{'lesionseg' if suffix == 'FLAIR' else 'gmseg'}.nii.gz"
            save(name, brain(LARGE)) if suffix == "FLAIR" else write(name, disc(4), COARSE)
            write(tmp_path / who / f"sub-01_{suffix}_seg.nii.gz", disc(5), COARSE)
    save(tmp_path / "truth/sub-01_label-lesion_mask.nii.gz", brain(LARGE))
    write(tmp_path / "truth/sub-01_label-GM_mask.nii.gz", disc(4), COARSE)
    sources = [Source(who, tmp_path / who) for who in "ab"]
    cases, _ = find_cases(sources, [Source(REFERENCE, tmp_path / "truth")])
    owners = {case.name: {s for m, s in case.masks if m == REFERENCE} for case in cases}
    assert owners == {"sub-01_FLAIR": {"LESION"}, "sub-01_T2starw": {"GM"}}


# --- numbers ---------------------------------------------------------------------------


def test_counts_places_and_sizes(make):
    low = moved(LOW, (0, 0, 2))
    found = make([{"reference": (LARGE, SMALL), "ours": (moved(LARGE, (0, 1, 0)), low)}])
    (row,) = found.lesions.rows
    a = row.agreement
    assert (a.n_reference, a.n_mask, a.tp_reference, a.fn, a.fp) == (2, 2, 1, 1, 1)
    assert (a.f1, a.sensitivity, a.precision) == (0.5, 0.5, 0.5) and row.empty == ""
    items = {item.kind: item for item in found.lesions.items}
    missed, false = items[MISSED], items[FALSE]
    # Stored sagittal; numbers are of the world, slices axial.
    assert [missed.centroid_r_mm, missed.centroid_a_mm, missed.centroid_s_mm] == pytest.approx([10, 5, 4])
    assert missed.volume_mm3 == 2 * brain(SMALL).sum() and missed.slice == 14 and missed.id == 2
    assert (false.first_slice, false.last_slice, false.slice) == (6, 8, 7)
    assert missed.size == "10-50 mm3"
    assert found.rows == () and found.lesions.loads_ml["sub-00", "reference"] == pytest.approx(a.reference_ml)


def test_empty_masks_are_defined_and_shown(make):
    found = make(
        [
            {"reference": (), "ours": ()},
            {"reference": (), "ours": (SMALL,)},
            {"reference": (SMALL,), "ours": ()},
            {"reference": (SMALL,), "ours": (SMALL,)},
        ]
    )
    rows = found.lesions.rows
    assert [row.empty for row in rows] == ["both", "against", "method", ""]
    assert [row.agreement.f1 for row in rows] == pytest.approx([np.nan, 0, 0, 1], nan_ok=True)
    numbers = next(row.numbers for row in found.lesions.summary if row.group == "all")
    assert (numbers["n_f1"], numbers["f1_mean"], numbers["n_scans"]) == (3, pytest.approx(1 / 3), 4)
    assert numbers["fp_per_scan"] == 0.25 and numbers["f1_pooled"] == 0.5
    cells = scans_table(found).rows
    assert [row[3] for row in cells] == ["both empty", "reference empty", "method empty", ""]
    assert [row[8] for row in cells] == ["-", "0.000", "0.000", "1.000"]
    assert {p.kind for p in found.problems} == {"empty", "identical", "duplicate"}
    assert "slice" not in next(p.message for p in found.problems if p.kind == "empty")


def test_the_rule_and_the_neighbours_are_the_users(make):
    # One voxel in common of a large and a far lesion: a counterpart by overlap only.
    scan = {"reference": (LARGE,), "ours": (moved(LARGE, (0, 7, 0)),)}
    f1 = {
        rule: make([scan], settings=Settings(lesion_rule=rule)).lesions.rows[0].agreement for rule in ("overlap", "iou")
    }
    assert f1["overlap"].f1 == 1 and f1["iou"].f1 == 0
    strict = make([scan], settings=Settings(lesion_rule="msseg")).lesions.rows[0].agreement
    assert (strict.connectivity, strict.ignored_up_to_mm3) == (6, 3)
    assert make([scan], settings=Settings(connectivity=18)).lesions.rows[0].agreement.connectivity == 18


def test_methods_are_tested_over_enough_subjects_only(make):
    all_ = LARGE, SMALL, LOW
    scans = [{"reference": all_, "ours": all_[: 2 + k % 2], "other": (moved(LARGE, (0, k % 3, 0)),)} for k in range(6)]
    found = make(scans)
    tests = {test.metric: test for test in found.lesions.tests}
    assert set(tests) == {"f1", "dice"} and tests["f1"].p == pytest.approx(2 / 64)
    assert tests["f1"].p_holm == pytest.approx(4 / 64) and tests["f1"].effect == 1
    few = make(scans[:5])
    assert few.lesions.tests == () and "fewer than 6" in lesion_sections.tests_sentence(few)


def test_without_a_reference_nothing_is_missed_or_false(make):
    found = make([{"ours": (LARGE, SMALL), "other": (LARGE, LOW)}] * 2, reference=False)
    page, text = render(found), markdown(found)
    assert [row.against for row in found.lesions.rows] == ["other", "other"]
    assert "Lesions that one mask alone has" in page and "Missed and false lesions" not in page
    assert headline_table(found).rows[0][0] == "ours vs other" and "Second" in text


def test_loads_and_rescans(make):
    found = make([{"reference": (LARGE,), "ours": (LARGE, SMALL)}, {"reference": (SMALL,), "ours": ()}])
    (load,) = found.lesions.loads
    small, large = (2 * brain(one).sum() / 1000 for one in (SMALL, LARGE))
    assert load.bland_altman.bias == pytest.approx(0) and load.pairs[0] == pytest.approx([large + small, large])
    cases = [
        replace(case, name=f"sub-01_run-{n}", subject="01", run=str(n), entities={"sub": "01", "run": str(n)})
        for n, case in enumerate(found.cases, start=1)
    ]
    again = compare(cases, ["ours"], REFERENCE)
    by = {row.method: row for row in again.lesions.repeatability}
    assert by["ours"].difference_ml == pytest.approx(large + small) and by["ours"].with_lesions == 1
    d, m = large - small, (large + small) / 2
    assert by["reference"].cov == pytest.approx(100 * d / np.sqrt(2) / m)


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
    argv = [
        "-i",
        folders / "scans",
        "-method",
        f"ours={folders / 'ours'}",
        "-ref",
        folders / "truth",
        "-o",
        folders / "out",
    ]
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
    def item(kind, volume, at):
        return LesionItem("c", "m", "r", kind, 1, 1, volume, "", 1, 0, 0, 0, 0, 0, at, at - 1, at + 1)

    items = [item(MISSED, v, at) for v, at in ((90, 10), (80, 11), (70, 20))]
    items += [item(FALSE, v, at) for v, at in ((5, 30), (4, 40), (3, 50), (2, 60), (1, 70))]
    assert chosen_slices(items) == [10, 20, 30, 40, 50, 60]
    assert chosen_slices(items, 2) == [10, 30] and chosen_slices([]) == []


def test_a_brain_model_is_run_like_any_other(call, folders, monkeypatch):
    """Only lesions are compared of what a brain model makes: numbered lesions are no structure."""
    from sctseg7t.cohort.run import Totals

    class Job:
        def __init__(self, scan):
            place = folders / "out/masks/brain" / scan.relative
            self.name = scan.name
            masks = {
                "LESION": place.with_name("FLAIR_lesionseg.nii.gz"),
                "LABELS": place.with_name("FLAIR_lesionlabels.nii.gz"),
            }
            self.plan = type("Plan", (), {"masks": masks, "source": scan.path})

    def fake(method, jobs, refused, where):
        for job in jobs:
            save(job.plan.masks["LESION"], brain(moved(LARGE, (int(job.name[1]), 0, 0))))
            save(job.plan.masks["LABELS"], brain(LARGE) * np.uint8(7))
        return dict(Totals().failures)

    monkeypatch.setattr(run, "_plan", lambda method, name, scans, *_: ([Job(s) for s in scans], {}, {"id": name}))
    monkeypatch.setattr(run, "_run", fake)
    argv = [
        "-i",
        folders / "scans",
        "-run",
        "brain=brain_lesion_unet",
        "-ref",
        folders / "truth",
        "-o",
        folders / "out",
    ]
    code, _, errors = call(main, [*map(str, argv), "-no-report"])
    assert (code, errors) == (0, "")
    rows = read(folders / "out/compare_lesions.csv")
    assert [(row["method"], row["n_method"], row["fn"]) for row in rows] == [("brain", "1", "1")] * 2


@pytest.mark.data
def test_thresholds_on_two_patients(call, data_dir, tmp_path):
    data = data_dir / "brain/lesjak-cross"
    if not data.is_dir():
        pytest.skip(f"no {data}")
    for patient in ("patient07", "patient19"):
        image = nib.load(data / patient / "FLAIR.nii.gz")
        values = np.asarray(image.dataobj)
        for name, share in (("high", 99.0), ("low", 97.5)):
            mask = values > np.percentile(values[values > 0], share)
            write(tmp_path / name / patient / "FLAIR_lesionseg.nii.gz", mask.astype(np.uint8), image.affine)
    methods = [text for name in ("high", "low") for text in ("-method", f"{name}={tmp_path / name}")]
    code, _, errors = call(main, [*methods, "-ref", str(data), "-o", str(tmp_path / "out"), "-no-report"])
    assert code == 0, errors
    rows = {(r["case"], r["method"]): r for r in read(tmp_path / "out/compare_lesions.csv")}
    assert {case for case, _ in rows} == {"patient07", "patient19"}
    strata = {case: row["load_stratum"] for (case, _), row in rows.items()}
    assert strata == {"patient07": "<5 mL", "patient19": ">15 mL"}
    for patient in strata:
        high, low = rows[patient, "high"], rows[patient, "low"]
        assert high["n_against"] == low["n_against"] and int(high["fn"]) >= int(low["fn"])
        assert float(high["load_method_ml"]) < float(low["load_method_ml"])
    # Bright tissue is not lesion: a threshold alone has hundreds of false lesions.
    assert all(int(row["fp"]) > 100 for row in rows.values())
