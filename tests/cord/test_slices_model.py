"""Whole slices through a network: equal to sct_deepseg_gm's recipe, written down step by step elsewhere."""

import sys

import nibabel as nib
import numpy as np
import pytest
from conv_network import write_entry, write_network

from sctseg7t.errors import ModelError
from sctseg7t.inference.pipeline import Options, open_segmenter

INPUT = {
    "contrasts": ["T2star"],
    "orientation": "native",
    "axes": "xy",
    "spacing_mm": [0.25, 0.25],
    "size": [200, 200],
    "channels": ["T2star"],
    "normalisation": {"name": "zscore", "parameters": {"scope": "stack"}},
    "sampling": {"method": "slices", "resample": "centred", "pad": "symmetric"},
}


@pytest.fixture(scope="module")
def recipe(root):
    sys.path.insert(0, str(root / "benchmark" / "peers"))
    try:
        import sct_gm
    finally:
        sys.path.pop(0)
    return sct_gm


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A 5 x 5 convolution without symmetry, and a sigmoid."""
    kernel = np.random.default_rng(3).normal(0, 0.5, (1, 1, 5, 5))
    return write_network(tmp_path_factory.mktemp("net") / "stub.onnx", kernel, bias=1.5)


def entry_beside(path, centring="image", **changes):
    output = {"map_threshold": 0.9, "binarise": "above"}
    return write_entry(path, "gm", "GM", input=INPUT | changes, output=output, centring={"policy": centring})


def scan(tmp_path, shape, pixel, orientation="RAS", dtype=np.float32, seed=0):
    """A smooth random image, stored in another order and direction of its axes."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (2, 2, 0)) * 4000 + 1000
    affine = np.diag([*pixel, 5.0, 1])
    ras = nib.Nifti1Image(noise.astype(dtype), affine)
    target = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(orientation))
    )
    path = tmp_path / f"{orientation}.nii.gz"
    nib.save(ras.as_reoriented(target), path)
    return path


@pytest.mark.parametrize(
    "shape, pixel, orientation, dtype, resample",
    [
        ((90, 100, 4), (0.5, 0.5), "RAS", np.float32, "centred"),  # 45 x 50 mm: padded along one axis
        ((201, 240, 3), (0.3, 0.3), "LPS", np.int16, "centred"),  # odd side; cropped
        ((70, 128, 5), (0.4, 0.45), "ARS", np.float32, "centred"),  # in-plane axes exchanged
        ((64, 64, 1), (0.9, 0.9), "LAI", np.uint8, "centred"),  # one slice, stored from the head down
        ((150, 33, 3), (0.25, 0.25), "PLI", np.float64, "centred"),
        ((96, 80, 3), (0.4, 0.4), "RAS", np.float32, "corner"),
    ],
)
def test_masks_equal_the_recipe_voxel_for_voxel(
    tmp_path, network, recipe, monkeypatch, shape, pixel, orientation, dtype, resample
):
    path = scan(tmp_path, shape, pixel, orientation, dtype)
    monkeypatch.setattr(recipe, "THRESHOLD", 0.9)
    expected = np.asarray(recipe.segment_gm(path, network, threads=1, centred=resample == "centred").dataobj)
    sampling = {"method": "slices", "resample": resample, "pad": "symmetric"}
    result = open_segmenter("gm", entry_beside(network, sampling=sampling), "cpu", threads=1).run(path)
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(np.asarray(result.masks["GM"].dataobj), expected)
    np.testing.assert_array_equal(result.masks["GM"].affine, nib.load(path).affine)


def test_slices_along_another_stored_axis_are_found(tmp_path, network):
    """The recipe takes the third stored axis for the slices, whatever it is; here the affine decides."""
    segmenter = open_segmenter("gm", entry_beside(network), "cpu", threads=1)
    plain = segmenter.run(scan(tmp_path, (90, 100, 4), (0.5, 0.5), "RAS"))
    moved = segmenter.run(scan(tmp_path, (90, 100, 4), (0.5, 0.5), "SRA"))
    np.testing.assert_array_equal(
        np.asarray(moved.masks["GM"].dataobj), np.moveaxis(np.asarray(plain.masks["GM"].dataobj), 2, 0)
    )


def test_an_orientation_makes_the_storage_irrelevant(tmp_path, network):
    """Flipped to LAS, the network sees the same slices however the file stores them."""
    entry = entry_beside(network, orientation="LAS")
    segmenter = open_segmenter("gm", entry, "cpu", threads=1)
    masks = [segmenter.run(scan(tmp_path, (90, 100, 4), (0.5, 0.5), code)).masks["GM"] for code in ("RAS", "PIL")]
    canonical = [np.asarray(nib.as_closest_canonical(mask).dataobj) for mask in masks]
    np.testing.assert_array_equal(*canonical)
    plain = open_segmenter("gm", entry_beside(network), "cpu", threads=1)
    assert (np.asarray(plain.run(tmp_path / "RAS.nii.gz").masks["GM"].dataobj) != canonical[0]).any()


def test_percentile_scaling_ignores_scale_and_offset(tmp_path, network):
    parameters = {"scope": "stack", "low": 2, "high": 98, "scale": 4, "mean": 2, "sd": 1}
    entry = entry_beside(network, normalisation={"name": "percentile", "parameters": parameters})
    segmenter = open_segmenter("gm", entry, "cpu", threads=1)
    image = nib.load(scan(tmp_path, (90, 100, 4), (0.5, 0.5)))
    other = nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 4 + 64, image.affine)
    masks = [np.asarray(segmenter.run(given).masks["GM"].dataobj) for given in (image, other)]
    assert masks[0].any() and (masks[0] != masks[1]).sum() <= 2


def test_the_crop_follows_a_centre_line(tmp_path, network):
    """With a centre line the crop moves: what lies beyond the image's middle is segmented too."""
    path = scan(tmp_path, (300, 120, 3), (0.5, 0.5))
    line = np.zeros((300, 120, 3), np.uint8)
    line[20, 60] = 1
    segmenter = open_segmenter("gm", entry_beside(network), "cpu", threads=1)
    usual = segmenter.run(path)
    moved = segmenter.run(path, centerline=nib.Nifti1Image(line, nib.load(path).affine))
    assert not np.asarray(usual.masks["GM"].dataobj)[:90].any()
    assert np.asarray(moved.masks["GM"].dataobj)[:60].any() and moved.locator == "file"
    assert any(text.startswith("touches_window_edge") for text in usual.warnings)


def test_soft_results_are_the_resampled_map(tmp_path, network):
    path = scan(tmp_path, (90, 100, 2), (0.5, 0.5))
    segmenter = open_segmenter("gm", entry_beside(network), "cpu", Options(soft=True), threads=1)
    soft = np.asarray(segmenter.run(path).masks["GM"].dataobj)
    assert soft.dtype == np.float32 and 0 <= soft.min() and soft.max() <= 1 and np.unique(soft).size > 3


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"axes": "yx"}, "input.axes"),
        ({"centring": "none"}, "centring.policy"),
        ({"normalisation": {"name": "zscore", "parameters": {"scope": "slice"}}}, "input.normalisation"),
        ({"interpolation": "cubic"}, "input.interpolation"),
    ],
)
def test_an_entry_that_slices_cannot_serve_is_refused(network, changes, named):
    with pytest.raises(ModelError, match=named):
        open_segmenter("gm", entry_beside(network, **changes), "cpu")


@pytest.mark.data
@pytest.mark.parametrize("model", ["large", "challenge"])
def test_the_imported_peer_gives_the_masks_of_its_recipe(tmp_path, recipe, data_dir, monkeypatch, dice, model):
    """Our sampler against the recipe in scipy; tests/zoo holds the converted network to one built of torch layers."""
    monkeypatch.setenv("SCT7T_MIRROR", str(data_dir / "peers"))
    monkeypatch.setenv("SCT7T_CACHE", str(tmp_path / "cache"))
    folder = data_dir / "cord" / "sct-testing" / "t2s"
    segmenter = open_segmenter("gm", f"sct_gm_{model}", "cpu", threads=1)
    result = segmenter.run(folder / "t2s.nii.gz")
    mask = np.asarray(result.masks["GM"].dataobj)
    expected = recipe.segment_gm(folder / "t2s.nii.gz", segmenter.model.session.path, threads=1)
    np.testing.assert_array_equal(mask, np.asarray(expected.dataobj))
    reference = np.asarray(nib.load(folder / "t2s_gmseg_manual.nii.gz").dataobj) > 0
    found = dice(mask, reference)
    assert found > 0.85 and (model != "large" or abs(found - 0.91) <= 0.01)
