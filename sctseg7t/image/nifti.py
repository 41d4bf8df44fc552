"""Reading image files with their hash, and writing NIfTI files whole or not at all."""

import contextlib
import gzip
import hashlib
import io
import math
import threading
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.wrapstruct import WrapStructError

from sctseg7t.errors import InputError, OutputError
from sctseg7t.files import write_bytes
from sctseg7t.text import one_line

_GZIP_MAGIC = b"\x1f\x8b"
_HEADER_BYTES = 544
# A mask is some kilobytes at any level; a low one takes under half the time of the default.
_GZIP_LEVEL = 3
_QUIET_LOCK = threading.Lock()
READ_ERRORS = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    HeaderDataError,
    WrapStructError,
    ImageFileError,
)


def read_image(path: str | Path) -> tuple[SpatialImage, str]:
    """Read an image into memory: NIfTI-1 or -2 (.nii, .nii.gz), FreeSurfer (.mgz, .mgh), or a pair (.hdr with .img).

    Parameters
    ----------
    path : str or Path
        Of a pair, either file.

    Returns
    -------
    image : nibabel image
        Its voxel values are decoded, and scaled, only when asked for.
    sha256 : str
        Of the bytes as stored; of a pair, of those of the header and then of the image.

    Raises
    ------
    InputError
        Missing, a folder, unreadable, of another format, truncated or a damaged header.
    """
    path = Path(path)
    if _other_format(path):
        return _read_other(path)
    stored = _bytes_of(path)
    raw = stored
    if _is_gzip(stored, path):
        start = _inflated(stored, _HEADER_BYTES, path)
        # The header says how much there is to unpack: a small file must not fill the memory. One byte more
        # reaches the checksum.
        raw = _inflated(stored, _stated_length(_header_alone(start, path), path) + 1, path)
    image_class = _image_class(raw, path)
    header = _parse_header(image_class, raw, path)
    _check_length(len(raw), header, path)
    try:
        with _quiet():
            image = image_class.from_bytes(raw)
    except READ_ERRORS as error:
        raise _damaged(path, error) from error
    return image, hashlib.sha256(stored).hexdigest()


def read_header(path: str | Path) -> Any:
    """Read only the header of an image file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    nibabel header

    Raises
    ------
    InputError
        As `read_image`, except that truncation of a .nii.gz goes unseen.
    """
    path = Path(path)
    if _other_format(path):
        return _read_other(path)[0].header
    start = _bytes_of(path, _HEADER_BYTES)
    compressed = _is_gzip(start, path)
    if compressed:
        try:
            with gzip.open(path) as stream:
                start = stream.read(_HEADER_BYTES)
        except READ_ERRORS as error:
            raise _truncated(path) from error
    header = _header_alone(start, path)
    if not compressed:
        _check_length(path.stat().st_size, header, path)
    return header


def save(image: Any, path: str | Path) -> Path:
    """Write a NIfTI image under a temporary name, then rename it into place.

    Identical images give identical bytes: the gzip header holds no time or name.

    Parameters
    ----------
    image : nibabel.Nifti1Image or nibabel.Nifti2Image
    path : str or Path
        Ends in .nii or .nii.gz; an existing file is replaced.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        Wrong extension, folder missing or read-only, disk full. Nothing is left behind.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii.gz", ".nii")):
        raise OutputError(f"{path}: an output image must be named .nii.gz or .nii; change its extension")
    payload = image.to_bytes()
    if path.suffix.lower() == ".gz":
        packed = io.BytesIO()
        # Not gzip.compress: its header differs from one Python to the next.
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, packed, mtime=0) as stream:
            stream.write(payload)
        payload = packed.getvalue()
    return write_bytes(path, payload)


def _header_alone(start, path):
    """The header that the first bytes of a NIfTI file hold."""
    image_class = _image_class(start, path)
    # Extensions lie beyond what was read: clear the flag that announces them.
    flag = image_class.header_class.sizeof_hdr
    return _parse_header(image_class, start[:flag] + bytes(4), path)


def _inflated(stored, limit, path):
    """At most so many bytes of what a gzip file holds."""
    parts = []
    try:
        # A gzip file is one stream, or several one after the other.
        while stored and limit > 0:
            stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
            parts.append(stream.decompress(stored, limit))
            limit -= len(parts[-1])
            stored = stream.unused_data.lstrip(b"\0")
            if not stream.eof and limit > 0:
                raise _truncated(path)
    except zlib.error as error:
        raise _truncated(path) from error
    return b"".join(parts)


def _other_format(path):
    return path.name.lower().endswith((".mgz", ".mgh", ".hdr", ".img"))


def _read_other(path):
    """An image that nibabel reads but the direct way does not, and its hash."""
    names = [path]
    if path.suffix.lower() in (".hdr", ".img"):
        upper = path.suffix.isupper()
        names = [path.with_suffix(end.upper() if upper else end) for end in (".hdr", ".img")]
    digest = hashlib.sha256(b"".join(_bytes_of(name) for name in names)).hexdigest()
    try:
        with _quiet():
            image: Any = nib.load(names[-1])
            # Damage shows only where the voxels are read.
            np.asanyarray(image.dataobj)
    except READ_ERRORS as error:
        raise InputError(
            f"{path}: cannot be read ({one_line(error) or type(error).__name__}); convert it to NIfTI (.nii.gz)"
        ) from error
    return image, digest


@contextlib.contextmanager
def _quiet():
    """Keep nibabel from printing the header faults that it mends."""
    with _QUIET_LOCK:
        before, nibabel_logger.disabled = nibabel_logger.disabled, True
        try:
            yield
        finally:
            nibabel_logger.disabled = before


def _bytes_of(path, count=-1):
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give one NIfTI file (.nii or .nii.gz) in it")
    try:
        with open(path, "rb") as stream:
            return stream.read(count)
    except FileNotFoundError as error:
        raise InputError(f"{path}: does not exist; check the path") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check its permissions and the disk, or copy it again"
        ) from error


def _is_gzip(start, path):
    named_gzip = path.name.lower().endswith(".gz")
    is_gzip = start.startswith(_GZIP_MAGIC)
    if not start:
        raise InputError(f"{path}: is empty (0 bytes); copy or convert it again")
    if named_gzip and not is_gzip:
        hint = "rename it to .nii" if _nifti_version(start) else "convert the scan to NIfTI again"
        raise InputError(f"{path}: is named .gz but is not gzip-compressed; {hint}")
    if is_gzip and not named_gzip:
        raise InputError(f"{path}: is gzip-compressed but not named .nii.gz; rename it to .nii.gz")
    return is_gzip


def _nifti_version(start):
    """Return 1 or 2, or None where the bytes do not open a single-file NIfTI."""
    if len(start) >= 348 and start[344:348] == b"n+1\0":
        return 1
    if len(start) >= 540 and start[4:8] == b"n+2\0":
        return 2
    return None


def _image_class(start, path):
    version = _nifti_version(start)
    if version:
        return nib.Nifti1Image if version == 1 else nib.Nifti2Image
    if start[128:132] == b"DICM":
        raise InputError(f"{path}: is a DICOM file; convert the series to NIfTI first (for example with dcm2niix)")
    if start[344:348] == b"ni1\0":
        raise InputError(f"{path}: is one of a header/image pair; name the two .hdr and .img")
    raise InputError(f"{path}: is not a NIfTI image; give a .nii or .nii.gz file (convert other formats first)")


def _parse_header(image_class, raw, path):
    """Parse and check the header; nibabel mends some faults silently, so look first."""
    try:
        with _quiet():
            stated = image_class.header_class.from_fileobj(io.BytesIO(raw), check=False)
            _check_stated(stated, path)
            return image_class.header_class.from_fileobj(io.BytesIO(raw))
    except READ_ERRORS as error:
        raise _damaged(path, error) from error


def _check_stated(header, path):
    n_axes = int(header["dim"][0])
    if not 1 <= n_axes <= 7:
        raise InputError(f"{path}: header states {n_axes} axes; convert the scan again")
    for axis in range(1, min(3, n_axes) + 1):
        size_mm, count = float(header["pixdim"][axis]), int(header["dim"][axis])
        # A lone slice needs no spacing of its own.
        if count > 1 and not (np.isfinite(size_mm) and size_mm > 0):
            raise InputError(
                f"{path}: header states a voxel size of {size_mm:g} mm along axis {axis}; "
                "correct the header or convert the scan again"
            )


def _stated_length(header, path):
    """Bytes of the file, uncompressed, as its header has it."""
    shape = header.get_data_shape()
    if any(n < 0 for n in shape):
        raise InputError(f"{path}: header states a negative number of voxels; convert the scan again")
    return header.get_data_offset() + math.prod(map(int, shape)) * header.get_data_dtype().itemsize


def _check_length(n_bytes, header, path):
    if n_bytes < _stated_length(header, path):
        raise _truncated(path)


def _truncated(path):
    return InputError(f"{path}: is truncated or damaged (its data end early); copy or download it again")


def _damaged(path, error):
    return InputError(
        f"{path}: has a damaged NIfTI header ({one_line(error) or type(error).__name__}); convert the scan again"
    )
