"""Every effect of cord windows: its own random stream, and that it does what it says."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.simulate.anatomy import SPACING_MM, describe_horns
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.simulate.effect import EFFECTS as ALL
from sctseg7t.simulate.effect import STAGES as ALL_STAGES
from sctseg7t.simulate.fields import pixel_grid_mm
from sctseg7t.simulate.scene import CordScene, Draw

pytestmark = pytest.mark.train

EFFECTS, STAGES = ALL["cord"], ALL_STAGES["cord"]
OPTIONAL = [name for name, entry in EFFECTS.items() if not entry.required]
# Without chance: nothing optional, a straight cord of the bank's size, one brightness per tissue.
PLAIN = {
    **dict.fromkeys(OPTIONAL, False),
    "place": {"shift": 0.0, "far_p": 0.0, "rotation_sd": 0.0, "shear_sd": 0.0},
    "build": {"scale": (1.0, 1.0), "aspect": (1.0, 1.0)},
    "gray_matter": {"scale_sd": 0.0, "warp_sd": 0.0},
    "slab": {"tilt_sd": 0.0},
    "tissues": {"dark_gm_p": 0.0, "flat_gm_p": 0.0, "iso_csf_p": 0.0, "dark_csf_p": 0.0},
    "resolution": {"pixel": (0.2, 0.2), "interpolated_p": 0.0, "anisotropy_sd": 0.0},
}
COUNT, SIZE = 4, 96
X, Y = (axis[0, 0] for axis in pixel_grid_mm(SIZE, SPACING_MM))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(bank):
    """Run effects over PLAIN: scene of ``COUNT`` windows; ``stages`` up to the one named last."""

    def scene(last="anatomy", count=COUNT, seed=4, size=SIZE, base=PLAIN, **changed):
        merged = {**base}
        for name, values in changed.items():
            merged[name] = {**(base.get(name) or {}), **values} if isinstance(values, dict) else values
        stages = STAGES[: STAGES.index(last) + 1]
        return CordSimulator(bank, merged, size).scene(count, seed, stages=stages)

    return scene


def area(fraction):
    """Area (mm²) of each window's fraction."""
    return fraction.flatten(1).sum(1) * SPACING_MM**2


# ---- random streams ------------------------------------------------------------


@pytest.fixture(scope="module")
def usual(run):
    return run("view", count=3, size=32, base={})


class TestStreams:
    @pytest.mark.parametrize("names", [OPTIONAL[::2], OPTIONAL[1::2]], ids=["some", "others"])
    def test_leaving_effects_out_changes_no_other(self, run, usual, names):
        scene = run("view", count=3, size=32, base={}, **dict.fromkeys(names, False))
        assert scene.drawn == {name: kept for name, kept in usual.drawn.items() if name not in names}
        assert torch.isfinite(scene.image).all() and torch.isfinite(scene.target).all()

    def test_same_seed_same_bits(self, run, usual):
        again = run("view", count=3, size=32, base={})
        assert torch.equal(again.image, usual.image) and torch.equal(again.target, usual.target)
        assert again.drawn == usual.drawn
        other = run("view", count=3, size=32, base={}, seed=5)
        assert all(other.drawn[name] != kept for name, kept in usual.drawn.items() if kept and name != "subject")

    def test_reseeding_one_effect_changes_only_it(self, bank):
        simulator = CordSimulator(bank, {"lesions": {"p": 1.0}}, 32)
        first, second = simulator.scene(2, 1).drawn, simulator.scene(2, 1, reseed={"lesions": 9}).drawn
        assert first.pop("lesions") != second.pop("lesions") and first == second

    def test_numbers_stay_in_the_ranges_of_their_settings(self, run):
        scene = run("contrast", count=300, size=8, base={})
        checked = 0
        for name, kept in scene.drawn.items():
            defaults = EFFECTS[name].defaults
            assert all(len(values) == 300 for values in kept.values())
            for key, values in kept.items():
                span = defaults.get(key)
                # The tissues' choices are named as the ranges that they choose.
                if isinstance(span, tuple) and set(values) != {0.0, 1.0}:
                    checked += 1
                    assert span[0] <= min(values) and max(values) <= span[1], (name, key)
                    # The whole range is used.
                    assert max(values) - min(values) > 0.9 * (span[1] - span[0]), (name, key)
            if "p" in defaults and "on" in kept:
                p = defaults["p"]
                assert abs(np.mean(kept["on"]) - p) < 3.5 * math.sqrt(p * (1 - p) / 300), name
        assert checked >= 15
        one = scene.settings_of(2)
        assert one["build"]["scale"] == scene.drawn["build"]["scale"][2] and isinstance(one["subject"]["slice"], int)


# ---- anatomy -------------------------------------------------------------------


class TestAnatomy:
    def test_place(self, run):
        scene = run(place={"shift": 3.0, "far_p": 0.0})
        sc = scene.target[:, 0]
        for axis, grid in (("x", X), ("y", Y)):
            centre = (sc * grid).sum((1, 2)) / sc.sum((1, 2))
            # The bank's cords are centred within 0.5 mm.
            np.testing.assert_allclose(centre, np.array(scene.drawn["place"][axis]) * 3.0, atol=0.5)

    def test_build(self, run):
        usual, larger = run(), run(build={"scale": (1.2, 1.2)})
        np.testing.assert_allclose(area(larger.target[:, 0]), 1.44 * area(usual.target[:, 0]), rtol=0.01)
        wider = run(build={"aspect": (1.2, 1.2)}).target[:, 0]
        np.testing.assert_allclose(area(wider), area(usual.target[:, 0]), rtol=0.01)
        assert ((wider > 0.5).any(1).sum(1) > (usual.target[:, 0] > 0.5).any(1).sum(1)).all()

    def test_warp_moves_the_outline_and_keeps_the_size(self, run):
        usual, warped = run().target[:, 0], run(warp={}).target[:, 0]
        assert ((usual - warped).abs().flatten(1).sum(1) > 20).all()
        np.testing.assert_allclose(area(warped), area(usual), rtol=0.25)

    def test_compression_dents_cord_and_canal_from_the_front(self, run):
        usual = run("contrast")
        dented = run("contrast", compression={"p": 1.0, "depth": (1.5, 1.5), "flat": (1.0, 1.0)})
        for k, middle in enumerate(dented.drawn["compression"]["middle"]):
            at = int(round(middle / SPACING_MM + (SIZE - 1) / 2))
            depth, fluid, back = [], [], []
            for scene in (usual, dented):
                column = scene.target[k, 0, :, at] > 0.5
                depth.append(column.sum() * SPACING_MM)
                back.append(Y[column, at].min())
                front = Y[:, at] > Y[column, at].max()
                fluid.append((scene.in_canal[k, 0, :, at] * front).sum() * SPACING_MM)
            assert depth[0] - depth[1] == pytest.approx(1.5, abs=0.4)
            assert fluid[1] < fluid[0] - 0.3
            assert abs(back[0] - back[1]) < 0.2
        flat = run(compression={"p": 1.0, "depth": (0.0, 0.0), "flat": (1.3, 1.3)}).target[:, 0]
        np.testing.assert_allclose(area(flat), area(usual.target[:, 0]), rtol=0.01)
        assert ((flat > 0.5).any(2).sum(1) < (usual.target[:, 0] > 0.5).any(2).sum(1)).all()

    def test_atrophy_takes_from_cord_and_gray_matter_not_from_the_canal(self, run):
        usual = run("contrast")
        thin = run("contrast", atrophy={"p": 1.0, "cord": (0.8, 0.8), "gray": (0.9, 0.9)})
        np.testing.assert_allclose(area(thin.target[:, 0]), 0.64 * area(usual.target[:, 0]), rtol=0.01)
        np.testing.assert_allclose(area(thin.target[:, 1]), 0.64 * 0.81 * area(usual.target[:, 1]), rtol=0.03)
        assert torch.equal(thin.wall, usual.wall)

    def front_and_back(self, bank, scene):
        """Area of gray matter before and behind the commissure."""
        join = torch.from_numpy(describe_horns(bank.maps[scene.index])["commissure_y"]).view(-1, 1, 1)
        gm = scene.target[:, 1]
        return area(gm * (Y > join + 0.3)), area(gm * (Y < join - 0.3))

    def test_ventral_horns_thin_at_the_front_alone(self, bank, run):
        usual, thin = run(), run(ventral_horns={"p": 1.0, "shrink": (0.7, 0.7)})
        (front, back), (thin_front, thin_back) = (self.front_and_back(bank, s) for s in (usual, thin))
        assert (thin_front < 0.8 * front).all()
        np.testing.assert_allclose(thin_back, back, rtol=0.03)
        assert torch.equal(thin.target[:, 0], usual.target[:, 0])

    def test_dorsal_horns_reach_towards_the_surface_and_end_inside(self, bank, run):
        reach = {"p": 1.0, "reach": (1.0, 1.0), "margin": (0.3, 0.3), "half_width": (0.25, 0.25)}
        thin = {"tilt_sd": 0.0, "thickness": (0.5, 0.5)}
        short = {**PLAIN, "gray_matter": {**PLAIN["gray_matter"], "level": (0.5, 0.5)}, "slab": thin}
        usual, longer = run(base=short), run(base=short, dorsal_horns=reach)
        (front, back), (long_front, long_back) = (self.front_and_back(bank, s) for s in (usual, longer))
        np.testing.assert_allclose(long_front, front, rtol=1e-3)
        assert (long_back >= back - 1e-4).all() and (long_back > back + 0.05).any()
        sc, added = longer.target[:, 0], longer.target[:, 1] - usual.target[:, 1]
        assert (longer.target[:, 1] <= sc).all() and not added[sc < 0.2].gt(0.2).any()
        assert (longer.target[:, 1] >= usual.target[:, 1] - 1e-5).all()
        none = run(base=short, dorsal_horns={**reach, "p": 0.0})
        assert torch.allclose(none.target, usual.target, atol=1e-4)

    def test_commissure_thins_the_bridge_alone(self, run):
        usual, thin = run(), run(commissure={"p": 1.0, "half_width": (0.15, 0.15)})
        gone = usual.target[:, 1] - thin.target[:, 1]
        assert (gone.flatten(1).sum(1) > 0).any() and gone.min() > -1e-6
        assert gone[:, X.abs() > 2.2].abs().max() < 1e-3
        off = run(commissure={"p": 0.0})
        assert torch.allclose(off.target, usual.target, atol=1e-5)

    def test_slab_inset_moves_the_label_not_the_image(self, run):
        usual, inset = run("acquisition"), run("acquisition", slab={"inset_mm": 0.11})
        assert torch.equal(usual.image, inset.image) and torch.equal(usual.stored, inset.stored)
        sc, label = usual.target[:, 0], inset.target[:, 0]
        edge = (sc > 0.5).float()
        # Perimeter from the mean gradient over all directions of the half-level outline (Cauchy-Crofton).
        steps = sum((edge.diff(dim=d)).abs().flatten(1).sum(1) for d in (1, 2)) * SPACING_MM * math.pi / 4
        np.testing.assert_allclose(area(sc) - area(label), 0.11 * steps, rtol=0.12)
        assert (inset.target[:, 1] <= label + 1e-6).all()

    def test_slab_averages_over_its_thickness(self, run):
        thin = run(slab={"thickness": (1.0, 1.0), "tilt_sd": 0.0}).target[:, 0]
        thick = run(slab={"thickness": (7.0, 7.0), "tilt_sd": 10.0}).target[:, 0]
        partial = [((t > 0.05) & (t < 0.95)).sum() for t in (thin, thick)]
        assert partial[1] > 1.3 * partial[0]


# ---- contrast ------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy(run):
    # Parallel imaging shapes the noise: without noise it changes nothing.
    return run("view", noise={})


class TestContrast:
    @pytest.mark.parametrize(
        "name", [name for name in OPTIONAL if EFFECTS[name].stage != "anatomy" and name != "visibility"]
    )
    def test_labels_are_the_anatomys_alone(self, run, noisy, name):
        settings = {"p": 1.0} if "p" in EFFECTS[name].defaults else {}
        changed = run("view", **{"noise": {}, name: settings if name != "noise" else False})
        assert torch.equal(noisy.target, changed.target)
        assert not torch.equal(noisy.image * noisy.inside, changed.image * changed.inside)

    @pytest.mark.parametrize(
        ("settings", "low", "high"),
        [
            ({"fluid": (1.5, 2.0)}, 1.5, 2.0),
            ({"iso_csf_p": 1.0}, 0.95, 1.3),
            ({"dark_csf_p": 1.0}, 0.15, 0.8),
        ],
    )
    def test_csf_against_white_matter(self, run, settings, low, high):
        scene = run("contrast", count=30, size=16, tissues=settings)
        ratio = (scene.fluid / scene.white).flatten()
        assert low <= ratio.min() and ratio.max() <= high + 1e-5

    @pytest.mark.parametrize(
        ("settings", "gain"), [({}, 0.3), ({"dark_gm_p": 1.0}, -0.21), ({"flat_gm_p": 1.0}, 0.075)]
    )
    def test_gray_against_white_matter(self, run, settings, gain):
        scene = run("contrast", tissues={"gm_gain": (0.3, 0.3), **settings})
        for k in range(COUNT):
            sc, gm = scene.target[k]
            gray, white = (scene.image[k, 0][part].mean() for part in (gm > 0.99, (sc > 0.999) & (gm < 1e-3)))
            assert float(gray / white - 1) == pytest.approx(gain, abs=0.01)

    def test_lesions_are_bright_and_inside_the_cord(self, run):
        usual = run("contrast")
        struck = run("contrast", lesions={"p": 1.0, "count": 4, "lift": (0.3, 0.4)})
        more = struck.image - usual.image
        assert more.min() > -1e-6 and (more.flatten(1).amax(1) > 0).any()
        assert (more / usual.white)[struck.sc.expand_as(more) < 1e-6].abs().max() < 1e-6
        assert float((more / usual.white).max()) <= 4 * 0.4 + 1e-5

    @pytest.mark.parametrize(
        ("name", "settings", "around"),
        [
            ("roots", {"p": 1.0}, True),
            ("vessels", {"p": 1.0}, True),
            ("canal", {"uneven": 0.0}, True),
            ("surroundings", {"vertebra_p": 1}, True),
            *((name, {}, False) for name in ("fissures", "central_canal", "pia", "tracts")),
        ],
    )
    def test_what_lies_around_the_cord_leaves_it_alone_and_what_lies_inside_the_rest(self, run, name, settings, around):
        usual, changed = run("contrast"), run("contrast", **{name: settings})
        kept = usual.sc > 1 - 1e-6 if around else usual.sc == 0
        assert kept.any() and torch.allclose(usual.image[kept], changed.image[kept], atol=1e-5)
        assert not torch.equal(usual.image, changed.image)

    def test_fluid_surrounds_the_cord(self, run):
        """Just outside the cord lies CSF, brighter than white matter, however narrow the canal."""
        scene = run(
            "contrast", canal={"semi_x": (5.0, 5.0), "semi_y": (3.0, 3.0), "uneven": 0.0}, compose={"dura_p": 0.0}
        )
        rim = (scene.sc < 0.01) & (scene.layer > 0.25)
        assert rim.sum() > 50 and scene.in_canal[rim].mean() > 0.9


# ---- acquisition ---------------------------------------------------------------


def apply(name, scene, seed=3, **settings):
    """One effect on a scene of our own making; returns its draw."""
    draw = Draw(seed, name, scene.count, scene.size)
    EFFECTS[name].apply(scene, draw, **settings)
    return draw


def scan_of(image):
    """A scene at the point where the scanner's image is stored."""
    scene = CordScene(None, len(image), image.shape[-1], SPACING_MM)
    scene.image = scene.stored = image
    scene.noise_map, scene.smoothing = torch.ones(1, 1, 1, 1), torch.ones(len(image), 2)
    return scene


class TestAcquisition:
    @pytest.mark.parametrize("name", ["motion", "ghosting", "spikes"])
    def test_corruption_keeps_the_cord_in_place(self, run, name):
        pytest.importorskip("torchio")
        sc = run(count=8).sc
        scene = scan_of(sc.clone())
        apply(name, scene, p=1.0)
        assert not torch.equal(scene.image, sc) and torch.isfinite(scene.image).all() and scene.image.min() >= 0
        shifts = []
        for before, after in zip(sc[:, 0], scene.image[:, 0]):
            centres = []
            for image in (before, after):
                weight = (image > 0.5 * image.max()).float()
                centres.append([float((weight * axis).sum() / weight.sum()) for axis in (X, Y)])
            shifts.append(np.hypot(*np.subtract(*centres)))
        assert np.mean(shifts) < 0.1 and max(shifts) < 0.25, shifts
        off = scan_of(sc)
        apply(name, off, p=0.0)
        assert torch.equal(off.image, sc)

    @pytest.mark.parametrize(
        ("name", "settings", "least"), [("dropout", {"loss": (0.8, 0.8)}, 0.3), ("pial_vessels", {}, 0.95)]
    )
    def test_what_only_darkens(self, run, name, settings, least):
        usual, lost = run("acquisition"), run("acquisition", **{name: {"p": 1.0, **settings}})
        assert (lost.image <= usual.image + 1e-6).all() and (lost.image < least * usual.image).any()

    def test_stored_pixels_have_their_size_and_place(self):
        x, y = pixel_grid_mm(SIZE, SPACING_MM)
        scene = scan_of((1 + 0.01 * x + 0.02 * y).expand(3, 1, SIZE, SIZE))
        apply("resolution", scene, pixel=(0.5, 0.5), interpolated_p=0.0, anisotropy_sd=0.05)
        middle = scene.stored.shape[-1] // 2
        across = scene.stored[:, 0, middle, middle + 5] - scene.stored[:, 0, middle, middle - 5]
        np.testing.assert_allclose(across / 0.1, scene.pixel[:, 0], rtol=0.05)
        np.testing.assert_allclose(scene.pixel[:, 0], 0.5, rtol=1e-5)
        # Back on the window's grid, each position has its value again.
        apply("window", scene)
        np.testing.assert_allclose(
            scene.image[..., 20:-20, 20:-20],
            (1 + 0.01 * x + 0.02 * y)[..., 20:-20, 20:-20].expand(3, 1, 56, 56),
            atol=0.01,
        )

    def test_noise_is_rician_where_there_is_no_signal(self):
        image = torch.full((4, 1, 128, 128), 50.0)
        image[..., :50] = 0.0
        scene = scan_of(image)
        apply("noise", scene, snr=(10.0, 10.0), uneven=0.0)
        dark = scene.stored[..., :50]
        # Rayleigh: mean sd √(π/2), SD sd √(2 − π/2); sd is 50 / 10.
        assert float(dark.mean()) == pytest.approx(5 * math.sqrt(math.pi / 2), rel=0.03)
        assert float(dark.std()) == pytest.approx(5 * math.sqrt(2 - math.pi / 2), rel=0.05)

    def test_noise_of_an_interpolated_image_is_smooth(self):
        def neighbours(smoothing):
            scene = scan_of(torch.full((2, 1, 128, 128), 50.0))
            scene.smoothing = torch.full((2, 2), smoothing)
            apply("noise", scene, snr=(20.0, 20.0), uneven=0.0)
            rest = scene.stored - 50
            return float((rest[..., 1:] * rest[..., :-1]).mean() / rest.var())

        assert abs(neighbours(1.0)) < 0.12 and neighbours(2.0) > 0.4

    def test_parallel_imaging_raises_noise_in_bands(self):
        scene = scan_of(torch.full((6, 1, 128, 128), 50.0))
        draw = apply("parallel_imaging", scene, p=1.0, gain=(1.0, 1.0))
        assert scene.noise_map.min() >= 1 and scene.noise_map.max() == pytest.approx(2.0, abs=0.01)
        apply("noise", scene, snr=(40.0, 40.0), uneven=0.0)
        for k, along_y in enumerate(draw.kept["along_y"]):
            axis = 0 if along_y else 1
            spread, raised = scene.stored[k, 0].std(1 - axis), scene.noise_map[k, 0].mean(1 - axis)
            assert np.corrcoef(spread, raised)[0, 1] > 0.9
        off = scan_of(torch.full((6, 1, 128, 128), 50.0))
        apply("parallel_imaging", off, p=0.0)
        assert (off.noise_map == 1).all()


# ---- view ----------------------------------------------------------------------


class TestView:
    def test_field_of_view_ends_where_it_says(self, run):
        scene = run("view", count=12, size=128, field_of_view={"p": 1.0, "limit_mm": (6.0, 6.0)})
        x, y = pixel_grid_mm(128, SPACING_MM)
        assert set(scene.inside.unique().tolist()) == {0.0, 1.0}
        for inside in scene.inside[:, 0]:
            reach = [float(v[inside > 0].max()) for v in (x[0, 0], -x[0, 0], y[0, 0], -y[0, 0])]
            assert sorted(reach)[0] == pytest.approx(6.0, abs=SPACING_MM) and sorted(reach)[1] > 11


# ---- gray matter apart from the cord -------------------------------------------


class TestGrayMatterOfItsOwn:
    def test_outline_moves_by_so_many_mm(self, run):
        small, usual, large = (area(run(gray_matter={"moved_mm": (m, m)}).target[:, 1]) for m in (-0.3, 0.0, 0.3))
        assert (small < 0.8 * usual).all() and (large > 1.2 * usual).all()

    def test_one_side_alone(self, run):
        still, less = (
            run(gray_matter={"moved_mm": (0.0, 0.0), "one_side_p": p}, count=8).target[:, 1] for p in (0.0, 1.0)
        )
        lost = still - less
        left, right = (lost[..., half].flatten(1).sum(1) for half in (slice(0, SIZE // 2), slice(SIZE // 2, None)))
        share = torch.minimum(left, right) / torch.maximum(left, right)
        assert (lost.flatten(1).sum(1) > 0).all() and share.median() < 0.2

    def test_outset_changes_the_label_alone(self, run):
        plain, out = (run("contrast", gray_matter={"moved_mm": (0.0, 0.0), "outset_mm": mm}) for mm in (0.0, 0.1))
        assert torch.equal(plain.image, out.image)
        assert (area(out.target[:, 1]) > area(plain.target[:, 1]) + 1).all()
        assert torch.equal(out.target[:, 0], plain.target[:, 0])

    def test_blind_slices_show_and_label_no_gm(self, run):
        scene = run("contrast", tissues={"blind_p": 1.0})
        assert area(scene.gm).min() > 1 and not scene.target[:, 1].any()
        assert scene.inner.flatten(1).std(1).max() < 1e-6

    def test_what_noise_hides_is_not_labelled(self, run):
        quiet, loud = (
            run("acquisition", noise={"snr": (snr, snr)}, visibility={"least": 6.0}) for snr in (1000.0, 0.1)
        )
        assert area(quiet.target[:, 1]).min() > 1 and not loud.target[:, 1].any()


# ---- the spine, flow, receivers ------------------------------------------------


class TestAroundTheCord:
    def test_bones_change_nothing_of_cord_and_fluid(self, run):
        narrow = {"size": 160, "canal": {"semi_x": (8.0, 8.0), "semi_y": (6.0, 6.0)}}
        plain, spine = run("contrast", **narrow), run("contrast", bones={"p": 1.0}, **narrow)
        inside = plain.in_canal > 0.999
        torch.testing.assert_close(spine.image[inside], plain.image[inside], atol=2e-3, rtol=0)
        assert (spine.image - plain.image).abs()[plain.wall.expand_as(plain.image) < -1.0].mean() > 0.05
        # Cortical bone and ligaments are black.
        assert (spine.outside.flatten(1).amin(1) < 0.2 * spine.fluid.flatten()).all()

    def test_dark_fluid_leaves_tissue_bright(self, run):
        scene = run("contrast", tissues={"dark_csf_p": 1.0}, bones={"p": 1.0}, count=16)
        assert scene.outside.flatten(1).amax(1).mean() > 1.2 * scene.fluid.mean()

    def test_flow_voids_darken_fluid_alone(self, run):
        plain, flow = run("contrast"), run("contrast", flow_voids={"p": 1.0, "inflow": 0.0})
        assert (flow.csf <= plain.csf + 1e-6).all() and (flow.csf < 0.9 * plain.csf).any()
        torch.testing.assert_close(flow.inner, plain.inner)

    def test_far_ghosts_leave_the_labels(self, run):
        plain, ghost = run("acquisition"), run("acquisition", far_ghosts={"p": 1.0})
        torch.testing.assert_close(ghost.target, plain.target)
        assert (ghost.image - plain.image).abs().max() > 0.01

    def test_wedges_lie_at_the_surface(self, run):
        lesion = {"p": 1.0, "count": 1, "lift": (0.4, 0.4), "wedge_p": 1.0}
        plain, hurt = run("contrast", count=40), run("contrast", count=40, lesions=lesion)
        lift = (hurt.inner - plain.inner) * plain.sc
        x, y = (axis[0, 0] / 0.7 for axis in (plain.x, plain.y))
        middle = (x**2 + 2 * y**2 < 3).float()
        assert lift.sum() > 0 and (lift * middle).sum() < 0.25 * lift.sum()

    def test_more_receivers_lift_the_dark(self, run):
        still = {"snr": (8.0, 8.0), "uneven": 0.0}
        one, many = (run("acquisition", noise={**still, "coils": n}, count=32) for n in (1, 4))
        lifted = many.stored - one.stored
        dark = one.stored < 0.2 * one.stored.flatten(1).amax(1).view(-1, 1, 1, 1)
        assert (lifted >= -1e-6).all()
        assert lifted[dark].mean() > 2 * lifted[~dark].mean() > 0
