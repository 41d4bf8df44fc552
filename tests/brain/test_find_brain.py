"""The brain found without a template, and what becomes of a scan on which the template fails."""

from types import MappingProxyType, SimpleNamespace

import brain_helpers
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from sctseg7t.brain import mask, register, segmenter
from sctseg7t.brain.find_brain import BrainFinder
from sctseg7t.brain.normalise import saturate
from sctseg7t.errors import InputError, ModelError
from sctseg7t.inference.pipeline import open_segmenter

INPUT = SimpleNamespace(
    sampling=SimpleNamespace(method="volume"),
    spacing_mm=(4.0, 4.0, 4.0),
    normalisation={"name": "saturate", "parameters": {}},
    channels=("any",),
    size_multiple=8,
    orientation="RAS",
)


class Bright:
    """A network that takes for brain what is bright; keeps the shapes that it was given."""

    def __init__(self):
        self.shapes = []

    def run(self, images):
        self.shapes.append(images.shape[2:])
        return 1 / (1 + np.exp(-40 * (images - 0.3))).astype(np.float32)


def finder(test_time=MappingProxyType({"flip_lr": True}), **changes):
    spec = SimpleNamespace(
        label="bright@1",
        organ="brain",
        input=SimpleNamespace(**{**vars(INPUT), **changes}),
        outputs=(SimpleNamespace(channel=0, threshold=0.5),),
        activation="sigmoid",
        test_time=test_time,
    )
    return BrainFinder(Bright(), spec)


def ball(shape, affine, radius, centre=(0, 0, 0)):
    """Voxels within a distance from a point of the world."""
    at = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    return (np.linalg.norm(at - centre, axis=1) <= radius).reshape(shape)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 8.0), (3.0, 3.0, 3.0), (0.9, 6.0, 2.0)])
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 10, -15)])
def test_any_grid_gives_the_same_brain(spacing, angles):
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(*np.deg2rad(angles)) @ np.diag(spacing)
    shape = np.ceil(200 / np.array(spacing)).astype(int)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2) + (7, -5, 3)
    truth = ball(shape, affine, 68)
    image = np.where(truth, 900.0, 20) + 60 * ball(shape, affine, 5, (20, 0, 0))
    found = finder()
    seen = found(image, affine)
    assert seen.shape == truth.shape and 2 * (seen & truth).sum() / (seen.sum() + truth.sum()) > 0.96
    assert all(n % 8 == 0 for shape in found.session.shapes for n in shape)
    # A factor does not matter.
    np.testing.assert_array_equal(found(7 * image, affine), seen)


def test_the_network_sees_the_head_the_way_round_that_its_entry_says():
    seen = []

    class Watching(Bright):
        def run(self, images):
            seen.append(images[0, 0])
            return super().run(images)

    affine = np.diag([4.0, 4, 4, 1])
    image = np.full((24, 32, 40), 0.01)
    image[4:9, 20:30, 6:30] = 900
    found = [
        BrainFinder(Watching(), finder({}, orientation=way, size_multiple=1).spec)(image, affine)
        for way in ("RAS", "LIA")
    ]
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(seen[1], seen[0][::-1, :, ::-1].transpose(0, 2, 1))


def test_grids_of_several_spacings_are_averaged():
    affine = np.diag([2.0, 2, 2, 1])
    image = 500.0 * ball((80, 80, 80), affine, 50, (80, 80, 80))
    one, other, both = (
        finder(times, spacing_mm=(mm,) * 3).fraction(image, affine)
        for mm, times in ((4.0, {}), (3.0, {}), (4.0, {"spacings_mm": [3.0]}))
    )
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)


def test_an_empty_scan_holds_no_brain_whatever_the_normalisation():
    how = {"name": "percentile", "parameters": {"low": 0, "high": 100}}
    image = np.zeros((30, 30, 30))
    assert not finder(normalisation=how)(image, np.diag([4.0, 4, 4, 1])).any()


def test_only_the_largest_piece_is_brain_and_its_holes_belong_to_it():
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -100
    whole, hole, beside = (ball((100, 100, 100), affine, *at) for at in ((60,), (14,), (12, (85, 85, 85))))
    image = 500.0 * ((whole & ~hole) | beside)
    found = finder()(image, affine)
    assert found[50, 50, 50] and not (found & beside).any()


def test_saturation_keeps_fat_and_air_from_ruling():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 5, (30, 30, 30))
    image[5:25, 5:25, 5:25] = 100
    fat = image.copy()
    fat[5:25, 5:25, 5:8] = 1000
    seen = np.ones(image.shape, bool)
    plain, bright = saturate(image, seen), saturate(fat, seen)
    assert plain[15, 15, 15] == pytest.approx(0.5) and bright[15, 15, 15] > 0.3 and bright.max() < 1
    assert saturate(0 * image, seen).max() == 0 and saturate(image, ~seen).max() == 0


def test_an_entry_that_finds_no_brains_is_refused():
    with pytest.raises(ModelError, match="input.spacing_mm"):
        finder(spacing_mm=(1, 1, 2))
    with pytest.raises(ModelError, match="saturate or percentile"):
        finder(normalisation={"name": "zscore", "parameters": {}})


# ---- in the chain ----------------------------------------------------------------


@pytest.fixture(scope="module")
def brain():
    return brain_helpers.flair(spacing_mm=3)


def test_what_is_too_small_for_a_brain_is_refused():
    affine, rng = np.diag([2.0, 2, 2, 1]), np.random.default_rng(0)
    image = rng.uniform(0, 1, (90, 90, 90))
    with pytest.raises(InputError, match="x.nii: no brain in view .*0 mL"):
        segmenter.prepare(image, affine, name="x.nii", finder=lambda data, affine: np.zeros(data.shape, bool))


def test_a_head_with_air_set_to_zero_is_not_taken_for_a_stripped_brain(brain):
    image, _, affine = brain
    inside = image > 0
    # Half a head: not more than a brain's volume of it is left.
    head = np.where(ndimage.binary_dilation(inside, iterations=3), np.maximum(image, 30), 0)
    head[head.shape[0] // 2 :], inside = 0, inside.copy()
    inside[inside.shape[0] // 2 :] = False
    small = ndimage.binary_erosion(inside, iterations=2)
    assert mask.is_stripped(head, affine)
    found, how = mask.first_mask(head, affine, finder=lambda *a: small)
    assert how == "network" and found is small
    found, how = mask.first_mask(image, affine, finder=lambda *a: image > 0)
    assert "stripped" in how


def test_a_template_that_fails_is_no_dead_end(brain, tmp_path, monkeypatch):
    image, truth, affine = brain
    net = brain_helpers.network(tmp_path)
    away = np.eye(4)
    away[:3, 3] = 300
    monkeypatch.setattr(segmenter, "template_to_scan", lambda *a: register.Template(away, 0.01))
    result = open_segmenter(model=net, device="cpu", threads=1).run(nib.Nifti1Image(image, affine))
    found = np.asarray(result.masks["LESION"].dataobj) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.6
    (table,) = result.tables
    assert "no_regions" in table.reason and all(lesion.location is None for lesion in table.lesions)
    assert table.summary()["n_periventricular"] is None and table.summary()["load_ml"] > 0
    assert any(text.startswith("template_failed") for text in result.warnings)
    assert result.details["brain"]["template_agreement"] == 0


def test_a_skull_that_is_filled_evenly_is_refused(brain):
    image, _, affine = brain
    inside, rng = image > 0, np.random.default_rng(0)
    filled = np.where(inside, 300 + rng.normal(0, 15, image.shape), 0)
    with pytest.raises(InputError, match="x.nii: no brain in view .*shows no tissues"):
        segmenter.prepare(filled + 1, affine, name="x.nii", strip="network", finder=lambda *a: inside)
    ready = segmenter.prepare(image + 1, affine, strip="network", finder=lambda *a: inside)
    assert ready.details["tissue_contrast"] > 3 * segmenter.LEAST_CONTRAST


def test_what_the_template_fits_neither_by_outline_nor_by_image_is_refused(brain, monkeypatch):
    image, _, affine = brain
    monkeypatch.setattr(segmenter, "template_to_scan", lambda *a: register.Template(np.eye(4), 0.3))
    monkeypatch.setattr(segmenter, "agreement", lambda *a: 0.78)
    with pytest.raises(InputError, match="x.nii: no brain in view .*template fits neither"):
        segmenter.prepare(image + 1, affine, name="x.nii", strip="network", finder=lambda *a: image > 0)


def test_a_template_that_fits_badly_is_used_and_doubted(brain):
    image, _, affine = brain
    inside = image > 0
    # Brain mask of the user's that leaves a part out.
    inside[:, :, : inside.shape[2] // 3] = False
    ready = segmenter.prepare(image, affine, mask=inside)
    assert ready.template is None or any(text.startswith("template_") for text in ready.warnings)


def test_lesions_placed_by_a_doubtful_template_are_flagged(brain, tmp_path, monkeypatch):
    image, _, affine = brain
    monkeypatch.setattr(segmenter, "agreement", lambda *a: segmenter.DOUBTFUL - 0.01)
    net = brain_helpers.network(tmp_path)
    result = open_segmenter(model=net, device="cpu", threads=1).run(nib.Nifti1Image(image, affine))
    (table,) = result.tables
    assert table.lesions and all(lesion.location for lesion in table.lesions)
    assert all("template_doubtful" in lesion.flags for lesion in table.lesions)
    assert "template_doubtful" in table.summary()["flags"]


def test_neutral_maps_are_the_means_of_the_brain():
    inside = np.zeros((4, 4, 4), bool)
    inside[1:3] = True
    gray, white = (register.neutral_map(name, inside) for name in ("gm", "wm"))
    assert (gray[~inside] == 0).all() and np.ptp(gray[inside]) == 0
    assert 0.3 < gray[inside][0] < 0.7 and 0.2 < white[inside][0] < 0.6
