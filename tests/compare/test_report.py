"""The report of a comparison: what it says, for whom it says it, and what it must never do."""

import dataclasses
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from compare_report_helpers import HOSTILE, METHODS, make_comparison

from sctseg7t.compare import cells as texts
from sctseg7t.compare import report_tables as tables
from sctseg7t.compare.compare import analyse
from sctseg7t.compare.findings import best_of
from sctseg7t.compare.pictures import worst_slice_pictures, worst_slices
from sctseg7t.compare.plots import plots
from sctseg7t.compare.report import plain, render, render_markdown, write_markdown, write_report
from sctseg7t.compare.types import Problem


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    return make_comparison(tmp_path_factory.mktemp("with"))


@pytest.fixture(scope="module")
def page(compared):
    return render(compared)


@pytest.fixture(scope="module")
def unreferenced(tmp_path_factory):
    return make_comparison(tmp_path_factory.mktemp("without"), 3, reference=False, image=False, runs=False)


class Outline(HTMLParser):
    """Elements of a page: open tags that were never closed, ids, headings, attributes."""

    VOID = {"meta", "link", "br", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self.stack, self.wrong, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append(tag)


def cells(table):
    return [[str(cell) for cell in row] for row in table.rows]


# --- the page ----------------------------------------------------------------------------


def test_the_page_is_one_file_that_asks_for_nothing(page):
    found = Outline(page)
    assert found.wrong == [] and found.stack == []
    for tag, attributes in found.tags:
        assert tag != "script"
        assert "style" not in attributes, f"{tag}: the policy forbids it"
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_ids_are_unique_and_links_lead_somewhere(page):
    tags = Outline(page).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for _, a in tags if a.get("href", "").startswith("#")}
    assert links and links <= set(ids)


def test_tables_and_pictures_can_be_read_aloud(page):
    tags = Outline(page).tags
    assert page.count("<table>") == page.count("<caption>") > 8
    assert all(a.get("scope") in ("col", "row") for t, a in tags if t == "th")
    drawn = [a for t, a in tags if t == "svg" and a.get("aria-hidden") != "true"]
    assert drawn and all(a.get("role") == "img" and len(a.get("aria-label", "")) > 20 for a in drawn)
    figures = [a for t, a in tags if t == "img"]
    assert len(figures) == 11 and all(len(a["alt"]) > 20 for a in figures)
    levels = [int(t[1]) for t, _ in tags if re.fullmatch("h[1-6]", t)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:]))


def test_what_is_the_reference_is_said(page, unreferenced):
    assert "of a method against the reference" in page and "REFERENCE" in page
    other = render(unreferenced, [])
    assert "No reference: agreement between methods says nothing about which is right" in other
    assert "REFERENCE" not in other and 'class="best"' not in other
    assert "ours vs sct_gm_large" in other


def test_problems_are_counted_with_their_remedy(page):
    assert "<b>1</b> soft" in page and "<b>1</b> grid" in page
    assert "give -thr 0.5 to cut them there" in page


def of_values(compared, values, cases=None):
    """The comparison with another long table."""
    of = compared
    return analyse(values, of.cases if cases is None else cases, of.methods, of.reference, of.settings)


def test_hostile_names_do_nothing(tmp_path):
    methods = {HOSTILE: (0.0, 0.3, 0.3), "b\"'>|`$x$": (0.5, 0.5, 0.0)}
    compared = make_comparison(tmp_path, 2, methods)
    name, old = "</style></svg><script>alert(1)</script>", compared.cases[0].name
    cases = (dataclasses.replace(compared.cases[0], name=name, group=HOSTILE), *compared.cases[1:])
    values = compared.values[compared.values.structure == "SC"]
    values = values.assign(case=values.case.replace(old, name))
    compared = dataclasses.replace(
        of_values(compared, values, cases), provenance={"command": HOSTILE, name: {name: name}}
    )
    text = render(compared)
    assert "<script" not in text and "<img src=x" not in text and "&lt;img src=x" in text
    found = Outline(text)
    assert found.wrong == [] and not any(a.startswith("on") for _, attributes in found.tags for a in attributes)
    assert not re.search(r"(?<!\\)<(img|script)", render_markdown(compared))


def test_names_that_are_no_text_can_be_written(tmp_path, compared):
    name = compared.cases[0].name
    values = compared.values[(compared.values.case == name) & (compared.values.structure == "SC")]
    case = dataclasses.replace(compared.cases[0], name=name + "\udce9")
    odd = of_values(compared, values.assign(case=case.name), (case,))
    assert b"sub-01_run-1?" in write_report(odd, tmp_path / "out").read_bytes()


def test_nothing_to_compare_makes_a_page_still(compared):
    nothing = of_values(compared, compared.values[:0])
    text = render(nothing, [])
    assert "No slice could be compared" in text and Outline(text).wrong == []
    assert "none." in render_markdown(nothing)


def test_one_slice_has_no_spread_and_says_so(tmp_path):
    values = (compared := make_comparison(tmp_path, 1, {"ours": (0.0, 0.3, 0.0)}, runs=False)).values
    one = values[(values.level == "slice") & (values["index"] == 2) & (values.structure == "GM")]
    single = of_values(compared, one)
    (table,) = tables.headline_tables(single)
    row = dict(zip(table.columns, cells(table)[0]))
    assert row["Slices"] == "1" and row["ICC"] == row["Limits of agreement (mm²)"] == "withheld"
    assert row["CSA bias (mm²)"] != "-" and row["95% CI"] == "-"
    assert "withheld: limits of agreement and ICC of fewer than 5 subjects" in render(single, [])


# --- files ---------------------------------------------------------------------------------


def test_the_report_is_written_with_its_figures(tmp_path, compared):
    small = of_values(compared, compared.values[compared.values.structure == "GM"])
    path = write_report(small, tmp_path / "new" / "out")
    assert path == tmp_path / "new" / "out" / "report.html"
    names = {p.name for p in (path.parent / "figures").iterdir()}
    stems = {"dice", "hausdorff95", "assd", "size_difference", "HDRFDST", "AVGDIST_max", "VOLSMTY"}
    stems = {*(f"violins_{stem}" for stem in stems), "bland_altman_GM", "subjects"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg", "pdf")}
    assert path.read_text(encoding="utf-8").count('class="plot" src="data:image/svg+xml') == len(stems)
    assert path.stat().st_size < 5e6


def test_markdown_has_the_study_s_tables(tmp_path, compared):
    text = write_markdown(compared, tmp_path / "report.md").read_text(encoding="utf-8")
    for name in (
        "HDRFDST (voxel)",
        "AVGDIST, max (voxel)",
        "AVGDIST, mean (voxel)",
        "VOLSMTY",
        "HD95 (mm)",
        "ASSD (mm)",
    ):
        assert f"| {plain(name)} | ours |" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) > 8
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "## Failures" in text and "ICC(A,1)" in text and "CoV of mean CSA" in text
    keys = ["structure", "method", "level", "metric", "failures", "group"]
    for failures in ("kept", "left out"):
        row = compared.summary.set_index(keys).loc["GM", "sct_gm_large", "slice", "dice", failures, ""].to_dict()
        numbers = [row["n"], row["outliers"], row["undefined"], f"{row['mean']:.3f}", f"{row['median']:.3f}"]
        assert f"| Dice | sct\\_gm\\_large | {' | '.join(map(str, numbers))} |" in text


# --- tables --------------------------------------------------------------------------------


def test_counts_are_those_of_the_rows(compared):
    found = dict((thing, n) for n, thing in tables.facts(compared))
    assert found["scan"] == 6 and found["subject"] == 3 and found["slice"] == 36
    assert found["failure"] == (compared.slices().outlier != "").sum()


def test_models_come_from_the_provenance(compared):
    models = {"ours": {"id": "cord_gm_sc", "version": "2.0", "sha256": "ab" * 32, "with": [{"id": "cord_locate"}]}}
    told = dataclasses.replace(compared, provenance={"models": models})
    rows = {row[0]: row for row in cells(tables.methods_table(told))}
    assert rows["ours"][2:5] == ["cord_gm_sc (cord found by cord_locate)", "2.0", "ab" * 8]
    assert rows["sct_gm_large"][2:5] == ["-", "-", "-"]
    assert rows["reference"][1] == "REFERENCE" and rows["ours"][1] == "method"
    assert "ab" * 32 in render_markdown(told)


def test_outliers_are_listed_by_slice(compared):
    rows = cells(tables.outliers_table(compared))
    assert sum(int(row[4]) for row in rows) == (compared.slices().outlier != "").sum()
    assert all(re.match(r"\d+ \((missing|extra|Dice 0\.\d\d)\)", row[5]) for row in rows)


def test_long_tables_are_cut_and_say_so(compared, monkeypatch):
    monkeypatch.setattr(tables, "SHOWN_SCANS", 5)
    table = tables.scans_table(compared)
    assert len(table.rows) == 5 and "The first 5 of 54 are shown" in table.cut


def with_tests(compared, *tests):
    """The comparison with these tests: (p after Holm, effect, first, second)."""
    common = {"structure": "GM", "metric": "dice", "test": "wilcoxon", "over": "subject", "role": "primary"}
    common |= {"unit": "", "n_first": 12, "n_second": 12, "statistic": 1.0}
    common |= dict.fromkeys(("difference", "difference_low", "difference_high"), 0.1)
    names = ("p_holm", "rank_biserial", "first", "second")
    rows = [{**common, **dict(zip(names, test))} for test in tests]
    for row in rows:
        row["better"] = row["first"] if row["rank_biserial"] > 0 else row["second"]
    return dataclasses.replace(compared, tests=pd.DataFrame(rows).assign(p=lambda rows: rows.p_holm / 3))


BOTH = (0.01, 0.9, "ours", "sct_gm_large"), (0.02, 0.8, "ours", "sct_gm_challenge")


def test_best_needs_a_significant_test_against_every_other(compared):
    told = with_tests(compared, *BOTH, (0.5, 0.1, "sct_gm_large", "sct_gm_challenge"))
    method, sentence = best_of(told, "GM")
    assert method == "ours" and "ours" in sentence and "p = 0.010" in sentence and "12 subjects" in sentence
    method, sentence = best_of(with_tests(compared, BOTH[0]), "GM")
    assert method is None and "is higher than sct_gm_large" in sentence
    weak = with_tests(compared, (0.2, 0.9, *BOTH[0][2:]), (0.06, 0.8, *BOTH[1][2:]))
    method, sentence = best_of(weak, "GM")
    assert method is None and "no evidence by itself" in sentence


def test_best_is_not_shown_by_slices_or_the_other_sign(compared):
    told = with_tests(compared, *BOTH)
    slices = dataclasses.replace(told, tests=told.tests.assign(over="slice"))
    assert best_of(slices, "GM")[0] is None
    worse = dataclasses.replace(told, tests=told.tests.assign(rank_biserial=-0.9, better=told.tests.second))
    method, sentence = best_of(worse, "GM")
    assert method is None and "sct_gm_large" in sentence.partition(" is higher than ")[0]
    # Of distances the smaller is the better.
    far = dataclasses.replace(
        told,
        tests=told.tests.assign(metric="hausdorff95_mm"),
        settings=dataclasses.replace(told.settings, primary="hausdorff95_mm"),
    )
    method, sentence = best_of(far, "GM")
    assert method == "ours" and "is lower than sct_gm_large" in sentence


def test_the_best_cell_is_marked_in_words(compared):
    told = with_tests(compared, *BOTH)
    assert render(told, []).count('<span class="tag">best</span>') == 1
    assert "\\*\\*" not in render_markdown(told) and "(best)" in render_markdown(told)


def test_a_method_that_the_reference_was_made_from_is_not_called_best(compared):
    text = "GM: ours and reference are the same to the voxel in 49 of 72 slices; that flatters ours"
    problem = Problem("identical", text, False, method="ours", structure="GM")
    told = dataclasses.replace(with_tests(compared, *BOTH), problems=(problem,))
    shown = render(told, [])
    assert f'<p class="notice">{text}</p>' in shown and '<span class="tag">best</span>' not in shown
    assert plain(text) in render_markdown(told).partition("## All measures")[0] and "(best)" not in render_markdown(
        told
    )


def test_too_few_subjects_are_told(compared):
    _, sentence = best_of(compared, "GM")
    assert "With 3 subjects" in sentence and "no p can be below 1 after correction" in sentence


# --- figures -------------------------------------------------------------------------------


def test_figures_are_of_the_slices_and_say_so_in_words(compared):
    slices = compared.slices("GM")
    drawn = {plot.name: plot for plot in plots(compared)}
    own = slices[(slices.method == "sct_gm_large")]
    median = f"sct_gm_large median {own.dice.median():.3f} of {len(own)}"
    assert median in drawn["violins_dice"].text
    finite = own.hausdorff95_mm[np.isfinite(own.hausdorff95_mm)]
    median = f"sct_gm_large median {finite.median():.2f} of {len(finite)}, {len(own) - len(finite)} not defined"
    assert len(finite) < len(own) and median in drawn["violins_hausdorff95"].text
    # Every subject's line, in the colours of the dots of Bland-Altman plots.
    assert [len(axis.lines) for axis in drawn["subjects"].figure.axes] == [3, 3, 3]
    lines = {line.get_label(): line.get_color() for line in drawn["subjects"].figure.axes[0].lines}
    dots = {line.get_label(): line.get_color() for line in drawn["bland_altman_SC"].figure.axes[0].lines}
    assert len(set(lines.values())) == 3 and lines.items() <= dots.items()
    areas = tables.sizes_of(compared, "SC", "ours", "reference")
    assert f"bias {texts.number(areas['bias'], '+.2f')} mm²" in drawn["bland_altman_SC"].text
    # A panel a method, on one scale.
    axes = drawn["bland_altman_SC"].figure.axes
    assert len(axes) == 3 and len({axis.get_ylim() for axis in axes}) == 1


# --- pictures --------------------------------------------------------------------------------


def test_the_worst_slices_come_first(compared):
    found = worst_slices(compared, "SC")
    slices = compared.slices("SC")
    lowest = slices.groupby(["case", "index"]).dice.min()
    assert [lowest[key] for key in found] == sorted(lowest[key] for key in found)
    assert lowest[found[0]] == lowest.min()
    cases = [case for case, _ in found]
    assert max(map(cases.count, cases)) <= 2 and len(found) == 8


def test_slices_without_a_mask_do_not_hide_the_rest(tmp_path):
    compared = make_comparison(tmp_path, 6, {"ours": (0.0, 0.3, 0.6)})
    slices = compared.slices("GM")
    empty = set(slices[slices.outlier != ""][["case", "index"]].itertuples(index=False, name=None))
    found = worst_slices(compared, "GM")
    assert sum(key in empty for key in found) == 3 < len(found)


def test_a_picture_is_upright_and_has_every_contour(compared):
    pictures, notes = worst_slice_pictures(compared, wanted=2)
    assert notes == [] and set(pictures) == {"SC", "GM", "WM"}
    picture = pictures["SC"][0]
    assert [panel.title for panel in picture.panels] == ["scan", *METHODS]
    assert "data:image/webp;base64," in picture.definition
    for panel in picture.panels[1:]:
        assert panel.svg.count('class="contour') == 2 and "below reference" in panel.svg
        slices = compared.slices("SC")
        mine = (slices.case == picture.case) & (slices["index"] == picture.index) & (slices.method == panel.title)
        (row,) = slices[mine].itertuples()
        assert panel.lines == (
            f"Dice {row.dice:.3f}",
            f"{row.size_method:.1f} mm²",
            f"reference {row.size_against:.1f} mm²",
        )


def test_the_picture_shows_right_on_the_left(compared, tmp_path):
    """The bright corner of the scans lies left and posterior: below, on the right."""
    import base64
    import io

    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    picture = worst_slice_pictures(compared, wanted=1)[0]["SC"][0]
    data = re.search(r"base64,([^\"]+)", str(picture.definition))[1]
    pixels = np.asarray(image.open(io.BytesIO(base64.b64decode(data))).convert("L"), float)
    h, w = pixels.shape
    corners = {
        "below right": pixels[-h // 6 :, -w // 6 :].mean(),
        "below left": pixels[-h // 6 :, : w // 6].mean(),
        "above right": pixels[: h // 6, -w // 6 :].mean(),
        "above left": pixels[: h // 6, : w // 6].mean(),
    }
    assert max(corners, key=corners.get) == "below right"


def test_masks_stand_alone_where_the_scan_is_gone(compared, unreferenced):
    pictures, _ = worst_slice_pictures(unreferenced, wanted=1)
    assert 'class="blank"' in pictures["SC"][0].definition and "no scan" in pictures["SC"][0].title
    assert [panel.chips for panel in pictures["SC"][0].panels] == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]
    gone = tuple(dataclasses.replace(case, image=case.image.with_name("gone.nii.gz")) for case in compared.cases)
    pictures, notes = worst_slice_pictures(dataclasses.replace(compared, cases=gone), wanted=1)
    assert pictures["SC"] and notes and "shown without" in notes[0]


def test_masks_that_are_gone_have_no_picture(compared):
    gone = tuple(
        dataclasses.replace(case, masks={key: path.with_name("gone.nii.gz") for key, path in case.masks.items()})
        for case in compared.cases
    )
    pictures, notes = worst_slice_pictures(dataclasses.replace(compared, cases=gone))
    assert not any(pictures.values()) and "can no longer be read" in notes[0]


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "how", "text"),
    [
        (math.nan, ".2f", "-"),
        (None, ".2f", "-"),
        (math.inf, "+.2f", "∞"),
        (-0.001, "+.2f", "0.00"),
        (0.5, "+.1f", "+0.5"),
        (-2, "+.1f", "−2.0"),
        (0.0004, "p", "< 0.001"),
        (0.0312, "p", "0.031"),
    ],
)
def test_numbers_for_people(value, how, text):
    assert texts.number(value, how) == text
