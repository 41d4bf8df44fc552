"""The report of a comparison: what it says, for whom it says it, and what it must never do."""

import builtins
import dataclasses
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from compare_report_helpers import HOSTILE, METHODS, make_comparison

from sctseg7t.compare import figures, listings, report, sections
from sctseg7t.compare.figures import write_figures
from sctseg7t.compare.markdown import markdown, plain, write_markdown
from sctseg7t.compare.overlays import overlays, worst_slices
from sctseg7t.compare.plots import bland_altman, samples, thinned, violins
from sctseg7t.compare.records import Problem, Settings, TestRow
from sctseg7t.compare.report import render, write_report
from sctseg7t.compare.wording import BY_KEY, interval, metric_named, number, p_text, signed
from sctseg7t.errors import OutputError, UsageError


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
    levels = [int(t[1]) for t, _ in tags if re.fullmatch("h[1-6]", t)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:]))


def test_what_is_the_reference_is_said(page, unreferenced):
    assert "of a method against the reference" in page and "REFERENCE" in page
    other = render(unreferenced)
    assert "No reference: agreement between methods says nothing about which is right" in other
    assert "REFERENCE" not in other and 'class="best"' not in other
    assert "ours vs sct_gm_large" in other


def test_problems_are_counted_with_their_remedy(page):
    assert "<b>1</b> soft" in page and "<b>1</b> grid" in page
    assert "give -thr 0.5 to cut them there" in page


def test_the_slices_warning_stands_by_the_tests(page):
    assert "Slices of one subject are not independent" in page
    assert page.index("Tests over subjects") < page.index("Slices of one subject") < page.index("Tests over slices, as")


def test_hostile_names_do_nothing(tmp_path):
    methods = {HOSTILE: (0.0, 0.3, 0.3), "b\"'>|`": (0.5, 0.5, 0.0)}
    compared = make_comparison(tmp_path, 2, methods)
    name = "</style></svg><script>alert(1)</script>"
    cases = (dataclasses.replace(compared.cases[0], name=name, group=HOSTILE), *compared.cases[1:])
    old = compared.cases[0].name
    rows = tuple(dataclasses.replace(row, case=name) if row.case == old else row for row in compared.rows)
    compared = dataclasses.replace(
        compared, cases=cases, rows=rows, provenance={"command": HOSTILE, name: {name: name}}
    )
    text = render(compared)
    assert "<script" not in text and "<img" not in text and "&lt;img src=x" in text
    found = Outline(text)
    assert found.wrong == [] and not any(a.startswith("on") for _, attributes in found.tags for a in attributes)
    assert not re.search(r"(?<!\\)<(img|script)", markdown(compared))


def test_names_that_are_no_text_can_be_written(tmp_path, compared, monkeypatch):
    monkeypatch.setattr(report, "write_figures", lambda *given: [])
    rows = tuple(dataclasses.replace(row, case=row.case + "\udce9") for row in compared.rows[:40])
    path = write_report(dataclasses.replace(compared, rows=rows, cases=(), areas=()), tmp_path / "out")
    assert b"sub-01_run-1?" in path.read_bytes()


def test_nothing_to_compare_makes_a_page_still(compared):
    nothing = dataclasses.replace(
        compared, rows=(), summary=(), tests=(), areas=(), repeatability=(), structures=(), areas_mm2={}
    )
    text = render(nothing)
    assert "No slice could be compared" in text and Outline(text).wrong == []
    assert "none." in markdown(nothing)


def test_one_slice_has_no_spread_and_says_so(tmp_path):
    compared = make_comparison(tmp_path, 1, {"ours": (0.0, 0.3, 0.0)}, runs=False)
    rows = tuple(row for row in compared.rows if row.where == "slice" and row.index == 2 and row.structure == "GM")
    from sctseg7t.compare.summary import summarise

    single = dataclasses.replace(compared, rows=rows, summary=summarise(rows, Settings()), structures=("GM",), areas=())
    row = dict(zip(sections.headline_tables(single)[0].columns, cells(sections.headline_tables(single)[0])[0]))
    assert row["Slices"] == "1" and row["Dice SD"] == "-" and row["CSA bias (mm²)"] == "-"
    assert "an SD or interval needs two" in render(single)


# --- files ---------------------------------------------------------------------------------


def test_the_report_is_written_with_its_figures(tmp_path, compared, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr(figures, "DRAWN", ("dice", "HDRFDST"))
    small = dataclasses.replace(compared, structures=("GM",))
    path = write_report(small, tmp_path / "new" / "out")
    assert path == tmp_path / "new" / "out" / "report.html"
    names = {p.name for p in (path.parent / "figures").iterdir()}
    assert {"violins_dice.png", "violins_dice.svg", "bland_altman_GM.png", "violins_HDRFDST.svg"} <= names
    assert not [name for name in names if name.startswith(".")]
    assert "violins_dice.svg" in path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5e6


def test_without_matplotlib_the_page_says_what_is_missing(tmp_path, compared, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **more):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"pip install 'sctseg7t\[figures\]'"):
        write_figures(compared, tmp_path)
    path = write_report(compared, tmp_path / "out")
    text = path.read_text(encoding="utf-8")
    assert "pip install" in text and text.count('class="plot"') > 9
    assert not (path.parent / "figures").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, compared):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write_report(compared, tmp_path / "file" / "out")


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
    assert "## Outliers" in text and "ICC(A,1)" in text and "CoV of mean CSA" in text
    summary = next(
        r for r in compared.summary if (r.structure, r.method, r.where, r.metric) == ("GM", "ours", "slice", "dice")
    )
    assert f"| Dice | ours | {summary.n} | {summary.outliers} | {summary.mean:.3f} | {summary.median:.3f} |" in text


# --- tables --------------------------------------------------------------------------------


def test_counts_are_those_of_the_rows(compared):
    found = dict((thing, n) for n, thing in sections.facts(compared))
    assert found["scans"] == 6 and found["subjects"] == 3 and found["slices"] == 36
    assert found["outliers"] == sum(1 for row in compared.rows if row.where == "slice" and row.outlier)


def test_models_come_from_the_provenance(compared):
    models = {"ours": ({"id": "cord_gm_sc", "version": "2.0", "sha256": "ab" * 32}, {"id": "cord_locate"})}
    told = dataclasses.replace(compared, provenance={"models": models})
    rows = {row[0]: row for row in cells(sections.methods_table(told))}
    assert rows["ours"][2:5] == ["cord_gm_sc (cord found by cord_locate)", "2.0", "ab" * 8]
    assert rows["sct_gm_large"][2:5] == ["-", "-", "-"]
    assert rows["reference"][1] == "REFERENCE" and rows["ours"][1] == "method"
    assert "ab" * 32 in render(told)


def test_outliers_are_listed_by_slice(compared):
    table = listings.outliers_table(compared)
    listed = sum(int(row[4]) for row in cells(table))
    assert listed == sum(1 for row in compared.rows if row.where == "slice" and row.outlier)
    assert all(re.match(r"\d+ \((missing|extra|Dice 0\.\d\d)\)", row[5]) for row in cells(table))


def test_long_tables_are_cut_and_say_so(compared, monkeypatch):
    monkeypatch.setattr(listings, "SHOWN_SCANS", 5)
    table = listings.scans_table(compared)
    assert len(table.rows) == 5 and "The first 5 of 54 are shown" in table.note


def a_test(p_holm, effect, first="ours", second="sct_gm_large", metric="dice", unit="subject", n=12):
    return TestRow("GM", metric, first, second, "wilcoxon", unit, (n, n), 1.0, effect, p_holm / 3, p_holm)


def test_best_needs_a_significant_test_against_every_other(compared):
    both = (
        a_test(0.01, 0.9),
        a_test(0.02, 0.8, second="sct_gm_challenge"),
        a_test(0.5, 0.1, "sct_gm_large", "sct_gm_challenge"),
    )
    method, sentence = sections.best_of(dataclasses.replace(compared, tests=both), "GM", "dice")
    assert method == "ours" and "ours" in sentence and "p = 0.010" in sentence and "12 subjects" in sentence
    method, sentence = sections.best_of(dataclasses.replace(compared, tests=both[:1]), "GM", "dice")
    assert method is None and "is higher than sct_gm_large" in sentence
    weak = (a_test(0.2, 0.9), a_test(0.06, 0.8, second="sct_gm_challenge"))
    method, sentence = sections.best_of(dataclasses.replace(compared, tests=weak), "GM", "dice")
    assert method is None and "no evidence by itself" in sentence


def test_best_is_not_shown_by_slices_or_the_other_sign(compared):
    slices = (a_test(0.001, 0.9, unit="slice"), a_test(0.001, 0.9, second="sct_gm_challenge", unit="slice"))
    assert sections.best_of(dataclasses.replace(compared, tests=slices), "GM", "dice")[0] is None
    worse = (a_test(0.001, -0.9), a_test(0.001, -0.9, second="sct_gm_challenge"))
    method, sentence = sections.best_of(dataclasses.replace(compared, tests=worse), "GM", "dice")
    assert method is None and "sct_gm_large" in sentence.partition(" is higher than ")[0]
    far = tuple(dataclasses.replace(t, metric="hausdorff95_mm") for t in worse)
    assert sections.best_of(dataclasses.replace(compared, tests=far), "GM", "hausdorff95_mm")[0] == "ours"


def test_the_best_cell_is_marked_in_words(compared):
    both = (a_test(0.01, 0.9), a_test(0.02, 0.8, second="sct_gm_challenge"))
    told = dataclasses.replace(compared, tests=both)
    text = render(told)
    assert text.count('<span class="tag">best</span>') == 1
    assert "\\*\\*" not in markdown(told) and "(best)" in markdown(told)


def test_a_method_that_the_reference_was_made_from_is_not_called_best(compared):
    both = (a_test(0.01, 0.9), a_test(0.02, 0.8, second="sct_gm_challenge"))
    text = "GM: ours and reference are the same to the voxel in 49 of 72 slices; that flatters ours"
    told = dataclasses.replace(
        compared, tests=both, problems=(Problem("identical", None, "ours", "GM", None, text, False),)
    )
    shown = render(told)
    assert f'<p class="notice">{text}</p>' in shown and '<span class="tag">best</span>' not in shown
    assert plain(text) in markdown(told).partition("## All measures")[0] and "(best)" not in markdown(told)


def test_too_few_subjects_are_told(compared):
    _, sentence = sections.best_of(compared, "GM", "dice")
    assert "With 3 subjects" in sentence and "no p can be below 1 after correction" in sentence


# --- plots ---------------------------------------------------------------------------------


def test_dots_and_crosses_are_the_slices(compared):
    svg = str(violins(compared, "GM", BY_KEY["dice"]))
    kept = [r for r in compared.rows if r.where == "slice" and r.structure == "GM" and not r.outlier]
    out = [r for r in compared.rows if r.where == "slice" and r.structure == "GM" and r.outlier]
    assert svg.count('class="dot"') == len(kept) and svg.count('class="cross"') == len(out) > 0
    assert f"{kept[0].case}, slice {kept[0].index}: " in svg
    assert "outliers" in svg and "median" in svg


def test_every_coordinate_is_a_number_within_the_picture(compared):
    drawn = [
        violins(compared, s, BY_KEY[key]) for s in compared.structures for key in ("dice", "HDRFDST", "size_difference")
    ]
    drawn += [bland_altman(compared, area, percent) for area in compared.areas for percent in (False, True)]
    for svg in map(str, drawn):
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
        assert "nan" not in re.sub(r"<title>.*?</title>|aria-label=\"[^\"]*\"", "", svg) and "inf" not in svg
        assert all(0 <= float(x) <= width for x in re.findall(r' (?:cx|x|x1|x2)="([^"]+)"', svg))
        assert all(0 <= float(y) <= height for y in re.findall(r' (?:cy|y|y1|y2)="([^"]+)"', svg))


def test_thinning_keeps_the_ends():
    values = np.sort(np.random.default_rng(0).normal(size=5000))
    names = [str(k) for k in range(5000)]
    some, kept, places = thinned(values, names, 180)
    assert len(some) == len(kept) == 180 and list(places) == sorted(set(places))
    assert some[0] == values[0] and some[-1] == values[-1] and kept[5] == "5"
    assert list(thinned(values[:10], names[:10], 180)[0]) == list(values[:10])


def test_equal_values_are_drawn(compared):
    rows = tuple(
        dataclasses.replace(row, agreement=dataclasses.replace(row.agreement, dice=1.0), outlier="")
        for row in compared.rows
    )
    svg = str(violins(dataclasses.replace(compared, rows=rows), "SC", BY_KEY["dice"]))
    assert 'class="violin"' not in svg and 'class="box"' in svg and "nan" not in svg


def test_bland_altman_lines_are_the_measured_ones(compared):
    area = next(a for a in compared.areas if (a.structure, a.method) == ("SC", "sct_gm_large"))
    svg = str(bland_altman(compared, area))
    for value in (area.bland_altman.bias, area.bland_altman.lower, area.bland_altman.upper):
        assert f">{signed(value, 2)}<" in svg
    assert svg.count('class="ci"') == 3 and svg.count('class="dot"') == area.bland_altman.n


def test_colours_are_the_methods(compared, unreferenced):
    assert [s.colour for s in samples(compared, "GM", BY_KEY["dice"])] == ["m0", "m1", "m2"]
    assert {s.colour for s in samples(unreferenced, "GM", BY_KEY["dice"])} == {"pair"}


# --- pictures --------------------------------------------------------------------------------


def test_the_worst_slices_come_first(compared):
    found = worst_slices(compared, "SC")
    lowest = {}
    for row in compared.rows:
        if row.where == "slice" and row.structure == "SC":
            key = row.case, row.index
            lowest[key] = min(lowest.get(key, 1), row.agreement.dice)
    assert [lowest[key] for key in found] == sorted(lowest[key] for key in found)
    assert found[0] == min(lowest, key=lambda key: (lowest[key], key))
    cases = [case for case, _ in found]
    assert max(map(cases.count, cases)) <= 2 and len(found) == 8


def test_slices_without_a_mask_do_not_hide_the_rest(tmp_path):
    compared = make_comparison(tmp_path, 6, {"ours": (0.0, 0.3, 0.6)})
    empty = {(r.case, r.index) for r in compared.rows if r.where == "slice" and r.structure == "GM" and r.outlier}
    found = worst_slices(compared, "GM")
    assert sum(key in empty for key in found) == 3 < len(found)


def test_a_picture_is_upright_and_has_every_contour(compared):
    pictures, notes = overlays(compared, wanted=2)
    assert notes == [] and set(pictures) == {"SC", "GM", "WM"}
    picture = pictures["SC"][0]
    assert [panel.title for panel in picture.panels] == ["scan", *METHODS]
    assert "data:image/webp;base64," in picture.definition
    for panel in picture.panels[1:]:
        assert panel.svg.count('class="contour') == 2 and "below reference" in panel.svg
        row = next(
            r
            for r in compared.rows
            if (r.case, r.index, r.method) == (picture.case, picture.index, panel.title)
            and (r.structure, r.where) == ("SC", "slice")
        )
        assert panel.lines == (
            f"Dice {row.agreement.dice:.3f}",
            f"{row.agreement.mask_size:.1f} mm²",
            f"reference {row.agreement.reference_size:.1f} mm²",
        )


def test_the_picture_shows_right_on_the_left(compared, tmp_path):
    """The bright corner of the scans lies left and posterior: below, on the right."""
    import base64
    import io

    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    picture = overlays(compared, wanted=1)[0]["SC"][0]
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
    pictures, _ = overlays(unreferenced, wanted=1)
    assert 'class="blank"' in pictures["SC"][0].definition and "no scan" in pictures["SC"][0].title
    assert [panel.chips for panel in pictures["SC"][0].panels] == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]
    gone = tuple(dataclasses.replace(case, image=case.image.with_name("gone.nii.gz")) for case in compared.cases)
    pictures, notes = overlays(dataclasses.replace(compared, cases=gone), wanted=1)
    assert pictures["SC"] and notes and "shown without" in notes[0]


def test_masks_that_are_gone_have_no_picture(compared):
    gone = tuple(
        dataclasses.replace(case, masks={key: path.with_name("gone.nii.gz") for key, path in case.masks.items()})
        for case in compared.cases
    )
    pictures, notes = overlays(dataclasses.replace(compared, cases=gone))
    assert not any(pictures.values()) and "can no longer be read" in notes[0]


# --- words -----------------------------------------------------------------------------------


def test_numbers_for_people():
    assert number(math.nan) == number(None) == "-" and number(math.inf) == "∞"
    assert number(-0.001, 2) == "0.00" and signed(-0.001, 2) == "0.00"
    assert signed(0.5, 1) == "+0.5" and signed(-2, 1) == "-2.0" and signed(math.nan) == "-"
    assert interval(1, math.nan) == "-" and interval(-1, 2, 1) == "-1.0 to 2.0"
    assert p_text(0.0004) == "< 0.001" and p_text(0.0312) == "0.031" and p_text(math.nan) == "-"


@pytest.mark.parametrize(
    ("name", "unit", "key"),
    [
        ("dice", "", "dice"),
        ("hausdorff95_mm", "mm", "hausdorff95_mm"),
        ("hd95", "mm", "hausdorff95_mm"),
        ("HDRFDST", "voxel", "HDRFDST"),
        ("AVGDIST_max", "voxel", "AVGDIST_max"),
        ("size_difference", "%", "size_difference_percent"),
        ("size_difference", "mm2", "size_difference"),
        ("csa_mm2", "mm2", "csa_mm2"),
        ("volumetric_similarity", "", "VOLSMTY"),
    ],
)
def test_measures_are_known_by_their_names(name, unit, key):
    assert metric_named(name, unit).key == key


def test_an_unknown_measure_is_nobody_s():
    assert metric_named("shininess") is None
