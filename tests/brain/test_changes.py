"""What is told of two images that are aligned already: made-up lesions on one grid."""

import numpy as np
import pytest

from sctseg7t.brain.changes import CODES, Rule, find_changes
from sctseg7t.brain.pair import Pair, match_lesions
from sctseg7t.brain.rigid import Halfway
from sctseg7t.errors import ModelError
from sctseg7t.image.grid import Grid

SHAPE = (64, 64, 40)
CENTRES = ((16, 16, 20), (46, 18, 20), (18, 46, 20), (46, 46, 20))


def ball(centre, radius):
    """Part of each voxel in a ball, with a border as wide as a voxel."""
    away = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(np.indices(SHAPE), centre)))
    return np.clip(radius - away + 0.5, 0, 1)


def scan(radii, level=1.5, tissue=1.0, noise=0.03, seed=0):
    """Tissue with a lesion of each radius; 0 leaves it out."""
    opacity = np.max([ball(centre, radius) if radius else np.zeros(SHAPE) for centre, radius in zip(CENTRES, radii)], 0)
    image = tissue + (level - tissue) * opacity
    return (image + np.random.default_rng(seed).normal(0, noise, SHAPE)).astype(np.float32)


def found(now, before, rule=Rule()):
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    still = Halfway(np.eye(4), np.eye(4), 0.0, 0.0, 0.0)
    pair = Pair(Grid(SHAPE, np.eye(4)), now, before, inside, inside, still, 1.0, 1.0, 0.042)
    maps = [1 / (1 + np.exp(-(image - 1.25) / 0.05)) for image in (now, before)]
    return find_changes(pair, *maps, 0.5, rule)


def statuses(changes):
    """Status of the lesion at each centre."""
    return [
        changes.table[changes.lesions[centre] - 1].status if changes.lesions[centre] else None for centre in CENTRES
    ]


def test_every_fate_is_told():
    radius = 3.0
    changes = found(scan((radius, radius * 1.5 ** (1 / 3), radius, 0)), scan((radius, radius, 0, radius), seed=1))
    assert statuses(changes) == ["stable", "grown", "new", "vanished"]
    codes = changes.codes()
    assert codes[CENTRES[2]] == CODES["new"] and codes[CENTRES[3]] == CODES["vanished"]
    assert changes.new[CENTRES[2]] and changes.gone[CENTRES[3]] and not changes.new[CENTRES[0]]
    grown = next(row for row in changes.table if row.status == "grown")
    assert grown.growth == pytest.approx(0.5, abs=0.15)
    assert grown.volume_now_mm3 - grown.volume_before_mm3 == pytest.approx(grown.grown_mm3)


@pytest.mark.parametrize("factor, status", [(1.5, "grown"), (1.0, "stable"), (1 / 1.5, "shrunk")])
def test_growth_by_half_is_told_from_none(factor, status):
    """Lesions from 50 mm3 on: nine of ten, in every size."""
    right = total = 0
    for seed, radius in enumerate((2.3, 2.6, 3.0, 3.6, 4.5)):
        sizes = (radius,) * 4
        changes = found(scan([r * factor ** (1 / 3) for r in sizes], seed=seed), scan(sizes, seed=seed + 50))
        right += statuses(changes).count(status)
        total += 4
    assert right >= 0.9 * total


def test_nothing_is_new_where_another_scanner_makes_all_lesions_brighter():
    before, now = scan((3, 4, 3, 4), level=1.4), scan((3, 4, 3, 4), level=1.6, seed=1)
    changes = found(now, before)
    assert not changes.new.any() and not changes.gone.any()
    assert set(statuses(changes)) == {"stable"}
    inside = now > 1.25
    grid = np.ones(SHAPE, bool)
    pair = Pair(Grid(SHAPE, np.eye(4)), now, before, grid, grid, Halfway(np.eye(4), np.eye(4), 0, 0, 0), 1, 1, 0.04)
    matched = match_lesions(pair, inside & (before > 1.25))
    assert abs(np.median((matched.now - matched.before)[inside])) < abs(np.median((now - before)[inside])) / 2


def test_a_threshold_wins_or_loses_no_lesion():
    """A lesion just above the threshold at one time and just below it at the other is the same lesion."""
    changes = found(scan((3, 0, 0, 0), level=1.27), scan((3, 0, 0, 0), level=1.24, seed=1))
    assert np.array_equal(changes.now, changes.before)


def test_a_rule_is_read_by_name():
    assert Rule.read({"peak": 0.2}, "net").peak == 0.2
    for wrong in ({"peek": 0.2}, {"peak": "high"}, {"peak": 0}):
        with pytest.raises(ModelError, match="net: comparison"):
            Rule.read(wrong, "net")
