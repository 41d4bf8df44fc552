"""Real scans with manual masks: found, made ready, measured as inference would."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from train_helpers import RECIPE, save_scan

from sctseg7t.errors import InputError
from sctseg7t.train import export, real_scans
from sctseg7t.train.device import choose_place
from sctseg7t.train.manifest_entry import spec_in_training
from sctseg7t.train.scans.labelled import LabelledScan
from sctseg7t.train.task import task_of


class Bright(torch.nn.Module):
    """Finds what is brighter than the middle of the window's range."""

    def forward(self, image):
        low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
        return ((image - (low + high) / 2) * 20).repeat(1, 2, 1, 1)


class Nothing(torch.nn.Module):
    def forward(self, image):
        return image * 0 - 9


def measure(scan, network=None, recipe=RECIPE):
    spec = spec_in_training(recipe)
    case = real_scans.prepare(scan, spec)
    session = real_scans.TorchSession(network or Bright(), choose_place())
    return task_of(recipe).score_scan(case, session, spec)


def test_what_is_too_small_by_a_known_share(tmp_path):
    image, _ = save_scan(tmp_path, radius_mm=4.0)
    _, mask = save_scan(tmp_path / "larger", radius_mm=6.0)
    row = measure(LabelledScan("a", image, {"SC": mask, "GM": mask}))
    share = 16 / 36
    assert row["area_ratio_SC"] == pytest.approx(share, abs=0.03)
    assert row["dice_SC"] == pytest.approx(2 * share / (1 + share), abs=0.03)
    assert row["dice_GM"] == row["dice_SC"]
    right = measure(LabelledScan("a", tmp_path / "larger/a.nii.gz", {"SC": mask}))
    assert right["dice_SC"] > 0.98 and right["area_ratio_SC"] == pytest.approx(1, abs=0.03)
    assert right["dice_GM"] is None and right["area_ratio_GM"] is None


def test_empty_mask_is_an_input_error(tmp_path):
    image, mask = save_scan(tmp_path)
    nib.save(nib.Nifti1Image(np.zeros((70, 60, 5), np.uint8), nib.load(mask).affine), mask)
    with pytest.raises(InputError, match="marks no voxel"):
        measure(LabelledScan("a", image, {"SC": mask}))


def test_measures_what_the_exported_model_gives_a_user(run, small, tmp_path):
    """The same masks as the command's with -centerline."""
    from sctseg7t.inference.pipeline import open_segmenter

    mask = np.zeros(nib.load(small).shape, np.uint8)
    mask[45:75, 50:72] = 1
    nib.save(nib.Nifti1Image(mask, nib.load(small).affine), tmp_path / "mask.nii.gz")
    _, network = export.load_trained(run)
    masks = {"SC": tmp_path / "mask.nii.gz", "GM": tmp_path / "mask.nii.gz"}
    row = measure(LabelledScan("t2s", small, masks), network)
    segmenter = open_segmenter(model=str(export.export(run)), device="cpu", threads=1)
    result = segmenter.run(small, centerline=tmp_path / "mask.nii.gz")
    for name in ("SC", "GM"):
        area = np.asarray(result.masks[name].dataobj).sum()
        assert row[f"area_ratio_{name}"] == pytest.approx(area / mask.sum(), rel=1e-3, abs=2e-4)


def test_locator_is_measured_in_mm(tmp_path):
    image, mask = save_scan(tmp_path)
    recipe = replace(RECIPE, model="cord_locator", task="locator")
    row = measure(LabelledScan("a", image, {"SC": mask}), Bright(), recipe)
    # The heat is flat on the disc: its peak may be anywhere on it.
    assert row["within_3mm"] >= 0 and 0 <= row["median_mm"] <= 5
    row = measure(LabelledScan("a", image, {"SC": mask}), Nothing(), recipe)
    assert row == {"median_mm": None, "within_3mm": 0.0}
