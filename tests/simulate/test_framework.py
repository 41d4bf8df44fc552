"""What all organs share: the registry of effects, their settings, their random streams, and 2D fields."""

import math
import subprocess
import sys

import numpy as np
import pytest

from sctseg7t.errors import InputError

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.simulate import cord, fields, neck  # noqa: F401 - they register their effects
from sctseg7t.simulate.brain import heads, pair_patches, patches, slabs  # noqa: F401
from sctseg7t.simulate.effect import EFFECTS, STAGES, effect, read_settings
from sctseg7t.simulate.scene import Draw, Scene

pytestmark = pytest.mark.train


class TestRegistry:
    @pytest.mark.parametrize("organ", STAGES)
    def test_effects_run_stage_by_stage_and_say_what_they_do(self, organ):
        stages = [STAGES[organ].index(entry.stage) for entry in EFFECTS[organ].values()]
        assert stages == sorted(stages) and set(stages) == set(range(len(STAGES[organ])))
        assert all(entry.summary.endswith(".") for entry in EFFECTS[organ].values())

    def test_order_does_not_depend_on_what_is_imported_first(self):
        code = "import sctseg7t.simulate.neck, sctseg7t.simulate.acquisition, sctseg7t.simulate.scan"
        code += "; from sctseg7t.simulate.effect import EFFECTS; print(*EFFECTS['cord'], '|', *EFFECTS['neck'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        cord_order, neck_order = done.stdout.split("|")
        assert cord_order.split() == list(EFFECTS["cord"]) and neck_order.split() == list(EFFECTS["neck"])

    @pytest.mark.parametrize("organ", STAGES)
    def test_optional_effects_can_be_left_out_and_others_not(self, organ):
        for name, entry in EFFECTS[organ].items():
            if entry.required:
                with pytest.raises(InputError, match=f"{name!r} cannot be left out"):
                    read_settings(organ, {name: False})
            else:
                assert name not in read_settings(organ, {name: False})

    def test_defaults_are_filled_in(self):
        settings = read_settings("cord", {"noise": {"snr": [5, 6]}, "lesions": False})
        assert list(settings) == [name for name in EFFECTS["cord"] if name != "lesions"]
        assert settings["noise"] == {**EFFECTS["cord"]["noise"].defaults, "snr": (5, 6)}
        assert settings["slab"] == EFFECTS["cord"]["slab"].defaults

    @pytest.mark.parametrize(
        ("organ", "recipe", "words"),
        [
            ("cord", {"noize": {}}, ("'noize'", "known", "noise")),
            ("cord", {"noise": {"snrr": 3}}, ("'noise'", "'snrr'", "snr, uneven")),
            ("cord", {"window": {"size": 3}}, ("'size'", "none")),
            ("cord", {"noise": True}, ("'noise'", "object")),
            ("neck", {"lesions": {}}, ("'lesions'", "vertebra")),
            ("brain", {"rims": {"widht": 1}}, ("'rims'", "'widht'", "probability, width_mm")),
            ("patch", {"flipp": {}}, ("'flipp'", "flip")),
        ],
    )
    def test_wrong_recipes(self, organ, recipe, words):
        with pytest.raises(InputError) as caught:
            read_settings(organ, recipe)
        assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


class TestDraw:
    def test_distributions(self):
        draw = Draw(1, "noise", 20000, 8)
        uniform, log = draw.uniform("a", 2.0, 4.0), draw.log_uniform("b", 1.0, 100.0)
        assert uniform.shape == (20000, 1, 1, 1) and abs(uniform.mean() - 3) < 0.02
        assert 1 <= log.min() and log.max() <= 100 and abs(log.log10().mean() - 1) < 0.02
        normal = draw.normal("c", 2.0, 5.0)
        assert abs(normal.mean() - 5) < 0.06 and abs(normal.std() - 2) < 0.05
        assert abs(draw.chance("d", 0.3).mean() - 0.3) < 0.015
        assert set(draw.kept) == set("abcd") and draw.kept["a"] == uniform.flatten().tolist()

    def test_one_image_has_plain_numbers(self):
        draw = Draw(1, "noise")
        value = draw.uniform("a", 2.0, 4.0)
        assert isinstance(value, float) and draw.kept["a"] == round(value, 5)
        assert draw.chance("b", 1.0) == 1.0 and draw.field(8, (20, 30, 10)).shape == (20, 30, 10)


class TestNewEffect:
    """One function, written once, for every organ."""

    @pytest.fixture(autouse=True)
    def registry(self, monkeypatch):
        for organ in EFFECTS:
            monkeypatch.setitem(EFFECTS, organ, dict(EFFECTS[organ]))

    @pytest.mark.parametrize("organ", ["cord", "neck", "brain"])
    def test_it_works_on_every_image(self, organ):
        @effect("acquisition", "cord", "neck", "brain")
        def quantised(scene, draw, *, step=(0.1, 0.2)):
            """Few levels of gray."""
            step = draw.uniform("step", *step)
            scene.image = torch.round(scene.image / step) * step

        scene = type("Plain", (Scene,), {"organ": organ})(*(None if organ == "brain" else 3, 8))
        scene.image = before = torch.rand(5, 6, 7) if organ == "brain" else torch.rand(3, 1, 8, 8)
        scene.run({"quantised": read_settings(organ)["quantised"]}, 1)
        assert scene.image.shape == before.shape and not torch.equal(scene.image, before)
        assert len(scene.image.unique()) < 40 and scene.drawn["quantised"]["step"]

    def test_chance_decides_on_a_single_image(self):
        @effect("acquisition", "brain", probability=0.5)
        def doubled(scene, draw):
            """Twice the signal."""
            scene.image = 2 * scene.image

        seen = []
        for seed in range(40):
            scene = type("One", (Scene,), {"organ": "brain"})()
            scene.image = torch.ones(1)
            scene.run({"doubled": read_settings("brain")["doubled"]}, seed)
            assert scene.image == 1 + scene.drawn["doubled"]["present"]
            seen.append(scene.drawn["doubled"]["present"])
        assert 10 < sum(seen) < 30


class TestFields:
    def generator(self, seed=0):
        return torch.Generator().manual_seed(seed)

    def test_grid_is_centred_and_in_mm(self):
        x, y = fields.pixel_grid_mm(5, 0.5)
        np.testing.assert_allclose(x[0, 0, 2], [-1, -0.5, 0, 0.5, 1])
        np.testing.assert_allclose(y[0, 0, :, 2], [-1, -0.5, 0, 0.5, 1])
        assert fields.pixel_grid_mm(4, 1.0)[0].sum() == 0

    def test_sampling_is_linear_in_mm(self):
        x, y = fields.pixel_grid_mm(32, 0.5)
        np.testing.assert_allclose(fields.sample_mm(2 * x - 3 * y, x, y, 0.5), 2 * x - 3 * y, atol=1e-4)
        got = fields.sample_mm(2 * x - 3 * y, x * 0.4 + 0.3, y * 0.4 - 0.7, 0.5)
        np.testing.assert_allclose(got, 2 * (x * 0.4 + 0.3) - 3 * (y * 0.4 - 0.7), atol=1e-4)

    def test_lowpass_keeps_coarse_waves_and_stops_fine_ones(self):
        position = torch.arange(64.0)
        coarse = torch.cos(2 * math.pi * 2 * position / 64).expand(1, 1, 64, 64)
        fine = torch.cos(2 * math.pi * 24 * position / 64).expand(1, 1, 64, 64)
        width = torch.tensor([[2.0, 1.0]])
        assert (fields.lowpass(coarse + 3, width) - coarse - 3).abs().max() < 0.02
        assert fields.lowpass(fine, width).abs().max() < 0.05
        # Along y the pixel is fine enough for the same wave.
        assert (fields.lowpass(fine.swapaxes(2, 3), width) - fine.swapaxes(2, 3)).abs().max() < 0.1

    def test_smooth_contour_is_an_ellipse(self):
        x, y = fields.pixel_grid_mm(200, 0.1)
        inside = fields.closed_contour(self.generator(), x, y, 7.0, 4.0, roughness=0.0) > 0
        assert float(inside.sum()) * 0.01 == pytest.approx(math.pi * 28, rel=0.01)
