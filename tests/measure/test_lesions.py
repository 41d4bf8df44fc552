"""Lesion measures: shapes with known volume, diameter, place; tables; the real lesion masks."""

import csv

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from sctseg7t.measure.columns import LOCATIONS
from sctseg7t.measure.lesion_location import Regions
from sctseg7t.measure.lesions import label_lesions, largest_distance_mm, measure_lesions
from sctseg7t.measure.tables import write_lesion_csv, write_load_csv

ISOTROPIC = np.eye(4)


def affine_of(spacing, rotation_deg=(0, 0, 0), origin=(0, 0, 0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def boxes(shape, *limits):
    mask = np.zeros(shape, bool)
    for limit in limits:
        mask[tuple(slice(*pair) for pair in limit)] = True
    return mask


# ---- size -------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 3.0), (0.9, 1.2, 2.0)])
@pytest.mark.parametrize("rotation", [(0, 0, 0), (12, -8, 20)])
def test_an_ellipsoid_has_its_volume_diameter_and_centre(spacing, rotation):
    semi_axes = np.array([6.0, 4.5, 9.0])
    shape = np.ceil(24 / np.array(spacing)).astype(int)
    affine = affine_of(spacing, rotation, (-40, 13, 7))
    centre = affine[:3, :3] @ (shape / 2) + affine[:3, 3]
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    mask = (((world - centre) / semi_axes) ** 2).sum(axis=-1) <= 1
    (found,) = measure_lesions(mask, affine).lesions
    assert found.volume_mm3 == pytest.approx(4 / 3 * np.pi * semi_axes.prod(), rel=0.04)
    assert found.sphere_diameter_mm == pytest.approx(2 * np.cbrt(semi_axes.prod()), rel=0.02)
    # Corners lie up to a voxel's diagonal beyond the centres, and centres up to one inside the surface.
    assert abs(found.diameter_mm - 18) < np.linalg.norm(spacing)
    place = (found.centroid_r_mm, found.centroid_a_mm, found.centroid_s_mm)
    assert np.abs(np.array(place) - centre).max() < 0.25 * max(spacing)
    voxel = (found.centroid_x_vox, found.centroid_y_vox, found.centroid_z_vox)
    assert nib.affines.apply_affine(affine, voxel) == pytest.approx(place)


def test_the_hull_gives_the_same_diameter_as_all_pairs_of_corners():
    rng = np.random.default_rng(3)
    linear = affine_of((0.6, 0.9, 1.7), (10, 20, 30))[:3, :3]
    steps = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    sparse = [np.unique(rng.integers(0, 12, (size, 3)), axis=0) for size in (1, 2, 7, 30, 150)]
    column = np.array([(3, 4, z) for z in range(9)])
    for voxels in (*sparse, column, np.concatenate([sparse[2] + 12, column])):
        corners = (voxels[:, None] + steps).reshape(-1, 3) @ linear.T
        assert largest_distance_mm(rng.permutation(voxels), linear) == pytest.approx(pdist(corners).max())


def test_lesions_under_the_diameter_are_listed_but_not_counted():
    # 2 x 2 x 1 voxels measure exactly 3 mm; a row of two sqrt(6).
    mask = boxes((12, 12, 12), [(1, 3), (1, 3), (1, 2)], [(6, 8), (6, 7), (6, 7)])
    for affine in (ISOTROPIC, affine_of((1, 1, 1), (31, 7, -55)), np.eye(4, dtype=np.float32)):
        table = measure_lesions(mask, affine)
        assert [lesion.counted for lesion in table.lesions] == [True, False]
        total = table.summary()
        assert (total["n_lesions"], total["n_small"]) == (1, 1)
        assert (total["load_ml"], total["load_small_ml"]) == pytest.approx((0.006, 0.002))
    assert measure_lesions(mask, ISOTROPIC, min_diameter_mm=3.1).summary()["n_lesions"] == 0


# ---- which lesions ----------------------------------------------------------------


def test_connectivity_says_what_belongs_together():
    mask = np.zeros((8, 8, 8), bool)
    for place in ((1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 3, 2)):  # by a face, an edge, a corner
        mask[place] = True
    assert [int(label_lesions(mask, n).max()) for n in (6, 18, 26)] == [3, 2, 1]
    assert len(measure_lesions(mask, ISOTROPIC).lesions) == 1


def test_ids_follow_the_volume_and_ties_the_first_voxel():
    mask = boxes(
        (12, 6, 6),
        [(9, 10), (1, 2), (1, 2)],
        [(1, 2), (4, 5), (0, 1)],
        [(1, 2), (1, 2), (3, 4)],
        [(4, 7), (2, 4), (2, 3)],
    )
    labels = label_lesions(mask)
    assert labels.dtype == np.int16
    assert (labels[4, 2, 2], labels[1, 1, 3], labels[1, 4, 0], labels[9, 1, 1]) == (1, 2, 3, 4)
    assert np.array_equal(label_lesions(np.asfortranarray(mask)), labels)
    table = measure_lesions(mask, ISOTROPIC)
    assert np.array_equal(table.labels, labels)
    assert [lesion.id for lesion in table.lesions] == [1, 2, 3, 4]
    assert [lesion.n_voxels for lesion in table.lesions] == [6, 1, 1, 1]


def test_probabilities_are_those_inside_the_lesion():
    mask = boxes((8, 8, 8), [(1, 3), (1, 2), (1, 2)], [(5, 6), (5, 6), (5, 6)])
    probability = np.full((8, 8, 8), 0.99, np.float32)
    probability[1, 1, 1], probability[2, 1, 1], probability[5, 5, 5] = 0.5, 0.75, 0.625
    first, second = measure_lesions(mask, ISOTROPIC, probability=probability).lesions
    assert (first.probability_max, first.probability_mean) == (0.75, 0.625)
    assert (second.probability_max, second.probability_mean) == (0.625, 0.625)
    assert measure_lesions(mask, ISOTROPIC).lesions[0].probability_max is None


@pytest.mark.parametrize("mask, message", [(np.zeros((4, 4)), "3D"), (np.full((4, 4, 4), 0.5), "0 and 1")])
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        measure_lesions(mask, ISOTROPIC)


# ---- location ---------------------------------------------------------------------

SHAPE = (40, 12, 30)


@pytest.fixture
def regions():
    """Ventricles at x < 5, cortex at x >= 35, infratentorial brain below slice 10."""
    x, _, z = np.indices(SHAPE)
    return Regions((x < 5) & (z >= 10), ((x >= 35) & (z >= 10)).astype(np.float32) * 0.5, z < 10, "made by hand")


def located(limit, regions, **options):
    (found,) = measure_lesions(boxes(SHAPE, limit), options.pop("affine", ISOTROPIC), regions, **options).lesions
    return found


@pytest.mark.parametrize(
    "x, location, ventricles, cortex",
    [
        ((3, 7), "periventricular", 0, 28),  # overlaps
        ((5, 8), "periventricular", 0, 27),  # touches
        ((6, 9), "periventricular", 1, 26),  # one voxel between: the tolerance
        ((7, 10), "deep_white_matter", 2, 25),
        ((31, 34), "deep_white_matter", 26, 1),
        ((32, 35), "juxtacortical_cortical", 27, 0),
        ((36, 39), "juxtacortical_cortical", 31, 0),  # cortical
        ((5, 35), "periventricular", 0, 0),  # both: the first rule
    ],
)
def test_location_by_the_gap_to_a_region(regions, x, location, ventricles, cortex):
    found = located([x, (4, 7), (14, 17)], regions)
    assert found.location == location
    assert (found.distance_ventricles_mm, found.distance_cortex_mm) == pytest.approx((ventricles, cortex))
    assert found.infratentorial_fraction == 0


def test_half_below_the_tentorium_is_infratentorial_even_at_the_ventricle(regions):
    assert located([(5, 8), (4, 7), (8, 12)], regions).location == "infratentorial"
    found = located([(5, 8), (4, 7), (8, 13)], regions)
    assert (found.location, found.infratentorial_fraction) == ("periventricular", pytest.approx(0.4))
    # Gaps are in mm: four voxels of 0.5 mm are too far from the ventricles.
    far = located([(9, 12), (4, 7), (14, 17)], regions, affine=affine_of((0.5, 1, 5), (20, 30, 40)))
    assert (far.location, far.distance_ventricles_mm) == ("deep_white_matter", pytest.approx(2))


def test_touching_slices_touch_however_thick():
    ventricles = boxes(SHAPE, [(10, 20), (3, 9), (16, 20)])
    nothing = np.zeros(SHAPE, bool)
    thick = affine_of((1, 1, 6))
    above = located([(12, 15), (4, 7), (20, 22)], Regions(ventricles, nothing, nothing), affine=thick)
    assert (above.location, above.distance_ventricles_mm, above.distance_cortex_mm) == ("periventricular", 0, None)
    apart = located([(12, 15), (4, 7), (21, 23)], Regions(ventricles, nothing, nothing), affine=thick)
    assert (apart.location, apart.distance_ventricles_mm) == ("deep_white_matter", 6)


def test_the_gap_is_that_of_the_voxels_boxes():
    rng = np.random.default_rng(5)
    spacing = np.array([0.7, 1.3, 2.0])
    region, mask = rng.random((2, 9, 9, 9)) > 0.995
    region[0, 0, 0] = mask[8, 8, 8] = True
    nothing = np.zeros_like(mask)
    for lesion in measure_lesions(mask, affine_of(spacing), Regions(region, nothing, nothing)).lesions:
        own = np.argwhere(measure_lesions(mask, affine_of(spacing)).labels == lesion.id)
        steps = np.maximum(np.abs(own[:, None] - np.argwhere(region)) - 1, 0) * spacing
        assert lesion.distance_ventricles_mm == pytest.approx(np.linalg.norm(steps, axis=-1).min())


def test_location_totals_sum_to_the_load(regions):
    mask = boxes(SHAPE, [(5, 8), (4, 7), (14, 17)], [(20, 21), (4, 5), (20, 21)], [(20, 25), (4, 7), (2, 5)])
    total = measure_lesions(mask, ISOTROPIC, regions).summary()
    assert [total[f"n_{name}"] for name in LOCATIONS] == [1, 0, 1, 0]
    assert [total[f"{name}_ml"] for name in LOCATIONS] == pytest.approx([0.027, 0, 0.045, 0.001])
    assert total["load_ml"] == pytest.approx(0.073)
    assert (total["largest_volume_mm3"], total["n_small"]) == (45, 1)


# ---- tables -----------------------------------------------------------------------


def test_an_empty_mask_is_a_row_of_zeros(tmp_path, regions):
    for given in (None, regions):
        table = measure_lesions(np.zeros(SHAPE, np.uint8), ISOTROPIC, given)
        total = table.summary()
        zeros = ["n_lesions", "n_small", "load_ml", "load_small_ml", *(f"n_{n}" for n in LOCATIONS)]
        assert [total[name] for name in zeros + [f"{n}_ml" for n in LOCATIONS]] == [0] * 12
        assert total["largest_volume_mm3"] is None and total["reason"][0] == "no_lesions"
        assert not table.labels.any()
    write_lesion_csv(table, tmp_path / "lesions.csv")
    assert len((tmp_path / "lesions.csv").read_text().splitlines()) == 1
    write_load_csv({"a.nii.gz": total}, tmp_path / "scan.csv")
    (row,) = csv.DictReader((tmp_path / "scan.csv").open())
    assert (row["n_lesions"], row["load_ml"], row["largest_diameter_mm"]) == ("0", "0.0000", "")


def test_csv_has_a_row_a_lesion_with_units_and_empty_cells(tmp_path):
    mask = boxes(SHAPE, [(0, 4), (4, 7), (14, 17)], [(20, 21), (4, 5), (20, 21)])
    table = measure_lesions(mask, affine_of((1, 1, 2)))
    total = table.summary()
    assert total["n_lesions"] == 1 and all(total[f"n_{name}"] is total[f"{name}_ml"] is None for name in LOCATIONS)
    write_lesion_csv(table, tmp_path / "lesions.csv", filename="a_lesion.nii.gz", tool_version="9")
    large, small = csv.DictReader((tmp_path / "lesions.csv").open())
    assert (large["filename"], large["tool_version"]) == ("a_lesion.nii.gz", "9")
    assert (large["id"], large["counted"], large["volume_mm3"]) == ("1", "1", "72.0000")
    assert (large["location"], large["flags"]) == ("", "touches_image_edge")
    assert (small["counted"], small["volume_mm3"], small["reason"]) == ("0", "2.0000", "no_regions")
    assert float(small["centroid_s_mm"]) == 40


# ---- real masks -------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    "patient, load_ml, by_faces, by_corners, counted",
    [("07", 1.3, 49, 37, 30), ("19", 49.769, 140, 98, 87)],
)
def test_patients_have_their_lesions(data_dir, patient, load_ml, by_faces, by_corners, counted):
    path = data_dir / "brain" / "lesjak-cross" / f"patient{patient}" / "lesions_consensus.nii.gz"
    if not path.is_file():
        pytest.skip(f"no {path.name} of patient {patient} in {data_dir}")
    image = nib.as_closest_canonical(nib.load(path))
    mask = np.asarray(image.dataobj)
    table = measure_lesions(mask, image.affine)
    total = table.summary()
    assert total["load_ml"] == pytest.approx(load_ml)
    assert (total["n_lesions"], len(table.lesions)) == (counted, by_corners)
    assert len(measure_lesions(mask, image.affine, connectivity=6).lesions) == by_faces
