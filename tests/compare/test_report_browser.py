"""The report in a real browser: on a laptop and a phone, light and dark, without a request or an error."""

import pytest
from compare_report_helpers import HOSTILE, make_comparison

from sctseg7t.compare.report import render

pytestmark = pytest.mark.browser
LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
COLOURS = {"m0": "rgb(86, 180, 233)", "m1": "rgb(230, 159, 0)", "reference": "rgb(240, 228, 66)"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    methods = {
        "ours": (0.0, 0.3, 0.1),
        HOSTILE: (0.5, 0.5, 0.1),
        "a_method_with_a_name_of_some_length" * 3: (0.0, 1.0, 0),
    }
    target = folder / "report.html"
    target.write_text(render(make_comparison(folder, 4, methods)), encoding="utf-8")
    return target


@pytest.fixture
def open_(chromium, path):
    """Open the report; at the end it must have had no message, dialog or request."""
    troubles, pages = [], []

    def run(size=LAPTOP, scheme="light"):
        page = chromium.new_page(viewport=size, color_scheme=scheme)
        page.set_default_timeout(60000)
        pages.append(page)
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        return page

    yield run
    for page in pages:
        page.close()
    assert troubles == []


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_nothing_is_wider_than_the_window(open_, size):
    page = open_(size)
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    outside = page.evaluate(
        """() => [...document.querySelectorAll('h1, h2, h3, h4, p, li, dd, figure, .scroll, .sheet, svg.slice')]
        .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
        .filter(([, box]) => box.width && (box.right > innerWidth + 1 || box.left < -1)).map(([text]) => text)"""
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(open_, scheme):
    """Contrast of 4.5 at least (WCAG AA), of all text but that in figures."""
    page = open_(scheme=scheme)
    low = page.evaluate(
        """() => {
        const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const parts = c => { probe.clearRect(0, 0, 1, 1); probe.fillStyle = c; probe.fillRect(0, 0, 1, 1);
          return [...probe.getImageData(0, 0, 1, 1).data]; };
        const lum = c => parts(c).slice(0, 3).map(v => v / 255)
          .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
          .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
        const ground = e => { for (; e; e = e.parentElement) {
          const c = getComputedStyle(e).backgroundColor; if (parts(c)[3] === 255) return c; } return 'white'; };
        const found = new Set();
        for (const e of document.querySelectorAll('h1, h2, h3, p, li, td, th, dt, dd, summary, caption, a'
        )) {
          if (e.closest('.skip')) continue;
          const ink = getComputedStyle(e).color;
          const [a, b] = [lum(ink), lum(ground(e))].sort((x, y) => y - x);
          if ((a + .05) / (b + .05) < 4.5) found.add(e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + ink);
        }
        return [...found]; }"""
    )
    assert low == []


def test_contours_have_their_colours_and_pictures_are_shown(open_):
    page = open_()
    for kind, colour in COLOURS.items():
        stroke = page.evaluate(f"getComputedStyle(document.querySelector('.contour.{kind}')).stroke")
        assert stroke == colour
    shown = page.evaluate("document.querySelector('svg.slice use').getBoundingClientRect().width")
    assert shown > 100
    assert page.evaluate("[...document.querySelectorAll('svg.slice image, svg.definitions image')].length") > 3


def test_a_name_that_is_markup_is_shown_as_text(open_):
    page = open_()
    assert HOSTILE in page.inner_text("#compared")
    # The figures are the only images, and the policy lets them be seen.
    sizes = page.evaluate("[...document.images].map(e => [e.className, e.naturalWidth])")
    assert len(sizes) == 11 and all(kind == "plot" and width > 100 for kind, width in sizes)


def test_wide_tables_scroll_in_their_box_and_keep_the_first_column(open_):
    page = open_(PHONE)
    box = page.locator("#areas .scroll").first
    moved = box.evaluate("e => { e.scrollLeft = 200; return e.scrollLeft; }")
    assert moved == 200
    left = box.evaluate(
        "e => e.querySelector('tbody th').getBoundingClientRect().left - e.getBoundingClientRect().left"
    )
    assert -1 <= left <= 2


def test_on_paper_there_is_no_menu_and_no_box_that_scrolls(open_):
    page = open_()
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
