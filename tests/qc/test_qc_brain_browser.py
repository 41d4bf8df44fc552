"""A brain's card in a real browser: its slices, its lesions, ratings, and cords beside it."""

import numpy as np
import pytest
from qc_brain_helpers import head, write_brain
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
    assert "All 90 axial slices above" in said and "Here 16 of them" in said and "Every counted lesion" in said
    assert "radiological (right is left)" in page.inner_text("#about")
    side = page.inner_text("#side")
    assert (
        "3 lesions" in side
        and "3 of them of 10 mm³ and more" in side
        and "2.66 mL" in side
        and "periventricular" in side
        and "1 more below 3 mm" in side
    )
    assert page.locator("#side table.lesions tbody tr").count() == 4
    assert "brain ml 1400, brain mask template" in page.inner_text("#side .facts")
    assert page.locator("#side svg.plot").count() == 0
    marks = page.locator(".tile[data-k='52'] .side-mark").all_inner_texts()
    assert sorted(marks) == ["A", "L", "P", "R"]
    assert page.get_attribute(".tile[data-k='52']", "aria-label").startswith("Slice 52 2 lesions · ")
    page.dblclick(".tile[data-k='52']")
    assert "Slice 52 · 2 lesions: 1, 2 ·" in page.inner_text("#largeTitle")
    # All slices, not only those laid out.
    page.keyboard.press("ArrowRight")
    assert "Slice 53" in page.inner_text("#largeTitle")


def at(page):
    """The point that the planes go through: column, row, slice."""
    return page.evaluate("[QC.brain.at.c, QC.brain.at.r, QC.brain.at.k]")


def pixels_of(page, selector):
    """Gray values of a canvas, rows of columns."""
    flat, width = page.evaluate(
        """(selector) => {
          const canvas = document.querySelector(selector);
          const {data, width} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return [Array.from(data).filter((_, n) => n % 4 === 0), width];
        }""",
        selector,
    )
    return np.array(flat).reshape(-1, width)


def test_planes_are_those_of_the_scan(open_page, tmp_path):
    box = [[10, 80], [12, 96], [15, 80]]
    write_brain(tmp_path / "out", axes="PSR", raw={"brain": {"brain_ml": 1400.0, "box": box}})
    page = open_page(write_page(find_records(tmp_path / "out"), tmp_path / "qc"))
    page.locator(".plane path.LESION").first.wait_for(state="attached")
    # 4 mm around the box: three voxels on each side. Patient's right, front and top come first on the screen.
    shown = head()[0][7:83, 9:99, 12:83][::-1, ::-1, ::-1]
    page.evaluate("QC.brain.go({ c: 30, r: 20, k: 40 })")
    planes = {"axial": shown[:, :, 82 - 40].T, "coronal": shown[:, 20, :].T, "sagittal": shown[30, :, :].T}
    for name, plane in planes.items():
        seen = pixels_of(page, f".plane[data-plane={name}] canvas")
        assert seen.shape == plane.shape
        assert np.corrcoef(seen.ravel(), plane.ravel())[0, 1] > 0.97, name


def test_every_slice_can_be_scrolled_to(page):
    go(page, "sub-01_FLAIR")
    start = at(page)
    page.locator(".plane[data-plane=axial]").hover()
    page.mouse.wheel(0, -100)
    page.keyboard.press("s")
    page.wait_for_function(f"QC.brain.at.k === {start[2] + 2}")
    page.locator(".plane[data-plane=sagittal]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("i")
    assert at(page) == [start[0] - 1, start[1], start[2] + 1]
    page.locator("#sliceAt").fill("0")
    assert at(page)[2] == 0 and "Slice 0 · no lesion" in page.inner_text("#where")
    page.locator("#sliceAt").fill("89")
    assert at(page)[2] == 89


def test_a_lesion_chosen_is_ringed_and_the_planes_go_through_it(page):
    go(page, "sub-01_FLAIR")
    page.click("#side tr[data-lesion='2']")
    where = """(name) => {
      const plane = document.querySelector(`.plane[data-plane=${name}]`);
      const box = (e) => e.getBoundingClientRect();
      const [v, h] = [...plane.querySelectorAll('.cross')].map(box), ring = box(plane.querySelector('.ring'));
      const path = plane.querySelector('path.LESION');
      const point = new DOMPoint(v.left, h.top).matrixTransform(path.getScreenCTM().inverse());
      const within = ring.left < v.left && v.left < ring.right && ring.top < h.top && h.top < ring.bottom;
      return [path.isPointInFill(point), within];
    }"""
    for name in ("axial", "coronal", "sagittal"):
        assert page.evaluate(where, name) == [True, True], name
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") == "2"
    page.click("#side tr[data-lesion='2']")
    assert page.locator(".ring").count() == 0


def test_click_on_a_lesion_chooses_it_in_the_table(page):
    go(page, "sub-01_FLAIR")
    # One voxel: no outline hides it, and a click beside it finds it.
    page.keyboard.press("Shift+L")
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") == "4"
    page.keyboard.press("l")
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") == "1"
    page.locator("#sliceAt").fill("70")
    circle = page.locator(".plane[data-plane=axial] ellipse.small")
    box = circle.bounding_box()
    assert box["width"] > 10
    page.mouse.click(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") == "4"
    tile = page.locator(".tile[data-k='52'] path.LESION:not(.tiny)")
    inside = page.evaluate(
        """() => {
          const path = document.querySelector(".tile[data-k='52'] path.LESION");
          path.scrollIntoView({block: 'center'});
          const start = path.getPointAtLength(0);
          const point = new DOMPoint(start.x + .5, start.y + .5).matrixTransform(path.getScreenCTM());
          return [point.x, point.y];
        }"""
    )
    assert tile.count() == 1
    page.mouse.click(*inside)
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") in ("1", "2")
    assert at(page)[2] == 52


def test_double_click_enlarges_and_a_lesion_is_chosen_there_too(page):
    go(page, "sub-01_FLAIR")
    page.keyboard.press("l")
    # On the outline, which is drawn anew while the button is down.
    box = page.locator(".plane[data-plane=axial] .ring").bounding_box()
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#large[open] #largeFrame path.LESION")
    k = at(page)[2]
    page.locator("#largeFrame").hover()
    page.mouse.wheel(0, 100)
    assert at(page)[2] == k - 1 and f"Slice {k - 1} " in page.inner_text("#largeTitle")
    page.mouse.wheel(0, -100)
    page.keyboard.press("l")
    page.wait_for_selector("#largeFrame .ring")
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") == "2"
    path = "#largeFrame path.LESION:not(.tiny)"
    page.wait_for_selector(path, state="attached")
    point = page.evaluate(
        """(selector) => {
          const path = document.querySelector(selector);
          const from = path.getPointAtLength(0);
          const point = new DOMPoint(from.x + .5, from.y + .5).matrixTransform(path.getScreenCTM());
          return [point.x, point.y];
        }""",
        path,
    )
    page.mouse.click(*point)
    assert page.locator("#largeFrame .ring").count() == 1
    assert page.locator("#side .lesions tr.here").get_attribute("data-lesion") in ("1", "2")


def test_window_and_level_are_linear(page):
    go(page, "sub-01_FLAIR")
    page.locator("#window").fill("50")
    page.locator("#level").fill("60")
    # Black at 35 % of the range, white at 85 %.
    for value, expected in ((0.35, 0), (0.6, 0.5), (0.85, 1)):
        slope, intercept = (float(page.get_attribute("#transfer feFuncG", name)) for name in ("slope", "intercept"))
        assert slope * value + intercept == pytest.approx(expected)
    low, high = page.evaluate("QC.view.card.stack.range")
    said = page.inner_text("#shownRange")
    assert said == f"shown: {low + 0.35 * (high - low):.0f} to {low + 0.85 * (high - low):.0f}"
    assert "transfer" in page.evaluate("getComputedStyle(document.querySelector('.plane canvas')).filter")
    page.click("#windowReset")
    assert page.evaluate("getComputedStyle(document.querySelector('.plane canvas')).filter") == "none"


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
    page.select_option("#sort", "load_ml")
    assert listed(page)[-1] == "sub-01_T2starw"
    page.fill("#search", "suffix-FLAIR")
    assert listed(page) == ["sub-01_FLAIR", "sub-02_FLAIR"]


def test_index_has_the_columns_of_both(open_page, mixed):
    index = open_page(mixed / "many" / "index.html")
    heads = "scan|score|SC area, mm²|GM area, mm²|GM/SC ratio|lesion load, mL|number of lesions|brain volume, mL|rating"
    shown = "|".join(index.locator("#all th").all_inner_texts())
    assert shown.replace(" ↓", "").startswith(heads)
    row = index.locator("#all tbody tr", has_text="sub-01_FLAIR").locator("td").all_inner_texts()
    assert row[2:7] == ["–", "–", "–", "2.66", "3"]


def test_a_lesion_chosen_on_a_phone_is_clear_of_the_bars(page):
    page.set_viewport_size(PHONE)
    page.reload()
    page.click("#listToggle")
    go(page, "sub-01_FLAIR")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator("#side tr[data-lesion='1'] button").click()
    ring = page.locator(".plane[data-plane=axial] .ring").bounding_box()
    clear = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).closest('.plane') !== null",
        [ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2],
    )
    assert clear
