"""Areas normalised by a factor, and by a linear model of predictors."""

import numpy as np
import pytest

from sctseg7t.errors import UsageError
from sctseg7t.measure.csa import measure_csa
from sctseg7t.measure.normalise import read_normalisation

MODEL = ",coeff,mean\nbrain-volume,2e-05,1100000\nsex,-15,0.5\ninter-BV_sex,1e-05,500000\n"


@pytest.fixture
def table():
    cord = np.zeros((20, 20, 4))
    cord[4:14, 5:15] = 1
    return measure_csa({"SC": cord, "GM": cord * 0.3}, np.diag([1.0, 1, 3, 1]))


def test_a_model_shifts_the_cord(table, tmp_path):
    model, people = tmp_path / "m.csv", tmp_path / "participants.tsv"
    model.write_text(MODEL)
    people.write_text(
        "participant_id\tsex\tbrain-volume\tsite\nsub-1\tM\t1000000\tA\nsub-2\tF\t1200000\tB\nsub-3\tF\tn/a\tA\n"
    )
    found = read_normalisation([str(people)], model)
    shift = {"sub-1": 2e-5 * 1e5 - 15 * -0.5 + 1e-5 * -5e5, "sub-2": 2e-5 * -1e5 - 15 * 0.5 + 1e-5 * 5e5}
    for who, expected in shift.items():
        own = found.apply(table, who)
        area = own.column("SC", "area_corrected_mm2")
        assert own.column("SC", "area_normalised_mm2") == pytest.approx(area + expected)
        assert np.isnan(own.column("GM", "area_normalised_mm2")).all()
        assert own.level_rows[0].mean["area_normalised_mm2"] == pytest.approx(area.mean() + expected)
    assert found.apply(table, "sub-3") is found.apply(table, "sub-9") is None
    constant = read_normalisation(["sex", "1", "brain-volume", "1e6"], model)
    assert constant.of("sub-9") == pytest.approx((1.0, shift["sub-1"]))


def test_a_factor_scales_every_tissue(table, tmp_path):
    (tmp_path / "f.csv").write_text("participant_id,factor\nsub-1,1.1\n")
    own = read_normalisation([str(tmp_path / "f.csv")]).apply(table, "sub-1")
    for tissue in ("SC", "GM"):
        expected = 1.1 * own.column(tissue, "area_corrected_mm2")
        assert own.column(tissue, "area_normalised_mm2") == pytest.approx(expected)


@pytest.mark.parametrize(
    "given, words",
    [
        (["sex"], "cannot be read"),
        (["sex", "0", "brain-volume"], "has no value"),
        (["sex", "x", "brain-volume", "1"], "'x' is no number"),
        (["sex", "1", "height", "2"], "needs brain-volume; there are height, sex"),
    ],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text(MODEL)
    with pytest.raises(UsageError, match=words):
        read_normalisation(given, "m.csv")
