"""The pipeline end to end on the example: the Python call, and the many ways to store one scan."""

import csv
import json
import shutil
from dataclasses import fields

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

import sctseg7t
from sctseg7t.errors import InputError, ModelError, UsageError, UserError
from sctseg7t.inference.pipeline import Options, open_segmenter
from sctseg7t.inference.roles import ROLES
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.weights import weights

TISSUES = ("SC", "GM", "WM")
# Every permutation of the axes and every flip of each; tests/image stores a scan in all 48 ways.
ORDERS = ["RAS", "LPI", "RIA", "ALS", "PSR", "SLP", "IAR", "LSA"]


def values(image):
    return np.asanyarray(image.dataobj)


def reoriented(image, codes):
    """The same scan stored with other axes: flips and permutation of voxels and affine."""
    target = axcodes2ornt(tuple(codes))
    return image.as_reoriented(ornt_transform(nib.io_orientation(image.affine), target))


def same_masks(result, reference):
    for name in reference.masks:
        np.testing.assert_array_equal(values(result.masks[name]), values(reference.masks[name]), err_msg=name)


@pytest.fixture(scope="module")
def image(small):
    loaded = nib.load(small)
    return nib.Nifti1Image(values(loaded).astype(np.float32), loaded.affine, loaded.header)


@pytest.fixture(scope="module")
def reference(open_cpu, image):
    result = open_cpu().run(image)
    assert result.usable and all(values(result.masks[name]).any() for name in TISSUES)
    return result


# ---------------------------------------------------------------- the Python call


@pytest.mark.parametrize("soft", [False, True])
def test_python_call_and_command_agree_bit_for_bit(deepseg, small, tmp_path, soft):
    argv = ["-i", small, "-ofolder", tmp_path, "-device", "cpu"] + ["-soft"] * soft
    assert deepseg(*argv)[0] == 0
    from_path = sctseg7t.segment(small, device="cpu", soft=soft)
    from_image = sctseg7t.segment(nib.load(small), device="cpu", soft=soft)
    for name, suffix in {"SC": "seg", "GM": "gmseg", "WM": "wmseg"}.items():
        stored = nib.load(tmp_path / f"t2s_{suffix}.nii.gz")
        for result in (from_path, from_image):
            mask = result.masks[name]
            np.testing.assert_array_equal(values(mask), values(stored), err_msg=name)
            assert mask.get_data_dtype() == stored.get_data_dtype() == (np.float32 if soft else np.uint8)
            np.testing.assert_array_equal(mask.affine, stored.affine)
    assert set(from_path.masks) == set(TISSUES)


def test_result_tells_where_and_how_and_leaves_its_input_alone(image, open_cpu):
    before, header = values(image).copy(), image.header.copy()
    result = open_cpu().run(image)
    np.testing.assert_array_equal(values(image), before)
    assert image.header == header
    (table,) = result.tables
    area = table.column("SC", "area_mm2")
    assert area.shape == (3,) and ((area > 30) & (area < 150)).all()
    (centres,) = result.centres_vox
    assert centres.shape == (3, 2) and ((centres > 20) & (centres < 100)).all()
    assert result.locator == "locator" and result.warnings == []
    assert all(value >= 0 for value in result.seconds.values())


@pytest.mark.parametrize(
    "bad", [{"threshold": 0}, {"threshold": 1.0}, {"volumes": "first"}, {"bias": "maybe"}, {"strip": "scalp"}]
)
def test_options_are_checked(bad):
    with pytest.raises(UsageError):
        Options(**bad)


@pytest.mark.parametrize(
    "call, error",
    [
        ({"task": "spleen"}, UsageError),
        ({"model": "nosuchmodel"}, ModelError),
        ({"device": "tpu"}, UsageError),
        ({"source": "nowhere/t2s.nii.gz"}, InputError),
        ({"centerline": "nowhere/line.nii.gz"}, InputError),
    ],
)
def test_python_call_raises_what_can_be_mended(small, call, error):
    with pytest.raises(error) as caught:
        sctseg7t.segment(**({"source": small, "device": "cpu"} | call))
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)


# ---------------------------------------------------------------- one scan, stored in many ways


@pytest.mark.parametrize("soft", [False, True])
def test_other_axis_orders_and_flips_give_the_same_mask(open_cpu, image, soft):
    native = "".join(nib.aff2axcodes(image.affine))
    first = open_cpu(soft=soft).run(image)
    for codes in ORDERS[:: 3 if soft else 1]:
        stored = reoriented(image, codes)
        result = open_cpu(soft=soft).run(stored)
        for name in TISSUES:
            mask = result.masks[name]
            assert mask.shape == stored.shape and nib.aff2axcodes(mask.affine) == tuple(codes)
            back = reoriented(mask, native)
            np.testing.assert_allclose(values(back), values(first.masks[name]), atol=1e-5 * soft, err_msg=codes)
            np.testing.assert_allclose(back.affine, image.affine, atol=1e-4)


@pytest.mark.parametrize("codes", ["SAR", "RSP"])
def test_axis_orders_through_a_file(open_cpu, small, tmp_path, codes):
    """A header holds single precision: still the same voxels, and the same fractions to a part in a million."""
    path = tmp_path / f"{codes}.nii.gz"
    nib.save(reoriented(nib.load(small), codes), path)
    for soft in (False, True):
        first, second = (open_cpu(soft=soft).run(p).masks["SC"] for p in (small, path))
        back = reoriented(second, "".join(nib.aff2axcodes(first.affine)))
        np.testing.assert_allclose(values(back), values(first), atol=1e-6 * soft)


def test_intensity_scale_and_offset_do_not_matter(open_cpu, image, reference):
    for scale, offset in ((1e-3, 1), (1e4, 0), (1, -500)):
        data = (values(image).astype(np.float64) * scale + offset).astype(np.float32)
        same_masks(open_cpu().run(nib.Nifti1Image(data, image.affine)), reference)


def test_flipped_anatomy_gives_the_flipped_mask(open_cpu, image, reference, dice):
    """Voxels mirrored left to right under the same affine: another, mirrored, subject."""
    mirrored = nib.Nifti1Image(values(image)[::-1].copy(), image.affine)
    result = open_cpu().run(mirrored)
    for name, least in (("SC", 0.98), ("GM", 0.93)):
        assert dice(values(result.masks[name])[::-1], values(reference.masks[name])) >= least, name
    # Once the window is the same, left and right are treated as equals to the last bit but rounding.
    cord = nib.Nifti1Image(values(reference.masks["SC"]), image.affine)
    mirror = nib.Nifti1Image(values(cord)[::-1].copy(), image.affine)
    first = open_cpu(soft=True).run(image, centerline=cord)
    second = open_cpu(soft=True).run(mirrored, centerline=mirror)
    for name in TISSUES:
        np.testing.assert_allclose(values(second.masks[name])[::-1], values(first.masks[name]), atol=1e-4)


def rotation(axis, degrees):
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz"[axis], degrees, degrees=True).as_matrix()
    return out


@pytest.mark.parametrize("turn", [rotation(1, 15), rotation(0, -40)], ids=["1", "0"])
def test_oblique_slices(open_cpu, image, reference, dice, turn):
    """The same slices, tilted in the scanner: the same cord in them, and the header's own grid."""
    affine = turn @ image.affine
    result = open_cpu().run(nib.Nifti1Image(values(image), affine))
    np.testing.assert_allclose(result.masks["SC"].affine, affine)
    for name, least in (("SC", 0.97), ("GM", 0.9)):
        assert dice(values(result.masks[name]), values(reference.masks[name])) >= least, name


@pytest.mark.parametrize("degrees", [-46, -25, 10, 46])
def test_field_of_view_turned_in_plane(open_cpu, image, dice, degrees):
    """The same subject on a turned grid: the affine says so, and the mask lies where it did."""
    middle = image.affine @ [59.5, 59.5, 1, 1]
    shift, unshift = np.eye(4), np.eye(4)
    shift[:3, 3], unshift[:3, 3] = middle[:3], -middle[:3]
    turned = shift @ rotation(2, degrees) @ unshift @ image.affine
    to_old = np.linalg.inv(image.affine) @ turned
    resampled = ndimage.affine_transform(values(image), to_old[:3, :3], to_old[:3, 3], order=1, mode="nearest")
    result = open_cpu().run(nib.Nifti1Image(resampled, turned))
    soft = open_cpu(soft=True).run(image)
    for name, least in (("SC", 0.95), ("GM", 0.85)):
        expected = ndimage.affine_transform(values(soft.masks[name]), to_old[:3, :3], to_old[:3, 3], order=1)
        assert dice(values(result.masks[name]), expected) >= least, name


@pytest.mark.parametrize("axis, end", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_cord_12_mm_from_a_border(open_cpu, example, dice, axis, end):
    image = nib.load(example).slicer[:, :, 2:6]
    whole = open_cpu().run(image)
    line = np.array([np.argwhere(values(whole.masks["SC"])[..., k]).mean(0) for k in range(4)])[:, axis]
    reach = 12 / image.header.get_zooms()[axis]
    cut = [slice(None)] * 3
    cut[axis] = slice(int(line.max() - reach), None) if end == 0 else slice(None, int(line.min() + reach))
    result = open_cpu().run(image.slicer[tuple(cut)])
    for name, least in (("SC", 0.95), ("GM", 0.85)):
        expected = values(whole.masks[name])[tuple(cut)]
        assert dice(values(result.masks[name]), expected) >= least, name
        assert expected.sum() > 0.99 * values(whole.masks[name]).sum()


# ---------------------------------------------------------------- shapes


def test_single_slice_2d_and_spare_axes_agree(open_cpu, image):
    data = values(image)[..., 1:2]
    single = open_cpu().run(nib.Nifti1Image(data, image.affine))
    assert single.usable and single.masks["SC"].shape == data.shape
    flat = open_cpu().run(nib.Nifti1Image(data[..., 0], image.affine))
    assert flat.masks["SC"].shape == data.shape[:2]
    np.testing.assert_array_equal(values(flat.masks["GM"]), values(single.masks["GM"])[..., 0])
    for spare in (1, 2):
        shape = (*data.shape, *[1] * spare)
        result = open_cpu().run(nib.Nifti1Image(data.reshape(shape), image.affine))
        assert result.masks["SC"].shape == shape
        np.testing.assert_array_equal(values(result.masks["SC"]).reshape(data.shape), values(single.masks["SC"]))


@pytest.fixture(scope="module")
def series(image):
    """Four volumes: the scan, a brighter one, a blank one, one shifted by five voxels."""
    data = values(image)
    return nib.Nifti1Image(np.stack([data, 3 * data + 20, 0 * data, np.roll(data, 5, 0)], 3), image.affine)


def test_each_volume_of_4d_on_its_own(deepseg, series, reference, dice, tmp_path):
    nib.save(series, tmp_path / "s.nii.gz")
    code, out, err = deepseg("-i", tmp_path / "s.nii.gz")
    assert code == 0 and "volume 2" in out + err
    sc = values(nib.load(tmp_path / "s_seg.nii.gz"))
    assert sc.shape == series.shape
    np.testing.assert_array_equal(sc[..., 0], values(reference.masks["SC"]))
    np.testing.assert_array_equal(sc[..., 1], sc[..., 0])
    assert not sc[..., 2].any()
    assert dice(np.roll(sc[..., 0], 5, 0), sc[..., 3]) > 0.95
    with open(tmp_path / "s_csa.csv", newline="", encoding="utf-8") as stream:
        table = [row for row in csv.DictReader(stream) if row["tissue"] == "SC"]
    pixel_mm2 = np.prod(series.header.get_zooms()[:2])
    for volume in range(4):
        areas = [float(row["area_mm2"] or 0) for row in table if row["volume"] == str(volume)]
        np.testing.assert_allclose(areas, sc[..., volume].sum((0, 1)) * pixel_mm2, rtol=1e-4)


def test_mean_of_the_volumes(deepseg, image, reference, tmp_path):
    """Two volumes with noise that cancels have the scan as their mean, and one 3D mask."""
    data = values(image)
    noise = np.random.default_rng(3).normal(0, 0.2 * data.std(), data.shape).astype(np.float32)
    nib.save(nib.Nifti1Image(np.stack([data + noise, data - noise], 3), image.affine), tmp_path / "s.nii.gz")
    assert deepseg("-i", tmp_path / "s.nii.gz", "-volumes", "mean")[0] == 0
    mask = nib.load(tmp_path / "s_seg.nii.gz")
    assert mask.shape == image.shape
    np.testing.assert_array_equal(values(mask), values(reference.masks["SC"]))


# ---------------------------------------------------------------- the steps' own rules


def test_no_cord_in_any_volume(open_cpu, image, monkeypatch):
    monkeypatch.setattr("sctseg7t.cord.segmenter.locate", lambda *args: None)
    for soft in (False, True):
        result = open_cpu(soft=soft).run(image)
        assert not result.usable and result.centres_vox == [None]
        assert not any(values(mask).any() for mask in result.masks.values())
        (table,) = result.tables
        assert {row.reason for row in table.rows} == {("empty",)}


def test_unsure_slices_are_named(open_cpu, image, monkeypatch):
    from dataclasses import replace

    from sctseg7t.cord import segmenter

    real = segmenter.locate
    monkeypatch.setattr(segmenter, "locate", lambda *args: replace(real(*args), unsure=np.array([False, True, False])))
    result = open_cpu().run(image)
    assert any(text.startswith("locator_unsure") and text.endswith("slice 1") for text in result.warnings)
    (table,) = result.tables
    assert {row.slice for row in table.rows if "locator_unsure" in row.flags} == {1}


def test_gray_matter_lies_inside_the_cord_at_any_threshold(open_cpu, image):
    for threshold in (0.1, 0.9):
        masks = open_cpu(threshold=threshold).run(image).masks
        sc, gm, wm = (values(masks[name]) for name in TISSUES)
        assert sc.any() and not (gm & ~sc).any()
        np.testing.assert_array_equal(sc, gm + wm)


def test_area_binarisation_keeps_the_area_and_yields_to_the_users_threshold(tmp_path, small):
    """The entry's ``binarise`` decides how fractions become masks, unless the user gave a threshold."""
    spec = load_manifest().model("cord_gm_sc")
    shutil.copy(weights(spec), tmp_path / "net.onnx")
    areas = {}
    for rule in ("area", "threshold"):
        entry = json.loads(json.dumps(spec.raw)) | {"postprocess": []}
        entry["files"][0] |= {"name": "net.onnx", "path": "net.onnx", "urls": ["net.onnx"]}
        for output in entry["outputs"]:
            output |= {"binarise": rule, "threshold": 0.5}
        (tmp_path / "net.json").write_text(json.dumps(entry))
        for name, options in (("mask", Options()), ("user", Options(threshold=0.5)), ("soft", Options(soft=True))):
            result = open_segmenter("gm_sc", str(tmp_path / "net.onnx"), "cpu", options).run(small)
            areas[rule, name] = np.asarray(result.masks["GM"].dataobj).sum((0, 1), dtype=float)
    assert np.array_equal(areas["area", "user"], areas["threshold", "mask"])
    # Soft masks leave out the faint haze away from the mask, which its area counts: about 1 %.
    assert np.abs(areas["area", "mask"] - areas["area", "soft"]).max() <= 1.5 + 0.01 * areas["area", "soft"].max()
    assert np.abs(areas["threshold", "mask"] - areas["area", "soft"]).max() > 1.5


# ---------------------------------------------------------------- from Python


def test_an_array_with_its_affine_is_the_same_as_the_image(image, reference):
    result = sctseg7t.segment(values(image), affine=image.affine, device="cpu")
    assert np.array_equal(values(result.masks["GM"]), values(reference.masks["GM"]))
    seeded = sctseg7t.segment(
        values(image), affine=image.affine, centerline=values(reference.masks["SC"]) > 0, device="cpu"
    )
    assert seeded.locator == "file" and values(seeded.masks["SC"]).any()
    with pytest.raises(UsageError, match="affine"):
        sctseg7t.segment(values(image))
    with pytest.raises(UsageError, match="thresh: neither a file nor an option"):
        sctseg7t.segment(image, thresh=0.4)
    with pytest.raises(UsageError, match="bias on: .* has no use for it"):
        sctseg7t.segment(image, bias="on", device="cpu")


def test_a_result_is_saved_as_the_command_names_it(deepseg, small, tmp_path):
    deepseg("-i", small, "-o", tmp_path / "cli" / "t2s")
    result = sctseg7t.segment(small)
    paths = result.save(tmp_path / "api" / "t2s")
    assert sorted(path.name for path in paths) == [
        "t2s_csa.csv",
        "t2s_gmseg.nii.gz",
        "t2s_seg.nii.gz",
        "t2s_wmseg.nii.gz",
    ]
    for path in paths:
        if path.suffix == ".gz":
            assert path.read_bytes() == (tmp_path / "cli" / path.name).read_bytes()
        else:
            assert len(path.read_text().splitlines()) == len((tmp_path / "cli" / path.name).read_text().splitlines())
    text = repr(result)
    assert len(text) < 300 and "SC, GM, WM" in text and "array" not in text
    for asked in (("XX", "area_mm2"), ("SC", "volume")):
        with pytest.raises(ValueError, match="no such"):
            result.tables[0].column(*asked)


def test_help_shows_the_call_and_names_every_file_and_option():
    assert "segment" in dir(sctseg7t)
    for name in (*ROLES, *(field.name for field in fields(Options))):
        assert f"`{name}`" in sctseg7t.segment.__doc__, name
