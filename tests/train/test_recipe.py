"""Recipes: shipped ones are whole, a base is merged, a wrong one is told in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from train_helpers import RECIPE

from sctseg7t.errors import InputError
from sctseg7t.train.recipe import RECIPES, read_recipe
from sctseg7t.zoo.manifest import load_manifest


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.json")))
def test_shipped_recipes_are_whole(name):
    recipe = read_recipe(name)
    if recipe.task == "scans":
        # What they train, and from where, is said when they are used.
        assert not recipe.entry and not recipe.labels
    else:
        # Networks of drawn images and of pairs do not ship.
        shipped = recipe.task not in ("patatoids", "brain_pair")
        assert name.startswith(recipe.model) and bool(load_manifest().versions(recipe.model)) == shipped
    assert recipe.validate_every <= recipe.steps and recipe.validation_images >= recipe.batch


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not a readable JSON"),
        ("[]", "not a recipe"),
        ('{"model": "a", "task": "cord"}', "'anatomy'"),
        ('{"model": "a", "task": "cord", "anatomy": ["PAM50"], "stepz": 1}', "'stepz'"),
        ('{"model": "a", "task": "cord", "anatomy": ["PAM50"], "steps": "many"}', "steps: 'many'"),
        ('{"model": "a", "task": "cord", "anatomy": ["PAM50"], "learning_rate": 0}', "learning_rate: 0"),
        ('{"base": 3}', "no such recipe"),
        ('{"base": "mine.json"}', "leads back"),
        (
            '{"base": "cord"}',
            "no such recipe.*cord_gm_sc, .*cord_gm_sc_base, .*cord_gm_sc_wide, cord_locator",
        ),
    ],
)
def test_broken_recipe_is_an_input_error(tmp_path, text, word):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(InputError, match=word) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_base_is_merged_and_null_removes(tmp_path):
    base = {"model": "a", "task": "cord", "anatomy": ["PAM50", "masks"], "steps": 9, "network": {"fold": 2}}
    base["simulation"] = {"slab": {"inset_mm": 0.1, "thickness": [1, 2]}, "blur": False}
    (tmp_path / "first.json").write_text(json.dumps(base))
    (tmp_path / "second.json").write_text('{"base": "first.json", "steps": null, "seed": 5}')
    own = {"base": "second.json", "model": "b", "anatomy": ["PAM50"]}
    own["simulation"] = {"slab": {"thickness": [3]}, "blur": {"sd": 1}, "noise": {"snr": 9}}
    (tmp_path / "third.json").write_text(json.dumps(own))
    recipe = read_recipe(tmp_path / "third.json")
    assert (recipe.model, recipe.task, recipe.anatomy, recipe.seed) == ("b", "cord", ["PAM50"], 5)
    assert recipe.steps == 3000 and recipe.network == {"fold": 2}
    slab = {"inset_mm": 0.1, "thickness": [3]}
    assert recipe.simulation == {"slab": slab, "blur": {"sd": 1}, "noise": {"snr": 9}}


def test_learning_rate_rises_holds_and_falls_to_nearly_zero():
    recipe = replace(RECIPE, steps=100, warmup=10, decay=0.4, learning_rate=1.0)
    rate = np.array([recipe.learning_rate_at(step) for step in range(100)])
    np.testing.assert_allclose(rate[:10], np.arange(1, 11) / 10)
    assert (rate[10:61] == 1).all()
    assert (np.diff(rate[60:]) < 0).all() and rate[-1] == pytest.approx(1 / 40)


def test_no_two_runs_share_images():
    """Models, seeds and starting weights each give other seeds, far apart; the same run has the same."""
    recipes = [replace(read_recipe("cord_gm_sc"), **own) for own in ({}, {"seed": 99}, {"model": "mine"})]
    first = [recipe.stream(start) for recipe in recipes for start in ("", "abc")]
    assert len({number >> 16 for number in first}) == len(first)
    assert recipes[0].stream("abc") == first[1] and all(number % 2**16 == 0 for number in first)
