"""DICOM folders: one series, several, none, unreadable."""

import nibabel as nib
import numpy as np
import pytest

from sctseg7t.brain.dicom import to_nifti
from sctseg7t.errors import InputError, OutputError

pytest.importorskip("pydicom", reason="makes the DICOM files (pip install pydicom)")


def write_series(folder, number, description, *, slices=6, name="Doe^Jane"):
    """An axial MR series of 2 x 1.5 x 3 mm voxels whose values tell their place."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = generate_uid(), "1.2.3.4", generate_uid()
    for k in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"s{number}_{k:03}.dcm"
        item = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        item.SOPClassUID, item.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        item.Modality, item.Manufacturer = "MR", "SIEMENS"
        item.PatientName, item.PatientID = name, "123"
        item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = study, series, frame
        item.SeriesNumber, item.InstanceNumber, item.SeriesDescription = number, k + 1, description
        item.StudyDate = item.SeriesDate = "20200101"
        item.StudyTime = item.SeriesTime = item.AcquisitionTime = "120000"
        item.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        item.Rows, item.Columns = 8, 10
        item.PixelSpacing, item.SliceThickness, item.SpacingBetweenSlices = [1.5, 2], 3, 3
        item.ImageOrientationPatient, item.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -6, 3 * k]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated = item.BitsStored = 16
        item.HighBit, item.PixelRepresentation = 15, 0
        item.EchoTime, item.RepetitionTime, item.MagneticFieldStrength = 300, 8000, 7
        item.PixelData = (np.arange(80, dtype=np.uint16).reshape(8, 10) + 100 * k).tobytes()
        item.save_as(path, enforce_file_format=True)


def test_one_series_becomes_one_image(tmp_path):
    write_series(tmp_path / "in" / "deep", 7, "t2 FLAIR/7T")
    out = to_nifti(tmp_path / "in", tmp_path / "scan.nii.gz")
    image = nib.as_closest_canonical(nib.load(out))
    assert image.shape == (10, 8, 6)
    np.testing.assert_allclose(image.header.get_zooms(), (2, 1.5, 3))
    # DICOM's first row is anterior, its first column the patient's right.
    assert image.get_fdata()[-1, -1, 2] == 200
    assert "Doe" not in (tmp_path / "scan.json").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "scan.json", "scan.nii.gz"]


def test_a_folder_as_output_gets_a_safe_name(tmp_path):
    write_series(tmp_path / "in", 7, "t2 FLAIR/7T; rm *")
    (tmp_path / "out").mkdir()
    assert to_nifti(tmp_path / "in", tmp_path / "out").name == "series7-t2-FLAIR-7T-rm.nii.gz"


def test_several_series_are_listed_and_chosen(tmp_path):
    write_series(tmp_path / "in", 3, "localizer", slices=3)
    write_series(tmp_path / "in", 7, "t2 FLAIR")
    with pytest.raises(InputError, match=r"2 images.*-series.*3 localizer \(10x8x3\).*7 t2 FLAIR \(10x8x6\)"):
        to_nifti(tmp_path / "in", tmp_path / "scan.nii.gz")
    for wanted in (7, "7", "flair"):
        assert nib.load(to_nifti(tmp_path / "in", tmp_path / "scan.nii.gz", series=wanted)).shape[2] == 6
    with pytest.raises(InputError, match=r"no series fits -series 8; it holds: 3 localizer"):
        to_nifti(tmp_path / "in", tmp_path / "scan.nii.gz", series=8)


@pytest.mark.parametrize("content", [None, b"not a DICOM file", b"\0" * 128 + b"DICM" + b"\1" * 50])
def test_nothing_to_convert_is_said(tmp_path, content):
    folder = tmp_path / "in"
    folder.mkdir()
    if content is not None:
        (folder / "a.dcm").write_bytes(content)
    with pytest.raises(InputError, match="no DICOM series"):
        to_nifti(folder, tmp_path / "scan.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_wrong_paths(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        to_nifti(tmp_path / "absent", tmp_path / "scan.nii.gz")
    with pytest.raises(OutputError, match="does not exist"):
        to_nifti(tmp_path, tmp_path / "absent" / "scan.nii.gz")
    with pytest.raises(OutputError, match="extension"):
        to_nifti(tmp_path, tmp_path / "scan.img")
