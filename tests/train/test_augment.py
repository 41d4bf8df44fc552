"""Augmentation of items by name."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.train.augment.realistic import Realistic, cached_fields  # noqa: E402
from sctseg7t.train.augment.sheet import contact_sheet  # noqa: E402
from sctseg7t.train.augment.warping import grid, warp  # noqa: E402
from sctseg7t.train.scans.augmentation import ADDED, STUDY, augmentation, parts_of  # noqa: E402
from sctseg7t.train.scans.items import Item  # noqa: E402

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
            moved = warp(one, realistic.fields.places(source, target, (SIZE, SIZE)))
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
    found = [items.item(k) for k in range(3)]
    fields = cached_fields(found, tmp_path)
    (path,) = tmp_path.glob("fields-*.npz")
    with monkeypatch.context() as patch:
        patch.setattr("sctseg7t.train.augment.realistic.make_fields", lambda targets: pytest.fail("made again"))
        assert np.array_equal(cached_fields(found, tmp_path).out, fields.out)
    path.write_bytes(path.read_bytes()[:500])
    assert np.array_equal(cached_fields(found, tmp_path).out, fields.out)
    # Another training set has a template of its own.
    cached_fields(found[:2], tmp_path)
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
