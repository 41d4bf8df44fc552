"""Small trainings for the tests: a recipe of six steps, discs in place of simulated anatomy, what a run left behind."""

import csv
import json

import nibabel as nib
import numpy as np
import torch

from sctseg7t.simulate.cord import CordBatch
from sctseg7t.simulate.scene import Batch
from sctseg7t.train.recipe import TrainRecipe

RECIPE = TrainRecipe(
    model="cord_gm_sc",
    task="cord",
    anatomy=["parametric"],
    steps=6,
    batch=2,
    warmup=2,
    seed=3,
    validate_every=3,
    validation_images=2,
    network={"widths": [16, 16], "fold": 4},
)

# Windows of 16 mm in 32 pixels, in the middle of the image: seconds instead of minutes.
SMALL = {
    "model": "mine",
    "task": "scans",
    "steps": 4,
    "batch": 2,
    "validate_every": 2,
    "network": {"widths": [16, 16], "fold": 4},
    "entry": {
        "model": "cord_gm_sc",
        "input": {"size": [32, 32], "spacing_mm": [0.5, 0.5]},
        "centring": {"policy": "image", "model": None},
    },
}


class Discs:
    """A bright disc in noise, anew at every seed."""

    def __init__(self, task, size=32):
        self.task, self.size = task, size

    def batch(self, count, seed):
        gen = torch.Generator().manual_seed(seed)
        at = torch.arange(self.size) - self.size / 2
        centre = 4 * torch.rand(2, count, 1, 1, 1, generator=gen)
        away = torch.hypot(at.view(-1, 1) - centre[0], at - centre[1])
        target = torch.cat([torch.sigmoid(8 - away), torch.sigmoid(4 - away)], 1)
        image = target.sum(1, keepdim=True) + 0.3 * torch.randn(count, 1, self.size, self.size, generator=gen)
        if self.task == "cord":
            return CordBatch(image, target, torch.ones_like(image))
        return Batch(image, torch.exp(-(away**2) / 18))


class Log:
    """Collects what a training prints; breaks it off once a text is there."""

    def __init__(self, stop_at=None):
        self.text, self.stop_at = "", stop_at

    def write(self, text):
        self.text += text
        if self.stop_at and self.stop_at in self.text:
            raise KeyboardInterrupt

    def flush(self):
        pass


def rows_of(path):
    """Rows of a CSV file."""
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def read_json(path):
    return json.loads(path.read_text())


def timeless(run):
    """Rows of a run's curves without the seconds."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(run / "curves.csv")]


def weights(path):
    return torch.load(path, weights_only=True)


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def assert_same_runs(a, b):
    """Curves, state and kept weights are the same to the bit."""
    assert timeless(a) == timeless(b)
    ours, theirs = weights(a / "last.pt"), weights(b / "last.pt")
    assert (ours["step"], ours["best"]) == (theirs["step"], theirs["best"])
    for part in ("network", "average"):
        assert_same_weights(ours[part], theirs[part])
    for mine, other in zip(ours["optimiser"]["state"].values(), theirs["optimiser"]["state"].values()):
        assert_same_weights(mine, other)
    assert_same_weights(weights(a / "model.pt"), weights(b / "model.pt"))


def save_scan(folder, name="a", pixel=0.5, radius_mm=5.0, shape=(70, 60, 5)):
    """A bright disc off the centre and its mask in the three middle slices; returns the two paths."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = (np.arange(n) - n / 2 for n in shape[:2])
    disc = np.hypot(x[:, None] - 6, y[None] + 4) * pixel <= radius_mm
    volume = np.repeat(disc[..., None], shape[2], 2)
    mask = volume.copy()
    mask[..., [0, -1]] = False
    # Left to right in the file: what is measured must not depend on the voxel order.
    affine = np.diag([-pixel, pixel, 3.0, 1.0])
    paths = folder / f"{name}.nii.gz", folder / f"{name}_seg-manual.nii.gz"
    nib.save(nib.Nifti1Image((volume * 100 + 20).astype(np.float32), affine), paths[0])
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), paths[1])
    return paths


def save_people(folder):
    """Scans of three people, each with a cord mask and a gray one (core); the folder."""
    for name, radius in (("1", 4.0), ("2", 4.5), ("3", 5.0)):
        image, _ = save_scan(folder / f"sub-{name}/anat", f"sub-{name}_T2starw", radius_mm=radius)
        read = nib.load(image)
        # Without noise it would be taken for a mask.
        noise = np.random.default_rng(int(name)).normal(0, 2, read.shape)
        nib.save(nib.Nifti1Image((read.get_fdata() + noise).astype(np.float32), read.affine), image)
        save_scan(folder / f"gray/sub-{name}", f"sub-{name}_T2starw", radius_mm=2.0)
        (folder / f"gray/sub-{name}/sub-{name}_T2starw_seg-manual.nii.gz").rename(
            folder / f"sub-{name}/anat/sub-{name}_T2starw_label-core_mask.nii.gz"
        )
        (folder / f"gray/sub-{name}/sub-{name}_T2starw.nii.gz").unlink()
    return folder
