"""Which scan stands out, and why, in words."""

import numpy as np
import pytest
from qc_brain_helpers import ellipsoids
from qc_helpers import SHAPE, SPACING_MM, phantom

from sctseg7t.cohort.features import Features, lesion_features, measure_features
from sctseg7t.cohort.outliers import MIN_COHORT, Z_LIMIT, Z_MOST, cohort_band, cohort_scales, score_cohort
from sctseg7t.image.grid import Grid
from sctseg7t.measure.lesions import measure_lesions

GRID = Grid(SHAPE, np.diag([*SPACING_MM, 1]))
USUAL = {
    "sc_area_mm2": 75.0,
    "gm_area_mm2": 12.0,
    "gm_sc_ratio": 0.16,
    "sc_jump": 0.04,
    "edge_mm": 20.0,
    "sc_pieces": 1,
}
# As patients have them: from next to nothing to very much.
LOADS = (0.4, 1.3, 2.6, 5.0, 8.0, 11.0, 18.0, 31.0, 49.8)


def cohort(**odd):
    """Alike scans, the last with values of its own."""
    scans = [Features(f"s{n}", {**USUAL, "sc_area_mm2": 75.0 + (n % 3) * 4}) for n in range(9)]
    return [*scans[:-1], Features("odd", {**scans[-1].values, **odd})]


def brains(**odd):
    """The same of brains, with loads as they are."""
    scans = [
        Features(
            f"s{n}",
            {
                "load_ml": load,
                "lesions": 8 + 6 * n,
                "lesion_pieces": 9 + 6 * n,
                "lesions_at_edge": 0,
                "brain_ml": 1350 + 40 * (n % 5),
            },
        )
        for n, load in enumerate(LOADS)
    ]
    return [*scans, Features("odd", {**scans[4].values, **odd})]


def measured(**how):
    _, sc, gm = phantom(**how)
    return measure_features({"SC": sc, "GM": gm}, GRID)


# ---------------------------------------------------------------- scores


def test_robust_z_is_that_of_median_and_mad():
    values = [70.0, 72.0, 75.0, 80.0, 90.0, 200.0]
    scans = [Features("", {"sc_area_mm2": value}) for value in values] + [Features("")]
    assert cohort_scales(scans)["sc_area_mm2"] == (77.5, pytest.approx(1.4826 * 6.5), 6)
    # Five scans are needed, and a healthy cohort's own variation is no outlier.
    assert cohort_scales(scans[: MIN_COHORT - 1])["sc_area_mm2"] is None
    assert cohort_scales([scans[0]] * MIN_COHORT)["sc_area_mm2"][1] == 3.0


def test_outlier_says_why():
    scores = score_cohort(cohort(sc_area_mm2=40.0))
    (reason,) = scores[-1].reasons
    z = scores[-1].z["sc_area_mm2"]
    assert reason.measure == "sc_area_mm2" and z < -Z_LIMIT
    assert "SC area 40.0 mm² is low" in reason.text and "median of 9 scans" in reason.text
    assert f"robust z {z:+.1f}" in reason.text
    assert scores[-1].score == max(s.score for s in scores)
    assert all(not s.reasons and s.score < Z_LIMIT for s in scores[:-1])


@pytest.mark.parametrize(
    "scans, measure, value, words",
    [
        (cohort, "gm_area_mm2", 22.0, "GM area 22.0 mm² is high"),
        (cohort, "gm_sc_ratio", 0.31, "GM/SC ratio 0.310 is high"),
        (cohort, "sc_jump", 0.22, "slice-to-slice jump of SC 22% is high"),
        (cohort, "sc_asymmetry", 0.3, "SC is asymmetric"),
        (cohort, "gm_asymmetry", 0.7, "GM is asymmetric"),
        (cohort, "sc_pieces", 3, "SC lies in 3 pieces"),
        (cohort, "gm_pieces", 6, "GM lies in 6 pieces"),
        (cohort, "edge_mm", 0.4, "SC is 0.4 mm from the image's edge"),
        (cohort, "window_edge", 2, "SC touches the window's edge"),
        (cohort, "unsure", 1, "the cord's place is unsure"),
        (cohort, "sc_empty", 2, "no SC"),
        (cohort, "gm_empty", 1, "no GM although there is SC"),
        (brains, "load_ml", 140.0, "lesion load of 140.0 mL is not plausible"),
        (brains, "lesion_pieces", 350, "the mask lies in 350 pieces"),
        (brains, "lesions_at_edge", 2, "the image's edge cuts lesions (2)"),
        (brains, "brain_ml", 1010.0, "brain volume 1010 mL is low"),
        (brains, "lesions", 0, "number of lesions 0 is low"),
    ],
)
def test_every_measure_can_be_a_reason(scans, measure, value, words):
    odd = score_cohort(scans(**{measure: value}))[-1]
    assert [reason.measure for reason in odd.reasons] == [measure]
    assert odd.reasons[0].text.startswith(words)


def test_good_sides_and_skewed_loads_are_no_reason():
    scans = [Features(f"s{n}", {"gm_asymmetry": 0.2}) for n in range(8)] + [Features("odd", {"gm_asymmetry": 0.0})]
    assert not any(score.reasons for score in (*score_cohort(scans), *score_cohort(brains())))


def test_small_cohort_is_checked_without_comparison():
    odd = Features("a", {**USUAL, "sc_area_mm2": 300.0}, {"sc_area_mm2": (0, 1, 5)})
    scores = score_cohort([odd, Features("b", USUAL), Features("c", USUAL)])
    assert scores[0].reasons[0].text == "SC area of 300.0 mm² is not plausible, on slices 0-1, 5"
    assert scores[0].score > 0 and all(s.z == {} for s in scores) and scores[1].score == 0.0


def test_one_measure_gives_one_reason_and_no_measure_hides_all_others():
    odd = score_cohort(cohort(sc_area_mm2=400.0, gm_sc_ratio=0.03))[-1]
    assert [reason.measure for reason in odd.reasons] == ["sc_area_mm2", "gm_sc_ratio"]
    assert odd.reasons[0].severity == Z_MOST
    assert odd.score == pytest.approx(Z_MOST + 0.1 * odd.reasons[1].severity, abs=1e-3)


def test_no_lesions_among_heavy_loads_is_low_and_the_median_is_told_in_ml():
    scans = [Features(f"s{n}", {"load_ml": load}) for n, load in enumerate((6, 9, 14, 20, 33, 40))]
    odd = score_cohort([*scans, Features("odd", {"load_ml": 0.0})])[-1]
    (reason,) = odd.reasons
    assert "lesion load 0.0 mL is low: the median of 7 scans is 14.0 mL" in reason.text and odd.z["load_ml"] < -Z_LIMIT


def test_cords_and_brains_are_not_compared():
    cords = [Features(f"c{n}", {"sc_area_mm2": 75.0 + n}) for n in range(4)]
    scores = score_cohort([*brains(), *cords])
    assert all("sc_area_mm2" not in score.z for score in scores)
    assert all(set(score.z) == {"load_ml", "lesions", "brain_ml"} for score in scores[: len(LOADS)])


# ---------------------------------------------------------------- measures


def test_areas_are_those_of_the_masks():
    _, sc, gm = phantom()
    found = measured().values
    pixel = SPACING_MM[0] * SPACING_MM[1]
    assert found["sc_area_mm2"] == pytest.approx(sc[:, :, 0].sum() * pixel)
    assert found["gm_sc_ratio"] == pytest.approx(gm[:, :, 0].sum() / sc[:, :, 0].sum())
    assert found["sc_jump"] == 0 and found["sc_pieces"] == 1 and found["sc_empty"] == found["gm_empty"] == 0
    sheared = GRID.affine.copy()
    sheared[1, 0] = sheared[0, 0]
    half = measure_features({"SC": sc * 0.5}, Grid(GRID.shape, sheared)).values
    assert half["sc_area_mm2"] == pytest.approx(0.5 * found["sc_area_mm2"])


def test_asymmetry_grows_with_what_one_side_lacks():
    _, sc, _ = phantom()
    half = sc.copy()
    half[26:, :, :] = False
    whole, cut = (measure_features({"SC": m, "GM": m}, GRID).values for m in (sc, half))
    assert whole["sc_asymmetry"] < 0.06
    gm = measure_features({"SC": sc, "GM": half}, GRID).values["gm_asymmetry"]
    assert gm > 0.4 and cut["sc_asymmetry"] < gm
    assert measured(shift=(6, -5)).values["gm_asymmetry"] == pytest.approx(measured().values["gm_asymmetry"])


def test_jump_empty_and_pieces_name_their_slices():
    _, sc, gm = phantom()
    sc[..., 2] = False
    gm[..., 2:4] = False
    sc[1:3, 1:3, 5] = True
    sc[16:20, :, 1] = False
    found = measure_features({"SC": sc, "GM": gm & sc}, GRID)
    assert found.values["sc_empty"] == 1 and found.slices["sc_empty"] == (2,)
    assert found.values["gm_empty"] == 1 and found.slices["gm_empty"] == (3,)
    assert found.values["sc_pieces"] == 2 and found.slices["sc_pieces"] == (5,)
    assert found.slices["sc_jump"] == (1,) and found.values["sc_jump"] > 0.05


def test_distance_to_the_edge_is_the_least_of_all_sides():
    _, sc, _ = phantom(shift=(0, 12))
    found = measure_features({"SC": sc}, GRID)
    last = np.flatnonzero(sc.any(axis=(0, 2)))[-1]
    assert found.values["edge_mm"] == pytest.approx((sc.shape[1] - 1 - last) * SPACING_MM[1])


def test_truncated_slices_enter_no_area():
    _, sc, _ = phantom()
    sc[20:, :, :3] = False
    flags = [["touches_window_edge"]] * 3 + [[]] * 3
    assert measure_features({"SC": sc}, GRID, flags=flags).values["sc_area_mm2"] == pytest.approx(
        sc[..., 5].sum() * 0.3
    )
    assert measure_features({"SC": sc}, GRID, flags=flags).values["window_edge"] == 3


def test_empty_masks_have_no_area():
    found = measure_features(
        {"SC": np.zeros((5, 5, 3), bool), "GM": np.zeros((5, 5, 3), bool)}, Grid((5, 5, 3), np.eye(4))
    ).values
    assert found["sc_empty"] == 3 and not {"sc_area_mm2", "gm_sc_ratio", "edge_mm"} & set(found)


def test_features_are_those_of_the_lesions():
    mask = ellipsoids()
    mask[0:3, 50:53, 50] = True
    found = lesion_features(measure_lesions(mask, np.diag([1.7, 1.7, 1.7, 1])), name="b", brain_ml=1300.0)
    assert found.values["load_ml"] == pytest.approx(mask.sum() * 1.7**3 / 1000)
    assert (found.values["lesions"], found.values["lesion_pieces"], found.values["brain_ml"]) == (4, 5, 1300)
    assert found.values["lesions_at_edge"] == 1 and found.slices["lesions_at_edge"] == (50,)
    nothing = lesion_features(measure_lesions(np.zeros((5, 5, 5), bool), np.eye(4)))
    assert nothing.values == {"load_ml": 0, "lesions": 0, "lesion_pieces": 0, "lesions_at_edge": 0}


# ---------------------------------------------------------------- band


def test_band_matches_slices_by_their_place():
    curves = [np.linspace(60, 80, n) + shift for n, shift in zip((5, 9, 13, 6, 20), (-2, -1, 0, 1, 2))]
    band = cohort_band(curves)
    assert band["median"] == pytest.approx(np.linspace(60, 80, 21), abs=0.02)
    assert np.array(band["low"]) == pytest.approx(np.array(band["median"]) - 1.8, abs=0.02)
    assert np.array(band["high"]) == pytest.approx(np.array(band["median"]) + 1.8, abs=0.02)


def test_band_needs_five_scans_everywhere():
    assert cohort_band([np.ones(5)] * 4) is None
    cut = np.array([np.nan, np.nan, np.nan, 1.0, 1.0])
    band = cohort_band([np.ones(5)] * 4 + [cut, np.full(4, np.nan)])
    assert band["median"][0] is None and band["median"][-1] == 1.0
