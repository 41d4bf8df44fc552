"""The viewer beside the page: what is written, and that it opens from a folder and follows the page."""

import base64
import gzip
import hashlib
import json
import re

import nibabel as nib
import numpy as np
import pytest
from qc_brain_helpers import ellipsoids, head, write_brain
from qc_browser_helpers import go
from qc_helpers import HOSTILE, affine_of, phantom, write_failed, write_scan

# Of the program in the package @niivue/niivue 0.69.0.
NIIVUE = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"


def volumes_of(page):
    """What the viewer is given of each scan, by name."""
    found = {}
    for path in (page.parent / "viewer" / "volumes").glob("*.js"):
        content = json.loads(re.fullmatch(r"sct7tVolume\((.*)\);\n", path.read_text())[1])
        found[content["name"]] = content
    return found


def image_of(data):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data)))


def at(image, place):
    """Value at a place in the world."""
    voxel = np.linalg.inv(image.affine) @ [*place, 1]
    return image.get_fdata()[tuple(np.rint(voxel[:3]).astype(int))]


@pytest.mark.parametrize("axes", ["RAS", "PSR"])
def test_volumes_lie_in_the_world_as_the_scan_does(results, make, axes):
    box = [[10, 80], [12, 96], [15, 80]]
    write_brain(results, axes=axes, raw={"brain": {"brain_ml": 1400.0, "box": box}})
    write_scan(results, axes=axes, shift=(5, -4))
    found = volumes_of(make(viewer=True))
    brain, cord = found["sub-01_FLAIR"], found["sub-01_T2starw"]
    image, labels = image_of(brain["image"]), image_of(brain["masks"][0]["data"])
    scan, mask = head()[0], ellipsoids()
    low, high = brain["range"]
    for voxel in ((34, 60, 50), (58, 52, 55), (20, 20, 20), (70, 80, 70)):
        world = (affine_of((1.7, 1.7, 1.7)) @ [*voxel, 1])[:3]
        assert at(image, world) == pytest.approx(scan[voxel], abs=(high - low) / 255)
        assert bool(at(labels, world)) == mask[voxel]
    # Cut to the brain, and a lesion below it, and 4 mm around them; the label under a lesion's place is its number.
    assert image.shape == labels.shape == (76, 90, 74)
    assert [at(labels, lesion["mm"]) for lesion in brain["lesions"]] == [1, 2, 3, 4]
    _, sc, gm = phantom(shift=(5, -4))
    for name, mask in (("SC", sc), ("GM", gm)):
        layer = image_of(next(one["data"] for one in cord["masks"] if one["name"] == name))
        assert layer.get_fdata().sum() == mask.sum() and layer.shape[2] == mask.shape[2]


def test_only_where_it_is_asked_for_and_then_kept(results, make):
    write_scan(results)
    write_scan(results, "sub-02_T2starw")
    write_failed(results, "f")
    page = make()
    assert not (page.parent / "viewer").exists()
    make(viewer=True)
    program = (page.parent / "viewer" / "niivue.js").read_bytes()
    assert hashlib.sha256(program).hexdigest() == NIIVUE
    assert "BSD 2-Clause" in (page.parent / "viewer" / "LICENSE.niivue.txt").read_text()
    assert len(volumes_of(page)) == 2
    # A page that has one keeps it, of the scans that are on it.
    for path in results.glob("sub-01*"):
        path.unlink()
    write_scan(results, "sub-03_T2starw")
    make()
    assert sorted(volumes_of(page)) == ["sub-02_T2starw", "sub-03_T2starw"]
    before = {path.name: path.stat().st_mtime_ns for path in (page.parent / "viewer" / "volumes").glob("*.js")}
    make()
    assert before == {path.name: path.stat().st_mtime_ns for path in (page.parent / "viewer" / "volumes").glob("*.js")}


def test_a_name_ends_no_script(results, make):
    write_scan(results, raw={"name": f"</script>{HOSTILE}"})
    page = make(viewer=True)
    (path,) = (page.parent / "viewer" / "volumes").glob("*.js")
    assert "<" not in path.read_text() and volumes_of(page).keys() == {f"</script>{HOSTILE}"}


@pytest.mark.browser
def test_it_opens_from_a_folder_and_shows_the_lesion_of_the_page(open_page, context, results, make):
    write_brain(results)
    page = open_page(make(viewer=True))
    asked, refused = [], []
    context.on("request", lambda request: asked.append(request.url))
    go(page, "sub-01_FLAIR")
    page.click("#side tr[data-lesion='3']")
    with context.expect_page() as opened:
        page.click(".beside")
    viewer = opened.value
    viewer.on("console", lambda message: message.type == "error" and refused.append(message.text))
    if not viewer.evaluate("Boolean(document.createElement('canvas').getContext('webgl2'))"):
        pytest.skip("this browser has no WebGL2")
    viewer.set_default_timeout(120000)
    viewer.wait_for_selector("body[data-ready]")
    viewer.wait_for_selector("#lesions tr.here[data-lesion='3']")
    viewer.click("#lesions tr[data-lesion='2']")
    page.wait_for_selector("#side .lesions tr.here[data-lesion='2']")
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked) and refused == []
