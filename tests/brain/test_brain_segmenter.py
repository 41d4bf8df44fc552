"""A brain from file to lesions: made-up FLAIR images, and a network that finds what is bright."""

import csv
import json

import brain_helpers
import nibabel as nib
import numpy as np
import pytest
from sctseg7t.cli.deepseg import main

from sctseg7t import segment
from sctseg7t.brain.segmenter import SHARES
from sctseg7t.errors import InputError, ModelError, UsageError
from sctseg7t.inference.pipeline import open_segmenter


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return brain_helpers.network(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def segmenter(net):
    return open_segmenter(model=net, device="cpu", threads=1)


@pytest.fixture(scope="module")
def brain():
    return brain_helpers.flair()


@pytest.fixture(scope="module")
def found(segmenter, brain, tmp_path_factory):
    """Result of the stripped, corrected scan stored sagittally."""
    image, _, affine = brain
    return segmenter.run(brain_helpers.save(tmp_path_factory.mktemp("scan") / "flair.nii.gz", image, affine, "PSR"))


def test_lesions_come_back_on_the_native_grid_with_their_volume(found, brain):
    _, truth, affine = brain
    mask = nib.as_closest_canonical(found.masks["LESION"])
    np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    data = np.asarray(mask.dataobj) > 0
    assert 2 * (data & truth).sum() / (data.sum() + truth.sum()) > 0.85
    assert abs(data.sum() / truth.sum() - 1) < 0.12
    assert "".join(nib.aff2axcodes(found.masks["LESION"].affine)) == "PSR"
    brain = found.details["brain"]
    assert brain["brain_mask"] == "already skull-stripped"
    assert brain["bias_correction"] == "looks corrected already"
    assert 1000 < brain["brain_ml"] < 2200
    assert {"register", "bias", "mask", "network", "measure"} <= set(found.seconds)


def test_each_lesion_is_measured_and_placed(found):
    (table,) = found.tables
    counted = [lesion for lesion in table.lesions if lesion.counted]
    assert len(counted) == len(brain_helpers.LESIONS)
    for centre, radius, location in brain_helpers.LESIONS:
        centroids = [(one.centroid_r_mm, one.centroid_a_mm, one.centroid_s_mm) for one in counted]
        away = np.linalg.norm(np.subtract(centroids, centre), axis=1)
        nearest = counted[away.argmin()]
        assert away.min() < 1.5
        # A threshold on 2 mm voxels is what limits this, most of all next to gray matter.
        assert 0.6 < nearest.volume_mm3 / (4 / 3 * np.pi * radius**3) < 1.5
        assert location in (None, nearest.location)


def test_the_label_map_numbers_what_the_mask_holds(found):
    mask, labels = (np.asarray(found.masks[name].dataobj) for name in ("LESION", "LABELS"))
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(labels > 0, mask > 0)
    sizes = np.bincount(labels.ravel())[1:]
    assert (np.diff(sizes) <= 0).all() and len(sizes) == len(found.tables[0].lesions)


def test_command_on_thick_slices_within_a_mask_of_the_users(call, net, brain, tmp_path):
    image, _, affine = brain
    thick = image[:, :, : image.shape[2] // 3 * 3].reshape(*image.shape[:2], -1, 3).mean(3)
    coarse = affine @ np.diag([1, 1, 3, 1])
    coarse[:3, 3] += affine[:3, 2]
    inside = thick > 0
    inside[len(inside) // 2 + 4 :] = False
    scan = brain_helpers.save(tmp_path / "flair.nii.gz", thick, coarse)
    given = brain_helpers.save(tmp_path / "mask.nii.gz", inside.astype(np.uint8), coarse)
    folder = tmp_path / "out"
    argv = ["-i", scan, "-m", net, "-brainmask", given, "-ofolder", folder, "-device", "cpu"]
    code, out, err = call(main, [str(arg) for arg in argv])
    assert code == 0 and "thick_slices: slices are 6.0 mm" in out + err
    assert "fsleyes" in out and "lesionseg" in out
    assert {made.name for made in folder.iterdir()} == {
        "flair_lesionseg.nii.gz",
        "flair_lesionlabels.nii.gz",
        "flair_lesions.csv",
        "flair_lesionload.csv",
        "flair_deepseg.json",
    }
    lesions = np.asarray(nib.load(folder / "flair_lesionseg.nii.gz").dataobj) > 0
    assert lesions.any() and not (lesions & ~inside).any()
    (load,) = csv.DictReader(open(folder / "flair_lesionload.csv"))
    rows = list(csv.DictReader(open(folder / "flair_lesions.csv")))
    assert int(load["n_lesions"]) == sum(row["counted"] == "1" for row in rows) >= 1
    assert float(load["load_ml"]) == pytest.approx(lesions.sum() * 24 / 1000)
    count = int(load["n_lesions"])
    assert f"  {count} lesion{'s' * (count != 1)}, {float(load['load_ml']):.2f} mL" in out
    record = json.loads((folder / "flair_deepseg.json").read_text())
    # Every step that takes time has a share of the bar.
    assert set(SHARES) <= set(record["seconds"]) and set(record["seconds"]) - set(SHARES) <= {"open", "restore"}
    assert record["status"] == "ok" and record["options"]["task"] == "brain_lesion"
    assert record["brain"]["lesions"]["n_lesions"] == int(load["n_lesions"])
    assert record["brain"]["brain_mask"] == "file"


def test_no_lesion_is_a_row_of_zeros_and_no_failure(call, net, tmp_path):
    image, _, affine = brain_helpers.flair(lesions=())
    path = brain_helpers.save(tmp_path / "flair.nii.gz", image, affine)
    code, _, _ = call(main, ["-i", str(path), "-c", "brain_lesion", "-m", net, "-device", "cpu"])
    assert code == 0
    (load,) = csv.DictReader(open(tmp_path / "flair_lesionload.csv"))
    assert (load["n_lesions"], load["load_ml"]) == ("0", "0.0000")
    assert len(open(tmp_path / "flair_lesions.csv").readlines()) == 1
    assert not np.asarray(nib.load(tmp_path / "flair_lesionseg.nii.gz").dataobj).any()


def test_a_cord_a_slice_several_volumes_and_a_mask_elsewhere_are_refused(segmenter, brain, example):
    image, _, affine = brain
    elsewhere = affine.copy()
    elsewhere[:3, 3] += 500
    with pytest.raises(InputError, match="brain"):
        segmenter.run(example)
    with pytest.raises(InputError, match="1 slice"):
        segmenter.run(nib.Nifti1Image(image[:, :, 40:41], affine))
    with pytest.raises(InputError, match="2 volumes; segment their mean"):
        segmenter.run(nib.Nifti1Image(np.stack([image] * 2, 3), affine))
    with pytest.raises(InputError, match="does not overlap"):
        segmenter.run(nib.Nifti1Image(image, affine), brainmask=nib.Nifti1Image(image, elsewhere))


def test_files_of_the_other_organ_are_refused(net, example):
    for task, model, files in (
        ("brain_lesion", net, {"levels": "x.nii.gz"}),
        ("gm_sc", None, {"brainmask": "x.nii.gz"}),
    ):
        with pytest.raises(UsageError, match="no use for it"):
            segment(example, task, model=model, device="cpu", **files)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"size": [64, 64]}, "input.size"),
        ({"spacing_mm": [1, 1, 2]}, "input.spacing_mm"),
        ({"channels": ["prior_GM"]}, "input.channels"),
        ({"axes": "zyx"}, "input.axes"),
    ],
)
def test_an_entry_that_brains_cannot_serve_is_refused(tmp_path, changes, named):
    with pytest.raises(ModelError, match=named):
        open_segmenter(model=brain_helpers.network(tmp_path, input=changes), device="cpu")
