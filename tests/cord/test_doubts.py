"""Scans that do not show what the network was made for: what is flagged, and what is refused."""

import nibabel as nib
import numpy as np
import pytest

import sctseg7t
from sctseg7t.errors import InputError
from sctseg7t.measure.contrast import shrunk


@pytest.fixture(scope="module")
def segmenter():
    return sctseg7t.open_segmenter(device="cpu", threads=1)


@pytest.fixture(scope="module")
def plain(segmenter, example):
    return segmenter.run(example)


def arrays(image):
    return nib.as_closest_canonical(image).get_fdata()


def flagged(result, flag, tissue="GM"):
    return {row.slice for row in result.tables[0].rows if row.tissue == tissue and flag in row.flags}


def test_the_example_shows_gray_matter(plain):
    assert not flagged(plain, "gm_contrast_low") and not flagged(plain, "contrast_unusual")
    rows = [row for row in plain.tables[0].rows if row.tissue == "GM"]
    assert all(row.gm_wm_contrast > 0 and row.gm_wm_cnr > 1 for row in rows)


def test_a_blank_cord_is_flagged_on_every_slice(segmenter, plain, example):
    image = nib.as_closest_canonical(nib.load(example))
    data, sc, wm = image.get_fdata(), arrays(plain.masks["SC"]) > 0, arrays(plain.masks["WM"]) > 0
    rng = np.random.default_rng(0)
    for k in range(data.shape[2]):
        inner, level = shrunk(sc[..., k], (1, 1)), np.median(data[..., k][wm[..., k]])
        data[..., k][inner] = rng.normal(level, 0.03 * level, inner.sum())
    result = segmenter.run(nib.Nifti1Image(data, image.affine))
    with_gm = {row.slice for row in result.tables[0].rows if row.tissue == "GM" and row.area_mm2}
    assert flagged(result, "gm_contrast_low") == with_gm
    assert not flagged(result, "gm_contrast_low", "SC")
    assert not with_gm or any("cannot be told from white matter" in line for line in result.warnings)


def test_a_cord_in_dark_csf_is_flagged(segmenter, plain, example):
    image = nib.as_closest_canonical(nib.load(example))
    sc = arrays(plain.masks["SC"]) > 0
    noise = np.random.default_rng(0).normal(0, 10, sc.shape)
    dark = np.where(sc, image.get_fdata(), 40 + noise)
    result = segmenter.run(nib.Nifti1Image(dark, image.affine), centerline=plain.masks["SC"])
    assert flagged(result, "contrast_unusual", "SC") == set(range(sc.shape[2]))


def test_masks_and_label_maps_are_no_scans(segmenter, plain):
    sc, gm = (np.asarray(plain.masks[name].dataobj) for name in ("SC", "GM"))
    for data, count in ((sc, 2), (sc + gm, 3), (np.where(sc, np.indices(sc.shape)[0] % 15, 0) + 0.5, 15)):
        with pytest.raises(InputError, match=f"only {count} different values"):
            segmenter.run(nib.Nifti1Image(data, plain.masks["SC"].affine))


def test_development_scans(segmenter, data_dir):
    cord = data_dir / "cord"
    # The top slices of this stack show the medulla.
    result = segmenter.run(cord / "mts/sub-01_acq-MTon_MTS.nii.gz")
    assert flagged(result, "past_cord_end", "SC") == {20, 21} and {20, 21} <= flagged(result, "gm_contrast_low")
    assert not flagged(result, "contrast_unusual")
    t1 = segmenter.run(cord / "sct-testing/t1/t1w.nii.gz")
    assert len(flagged(t1, "contrast_unusual", "SC")) == t1.volume.data.shape[2]
    t2 = segmenter.run(cord / "sct-testing/t2/t2.nii.gz")
    # No GM is to be seen there: little is drawn, and none of it unflagged.
    with_gm = {row.slice for row in t2.tables[0].rows if row.tissue == "GM" and row.area_mm2}
    assert with_gm <= flagged(t2, "gm_contrast_low") and len(with_gm) < 0.3 * t2.volume.data.shape[2]
