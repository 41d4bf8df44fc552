"""Windows through a network and back: with networks whose answer is known in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest

from sctseg7t.cord.windows_model import RECENTRE_MM, check_spec, segment_fractions
from sctseg7t.errors import ModelError
from sctseg7t.image.frame import frame_of
from sctseg7t.runtime.ensemble import Ensemble

SIZE, SPACING = 128, 0.17578125
AXIS = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING


def spec(outputs=("SC", "GM"), axes="yx", flip=False, policy="image", ensemble=None, largest=(), **changes):
    normalisation = {
        "name": changes.pop("normalisation", "zscore"),
        "parameters": {"scope": changes.pop("scope", "slice")},
    }
    output = {"threshold": 0.5, "binarise": "threshold", "lowest": 0.25, "suffix": "_x", **changes.pop("output", {})}
    fields = {
        "size": (SIZE, SIZE),
        "spacing_mm": (SPACING, SPACING),
        "orientation": "RAS",
        "channels": ("T2star",),
        "images": ("scan",),
        "interpolation": "linear",
        **changes,
    }
    return SimpleNamespace(
        label="stub@1.0.0",
        input=SimpleNamespace(axes=axes, normalisation=normalisation, **fields),
        outputs=tuple(SimpleNamespace(name=name, channel=k, **output) for k, name in enumerate(outputs)),
        activation="sigmoid",
        centring={"policy": policy},
        test_time={"flip_lr": flip},
        ensemble=ensemble,
        ensemble_largest=largest,
    )


class Stub:
    """A network given as a function of one (H, W) image to (C, H, W) maps."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def run(self, images):
        self.calls.append(len(images))
        return np.stack([self.function(image[0]) for image in images]).astype(np.float32)


def disc(radius_mm, x=0.0, y=0.0, softness=0.15):
    """Fraction inside a disc; x to the right (columns), y to anterior (rows)."""
    distance = np.hypot(AXIS[None] - x, AXIS[:, None] - y)
    return 1 / (1 + np.exp((distance - radius_mm) / softness))


def disc_area(radius_mm, softness=0.15):
    """Integral of :func:`disc` over the plane (the Fermi integral of first order)."""
    return np.pi * (radius_mm**2 + (np.pi * softness) ** 2 / 3)


def scan(pixel, centres_mm, radius=4.0, fov=(48.0, 44.0)):
    """Bright discs on a dark ground, and the voxel centres of the discs."""
    shape = (round(fov[0] / pixel[0]), round(fov[1] / pixel[1]))
    x, y = ((np.arange(n) - (n - 1) / 2) * p for n, p in zip(shape, pixel))
    planes = [1 / (1 + np.exp((np.hypot(x[:, None] - cx, y[None] - cy) - radius) / 0.2)) for cx, cy in centres_mm]
    middle = (np.array(shape) - 1) / 2
    return np.stack(planes, -1) * 100 + 20, middle + np.array(centres_mm) / pixel, frame_of(np.diag([*pixel, 3.0, 1.0]))


def follow(radius_mm):
    """Answers with a disc where the image's bright disc is."""

    def answer(image):
        bright = image > (image.max() + image.min()) / 2
        if not bright.any():
            return np.zeros((1, SIZE, SIZE))
        rows, columns = np.nonzero(bright)
        return disc(radius_mm, AXIS[columns].mean(), AXIS[rows].mean())[None]

    return answer


def area(fractions, pixel):
    return fractions.sum((0, 1)) * pixel[0] * pixel[1]


@pytest.mark.parametrize("pixel", [(0.18, 0.18), (0.4, 0.3), (0.5, 0.5), (0.9, 0.7), (1.5, 1.5)])
@pytest.mark.parametrize("radius", [2.0, 5.0])
def test_restored_area_and_place_are_those_of_the_disc(pixel, radius):
    data, centres, frame = scan(pixel, [(0, 0), (1.3, -2.1)])
    stub = Stub(lambda image: disc(radius, x=1.2, y=-0.7)[None])
    sc = segment_fractions([data], frame, centres, stub, spec(["SC"])).maps["SC"]
    assert sc.shape == data.shape
    np.testing.assert_allclose(area(sc, pixel), disc_area(radius), rtol=0.01)
    i, j = np.indices(sc.shape[:2])
    mean = np.stack([(sc * g[..., None]).sum((0, 1)) / sc.sum((0, 1)) for g in (i, j)], 1)
    np.testing.assert_allclose((mean - centres) * pixel, [(1.2, -0.7)] * 2, atol=0.02)


class TestRecentring:
    OFFSETS = ((0.0, 0.0), (3.0, 0.0), (-2.0, 2.2), (0.4, -0.3))

    def run(self, policy):
        data, centres, frame = scan((0.35, 0.35), self.OFFSETS)
        middle = np.tile((np.array(data.shape[:2]) - 1) / 2, (len(self.OFFSETS), 1))
        given, stub = middle.copy(), Stub(follow(4.0))
        found = segment_fractions([data], frame, given, stub, spec(["SC"], policy=policy))
        assert np.array_equal(given, middle)
        return found, centres, middle, stub

    def test_cord_off_by_3_mm_moves_the_window(self):
        found, centres, middle, stub = self.run("locator")
        assert stub.calls == [4, 2]
        away = np.linalg.norm(self.OFFSETS, axis=1)
        assert np.array_equal(found.centres_vox[away < RECENTRE_MM], middle[away < RECENTRE_MM])
        np.testing.assert_allclose(found.centres_vox[[1, 2]], centres[[1, 2]], atol=0.1 / 0.35)
        np.testing.assert_allclose(area(found.maps["SC"], (0.35, 0.35)), disc_area(4), rtol=0.01)

    def test_models_made_for_the_image_centre_stay_there(self):
        found, _, middle, stub = self.run("image")
        assert stub.calls == [4]
        assert np.array_equal(found.centres_vox, middle)

    def test_window_without_cord_stays(self):
        data, centres, frame = scan((0.35, 0.35), [(0, 0)])
        stub = Stub(lambda image: np.zeros((1, SIZE, SIZE)))
        found = segment_fractions([data], frame, centres + 1, stub, spec(["SC"], policy="locator"))
        assert stub.calls == [1]
        assert not found.maps["SC"].any() and not found.touches_edge.any()

    def test_recentring_follows_a_turned_grid(self):
        data, _, _ = scan((0.35, 0.35), [(3.0, 1.0)])
        c, s = np.cos(0.3), np.sin(0.3)
        turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ np.diag([0.35, 0.35, 3, 1])
        middle = (np.array(data.shape[:2]) - 1)[None] / 2
        found = segment_fractions([data], frame_of(turn), middle, Stub(follow(4)), spec(["SC"], policy="locator"))
        np.testing.assert_allclose(found.centres_vox - middle, [(3.0 / 0.35, 1.0 / 0.35)], atol=0.1 / 0.35)


def test_cord_at_the_windows_border_is_flagged():
    half = SIZE / 2 * SPACING
    data, centres, frame = scan((0.5, 0.5), [(0, 0)] * 4)
    # Slices: well inside; 1 mm from the border; over the right border; over the upper one.
    discs = [disc(4), disc(4, x=half - 5), disc(4, x=half - 3), disc(4, y=half - 3.9)]
    answers = iter(discs)
    found = segment_fractions([data], frame, centres, Stub(lambda image: next(answers)[None]), spec(["SC"]))
    assert found.touches_edge.tolist() == [False, False, True, True]


def test_gray_matter_stays_within_the_cord_and_channels_go_by_the_entry():
    data, centres, frame = scan((0.4, 0.4), [(0, 0)])
    stub = Stub(lambda image: np.stack([0.8 * disc(4), disc(6)]))
    maps = segment_fractions([data], frame, centres, stub, spec()).maps
    assert (maps["GM"] <= maps["SC"] + 1e-6).all()
    np.testing.assert_allclose(maps["GM"], maps["SC"], atol=1e-5)
    entry = spec()
    for output, channel in zip(entry.outputs, (1, 0)):
        output.channel = channel
    maps = segment_fractions([data], frame, centres, Stub(lambda image: np.stack([disc(2), disc(5)])), entry).maps
    np.testing.assert_allclose(area(maps["SC"], (0.4, 0.4)), disc_area(5), rtol=0.01)
    np.testing.assert_allclose(area(maps["GM"], (0.4, 0.4)), disc_area(2), rtol=0.01)


def skewed(image):
    """Neither left-right nor row-column symmetric."""
    ramp = np.linspace(-1, 2, SIZE)
    return np.stack([1 / (1 + np.exp(-(image + ramp[None]))), 1 / (1 + np.exp(-(image * ramp[:, None] - ramp[None])))])


def noise_scan(seed=0, shape=(97, 88, 3)):
    data = np.random.default_rng(seed).random(shape) * 300
    return data, np.tile((np.array(shape[:2]) - 1) / 2, (shape[2], 1)), frame_of(np.diag([0.3, 0.3, 3.0, 1.0]))


@pytest.mark.parametrize("flip", [False, True])
def test_axes_of_the_tensor_do_not_matter(flip):
    data, centres, frame = noise_scan()
    rows = segment_fractions([data], frame, centres, Stub(skewed), spec(axes="yx", flip=flip))
    turned = Stub(lambda image: skewed(image.T).swapaxes(1, 2))
    columns = segment_fractions([data], frame, centres, turned, spec(axes="xy", flip=flip))
    for name in ("SC", "GM"):
        assert np.array_equal(rows.maps[name], columns.maps[name])


def test_flip_averaging_treats_left_and_right_alike():
    data, centres, frame = noise_scan()
    stub, entry = Stub(skewed), spec(flip=True)
    found = segment_fractions([data], frame, centres, stub, entry)
    mirrored = segment_fractions([data[::-1]], frame, centres, stub, entry)
    for name in ("SC", "GM"):
        np.testing.assert_allclose(mirrored.maps[name], found.maps[name][::-1], atol=1e-4)
    plain = segment_fractions([data], frame, centres, stub, spec())
    assert np.abs(plain.maps["SC"] - found.maps["SC"]).max() > 0.05


def test_network_sees_zscored_windows_and_zeros_where_nothing_is():
    data, centres, frame = noise_scan()
    data[..., 0] = 7
    centres = centres + np.array([(0, 0), (0, 0), (900, 0)])
    seen, again = [], []
    for image, windows in ((data, seen), (data * 1e-3 + 5, again)):
        stub = Stub(lambda window: windows.append(window) or disc(3)[None])  # noqa: B023
        segment_fractions([image], frame, centres, stub, spec(["SC"]))
    assert abs(seen[1].mean()) < 1e-4 and abs(seen[1].std() - 1) < 1e-4
    assert not seen[0].any() and not seen[2].any()
    np.testing.assert_allclose(again, seen, atol=1e-2)


def test_beyond_the_scan_there_is_nothing():
    data, _, frame = noise_scan()
    seen = []
    centres = np.array([(5.0, 40.0)] * 3)
    stub = Stub(lambda image: seen.append(image) or np.ones((1, SIZE, SIZE)))
    found = segment_fractions([data], frame, centres, stub, spec(["SC"]))
    # 5.5 voxels of 0.3 mm are left of the centre: half a window less 1.65 mm lies beyond.
    beyond = AXIS < -1.65 - SPACING
    assert (np.array(seen)[:, :, beyond] == 0).all()
    assert found.maps["SC"].max() <= 1 + 1e-5
    # A cord seen only beyond the scan is none: it neither moves the window nor touches its border.
    ghost = Stub(lambda image: np.where(beyond, 1.0, 0.0)[None, None].repeat(SIZE, 1))
    found = segment_fractions([data], frame, centres, ghost, spec(["SC"], policy="locator"))
    assert ghost.calls == [3] and not found.touches_edge.any()


def test_logits_are_turned_into_probabilities():
    data, centres, frame = scan((0.4, 0.4), [(0, 0)])
    entry = spec(["SC"])
    entry.activation = "logits"
    p = np.clip(disc(4), 1e-6, 1 - 1e-6)
    found = segment_fractions([data], frame, centres, Stub(lambda image: np.log(p / (1 - p))[None]), entry)
    np.testing.assert_allclose(area(found.maps["SC"], (0.4, 0.4)), disc_area(4), rtol=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"normalisation": "percentile"},
        {"scope": "stack"},
        {"interpolation": "cubic"},
        {"orientation": "LPI"},
        {"channels": ("T2star", "T1")},
        {"output": {"threshold": None}},
        {"output": {"suffix": None}},
        {"policy": "none"},
        {"size": None},
        {"size": (128, 96)},
        {"spacing_mm": (0.2, 0.3)},
        {"axes": "zyx"},
        {"outputs": ("SC", "GM", "CSF")},
    ],
    ids=str,
)
def test_entry_that_cannot_be_served_is_a_model_error(changes):
    entry = spec(**changes)
    data, centres, frame = scan((0.4, 0.4), [(0, 0)])
    with pytest.raises(ModelError) as caught:
        check_spec(entry)
        segment_fractions([data], frame, centres, Stub(lambda image: np.stack([disc(4), disc(2)])), entry)
    assert "\n" not in str(caught.value)


class TestEnsemble:
    """Three networks as one, in closed form: two discs that agree and one that has a second piece."""

    def run(self, rule, largest=(), uncertainty=True, answers=None):
        data, centres, frame = scan((0.35, 0.35), [(0, 0)])
        odd = np.maximum(disc(4), disc(1.5, x=8))
        answers = answers or (disc(4), disc(4), odd)
        session = Ensemble(tuple(Stub(lambda image, a=a: a[None]) for a in answers))
        how = spec(["SC"], ensemble=rule, largest=largest)
        return segment_fractions([data], frame, centres, session, how, uncertainty=uncertainty)

    @pytest.mark.parametrize(("rule", "extra"), [("mean", 1 / 3), ("median", 0.0), ("vote", 1 / 3)])
    def test_a_piece_that_one_network_sees(self, rule, extra):
        found = self.run(rule)
        more = area(found.maps["SC"], (0.35, 0.35))[0] - disc_area(4)
        # Votes cut each map at half, which leaves out the soft border's tail.
        assert more == pytest.approx(extra * disc_area(1.5), abs=0.35)
        apart = area(found.spread["SC"], (0.35, 0.35))[0]
        assert apart == pytest.approx(np.sqrt(2) / 3 * disc_area(1.5), rel=0.05)

    def test_the_largest_piece_of_each_comes_first_where_the_entry_says_so(self):
        found = self.run("mean", largest=("SC",))
        assert area(found.maps["SC"], (0.35, 0.35))[0] == pytest.approx(disc_area(4), rel=0.01)
        assert area(found.spread["SC"], (0.35, 0.35))[0] < 0.1

    def test_networks_that_agree_are_one_and_have_no_spread(self):
        found, alone = self.run("median", answers=[disc(4)] * 3), self.run("mean", answers=[disc(4)])
        np.testing.assert_allclose(found.maps["SC"], alone.maps["SC"], atol=1e-6)
        assert found.spread["SC"].max() < 1e-6

    def test_nobody_asked(self):
        assert self.run("mean", uncertainty=False).spread == {}

    @pytest.mark.parametrize("flip", [False, True])
    def test_one_network_is_asked_about_the_mirror_image(self, flip):
        data, centres, frame = scan((0.35, 0.35), [(0, 0)])
        # Answers 1 mm to the right of the middle whatever it sees: the mirror image's answer lies 1 mm to the left.
        stub = Stub(lambda image: disc(4, x=1.0)[None])
        found = segment_fractions([data], frame, centres, stub, spec(["SC"], flip=flip), uncertainty=True)
        between = np.abs(disc(4, x=1.0) - disc(4, x=-1.0)).sum() * SPACING**2 / 2
        assert area(found.spread["SC"], (0.35, 0.35))[0] == pytest.approx(between, rel=0.01)
        own = disc(4, x=1.0) if not flip else (disc(4, x=1.0) + disc(4, x=-1.0)) / 2
        assert found.maps["SC"].max() <= own.max() + 1e-6

    def test_an_output_that_is_not_there_is_no_largest_one(self):
        with pytest.raises(ModelError, match="ensemble_largest must name outputs"):
            check_spec(spec(["SC"], ensemble="mean", largest=("XX",)))
