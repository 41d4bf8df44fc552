"""Where the cord is: the path through heat maps, user labels, and the shipped locator."""

import math
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from sctseg7t.cord import locator as module
from sctseg7t.cord.locator import from_labels, image_centre, locate
from sctseg7t.errors import InputError
from sctseg7t.image.frame import frame_of

EXAMPLES = Path(__file__).parents[2] / "examples"
IDENTITY = np.eye(4)


class Heat:
    """A locator that answers with maps made beforehand, and notes what it was given."""

    def __init__(self, maps):
        self.maps = maps

    def run(self, images):
        self.images = images
        out = np.zeros((len(images), 1, *images.shape[2:]), np.float32)
        out[:, 0, : self.maps.shape[1], : self.maps.shape[2]] = self.maps
        return out


def spec(multiple=16, activation="sigmoid", flip=False):
    normalisation = {"name": "percentile", "parameters": {"scope": "slice", "low": 1, "high": 99}}
    return SimpleNamespace(
        label="stub@1.0.0",
        input=SimpleNamespace(spacing_mm=(1.0, 1.0), size_multiple=multiple, normalisation=normalisation),
        outputs=(SimpleNamespace(name="heatmap", channel=0),),
        activation=activation,
        test_time={"flip_lr": flip},
    )


def blob(shape, row, column, height=1.0, sd=3.0):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * sd**2))


def found(maps, affine=IDENTITY, **options):
    """Locate in maps (Z, H, W) at 1 mm: voxel (i, j) is (column, row)."""
    maps = np.asarray(maps, np.float32)
    data = np.random.default_rng(0).random(maps.shape[::-1])
    return locate(data, affine, Heat(maps), spec(**options))


SHAPE = (60, 80)


def bent(count=9):
    return [(30 + 0.4 * k, 40 - 0.3 * k) for k in range(count)]


def assert_near(path, places, within):
    truth = np.array([(column, row) for row, column in places])
    assert np.abs(path.centres_vox - truth).max() < within


def test_clear_maps_give_their_peaks():
    path = found([blob(SHAPE, *place, 0.9) for place in bent()])
    assert_near(path, bent(), 0.3)
    assert path.source == "locator"
    assert not path.unsure.any()
    np.testing.assert_allclose(path.confidence, 0.9, atol=0.02)


def test_peak_is_placed_between_pixels():
    """On average closer than the nearest pixel would be (0.38 mm), never further than 0.35 mm."""
    places = np.random.default_rng(1).uniform(20, 40, (60, 2))
    errors = [np.linalg.norm(found([blob(SHAPE, *p)]).centres_vox[0] - p[::-1]) for p in places]
    nearest = np.linalg.norm(places - np.rint(places), axis=1)
    assert max(errors) < 0.35
    assert np.mean(errors) < 0.6 * nearest.mean()


def test_outlier_is_overruled_by_its_neighbours():
    """A slice whose highest peak is elsewhere, but that also shows the cord faintly."""
    places = bent()
    for height in (0.95, 0.6, 0.3):
        maps = [blob(SHAPE, *place, 0.9) for place in places]
        maps[4] = np.maximum(blob(SHAPE, *places[4], 0.5 * height), blob(SHAPE, 8, 8, height))
        path = found(maps)
        assert_near(path, places, 0.4)
        assert path.unsure.tolist() == [k == 4 and 0.5 * height < module.UNSURE for k in range(9)]


@pytest.mark.parametrize(("thick", "leaps"), [(1.0, False), (8.0, True)])
def test_a_cord_does_not_leap_aside_between_thin_slices(thick, leaps):
    """Some slices that show another thing clearly and the cord hardly: 14 mm in a millimetre is no cord."""
    maps = [
        np.maximum(blob(SHAPE, 30, 40, 0.9 if k > 4 else 0.02), blob(SHAPE, 30, 54, 0.8 * (k <= 4))) for k in range(12)
    ]
    path = found(maps, np.diag([1.0, 1.0, thick, 1.0]))
    aside = path.centres_vox[:4, 0] > 50
    assert aside.all() if leaps else not aside.any()
    assert path.unsure[:5].all() or leaps


def test_silent_slices_are_flagged_and_interpolated():
    places = bent(10)
    maps = [blob(SHAPE, *place, 0.9) for place in places]
    for k in (0, 4, 5, 9):
        maps[k] = np.random.default_rng(k).random(SHAPE) * 0.2
    path = found(maps)
    assert np.flatnonzero(path.unsure).tolist() == [0, 4, 5, 9]
    assert_near(path, [places[1], *places[1:9], places[8]], 0.3)
    assert (path.confidence[path.unsure] < module.UNSURE).all()
    assert (path.confidence[~path.unsure] > 0.8).all()


def test_blank_slice_does_not_pull_the_path_to_a_decoy():
    """A map without any peak says nothing of the place: its neighbours decide alone."""
    maps = [np.maximum(blob(SHAPE, 40, 60, 0.9), blob(SHAPE, 6, 6, 0.5)) for _ in range(5)]
    maps[1] = maps[3] = np.zeros(SHAPE)
    path = found(maps)
    assert_near(path, [(40, 60)] * 5, 0.2)
    assert np.flatnonzero(path.unsure).tolist() == [1, 3]


def test_a_share_of_the_slices_must_show_a_cord():
    for height in (0.0, 1e-3, 0.9 * module.UNSURE, 0.9 * module.PRESENT):
        assert found([blob(SHAPE, *place, height) for place in bent()]) is None
    for count in (1, 5, 10, 11, 24):
        enough = max(1, math.ceil(module.LOOKS[0][1] * count))
        maps = [blob(SHAPE, 30, 40, 0.95 if k < enough else 0.1) for k in range(count)]
        path = found(maps)
        assert_near(path, [(30, 40)] * count, 0.2)
        assert path.unsure.sum() == count - enough
        maps[enough - 1] = blob(SHAPE, 30, 40, 0.1)
        assert found(maps) is None


@pytest.mark.parametrize(("height", "known"), [(0.9, True), (0.5, False)])
def test_small_cord_is_looked_for_again_larger(height, known):
    """A network that knows the bright pixel's place, but is sure of it in enlarged images only."""

    class Short:
        def run(self, images):
            flat = images[:, 0].reshape(len(images), -1)
            places = [np.unravel_index(peak, images.shape[2:]) for peak in flat.argmax(1)]
            sure = height if max(images.shape[2:]) > 90 else 0.4
            return np.stack([blob(images.shape[2:], r, c, sure) for r, c in places])[:, None]

    data = np.zeros((80, 60, 5))
    data[50, 20] = 1
    path = locate(data, IDENTITY, Short(), spec(16))
    assert (path is not None) == known
    if known:
        np.testing.assert_allclose(path.centres_vox, [(50, 20)] * 5, atol=1.2)


@pytest.mark.parametrize("multiple", [16, 32])
def test_flip_averaging_takes_out_a_bias_to_one_side(multiple):
    """A network that points 2 mm too far to the right, of an image whose width is padded or not."""

    class Skewed:
        def run(self, images):
            peaks = images[:, 0].reshape(len(images), -1).argmax(1)
            places = [np.unravel_index(peak, images.shape[2:]) for peak in peaks]
            return np.stack([blob(images.shape[2:], r, c + 2, 0.95) for r, c in places])[:, None]

    data = np.zeros((80, 60, 3))
    for k in range(3):
        data[50, 20 + k, k] = 1
    for flip, away in ((False, 2), (True, 0)):
        path = locate(data, IDENTITY, Skewed(), spec(multiple, flip=flip))
        np.testing.assert_allclose(path.centres_vox, [(50 + away, 20 + k) for k in range(3)], atol=0.1)


def test_images_are_scaled_by_percentiles_and_padded():
    maps = np.stack([blob(SHAPE, 30, 40)] * 2).astype(np.float32)
    data = np.random.default_rng(0).random((80, 60, 2)) * 50 + 1000
    session = Heat(maps)
    locate(data, IDENTITY, session, spec(multiple=32))
    given = session.images
    assert given.shape == (2, 1, 64, 96) and given.dtype == np.float32
    assert (given[:, 0, 60:] == 0).all() and (given[:, 0, :, 80:] == 0).all()
    for k in range(2):
        low, high = np.percentile(given[k, 0, :60, :80], (1, 99))
        np.testing.assert_allclose([low, high], [0, 1], atol=1e-3)
    # The image's own intensity scale must not matter.
    other = Heat(maps)
    locate(data * 7 - 300, IDENTITY, other, spec(multiple=32))
    np.testing.assert_allclose(other.images, given, atol=1e-3)


@pytest.mark.parametrize("pixel", [(0.25, 0.25), (0.5, 0.25), (1.5, 1.22)])
def test_place_is_in_voxels_of_the_scan(pixel):
    """The centre of the 1 mm image and of the scan coincide, whatever the voxels."""
    shape = (round(81 / pixel[0]), round(61 / pixel[1]), 3)
    maps = np.stack([blob((61, 81), 30, 40)] * 3)
    path = locate(np.random.default_rng(0).random(shape), np.diag([*pixel, 3.0, 1.0]), Heat(maps), spec(4))
    centre = (np.array(shape[:2]) - 1) / 2
    assert np.abs((path.centres_vox - centre) * pixel).max() < 0.02


# ---- from the user's labels ----------------------------------------------------


def volume(shape=(40, 30, 8), affine=None):
    affine = np.diag([0.5, 0.5, 3.0, 1.0]) if affine is None else affine
    return SimpleNamespace(data=np.zeros((*shape, 1), np.float32), affine=affine, name="scan.nii.gz")


def test_mask_gives_its_centre_on_every_slice_and_points_are_joined():
    scan = volume()
    mask, points = np.zeros((40, 30, 8)), np.zeros((40, 30, 8))
    for k in range(8):
        mask[10 + k : 15 + k, 12:15, k] = 1
    path = from_labels(mask, scan.affine, scan, "mask.nii.gz")
    np.testing.assert_allclose(path.centres_vox, [(12 + k, 13) for k in range(8)])
    assert path.source == "file"
    assert (path.confidence == 1).all() and not path.unsure.any()
    points[10, 10, 2], points[16, 22, 5] = 3, 7
    path = from_labels(points, scan.affine, scan, "points.nii.gz")
    expected = [(10, 10)] * 3 + [(12, 14), (14, 18)] + [(16, 22)] * 3
    np.testing.assert_allclose(path.centres_vox, expected, atol=1e-9)


def test_labels_on_another_grid_are_placed_by_world_position():
    scan = volume(affine=np.array([[0.5, 0, 0, -12], [0, 0.5, 0, 40], [0, 0, 3.0, -7], [0, 0, 0, 1]], float))
    # LPI storage, 1 mm voxels: i runs to the left, j to the back.
    other = np.array([[-1, 0, 0, 8], [0, -1, 0, 54], [0, 0, 3.0, -7], [0, 0, 0, 1]], float)
    labels = np.zeros((25, 15, 8))
    labels[9:12, 4:7, :] = 1
    path = from_labels(labels, other, scan, "labels.nii.gz")
    world = scan.affine @ [*path.centres_vox[0], 0, 1]
    np.testing.assert_allclose(world[:2], [8 - 10, 54 - 5], atol=1e-9)


def test_sparse_and_fine_slices_of_other_grids():
    scan = volume()
    coarse = np.zeros((40, 30, 3))
    coarse[20, 10, 0], coarse[20, 16, 1] = 1, 1
    path = from_labels(coarse, np.diag([0.5, 0.5, 9.0, 1.0]), scan, "coarse.nii.gz")
    np.testing.assert_allclose(path.centres_vox[:, 1], [10, 12, 14, 16, 16, 16, 16, 16], atol=1e-9)
    fine = np.zeros((40, 30, 24))
    fine[20, 10, :] = 1
    path = from_labels(fine, np.diag([0.5, 0.5, 1.0, 1.0]), scan, "fine.nii.gz")
    np.testing.assert_allclose(path.centres_vox, [(20, 10)] * 8, atol=1e-9)


def test_labels_partly_outside_count_where_they_are_inside():
    scan = volume()
    labels = np.zeros((80, 30, 8))
    labels[5, 6, 3] = labels[70, 6, 3] = 1
    path = from_labels(labels, scan.affine, scan, "labels.nii.gz")
    np.testing.assert_allclose(path.centres_vox, [(5, 6)] * 8)


def test_empty_and_distant_labels_are_input_errors():
    scan, labels = volume(), np.zeros((40, 30, 8))
    with pytest.raises(InputError, match="labels.nii.gz: marks no voxel"):
        from_labels(labels, scan.affine, scan, "labels.nii.gz")
    labels[4, 4, 4] = 1
    away = scan.affine.copy()
    away[:3, 3] = 500
    with pytest.raises(InputError, match="outside scan.nii.gz"):
        from_labels(labels, away, scan, "labels.nii.gz")


def test_image_centre_and_distances():
    path = image_centre((41, 30, 4))
    np.testing.assert_array_equal(path.centres_vox, [(20, 14.5)] * 4)
    assert path.source == "image" and not path.unsure.any()
    turn = np.array([[0.3, -0.4, 0, 0], [0.4, 0.3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(frame_of(turn).mm_between([(0, 0), (2, 2)], [(3, 0), (2, 2)]), [1.5, 0], atol=1e-9)


# ---- the shipped locator -------------------------------------------------------


def test_shipped_locator_finds_the_cord_of_the_example():
    from sctseg7t.image.volume import load
    from sctseg7t.runtime import open_session
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    scan = load(EXAMPLES / "t2s.nii.gz")
    truth = load(EXAMPLES / "t2s_seg-truth.nii.gz").data[..., 0] > 0.5
    entry = load_manifest().model("cord_locator")
    path = locate(scan.data[..., 0], scan.affine, open_session(weights(entry), "cpu", 1), entry)
    centres = np.array([np.argwhere(truth[..., k]).mean(0) for k in range(truth.shape[2])])
    assert scan.frame.mm_between(path.centres_vox, centres).max() < 3
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
