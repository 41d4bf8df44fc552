"""What the browser tests of the QC page read and do on it."""

LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}


def name(page):
    return page.inner_text("#name")


def listed(page):
    return page.locator("#scans .who").all_inner_texts()


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
    page.click(f'#scans button:has(.who:text-is("{wanted}"))')
    assert name(page) == wanted
