"""Whole heads from label maps: reading them, what each effect does, and that draws can be replayed."""

import io

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.simulate.brain import heads  # noqa: E402
from sctseg7t.simulate.effect import EFFECTS  # noqa: E402

OPTIONAL = [name for name, entry in EFFECTS["head"].items() if not entry.required and name != "motion"]
OFF: dict = {name: False for name in EFFECTS["head"] if not EFFECTS["head"][name].required}
SETTINGS = {"size": [32, 40, 32], "spacing_mm": 6.0}


def balls(size=180):
    """Label map of a ball: white matter in cortex in fluid, bone, fat and skin; a ventricle, and a neck."""
    at = np.indices((size,) * 3) - (size - 1) / 2
    away = np.sqrt((at**2).sum(0))
    labels = np.select([away < b for b in (10, 50, 56, 60, 66, 76, 80)], [4, 2, 3, 24, 515, 507, 511], 0)
    neck = (np.hypot(at[0], at[1]) < 40) & (at[2] < -70)
    return np.where(neck & (labels == 0), 507, labels).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("heads")
    for k in range(2):
        image = nib.Nifti1Image(balls(180 + 4 * k), np.diag([-1, 1, 1, 1]))
        nib.save(image, path / f"person_{k}.nii.gz")
    return path


@pytest.fixture(scope="module")
def people(folder):
    return [heads.read_head(path) for path in sorted(folder.glob("*"))]


def simulator(people, **settings):
    return heads.HeadSimulator(people[:1], people[1:], {**SETTINGS, **OFF, **settings})


def test_a_brain_is_all_within_the_cortex(people):
    for head in people:
        brain, body = head.maps.numpy()
        assert brain.sum() * 8 == pytest.approx(4 / 3 * np.pi * 56**3, rel=0.03)
        assert brain[tuple(np.rint(head.centre).astype(int))] == 1
        assert (body >= brain - 1e-6).all() and body.sum() > 2 * brain.sum()
        # What the label map calls soft tissue has parts.
        names = {heads.CLASSES[k] for k in np.unique(head.first)}
        assert {"muscle", "fat", "bone", "skin", "white", "cortex", "ventricles"} <= names


def test_levels_are_painted_by_volume(people):
    level = np.zeros(len(heads.CLASSES), np.float32)
    level[heads.CLASSES.index("white")] = 3
    painted = people[0].painted(level)
    assert float(painted.sum()) / 3 * 8 == pytest.approx(4 / 3 * np.pi * (50**3 - 10**3), rel=0.03)
    assert float(painted.max()) == 3


def test_other_maps_are_refused(tmp_path):
    for labels, spacing, said in ((balls() % 500, 1, "no label map"), (balls(), 2, "at 1 mm")):
        nib.save(nib.Nifti1Image(labels, np.diag([spacing] * 3 + [1])), tmp_path / "x.nii.gz")
        with pytest.raises(InputError, match=said):
            heads.read_head(tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="two people or more"):
        heads.make_head_simulator({}, {}, io.StringIO())


def test_a_person_is_held_out_and_a_batch_is_replayable(folder):
    made = heads.make_head_simulator({**SETTINGS, "held_out": 1}, {"heads": folder}, io.StringIO())
    assert (len(made.heads), len(made.held_out)) == (1, 1)
    one, two, other = made.batch(2, 3), made.batch(2, 3), made.batch(2, 4)
    for name in ("image", "target", "inside"):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert getattr(one, name).shape == (2, 1, 32, 40, 32)
    assert not torch.equal(one.image, other.image)
    assert made.scene(5, held_out=True).head is made.held_out[0]
    assert float(one.image.min()) >= 0 and float(one.image.max()) < 1


@pytest.mark.parametrize("name", OPTIONAL)
def test_every_effect_changes_its_image(people, name):
    settings = {"probability": 1.0} if "probability" in EFFECTS["head"][name].defaults else {}
    settings |= {"side_p": 1.0} if name == "window" else {}
    plain, changed = simulator(people).scene(3), simulator(people, **{name: settings}).scene(3)
    assert not torch.allclose(plain.image, changed.image)
    if name not in ("warp", "things"):
        torch.testing.assert_close(plain.brain, changed.brain)


def test_what_hides_the_brain_tells_the_target(people):
    whole = simulator(people).batch(1, 3).target.sum()
    assert simulator(people, levels={"absent_p": 1.0}).batch(1, 3).target.sum() == 0
    assert simulator(people, things={"probability": 1.0}).batch(1, 3).target.sum() == 0
    cut = simulator(people, window={"probability": 1.0, "side_p": 1.0, "deepest": 0.45}).batch(1, 3)
    assert 0 < cut.target.sum() < whole and (cut.image[cut.inside == 0] == 0).all()
    bare = simulator(people, stripped={"probability": 1.0}).scene(3)
    assert bare.image[bare.brain < 0.01].abs().sum() < 0.2 * bare.image.sum()


def test_recipe_with_an_unknown_effect_is_refused(people):
    with pytest.raises(InputError, match="unknown effect 'hair'"):
        simulator(people, hair={})
