"""Simulated whole necks: what the locator learns from."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.simulate.effect import EFFECTS
from sctseg7t.simulate.neck import NeckSimulator

pytestmark = pytest.mark.train

OPTIONAL = [name for name, entry in EFFECTS["neck"].items() if not entry.required]


@pytest.fixture(scope="module")
def necks(bank):
    return lambda **recipe: NeckSimulator(bank, recipe, size=96)


def test_seed_decides_every_bit(necks):
    first, again, other = (necks().batch(8, seed) for seed in (4, 4, 5))
    assert torch.equal(first.image, again.image) and torch.equal(first.target, again.target)
    assert not torch.equal(other.image, first.image)


def test_ranges(necks):
    batch = necks().batch(24, seed=1)
    assert batch.image.shape == batch.target.shape == (24, 1, 96, 96)
    assert torch.isfinite(batch.image).all()
    assert batch.image.min() >= -0.5 and batch.image.max() <= 2
    assert batch.target.min() >= 0 and batch.target.max() <= 1
    peaks = batch.target.amax((1, 2, 3))
    assert ((peaks == 0) | (peaks > 0.95)).all()
    assert 0 < (peaks == 0).sum() < 24


@pytest.mark.parametrize("names", [OPTIONAL[::2], OPTIONAL[1::2]], ids=["some", "others"])
def test_leaving_effects_out_changes_no_number_of_the_others(necks, names):
    usual, less = necks().scene(2, 3), necks(**dict.fromkeys(names, False)).scene(2, 3)
    assert less.drawn == {effect: kept for effect, kept in usual.drawn.items() if effect not in names}
    assert torch.isfinite(less.image).all()


def test_heat_lies_on_a_cord_in_view(necks):
    batch = necks(place={"empty_p": 0.0}, window={"p": 1.0}).batch(16, seed=2)
    for image, target in zip(batch.image[:, 0], batch.target[:, 0]):
        row, column = divmod(int(target.argmax()), 96)
        around = image[row - 1 : row + 2, column - 1 : column + 2]
        assert target.max() == 0 or (around != 0).any()


def test_slices_without_cord_have_no_heat(necks):
    assert (necks(place={"empty_p": 1.0}).batch(6, seed=2).target == 0).all()


def test_the_cord_is_darker_than_bright_fluid_and_lies_where_the_heat_is(necks):
    plain = dict.fromkeys(OPTIONAL, False)
    recipe = {"place": {"empty_p": 0.0}, "window": {"p": 0.0}}
    tissues = {"fluid": [2.5, 2.8], "iso_csf_p": 0, "dark_csf_p": 0}
    scene = necks(**plain, **recipe, tissues=tissues).scene(8, 3)
    for image, sc, target in zip(scene.image[:, 0], scene.sc[:, 0], scene.target[:, 0]):
        row, column = divmod(int(target.argmax()), 96)
        assert sc[row, column] > 0.9
        ring = torch.nn.functional.max_pool2d(sc[None, None], 5, 1, 2)[0, 0] - sc > 0.9
        assert image[sc > 0.9].mean() < image[ring].mean()


def test_half_of_the_empty_slices_show_a_brain(necks):
    plain = dict.fromkeys((name for name in OPTIONAL if name != "head"), False)
    recipe = {"place": {"empty_p": 1.0}, "head": {"brain_p": 1.0, "nothing_p": 0.0}}
    scene, bare = (necks(**{**plain, **more}).scene(6, 5) for more in (recipe, {**recipe, "head": False}))
    changed = (scene.image - bare.image).abs() > 1e-6
    assert (changed.float().mean((1, 2, 3)) > 0.2).all()
