"""Left and right, dorsal and ventral halves: known shapes, any storage, any obliquity, a turned neck."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sctseg7t.image.geometry import geometry_of
from sctseg7t.image.volume import from_order
from sctseg7t.measure.csa import measure_csa

HALVES = ("area_left_mm2", "area_right_mm2", "area_dorsal_mm2", "area_ventral_mm2", "asymmetry")
AFFINE = np.diag([0.5, 0.5, 4.0, 1.0])


def cord(shape=(60, 50, 3), centre=(29.5, 24.5)):
    """An elliptic cord of 13 x 8 mm on 0.5 mm pixels, and how far each pixel lies from its middle (R, A) in mm."""
    i, j, _ = np.meshgrid(*map(np.arange, shape), indexing="ij")
    right, front = 0.5 * (i - centre[0]), 0.5 * (j - centre[1])
    return ((right / 6.5) ** 2 + (front / 4) ** 2 <= 1).astype(float), right, front


def horns():
    """GM: a large left ventral horn, a small right one, and a right dorsal one."""
    sc, right, front = cord()
    boxes = ((-4, -2, 0.5, 2.5), (1, 2, 0.5, 2.5), (1, 3, -2, -1))
    gm = sum((right > a) & (right < b) & (front > c) & (front < d) for a, b, c, d in boxes).astype(float)
    return {"SC": sc, "GM": gm}


def values(table, tissue, k=1):
    return [next(getattr(r, name) for r in table.rows if (r.tissue, r.slice) == (tissue, k)) for name in HALVES]


def test_horns_are_counted_on_their_sides():
    table = measure_csa(horns(), AFFINE)
    left, right, dorsal, ventral = 4.0, 2.0 + 2.0, 2.0, 6.0
    assert values(table, "GM") == pytest.approx([left, right, dorsal, ventral, 0.0])
    area = table.column("SC", "area_mm2")[1]
    assert values(table, "SC") == pytest.approx([area / 2] * 4 + [0], abs=1e-9)


def test_a_pixel_on_the_line_is_parted():
    # The cord's middle lies within a pixel's column, a fifth of a pixel off its centre by its soft rim.
    sc = np.zeros((9, 9, 1))
    sc[2:7, 2:7] = 1
    sc[7, 2:7] = 0.2
    centroid = (np.arange(9) @ sc[..., 0].sum(1)) / sc.sum()
    right = 5 * (4.5 - centroid) + 5 * 2 + 5 * 0.2
    row = measure_csa({"SC": sc}, np.eye(4)).rows[0]
    assert row.area_right_mm2 == pytest.approx(right) and row.area_left_mm2 == pytest.approx(sc.sum() - right)


@pytest.mark.parametrize("code", ["RAS", "LPI", "RPI", "PIR", "SAL", "ASR"])
@pytest.mark.parametrize("tilt", [0, 14])
def test_storage_and_obliquity_change_nothing(code, tilt):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xy", [tilt, -tilt / 2], degrees=True).as_matrix()
    expected, found = measure_csa(horns(), AFFINE), {}
    for name, data in horns().items():
        image = nib.Nifti1Image(data, turn @ AFFINE)
        stored = image.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(code))
        )
        geometry = geometry_of(stored.header, stored.affine, stored.shape, "x", axial=False)
        found[name] = from_order(np.asarray(stored.dataobj)[..., None], geometry.source.orientation)[..., 0]
    table = measure_csa(found, geometry.affine)
    for tissue in ("SC", "GM"):
        assert values(table, tissue) == pytest.approx(values(expected, tissue), abs=1e-6)


@pytest.mark.parametrize("degrees", [-30, -8, 5, 20])
def test_a_turned_neck_changes_nothing(degrees):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    expected, table = measure_csa(horns(), AFFINE), measure_csa(horns(), turn @ AFFINE)
    for tissue in ("SC", "GM"):
        assert values(table, tissue) == pytest.approx(values(expected, tissue), abs=1e-6)


def test_sheared_pixels_are_parted_where_they_lie():
    # An upright edge, in a grid whose columns lean: half of the leaning column lies on either side.
    affine = np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    sc = np.zeros((12, 9, 1))
    sc[3:8, 2:7] = 1
    row = measure_csa({"SC": sc}, affine).rows[0]
    assert [row.area_left_mm2, row.area_right_mm2] == pytest.approx([12.5, 12.5])
    assert row.area_left_mm2 + row.area_right_mm2 == pytest.approx(row.area_mm2)


def test_no_cord_in_a_slice_is_no_midline():
    maps = horns()
    maps["SC"][..., 2] = 0
    table = measure_csa(maps, AFFINE)
    assert values(table, "GM", 2) == [None] * 5
    assert "no_midline" in next(r.reason for r in table.rows if (r.tissue, r.slice) == ("GM", 2))
    # Gray matter alone is parted by its own centroid, along the scanner's axes.
    alone = measure_csa({"GM": maps["GM"]}, AFFINE)
    assert sum(values(alone, "GM")[:2]) == pytest.approx(8.0)
