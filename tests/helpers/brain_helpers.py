"""A made-up FLAIR of the MNI template's brain, and a network that finds what is brighter than tissue."""

import hashlib
import json

import nibabel as nib
import numpy as np

# Centre (MNI, mm), radius (mm) and place of every lesion that is drawn.
LESIONS = (
    ((-24, 22, 23), 6.0, "deep_white_matter"),
    ((26, -40, 26), 4.5, None),
    ((18, -60, -34), 5.0, "infratentorial"),
)


def flair(spacing_mm=2.0, lesions=LESIONS, noise=0.02, seed=0):
    """Image and lesion mask: WM 1, GM 1.15, CSF 0.2, lesions 1.8, dark outside; RAS, in MNI space."""
    from sctseg7t.brain.atlas import stored_maps

    maps, affine = stored_maps()
    step = round(spacing_mm)
    gm, wm = (maps[name][::step, ::step, ::step] / 255 for name in ("gm", "wm"))
    affine = affine @ np.diag([step, step, step, 1])
    brain = maps["t1"][::step, ::step, ::step] > 51
    image = np.where(brain, wm + 1.15 * gm + 0.2 * np.clip(1 - wm - gm, 0, 1), 0)
    place = np.indices(image.shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    mask = np.zeros(image.shape, bool)
    for centre, radius, _ in lesions:
        mask |= (np.linalg.norm(place - centre, axis=1) <= radius).reshape(image.shape)
    mask &= brain
    image[mask] = 1.8
    rng = np.random.default_rng(seed)
    image = np.where(brain, image + rng.normal(0, noise, image.shape), 0) * 400
    return image.astype(np.float32), mask, affine


def save(path, image, affine, code="RAS"):
    """Store an image in another order and direction of its axes."""
    ras = nib.Nifti1Image(image, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(code)))
    nib.save(ras.as_reoriented(turn), path)
    return path


def network(folder, above=1.35, **changes):
    """``net.onnx`` with its entry: probability one half where FLAIR is `above` times the brain's median.

    Below half of the step to a lesion: interpolation from 2 mm rounds small ones off.
    """
    from onnx import TensorProto, helper, numpy_helper
    from onnx import save as save_onnx

    kernel = np.zeros((1, 3, 1, 1, 1), np.float32)
    kernel[0, 0] = 12
    arrays = [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(np.float32([-12 * 3 * (above - 1)]), "b")]
    nodes = [helper.make_node("Conv", ["image", "k", "b"], ["c"]), helper.make_node("Sigmoid", ["c"], ["LESION"])]
    shapes = (["n", 3, "x", "y", "z"], ["n", 1, "x", "y", "z"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(("image", "LESION"), shapes)]
    graph = helper.make_graph(nodes, "stub", values[:1], values[1:], arrays)
    path = folder / "net.onnx"
    save_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    content = path.read_bytes()
    entry = {
        "id": "stub_lesion",
        "version": "1.0.0",
        "task": "brain_lesion",
        "description": "Bright voxels.",
        "licence": None,
        "files": [
            {
                "name": path.name,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "format": "onnx",
            }
        ],
        "input": {
            "contrasts": ["FLAIR"],
            "orientation": "RAS",
            "axes": "xyz",
            "spacing_mm": [1, 1, 1],
            "size": [64, 64, 64],
            "channels": ["FLAIR", "prior_GM", "prior_WM"],
            "normalisation": {"name": "median", "parameters": {"scope": "mask", "slope": 3}},
            "interpolation": "linear",
            "sampling": {"method": "patches", "overlap": 0.25},
            **changes.pop("input", {}),
        },
        "outputs": [{"name": "LESION", "channel": 0, "threshold": 0.5, "meaning": "lesion", "suffix": "_lesionseg"}],
        "derived": [{"name": "LABELS", "labels_of": "LESION", "suffix": "_lesionlabels"}],
        "activation": "sigmoid",
        "postprocess": [{"op": "remove_small", "params": {"label": "LESION", "min_mm3": 8, "scope": "volume"}}],
        "centring": {"policy": "none"},
        **changes,
    }
    path.with_suffix(".json").write_text(json.dumps(entry))
    return str(path)
