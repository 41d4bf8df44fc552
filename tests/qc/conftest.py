"""Fixtures of the QC page's tests: results on disk, the page of them, and a browser that must stay quiet."""

import pytest
from qc_browser_helpers import LAPTOP, call_rater

from sctseg7t.cohort import find_records
from sctseg7t.qc import write_page


@pytest.fixture
def results(tmp_path):
    """Folder of the results."""
    return tmp_path / "out"


@pytest.fixture
def make(results, tmp_path):
    """Write the page of all results; its path."""

    def run(**options):
        return write_page(find_records(results), tmp_path / "qc", **options)

    return run


@pytest.fixture
def context(chromium):
    made = chromium.new_context(viewport=LAPTOP, accept_downloads=True)
    made.set_default_timeout(15000)
    yield made
    made.close()


@pytest.fixture
def open_page(context):
    """Open a page in the browser as a rater; at the end it must have had no error, dialog or request."""
    troubles = []

    def run(path, fragment="", rater="Zoe"):
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: is_local(request.url) or troubles.append(f"request: {request.url}"))
        page.goto(path.as_uri() + fragment)
        if rater:
            call_rater(page, rater)
        return page

    yield run
    assert troubles == []


def is_local(url):
    return url.startswith(("file:", "data:", "blob:"))
