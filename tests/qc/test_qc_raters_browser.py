"""Raters, and the ratings of all pages of a set, in a real browser."""

import json

import pytest
from qc_browser_helpers import call_rater, download, give, go, listed, name, pressed
from qc_helpers import write_cohort, write_failed

from sctseg7t.cohort import find_records
from sctseg7t.qc import write_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Index of seven scans on three pages, the first of them failed."""
    folder = tmp_path_factory.mktemp("many")
    write_cohort(folder / "out", 6)
    write_failed(folder / "out", "sub-99_T2starw")
    return write_page(find_records(folder / "out"), folder / "qc", per_page=3)


@pytest.fixture
def single(tmp_path):
    write_cohort(tmp_path / "out", 3)
    return write_page(find_records(tmp_path / "out"), tmp_path / "qc")


def scan_shown(page, wanted):
    page.wait_for_selector(f"#name:text-is('{wanted}')")


def test_next_leads_through_all_pages(open_page, many):
    page = open_page(many.parent / "page-1.html")
    order = listed(page)
    assert len(order) == 7 and "page 1 of 3" in page.inner_text("#progress")
    for wanted in order[1:]:
        page.keyboard.press("j")
        scan_shown(page, wanted)
    assert page.url.split("#")[0].endswith("page-3.html") and "page 3 of 3" in page.inner_text("#progress")
    page.keyboard.press("j")
    assert "last scan" in page.inner_text("#say")
    for wanted in order[-2::-1]:
        page.keyboard.press("k")
        scan_shown(page, wanted)


def test_ratings_of_all_pages_are_exported_imported_and_counted_on_each(open_page, many):
    page = open_page(many.parent / "page-1.html")
    order = listed(page)
    for wanted in order:
        scan_shown(page, wanted)
        page.keyboard.press("f")
        page.keyboard.press("j")
    assert "7 of 7 rated" in page.inner_text("#progress")
    page.goto((many.parent / "page-2.html").as_uri())
    assert "page 2 of 3 · 7 of 7 rated" in page.inner_text("#progress")
    _, text = download(page, "[data-export=fail]")
    assert all(f"- {who}.nii.gz" in text for who in order)
    _, exported = download(page, "[data-export=json]")
    assert {row["scan"] for row in json.loads(exported)["ratings"]} == set(order)
    page.click("#exchangeOpen")
    assert "7 ratings of 7 scans, on all 3 pages" in page.inner_text("#exchangeAbout")
    page.keyboard.press("Escape")
    # Undo reaches what was rated on another page.
    page.keyboard.press("u")
    scan_shown(page, order[-1])
    assert "6 of 7 rated" in page.inner_text("#progress")
    page.evaluate("localStorage.clear()")
    page.goto((many.parent / "page-1.html").as_uri())
    page.click("#exchangeOpen")
    give(page, "#importFile", "r.json", exported)
    page.locator("#importSaid", has_text="7 imported").wait_for()
    assert "scans that are not here" not in page.inner_text("#importSaid")


def test_the_first_rating_asks_who_rates(open_page, single):
    page = open_page(single, rater=None)
    page.keyboard.press("p")
    assert page.is_visible("#who") and pressed(page) == []
    page.keyboard.press("Escape")
    page.locator("#say", has_text="Not rated").wait_for()
    assert pressed(page) == []
    page.keyboard.press("f")
    page.keyboard.type("Ann")
    page.keyboard.press("Enter")
    page.keyboard.press("3")
    assert page.input_value("#rater") == "Ann"
    assert not page.is_visible("#who") and pressed(page) == ["✕ Fail", "3"]


def test_ratings_without_a_name_become_the_first_name_s(open_page, single):
    page = open_page(single, rater=None)
    page.keyboard.press("p")
    page.click("#who button:has-text('Without')")
    page.keyboard.press("j")
    page.keyboard.press("f")
    assert "2 of 3 rated" in page.inner_text("#progress")
    call_rater(page, "Ann")
    assert "2 of 3 rated" in page.inner_text("#progress") and "2 ratings" in page.inner_text("#say")
    rows = json.loads(download(page, "[data-export=json]")[1])["ratings"]
    assert {row["rater"] for row in rows} == {"Ann"}


def test_raters_do_not_see_each_other(open_page, single):
    page = open_page(single, rater="Ann")
    page.keyboard.press("p")
    page.keyboard.press("4")
    call_rater(page, "Bob")
    assert pressed(page) == [] and "0 of 3 rated" in page.inner_text("#progress")
    assert page.locator("#scans .mark").all_inner_texts() == ["", "", ""]
    page.keyboard.press("f")
    # Undo is the own rater's: nothing of Ann's is taken back.
    page.keyboard.press("u")
    page.keyboard.press("u")
    assert "Nothing to undo" in page.inner_text("#say")
    page.keyboard.press("f")
    page.reload()
    assert pressed(page) == ["✕ Fail"] and page.input_value("#rater") == "Bob"
    call_rater(page, "Ann")
    assert pressed(page) == ["✓ Pass", "4"]


def test_agreement_names_both_and_refuses_one_with_herself(open_page, single):
    page = open_page(single, rater="Ann")
    order = listed(page)
    for who, keys in (("Ann", "ppf"), ("Bob", "pff")):
        call_rater(page, who)
        for scan, key in zip(order, keys):
            go(page, scan)
            page.keyboard.press(key)
    call_rater(page, "Ann")
    _, mine = download(page, "[data-export=json]")
    page.click("#agreementOpen")
    page.select_option("#whoA", "=Ann")
    page.select_option("#whoB", "=Bob")
    page.locator("#agreementSaid", has_text="Ann and Bob: 3 scans").wait_for()
    said = page.inner_text("#agreementSaid")
    # 2 of 3 the same; by chance 4/9: kappa is (2/3 - 4/9) / (5/9).
    assert "0.400" in said and "67 %" in said and "rows Ann, columns Bob" in said
    assert page.locator("#agreementSaid li").count() == 1
    give(page, "#raterB", "ann.json", mine)
    page.locator("#agreementSaid", has_text="both are ratings of Ann").wait_for(state="attached")
    assert "0.400" not in page.inner_text("#agreementSaid")


def test_another_rater_s_file_stays_that_rater_s(open_page, single):
    page = open_page(single, rater="Ann")
    page.keyboard.press("p")
    _, mine = download(page, "[data-export=json]")
    call_rater(page, "Bob")
    page.keyboard.press("f")
    page.click("#exchangeOpen")
    give(page, "#importFile", "ann.json", mine.replace('"pass"', '"artefact"').replace("20", "99", 1))
    page.locator("#importSaid", has_text="Those of Ann are seen when that is the rater").wait_for()
    page.keyboard.press("Escape")
    assert pressed(page) == ["✕ Fail"]


def test_files_given_together_add_to_each_other(open_page, single):
    page = open_page(single, rater="Ann")
    order = listed(page)
    for scan, keys in zip(order, ("f2", "a3", "p4")):
        go(page, scan)
        for key in keys:
            page.keyboard.press(key)
    go(page, order[0])
    page.fill("#notes", "leaks")
    page.keyboard.press("Enter")
    files = {
        "qc_ratings_Ann.json": download(page, "[data-export=json]")[1],
        "qc_fail.yml": download(page, "[data-export=fail]")[1],
        "qc_artifact.yml": download(page, "[data-export=artifact]")[1],
    }
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    page.reload()
    page.click("#exchangeOpen")
    given = [{"name": n, "mimeType": "text/plain", "buffer": text.encode()} for n, text in files.items()]
    page.set_input_files("#importFile", given)
    page.locator("#importSaid", has_text="qc_artifact.yml: 1 imported").wait_for()
    page.keyboard.press("Escape")
    for scan, expected in zip(order, (["✕ Fail", "2"], ["◐ Artefact", "3"], ["✓ Pass", "4"])):
        go(page, scan)
        assert pressed(page) == expected
    go(page, order[0])
    assert page.input_value("#notes") == "leaks" and page.input_value("#rater") == "Ann"
    # One step back takes all of them back.
    page.keyboard.press("u")
    assert "0 of 3 rated" in page.inner_text("#progress")


def test_kinds_of_artefact(open_page, single):
    page = open_page(single)
    assert not page.is_visible("#artefacts")
    page.keyboard.press("a")
    page.click("#artefacts button:has-text('motion')")
    page.click("#artefacts button:has-text('noise')")
    (row,) = json.loads(download(page, "[data-export=json]")[1])["ratings"]
    assert (row["verdict"], row["artefacts"]) == ("artefact", "motion;noise")
    page.reload()
    assert page.locator("#artefacts [aria-pressed=true]").all_inner_texts() == ["motion", "noise"]
    # Another verdict has none.
    page.keyboard.press("f")
    assert not page.is_visible("#artefacts")
    (row,) = json.loads(download(page, "[data-export=json]")[1])["ratings"]
    assert (row["verdict"], row["artefacts"]) == ("fail", "")


def test_ratings_kept_by_an_earlier_version_are_there(open_page, single):
    page = open_page(single, rater=None)
    page.evaluate(
        """() => {
          const {page, scans} = QC.json('meta');
          const fail = {verdict: 'fail', rating: 2, notes: '', time: ''};
          const [a, b] = scans.map(({id, hash}, n) => [id, {...fail, hash, rater: n ? 'Bob' : 'Ann'}]);
          localStorage.setItem(`sct7t-qc:${page}`, JSON.stringify({rater: 'Ann', ratings: Object.fromEntries([a, b])}));
        }"""
    )
    page.reload()
    assert page.input_value("#rater") == "Ann" and "1 of 3 rated" in page.inner_text("#progress")
    call_rater(page, "Bob")
    page.keyboard.press("j")
    assert pressed(page) == ["✕ Fail", "2"] and name(page) == listed(page)[1]
