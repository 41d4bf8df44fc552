"""What the browser tests of the QC page read and do on it."""

LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}


def name(page):
    return page.inner_text("#name")


def listed(page):
    """Names of the scans in the list; it shows of each what not all have."""
    return [button.get_attribute("data-name") for button in page.locator("#scans button").all()]


def pressed(page):
    return page.locator(".rate [aria-pressed=true]").all_inner_texts()


def download(page, selector):
    """Export; the file's name and text."""
    page.click("#exchangeOpen")
    with page.expect_download() as found:
        page.click(selector)
    page.keyboard.press("Escape")
    with open(found.value.path(), encoding="utf-8", newline="") as stream:
        return found.value.suggested_filename, stream.read()


def give(page, selector, filename, text):
    page.set_input_files(selector, {"name": filename, "mimeType": "text/plain", "buffer": text.encode()})


def go(page, wanted):
    page.click(f'#scans button[data-name="{wanted}"]')
    assert name(page) == wanted


def call_rater(page, who):
    """Say who rates, without the mouse."""
    page.evaluate(
        """who => {
          const box = document.getElementById('rater');
          box.value = who;
          box.dispatchEvent(new Event('change'));
        }""",
        who,
    )
