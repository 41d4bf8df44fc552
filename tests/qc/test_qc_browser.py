"""The page in a real browser: keys, ratings, reload, export, import, hostile names, two windows."""

import csv
import io
import json
import re

import nibabel as nib
import numpy as np
import pytest
from qc_browser_helpers import LAPTOP, PHONE, call_rater, download, give, go, listed, name, pressed
from qc_helpers import HOSTILE, SHAPE, SPACING_MM, affine_of, meta_of, phantom, write_cohort, write_failed, write_scan

from sctseg7t.cohort import find_records
from sctseg7t.qc import write_page
from sctseg7t.qc.ratings import VERDICTS, compare_raters, read_ratings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of results: six scans, one far larger, one failed, one of a hostile name; with its page."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder / "out")
    write_failed(folder / "out", "sub-99_T2starw", "the file is truncated; copy it again")
    write_scan(folder / "out", HOSTILE, raw={"warnings": ["</script><script>alert(2)</script>"]})
    write_page(find_records(folder / "out"), folder / "qc", title="Browser cohort")
    return folder


@pytest.fixture
def page(open_page, cohort):
    return open_page(cohort / "qc" / "index.html")


def test_worst_first_with_the_reason_in_words(page):
    assert listed(page)[:2] == ["sub-99_T2starw", "sub-06_T2starw"]
    assert name(page) == "sub-99_T2starw"
    assert "the file is truncated; copy it again" in page.inner_text("#mosaic")
    page.keyboard.press("j")
    assert "SC area" in page.inner_text("#side .reasons") and "robust z" in page.inner_text("#side .reasons")
    assert page.locator("#mosaic .tile").count() == 6
    assert page.locator("#side svg.plot").count() == 2 and page.locator("#side svg.plot .band").count() == 2
    assert page.locator("#side tr[data-k]").count() == 6
    facts = page.inner_text("#side .facts")
    assert "cord_gm_sc 9.9" in facts and "t1.nii.gz · sha256 abab" in facts


def test_next_and_previous(page):
    order = listed(page)
    keys = {"j": 1, "ArrowDown": 2, "ArrowRight": 3, "k": 2, "ArrowUp": 1, "ArrowLeft": 0}
    for key, at in keys.items():
        page.keyboard.press(key)
        assert name(page) == order[at], key
    for _ in range(12):
        page.keyboard.press("j")
    assert name(page) == order[-1]
    assert page.get_attribute("#scans [aria-current=true]", "data-name") == order[-1]


def test_outlines_are_drawn_over_the_pixels_of_the_mask(page, cohort):
    """Fill the masks opaquely and compare the screen with the file, pixel by pixel."""
    go(page, "sub-06_T2starw")
    page.evaluate("document.documentElement.style.setProperty('--scale', 10)")
    page.click("#fill")
    found = page.evaluate(
        """async () => {
          const frame = document.querySelector('.tile[data-k="2"] .frame');
          const path = frame.querySelector('path.SC');
          const [, , nx, ny] = frame.querySelector('svg').getAttribute('viewBox').split(' ').map(Number);
          const box = frame.getBoundingClientRect();
          const inside = [];
          for (let r = 0; r < ny; r++) for (let c = 0; c < nx; c++)
            inside.push(path.isPointInFill(new DOMPoint(c + 0.5, r + 0.5)) ? 1 : 0);
          return {nx, ny, inside, width: box.width, height: box.height,
                  image: frame.querySelector('img').naturalWidth};
        }"""
    )
    mask = np.asanyarray(nib.load(cohort / "out" / "sub-06_T2starw_seg.nii.gz").dataobj)[..., 2]
    shown = np.array(found["inside"]).reshape(found["ny"], found["nx"])
    assert found["image"] == found["nx"]
    # 0.5 x 0.6 mm pixels keep their shape.
    assert found["width"] / found["height"] == pytest.approx(found["nx"] * 0.5 / (found["ny"] * 0.6), rel=0.01)
    rows, columns = np.nonzero(mask.T[::-1, ::-1])
    shown_rows, shown_columns = np.nonzero(shown)
    assert np.array_equal(rows - rows.min(), shown_rows - shown_rows.min())
    assert np.array_equal(columns - columns.min(), shown_columns - shown_columns.min())


def test_overlay_fill_tissues_opacity_zoom(page):
    page.keyboard.press("j")
    outline = page.locator(".tile[data-k='0'] path.SC")
    assert outline.is_visible()
    page.keyboard.press("o")
    assert not outline.is_visible() and page.get_attribute("#overlay", "aria-pressed") == "false"
    page.keyboard.press("o")
    areas = page.locator(".tile[data-k='0'] path.area")
    assert areas.count() == 2 and not areas.first.is_visible()
    page.keyboard.press("c")
    assert areas.first.is_visible()
    # What is GM is painted in its colour alone.
    painted = """([x, y]) => [...document.querySelectorAll(".tile[data-k='0'] path.area")]
        .filter((e) => e.isPointInFill(new DOMPoint(x, y))).map((e) => e.dataset.tissue)"""
    start = page.locator(".tile[data-k='0'] path.GM").evaluate(
        "e => { const p = e.getPointAtLength(0); return [p.x, p.y]; }"
    )
    assert page.evaluate(painted, [start[0] + 0.5, start[1] + 0.5]) == ["GM"]
    page.keyboard.press("c")
    assert not areas.first.is_visible()
    page.fill("#opacity", "50")
    assert outline.evaluate("e => getComputedStyle(e).strokeOpacity") == "0.5"
    assert page.locator("#mosaic path.WM").count() == 0
    page.click("#tissues button:has-text('WM')")
    page.click("#tissues button:has-text('SC')")
    assert page.locator("#mosaic path.WM").count() == 6 and page.locator("path.SC >> visible=true").count() == 0
    assert page.locator(".sagittal path.WM").is_visible()
    before = page.locator(".frame").first.bounding_box()["width"]
    page.keyboard.press("+")
    assert page.locator(".frame").first.bounding_box()["width"] > before * 1.1
    page.click(".tile[data-k='2']")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#largeTitle").startswith("Slice 3")
    page.keyboard.press("Escape")
    assert not page.is_visible("#large")


def test_flicker_and_swap(page):
    go(page, "sub-01_T2starw")
    go(page, "sub-06_T2starw")
    first = page.get_attribute(".tile[data-k='0'] path.SC", "d")
    page.keyboard.press("x")
    assert "sub-01_T2starw" in page.inner_text("#banner")
    assert page.get_attribute(".tile[data-k='0'] path.SC", "d") != first
    page.keyboard.press("x")
    assert page.get_attribute(".tile[data-k='0'] path.SC", "d") == first and "Other" not in page.inner_text("#banner")
    page.select_option("#reference", label="sub-02_T2starw")
    page.click("#flicker")
    assert "sub-02_T2starw" in page.inner_text("#banner")
    page.wait_for_selector("#banner:not(.notice)")
    page.wait_for_selector("#banner.notice")
    page.click("#flicker")
    assert "Other" not in page.inner_text("#banner")
    assert page.get_attribute(".tile[data-k='0'] path.SC", "d") == first


def test_search_and_filter(page):
    page.keyboard.press("/")
    page.keyboard.type("sub-03")
    assert listed(page) == ["sub-03_T2starw"]
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    assert name(page) == "sub-03_T2starw"
    page.fill("#search", "truncated")
    assert listed(page) == ["sub-99_T2starw"]
    page.fill("#search", "nothing like it")
    assert "No scan matches" in page.inner_text("#scans")
    page.fill("#search", "")
    page.select_option("#filter", "failed")
    assert listed(page) == ["sub-99_T2starw"]
    page.select_option("#filter", "all")
    page.select_option("#sort", "sc_area_mm2")
    assert listed(page)[-2:] == ["sub-06_T2starw", "sub-99_T2starw"]
    page.click("#direction")
    # What has no area is last either way.
    assert listed(page)[0] == "sub-06_T2starw" and listed(page)[-1] == "sub-99_T2starw"


def test_rating_keys_undo_and_reload(page):
    page.fill("#rater", "Ann")
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    who = name(page)
    page.keyboard.press("f")
    page.keyboard.press("2")
    assert pressed(page) == ["✕ Fail", "2"]
    page.keyboard.press("n")
    page.keyboard.type("leaks at slice 3, jfp?")
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.keyboard.press("j")
    page.keyboard.press("p")
    assert "3 of 8 rated" in page.inner_text("#progress")
    page.keyboard.press("j")
    page.keyboard.press("u")
    # Undo goes back to the scan.
    assert "2 of 8 rated" in page.inner_text("#progress") and name(page) == listed(page)[3] and pressed(page) == []
    page.reload()
    assert "2 of 8 rated" in page.inner_text("#progress") and page.input_value("#rater") == "Ann"
    go(page, who)
    assert pressed(page) == ["✕ Fail", "2"] and page.input_value("#notes") == "leaks at slice 3, jfp?"
    page.keyboard.press("f")
    assert pressed(page) == ["2"]
    page.keyboard.press("0")
    assert pressed(page) == [] and page.input_value("#notes") == ""
    page.keyboard.press("u")
    assert pressed(page) == ["2"]
    # Also what was done before the page was loaded again.
    for _ in range(9):
        page.keyboard.press("u")
    assert "0 of 8 rated" in page.inner_text("#progress") and "Nothing to undo" in page.inner_text("#say")


def test_mouse_and_keys_off(page):
    order = listed(page)
    page.click("#advance")
    page.click("[data-verdict=pass]")
    assert name(page) == order[1]
    page.click("[data-rating='3']")
    assert name(page) == order[1] and pressed(page) == ["3"]
    page.keyboard.press("?")
    page.click("#keysOn")
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    page.keyboard.press("j")
    assert pressed(page) == ["3"] and name(page) == order[1]


def test_everything_without_a_mouse(page):
    """Tab reaches the list, the verdict, a slice and the numbers; each says what it is."""
    page.keyboard.press("j")
    reached = set()
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => { const e = document.activeElement;
                  const named = e.getAttribute('aria-label') || e.textContent.trim() || e.title
                    || (e.labels && e.labels.length) || e.placeholder;
                  if (!named && e !== document.body) throw new Error('no name: ' + e.outerHTML.slice(0, 99));
                  return e.id || e.className || e.dataset.verdict || e.tagName; }"""
            )
        )
    assert {"search", "notes", "zoom", "tile", "scroll"} <= reached


def rate_three(page):
    page.fill("#rater", "Ann B.")
    page.keyboard.press("Enter")
    for who, keys in (("sub-01_T2starw", "p4"), ("sub-06_T2starw", "f1"), (HOSTILE, "a2")):
        go(page, who)
        for key in keys:
            page.keyboard.press(key)
    page.fill("#notes", '=HYPERLINK("x"), "quoted"\' # ü')
    page.keyboard.press("Enter")


def test_export_and_import_json_and_csv(page, open_page, cohort, chromium):
    rate_three(page)
    filename, text = download(page, "[data-export=json]")
    assert filename == "qc_ratings_Ann_B_.json"
    content = json.loads(text)
    assert content["format"] == "sct7t-qc-ratings" and content["rater"] == "Ann B."
    rows = {row["image"]: row for row in content["ratings"]}
    assert rows["sub-06_T2starw.nii.gz"]["verdict"] == "fail" and rows["sub-06_T2starw.nii.gz"]["rating"] == 1
    assert rows[f"{HOSTILE}.nii.gz"]["notes"] == '=HYPERLINK("x"), "quoted"\' # ü'
    hashes = {scan["id"]: scan["hash"] for scan in meta_of(cohort / "qc" / "index.html")["scans"]}
    assert all(row["hash"] == hashes[row["record"]] for row in rows.values())
    row = rows["sub-06_T2starw.nii.gz"]
    assert (row["scan"], row["participant_id"], row["session_id"]) == ("sub-06_T2starw", "sub-06", "")
    filename, table = download(page, "[data-export=csv]")
    cells = {row["image"]: row for row in csv.DictReader(io.StringIO(table))}
    assert filename == "qc_ratings_Ann_B_.csv" and cells["sub-01_T2starw.nii.gz"]["rating"] == "4"
    assert cells[f"{HOSTILE}.nii.gz"]["notes"].startswith("'=")
    for filename, content in (("r.json", text), ("r.csv", table)):
        page.evaluate("localStorage.clear()")
        page.reload()
        assert "0 of 8" in page.inner_text("#progress")
        page.click("#exchangeOpen")
        give(page, "#importFile", filename, content)
        page.locator("#importSaid", has_text="3 imported").wait_for()
        page.keyboard.press("Escape")
        assert "3 of 8" in page.inner_text("#progress")
        go(page, HOSTILE)
        assert pressed(page) == ["◐ Artefact", "2"]
        assert page.input_value("#notes") == '=HYPERLINK("x"), "quoted"\' # ü'
    page.keyboard.press("u")
    assert "0 of 8" in page.inner_text("#progress")


def test_later_rating_stays_on_import(page):
    rate_three(page)
    _, text = download(page, "[data-export=json]")
    go(page, "sub-01_T2starw")
    page.keyboard.press("f")
    page.click("#exchangeOpen")
    give(page, "#importFile", "r.json", text)
    page.locator("#importSaid", has_text="1 older").wait_for()
    page.keyboard.press("Escape")
    assert pressed(page) == ["✕ Fail", "4"]


def test_qc_fail_yml_is_that_of_sct(page, tmp_path):
    import yaml

    from sctseg7t.cohort.find import read_qc_fail

    assert yaml.safe_load(download(page, "[data-export=fail]")[1]) == {}
    rate_three(page)
    go(page, "sub-06_T2starw")
    page.fill("#notes", "leaks: # here")
    go(page, HOSTILE)
    page.keyboard.press("f")
    filename, text = download(page, "[data-export=fail]")
    assert filename == "qc_fail.yml"
    names = ["sub-06_T2starw.nii.gz", f"{HOSTILE}.nii.gz"]
    assert yaml.safe_load(text) == {"FILES_SEG": names, "FILES_GMSEG": names}
    assert "- sub-06_T2starw.nii.gz  # leaks: # here" in text
    (tmp_path / filename).write_text(text)
    assert read_qc_fail(tmp_path / filename) == names
    page.evaluate("localStorage.clear()")
    page.reload()
    page.click("#exchangeOpen")
    give(page, "#importFile", filename, text)
    page.locator("#importSaid", has_text="2 imported").wait_for()
    page.keyboard.press("Escape")
    page.select_option("#filter", "fail")
    assert set(listed(page)) == {"sub-06_T2starw", HOSTILE}
    go(page, "sub-06_T2starw")
    assert page.input_value("#notes") == "leaks: # here"


def test_what_is_no_export_is_refused(page):
    page.click("#exchangeOpen")
    for file, text, words in (("r.json", "{", "is not JSON"), ("r.csv", "a,b\n1,2\n", 'no column "scan"')):
        give(page, "#importFile", file, text)
        page.locator("#importSaid", has_text=words).wait_for()
    assert "0 of 8" in page.inner_text("#progress")


def test_import_of_hostile_values_is_text(page):
    mine, theirs = (f"../out/sub-0{n}_T2starw_deepseg.json" for n in (1, 2))
    rows = [
        {"scan": mine, "rating": 9, **dict.fromkeys(("hash", "verdict", "notes", "rater"), HOSTILE)},
        {"scan": "__proto__", "image": "constructor", "verdict": "fail"},
        {"scan": theirs, "verdict": "fail", "hash": "other", "rater": HOSTILE, "time": HOSTILE},
    ]
    page.click("#exchangeOpen")
    give(page, "#importFile", "r.json", json.dumps({"format": "sct7t-qc-ratings", "ratings": rows}))
    page.locator("#importSaid", has_text="2 imported, 1 of scans").wait_for()
    page.keyboard.press("Escape")
    # They are those of the rater that they name.
    assert "0 of 8" in page.inner_text("#progress") and HOSTILE in page.inner_text("#importSaid")
    call_rater(page, HOSTILE)
    go(page, "sub-01_T2starw")
    assert page.input_value("#notes") == HOSTILE and pressed(page) == []
    go(page, "sub-02_T2starw")
    assert HOSTILE in page.inner_text("#stale")
    assert page.locator("img[src=x]").count() == 0


def test_agreement_is_that_of_the_command(page, tmp_path):
    rng = np.random.default_rng(0)
    texts = []
    for rater in ("ann", "bob"):
        verdicts = [VERDICTS[(n + (rng.random() < 0.3)) % 3] for n in range(30)]
        rows = [
            {"scan": f"s{n}", "hash": "h", "verdict": verdict, "rating": int(rng.integers(1, 5)), "rater": rater}
            for n, verdict in enumerate(verdicts)
        ]
        texts.append(json.dumps({"format": "sct7t-qc-ratings", "version": 1, "rater": rater, "ratings": rows}))
        (tmp_path / f"{rater}.json").write_text(texts[-1])
    found = compare_raters(*(read_ratings(tmp_path / f"{rater}.json") for rater in ("ann", "bob")))
    page.click("#agreementOpen")
    give(page, "#raterA", "ann.json", texts[0])
    give(page, "#raterB", "bob.json", texts[1])
    page.locator("#agreementSaid", has_text="ann and bob: 30 scans rated by both").wait_for()
    said = page.inner_text("#agreementSaid")
    for part in ("verdicts", "ratings"):
        assert f"{found[part]['kappa']:.3f}".replace("-", "−") in said
        assert "{:.2f} to {:.2f}".format(*found[part]["interval"]).replace("-", "−") in said
    cells = page.locator("#agreementSaid .counts >> nth=0").locator("tbody td").all_inner_texts()
    assert list(map(int, cells)) == [count for row in found["verdicts"]["table"] for count in row]
    assert page.locator("#agreementSaid li").count() == len(found["disagreements"])


def test_ratings_survive_a_new_page_and_turn_stale_with_the_mask(open_page, tmp_path):
    write_cohort(tmp_path / "out", 3)
    path = write_page(find_records(tmp_path / "out"), tmp_path / "qc")
    page = open_page(path)
    for who in ("sub-01_T2starw", "sub-02_T2starw"):
        go(page, who)
        page.keyboard.press("f")
        page.keyboard.press("3")
    page.fill("#notes", "check this")
    page.keyboard.press("Enter")
    _, sc, _ = phantom(radius=(6, 4))
    nib.save(nib.Nifti1Image(sc.astype(np.uint8), affine_of()), tmp_path / "out" / "sub-02_T2starw_seg.nii.gz")
    write_scan(tmp_path / "out", "sub-04_T2starw")
    write_page(find_records(tmp_path / "out"), tmp_path / "qc")
    page.reload()
    assert "1 of 4 rated · 1 stale" in page.inner_text("#progress")
    go(page, "sub-01_T2starw")
    assert pressed(page) == ["✕ Fail", "3"] and not page.is_visible("#stale")
    go(page, "sub-02_T2starw")
    assert (
        pressed(page) == [] and "Stale" in page.inner_text("#stale") and "fail, quality 3" in page.inner_text("#stale")
    )
    assert page.locator(".stale-mark").count() == 2
    assert "sub-02" not in download(page, "[data-export=fail]")[1]
    stale = {row["image"]: row["stale"] for row in json.loads(download(page, "[data-export=json]")[1])["ratings"]}
    assert stale == {"sub-01_T2starw.nii.gz": False, "sub-02_T2starw.nii.gz": True}
    page.select_option("#filter", "stale")
    assert listed(page) == ["sub-02_T2starw"]
    page.keyboard.press("Escape")
    page.locator("#card").focus()
    page.keyboard.press("p")
    assert pressed(page) == ["✓ Pass"] and page.input_value("#notes") == "check this" and not page.is_visible("#stale")


def test_pages_do_not_share_ratings(open_page, tmp_path):
    for folder in ("a", "b"):
        write_scan(tmp_path / folder / "out")
        write_page(find_records(tmp_path / folder / "out"), tmp_path / folder / "qc")
    page = open_page(tmp_path / "a" / "qc" / "index.html")
    page.keyboard.press("p")
    other = open_page(tmp_path / "b" / "qc" / "index.html")
    assert "0 of 1" in other.inner_text("#progress") and "1 of 1" in page.inner_text("#progress")


def test_hostile_names_do_nothing(page):
    go(page, HOSTILE)
    assert "</script><script>alert(2)</script>" in page.inner_text("#side")
    assert page.locator("img[src=x]").count() == 0
    for key in ("p", "o", "x", "x"):
        page.keyboard.press(key)
    page.wait_for_timeout(200)
    assert name(page) == HOSTILE


def test_many_pages_share_ratings_with_their_index(open_page, tmp_path):
    write_cohort(tmp_path / "out", 5)
    index = write_page(find_records(tmp_path / "out"), tmp_path / "qc", per_page=2)
    page = open_page(index)
    assert page.locator("#all tbody tr").count() == 5 and not page.is_visible("#card")
    page.keyboard.press("j")
    page.click("#all a:has-text('sub-02')")
    page.wait_for_selector("#name:has-text('sub-02_T2starw')")
    assert re.search(r"page-\d\.html", page.url)
    page.keyboard.press("f")
    page.click("#pages a:has-text('Index')")
    page.wait_for_selector("#table")
    assert "1 of 5 rated" in page.inner_text("#progress")
    assert "sub-02_T2starw" in download(page, "[data-export=fail]")[1]


def test_scan_in_which_nothing_was_found(open_page, tmp_path):
    raw = {"status": "nothing_found", "error": "no cord found"}
    write_scan(tmp_path / "out", masks={"SC": np.zeros(SHAPE, bool)}, raw=raw)
    page = open_page(write_page(find_records(tmp_path / "out"), tmp_path / "qc"))
    assert "nothing found in 1" in page.inner_text("#progress")
    assert "no cord found" in page.inner_text("#mosaic") and page.locator("#mosaic .tile").count() == SHAPE[2]
    assert "Nothing found" in page.inner_text("#side") and page.inner_text("#scans .score") == "nothing found"


def test_storage_that_is_refused_is_told(context, cohort):
    page = context.new_page()
    page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); };")
    page.goto((cohort / "qc" / "index.html").as_uri())
    page.keyboard.press("p")
    page.click("#who button:has-text('Without')")
    assert page.is_visible("#storageNotice") and pressed(page) == ["✓ Pass"]


@pytest.mark.parametrize("size, scheme", [(LAPTOP, "light"), (PHONE, "dark")], ids=["laptop", "phone"])
def test_both_windows(page, size, scheme):
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.keyboard.press("j")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    verdict = page.locator("[data-verdict=pass]").bounding_box()
    assert 0 <= verdict["x"] and verdict["y"] + verdict["height"] <= size["height"]
    if size is PHONE:
        assert not page.is_visible("#scans")
        page.click("#listToggle")
        page.click("#scans button >> nth=3")
        assert not page.is_visible("#scans")
    else:
        assert page.is_visible("#scans") and page.is_visible("#side .reasons")


def test_sagittal_cut_has_true_proportions_and_chooses_slices(page):
    go(page, "sub-01_T2starw")
    box = page.locator(".sagittal .frame").bounding_box()
    _, ny, nz = SHAPE
    assert box["width"] / box["height"] == pytest.approx(ny * SPACING_MM[1] / (nz * SPACING_MM[2]), rel=0.02)
    assert page.locator(".sagittal .level").all_inner_texts() == ["3", "4"]
    page.click(".sagittal .frame", position={"x": 5, "y": 5})
    assert page.locator(".tile.here").get_attribute("data-k") == str(nz - 1)
    page.click(".sagittal .frame", position={"x": 5, "y": box["height"] - 5})
    assert page.locator(".tile.here").get_attribute("data-k") == "0"
