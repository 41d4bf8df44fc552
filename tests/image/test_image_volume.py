"""Loading, checking and writing back images, without loss."""

import errno
import gzip
import hashlib
import io
import itertools
import os
import struct
import tracemalloc
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import inv_ornt_aff
from scipy.spatial.transform import Rotation

from sctseg7t import files
from sctseg7t.errors import InputError, OutputError
from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.nifti import save
from sctseg7t.image.volume import check_header, load, to_native

ORIENTATIONS = [
    np.array(list(zip(order, flips)))
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
SPACING = (0.5, 0.4, 3.0)


def rotation(about, degrees):
    return Rotation.from_euler("xyz"[about], degrees, degrees=True).as_matrix()


def affine_of(linear=None, spacing=SPACING, origin=(-11.0, 7.5, 30.0)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if linear is None else linear) @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def scan(shape=(7, 9, 5), dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(dtype)


def stored_as(data, affine, orientation):
    """The image `data` on canonical `affine`, stored with another axis order and flips."""
    order = orientation[:, 0]
    flips = [k for k in range(3) if orientation[k, 1] < 0]
    stored = np.flip(data.transpose(*order, *range(3, data.ndim)), flips)
    return stored, affine @ np.linalg.inv(inv_ornt_aff(orientation, stored.shape[:3]))


def make(data, affine=None, image_class=nib.Nifti1Image, qform=1, sform=2, unit="mm"):
    image = image_class(data, affine_of() if affine is None else affine)
    image.set_qform(image.affine, qform)
    image.set_sform(image.affine, sform)
    image.header.set_xyzt_units(unit, "sec")
    return image


def write(tmp_path, image, name="scan.nii.gz"):
    path = tmp_path / name
    nib.save(image, path)
    return path


def assert_same_grid(result, source):
    assert result.shape == source.shape
    assert type(result) is type(source)
    np.testing.assert_array_equal(result.affine, source.affine)
    places = [
        f"{name}_{axis}" for name, axes in (("srow", "xyz"), ("quatern", "bcd"), ("qoffset", "xyz")) for axis in axes
    ]
    for field in (*places, "qform_code", "sform_code", "xyzt_units", "pixdim"):
        np.testing.assert_array_equal(result.header[field], source.header[field], err_msg=field)


@pytest.mark.parametrize(
    ("linear", "qform"),
    [(rotation(0, 12) @ rotation(2, -8), 1), (rotation(0, 20) @ [[1, 0.1, 0.05], [0, 1, 0.3], [0, 0, 1]], 0)],
    ids=["oblique", "sheared"],
)
def test_every_axis_order_round_trips(tmp_path, linear, qform):
    assert len(ORIENTATIONS) == 48
    affine = affine_of(linear)
    values, mask = scan(), (scan(seed=1) > 600).astype(np.uint8)
    for orientation in ORIENTATIONS:
        data, stored_affine = stored_as(values, affine, orientation)
        path = write(tmp_path, make(data, stored_affine, qform=qform))
        volume = load(path)
        np.testing.assert_array_equal(volume.data[..., 0], values)
        np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
        assert volume.data.shape == (7, 9, 5, 1) and volume.data.dtype == np.float32
        np.testing.assert_allclose(volume.spacing_mm, np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6)

        saved = nib.load(save(to_native(volume, mask, np.uint8), tmp_path / "mask.nii.gz"))
        assert_same_grid(saved, nib.load(path))
        np.testing.assert_array_equal(np.asanyarray(saved.dataobj), stored_as(mask, affine, orientation)[0])
        assert saved.get_data_dtype() == np.uint8


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (2, 0), (1, 4), (0, 0)])
def test_format_codes_and_units_are_kept(tmp_path, image_class, codes):
    for unit in ("mm", "unknown"):
        path = write(tmp_path, make(scan(), None, image_class, *codes, unit))
        volume = load(path)
        saved = nib.load(save(to_native(volume, volume.data[..., 0] > 500, np.uint8), tmp_path / "out.nii"))
        assert_same_grid(saved, nib.load(path))
        assert any("no orientation" in note for note in volume.notes) == (codes == (0, 0))


def test_stored_shape_is_restored(tmp_path):
    whole = (7, 9, 5, 4, 1)
    for shape in ((7, 9), (7, 9, 1), whole[:3], (7, 9, 5, 1), (7, 9, 5, 1, 1), (7, 9, 1, 4), whole[:4], whole):
        data = scan(shape)
        path = write(tmp_path, make(data, affine_of() * [[-1], [1], [1], [1]]))
        volume = load(path)
        assert volume.data.shape == (*shape, 1, 1)[:4]
        saved = nib.load(save(to_native(volume, volume.data, np.float32), tmp_path / "out.nii.gz"))
        assert_same_grid(saved, nib.load(path))
        np.testing.assert_array_equal(saved.get_fdata(), data)
        one = to_native(volume, volume.data[..., 0] > 0, np.uint8)
        assert one.shape == (shape[:3] if len(shape) > 3 and shape[3] > 1 else shape)


def test_mean_of_volumes_leaves_out_blank_ones(tmp_path):
    data = scan((7, 9, 5, 4)).astype(np.float64)
    data[..., 2] = 0
    path = write(tmp_path, make(data))
    assert load(path).blank_volumes == (2,)
    mean = load(path, volumes="mean")
    assert mean.blank_volumes == (2,) and "blank" in mean.notes[-1]
    np.testing.assert_allclose(mean.data[..., 0], data[..., [0, 1, 3]].mean(axis=3), rtol=1e-6)
    assert to_native(mean, mean.data, np.float32).shape == (7, 9, 5)
    assert to_native(mean, mean.data[..., 0] > 0, np.uint8).shape == (7, 9, 5)


def test_scaling_of_stored_integers_is_honoured_and_not_passed_on(tmp_path):
    image = make(scan(dtype=np.int16))
    image.header.set_slope_inter(0.25, -3)
    image.header["cal_max"], image.header["descrip"] = 700, b"name of the subject"
    path = write(tmp_path, image)
    raw = np.asanyarray(nib.load(path).dataobj.get_unscaled())
    np.testing.assert_allclose(load(path).data[..., 0], raw * 0.25 - 3)
    image.header.set_slope_inter(0.25, -3)
    for volume in (load(path), load(image)):
        save(to_native(volume, volume.data[..., 0] > 100, np.uint8), tmp_path / "m.nii")
        with open(tmp_path / "m.nii", "rb") as stream:
            header = nib.Nifti1Header.from_fileobj(stream, check=False)
        assert (header["scl_slope"], header["scl_inter"], header["cal_max"]) == (1, 0, 0)
        assert not header["descrip"].item()


def test_image_in_memory_and_header_image_pair(tmp_path):
    image = make(scan())
    volume = load(image)
    assert volume.path is None and volume.sha256 is None
    assert_same_grid(to_native(volume, volume.data[..., 0], np.float32), image)
    other = nib.MGHImage(scan(dtype=np.float32), affine_of())
    np.testing.assert_allclose(to_native(load(other), scan() > 3, np.uint8).affine, other.affine)

    pair = make(scan(), None, nib.Nifti1Pair, qform=3, sform=4)
    volume = load(write(tmp_path, pair, "scan.img"))
    assert volume.sha256 == load(tmp_path / "scan.hdr").sha256
    saved = nib.load(save(to_native(volume, volume.data, np.float32), tmp_path / "o.nii"))
    assert int(saved.header["qform_code"]) == 3 and int(saved.header["sform_code"]) == 4
    np.testing.assert_array_equal(saved.get_fdata(), pair.get_fdata())


def test_big_endian_is_read_and_kept(tmp_path):
    image = nib.Nifti1Image(scan(), affine_of(), nib.Nifti1Header(endianness=">"))
    path = write(tmp_path, image, "scan.nii")
    assert path.read_bytes()[:4] == struct.pack(">i", 348)
    volume = load(path)
    np.testing.assert_array_equal(volume.data[..., 0], scan())
    saved = nib.load(save(to_native(volume, volume.data, np.float32), tmp_path / "o.nii"))
    np.testing.assert_array_equal(saved.get_fdata(), scan())


def test_check_header_agrees_with_load_and_skips_extensions(tmp_path):
    image = make(scan((7, 9, 5, 2)), affine_of(rotation(1, 10)))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"x" * 2000))
    for name in ("a.nii", "a.nii.gz"):
        path = write(tmp_path, image, name)
        geometry, volume = check_header(path), load(str(path))
        assert geometry.shape == volume.data.shape
        np.testing.assert_array_equal(geometry.affine, volume.affine)
        assert volume.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert not to_native(volume, volume.data, np.float32).header.extensions


def test_array_of_another_shape_or_range_is_a_programming_error():
    volume = load(make(scan()))
    for array, match in (
        (np.zeros((9, 7, 5)), "does not fit"),
        (np.full((7, 9, 5), 0.5), "cannot store"),
        (np.full((7, 9, 5), 256), "cannot store"),
    ):
        with pytest.raises(ValueError, match=match):
            to_native(volume, array, np.uint8)


# --- files that cannot be used


def refuse(source, match, call=load):
    with pytest.raises(InputError, match=match) as caught:
        call(source)
    assert "\n" not in str(caught.value)
    if not isinstance(source, nib.spatialimages.SpatialImage):
        assert str(source) in str(caught.value)


def test_unusable_files(tmp_path):
    good = write(tmp_path, make(scan((30, 30, 5))), "good.nii").read_bytes()
    packed = write(tmp_path, make(scan((30, 30, 5)))).read_bytes()

    def variant(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    cases = [
        (tmp_path / "none.nii.gz", "does not exist"),
        (tmp_path, "is a folder"),
        (variant("empty.nii", b""), "0 bytes"),
        (variant("text.nii", b"hello" * 200), "not a NIfTI"),
        (variant("text.nii.gz", b"hello" * 200), "not gzip-compressed; convert"),
        (variant("plain.nii.gz", good), "not gzip-compressed; rename it to .nii"),
        (variant("packed.nii", packed), "rename it to .nii.gz"),
        (variant("junk.nii.gz", gzip.compress(b"hello" * 200)), "not a NIfTI"),
        (variant("dicom.nii", bytes(128) + b"DICM" + bytes(400)), "DICOM"),
        (variant("short.nii", good[:-100]), "truncated"),
        (variant("stub.nii", good[:200]), "not a NIfTI"),
    ]
    for path, match in cases:
        refuse(path, match)
        refuse(path, match, check_header)


def test_truncated_or_damaged_gzip(tmp_path):
    path = write(tmp_path, make(scan((60, 60, 5))))
    stored = path.read_bytes()
    middle = len(stored) // 2
    damaged = stored[:middle] + bytes([stored[middle] ^ 0xFF]) + stored[middle + 1 :]
    for content in (damaged, *(stored[: int(len(stored) * keep)] for keep in (0.02, 0.3, 0.9, 0.999))):
        path.write_bytes(content)
        refuse(path, "truncated or damaged")


def patched(tmp_path, offset, fmt, *values):
    path = write(tmp_path, make(scan()), "patched.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into(fmt, content, offset, *values)
    path.write_bytes(content)
    return path


def test_damaged_headers(tmp_path):
    for value in (0.0, -0.5, float("nan"), float("inf")):
        path = patched(tmp_path, 80, "<f", value)
        refuse(path, "voxel size of")
        refuse(path, "voxel size of", check_header)
    refuse(patched(tmp_path, 40, "<h", 9), "axes|header")
    refuse(patched(tmp_path, 42, "<h", -7), "negative")
    refuse(patched(tmp_path, 42, "<h", 30000), "truncated")
    refuse(patched(tmp_path, 70, "<h", 1234), "damaged NIfTI header")
    refuse(patched(tmp_path, 280, "<f", float("nan")), "NaN or infinite")
    refuse(patched(tmp_path, 280, "<4f", 0, 0, 0, 0), "singular")


def test_faults_that_are_mended_are_noted_and_print_nothing(tmp_path, capfd):
    load(patched(tmp_path, 252, "<h", 99))
    volume = load(patched(tmp_path, 80, "<f", 0.7))
    assert volume.spacing_mm[0] == pytest.approx(0.5)
    assert "disagrees with the affine" in volume.notes[0]
    assert capfd.readouterr() == ("", "")


def test_implausible_or_coarse_voxels():
    for spacing in ((0.01, 0.5, 3), (0.5, 0.5, 60), (12, 11, 20)):
        refuse(make(scan(), affine_of(spacing=spacing)), "not plausible")
    for spacing in ((1.6, 0.5, 3), (2, 2, 2)):
        refuse(make(scan(), affine_of(spacing=spacing)), "too coarse")
    assert load(make(scan(), affine_of(spacing=(0.9, 0.9, 5)))).notes == ()
    (note,) = load(make(scan(), affine_of(spacing=(1.0, 0.9, 5)))).notes
    assert "1.00 mm" in note and "GM is unreliable" in note


def test_unusable_voxels_and_shapes(tmp_path):
    data = scan(dtype=np.float32)
    data[1, 2, 3], data[0, 0, 0] = np.nan, np.inf
    path = write(tmp_path, make(data))
    refuse(path, "2 NaN or infinite voxels", lambda each: load(each, nan="refuse"))
    volume = load(path)
    assert volume.notes == ("2 NaN or infinite voxels taken as 0, on slice 0, 3",)
    assert [tuple(voxel) for voxel in np.argwhere(volume.missing)] == [(0, 0, 0), (1, 2, 3)]
    assert volume.data[1, 2, 3, 0] == volume.data[0, 0, 0, 0] == 0 and load(make(scan())).missing is None
    refuse(write(tmp_path, make(np.full((7, 9, 5), 1e200))), "infinite")
    refuse(make(np.zeros((7, 9, 5), np.int16)), "are zero")
    refuse(make(np.full((7, 9, 5), 4, np.int16)), "are equal")
    refuse(make(np.zeros((7, 9, 5, 3), np.int16)), "are zero")
    refuse(make(scan().astype(np.complex64)), "complex")
    rgb = np.zeros((7, 9, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refuse(make(rgb), "RGB")
    for shape, match in (
        ((7,), "one axis"),
        ((7, 9, 5, 1, 2), "5 axes"),
        ((7, 0, 5), "without voxels"),
        ((7, 1, 1), "single row"),
    ):
        refuse(nib.Nifti1Image(np.ones(shape, np.int16), affine_of()), match)


def test_headers_damaged_at_random_never_crash(tmp_path):
    rng = np.random.default_rng(0)
    whole = write(tmp_path, make(scan()), "whole.nii").read_bytes()
    path, outcomes = tmp_path / "damaged.nii", set()
    for _ in range(200):
        content = bytearray(whole)
        content[rng.integers(0, 348)] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            outcomes.add(load(path).data.shape)
        except InputError as error:
            outcomes.add(type(error))
    assert outcomes >= {(7, 9, 5, 1), InputError}


# --- slices must be axial


def test_sagittal_and_coronal_slices_are_refused(tmp_path):
    sagittal = affine_of(spacing=(3.3, 0.5, 0.5))
    refuse(write(tmp_path, make(scan(), sagittal)), r"sagittal \(3.3 mm thick along left-right")
    refuse(make(scan(), affine_of(spacing=(0.5, 3.3, 0.5))), "coronal")
    refuse(make(scan((1, 9, 5)), affine_of(spacing=(0.5, 0.5, 0.5))), "single slice is sagittal")
    refuse(make(scan(), affine_of(rotation(0, 80))), "coronal")
    refuse(make(scan(), sagittal, qform=0, sform=0), "no orientation")
    assert load(make(scan(), sagittal), axial=False).spacing_mm[0] == pytest.approx(3.3)
    assert load(make(scan(), affine_of(spacing=(0.8, 0.8, 0.8)))).notes == ()


def test_tilted_slabs():
    for about in (0, 1):
        for degrees in (-44, 30, 44):
            assert load(make(scan(), affine_of(rotation(about, degrees)))).notes == ()
        for degrees in (-47, 47, 55):
            refuse(make(scan(), affine_of(rotation(about, degrees))), f"tilted {abs(degrees)} degrees")
    refuse(make(scan(), affine_of(rotation(0, 36) @ rotation(1, 33))), "tilted 47 degrees.*ambiguous")


# --- writing


def test_saved_bytes_are_the_same_every_time(tmp_path, monkeypatch):
    volume = load(make(scan()))
    clock = itertools.count(1_700_000_000, 1000)
    monkeypatch.setattr("time.time", lambda: next(clock))
    paths = [save(to_native(volume, volume.data > 400, np.uint8), tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.nii.gz", "b.nii.gz"]


def test_save_refuses_bad_targets(tmp_path):
    image = make(scan())
    (tmp_path / "folder.nii").mkdir()
    cases = [("no/such/a.nii", "does not exist; create it"), ("a.img", "named .nii"), ("folder.nii", "is a folder")]
    for path, match in cases:
        with pytest.raises(OutputError, match=match):
            save(image, tmp_path / path)
    assert os.listdir(tmp_path) == ["folder.nii"]


@pytest.mark.parametrize(
    ("step", "code", "match"),
    [("open", "EACCES", "permission"), ("write", "ENOSPC", "disk is full"), ("replace", "EROFS", "read-only")],
)
def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, code, match):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    class Stream(io.FileIO):
        write = fail

    if step == "replace":
        monkeypatch.setattr(files.os, "replace", fail)
    else:
        monkeypatch.setattr(files, "open", fail if step == "open" else Stream, raising=False)
    with pytest.raises(OutputError, match=f"a.nii.gz.*{match}"):
        save(make(scan()), path)
    monkeypatch.setattr(files.os, "replace", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(files, "open", open, raising=False)
    with pytest.raises(KeyboardInterrupt):
        save(make(scan()), path)
    assert os.listdir(tmp_path) == ["a.nii.gz"] and path.read_bytes() == b"old"


# --- labels drawn by the user


def test_labels_on_the_same_grid_are_copied_whatever_their_order():
    labels = scan(seed=3) % 8
    affine = affine_of(rotation(0, 15))
    volume = load(make(scan(), affine))
    for orientation in ORIENTATIONS:
        result, _ = labels_on_scan(make(*stored_as(labels, affine, orientation)), volume)
        assert np.issubdtype(result.dtype, np.integer)
        np.testing.assert_array_equal(result, labels)


def test_labels_on_another_grid_take_the_nearest_voxel():
    volume = load(make(scan((8, 10, 4)), affine_of()))
    fine = np.zeros((20, 24, 12), np.float32)
    fine_affine = affine_of(spacing=(0.25, 0.2, 1.5), origin=(-11.0, 7.5, 30.0))
    fine[6:12, 8:14, 2:6] = 2.7  # soft masks are rounded
    expected = np.zeros((8, 10, 4))
    expected[3:6, 4:7, 1:3] = 3
    np.testing.assert_array_equal(labels_on_scan(make(fine, fine_affine), volume)[0], expected)


def test_point_labels_between_coarse_slices_are_not_lost():
    volume = load(make(scan((8, 10, 4)), affine_of(spacing=(0.5, 0.5, 5.0), origin=(0, 0, 0))))
    points = np.zeros((4, 5, 20), np.uint8)
    # Heights 2, 6 and 11 mm: slices at 0, 5, 10 and 15 mm pass them by.
    for height, level in ((2, 5), (6, 4), (11, 3)):
        points[2, 2, height] = level
    result, _ = labels_on_scan(make(points, affine_of(spacing=(1, 1, 1), origin=(0, 0, 0))), volume)
    assert [result[..., k].max() for k in range(4)] == [5, 4, 3, 0]
    assert np.count_nonzero(result) == 3 and result[4, 4, 0] == 5


def test_labels_without_overlap_or_orientation(tmp_path):
    volume = load(make(scan()))
    far = write(tmp_path, make(np.ones((7, 9, 5), np.uint8), affine_of(origin=(500, 0, 0))), "far.nii")
    with pytest.raises(InputError, match="does not overlap"):
        labels_on_scan(far, volume)
    labels = scan() % 5
    np.testing.assert_array_equal(labels_on_scan(make(labels, qform=0, sform=0), volume)[0], labels)
    with pytest.raises(InputError, match="no orientation and another shape"):
        labels_on_scan(make(labels[:-1], qform=0, sform=0), volume)
    with pytest.raises(InputError, match="3 volumes"):
        labels_on_scan(make(scan((7, 9, 5, 3))), volume)


def test_freesurfer_and_analyze_files_are_read(tmp_path):
    data = scan(dtype=np.float32)
    path = write(tmp_path, nib.MGHImage(data, affine_of()), "scan.mgz")
    volume = load(path)
    np.testing.assert_array_equal(to_native(volume, volume.data, np.float32).get_fdata(), data)
    np.testing.assert_allclose(to_native(volume, volume.data, np.float32).affine, nib.load(path).affine)
    assert check_header(path).spacing_mm == volume.spacing_mm
    analyze = write(tmp_path, nib.AnalyzeImage(data, np.diag([0.5, 0.4, 3, 1])), "scan.img")
    # The format has no place for left and right.
    assert any("no orientation" in note for note in load(analyze).notes)
    (tmp_path / "scan.hdr").unlink()
    refuse(tmp_path / "scan.hdr", "does not exist")
    path.write_bytes(path.read_bytes()[:300])
    refuse(path, "cannot be read")


def test_units_other_than_mm_are_honoured(tmp_path):
    true = load(make(scan()))
    for unit, factor in (("meter", 1e-3), ("micron", 1e3)):
        path = write(tmp_path, make(scan(), np.diag([factor] * 3 + [1]) @ affine_of(), unit=unit))
        volume = load(path)
        np.testing.assert_allclose(volume.affine, true.affine, rtol=1e-5)
        assert volume.notes == ()
        assert_same_grid(to_native(volume, volume.data[..., 0], np.float32), nib.load(path))
    (note,) = load(make(scan(), unit="meter")).notes
    assert "read as mm" in note
    refuse(make(scan(), np.diag([1e-5] * 3 + [1]) @ affine_of(), unit="mm"), "correct the voxel size or the units")


@pytest.mark.parametrize(("degrees", "told"), [(0.5, False), (20, True)])
def test_two_forms_of_a_header_that_differ_are_told(degrees, told):
    image = make(scan())
    image.set_qform(affine_of(rotation(2, degrees)), 1)
    notes = load(image).notes
    assert bool(notes) is told and all("degrees apart" in note for note in notes)


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    """What the header states is unpacked, however much the file holds."""
    path = tmp_path / "bomb.nii.gz"
    image = make(scan())
    path.write_bytes(gzip.compress(image.to_bytes()[:352] + bytes(50_000_000)))
    tracemalloc.start()
    load_error = None
    try:
        load(path)
    except InputError as error:
        load_error = error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "all voxels are zero" in str(load_error) and peak < 10_000_000


def test_gzip_of_several_streams_is_one_file(tmp_path):
    image, path = make(scan()), tmp_path / "scan.nii.gz"
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]))
    np.testing.assert_array_equal(load(path).data[..., 0], load(image).data[..., 0])
