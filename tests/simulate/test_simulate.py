"""Simulated images: fields and anatomy that they are made from, cord windows as a whole, and whole necks."""

import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from sctseg7t.errors import InputError, UsageError

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.simulate import anatomy, fields, neck
from sctseg7t.simulate.anatomy import SIZE, SPACING_MM, AnatomyBank, load_bank
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.simulate.neck import NeckRecipe, NeckSimulator

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def bank():
    return load_bank(["parametric"])


@pytest.fixture(scope="module")
def cords(bank):
    return CordSimulator(bank, size=96).batch(12, seed=5)


@pytest.fixture(scope="module")
def necks(bank):
    """A simulator of whole slices with a plain disc for a brain: loading the real one takes seconds."""
    disc = np.zeros((2, 3, 120, 120), np.uint8)
    disc[:, :, 30:90, 30:90] = 255
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neck, "_brain_maps", lambda: disc)
        return NeckSimulator(bank, size=96)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values()))


# ---- fields --------------------------------------------------------------------


class TestFields:
    def generator(self, seed=0):
        return torch.Generator().manual_seed(seed)

    def test_grid_is_centred_and_in_mm(self):
        x, y = fields.pixel_grid_mm(5, 0.5)
        np.testing.assert_allclose(x[0, 0, 2], [-1, -0.5, 0, 0.5, 1])
        np.testing.assert_allclose(y[0, 0, :, 2], [-1, -0.5, 0, 0.5, 1])
        assert fields.pixel_grid_mm(4, 1.0)[0].sum() == 0

    def test_sampling_at_the_pixels_returns_them(self):
        images = torch.rand(2, 1, 16, 16, generator=self.generator())
        x, y = (g.expand(2, 1, 16, 16) for g in fields.pixel_grid_mm(16, 0.3))
        np.testing.assert_allclose(fields.sample_mm(images, x, y, 0.3), images, atol=1e-5)

    def test_sampling_is_linear_in_mm(self):
        x, y = fields.pixel_grid_mm(32, 0.5)
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

    def test_rotation_keeps_lengths_and_turns_back(self):
        x, y = fields.pixel_grid_mm(9, 1.0)
        angle = torch.tensor(0.7).view(1, 1, 1, 1)
        u, v = fields.rotate(x, y, angle)
        np.testing.assert_allclose(torch.hypot(u, v), torch.hypot(x, y), atol=1e-5)
        np.testing.assert_allclose(fields.rotate(u, v, -angle)[0], x, atol=1e-5)

    def test_smooth_contour_is_an_ellipse(self):
        x, y = fields.pixel_grid_mm(200, 0.1)
        inside = fields.closed_contour(self.generator(), x, y, 7.0, 4.0, roughness=0.0) > 0
        assert float(inside.sum()) * 0.01 == pytest.approx(math.pi * 28, rel=0.01)

    def test_draws_have_their_range_and_odds(self):
        gen = self.generator()
        values = fields.uniform(gen, 2.0, 3.0, 4000)
        assert 2 <= values.min() and values.max() < 3 and abs(values.mean() - 2.5) < 0.03
        assert abs(fields.chance(gen, 0.3, 4000).mean() - 0.3) < 0.03
        assert abs(fields.normal(gen, 2.0, 4000).std() - 2) < 0.1
        assert fields.chance(gen, 0.0, 100).sum() == 0 and fields.chance(gen, 1.0, 100).sum() == 100

    def test_smooth_noise_is_smooth_and_of_unit_size(self):
        noise = fields.smooth_noise(self.generator(), 40, 6, 60)
        assert 0.6 < noise.std() < 1.1
        assert (noise[..., 1:] - noise[..., :-1]).abs().mean() < 0.15


# ---- anatomy -------------------------------------------------------------------


class TestAnatomy:
    def test_parametric_cords_have_plausible_areas(self, bank):
        sc, gm = bank.maps[:, :2].sum((2, 3)).T / 255 * SPACING_MM**2
        assert 50 < sc.min() and sc.max() < 110
        assert 0.07 < (gm / sc).min() and (gm / sc).max() < 0.25
        # The cervical enlargement lies inside the stack.
        assert sc[60:90].mean() > 1.1 * sc[[*range(20), *range(140, 160)]].mean()
        assert (bank.maps[:, 1] <= bank.maps[:, 0]).all()

    def test_parametric_cords_are_centred_and_wider_than_deep(self, bank):
        axis = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
        sc = bank.maps[:, 0] / 255
        total = sc.sum((1, 2))
        for side in (1, 2):
            assert np.abs((sc.sum(side) * axis).sum(1) / total).max() < 0.5
        widths = (sc > 0.5).any(1).sum(1) * SPACING_MM
        depths = (sc > 0.5).any(2).sum(1) * SPACING_MM
        assert (widths > depths).all() and 9.5 < widths.min() and widths.max() < 15

    def test_seed_decides(self, bank):
        again, other = load_bank(["parametric"], seed=0), load_bank(["parametric"], seed=1)
        assert np.array_equal(again.maps, bank.maps)
        assert not np.array_equal(other.maps, bank.maps)

    @pytest.mark.parametrize(
        ("source", "data_set"), [("AMU7T", "AMU7T"), ("PAM50", "PAM50"), ("masks", "gm-challenge")]
    )
    @pytest.mark.parametrize("given", [True, False])
    def test_missing_folder_names_the_remedy(self, tmp_path, source, data_set, given):
        from sctseg7t.zoo.manifest import load_manifest

        with pytest.raises(InputError, match=f"sct7t_download export {data_set} ") as caught:
            load_bank([source], {source: tmp_path} if given else {})
        assert "\n" not in str(caught.value)
        assert data_set in {dataset.name for dataset in load_manifest().datasets}

    @pytest.mark.parametrize("sources", [["atlas"], []])
    def test_unknown_or_no_source(self, sources):
        with pytest.raises(InputError, match="AMU7T, PAM50, masks or parametric"):
            load_bank(sources)

    def ellipse(self, shape, pixel, a, b, middle):
        x, y = ((np.arange(n) * pixel - m) for n, m in zip(shape, middle))
        return (x[:, None] / a) ** 2 + (y[None] / b) ** 2 < 1

    def folder(self, tmp_path, pixel=0.25, slices=5, gm=True):
        """A data set of one scan with elliptic masks, stored left-anterior-superior."""
        sc = self.ellipse((100, 90), pixel, 6.0, 4.0, (10.0, 13.0))[..., None].repeat(slices, 2)
        inner = self.ellipse((100, 90), pixel, 3.0, 1.5, (10.0, 13.0))[..., None].repeat(slices, 2)
        affine = np.diag([-pixel, pixel, 2.5, 1.0])
        sc[..., 0] = False
        nib.save(nib.Nifti1Image(sc.astype(np.uint8), affine), tmp_path / "a_seg-manual.nii.gz")
        if gm:
            nib.save(nib.Nifti1Image(inner.astype(np.uint8), affine), tmp_path / "a_gmseg-manual.nii.gz")
        return tmp_path

    def test_masks_become_centred_maps_of_the_same_area(self, tmp_path):
        bank = load_bank(["masks"], {"masks": self.folder(tmp_path)})
        assert len(bank) == 4 and set(bank.source) == {"masks"} and (bank.step_mm == 2.5).all()
        areas = bank.maps[:, :2].sum((2, 3)) / 255 * SPACING_MM**2
        masks = [nib.load(tmp_path / f"a_{name}-manual.nii.gz").get_fdata()[..., 1] for name in ("seg", "gmseg")]
        np.testing.assert_allclose(areas, [[mask.sum() * 0.25**2 for mask in masks]] * 4, rtol=0.01)
        axis = np.arange(SIZE) - (SIZE - 1) / 2
        for side in (1, 2):
            assert np.abs((bank.maps[:, 0].sum(side) * axis).sum(1) / bank.maps[:, 0].sum((1, 2))).max() < 0.2

    def test_masks_without_gray_matter_are_named(self, tmp_path):
        with pytest.raises(InputError, match="a_gmseg-manual.nii.gz"):
            load_bank(["masks"], {"masks": self.folder(tmp_path, gm=False)})

    def test_sources_are_told_apart(self, tmp_path):
        bank = load_bank(["masks", "parametric"], {"masks": self.folder(tmp_path)})
        assert len(bank) == len(bank.stack) == len(bank.step_mm) == len(bank.source) == 164
        assert bank.stack[3] != bank.stack[4]
        weights = anatomy.slice_weights(bank, {"masks": 3.0, "parametric": 1.0})
        assert float(weights[:4].sum() / weights.sum()) == pytest.approx(0.75)
        equal = anatomy.slice_weights(bank, None)
        assert float(equal[:4].sum()) == pytest.approx(float(equal[4:].sum()))
        with pytest.raises(InputError, match="'AMU7T'"):
            CordSimulator(bank, {"subject": {"source_weights": {"AMU7T": 1.0}}})

    def test_folders_by_source_and_as_exported(self, tmp_path):
        assert anatomy.anatomy_folders(["AMU7T=a=b", "masks=c"]) == {"AMU7T": "a=b", "masks": "c"}
        for name in ("AMU7T", "gm-challenge", "other"):
            (tmp_path / name).mkdir()
        exported = {"AMU7T": tmp_path / "AMU7T", "masks": tmp_path / "gm-challenge"}
        assert anatomy.anatomy_folders([str(tmp_path)]) == exported
        assert anatomy.anatomy_folders([str(tmp_path), "masks=c"]) == {**exported, "masks": "c"}
        with pytest.raises(UsageError, match="SOURCE=FOLDER"):
            anatomy.anatomy_folders([str(tmp_path / "other")])

    def test_horns_of_a_known_cord(self):
        """Horns drawn at known places: tip, direction and way to the surface are found, and no horns give zeros."""
        axis = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
        y, x = np.meshgrid(axis, axis, indexing="ij")
        gray = anatomy._capsule(x, y, (-1.0, 0.5), (1.0, 0.5), 0.3)
        for side in (-1, 1):
            gray = np.maximum(gray, anatomy._capsule(side * x, y, (2.0, 1.8), (2.4, 1.8), 0.8))
            gray = np.maximum(gray, anatomy._capsule(side * x, y, (1.0, 0.5), (2.5, -2.5), 0.35))
        maps = np.zeros((2, 3, SIZE, SIZE), np.uint8)
        maps[:, 0] = 255 * (np.hypot(x, y) < 6)
        maps[0, 1] = 255 * (gray > 0)
        horns = {name: values[0] for name, values in anatomy.describe_horns(maps).items()}
        assert all(values[1] == 0 for values in anatomy.describe_horns(maps).values())
        assert horns["commissure_y"] == pytest.approx(0.5, abs=0.1)
        assert horns["ventral_x"] == pytest.approx(2.1, abs=0.3) and horns["ventral_y"] == pytest.approx(1.7, abs=0.3)
        way = np.array([1.5, -3.0]) / np.hypot(1.5, 3.0)
        for side, sign in (("left", -1), ("right", 1)):
            tip = np.array([sign * horns[f"{side}_x"], horns[f"{side}_y"]])
            assert np.hypot(*(tip - (2.5, -2.5) - 0.1 * way)) < 0.3
            assert np.dot((sign * horns[f"{side}_ux"], horns[f"{side}_uy"]), way) > 0.98
            # From the tip along its direction to the circle.
            ahead = np.dot(tip, way)
            room = -ahead + np.sqrt(ahead**2 + 36 - tip @ tip)
            assert horns[f"{side}_room"] == pytest.approx(room, abs=0.35)

    @pytest.mark.data
    @pytest.mark.parametrize("source", ["AMU7T", "PAM50"])
    def test_templates_have_plausible_areas(self, source):
        import os
        from pathlib import Path

        data = Path(os.environ.get("SCT7T_DATA", Path(__file__).parents[3] / "shared/data"))
        if not (data / "template" / source).is_dir():
            pytest.skip(f"no {source} template in {data}")
        bank = load_bank([source], {source: data / "template" / source})
        sc, gm = bank.maps[:, :2].sum((2, 3)).T / 255 * SPACING_MM**2
        assert 30 < np.median(sc) < 100 and (gm < sc).all()


# ---- cord windows --------------------------------------------------------------


class TestCord:
    def test_seed_decides_every_bit(self, bank, cords):
        simulator = CordSimulator(bank, size=96)
        assert same(simulator.batch(12, seed=5), cords)
        assert not torch.equal(simulator.batch(12, seed=6).image, cords.image)

    def test_batches_do_not_depend_on_those_before(self, bank):
        simulator = CordSimulator(bank, size=32)
        first = simulator.batch(3, seed=1)
        simulator.batch(3, seed=2)
        assert same(simulator.batch(3, seed=1), first)

    def test_shapes_and_finite_values(self, cords):
        assert cords.image.shape == cords.inside.shape == (12, 1, 96, 96)
        assert cords.target.shape == (12, 2, 96, 96)
        assert all(t.dtype == torch.float32 and torch.isfinite(t).all() for t in vars(cords).values())

    def test_targets_are_fractions_with_gray_inside_cord(self, cords):
        sc, gm = cords.target[:, 0], cords.target[:, 1]
        assert sc.min() >= 0 and sc.max() <= 1 and gm.min() >= 0
        assert (gm <= sc + 1e-6).all()
        assert (sc.amax((1, 2)) > 0.95).all() and (gm.amax((1, 2)) > 0.5).all()

    def test_targets_are_zero_far_from_the_cord(self, bank):
        """Nothing beyond the largest cord (half width 7 mm x 1.34 x 1.1) and its largest shift (4.5 mm)."""
        simulator = CordSimulator(bank, size=200)
        target = simulator.batch(6, seed=3).target
        far = torch.hypot(*fields.pixel_grid_mm(200, SPACING_MM))[0, 0] > 16.5
        assert far.sum() > 1000
        assert (target[..., far] == 0).all()

    def test_image_is_zscored_inside_and_zero_outside(self, bank):
        batch = CordSimulator(bank, {"field_of_view": {"p": 0.6}}, 128).batch(16, seed=2)
        assert 0 < (batch.inside.mean((1, 2, 3)) < 1).sum() < 16
        assert set(batch.inside.unique().tolist()) == {0.0, 1.0}
        for image, inside in zip(batch.image, batch.inside):
            values = image[inside > 0].double()
            assert abs(values.mean()) < 1e-3
            assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-3)
            assert (image[inside == 0] == 0).all()

    def test_tissues_can_be_told_apart_without_nuisances(self, bank):
        plain = ("lesions", "bias", "ghosting", "motion", "spikes", "dropout", "gamma", "field_of_view", "tracts")
        recipe = {
            **dict.fromkeys(plain, False),
            "noise": {"snr": [300, 300]},
            "resolution": {"pixel": [0.2, 0.2]},
            "tissues": {"gm_gain": [0.3, 0.3], "dark_gm_p": 0, "flat_gm_p": 0},
            "slab": {"thickness": [1, 2]},
        }
        batch = CordSimulator(bank, recipe, 96).batch(8, seed=1)
        for image, (sc, gm) in zip(batch.image[:, 0], batch.target):
            assert image[gm > 0.9].mean() > image[(sc > 0.95) & (gm < 0.05)].mean()

    def test_neighbours_stay_within_their_stack(self):
        maps = np.zeros((6, 3, SIZE, SIZE), np.uint8)
        stack, step = np.array([0, 0, 0, 1, 1, 1]), np.full(6, 1.0, np.float32)
        simulator = CordSimulator(AnatomyBank(maps, stack, step, np.full(6, "x")), size=32)
        index = torch.arange(6)
        assert simulator.bank.neighbour(index, torch.full((6,), 1.0)).tolist() == [1, 2, 2, 4, 5, 5]
        assert simulator.bank.neighbour(index, torch.full((6,), -2.0)).tolist() == [0, 0, 0, 3, 4, 3]


# ---- whole slices --------------------------------------------------------------


class TestNeck:
    def test_unknown_name_in_a_recipe(self):
        with pytest.raises(InputError, match="'snrr'"):
            NeckRecipe.from_dict({"snr": [1, 2], "snrr": [1, 2]})
        assert NeckRecipe.from_dict({"snr": [1, 2]}) == replace(NeckRecipe(), snr=(1, 2))

    def test_seed_decides_every_bit(self, necks):
        batch = necks.batch(8, seed=4)
        assert same(necks.batch(8, seed=4), batch)
        assert not torch.equal(necks.batch(8, seed=5).image, batch.image)

    def test_ranges(self, necks):
        batch = necks.batch(24, seed=1)
        assert batch.image.shape == batch.target.shape == (24, 1, 96, 96)
        assert torch.isfinite(batch.image).all()
        assert batch.image.min() >= -0.5 and batch.image.max() <= 2
        assert batch.target.min() >= 0 and batch.target.max() <= 1
        peaks = batch.target.amax((1, 2, 3))
        assert ((peaks == 0) | (peaks > 0.95)).all()
        assert 0 < (peaks == 0).sum() < 24

    def test_heat_lies_on_a_cord_in_view(self, necks):
        plain = NeckSimulator.__new__(NeckSimulator)
        vars(plain).update(vars(necks))
        plain.recipe = NeckRecipe(empty_p=0.0, window_p=1.0)
        batch = plain.batch(16, seed=2)
        for image, target in zip(batch.image[:, 0], batch.target[:, 0]):
            row, column = divmod(int(target.argmax()), 96)
            around = image[row - 1 : row + 2, column - 1 : column + 2]
            assert target.max() == 0 or (around != 0).any()

    def test_slices_without_cord_have_no_heat(self, necks):
        plain = NeckSimulator.__new__(NeckSimulator)
        vars(plain).update(vars(necks))
        plain.recipe = NeckRecipe(empty_p=1.0)
        assert (plain.batch(6, seed=2).target == 0).all()

    def test_brain_maps(self):
        pytest.importorskip("nilearn")
        maps = neck._brain_maps()
        assert maps.dtype == np.uint8 and maps.shape[1:] == (3, 120, 120)
        assert (maps[:, 2].max((1, 2)) == 255).all()
        # A brain is longer than wide, and rows go to anterior.
        widest = maps[maps[:, 2].sum((1, 2)).argmax(), 2] > 0
        assert widest.any(1).sum() > widest.any(0).sum()
