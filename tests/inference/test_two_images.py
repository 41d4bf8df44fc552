"""A network that looks at two images of a scan: an entry is enough, from the Python call to a batch."""

import nibabel as nib
import numpy as np
import pytest
from batch_helpers import make_bids, record, rows
from conv_network import write_entry, write_network
from sctseg7t.cli.batch import main as batch_main
from sctseg7t.cli.compare import main as compare_main

import sctseg7t
from sctseg7t.errors import UsageError
from sctseg7t.inference.record import find_records

INPUT = {
    "contrasts": ["T2star"],
    "axes": "yx",
    "spacing_mm": [0.25, 0.25],
    "size": [96, 96],
    "channels": ["T2star", "T1"],
    "images": ["scan", "second"],
    "normalisation": {"name": "zscore", "parameters": {"scope": "slice"}},
}
RADIUS_MM = 4.0


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A 1 x 1 convolution that sees the second channel alone, with its entry beside it."""
    path = write_network(tmp_path_factory.mktemp("net") / "two_images.onnx", [[[[0.0]], [[8.0]]]], bias=-8)
    return write_entry(path, "sc", "SC", input=INPUT)


def disc(path, centre_mm, shape=(80, 84, 4), spacing=(0.4, 0.35, 4.0), shift=(0.0, 0.0, -2.0)):
    """A bright disc around a place in the world, on a grid of its own."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2 + shift
    i, j, _ = np.indices(shape)
    x, y = i * spacing[0] + affine[0, 3], j * spacing[1] + affine[1, 3]
    inside = np.hypot(x - centre_mm[0], y - centre_mm[1]) <= RADIUS_MM
    nib.save(nib.Nifti1Image((100 + 400 * inside).astype(np.float32), affine), path)
    return path


@pytest.fixture
def pair(tmp_path):
    """A scan of noise and a second image with a disc at (2, -1) mm, finer and shifted against it."""
    random = np.random.default_rng(0)
    affine = np.diag([0.5, 0.5, 4.0, 1.0])
    affine[:3, 3] = (-14.75, -14.75, -6.0)
    scan = tmp_path / "t2s.nii.gz"
    nib.save(nib.Nifti1Image(random.uniform(1, 100, (60, 60, 4)).astype(np.float32), affine), scan)
    return scan, disc(tmp_path / "t1.nii.gz", (2.0, -1.0))


def centre_mm(mask):
    i, j, _ = np.argwhere(np.asanyarray(mask.dataobj)).mean(0)
    return mask.affine[:2, :2] @ (i, j) + mask.affine[:2, 3]


def test_the_mask_lies_where_the_second_image_says(network, pair):
    scan, second = pair
    result = sctseg7t.segment(scan, model=network, second=second, device="cpu")
    mask = result.masks["SC"]
    assert mask.shape == (60, 60, 4)
    np.testing.assert_allclose(centre_mm(mask), (2.0, -1.0), atol=0.15)
    area = np.asanyarray(mask.dataobj)[..., 1].sum() * 0.25
    assert area == pytest.approx(np.pi * RADIUS_MM**2, rel=0.06)


def test_without_it_or_for_another_model_it_is_refused(network, pair):
    with pytest.raises(UsageError, match="second.*needs it"):
        sctseg7t.segment(pair[0], model=network, device="cpu")
    with pytest.raises(UsageError, match="second.*no use for it; it takes centerline, levels"):
        sctseg7t.segment(pair[0], "sc", second=pair[1], device="cpu")


def test_the_record_names_every_file_by_role(network, pair, deepseg, tmp_path):
    scan, second = pair
    code, _, err = deepseg("-i", scan, "-m", network, "-second", second, "-ofolder", tmp_path / "out")
    assert code == 0, err
    (found,) = find_records(tmp_path / "out")
    assert found.image == scan and found.others == {"second": second}
    assert set(found.raw["inputs"]) == {"scan", "second"} and all(
        given["sha256"] for given in found.raw["inputs"].values()
    )


def test_batch_pairs_files_and_runs_again_when_the_second_changes(network, small, call, tmp_path):
    bids, out = make_bids(tmp_path / "bids", small, ["01", "02"]), tmp_path / "out"
    for subject in ("01", "02"):
        disc(bids / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz", (0, 0), shift=(0, 0, 0))
    (bids / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    argv = ["-i", str(bids), "-o", str(out), "-m", network, "-second", "{folder}/sub-{sub}_T1w.nii.gz"]
    argv += ["-workers", "1", "-device", "cpu"]
    code, said, err = call(batch_main, argv)
    assert code == 1 and "sub-02_T1w.nii.gz is not there; the model needs it" in err
    states = {row["scan"]: row["status"] for row in rows(out / "cohort_scans.csv")}
    assert states["sub-01_T2starw"] in ("ok", "nothing_found")
    before = record(out, "01")["inputs"]["second"]["sha256"]
    disc(bids / "sub-01/anat/sub-01_T1w.nii.gz", (1, 1), shift=(0, 0, 0))
    call(batch_main, argv)
    assert record(out, "01")["inputs"]["second"]["sha256"] != before


def test_comparison_gives_each_method_the_images_that_it_takes(network, small, call, tmp_path):
    bids, out = make_bids(tmp_path / "bids", small, ["01"]), tmp_path / "out"
    second = disc(bids / "sub-01/anat/sub-01_T1w.nii.gz", (0, 0), shift=(0, 0, 0))
    argv = ["-i", str(bids), "-o", str(out), "-second", "{folder}/sub-{sub}_T1w.nii.gz", "-device", "cpu", "-no-report"]
    code, _, err = call(compare_main, [*argv, "-run", "sc"])
    assert code == 2 and "-second: no method that is run takes it" in err
    code, _, err = call(compare_main, [*argv, "-run", f"two={network},sc"])
    assert code in (0, 1) and (out / "compare_slices.csv").is_file(), err
    others = {method: find_records(out / "masks" / method)[0].others for method in ("two", "sc")}
    assert others == {"two": {"second": second}, "sc": {}}


def test_a_new_kind_of_model_is_a_class_and_a_line(network, pair, monkeypatch):
    """A class for a cord with this second image takes the place of the general one, for that entry alone."""
    from sctseg7t.cord.segmenter import CordSegmenter
    from sctseg7t.inference import segmenter

    class Mine(CordSegmenter):
        def run(self, scan, **files):
            return "mine"

    monkeypatch.setattr("sctseg7t.cord.segmenter.Mine", Mine, raising=False)
    monkeypatch.setitem(segmenter.SEGMENTERS, ("cord", "windows", "second"), "sctseg7t.cord.segmenter:Mine")
    assert sctseg7t.segment(pair[0], model=network, second=pair[1], device="cpu") == "mine"
    assert not isinstance(sctseg7t.open_segmenter("sc", device="cpu"), Mine)
