"""A brain's card in a real browser: its slices, its lesions, ratings, and cords beside it."""

import pytest
from qc_brain_helpers import write_brain
from qc_browser_helpers import PHONE, download, go, listed, pressed
from qc_helpers import write_scan

from sctseg7t.cohort import find_records
from sctseg7t.qc import write_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    write_brain(folder / "out", "sub-01_FLAIR")
    write_brain(folder / "out", "sub-02_FLAIR", axes="PSR", seed=1)
    write_scan(folder / "out", "sub-01_T2starw")
    write_page(find_records(folder / "out"), folder / "qc")
    write_page(find_records(folder / "out"), folder / "many", per_page=2)
    return folder


@pytest.fixture
def page(open_page, mixed):
    return open_page(mixed / "qc" / "index.html")


def test_brain_card(page):
    go(page, "sub-01_FLAIR")
    assert page.locator("#mosaic .tile").count() == 16
    said = page.inner_text("#mosaic .selection")
    assert "16 of 90 axial slices" in said and "Every counted lesion" in said
    side = page.inner_text("#side")
    assert "3 lesions" in side and "2.66 mL" in side and "periventricular" in side and "1 more below 3 mm" in side
    assert page.locator("#side table.lesions tbody tr").count() == 4
    assert "brain ml 1400, brain mask template" in page.inner_text("#side .facts")
    assert page.locator("#side svg.plot").count() == 0
    marks = page.locator(".tile[data-k='52'] .side-mark").all_inner_texts()
    assert sorted(marks) == ["A", "L", "P", "R"]
    assert page.get_attribute(".tile[data-k='52']", "aria-label").startswith("Slice 52, 2 lesions: 1, 2")
    page.click(".tile[data-k='52']")
    assert "Slice 52 · 2 lesions: 1, 2 ·" in page.inner_text("#largeTitle")


def test_a_lesion_chosen_is_ringed_where_it_is(page):
    go(page, "sub-01_FLAIR")
    page.click("#side tr[data-lesion='2']")
    where = page.evaluate(
        """() => {
          const tile = document.querySelector('.tile.here');
          const box = (e) => e.getBoundingClientRect();
          const ring = box(tile.querySelector('rect.ring'));
          const pane = box(document.querySelector('.pictures'));
          const x = (ring.left + ring.right) / 2, y = (ring.top + ring.bottom) / 2;
          const path = tile.querySelector('path.LESION');
          const point = new DOMPoint(x, y).matrixTransform(path.getScreenCTM().inverse());
          return {k: tile.dataset.k, inside: path.isPointInFill(point), seen: y > pane.top && y < pane.bottom};
        }"""
    )
    assert where == {"k": "52", "inside": True, "seen": True}
    assert page.locator("rect.ring").count() == 1
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") == "2"
    page.click("#side tr[data-lesion='2']")
    assert page.locator("rect.ring").count() == 0
    # One that is on no slice shown leads nowhere.
    assert page.get_attribute("#side tr[data-lesion='4']", "data-k") is None


def test_each_kind_keeps_its_own_scale(page):
    def width():
        return page.evaluate("document.querySelector('.tile .frame').getBoundingClientRect().width")

    go(page, "sub-01_T2starw")
    page.keyboard.press("+")
    go(page, "sub-01_FLAIR")
    assert 140 < width() < 240
    go(page, "sub-01_T2starw")
    assert 140 < width() < 340
    assert page.locator("#side svg.plot").count() == 2
    # Flicker offers no brain for a cord, nor the other way round.
    assert page.locator("#reference option").count() == 0
    go(page, "sub-02_FLAIR")
    assert page.locator("#reference option").all_inner_texts() == ["sub-01_FLAIR"]


def test_ratings_search_sort_and_lists(page):
    go(page, "sub-02_FLAIR")
    page.keyboard.press("f")
    page.keyboard.press("2")
    assert [text[-1:] for text in pressed(page)] == ["l", "2"]
    go(page, "sub-01_T2starw")
    page.keyboard.press("f")
    name, text = download(page, "[data-export=fail]")
    assert name == "qc_fail.yml"
    cord, brain = "- sub-01_T2starw.nii.gz\n", "- sub-02_FLAIR.nii.gz\n"
    assert text == f"FILES_SEG:\n{cord}FILES_GMSEG:\n{cord}FILES_LESION:\n{brain}"
    page.select_option("#sort", "load")
    assert listed(page)[-1] == "sub-01_T2starw"
    page.fill("#search", "suffix-FLAIR")
    assert listed(page) == ["sub-01_FLAIR", "sub-02_FLAIR"]


def test_index_has_the_columns_of_both(open_page, mixed):
    index = open_page(mixed / "many" / "index.html")
    heads = "scan|score|SC, mm²|GM, mm²|lesions|load, mL|rating|why".split("|")
    assert index.locator("#table th").all_inner_texts() == heads
    row = index.locator("#table tbody tr", has_text="sub-01_FLAIR").locator("td").all_inner_texts()
    assert row[2:6] == ["–", "–", "3", "2.66"]


def test_a_lesion_chosen_on_a_phone_is_clear_of_the_bars(page):
    page.set_viewport_size(PHONE)
    page.reload()
    page.click("#listToggle")
    go(page, "sub-01_FLAIR")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator("#side tr[data-lesion='1'] button").click()
    ring = page.locator("rect.ring").bounding_box()
    clear = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).closest('.tile') !== null",
        [ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2],
    )
    assert clear
