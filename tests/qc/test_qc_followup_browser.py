"""A follow-up's card in a real browser: both times, their difference, the way to what is new."""

import brain_helpers
import numpy as np
import pytest
from qc_browser_helpers import go
from sctseg7t.cli.deepseg import main

from sctseg7t.brain.register import Template
from sctseg7t.cohort import find_records
from sctseg7t.qc import write_page

pytestmark = pytest.mark.browser

NEW = ((-26, -20, 28), 4.0, "deep_white_matter")


@pytest.fixture(scope="module")
def qc(chromium, tmp_path_factory):
    """The page of two pairs: one with a new lesion, one in which nothing is new."""
    folder = tmp_path_factory.mktemp("followup")
    network = brain_helpers.pair_network(folder)
    for name, lesions, seed in (("before", (), 1), ("now", (NEW,), 0), ("quiet", (), 2)):
        image, _, affine = brain_helpers.flair(lesions=(*brain_helpers.LESIONS, *lesions), seed=seed)
        brain_helpers.save(folder / f"{name}.nii.gz", image, affine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sctseg7t.brain.segmenter.template_to_scan", lambda *given: Template(np.eye(4), 1.0))
        for name in ("now", "quiet"):
            argv = ["-i", str(folder / f"{name}.nii.gz"), "-baseline", str(folder / "before.nii.gz"), "-m", network]
            assert main([*argv, "-ofolder", str(folder / "out"), "-device", "cpu", "-v", "0"]) == 0
    return write_page(find_records(folder / "out"), folder / "qc")


def shown(page):
    """The axial plane, as a picture."""
    return page.evaluate("document.querySelector('.viewer canvas').toDataURL()")


def test_both_times_are_in_register_and_what_is_new_is_ringed(open_page, qc):
    page = open_page(qc)
    go(page, "now")
    labels = page.locator(".times button").all_inner_texts()
    assert labels == ["Scan", "Follow-up", "Baseline", "Difference", "Flicker", "Next new lesion (1)"]
    page.click(".times .next-new")
    assert page.locator(".viewer .fresh").count() >= 3
    pictures = {}
    for time in ("now", "before", "difference"):
        page.click(f".times button[value='{time}']")
        assert page.get_attribute(f".times button[value='{time}']", "aria-pressed") == "true"
        pictures[time] = shown(page)
    assert len(set(pictures.values())) == 3


def test_flicker_alternates_and_ends(open_page, qc):
    page = open_page(qc)
    go(page, "now")
    page.click(".times .next-new")
    page.click(".times button[value='flicker']")
    seen = set()
    for _ in range(4):
        seen.add(page.evaluate("QC.brain.time"))
        page.wait_for_timeout(350)
    assert seen == {"now", "before"}
    page.click(".times button[value='scan']")
    assert page.evaluate("[QC.brain.time, QC.brain.flicker]") == [None, 0]


def test_nothing_new_is_told(open_page, qc):
    page = open_page(qc)
    go(page, "quiet")
    button = page.locator(".times .next-new")
    assert button.inner_text() == "Nothing is new" and button.is_disabled()
