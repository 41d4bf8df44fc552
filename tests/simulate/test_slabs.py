"""Slices of stored brains: what a draw cuts, thick slices, real scans, replay."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sctseg7t.brain.views import OFFSETS_MM  # noqa: E402
from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.simulate.brain import bank, slabs  # noqa: E402
from sctseg7t.simulate.brain.bank import Crowd, StoredBrain  # noqa: E402
from sctseg7t.simulate.brain.people import label_maps  # noqa: E402
from sctseg7t.simulate.brain.slabs import SlabSimulator, make_slab_simulator  # noqa: E402
from sctseg7t.train.recipe import RECIPES, read_recipe  # noqa: E402
from sctseg7t.train.task import task_of  # noqa: E402

MIDDLE = OFFSETS_MM.index(0.0)
# Nothing but the cut: the brain stays where it is.
PLAIN = {
    "place": {"degrees": 0, "zoom_sd": 0, "aspect_sd": 0, "shift_mm": 0, "bend_mm": [0, 0], "flip_p": 0},
    "level": {"sd": 0},
} | {name: False for name in ("fainter", "sharpness", "gamma", "bias", "noise")}
SIZE = {"size": [64, 80]}


def brain(spacing=(1, 1, 1), value=None):
    """A box of tissue with a bright cube in it."""
    shape = tuple(int(round(n / s)) for n, s in zip((50, 60, 48), spacing))
    image = np.ones(shape, np.float16) if value is None else value
    label = np.zeros(shape, np.uint8)
    cube = tuple(slice(int(20 / s), int(20 / s) + max(int(9 / s), 1)) for s in spacing)
    label[cube] = 1
    return StoredBrain(image, label, np.eye(4)[:3], np.argwhere(label), np.array(spacing, float))


def test_batches_have_the_shape_of_the_network_and_come_again():
    simulator = SlabSimulator([brain()], [brain()], SIZE)
    one, again, other = (simulator.batch(3, seed) for seed in (5, 5, 6))
    assert one.image.shape == (3, len(OFFSETS_MM), 64, 80) and one.target.shape == (3, 1, 64, 80)
    assert torch.equal(one.image, again.image) and torch.equal(one.target, again.target)
    assert not torch.equal(one.image, other.image)


def test_a_thick_slice_is_the_mean_of_what_it_holds():
    """In a stack that brightens by 0.01 a mm, every channel has the mean of a slab around its height."""
    value = np.broadcast_to(0.5 + 0.01 * np.arange(48, dtype=np.float16), (50, 60, 48))
    simulator = SlabSimulator(
        [brain(value=value)],
        [],
        {**SIZE, **PLAIN, "lesion_share": 1.0, "cut": {"axial_p": 1, "thick_p": 1, "thickness_mm": [5, 5.01]}},
    )
    scene = simulator.scene(3)
    height = 0.5 + 0.01 * scene.centre[2]
    level = scene.channels[MIDDLE][32, 40] / 3 + 1
    assert level == pytest.approx(height, abs=0.01)
    assert scene.step_mm >= 5 and scene.weights.shape == (len(OFFSETS_MM), len(scene.image))


def test_a_thick_slice_is_a_lesion_where_enough_of_it_is():
    """A slice of 8 mm that a lesion fills by a third is none; from 40 % on it is."""
    one = brain()
    cut = {"axial_p": 1, "thick_p": 1, "thickness_mm": [8, 8.01], "gap": [1, 1.001]}
    found = {}
    for k, z in enumerate((16, 24, 31)):
        label = one.label
        lesion = StoredBrain(one.image, label, one.to_template, np.array([[24, 24, z]]), one.spacing_mm)
        simulator = SlabSimulator([lesion], [], {**SIZE, **PLAIN, "lesion_share": 1.0, "cut": cut})
        found[z] = bool(simulator.scene(k).label.any())
    assert found == {16: False, 24: True, 31: False}


@pytest.mark.parametrize("spacing", [(1, 1, 6), (6, 1, 1)])
def test_a_real_scan_of_thick_slices_is_cut_in_those(spacing):
    real = brain(spacing)
    simulator = SlabSimulator([brain()], [brain()], {**SIZE, **PLAIN, "lesion_share": 1.0, "real_share": 1.0}, [real])
    for seed in range(4):
        scene = simulator.scene(seed)
        assert scene.brain is real and scene.step_mm == 6 and scene.label.any()
    assert simulator.scene(1, held_out=True).brain is not real


def test_lesions_are_where_the_image_shows_them():
    """Moved, turned and bent, the label stays with the bright cube."""
    base = brain()
    value = (base.label * 1.0 + 1).astype(np.float16)
    simulator = SlabSimulator([brain(value=value)], [], {**SIZE, "lesion_share": 1.0, "noise": False, "gamma": False})
    inside = outside = 0.0
    for seed in range(6):
        scene = simulator.scene(seed)
        middle, label = scene.channels[MIDDLE], scene.label > 0
        inside += float(middle[label].mean()) / 6
        outside += float(middle[~label & (middle > -1)].mean()) / 6
    assert inside > outside + 1


ALONE = {**SIZE, **PLAIN, "lesion_share": 0.0}


def test_spots_are_lesions_of_thin_slices():
    """They brighten the tissue where the label says, and nothing else of the slice; a thick slice has none."""
    thin, thick = ({"cut": {"thick_p": p, "thickness_mm": [6, 7]}} for p in (0, 1))
    found = 0
    for seed in range(6):
        with_spots, without = (
            SlabSimulator([brain()], [], {**ALONE, **thin, "spots": {"probability": p}}).scene(seed) for p in (1, 0)
        )
        new = (with_spots.label > 0) & (without.label == 0)
        gain = (with_spots.image - without.image)[int(np.flatnonzero(with_spots.depth_mm == 0)[0])]
        assert (gain[new] > 0.02).all() and gain.min() >= 0 and (gain[~new] > 0.02).sum() <= 2 * new.sum() + 30
        found += int(new.any())
        one, other = (
            SlabSimulator([brain()], [], {**ALONE, **thick, "spots": {"probability": p}}).scene(seed) for p in (1, 0)
        )
        assert torch.equal(one.image, other.image) and torch.equal(one.label, other.label)
    assert found >= 3


def test_ribbons_are_no_lesions_and_run_through_neighbouring_slices():
    settings = {**ALONE, "cut": {"thick_p": 0}, "ribbons": {"probability": 1, "level": [1.3, 1.31]}}
    scene = next(
        s for seed in range(40) if ((s := SlabSimulator([brain()], [], settings).scene(seed)).image > 1.15).sum() > 300
    )
    bright = scene.image > 1.15
    nearest = [int(np.flatnonzero(scene.depth_mm == at)[0]) for at in (0, 1)]
    here, beside = (bright[k] for k in nearest)
    assert (here & beside).sum() > 0.4 * here.sum() and not (here & (scene.label > 0)).any()


def test_the_last_brains_are_those_of_people():
    crowd = Crowd(["first", "second"], each=2)
    assert [crowd.of(k, 6) for k in range(6)] == [None, None, "first", "first", "second", "second"]
    assert Crowd().of(0, 3) is None


def test_what_a_recipe_lacks_is_said(tmp_path):
    with pytest.raises(InputError, match="give their folder"):
        label_maps(None, ["01"])
    with pytest.raises(InputError, match="training_seg_01"):
        label_maps(tmp_path, ["01"])
    with pytest.raises(InputError, match="unknown name 'nothing'"):
        make_slab_simulator({"nothing": 1}, {}, tmp_path, None)


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("brain_lesion_views*.json"))])
def test_shipped_recipes_build_network_and_simulator(name, monkeypatch):
    monkeypatch.setattr(bank, "fill", lambda *args, **settings: [brain()] * 10)
    monkeypatch.setattr(bank, "real_brains", lambda names, *args, **settings: [brain((1, 1, 6))] * len(names))
    monkeypatch.setattr(slabs, "label_maps", lambda folder, names: [])
    recipe = read_recipe(name)
    batch = task_of(recipe).simulator(recipe, {}, ".", None).batch(1, 1)
    assert task_of(recipe).network(recipe).eval()(batch.image).shape == batch.target.shape


def test_no_patient_is_trained_on_by_the_network_that_is_judged_on_them():
    """The three networks leave out every patient once."""
    everyone = {*read_recipe("brain_lesion_views").simulation["real"]}
    seen = [{*read_recipe(f"brain_lesion_views_without{k}").simulation["real"]} for k in (1, 2, 3)]
    left = [everyone - some for some in seen]
    assert set.union(*left) == everyone and sum(map(len, left)) == len(everyone)
