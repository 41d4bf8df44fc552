"""Network outputs that do not fit their entry are named, with the field to change."""

from dataclasses import replace

import numpy as np
import pytest

from sctseg7t.errors import ModelError
from sctseg7t.runtime.maps import network_maps
from sctseg7t.zoo.manifest import load_manifest

SPEC = load_manifest().model("cord_gm_sc")
IMAGES = np.zeros((2, 1, 16, 16), np.float32)


class Gives:
    def __init__(self, maps):
        self.maps = np.asarray(maps, np.float32)

    def run(self, images):
        return self.maps


def maps_like(value, shape=(2, 2, 16, 16)):
    return np.full(shape, value, np.float32)


@pytest.mark.parametrize(
    ("maps", "field"),
    [
        (maps_like(-7.5), "span -7.5 to -7.5, not 0 to 1; set activation to logits"),
        (maps_like(np.nan), "NaN or infinite values; check input.normalisation"),
        (maps_like(0.5, (2, 1, 16, 16)), "correct outputs.*channel"),
        (maps_like(0.5, (2, 2, 8, 8)), "correct input.size"),
        (maps_like(0.5, (2, 2)), "correct input.size"),
    ],
)
def test_outputs_that_are_no_maps_name_the_field_to_change(maps, field):
    with pytest.raises(ModelError, match=field) as caught:
        network_maps(IMAGES, Gives(maps), SPEC)
    assert SPEC.label in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_large_logits_are_certain_and_print_nothing():
    logits = replace(SPEC, activation="logits")
    for value, expected in ((-1e4, 0), (0, 0.5), (1e4, 1)):
        found = network_maps(IMAGES, Gives(maps_like(value)), logits)
        np.testing.assert_allclose(found, expected, atol=1e-6)
