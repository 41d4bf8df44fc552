"""sct7t_prepare as a user meets it: one step of the brain chain at a time."""

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def prepare(call):
    """Run sct7t_prepare in this process: (exit code, stdout, stderr)."""
    from sctseg7t.cli.prepare import main

    return lambda *argv: call(main, [str(arg) for arg in argv])


@pytest.fixture
def brain(tmp_path):
    """A scan of 2 mm voxels and the mask of a ball in it."""
    place = np.indices((60, 60, 60)) - 30
    mask = (place**2).sum(0) < 20**2
    scan = np.where(mask, 100 + place[0], 20).astype(np.float32)
    affine = np.diag([2.0, 2, 2, 1])
    for name, data in (("flair", scan), ("mask", mask.astype(np.uint8))):
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}.nii.gz")
    return tmp_path / "flair.nii.gz", tmp_path / "mask.nii.gz", mask


def test_normalise_gives_0_to_1_over_the_brain_alone(prepare, brain, tmp_path):
    scan, mask, inside = brain
    code, out, err = prepare("normalise", "-i", scan, "-brainmask", mask, "-o", tmp_path / "n.nii.gz")
    assert (code, err) == (0, "") and out == f"{tmp_path / 'n.nii.gz'}: 0 to 1 over the brain\n"
    values = nib.load(tmp_path / "n.nii.gz").get_fdata()
    assert values[inside].min() == 0 and values[inside].max() == 1 and not values[~inside].any()


def test_resample_cuts_around_the_brain(prepare, brain, tmp_path):
    scan, mask, _ = brain
    line = ("resample", "-i", scan, "-brainmask", mask, "-o", tmp_path / "r.nii", "-spacing", "1", "-v", "0")
    assert prepare(*line) == (0, "", "")
    made = nib.load(tmp_path / "r.nii")
    np.testing.assert_allclose(made.header.get_zooms(), 1)
    assert all(78 <= length < 120 for length in made.shape)


@pytest.mark.parametrize(
    "argv, code, words",
    [
        (["bias", "-i", "none.nii.gz", "-o", "x.nii.gz"], 1, "none.nii.gz: does not exist"),
        (["dicom", "-i", "none", "-o", "x.nii.gz"], 1, "none"),
        (["bias", "-i", "flair.nii.gz", "-o", "flair.nii.gz"], 2, "-o flair.nii.gz: is the input"),
        (["normalise", "-i", "flair.nii.gz", "-o", "x.nii.gz", "-range", "9", "1"], 2, "-range 9 1"),
        (["resample", "-i", "flair.nii.gz", "-o", "x.nii.gz", "-spacing", "9"], 2, "-spacing 9"),
    ],
)
def test_what_cannot_be_done(prepare, brain, tmp_path, monkeypatch, argv, code, words):
    monkeypatch.chdir(tmp_path)
    found, out, err = prepare(*argv)
    assert (found, out, err.count("\n")) == (code, "", 1) and err.startswith("sct7t_prepare: error:") and words in err
    assert not (tmp_path / "x.nii.gz").exists()
