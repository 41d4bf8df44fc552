"""Which brain stands out among others, and why, in words."""

import numpy as np
import pytest
from qc_brain_helpers import ellipsoids

from sctseg7t.cohort.features import Features, lesion_features
from sctseg7t.cohort.outliers import MEASURES, Z_LIMIT, score_cohort
from sctseg7t.measure.lesions import measure_lesions

# As patients have them: from next to nothing to very much.
LOADS = (0.4, 1.3, 2.6, 5.0, 8.0, 11.0, 18.0, 31.0, 49.8)


def cohort(**odd):
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


def test_skewed_loads_are_no_outliers():
    assert all(not score.reasons and score.score < Z_LIMIT for score in score_cohort(cohort()))


@pytest.mark.parametrize(
    "measure, value, words",
    [
        ("load_ml", 140.0, "lesion load of 140.0 mL is not plausible"),
        ("lesion_pieces", 350, "the mask lies in 350 pieces"),
        ("lesions_at_edge", 2, "the image's edge cuts lesions (2)"),
        ("brain_ml", 1010.0, "brain volume 1010 mL is low"),
        ("lesions", 0, "number of lesions 0 is low"),
    ],
)
def test_every_measure_can_be_a_reason(measure, value, words):
    odd = score_cohort(cohort(**{measure: value}))[-1]
    assert [reason.measure for reason in odd.reasons] == [measure] and odd.reasons[0].text.startswith(words)


@pytest.mark.parametrize("volume", [500.0, 2600.0])
def test_brain_that_is_none_needs_no_cohort(volume):
    (score,) = score_cohort([Features("odd", {"brain_ml": volume})])
    assert score.reasons[0].text == f"brain of {volume:.0f} mL is not plausible"


def test_no_lesions_among_heavy_loads_is_low_and_the_median_is_told_in_ml():
    scans = [Features(f"s{n}", {"load_ml": load}) for n, load in enumerate((6, 9, 14, 20, 33, 40))]
    odd = score_cohort([*scans, Features("odd", {"load_ml": 0.0})])[-1]
    (reason,) = odd.reasons
    assert "lesion load 0.0 mL is low: the median of 7 scans is 14.0 mL" in reason.text and reason.z < -Z_LIMIT


def test_cords_and_brains_are_not_compared():
    cords = [Features(f"c{n}", {"sc_area_mm2": 75.0 + n}) for n in range(4)]
    scores = score_cohort([*cohort(), *cords])
    assert all("sc_area_mm2" not in score.z for score in scores)
    assert all(set(score.z) == {"load_ml", "lesions", "brain_ml"} for score in scores[: len(LOADS)])


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_scales_go_there_and_back(measure):
    assert measure.unscaled(measure.scaled(3.7)) == pytest.approx(3.7)


def test_features_are_those_of_the_lesions():
    mask = ellipsoids()
    mask[0:3, 50:53, 50] = True
    found = lesion_features(measure_lesions(mask, np.diag([1.7, 1.7, 1.7, 1])), name="b", brain_ml=1300.0)
    assert found.values["load_ml"] == pytest.approx(mask.sum() * 1.7**3 / 1000)
    assert (found.values["lesions"], found.values["lesion_pieces"], found.values["brain_ml"]) == (4, 5, 1300)
    assert found.values["lesions_at_edge"] == 1 and found.slices["lesions_at_edge"] == (50,)
    nothing = lesion_features(measure_lesions(np.zeros((5, 5, 5), bool), np.eye(4)))
    assert nothing.values == {"load_ml": 0, "lesions": 0, "lesion_pieces": 0, "lesions_at_edge": 0}
