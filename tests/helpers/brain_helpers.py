"""A made-up FLAIR of the MNI template's brain, and a network that finds what is brighter than tissue."""

import nibabel as nib
import numpy as np
from conv_network import write_entry, write_network

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
    kernel = np.reshape([12, 0, 0], (1, 3, 1, 1, 1))
    path = write_network(folder / "stub_lesion.onnx", kernel, bias=-12 * 3 * (above - 1))
    given = {
        "contrasts": ["FLAIR"],
        "axes": "xyz",
        "spacing_mm": [1, 1, 1],
        "size": [64, 64, 64],
        "channels": ["FLAIR", "prior_GM", "prior_WM"],
        "normalisation": {"name": "median", "parameters": {"scope": "mask", "slope": 3}},
        "sampling": {"method": "patches", "overlap": 0.25},
    } | changes.pop("input", {})
    fields = {
        "derived": [{"name": "LABELS", "labels_of": "LESION", "suffix": "_lesionlabels"}],
        "postprocess": [{"op": "remove_small", "params": {"label": "LESION", "min_mm3": 8, "scope": "volume"}}],
        "centring": {"policy": "none"},
    }
    return write_entry(path, changes.pop("task", "brain_lesion"), "LESION", input=given, **fields | changes)


def view_network(folder, above=1.35, **changes):
    """The same for slices with their neighbours: the slice itself decides."""
    from sctseg7t.brain.views import OFFSETS_MM

    kernel = np.where(np.array(OFFSETS_MM) == 0, 12, 0).reshape(1, -1, 1, 1)
    path = write_network(folder / "stub_views.onnx", kernel, bias=-12 * 3 * (above - 1))
    given = {
        "contrasts": ["FLAIR"],
        "axes": "xy",
        "spacing_mm": [1, 1, 1],
        "size_multiple": 16,
        "channels": ["FLAIR"],
        "normalisation": {"name": "median", "parameters": {"scope": "mask", "slope": 3}},
        "sampling": {"method": "views"},
    } | changes.pop("input", {})
    fields = {
        "organ": "brain",
        "derived": [{"name": "LABELS", "labels_of": "LESION", "suffix": "_lesionlabels"}],
        "centring": {"policy": "none"},
    }
    return write_entry(path, "brain_lesion", "LESION", input=given, **fields | changes)


def pair_network(folder, **changes):
    """The same for a scan and its baseline: what is new in LESION is NEWLESION."""
    derived = [
        {"name": "LABELS", "labels_of": "LESION", "suffix": "_lesionlabels"},
        {"name": "NEWLESION", "changes_of": "LESION", "suffix": "_newlesionseg"},
    ]
    images = {"images": ["scan", "baseline"]}
    return network(folder, **{"task": "brain_new_lesion", "derived": derived, "input": images} | changes)


def together_network(folder, above=1.35, change=0.2, views=False, **changes):
    """A network that sees both scans: LESION as above; CHANGE is one half where FLAIR is `change` medians brighter."""
    # Of each scan three slices, of which the middle one decides, or a volume.
    kernel = np.zeros((2, 6, 1, 1) if views else (2, 3, 1, 1, 1), np.float32)
    now, before = (1, 4) if views else (0, 1)
    kernel[:, now], kernel[1, before] = 12, -12
    bias = [-12 * 3 * (above - 1), -12 * 3 * change]
    path = write_network(folder / "stub_pair.onnx", kernel, bias=np.array(bias, np.float32))
    given = {
        "contrasts": ["FLAIR"],
        "spacing_mm": [1, 1, 1],
        "images": ["scan", "baseline"],
        "normalisation": {"name": "median", "parameters": {"scope": "mask", "slope": 3}},
    }
    given |= (
        {
            "axes": "xy",
            "size_multiple": 16,
            "channels": ["FLAIR", "baseline"],
            "sampling": {"method": "views", "slices_mm": [-2, 0, 2]},
        }
        if views
        else {
            "axes": "xyz",
            "size": [64, 64, 64],
            "channels": ["FLAIR", "baseline", "prior_WM"],
            "sampling": {"method": "patches", "overlap": 0.25},
        }
    )
    outputs = [
        {"name": "LESION", "channel": 0, "threshold": 0.5, "suffix": "_lesionseg", "meaning": "lesion"},
        {"name": "CHANGE", "channel": 1, "threshold": 0.5, "suffix": None, "meaning": "new"},
    ]
    derived = [
        {"name": "LABELS", "labels_of": "LESION", "suffix": "_lesionlabels"},
        {"name": "NEWLESION", "changes_of": "LESION", "suffix": "_newlesionseg"},
    ]
    fields = {"organ": "brain", "outputs": outputs, "derived": derived, "centring": {"policy": "none"}}
    return write_entry(path, "brain_new_lesion", "LESION", input=given | changes.pop("input", {}), **fields | changes)
