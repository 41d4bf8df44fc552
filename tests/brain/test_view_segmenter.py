"""A brain of thick slices from file to lesions, by a network that looks at slices."""

import brain_helpers
import nibabel as nib
import numpy as np
import pytest

from sctseg7t.errors import ModelError
from sctseg7t.inference.pipeline import open_segmenter


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return open_segmenter(model=brain_helpers.view_network(tmp_path_factory.mktemp("net")), device="cpu", threads=1)


@pytest.fixture(scope="module")
def thick():
    """Image, truth and affine of slices of 6 mm: each the middle one of three."""
    image, truth, affine = brain_helpers.flair()
    affine = affine @ np.diag([1, 1, 3, 1])
    return image[:, :, ::3], truth[:, :, ::3], affine


@pytest.mark.parametrize("code", ["RAS", "PSR"])
def test_thick_slices_keep_lesions_and_their_volume(segmenter, thick, tmp_path, code):
    image, truth, affine = thick
    found = segmenter.run(brain_helpers.save(tmp_path / "flair.nii.gz", image, affine, code))
    mask = nib.as_closest_canonical(found.masks["LESION"])
    np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    data = np.asarray(mask.dataobj) > 0
    assert 2 * (data & truth).sum() / (data.sum() + truth.sum()) > 0.85
    assert abs(data.sum() / truth.sum() - 1) < 0.15
    assert any(text.startswith("thick_slices") for text in found.warnings)
    # No slice has lesions that the truth lacks: nothing was smeared from its neighbours.
    assert not (data.any((0, 1)) & ~truth.any((0, 1))).any()


@pytest.mark.parametrize(
    "wrong", [{"axes": "xyz"}, {"channels": ["FLAIR", "prior_GM"]}, {"size": [160, 192]}, {"spacing_mm": [1, 1, 2]}]
)
def test_an_entry_that_cannot_be_served_is_refused(tmp_path, wrong):
    with pytest.raises(ModelError, match="input"):
        open_segmenter(model=brain_helpers.view_network(tmp_path, input=wrong), device="cpu", threads=1)


def test_scans_of_thinner_slices_are_handed_on(tmp_path):
    """The entry's model for them runs, and is named; without one the network of slices does it itself."""
    from sctseg7t.brain.view_segmenter import BlendSegmenter, ViewSegmenter

    segmenter = open_segmenter("brain_lesion", "brain_lesion_views", device="cpu", threads=1)
    limit = segmenter.model.spec.thinner["below_mm"]
    thin, thick = (np.diag([1, limit + more, 1, 1]) for more in (-0.1, 0.1))
    other = segmenter.suited(thin)
    assert type(other) is BlendSegmenter and other.model.spec.id == "brain_lesion_views_thin"
    assert other.network == "0.5 of brain_lesion_views_thin@1.0.0, 0.5 of brain_lesion_mpunetpp@1.0.0"
    assert segmenter.suited(thick) is segmenter
    named = [spec.id for spec in segmenter.model.specs]
    assert named == ["brain_lesion_views", "brain_mask", "brain_lesion_views_thin", "brain_lesion_mpunetpp"]
    alone = open_segmenter(model=brain_helpers.view_network(tmp_path), device="cpu", threads=1)
    assert isinstance(alone, ViewSegmenter) and alone.suited(thin) is alone


def test_two_networks_look_at_a_thinner_scan_as_one(tmp_path, monkeypatch):
    """The mean of what both say, weighted, on the grid of the first; limits of the mean are its own."""
    from dataclasses import replace

    from sctseg7t.brain.segmenter import BrainSegmenter, prepare
    from sctseg7t.brain.view_segmenter import ViewSegmenter

    image, _, affine = brain_helpers.flair()
    views = open_segmenter(model=brain_helpers.view_network(tmp_path), device="cpu", threads=1)
    # The other network finds the half of it: what is far brighter than a lesion.
    patches = open_segmenter(model=brain_helpers.network(tmp_path, above=9), device="cpu", threads=1)
    told = {"below_mm": 6, "model": "stub", "share": 0.25, "threshold": 0.6}
    spec = replace(views.model.spec, thinner=told)
    both = ViewSegmenter(replace(views.model, spec=spec, thin=patches.model)).suited(affine)
    ready = prepare(image, affine, strip="stripped")
    (grid, one), (_, other) = (s.look(ready, affine) for s in (views, patches))
    found_grid, found = both.look(ready, affine)
    assert found_grid.shape == grid.shape and other.max() < 0.01 and one.max() > 0.9
    np.testing.assert_allclose(found, 0.75 * one, atol=0.01)
    assert both.model.spec.outputs[0].threshold == 0.6
    assert both.network == "0.75 of stub_views@1.0.0, 0.25 of stub_lesion@1.0.0"
    assert isinstance(both, BrainSegmenter) and both.suited(affine) is both
    thick = affine @ np.diag([1, 1, 3.5, 1])
    assert (
        ViewSegmenter(replace(views.model, spec=spec, thin=patches.model))
        .suited(thick)
        .network.startswith("stub_views")
    )
