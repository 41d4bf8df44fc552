"""The anatomy bank, and cord windows as a whole."""

import nibabel as nib
import numpy as np
import pytest

from sctseg7t.errors import InputError, UsageError

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.simulate import anatomy, fields
from sctseg7t.simulate.anatomy import SIZE, SPACING_MM, AnatomyBank, load_bank
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.zoo.manifest import load_manifest

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def cords(bank):
    return CordSimulator(bank, size=96).batch(12, seed=5)


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

    @pytest.mark.parametrize(
        ("source", "data_set"), [("AMU7T", "AMU7T"), ("PAM50", "PAM50"), ("masks", "gm-challenge")]
    )
    def test_missing_folder_names_the_remedy(self, tmp_path, source, data_set):
        for folders in ({source: tmp_path}, {}):
            with pytest.raises(InputError, match=f"sct7t_download export {data_set} "):
                load_bank([source], folders)
        assert data_set in {dataset.name for dataset in load_manifest().datasets}

    @pytest.mark.parametrize("sources", [["atlas"], []])
    def test_unknown_or_no_source(self, sources):
        with pytest.raises(InputError, match="AMU7T, PAM50, masks, parametric or thoracolumbar"):
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

    def template(self, tmp_path):
        """PAM50's files, of a rod."""
        for name, a, b in (("cord", 6.0, 4.0), ("gm", 3.0, 1.5)):
            volume = self.ellipse((100, 90), 0.5, a, b, (25.0, 22.0))[..., None].repeat(6, 2).astype(np.float32)
            nib.save(nib.Nifti1Image(volume, np.diag([0.5, 0.5, 0.5, 1.0])), tmp_path / f"PAM50_{name}.nii.gz")
        return tmp_path

    def test_masks_without_gray_matter_are_named(self, tmp_path):
        with pytest.raises(InputError, match="a_gmseg-manual.nii.gz"):
            load_bank(["masks"], {"masks": self.folder(tmp_path, gm=False)})

    def test_sources_are_told_apart(self, tmp_path):
        folders = {"masks": self.folder(tmp_path), "PAM50": self.template(tmp_path)}
        bank = load_bank(["masks", "PAM50"], folders)
        assert bank.source.tolist() == ["masks"] * 4 + ["PAM50"] * 6 and bank.stack[3] != bank.stack[4]
        assert bank.step_mm.tolist() == [2.5] * 4 + [0.5] * 6
        areas = bank.maps[:, :2].sum((2, 3)) / 255 * SPACING_MM**2
        files = [nib.load(tmp_path / f"PAM50_{name}.nii.gz").get_fdata()[..., 0] for name in ("cord", "gm")]
        np.testing.assert_allclose(areas[4:], [[0.25 * file.sum() for file in files]] * 6, rtol=0.01)
        weights = bank.weights({"masks": 3.0, "PAM50": 1.0})
        assert weights[:4].sum() / weights.sum() == pytest.approx(0.75)
        assert bank.weights()[:4].sum() == pytest.approx(bank.weights()[4:].sum())
        with pytest.raises(InputError, match="'AMU7T'"):
            CordSimulator(bank, {"subject": {"source_weights": {"AMU7T": 1.0}}})

    def test_folders_by_source_and_as_exported(self, tmp_path):
        assert anatomy.anatomy_folders(["AMU7T=a=b", "masks=c"]) == {"AMU7T": "a=b", "masks": "c"}
        for name in ("AMU7T", "gm-challenge", "other"):
            (tmp_path / name).mkdir()
        exported = {"AMU7T": tmp_path / "AMU7T", "masks": tmp_path / "gm-challenge"}
        assert anatomy.anatomy_folders([str(tmp_path)]) == exported
        assert anatomy.anatomy_folders([str(tmp_path), "masks=c"]) == {**exported, "masks": "c"}
        assert anatomy.anatomy_folders([str(tmp_path)], {"mine": "other"}) == {"mine": tmp_path / "other"}
        with pytest.raises(UsageError, match="SOURCE=FOLDER"):
            anatomy.anatomy_folders([str(tmp_path / "other")])

    def rod(self, x, y, start, stop, radius):
        """Within a radius of the line from start to stop."""
        along = [start + t * np.subtract(stop, start) for t in np.linspace(0, 1, 60)]
        return np.min([np.hypot(x - px, y - py) for px, py in along], axis=0) < radius

    def test_horns_of_a_known_cord(self):
        """Horns drawn at known places: tip, direction and way to the surface are found, and no horns give zeros."""
        axis = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
        y, x = np.meshgrid(axis, axis, indexing="ij")
        gray = self.rod(x, y, (-1.0, 0.5), (1.0, 0.5), 0.3)
        for side in (-1, 1):
            gray |= self.rod(side * x, y, (2.0, 1.8), (2.4, 1.8), 0.8)
            gray |= self.rod(side * x, y, (1.0, 0.5), (2.5, -2.5), 0.35)
        maps = np.zeros((2, 3, SIZE, SIZE), np.uint8)
        maps[:, 0] = 255 * (np.hypot(x, y) < 6)
        maps[0, 1] = 255 * gray
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
    def test_pam50_has_plausible_areas(self, data_dir):
        bank = load_bank(["PAM50"], {"PAM50": data_dir / "template/PAM50"})
        sc, gm = bank.maps[:, :2].sum((2, 3)).T / 255 * SPACING_MM**2
        assert 30 < np.median(sc) < 100 and (gm < sc).all()


# ---- cord windows --------------------------------------------------------------


class TestCord:
    def test_targets_are_fractions_with_gray_inside_cord(self, cords):
        assert cords.image.shape == cords.inside.shape == (12, 1, 96, 96)
        assert all(t.dtype == torch.float32 and torch.isfinite(t).all() for t in vars(cords).values())
        sc, gm = cords.target.unbind(1)
        assert sc.min() >= 0 and sc.max() <= 1 and gm.min() >= 0 and (gm <= sc + 1e-6).all()
        assert (sc.amax((1, 2)) > 0.95).all() and (gm.amax((1, 2)) > 0.5).all()

    def test_targets_are_zero_far_from_the_cord(self, bank):
        """Nothing beyond the largest cord (half width 7 mm x 1.34 x 1.1) and its largest shift (4.5 mm)."""
        target = CordSimulator(bank, size=200).scene(6, 3, stages=["anatomy"]).target
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

    def test_people_are_told_apart(self):
        person = np.array(["a", "b", "b", "c"])
        bank = AnatomyBank(np.zeros((4, 3, 8, 8), np.uint8), np.arange(4), np.ones(4, np.float32), person, person)
        assert bank.only(["b"]).stack.tolist() == [1, 2]
        assert bank.without(["b"]).stack.tolist() == [0, 3]
        with pytest.raises(InputError, match="nobody called 'd'; it has a, b, c"):
            bank.without(["d"])

    def test_neighbours_stay_within_their_stack(self):
        maps = np.zeros((6, 3, SIZE, SIZE), np.uint8)
        stack, step = np.array([0, 0, 0, 1, 1, 1]), np.full(6, 1.0, np.float32)
        bank = AnatomyBank(maps, stack, step, np.full(6, "x"), np.full(6, "x"))
        assert bank.neighbours(np.arange(6), np.full(6, 1.0)).tolist() == [1, 2, 2, 4, 5, 5]
        assert bank.neighbours(np.arange(6), np.full(6, -2.0)).tolist() == [0, 0, 0, 3, 4, 3]


def test_below_the_neck_cords_are_round_with_slender_horns_and_broad_ones_at_the_lumbar_enlargement():
    maps = load_bank(["thoracolumbar"]).maps[:, :2].astype(float) / 255
    area = maps.sum((2, 3)) * SPACING_MM**2
    wide, high = ((maps[:, 0] > 0.5).any(axis).sum(1) for axis in (1, 2))
    thoracic, lumbar = slice(0, 80), slice(120, 130)
    # Frostell et al. 2016: about 40 to 48 mm2 and 55 to 70 mm2.
    assert 38 < area[thoracic, 0].mean() < 50 < area[lumbar, 0].mean() < 72
    assert area[lumbar, 1].mean() > 1.6 * area[thoracic, 1].mean()
    assert 1.1 < (wide / high)[thoracic].mean() < 1.4
