"""Contrast of GM against WM: known steps and noise, and images that do not show what a mask claims."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sctseg7t.cord.measuring import measure_volume, warning_lines
from sctseg7t.measure.contrast import gm_contrast, grown, shrunk

AFFINE = np.diag([0.5, 0.5, 5.0, 1.0])
WM, STEP, NOISE = 200.0, 30.0, 10.0


def cord(slices=4, pixel_mm=0.5, drift=1):
    """Masks of a cord with two columns of GM, drifting from slice to slice."""
    count = int(24 / pixel_mm)
    i, j = np.indices((count, count), float) * pixel_mm - 12
    sc, gm = np.zeros((2, count, count, slices), bool)
    for k in range(slices):
        x, y = i - drift * k * 0.5, j + drift * k * 0.5
        sc[..., k] = (x / 6.5) ** 2 + (y / 4.3) ** 2 <= 1
        gm[..., k] = ((np.abs(x) - 2.2) / 1.1) ** 2 + (y / 2.6) ** 2 <= 1
    return sc, gm


def image(sc, gm, step=STEP, noise=NOISE, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(sc, WM, 500.0) + step * gm + rng.normal(0, noise, sc.shape)


@pytest.mark.parametrize("step", [STEP, -STEP])
def test_contrast_and_cnr_are_those_of_the_image(step):
    sc, gm = cord(slices=30, drift=0)
    found = gm_contrast(image(sc, gm, step), gm, sc, AFFINE)
    assert not any(one.low for one in found)
    assert np.mean([one.own.cnr for one in found]) == pytest.approx(step / NOISE, rel=0.05)
    assert np.mean([one.own.contrast for one in found]) == pytest.approx(step / min(WM, WM + step), rel=0.05)


def test_a_smooth_field_and_scale_change_neither():
    sc, gm = cord(drift=0)
    scan, tilt = image(sc, gm), 3 * np.arange(48.0)[:, None, None]
    for other, contrast in ((7 * scan, True), (scan + tilt, False), (scan - 5000, False)):
        for one, before in zip(gm_contrast(other, gm, sc, AFFINE), gm_contrast(scan, gm, sc, AFFINE), strict=True):
            assert one.own.cnr == pytest.approx(before.own.cnr, rel=0.02) and not one.low
            assert not contrast or one.own.contrast == pytest.approx(before.own.contrast)
    # Intensities below 0 have no ratio.
    assert all(one.own.contrast is None for one in gm_contrast(scan - 5000, gm, sc, AFFINE))


def test_what_is_not_in_the_image_is_flagged():
    sc, gm = cord(slices=8)
    blank = image(sc, gm, step=0)
    # A mask that follows the noise finds contrast on its own slice, and on no other.
    follows = np.stack([gaussian_filter(blank[..., k], 0.7) for k in range(8)], -1)
    follows = shrunk_stack(sc) & (follows > np.quantile(follows[shrunk_stack(sc)], 0.6))
    cases = {
        "blank": (blank, gm),
        "blank, a mask that follows the noise": (blank, follows),
        "binary": (sc.astype(float), gm),
        "label map": (1.0 * sc + gm, gm),
        "strong noise": (image(sc, gm, noise=150), gm),
        "GM beyond SC": (image(sc, gm), np.roll(gm, 20, axis=0)),
    }
    for name, (scan, mask) in cases.items():
        assert all(one.low for one in gm_contrast(scan, mask, sc, AFFINE)), name
    assert np.mean([abs(one.own.evidence) > 5 for one in gm_contrast(blank, follows, sc, AFFINE)]) > 0.5
    # One slice of which GM was painted away.
    scan = image(sc, gm)
    scan[..., 3] = blank[..., 3]
    assert [one.low for one in gm_contrast(scan, gm, sc, AFFINE)] == [k == 3 for k in range(8)]


def shrunk_stack(masks):
    return np.stack([shrunk(masks[..., k], (2, 2)) for k in range(masks.shape[2])], -1)


def test_one_slice_anisotropic_and_fine_pixels_and_no_gm():
    for affine, pixel in (
        (np.diag([0.5, 0.5, 3.0, 1.0]), 0.5),
        (np.diag([0.18, 0.18, 3.0, 1.0]), 0.18),
        (np.array([[0.5, 0.1, 0, 0], [0, 0.5, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]]), 0.5),
    ):
        sc, gm = cord(slices=1, pixel_mm=pixel)
        assert [one.low for one in gm_contrast(image(sc, gm), gm, sc, affine)] == [False]
    sc, gm = cord(slices=3)
    gm[..., 1] = False
    assert [one is None for one in gm_contrast(image(sc, gm), gm, sc, AFFINE)] == [False, True, False]
    assert gm_contrast(image(sc, gm), gm & False, sc & False, AFFINE) == [None] * 3
    # Every second row only, so larger pixels one way.
    rows = slice(None, None, 2)
    found = gm_contrast(image(sc, gm)[rows], gm[rows], sc[rows], np.diag([1, 0.5, 5, 1.0]))
    assert not found[0].low


def test_borders():
    mask = np.zeros((9, 9), bool)
    mask[3:6, 3:6] = True
    assert grown(mask, (1, 0)).sum() == 15 and grown(mask, (1, 1)).sum() == 21
    assert shrunk(mask, (1, 1)).sum() == 1 and shrunk(np.ones((3, 3), bool), (1, 1)).sum() == 1


def test_in_the_table_and_in_words():
    sc, gm = cord(slices=5)
    scan = image(sc, gm)
    scan[..., 1:3] = image(sc, gm, step=0)[..., 1:3]
    table = measure_volume({"SC": sc, "GM": gm, "WM": sc & ~gm}, AFFINE, image=scan)
    flagged = [(row.slice, row.tissue) for row in table.rows if "gm_contrast_low" in row.flags]
    assert flagged == [(k, tissue) for k in (1, 2) for tissue in ("GM", "WM")]
    for row in table.rows:
        assert (row.gm_wm_cnr is not None) == (row.gm_wm_contrast is not None) == (row.tissue == "GM")
    (line,) = [line for line in warning_lines(table) if "gm_contrast_low" in line]
    assert "on slice 1-2;" in line
    without = measure_volume({"SC": sc, "GM": gm}, AFFINE)
    assert all(row.gm_wm_cnr is None and not row.flags for row in without.rows)
