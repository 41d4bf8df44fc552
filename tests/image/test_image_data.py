"""The development scans load, and what is written back lies on their own grid."""

import nibabel as nib
import numpy as np
import pytest

from sctseg7t.image.nifti import save
from sctseg7t.image.volume import check_header, load, to_native
from sctseg7t.image.windows import restore_windows, sample_windows

pytestmark = pytest.mark.data


def test_scans_round_trip(data_dir, tmp_path):
    paths = {path.parent: path for path in (data_dir / "cord").rglob("*.nii.gz")}.values()
    assert len(paths) > 5
    for path in paths:
        volume, source = load(path), nib.load(path)
        assert check_header(path).shape == volume.data.shape
        result = nib.load(save(to_native(volume, volume.data, np.float32), tmp_path / "out.nii"))
        np.testing.assert_array_equal(result.affine, source.affine, err_msg=str(path))
        np.testing.assert_array_equal(result.get_fdata(), source.get_fdata(dtype=np.float32), err_msg=str(path))
        for field in ("qform_code", "sform_code", "xyzt_units", "pixdim", "srow_x", "quatern_b"):
            np.testing.assert_array_equal(result.header[field], source.header[field], err_msg=f"{path} {field}")


def test_reference_masks_survive_the_windows(data_dir):
    paths = sorted((data_dir / "cord" / "gm-challenge" / "derivatives").rglob("*gmseg-manual.nii.gz"))
    assert paths
    for path in paths:
        volume = load(path)
        mask = volume.data[..., 0] > 0.5
        planes = mask.transpose(2, 0, 1)
        centres = np.array([np.argwhere(p).mean(axis=0) if p.any() else (np.nan, np.nan) for p in planes])
        windows, _ = sample_windows(mask.astype(np.float32), volume.frame, centres)
        native = restore_windows(windows[:, None], volume.frame, mask.shape, centres)[0]
        np.testing.assert_allclose(native.sum(axis=(0, 1)), mask.sum(axis=(0, 1)), rtol=0.005, err_msg=str(path))
        assert np.count_nonzero((native > 0.5) != mask) <= 1e-3 * mask.sum(), path
