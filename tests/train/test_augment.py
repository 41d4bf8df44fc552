"""Augmentation of items by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.train.augment import fields  # noqa: E402
from sctseg7t.train.augment.realistic import Realistic, RealisticVolumes  # noqa: E402
from sctseg7t.train.augment.sheet import contact_sheet  # noqa: E402
from sctseg7t.train.augment.warping import grid, warp  # noqa: E402
from sctseg7t.train.scans.augmentation import ADDED, STUDY, augmentation, parts_of  # noqa: E402
from sctseg7t.train.scans.items import Item  # noqa: E402
from sctseg7t.train.scans.labelled import LabelledScan  # noqa: E402
from sctseg7t.train.scans.patches import BrainScan, PatchItems  # noqa: E402
from sctseg7t.zoo.manifest import load_manifest  # noqa: E402

pytestmark = pytest.mark.train
SIZE, SPACING = 96, 0.17578125


class Windows:
    """Items made of ellipses: cords of other shapes and brightness, two slices a person."""

    labels, size = ("SC", "GM"), (SIZE, SIZE)

    def __init__(self, people=("a", "b", "c")):
        self.people = [one for one in people for _ in range(2)]

    def __len__(self):
        return len(self.people)

    def item(self, index, margin=0):
        return self._made(index, margin, (0.0, 0.0))

    def draw(self, rng, margin=0):
        return self._made(int(rng.integers(len(self))), margin, rng.normal(0, 3, 2))

    def finish(self, item):
        return item.cropped()

    def _made(self, index, margin, shift):
        y, x = grid((SIZE + 2 * margin,) * 2) - (SIZE + 2 * margin - 1) / 2 + np.reshape(shift, (2, 1, 1))
        wide, high = (18, 30, 24, 34, 20, 27)[index], (26, 18, 17, 16, 22, 14)[index]
        cord = np.clip(8 * (1 - np.hypot(x / wide, y / high)), 0, 1)
        gray = np.clip(8 * (1 - np.hypot(x / (0.6 * wide), y / (0.35 * high))), 0, 1)
        contrast = 40.0 + 15 * index
        image = 20 + contrast * cord + 0.3 * contrast * gray
        shape = image.shape
        return Item(
            image=image[None].astype(np.float32),
            target=np.stack([cord, gray]).astype(np.float32),
            inside=np.ones(shape, bool),
            known=np.ones(2, bool),
            priors=np.zeros((0, *shape), np.float32),
            margin=margin,
            spacing_mm=SPACING,
            scan=f"sub-{self.people[index]}_T2starw",
            subject=self.people[index],
            place=(float(index % 2),),
        )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Fields are made once for all tests."""
    return tmp_path_factory.mktemp("fields")


def dice(a, b):
    return 2 * ((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5).sum() + (b > 0.5).sum())


EVERY = ("none", *(name for name in STUDY if name != "none"), "simulated", "smart+realistic+simulated+classical")


@pytest.mark.parametrize("name", EVERY)
def test_one_generator_makes_one_image_of_the_shape_that_it_was_given(name, cache):
    items = Windows()
    change = augmentation(name, items, cache)
    item = items.draw(np.random.default_rng(0), margin=8)
    for seed in range(6):
        first, again = (change(item, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first.image, again.image)
        assert first.image.shape == item.image.shape
        assert first.target.shape == item.target.shape
        assert first.margin == item.margin
        assert first.image.min() >= 0
        assert first.target.min() >= 0
        assert first.target.max() <= 1
        # Gray matter stays within the cord.
        assert (first.target[1] <= first.target[0] + 0.3).all()


@pytest.mark.parametrize("name", EVERY)
def test_an_image_moves_with_its_labels(name, cache):
    """What is brighter in the cord of the original is brighter under the label of the augmented one."""
    items = Windows()
    change = augmentation(name, items, cache)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        one = change(items.draw(rng), rng)
        cord, beyond = one.target[0] > 0.8, (one.target[0] < 0.05) & one.inside
        if "simulated" not in name:
            assert one.image[0][cord].mean() > one.image[0][beyond].mean()
        assert cord.any()


def test_none_changes_nothing(cache):
    items = Windows()
    item = items.item(1)
    assert augmentation("none", items, cache)(item, np.random.default_rng(3)) is item


def test_a_sum_shows_originals_and_each_of_the_added_methods(cache):
    items = Windows()
    change = augmentation("smart+realistic", items, cache)
    item = items.item(0)
    unchanged = sum(change(item, np.random.default_rng(seed)) is item for seed in range(90))
    assert 15 < unchanged < 45


def test_realistic_has_the_contrast_of_one_and_the_anatomy_of_another(cache):
    items = Windows()
    realistic = Realistic(items, cache)
    before, after = [], []
    for source in range(6):
        for target in (k for k in range(6) if items.people[k] != items.people[source]):
            one, other = items.item(source), items.item(target)
            moved = warp(one, realistic.fields.places(source, target, (SIZE, SIZE), np.zeros(2)))
            before.append([dice(a, b) for a, b in zip(one.target, other.target)])
            after.append([dice(a, b) for a, b in zip(moved.target, other.target)])
            white = (moved.target[0] > 0.99) & (moved.target[1] < 0.01)
            assert moved.image[0][white].mean() == pytest.approx(20 + 40 + 15 * source, rel=0.03)
    assert np.mean(after, 0)[0] > 0.97
    assert np.mean(after, 0)[1] > np.mean(before, 0)[1] + 0.1


def test_realistic_keeps_where_a_window_was_drawn_and_its_margin(cache):
    items = Windows()
    realistic = Realistic(items, cache)
    for seed in range(4):
        drawn = items.draw(np.random.default_rng(seed), margin=6)
        made = realistic(drawn, np.random.default_rng(seed))
        middles = [np.argwhere(one.target[0] > 0.5).mean(0) for one in (drawn, made)]
        assert np.abs(middles[0] - middles[1]).max() < 2


def test_fields_are_made_once_and_a_damaged_file_is_made_again(tmp_path, monkeypatch):
    items = Windows(("a", "b"))
    shapes = [items.item(k).target[0, ::2, ::2] for k in range(3)]
    made = fields.cached_fields(shapes, 2, tmp_path)
    (path,) = tmp_path.glob("fields-*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(fields, "make_fields", lambda *_: pytest.fail("made again"))
        assert np.array_equal(fields.cached_fields(shapes, 2, tmp_path).out, made.out)
    path.write_bytes(path.read_bytes()[:500])
    assert np.array_equal(fields.cached_fields(shapes, 2, tmp_path).out, made.out)
    # Another training set has a template of its own.
    fields.cached_fields(shapes[:2], 2, tmp_path)
    assert len(list(tmp_path.glob("fields-*.npz"))) == 2


@pytest.mark.parametrize("name", ["clasical", "smart+", "smart+smart", "none+smart", ""])
def test_an_unknown_name_is_refused_with_those_that_are_known(name):
    with pytest.raises(InputError, match="give none, or one of smart, realistic, simulated, classical, or a sum"):
        parts_of(name)


def test_realistic_of_one_person_is_refused(tmp_path):
    with pytest.raises(InputError, match="train on two or more"):
        augmentation("realistic", Windows(("a",)), tmp_path)


def test_simulated_needs_cord_and_gray_matter(tmp_path):
    items = Windows()
    items.labels = ("SC", "LESION")
    with pytest.raises(InputError, match="from masks of SC and GM"):
        augmentation("simulated", items, tmp_path)


def brain(person, radii, ventricle, contrast):
    """A brain on a grid of its own size: an ellipsoid with dark fluid in its middle and a lesion beside that."""
    size = np.array(radii) * 2 + 9
    middle = (size - 1) / 2
    at = grid(size) - middle.reshape(3, 1, 1, 1)

    def within(sizes, shift=(0, 0, 0)):
        return np.sqrt(sum(((a - s) / r) ** 2 for a, s, r in zip(at, shift, sizes))) < 1

    inside, fluid = within(radii), within(ventricle)
    lesion = within((3, 3, 3), (ventricle[0] + 3, 0, 0))
    image = np.where(inside, contrast * np.where(fluid, 0.3, np.where(lesion, 1.5, 1.0)), 0)
    scan = LabelledScan(f"sub-{person}", Path("x"), {"LESION": Path("y")}, person)
    return BrainScan(
        scan,
        image[None].astype(np.float16),
        np.zeros(1, np.float32),
        fluid[None].astype(np.float16),
        inside,
        lesion[None],
        np.argwhere(lesion),
    )


def test_realistic_volumes_have_the_contrast_of_one_and_the_anatomy_of_another(tmp_path):
    spec = load_manifest().model("brain_lesion_unet")
    spec = replace(spec, input=replace(spec.input, size=(32, 32, 32)))
    scans = [brain("a", (26, 34, 24), (6, 10, 8), 2.0), brain("b", (32, 30, 28), (11, 12, 9), 3.0)]
    items = PatchItems(scans, ("LESION",), spec)
    change = RealisticVolumes(items, tmp_path)
    apart, together = [], []
    for seed in range(4):
        # Around the middle of a's brain: its fluid, priors of it, and its lesion.
        item = items.at("sub-a", (np.array(scans[0].inside.shape) - 1) / 2 + [seed, 0, -seed], margin=4)
        made = change(item, np.random.default_rng(seed))
        again = change(item, np.random.default_rng(seed))
        assert np.array_equal(made.image, again.image)
        assert (made.image.shape, made.margin, made.scan) == (item.image.shape, 4, "sub-a")
        other = items.at("sub-b", (np.array(scans[1].inside.shape) - 1) / 2 + [seed, 0, -seed], margin=4)
        together.append(dice(made.priors[0], other.priors[0]))
        apart.append(dice(item.priors[0], other.priors[0]))
        # What is dark, bright and marked goes together, and is as dark and bright as it was.
        assert made.image[0][made.priors[0] > 0.95].mean() == pytest.approx(0.6, rel=0.1)
        assert made.image[0][made.target[0] > 0.95].mean() == pytest.approx(3.0, rel=0.1)
        assert items.finish(made).image.shape == (1, 32, 32, 32)
    assert np.mean(apart) < 0.75 < np.mean(together)


@pytest.mark.parametrize("name", ["classical", "smart"])
def test_volumes_are_augmented_too(name, cache):
    items = Windows()
    flat = items.item(0).cropped()
    deep = [np.repeat(part[..., None], 24, -1) for part in (flat.image, flat.target, flat.inside, flat.priors)]
    item = replace(flat, image=deep[0], target=deep[1], inside=deep[2], priors=deep[3])
    made = augmentation(name, items, cache)(item, np.random.default_rng(1))
    assert made.image.shape == item.image.shape
    assert dice(made.target[0], item.target[0]) > 0.6


def test_every_added_method_is_in_the_contact_sheet_of_their_sum(tmp_path, cache):
    items = Windows()
    name = "+".join(ADDED)
    path = contact_sheet(items, augmentation(name, items, cache), tmp_path / "sheet.png", name)
    assert path.stat().st_size > 20_000
