"""What networks look at: features in closed form, the rules, and networks that were trained to look at something."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.cli.explain import main  # noqa: E402

from sctseg7t.explain.dream import DreamSettings, erased, explain  # noqa: E402
from sctseg7t.explain.features import BLIND, OVER, ROBUST, SENSITIVE, features_of, reading  # noqa: E402
from sctseg7t.simulate.scene import Batch  # noqa: E402
from sctseg7t.train.networks import UNet  # noqa: E402

pytestmark = pytest.mark.train
SIDE, PERIOD = 48, 4


def test_features_of_a_bright_ellipse():
    x, y = np.indices((80, 60)) - np.array([40, 30]).reshape(2, 1, 1)
    mask = (x / 24) ** 2 + (y / 12) ** 2 <= 1
    image = np.where(mask, 2.0, -1.0)
    found = features_of(image, mask, (0.5, 0.5))
    assert found["intensity"] == 2 and found["contrast"] == pytest.approx(3)
    assert found["diameter"] == pytest.approx(2 * np.sqrt(24 * 12) * 0.5, rel=0.01)
    assert found["elongation"] == pytest.approx(2, rel=0.02) and 0.7 < found["sphericity"] < 0.9
    stripes = image + 0.5 * (-1.0) ** np.indices(mask.shape)[0]
    assert features_of(stripes, mask, (0.5, 0.5))["texture"] > found["texture"] + 0.2


def test_features_of_a_ball_on_thick_slices():
    steps = np.array([1, 1, 3]).reshape(3, 1, 1, 1)
    ball = np.sqrt(((np.indices((40, 40, 14)) * steps - np.array([20, 20, 21]).reshape(3, 1, 1, 1)) ** 2).sum(0)) <= 12
    found = features_of(ball.astype(float), ball, (1, 1, 3))
    assert found["diameter"] == pytest.approx(24, rel=0.03)
    assert found["elongation"] == pytest.approx(1, abs=0.1) and found["sphericity"] > 0.8


@pytest.mark.parametrize(
    ("curve", "word"),
    [
        ([-3, -2, -0.5, 0.2], SENSITIVE),
        ([0.4, 0.1, -0.2], ROBUST),
        ([-4, -4, -3.5], BLIND),
        ([np.nan, 0.2, 1.5, 6], OVER),
        ([-2, 3], OVER),
        ([2, 5], OVER),
        ([np.nan, np.nan], ""),
    ],
)
def test_rules(curve, word):
    assert reading(curve) == word


def test_an_object_is_taken_out_with_its_brightness():
    rng = np.random.default_rng(0)
    away = np.hypot(*(np.indices((64, 64)) - 32))
    mask = away <= 8
    image = (rng.normal(0, 0.1, (2, 64, 64)) + 2 * mask).astype(np.float32)
    made = erased(image, mask, rng)
    assert abs(made[0][mask].mean()) < 0.1 and 0.05 < made[0][mask].std() < 0.2
    # The second channel is no image, and the rest of the first stays.
    assert np.array_equal(made[1], image[1]) and np.array_equal(made[0][away > 12], image[0][away > 12])


class Marked:
    """Ellipses of one brightness in noise; a share of them has stripes across; ``others`` of another form are none."""

    def __init__(self, marked=0.0, ratio=1.0, others=None, bright=1.0, noise=0.2):
        self.marked, self.ratio, self.others, self.bright, self.noise = marked, ratio, others, bright, noise

    def batch(self, count, seed):
        rng = np.random.default_rng(seed)
        image, target = rng.normal(0, self.noise, (count, 1, SIDE, SIDE)), np.zeros((count, 1, SIDE, SIDE))
        for k in range(count):
            places = rng.permutation([(13, 13), (13, 35), (35, 13), (35, 35)])
            for n, place in enumerate(places[: 2 if self.others else 1]):
                ratio = self.others if n else self.ratio
                inside = self.ellipse(place + rng.uniform(-2, 2, 2), rng.uniform(5, 7), ratio, rng.uniform(0, np.pi))
                image[k, 0, inside] += self.bright
                if not n:
                    target[k, 0, inside] = 1
                    if rng.random() < self.marked:
                        image[k, 0] += np.where(inside, self.stripes(), 0)
        return Batch(torch.from_numpy(image.astype(np.float32)), torch.from_numpy(target.astype(np.float32)))

    @staticmethod
    def stripes():
        return np.cos(2 * np.pi * np.indices((SIDE, SIDE))[0] / PERIOD)

    @staticmethod
    def ellipse(centre, radius, ratio, turn):
        y, x = np.indices((SIDE, SIDE)) - np.reshape(centre, (2, 1, 1))
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        return np.hypot(along / np.sqrt(ratio), across * np.sqrt(ratio)) <= radius


def trained(source, steps=120):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = UNet((16, 32, 32), 1, 1, fold=2)
    optimiser = torch.optim.Adam(network.parameters(), 4e-3)
    for step in range(steps):
        batch = source.batch(8, 1000 + step)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(batch.image), batch.target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def dreamt(source, **changes):
    settings = DreamSettings(dreams=4, steps=25, rate=0.04, **changes)
    return explain(trained(source), source, 0, (1.0, 1.0), settings, objects=24)


def stripe_response(found):
    """Height of the marker's stripes in what the dreams have changed; the middle one of the dreams."""
    wave = np.exp(2j * np.pi * np.indices((SIDE, SIDE))[0] / PERIOD)
    seen = [dream for dream in found.dreams if dream.found.any()]
    return float(np.median([abs(((dream.end - dream.start) * wave)[dream.found].mean()) for dream in seen]))


def test_a_texture_of_all_objects_is_dreamt_of_and_one_of_half_of_them_is_not():
    # Brightness alone is hard to see: where every object has the texture, the network asks for it.
    shares = (1.0, 0.5)
    responses = [stripe_response(dreamt(Marked(share, bright=0.5, noise=0.5), smooth=0.0)) for share in shares]
    assert responses[0] > 4 * responses[1]


def test_a_network_that_knows_long_objects_only_says_so():
    long, any_form = dreamt(Marked(ratio=3.0, others=1.0)), dreamt(Marked(ratio=1.0))
    last = [np.nanmedian([dream.values["elongation"][-1] for dream in found.dreams]) for found in (long, any_form)]
    assert last[0] > 1.4 * last[1]


def test_the_command_writes_a_page(call, tmp_path):
    code, out, err = call(
        main, ["-m", "cord_gm_sc", "-map", "GM", "-o", str(tmp_path), "-n", "1", "-steps", "2", "-threads", "1"]
    )
    assert code == 0, err
    page = (tmp_path / "index.html").read_text()
    assert "What cord_gm_sc looks at: GM" in page and "data:image/png" in page
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 4 and "contrast: " in out
    code, _, err = call(main, ["-m", "cord_gm_sc", "-map", "LESION", "-o", str(tmp_path)])
    assert code == 2 and "it has SC, GM" in err
    code, _, err = call(main, ["-m", "brain_lesion_views", "-o", str(tmp_path)])
    assert code == 2 and "windows or patches" in err
