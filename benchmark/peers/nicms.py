"""nicMSlesions as a peer: two small networks in a row, run on your machine from its public weights, on FLAIR and T1.

    python benchmark/peers/nicms.py -flair FLAIR.nii.gz -t1 T1.nii.gz -weights FOLDER -o OUT.nii.gz \\
        [-mask BRAIN.nii.gz] [-bfloat16]

FOLDER holds model_1.hdf5 and model_2.hdf5 of nicMSlesions (Valverde et al., NeuroImage 2017; NeuroImage Clin 2019).
They are GPL-3 and no part of this package: only the layout of the network is written down here, after the paper and the
shapes in the files. T1 is on the grid of FLAIR. Needs torch and h5py.

Each voxel is judged from the 11 x 11 x 11 voxels around it. Images are z-scores over the brain; candidates are voxels
of FLAIR above 0.5; the second network looks at what the first one calls a lesion, and its 0.5 decides. A brain of 1 mm
has some 300,000 candidates, at about 1 ms each of one core in ``-bfloat16``, which moves probabilities by up to 0.07.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

SIDE = 11
CANDIDATE = 0.5
THRESHOLD = 0.5
BATCH = 512


def read_network(path, bfloat16=False):
    """The network of a file: patches (N, 2, 11, 11, 11) of T1 and FLAIR to the probability of a lesion, (N,)."""
    import h5py
    import torch
    import torch.nn.functional as F

    number = torch.bfloat16 if bfloat16 else torch.float32

    with h5py.File(path) as file:
        # The inner group's name has a number that Keras counted up.
        weights = {
            (layer, name.removesuffix(":0")): torch.from_numpy(item[()]).to(number)
            for layer, group in file.items()
            for inner in group.values()
            for name, item in inner.items()
        }

    def of(layer, *names):
        return [weights[layer, name] for name in names]

    def prelu(x, layer):
        (alpha,) = of(layer, "alpha")
        # Laid out as the patches are.
        alpha = alpha.movedim(0, -1).contiguous().movedim(-1, 0)
        return torch.where(x > 0, x, x * alpha)

    def convolved(x, number):
        kernel, bias = of(f"conv{number}", "kernel", "bias")
        gamma, beta, mean, variance = of(f"bn_{number}", "gamma", "beta", "moving_mean", "moving_variance")
        # Keras with channels first mirrors nothing, and stores kernels last axis out. Its normalisation is folded in.
        scale = gamma / (variance + 1e-3).sqrt()
        x = F.conv3d(x, (kernel * scale).permute(4, 3, 0, 1, 2), (bias - mean) * scale + beta, padding=1)
        return prelu(x, f"prelu_conv{number}")

    def run(patches):
        # Channels last: the CPU's kernels want them so.
        x = torch.from_numpy(patches).to(number, memory_format=torch.channels_last_3d)
        for block in (1, 2):
            x = F.max_pool3d(convolved(convolved(x, f"{block}_1"), f"{block}_2"), 2)
        x = x.flatten(1)
        for layer in ("d1", "d2", "d3"):
            kernel, bias = of(layer, "kernel", "bias")
            x = prelu(x @ kernel + bias, f"prelu_{layer}")
        kernel, bias = of("out", "kernel", "bias")
        return torch.softmax((x @ kernel + bias).float(), 1)[:, 1].numpy()

    return run


def probability(images, voxels, network):
    """Probability of a lesion at voxels (N, 3) of padded images (2, X, Y, Z)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE,) * 3, (1, 2, 3))
    found = [
        network(np.ascontiguousarray(windows[:, *part.T].transpose(1, 0, 2, 3, 4)))
        for part in np.array_split(voxels, max(1, -(-len(voxels) // BATCH)))
        if len(part)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def segment(t1, flair, brain, networks):
    """Lesions (X, Y, Z) bool of images on one grid."""
    scores = [((a - a[brain].mean()) / a[brain].std()).astype(np.float32) for a in (t1, flair)]
    images = np.pad(np.stack(scores), [(0, 0), *[(SIDE // 2,) * 2] * 3])
    voxels = np.argwhere(brain & (scores[1] > CANDIDATE))
    for network in networks:
        voxels = voxels[probability(images, voxels, network) > THRESHOLD]
    mask = np.zeros(brain.shape, bool)
    mask[tuple(voxels.T)] = True
    return mask


def main():
    import torch

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("flair", "t1", "weights", "o"):
        p.add_argument(f"-{name}", type=Path, required=True)
    p.add_argument("-mask", type=Path, help="brain mask; without it what is not 0 in FLAIR is the brain")
    p.add_argument("-bfloat16", action="store_true")
    args = p.parse_args()
    image = nib.load(args.flair)
    t1, flair = (np.asarray(nib.load(path).dataobj, np.float32) for path in (args.t1, args.flair))
    brain = np.asarray(nib.load(args.mask).dataobj) > 0 if args.mask else flair > 0
    if t1.shape != flair.shape or brain.shape != flair.shape:
        p.error("T1, FLAIR and brain mask must have one grid")
    networks = [read_network(args.weights / f"model_{k}.hdf5", args.bfloat16) for k in (1, 2)]
    with torch.inference_mode():
        mask = segment(t1, flair, brain, networks)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.affine), args.o)
    print(f"{args.o}: {mask.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000:.2f} mL")


if __name__ == "__main__":
    main()
