"""sct_deepseg_gm's recipe, written down apart from the package: the incumbent, timed as a process, and an oracle.

    python benchmark/peers/sct_gm.py -i scan.nii.gz -o gmseg.nii.gz -onnx network.onnx [-threads 2]

The network (Perone, Calabrese and Cohen-Adad, "Spinal cord gray matter segmentation using deep dilated
convolutions", 2018) is the file that the zoo makes of the toolbox's own weights: ``sct7t_download install
sct_gm_large``. Resampling, crop, normalisation and threshold are as in the Spinal Cord Toolbox.
"""

import argparse

import nibabel as nib
import numpy as np
import onnxruntime as ort

SPACING_MM = 0.25
SIZE = 200
THRESHOLD = 0.999


def segment_gm(nifti_path, onnx_path, threads=2, centred=True):
    """Segment GM the way sct_deepseg_gm does.

    Parameters
    ----------
    nifti_path : path
        3D image whose third array axis runs along the cord.
    onnx_path : path
        Network with one input (slices, 1, 200, 200) and one output of that shape.
    threads : int
        Of ONNX Runtime. One slice goes to the network at a time: the fastest way for this network (the toolbox
        passes the whole stack, which needs gigabytes).
    centred : bool
        Resampling of the releases that made the public gm-challenge labels, which it reproduces voxel for voxel
        where nobody corrected them. False: that of newer releases; its Dice is lower.

    Returns
    -------
    nibabel.Nifti1Image
        Mask, uint8, on the grid of the input.
    """
    image = nib.load(nifti_path)
    native = np.asanyarray(image.dataobj)
    if native.dtype.kind in "biu":
        native = native.astype(np.float64)
    grid = [int(np.round(n * float(z) / SPACING_MM)) for n, z in zip(native.shape, image.header.get_zooms()[:2])]
    fine = _resampled(native, grid, centred)
    stack = _fitted(fine, (SIZE, SIZE), "symmetric").transpose(2, 0, 1).astype(np.float32)[:, None]
    stack = (stack - stack.mean()) / stack.std()
    mask = _maps(onnx_path, stack, threads)[:, 0] > THRESHOLD
    mask = _fitted(mask.transpose(1, 2, 0).astype(np.float64), grid, "constant")
    mask = _resampled(mask, native.shape[:2], centred) > 0.5
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    return nib.Nifti1Image(mask.astype(np.uint8), image.affine, header)


def _resampled(data, shape, centred):
    """Linear resampling of the first two axes, edges repeated: same field of view, or the first voxels' centres."""
    from scipy import ndimage

    step = np.array([old / new for old, new in zip(data.shape, shape)] + [1.0])
    offset = (step - 1) / 2 if centred else np.zeros(3)
    return ndimage.affine_transform(data, step, offset, (*shape, data.shape[2]), order=1, mode="nearest")


def _fitted(data, shape, pad_mode):
    """Centre crop or pad of the first two axes: the voxel at ``old // 2`` moves to ``new // 2``."""
    for axis, new in enumerate(shape):
        old = data.shape[axis]
        before = new // 2 - old // 2
        if new > old:
            width = [(0, 0)] * data.ndim
            width[axis] = (before, new - old - before)
            data = np.pad(data, width, mode=pad_mode)
        else:
            window = [slice(None)] * data.ndim
            window[axis] = slice(-before, new - before)
            data = data[tuple(window)]
    return data


def _maps(onnx_path, stack, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in stack])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-i", required=True, help="scan, 3D NIfTI, slices along the third axis")
    parser.add_argument("-o", required=True, help="GM mask to write")
    parser.add_argument("-onnx", required=True, help="network")
    parser.add_argument("-threads", type=int, default=2)
    args = parser.parse_args()
    nib.save(segment_gm(args.i, args.onnx, args.threads), args.o)


if __name__ == "__main__":
    main()
