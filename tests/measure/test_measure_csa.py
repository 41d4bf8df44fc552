"""CSA and shape against elliptic cylinders whose measures are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from skimage.measure import regionprops

from sctseg7t.image.frame import frame_of
from sctseg7t.measure.checks import check_areas
from sctseg7t.measure.csa import MEASURES, measure_csa


def cylinder(affine, shape, semi_axes, *, lean=(0, 0), turn_deg=0, supersample=6):
    """Fractions of an elliptic cylinder through the grid's middle.

    `lean` is the axis' slope d(right, anterior)/d(superior) in the frame of the slices;
    the cross-section perpendicular to the axis is the ellipse.
    """
    frame = frame_of(affine).axes
    tangent = np.array([*lean, 1.0]) @ frame
    tangent /= np.linalg.norm(tangent)
    turn = np.cross(frame[2], tangent)
    sine = np.linalg.norm(turn)
    # The smallest rotation that takes the slices' normal to the axis; rows are its x, y, z.
    smallest = Rotation.from_rotvec(turn * (np.arcsin(sine) / sine if sine else 1)).as_matrix()
    across = frame @ smallest.T
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    offset = (np.arange(supersample) + 0.5) / supersample - 0.5
    i, j, k = np.meshgrid(*map(np.arange, shape), indexing="ij")
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    total = np.zeros(shape)
    for di in offset:
        for dj in offset:
            point = np.stack([i + di, j + dj, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3] - centre
            x, y = point @ across[0], point @ across[1]
            along, beside = cos * x + sin * y, cos * y - sin * x
            total += (along / semi_axes[0]) ** 2 + (beside / semi_axes[1]) ** 2 <= 1
    return total / supersample**2


def rotation(axis, degrees):
    return Rotation.from_rotvec(np.array(axis) / np.linalg.norm(axis) * degrees, degrees=True).as_matrix()


def make_affine(spacing, *, rotate=None, shear=0.0):
    steps = np.diag(np.array(spacing, float))
    steps[0, 1] = shear * spacing[1]
    affine = np.eye(4)
    affine[:3, :3] = steps if rotate is None else rotate @ steps
    affine[:3, 3] = -31.3, 12.7, -250.1
    return affine


def middle(table, tissue="SC"):
    rows = [row for row in table.rows if row.tissue == tissue]
    return rows[len(rows) // 2]


@pytest.mark.parametrize("spacing", [0.176, 0.267, 0.5])
@pytest.mark.parametrize(("semi_axes", "turn_deg"), [((6.5, 4), 0), ((6.5, 4), 25), ((5, 4), -35), ((3, 1.8), 70)])
def test_upright_ellipse(spacing, semi_axes, turn_deg):
    size = int(16 / spacing)
    affine = make_affine((spacing, spacing, 3))
    row = middle(measure_csa({"SC": cylinder(affine, (size, size + 1, 3), semi_axes, turn_deg=turn_deg)}, affine))
    ap, rl = (1, 0) if abs(turn_deg) < 45 else (0, 1)
    area = np.pi * semi_axes[0] * semi_axes[1]
    assert (row.area_mm2, row.area_corrected_mm2) == pytest.approx((area, area), rel=0.01)
    assert row.diameter_ap_mm == pytest.approx(2 * semi_axes[ap], rel=0.01)
    assert row.diameter_rl_mm == pytest.approx(2 * semi_axes[rl], rel=0.01)
    assert row.eccentricity == pytest.approx(np.sqrt(1 - (semi_axes[1] / semi_axes[0]) ** 2), abs=0.01)
    assert row.orientation_deg == pytest.approx(turn_deg, abs=1)
    assert row.solidity == pytest.approx(1, abs=0.01)
    assert row.reason == ()


GEOMETRIES = {
    "plain": make_affine((0.4, 0.4, 3)),
    "anisotropic": make_affine((0.3, 0.6, 3)),
    "oblique": make_affine((0.4, 0.4, 3), rotate=rotation((1, 0.4, 0.3), 25)),
    "sheared": make_affine((0.4, 0.4, 3), shear=0.3),
    "sheared between slices": make_affine((0.4, 0.4, 3)) + 0.8 * np.outer(np.eye(4)[0], np.eye(4)[2]),
    "oblique, anisotropic, sheared": make_affine((0.5, 0.3, 2.5), rotate=rotation((0.2, 1, 0.1), -20), shear=0.2),
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("rl_deg", "ap_deg"), [(0, -30), (15, 25), (-20, 20)])
@pytest.mark.parametrize("hard", [False, True])
def test_tilted_cylinder(geometry, rl_deg, ap_deg, hard):
    affine = GEOMETRIES[geometry]
    lean = np.tan(np.radians([rl_deg, ap_deg]))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shape = (int(26 / spacing[0]), int(26 / spacing[1]), 5)
    cord = cylinder(affine, shape, (6.5, 4), lean=lean, turn_deg=12, supersample=1 if hard else 5)
    table = measure_csa({"SC": cord}, affine)
    row = middle(table)
    assert row.angle_rl_deg == pytest.approx(rl_deg, abs=1)
    assert row.angle_ap_deg == pytest.approx(ap_deg, abs=1)
    # A hard mask is itself off by up to 2 % in one slice at these pixel sizes.
    exact = 0.025 if hard else 0.01
    area = np.pi * 26
    assert row.area_mm2 == pytest.approx(area * np.sqrt(1 + lean @ lean), rel=exact)
    assert row.diameter_ap_mm == pytest.approx(8, rel=exact)
    assert row.diameter_rl_mm == pytest.approx(13, rel=exact)
    assert row.orientation_deg == pytest.approx(12, abs=2 if hard else 1)
    corrected = table.column("SC", "area_corrected_mm2")
    assert corrected == pytest.approx(np.full(5, area), rel=exact)
    assert corrected.mean() == pytest.approx(area, rel=0.015 if hard else 0.005)
    centres = np.array([np.append(np.argwhere(cord[..., k] > 0.5).mean(0), k) for k in range(5)])
    heights = centres @ affine[2, :3] + affine[2, 3]
    step = frame_of(affine).step_mm * np.sqrt(1 + lean @ lean)
    assert table.column("SC", "length_mm") == pytest.approx(np.full(5, step), rel=0.01)
    assert table.column("SC", "z_mm") == pytest.approx(heights, abs=0.1)


def test_plateau_counts_its_fraction():
    affine = make_affine((0.5, 0.5, 3))
    cord = cylinder(affine, (40, 40, 4), (6, 4))
    whole, part = (middle(measure_csa({"SC": f * cord}, affine)) for f in (1, 0.6))
    assert part.area_mm2 == pytest.approx(0.6 * whole.area_mm2)
    assert part.diameter_ap_mm == pytest.approx(whole.diameter_ap_mm)
    assert part.solidity == pytest.approx(whole.solidity)


def test_gm_is_corrected_with_the_line_of_sc():
    affine = make_affine((0.4, 0.4, 3))
    lean = np.tan(np.radians([0, 25]))
    cord = cylinder(affine, (60, 60, 5), (6.5, 4), lean=lean)
    gm = cylinder(affine, (60, 60, 5), (3, 1.5))  # upright: its own line has no tilt
    both = measure_csa({"GM": gm, "SC": cord}, affine)
    assert middle(both, "GM").angle_ap_deg == middle(both, "SC").angle_ap_deg
    cosine = np.cos(np.radians(25))
    assert middle(both, "GM").area_corrected_mm2 == pytest.approx(np.pi * 4.5 * cosine, rel=0.01)
    alone = measure_csa({"GM": gm}, affine)
    assert middle(alone, "GM").angle_ap_deg == pytest.approx(0, abs=1)
    assert middle(alone, "GM").reason == ("centreline_from_GM",)
    without = measure_csa({"GM": gm, "WM": np.clip(cord - gm, 0, 1)}, affine)
    assert middle(without, "GM").angle_ap_deg == pytest.approx(25, abs=1)
    assert "centreline_from_GM+WM" in middle(without, "GM").reason


@pytest.mark.parametrize(
    "inside, reason, empty",
    [
        ((slice(4, 5), slice(4, 5)), "shape_too_small", "diameter_ap_mm"),
        ((slice(4, 5), slice(2, 8)), "shape_degenerate", "diameter_ap_mm"),
        ((slice(2, 8), slice(2, 8)), "shape_isotropic", "orientation_deg"),
    ],
)
def test_what_has_no_shape_has_an_area(inside, reason, empty):
    mask = np.zeros((10, 10, 3))
    # What interpolation overshoots is clipped.
    mask[inside] = 1 + 5e-4
    row = middle(measure_csa({"SC": mask}, np.diag([1, 1, 4, 1.0])))
    assert row.area_mm2 == np.count_nonzero(mask[..., 0])
    assert reason in row.reason and getattr(row, empty) is None


@pytest.mark.parametrize("n_slices", [1, 2, 5])
def test_few_slices(n_slices):
    affine = make_affine((0.4, 0.4, 4))
    lean = np.tan(np.radians([0, 20]))
    table = measure_csa({"SC": cylinder(affine, (60, 60, n_slices), (6.5, 4), lean=lean)}, affine)
    for row in table.rows:
        assert row.area_mm2 == pytest.approx(np.pi * 26 / np.cos(np.radians(20)), rel=0.01)
        if n_slices == 1:
            assert (row.area_corrected_mm2, row.angle_ap_deg, row.length_mm) == (None, None, None)
            assert row.reason == ("single_slice",)
            assert row.diameter_ap_mm == pytest.approx(8 / np.cos(np.radians(20)), rel=0.01)
        else:
            assert row.angle_ap_deg == pytest.approx(20, abs=1)
            assert row.area_corrected_mm2 == pytest.approx(np.pi * 26, rel=0.01)
    if n_slices == 2:
        # Too close together for an angle.
        thin = middle(measure_csa({"SC": cylinder(affine, (60, 60, 2), (6.5, 4))}, make_affine((0.4, 0.4, 1))))
        assert (thin.area_corrected_mm2, thin.reason) == (None, ("angle_uncertain",))


def test_a_gap_is_null_not_zero_and_does_not_disturb_its_neighbours():
    affine = make_affine((0.4, 0.4, 3))
    lean = np.tan(np.radians([10, 15]))
    cord = cylinder(affine, (60, 60, 9), (6.5, 4), lean=lean)
    gm = cylinder(affine, (60, 60, 9), (3, 1.5), lean=lean)
    cord[..., 3:6] = 0
    table = measure_csa({"SC": cord, "GM": gm}, affine)
    for row in table.rows:
        if row.tissue == "SC" and row.slice in (3, 4, 5):
            assert row.reason == ("empty",)
            assert all(getattr(row, name) is None for name in MEASURES)
            assert "empty_SC" in row.flags
        else:
            area = np.pi * (26 if row.tissue == "SC" else 4.5)
            assert row.area_corrected_mm2 == pytest.approx(area, rel=0.015)
    empty = measure_csa({"SC": 0 * cord, "GM": 0 * gm}, affine)
    assert {(row.reason, row.z_mm) for row in empty.rows} == {(("empty",), None)}
    assert (empty.level_rows[0].mean["area_mm2"], empty.level_rows[0].reason) == (None, ("no_value",))
    assert [r.n_averaged for r in table.level_rows if r.tissue == "SC"] == [6]
    assert [r.n_slices for r in table.level_rows if r.tissue == "SC"] == [9]


def test_level_rows():
    affine = make_affine((0.4, 0.4, 3))
    cord = cylinder(affine, (60, 60, 6), (6.5, 4))
    cord[..., :3] *= 0.9
    cord[..., 1] = 0
    levels = np.where(cord > 0.2, np.array([4, 4, 4, 3, 3, 3]), 0)
    levels[0, 0, 1] = 4
    rows = measure_csa({"SC": cord}, affine, levels=levels).level_rows
    assert [(r.level, r.n_slices, r.n_averaged) for r in rows] == [(3, 3, 3), (4, 3, 2), ("all", 6, 5)]
    assert rows[0].mean["area_mm2"] == pytest.approx(np.pi * 26, rel=0.01)
    assert rows[1].mean["area_mm2"] == pytest.approx(0.9 * np.pi * 26, rel=0.01)
    areas = np.pi * 26 * np.array([0.9, 0.9, 1, 1, 1])
    assert rows[2].sd["area_mm2"] == pytest.approx(areas.std(ddof=1), rel=0.02)
    assert [r.length_mm for r in rows] == pytest.approx([9, 6, 15], rel=0.01)


def test_orientations_are_averaged_as_axes():
    affine = make_affine((0.4, 0.4, 3))
    turns = (85, -85, 85, -85)
    slices = [cylinder(affine, (60, 60, 1), (6.5, 4), turn_deg=turn)[..., 0] for turn in turns]
    row = measure_csa({"SC": np.stack(slices, axis=2)}, affine).level_rows[0]
    assert abs(row.mean["orientation_deg"]) == pytest.approx(90, abs=0.5)
    assert row.sd["orientation_deg"] == pytest.approx(np.sqrt(100 / 3), rel=0.05)


def test_cut_off_cord_is_flagged_and_not_averaged():
    affine = make_affine((0.4, 0.4, 3))
    cord = cylinder(affine, (60, 60, 5), (6.5, 4))
    cord[..., 4] = np.roll(cord[..., 4], 25, axis=0)
    cord[:20, :, 4] = 0
    flags = [["touches_window_edge"], ["dim"], [], [], []]
    table = measure_csa({"SC": cord}, affine, flags=flags)
    assert table.rows[0].flags == ("touches_window_edge",)
    assert table.rows[1].flags == ("dim",)
    assert "touches_image_edge" in table.rows[4].flags
    assert table.rows[4].area_mm2 > 0
    assert table.level_rows[0].n_averaged == 3
    assert table.level_rows[0].mean["area_mm2"] == pytest.approx(np.pi * 26, rel=0.01)


def test_check_areas_finds_each_fault_and_nothing_else():
    affine = make_affine((0.4, 0.4, 3))
    cord = cylinder(affine, (70, 70, 8), (6, 4))
    gm = cylinder(affine, (70, 70, 8), (3, 2))
    clean = measure_csa({"SC": cord, "GM": gm}, affine)
    assert check_areas(clean) == []
    cord[..., 2] = cylinder(affine, (70, 70, 1), (8, 6))[..., 0]
    cord[..., 6] = cylinder(affine, (70, 70, 1), (2.5, 2))[..., 0]
    gm[..., 4] = 0
    table = measure_csa({"SC": cord, "GM": gm}, affine)
    found = [(w.slice, w.tissue, w.flag) for w in check_areas(table)]
    assert found == [
        (2, "SC", "sc_area_jump"),
        (2, "SC", "sc_area_implausible"),
        (4, "GM", "empty_GM"),
        (6, "SC", "sc_area_jump"),
        (6, "SC", "sc_area_implausible"),
        (6, "GM", "gm_sc_ratio_implausible"),
    ]
    in_rows = [(row.slice, row.tissue, flag) for row in table.rows for flag in row.flags]
    assert sorted(in_rows) == sorted(found)


@pytest.mark.parametrize(
    "change",
    [
        {"fractions": {}},
        {"fractions": {"CSF": np.zeros((4, 4, 3))}},
        {"fractions": {"SC": np.zeros((4, 4))}},
        {"fractions": {"SC": np.full((4, 4, 3), 2.0)}},
        {"fractions": {"SC": np.full((4, 4, 3), np.nan)}},
        {"fractions": {"SC": np.zeros((4, 4, 3)), "GM": np.zeros((4, 4, 2))}},
        {"affine": np.diag([1, 1, 0, 1.0])},
        {"levels": np.full((4, 4, 3), 1.5)},
        {"levels": np.full((4, 4, 3), -1)},
    ],
)
def test_bad_calls(change):
    call = {"fractions": {"SC": np.zeros((4, 4, 3))}, "affine": np.eye(4)} | change
    with pytest.raises(ValueError):
        measure_csa(call.pop("fractions"), call.pop("affine"), **call)


def test_shape_agrees_with_scikit_image():
    y, x = np.meshgrid(np.arange(60), np.arange(60))
    mask = ((x - 30.3) / 17) ** 2 + ((y - 28.6) / 11) ** 2 <= 1
    mask &= ~((np.abs(x - 30) < 2) & (y > 34))
    region = regionprops(mask.astype(int))[0]
    row = measure_csa({"SC": mask[..., None].astype(float)}, np.diag([0.3, 0.3, 3, 1])).rows[0]
    assert row.area_mm2 == pytest.approx(region.area * 0.09)
    assert row.eccentricity == pytest.approx(region.eccentricity, rel=0.01)
    assert row.diameter_rl_mm == pytest.approx(region.axis_major_length * 0.3, rel=0.01)
    assert row.diameter_ap_mm == pytest.approx(region.axis_minor_length * 0.3, rel=0.01)
    assert row.solidity == pytest.approx(region.solidity, rel=0.02)


@pytest.mark.parametrize("below", [False, True])
def test_slices_past_the_cords_end_are_in_no_mean(below):
    affine = make_affine((0.5, 0.5, 5))
    usual = [(6.5, 4.1)] * 8
    # Areas as one goes up into the brainstem, or down to the tip of the conus; half axes in mm.
    beyond = [(3.4, 2.4), (2.5, 1.8), (1.4, 1.2)] if below else [(6.2, 5.2), (6.6, 5.8), (7.4, 6.6)]
    axes = [*beyond[::-1], *usual] if below else [*usual, *beyond]
    slices = [cylinder(affine, (60, 60, 1), each, supersample=4) for each in axes]
    cord = np.concatenate(slices, axis=2)
    table = measure_csa({"SC": cord, "GM": 0.2 * cord}, affine)
    flagged = sorted({row.slice for row in table.rows if "past_cord_end" in row.flags})
    assert flagged == ([0, 1, 2] if below else [8, 9, 10])
    assert [row.n_averaged for row in table.level_rows] == [8, 8]
    assert table.level_rows[0].mean["area_mm2"] == pytest.approx(np.pi * 6.5 * 4.1, rel=0.01)


@pytest.mark.parametrize(
    "axes",
    [
        # From the thoracic cord up into the enlargement, which is flat; and one round swelling.
        [(4.2, 3.1)] * 4 + [(4.8, 3.2), (5.4, 3.4), (6.0, 3.6), (6.3, 3.8), (6.4, 3.8)],
        [(6.3, 4.1)] * 4 + [(6.2, 5.3)] + [(6.3, 4.1)] * 4,
    ],
)
def test_the_enlargement_and_a_swelling_are_cord(axes):
    affine = make_affine((0.5, 0.5, 5))
    cord = np.concatenate([cylinder(affine, (60, 60, 1), each, supersample=4) for each in axes], axis=2)
    assert not any("past_cord_end" in row.flags for row in measure_csa({"SC": cord}, affine).rows)
