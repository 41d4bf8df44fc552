"""Limits that follow the load: what a light and a heavy one are asked for, and what an entry must say."""

import brain_helpers
import numpy as np
import pytest

from sctseg7t.brain.by_load import lesions_within, limits, load_mL
from sctseg7t.errors import ModelError
from sctseg7t.inference.pipeline import open_segmenter
from sctseg7t.inference.segmenter import Options
from sctseg7t.zoo.spec import OutputSpec

BY_LOAD = {"mL": [1, 10], "threshold": [0.6, 0.2], "peak": [0.9, 0.2]}
OUTPUT = OutputSpec("LESION", 0, threshold=0.5, by_load=BY_LOAD)


def with_limits(folder, by_load):
    """A network of slices whose entry has limits by load."""
    output = {"name": "LESION", "channel": 0, "threshold": 0.5, "suffix": "_lesionseg", "meaning": "lesion"}
    return brain_helpers.view_network(folder, outputs=[output | {"by_load": by_load}])


@pytest.mark.parametrize(("load", "share"), [(0, 0), (0.5, 0), (1, 0), (10**0.5, 0.5), (10, 1), (200, 1)])
def test_limits_fall_with_the_logarithm_of_the_load(load, share):
    asked = limits(load, OUTPUT)
    assert asked.threshold == pytest.approx(0.6 - 0.4 * share) and asked.peak == pytest.approx(0.9 - 0.7 * share)


def test_a_lesion_needs_its_peak_and_keeps_all_that_connects_to_it():
    probability = np.zeros((8, 8, 8))
    probability[1:4, 1, 1] = 0.7, 0.95, 0.65
    probability[4, 2, 2] = 0.61  # by its corner
    probability[6, 6, 4:7] = 0.89  # no peak
    mask = lesions_within(probability, limits(0, OUTPUT))
    assert sorted(map(tuple, np.argwhere(mask))) == [(1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 2, 2)]
    assert not lesions_within(np.zeros((3, 3, 3)), limits(0, OUTPUT)).any()


def test_the_load_is_what_reaches_the_threshold():
    probability = np.full((10, 10, 10), 0.5)
    probability[0] = 0.49
    assert load_mL(probability, OUTPUT, 2.0) == pytest.approx(1.8)


def test_a_run_obeys_the_limits_and_records_them_and_a_user_overrules(tmp_path):
    """Asked for a peak that nothing reaches, a scan has no lesion; with a threshold of the user's it has them again."""
    image, _, affine = brain_helpers.flair()
    scan = brain_helpers.save(tmp_path / "flair.nii.gz", image, affine)
    strict = {"mL": [1], "threshold": [0.5], "peak": [1.0]}
    entry = with_limits(tmp_path, strict)
    found = open_segmenter(model=entry, device="cpu", threads=1).run(scan)
    assert not np.asarray(found.masks["LESION"].dataobj).any()
    assert found.details["brain"]["limits_of_load"] == {"threshold": 0.5, "peak": 1.0}
    free = open_segmenter(model=entry, device="cpu", options=Options(threshold=0.5), threads=1).run(scan)
    assert np.asarray(free.masks["LESION"].dataobj).any() and "limits_of_load" not in free.details["brain"]


@pytest.mark.parametrize("wrong", [{"mL": [10, 1]}, {"peak": [0.9]}, {"mL": [1, 1]}])
def test_limits_that_do_not_fit_together_are_refused(tmp_path, wrong):
    with pytest.raises(ModelError, match="by_load"):
        open_segmenter(model=with_limits(tmp_path, BY_LOAD | wrong), device="cpu", threads=1)
