"""How the page shows scans and takes keys, in a real browser."""

import nibabel as nib
import numpy as np
import pytest
from qc_browser_helpers import LAPTOP, PHONE, go, listed, name, pressed
from qc_helpers import affine_of, phantom, write_cohort, write_failed, write_scan

from sctseg7t.cohort import find_records
from sctseg7t.qc import write_page

pytestmark = pytest.mark.browser

FULL_HD, LARGER = {"width": 1920, "height": 1080}, {"width": 2560, "height": 1440}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Seven scans with participants: one of half the field of view, one failed."""
    folder = tmp_path_factory.mktemp("view")
    write_cohort(folder / "out", 5)
    _, sc, gm = phantom((30, 40, 6))
    write_scan(folder / "out", "sub-06_T2starw", image=phantom((30, 40, 6))[0], masks={"SC": sc, "GM": gm}, axes="RPI")
    write_failed(folder / "out", "sub-99_T2starw")
    people = folder / "participants.tsv"
    groups = ("MS", "control", "MS", "control", "MS", "control")
    rows = "".join(f"sub-{n + 1:02d}\t{group}\t{30 + n}\n" for n, group in enumerate(groups))
    people.write_text(f"participant_id\tgroup\tage\n{rows}")
    return write_page(find_records(folder / "out"), folder / "qc", participants=people)


@pytest.fixture
def page(open_page, cohort):
    opened = open_page(cohort)
    go(opened, "sub-01_T2starw")
    return opened


def box(page, selector):
    return page.evaluate(
        """s => {
          const {left, top, right, bottom} = document.querySelector(s).getBoundingClientRect();
          return [left, top, right, bottom];
        }""",
        selector,
    )


@pytest.mark.parametrize("size", [FULL_HD, LARGER, LAPTOP, PHONE, {"width": 844, "height": 390}])
def test_an_enlarged_slice_is_whole_with_its_sides_and_a_scale(page, size):
    page.set_viewport_size(size)
    page.reload()
    page.click(".tile[data-k='2']")
    picture, dialog = box(page, "#largeFrame .frame"), box(page, "#large")
    assert 0 <= dialog[0] <= picture[0] and picture[2] <= dialog[2] <= size["width"]
    assert 0 <= dialog[1] <= picture[1] and picture[3] <= dialog[3] <= size["height"]
    # Nothing is scrolled to, and it is as large as the stage.
    stage = box(page, "#largeStage")
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight)(largeScroll)")
    assert (
        max((picture[2] - picture[0]) / (stage[2] - stage[0]), (picture[3] - picture[1]) / (stage[3] - stage[1])) > 0.98
    )
    for side in "rlap":
        mark = box(page, f"#large .big-mark.{side}")
        assert picture[0] <= mark[0] and mark[2] <= picture[2] and picture[1] <= mark[1] and mark[3] <= picture[3]
        assert mark[3] - mark[1] >= 16
    # The bar is as long as it says: frames are 48 pixels of 0.5 mm wide.
    bar = box(page, "#largeBar")
    scale = (picture[2] - picture[0]) / 24
    assert (bar[2] - bar[0]) / scale == pytest.approx(float(page.inner_text("#largeBar").split()[0]), rel=0.02)
    # Zoomed in, the sides stay in view.
    for _ in range(4):
        page.keyboard.press("+")
    for side in "rlap":
        mark = box(page, f"#large .big-mark.{side}")
        assert dialog[0] <= mark[0] and mark[2] <= dialog[2] and dialog[1] <= mark[1] and mark[3] <= dialog[3]
    assert page.evaluate("(e => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight)(largeScroll)")


def test_all_keys_work_in_the_enlarged_view(page):
    page.click(".tile[data-k='2']")
    assert page.inner_text("#largeCount") == "3 of 6"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#largeCount") == "4 of 6" and page.inner_text("#largeTitle").startswith("Slice 3")
    page.keyboard.press("f")
    page.keyboard.press("2")
    assert pressed(page) == ["✕ Fail", "2"] and "quality 2" in page.inner_text("#large #say")
    page.keyboard.press("n")
    page.keyboard.type("leaks, p j k")
    page.keyboard.press("Enter")
    order = listed(page)
    page.keyboard.press("j")
    follower = order[order.index("sub-01_T2starw") + 1]
    assert name(page) == follower == page.inner_text("#largeName") and pressed(page) == []
    assert page.inner_text("#largeCount") == "4 of 6" and page.is_visible("#large")
    page.keyboard.press("k")
    assert pressed(page) == ["✕ Fail", "2"] and page.input_value("#notes") == "leaks, p j k"
    page.keyboard.press("u")
    page.keyboard.press("u")
    assert pressed(page) == ["✕ Fail"]
    page.keyboard.press("0")
    assert pressed(page) == []
    page.keyboard.press("a")
    page.mouse.click(2, 2)
    assert not page.is_visible("#large") and pressed(page) == ["◐ Artefact"]
    page.keyboard.press("p")
    assert pressed(page) == ["✓ Pass"]


def test_keys_work_after_any_use_of_the_mouse(page):
    for control in ("#opacity", "#zoom", "#window"):
        page.locator(control).click()
        page.keyboard.press("f")
        assert pressed(page) == ["✕ Fail"], control
        here, slider = name(page), page.input_value(control)
        page.keyboard.press("ArrowDown")
        assert name(page) != here and page.input_value(control) == slider
        go(page, here)
        page.keyboard.press("0")
    # A menu that the mouse has opened, and left as it was.
    for _ in range(2):
        page.locator("#filter").click()
        page.select_option("#filter", "standout")
        page.keyboard.press("p")
        assert page.input_value("#filter") == "standout" and pressed(page) == ["✓ Pass"]
        page.keyboard.press("p")
    page.select_option("#filter", "all")
    # With the tabulator alone they keep what is theirs.
    page.keyboard.press("Tab")
    page.locator("#zoom").focus()
    before, here = page.input_value("#zoom"), name(page)
    page.keyboard.press("ArrowRight")
    assert page.input_value("#zoom") != before and name(page) == here


def test_nothing_moves_but_the_picture_in_flicker(page):
    tiles = "[...document.querySelectorAll('.tile')].map(e => JSON.stringify(e.getBoundingClientRect())).join()"
    # Also where the other scan's pictures are of another size.
    page.select_option("#reference", label="sub-06_T2starw")
    before, first = page.evaluate(tiles), page.get_attribute(".tile path.SC", "d")
    page.keyboard.press("x")
    assert page.evaluate(tiles) == before and page.get_attribute(".tile path.SC", "d") != first
    assert "Other scan: sub-06" in page.inner_text("#banner")
    inner, frame = (box(page, f".tile {part}") for part in (".inner", ".frame"))
    # 30 of 48 pixels wide, in the middle.
    assert (inner[2] - inner[0]) / (frame[2] - frame[0]) == pytest.approx(30 / 48, abs=0.01)
    assert inner[0] - frame[0] == pytest.approx(frame[2] - inner[2], abs=0.5)
    page.keyboard.press("x")
    assert page.evaluate(tiles) == before and page.get_attribute(".tile path.SC", "d") == first


def test_two_runs_of_a_scan_lie_over_each_other_in_flicker(open_page, tmp_path):
    image, sc, gm = phantom((160, 120, 3))
    for who, shift in (("one", 0), ("two", 10)):
        masks = {"SC": np.roll(sc, shift, 0), "GM": np.roll(gm, shift, 0)}
        write_scan(tmp_path / "out", who, image=image, masks=masks)
    page = open_page(write_page(find_records(tmp_path / "out"), tmp_path / "qc"))
    # Its window is around its mask, 10 voxels to the patient's left; the picture stays where it was.
    go(page, "two")
    go(page, "one")
    whole, tile = "document.querySelector('.tile .frame')", ".tile"
    width = page.evaluate(f"{whole}.getBoundingClientRect().width")
    voxel = width / page.evaluate("QC.view.card.size[0]")
    before = box(page, f"{tile} .inner")
    page.keyboard.press("x")
    assert box(page, f"{tile} .inner")[0] - before[0] == pytest.approx(-10 * voxel, abs=0.5)
    assert box(page, f"{tile} .inner")[1] == pytest.approx(before[1], abs=0.1)


def test_how_it_looks_survives_a_reload(page):
    page.select_option("#sort", "gm_area_mm2")
    page.click("#direction")
    page.select_option("#filter", "standout")
    page.click("#tissues button:has-text('GM')")
    page.keyboard.press("c")
    page.fill("#opacity", "40")
    page.fill("#zoom", "7")
    page.fill("#window", "60")
    page.click("#theme")
    page.click("#advance")
    page.locator("[data-pane=list]").focus()
    page.keyboard.press("ArrowRight")
    order = listed(page)
    page.reload()
    assert (page.input_value("#sort"), page.input_value("#filter")) == ("gm_area_mm2", "standout")
    assert listed(page) == order
    go(page, order[0])
    assert page.input_value("#opacity") == "40" and page.input_value("#zoom") == "7"
    assert page.input_value("#window") == "60" and page.evaluate("document.body.classList.contains('windowed')")
    on = page.locator(".toolbar [aria-pressed=true]").all_inner_texts()
    assert "Fill" in on and "Auto-next" in on and "GM" not in on
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert box(page, "#listPane")[2] == 280
    assert "of 7 shown" in page.inner_text("#shown")
    page.click("#showAll")
    assert len(listed(page)) == 7


def test_dark_follows_the_system_or_the_choice(page):
    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    dark = ground()
    assert dark != light
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light" and ground() == light
    page.emulate_media(color_scheme="light")
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark" and ground() == dark


def test_a_scan_that_no_longer_matches_leaves_the_list_and_the_next_is_the_next(page):
    order = listed(page)
    page.select_option("#filter", "unrated")
    go(page, order[2])
    page.keyboard.press("p")
    assert listed(page) == [who for who in order if who != order[2]] and name(page) == order[2]
    page.keyboard.press("j")
    assert name(page) == order[3]
    page.keyboard.press("k")
    assert name(page) == order[1]
    page.fill("#search", "no such scan")
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    assert "No scan matches" in page.inner_text("#say")


def test_names_are_shown_where_they_differ(open_page, tmp_path):
    names = [f"sub-{n:02d}_ses-1_acq-0p5mm_run-{n % 2 + 1}_T2starw" for n in range(5)]
    for who in names:
        write_scan(tmp_path / "out", who)
    page = open_page(write_page(find_records(tmp_path / "out"), tmp_path / "qc"))
    assert set(page.locator("#scans .who").all_inner_texts()) == {f"sub-{n:02d}_run-{n % 2 + 1}" for n in range(5)}
    assert all(page.locator(f"#scans button[title^='{who}\\a']").count() == 1 for who in names)


def test_fewer_than_five_scans_are_not_compared(open_page, tmp_path):
    write_cohort(tmp_path / "out", 3)
    page = open_page(write_page(find_records(tmp_path / "out"), tmp_path / "qc"))
    assert "not compared" in page.inner_text("#progress")
    assert all("not compared" in text for text in page.locator("#scans .why").all_inner_texts()[1:])
    assert page.locator("#scans .score").all_inner_texts()[-1] == "–" and "stands out" not in page.inner_text("body")


def test_groups_filter_sort_and_part_the_plots(page):
    page.select_option("#group", label="group: MS")
    assert set(listed(page)) == {"sub-01_T2starw", "sub-03_T2starw", "sub-05_T2starw"}
    page.select_option("#group", index=0)
    page.keyboard.press("t")
    assert not page.is_visible("#card") and page.locator("#plots svg").count() == 3
    said = page.get_attribute("#plots svg >> nth=0", "aria-label")
    assert said.startswith("SC area, mm². control: 3, median") and "MS: 3, median" in said
    # Each dot is at the place of its group, and leads to its scan.
    xs = {
        group: {
            page.locator(f"#plots svg >> nth=0 >> circle[data-id$='sub-{n:02d}_T2starw_deepseg.json']").bounding_box()[
                "x"
            ]
            for n in numbers
        }
        for group, numbers in {"control": (2, 4, 6), "MS": (1, 3, 5)}.items()
    }
    assert max(xs["control"]) + 20 < min(xs["MS"])
    page.click("#all th button:has-text('age')")
    cells = [row.split("\t")[:3] for row in page.locator("#all tbody tr").all_inner_texts()]
    assert [age for _, _, age in cells] == ["30", "31", "32", "33", "34", "35", ""]
    page.click("#all th button:has-text('age')")
    assert page.locator("#all tbody tr td:nth-child(3)").all_inner_texts()[0] == "35"
    assert page.get_attribute("#all th:nth-child(3)", "aria-sort") == "descending"
    page.locator("#plots svg >> nth=1 >> circle[data-id$='sub-03_T2starw_deepseg.json']").click()
    assert name(page) == "sub-03_T2starw" and page.is_visible("#card") and not page.is_visible("#table")


def test_slices_are_told_as_the_file_has_them_too(page):
    # That scan's file is stored from the top down.
    go(page, "sub-06_T2starw")
    page.click(".tile[data-k='0']")
    assert page.inner_text("#largeTitle").startswith("Slice 0 (5 in the file)")
    page.keyboard.press("Escape")
    head = page.locator("#side table th").all_inner_texts()
    assert "in file" in head
    go(page, "sub-01_T2starw")
    assert "in file" not in page.locator("#side table th").all_inner_texts()


def test_a_corrected_mask_is_marked_and_found(open_page, tmp_path):
    write_cohort(tmp_path / "out", 3)
    _, sc, _ = phantom(radius=(6, 4))
    nib.save(nib.Nifti1Image(sc.astype(np.uint8), affine_of()), tmp_path / "out" / "sub-02_T2starw_seg.nii.gz")
    page = open_page(write_page(find_records(tmp_path / "out"), tmp_path / "qc"))
    page.select_option("#filter", "corrected")
    assert listed(page) == ["sub-02_T2starw"]
    assert "corrected" in page.inner_text("#scans")
    go(page, "sub-02_T2starw")
    assert "corrected by hand: SC" in page.inner_text("#about")
    page.select_option("#filter", "all")
    go(page, "sub-01_T2starw")
    assert "corrected" not in page.inner_text("#about")


def test_a_scan_is_announced_and_the_list_is_one_stop(page):
    page.keyboard.press("j")
    said = page.text_content("#announce")
    assert name(page) in said and "not rated" in said and " of 7" in said
    assert page.locator("#scans [tabindex='0']").count() == 1
    page.locator("#scans [tabindex='0']").focus()
    here = name(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    # The focus goes along: Enter does not lead back.
    page.keyboard.press("Enter")
    assert name(page) != here
    assert page.evaluate("document.activeElement.dataset.name") == name(page)


def test_what_is_read_out_has_the_words_that_are_seen(page):
    """A tile's spoken name holds its caption; borders of controls are seen (3:1 and more)."""
    captions = page.locator(".tile .caption").all_inner_texts()
    labels = [tile.get_attribute("aria-label") for tile in page.locator(".tile").all()]
    assert captions and all(" ".join(text.split()) in label for text, label in zip(captions, labels))
    for theme in ("light", "dark"):
        while theme not in page.inner_text("#theme"):
            page.click("#theme")
        ratio = page.evaluate(
            """() => {
              const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
              const light = (text) => {
                const [r, g, b] = text.match(/[\\d.]+/g).map((v) => linear(v / 255));
                return .2126 * r + .7152 * g + .0722 * b;
              };
              const style = (selector) => getComputedStyle(document.querySelector(selector));
              const edge = light(style('#undo').borderTopColor);
              const ratio = (ground) => (Math.max(edge, ground) + .05) / (Math.min(edge, ground) + .05);
              return Math.min(...['.top', 'body'].map((selector) => ratio(light(style(selector).backgroundColor))));
            }"""
        )
        assert ratio >= 3, theme


def test_bars_leave_a_phone_its_room(page):
    page.set_viewport_size(PHONE)
    page.reload()
    page.mouse.wheel(0, 900)
    page.wait_for_timeout(100)
    top, bottom = box(page, ".top")[3], box(page, ".rate")[1]
    assert top <= 50 and bottom - top > 0.8 * PHONE["height"]
    assert not page.is_visible("#rater")
    page.click("#toolsToggle")
    assert page.is_visible("#rater")


def test_print_holds_the_rating_and_no_controls(page):
    page.keyboard.press("f")
    page.keyboard.press("2")
    page.fill("#notes", "leaks at slice 3")
    page.keyboard.press("Enter")
    page.emulate_media(media="print")
    assert page.is_visible("#rated") and "fail, quality 2 by Zoe" in page.inner_text("#rated")
    assert "leaks at slice 3" in page.inner_text("#rated")
    for selector in (".rate", "#rater", "#previous", "#scans", ".toolbar"):
        assert not page.is_visible(selector), selector
    assert page.locator(".tile .side-mark").first.is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.plot .line')).display") != "none"
    assert page.locator(".plot").first.bounding_box()["width"] <= 330
