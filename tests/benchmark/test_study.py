"""The benchmark that fills the study's tables."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from compare_helpers import disc, write

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmark/accuracy"))
import study  # noqa: E402

from sctseg7t.compare.compare import compare  # noqa: E402
from sctseg7t.compare.types import Case, Problem  # noqa: E402


@pytest.fixture
def comparison(tmp_path):
    cases = []
    for k, group in enumerate(("HC", "MS")):
        masks = {
            (method, "GM"): write(tmp_path / f"{k}{method}.nii.gz", disc(radius, (20 + k, 18)))
            for method, radius in (("one", 4), ("two", 3), ("reference", 3.7))
        }
        cases.append(Case(f"sub-0{k}", f"0{k}", group=group, masks=masks))
    return compare(cases, ["one", "two"], "reference")


def rows(text, title):
    """Cells of the rows of the table under a title."""
    lines = text.split(f"**{title}", 1)[1].splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("|---"))
    found = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_tables(comparison):
    text = study.report({"Made": comparison})
    dice = rows(text, "Dice per slice (table 5)")
    slices = comparison.summary[(comparison.summary.level == "slice") & (comparison.summary.failures == "left out")]
    slices = slices[slices.group == ""]
    summary = {r.method: r for r in slices[slices.metric == "dice"].itertuples()}
    assert dice[0] == ["GM", "one", "10", "0", *(f"{getattr(summary['one'], n):.3f}" for n in ("mean", "median", "sd"))]
    assert dice[1][:2] == ["GM", "two"] and len(dice) == 2 + len(study.PUBLISHED)
    assert ["GM", "*published: 8 (released)*", "106 images", "2", "0.890", "0.906", "0.049"] in dice
    distances = rows(text, "Means per slice")
    means = slices[slices.method == "two"].set_index("metric")["mean"]
    assert distances[1][2] == f"{means['HDRFDST']:.3f}" and distances[1][5] == f"{means['VOLSMTY']:.3f}"
    tests = rows(text, "Dice of each two methods")
    assert [row[3] for row in tests] == ["wilcoxon, subject", "mann-whitney, slice"]
    assert [row[2:4] for row in rows(text, "Dice per slice, MS only")] == [["5", "0"], ["5", "0"]]
    assert "ALS only" not in text and study.CAVEAT in text


def test_left_out_is_said(comparison):
    assert not comparison.problems
    worse = replace(comparison, problems=(Problem("nan", "x: has NaN", True, "sub-00", "one", "GM", "x"),))
    assert "2 scans, 10 slices; 1 masks or scans left out." in study.report({"Made": worse})


def test_pixels_are_the_studys():
    found = Counter(study.pixel_of(seed) for seed in range(2000))
    assert set(found) == set(study.PIXELS_MM)
    assert all(abs(found[pixel] / 2000 - share) < 0.04 for pixel, share in study.PIXELS_MM.items())


@pytest.mark.train
def test_simulated_subjects(tmp_path, monkeypatch):
    pytest.importorskip("torch")

    monkeypatch.setattr(study, "SLICES", 2)
    study.simulate(tmp_path / "subjects", 1)
    scans = sorted((tmp_path / "subjects").glob("sub-*/anat/*_T2starw.nii.gz"))
    before = [path.stat().st_mtime_ns for path in scans]
    study.simulate(tmp_path / "subjects", 1)
    assert [path.stat().st_mtime_ns for path in scans] == before
    found = study.compare_simulated(
        tmp_path / "subjects", {"cord_gm_sc": "cord_gm_sc"}, tmp_path / "masks", {"device": "cpu", "threads": 1}
    )
    assert sorted(case.group for case in found.cases) == ["ALS", "HC", "MS"]
    assert found.structures == ("SC", "GM") and not any(problem.left_out for problem in found.problems)
    assert (found.rows.dice[found.rows.structure == "SC"] > 0.8).all()
