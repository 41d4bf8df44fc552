"""nibabel imported without what reading NIfTI never needs, and what it can do afterwards."""

import os
import subprocess
import sys

import pytest


def run(code):
    """Run Python code in a process of its own, where nothing was imported before."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_unused_packages_are_not_loaded_and_no_placeholder_stays():
    done = run(
        "import sys, sctseg7t.image.volume\n"
        "assert 'nibabel' in sys.modules\n"
        "assert not {'pydicom', 'scipy', 'urllib.request', 'requests', 'ssl'} & set(sys.modules)\n"
        "import scipy.ndimage, urllib.request\n"
        "assert scipy.__version__ and callable(urllib.request.urlopen)\n"
        "assert type(sys.modules['scipy']).__name__ == 'module'\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", ["", "import pydicom, scipy.ndimage, urllib.request", "import nibabel"])
def test_nibabel_works_as_ever(first, tmp_path):
    """Its DICOM extension, its addresses and its SPM files need what was held back."""
    pytest.importorskip("pydicom")
    done = run(
        f"{first}\n"
        "import sctseg7t.image.volume\n"
        "from nibabel.nifti1 import Nifti1DicomExtension\n"
        "import pydicom\n"
        "made = Nifti1DicomExtension(2, b'')\n"
        "assert type(made.get_content()) is pydicom.Dataset, type(made.get_content())\n"
        "data = pydicom.Dataset(); data.add_new((0x10, 0x20), 'LO', 'somebody')\n"
        "again = Nifti1DicomExtension(2, Nifti1DicomExtension(2, data).get_content())\n"
        "assert again.get_content().PatientID == 'somebody'\n"
        "import nibabel.nicom.dicomwrappers as wrappers\n"
        "assert wrappers.pydicom is pydicom\n"
        "import numpy as np, nibabel as nib\n"
        f"path, spm = {str(tmp_path / 'a.nii')!r}, {str(tmp_path / 'b.img')!r}\n"
        "nib.Nifti1Image(np.ones((2, 2, 2), 'f4'), np.eye(4)).to_filename(path)\n"
        "assert nib.Nifti1Image.from_url('file://' + path).shape == (2, 2, 2)\n"
        "nib.Spm99AnalyzeImage(np.ones((2, 2, 2), 'f4'), np.diag([2, 3, 4, 1])).to_filename(spm)\n"
        "assert nib.load(spm).affine[2, 2] == 4\n"
    )
    assert done.returncode == 0, done.stderr
